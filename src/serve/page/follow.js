// Following the routes, and drawing what came.

let troubles = new Map(); // by route
const streamsAway = () => troubles.size > 0;

function trouble(route, text) {
  if (text) {
    const since = troubles.get(route)?.since ?? Date.now();
    troubles.set(route, { since, text });
  } else {
    troubles.delete(route);
  }
  const said = [...troubles].map(([name, t]) => `${name}: ${t.text}, since ${clock(t.since)}; trying again.`).join(' ');
  by('trouble').hidden = !said;
  say(by('trouble'), said);
  by('tiles').classList.toggle('away', troubles.has(current?.name));
  statusDirty = true;
  wake();
}

const of = (route) => `api/v1/routes/${encode(route.of ?? route.name)}${route.only === undefined ? '' : `/${encode(route.only)}`}`;
/** The routes as they are followed: what one writes under one name for all records stands behind it, with that as its `only` key. */
const each = (found) => found.flatMap((r) => [r, ...r.fixed.map((f) => ({ ...f, name: readable(r) ? `${f.key} (${r.name})` : f.key, of: r.name, only: f.key }))]);

/** A latest value as an entry of now: what is no JSON object is its only field. */
function latest(text) {
  let value = text;
  try {
    value = JSON.parse(text);
  } catch {
    // A text.
  }
  return { ...(typeof value === 'object' && value && !Array.isArray(value) ? value : { value }), id: `${Date.now()}-0` };
}

/** The keys that there are, with their histories; a few at once. */
async function load(route, signal, on) {
  const page = route.only !== undefined ? { keys: [route.only] } : route.offers.includes('keys') ? await json(`${of(route)}/keys`, signal) : { keys: [] };
  const keys = [...page.keys, ...(page.encoded ?? []).map((encoded) => ({ encoded }))];
  unseen ||= keys.length > KEYS_MAX;
  const left = keys.slice(0, KEYS_MAX);
  const view = route.offers.includes('history') ? 'history' : 'latest';
  const work = async () => {
    for (let key = left.shift(); key !== undefined; key = left.shift()) {
      try {
        const text = await (await ask(`${of(route)}${route.only === undefined ? `/${named(key)[0]}` : ''}/${view}`, signal)).text();
        if (!signal.aborted) on(key, view === 'history' ? JSON.parse(text) : [latest(text)]);
      } catch (e) {
        // It has expired meanwhile.
        if (!(e instanceof Refused && e.status === 404)) throw e;
      }
    }
  };
  await Promise.all(Array.from({ length: LOADS_MAX }, work));
}

/** Follows a route until the signal, over whatever failures: what was there, then what comes. */
async function follow(route, signal, on, history) {
  for (let failures = 0; !signal.aborted; ) {
    try {
      if (route.offers.includes('live')) {
        let loading;
        const broken = new AbortController();
        const both = AbortSignal.any([signal, broken.signal]);
        await events(`${of(route)}/live`, both, (name, data) => {
          if (name === 'open') {
            failures = 0;
            trouble(route.name, '');
            loading = load(route, both, history);
            loading.catch(() => broken.abort());
          } else if (name === 'update') {
            const { key, entry } = JSON.parse(data);
            on(key, entry);
          }
        });
        await loading;
        throw new Error('the stream ended');
      }
      await load(route, signal, history);
      failures = 0;
      trouble(route.name, '');
      await pause(POLL_MS);
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof Refused && e.status === 401) {
        await knock(e.message);
        continue;
      }
      trouble(route.name, e instanceof Refused ? e.message : 'the server does not answer');
      await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
    }
  }
}

/** Whose alert it is: its key's; where there is one for all, a field says so. */
const whose = (route, key, entry) => String((route.only !== undefined && ['pair', 'key', 'symbol', 'name'].map((f) => entry[f]).find((v) => v !== undefined)) || named(key)[1]);

let following = null;
let routes = [];
/** A route of alerts is one that is called so, or what is written under such a name. */
const isAlerts = (route) => /alert/i.test(route.name);
const readable = (route) => ['live', 'history', 'latest'].some((o) => route.offers.includes(o));

function choose(name) {
  following?.abort();
  following = new AbortController();
  const { signal } = following;
  const shown = routes.filter((r) => readable(r) && !isAlerts(r));
  const alerting = routes.find((r) => readable(r) && isAlerts(r));
  const next = shown.find((r) => r.name === name) ?? shown[0] ?? null;
  if (next !== current) {
    tiles.clear();
    by('tiles').replaceChildren();
    unseen = false;
  }
  current = next;
  troubles = new Map();
  trouble('', '');
  if (current) {
    follow(current, signal, (key, entry) => {
      updates += 1;
      tileOf(key)?.take(entry);
      wake();
    }, (key, entries) => {
      const tile = tileOf(key);
      if (!tile) return;
      tile.weave(entries);
      wake();
    });
  }
  by('alerts').hidden = !alerting;
  document.querySelector('.streams').classList.toggle('both', Boolean(alerting));
  if (alerting) {
    drawAlerts();
    follow(alerting, signal, (key, entry) => {
      alertsSeen += 1;
      alarm(whose(alerting, key, entry), entry);
      wake();
    }, (key, entries) => {
      // The last ones of before, among those that are here.
      const have = new Set(alerts.map((a) => a.label + a.entry.id));
      for (const entry of entries.slice(-ALERTS_MAX)) {
        const [label, id] = [whose(alerting, key, entry), entry.id ?? ''];
        if (!have.has(label + id)) alerts.push({ label, entry: { id, ...entry }, time: timeOf(entry), more: 0 });
      }
      alerts.sort((a, b) => b.time - a.time);
      alerts.length = Math.min(alerts.length, ALERTS_MAX);
      alertsDirty = true;
      wake();
    });
  }
  if (!current) {
    by('trouble').hidden = false;
    say(by('trouble'), routes.length ? `Nothing to show: ${routes.flatMap((r) => r.lacks.map((l) => `${r.name} has ${l}`)).join('; ')}.` : 'There is no route to read.');
  }
}

/** Asks for the routes until they are known. */
async function begin() {
  for (let failures = 0; ; failures += 1) {
    try {
      const found = await json('api/v1/routes');
      routes = each(found.routes);
      const shown = routes.filter((r) => readable(r) && !isAlerts(r));
      by('pick').hidden = shown.length < 2;
      by('route').replaceChildren(...shown.map((r) => make('option', '', r.name)));
      const first = shown.some((r) => r.name === found.streaming) ? found.streaming : shown[0]?.name;
      if (first) by('route').value = first;
      return choose(first);
    } catch (e) {
      if (e instanceof Refused && e.status === 401) await knock(e.message);
      else {
        by('trouble').hidden = false;
        say(by('trouble'), e instanceof Refused ? e.message : 'The server does not answer; trying again.');
        await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
      }
    }
  }
}

by('route').addEventListener('change', () => choose(by('route').value));
// A page that nobody looks at takes nothing.
document.addEventListener('visibilitychange', () => {
  if (document.hidden) following?.abort();
  else if (routes.length) choose(current?.name);
});

let waiting = false;
let drawn = 0;
/** Draws at the next frame, or the first after the last drawing's time is over. */
function wake() {
  if (waiting) return;
  waiting = true;
  const wait = drawn + (calm.matches ? 1000 : 200) - performance.now();
  setTimeout(() => requestAnimationFrame(draw), Math.max(0, wait));
}

function draw() {
  waiting = false;
  drawn = performance.now();
  if (statusDirty) {
    statusDirty = false;
    drawStatus();
  }
  for (const tile of tiles.values()) if (tile.dirty && !tile.element.hidden) tile.draw();
  if (alertsDirty) drawAlerts();
  const live = current?.offers.includes('live');
  say(by('pulse'), current ? [`${tiles.size} ${tiles.size === 1 ? 'key' : 'keys'}`, live ? pace : `every ${POLL_MS / 1000} s`].filter(Boolean).join(' · ') : '');
  say(by('more'), unseen ? `${KEYS_MAX} keys are shown at once, and there are more: find one by its name.` : current && !tiles.size ? 'No data yet.' : '');
}

let looked = performance.now();
setInterval(() => {
  const now = performance.now();
  const rate = (updates * 1000) / (now - looked);
  pace = `${rate >= 10 || rate === 0 ? whole.format(rate) : digits[1].format(rate)} updates a second`;
  updates = 0;
  looked = now;
  wake();
}, 1000);
addEventListener('resize', () => {
  for (const tile of tiles.values()) tile.dirty = true;
  statusDirty = true;
  wake();
});

repaint();
watchStatus();
begin();
