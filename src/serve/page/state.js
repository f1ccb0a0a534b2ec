// The bridge's state, from /status.

const figures = {};
for (const [name, label] of [['rate', 'Records a second'], ['lag', 'Lag'], ['open', 'Partitions open'], ['latency', 'Latency'], ['dead', 'Dead letters'], ['memory', 'Redis memory'], ['up', 'Running']]) {
  const value = make('span', 'value', '–');
  const note = make('span', 'note', '');
  const card = make('div', '', make('dt', '', label), make('dd', '', value), make('dd', '', note));
  figures[name] = { value, note, card };
  by('figures').append(card);
}
figures.latency.card.title = 'From the record’s time until Redis had it, of the last second’s records';
const rateLine = make('canvas');
rateLine.setAttribute('aria-hidden', 'true');
figures.rate.card.append(rateLine);

let status = null; // the last one
let statusDirty = false;
let awaySince = 0;
let elsewhere = ''; // why there is no status here
const rates = []; // [time, records a second]
let earlier = null; // the one before, and when it came

/** Records settled between two looks, of the partitions that both have. */
function settledSince(before, now) {
  const at = new Map(before.partitions.map((p) => [`${p.topic}[${p.partition}]`, p.position]));
  const step = (p) => Math.max(0, p.position - (at.get(`${p.topic}[${p.partition}]`) ?? p.position));
  return now.partitions.reduce((sum, p) => sum + step(p), 0);
}

async function watchStatus() {
  for (;;) {
    try {
      const fresh = await json('status', AbortSignal.timeout(STATUS_PATIENCE_MS));
      awaySince = 0;
      elsewhere = '';
      const now = performance.now();
      // A bridge that was started anew counts from zero.
      if (earlier && fresh.uptime_seconds >= earlier.status.uptime_seconds) {
        const eachSecond = (n) => (n * 1000) / (now - earlier.time);
        rates.push([now, eachSecond(settledSince(earlier.status, fresh))]);
        if (rates.length > RATES_MAX) rates.shift();
        fresh.late = fresh.routes.map((r, i) => r.latency.counts.map((n, b) => n - (earlier.status.routes[i]?.latency.counts[b] ?? 0)));
        fresh.rates = fresh.routes.map((r, i) => eachSecond(r.records - (earlier.status.routes[i]?.records ?? 0)));
      } else {
        rates.length = 0;
      }
      earlier = { time: now, status: fresh };
      status = fresh;
    } catch (e) {
      if (e instanceof Refused && e.status < 500) {
        awaySince = 0;
        elsewhere = 'The state of the bridge is with the bridge itself: this page comes from a server of its own (kafka-redis-bridge serve). See /status on the bridge’s http.listen, or run kafka-redis-bridge status there.';
      } else {
        awaySince ||= Date.now();
      }
    }
    statusDirty = true;
    wake();
    await pause(STATUS_MS);
  }
}

/** In what time this share of some records was there, as a bound. */
function within(counts, bounds, share) {
  const all = counts.reduce((a, b) => a + b, 0);
  if (!all) return '–';
  let seen = 0;
  const at = counts.findIndex((n) => (seen += n) >= share * all);
  const told = (ms) => (ms < 1000 ? `${ms} ms` : span(ms / 1000));
  return at < bounds.length ? `≤ ${told(bounds[at])}` : `> ${told(bounds[bounds.length - 1])}`;
}

function verdict() {
  if (awaySince) return ['bad', `Away since ${clock(awaySince)}, trying again`];
  if (elsewhere) return [streamsAway() ? 'bad' : '', streamsAway() ? 'The data are away' : 'Showing the data'];
  if (!status) return ['', 'Looking…'];
  const halted = status.partitions.filter((p) => p.phase === 'halted').length;
  const person = status.conditions.filter((c) => c.needs_person).length;
  if (halted) return ['bad', `${halted} ${halted === 1 ? 'partition is' : 'partitions are'} halted`];
  if (person) return ['bad', 'Somebody is needed'];
  if (!status.ready) return ['warn', status.conditions.length ? `Not ready: ${status.conditions[0].code}` : 'Getting ready'];
  if (status.conditions.length) return ['warn', 'Running, with something amiss'];
  return ['good', 'Healthy'];
}

function drawStatus() {
  const [mood, words] = verdict();
  dress(by('health'), `health ${mood}`);
  say(by('verdict'), words);
  document.title = mood === 'bad' || mood === 'warn' ? `${words} · kafka-redis-bridge` : 'kafka-redis-bridge';
  by('elsewhere').hidden = !elsewhere;
  say(by('elsewhere'), elsewhere);
  for (const id of ['figures', 'parts', 'conditions']) {
    by(id).hidden = Boolean(elsewhere);
    by(id).classList.toggle('away', Boolean(awaySince));
  }
  if (!status || elsewhere) return;
  say(by('about'), `${status.version} · ${status.guarantee}`);
  const last = rates[rates.length - 1];
  say(figures.rate.value, last ? count(Math.round(last[1])) : '–');
  say(figures.rate.note, last ? `at most ${count(Math.round(Math.max(...rates.map((r) => r[1]))))} lately` : '');
  plot(rateLine, [{ points: rates, ink: palette.price, filled: true }], 0);
  const lags = status.partitions.map((p) => p.lag).filter((n) => n !== null);
  const lag = lags.reduce((a, b) => a + b, 0);
  say(figures.lag.value, lags.length ? count(lag) : '–');
  say(figures.lag.note, last && last[1] >= 1 && lag > last[1] ? `records, ${span(Math.ceil(lag / last[1]))} at this rate` : 'records');
  const open = status.partitions.filter((p) => p.phase === 'open').length;
  say(figures.open.value, `${open} of ${status.partitions.length}`);
  const others = [...new Set(status.partitions.map((p) => p.phase).filter((p) => p !== 'open'))];
  say(figures.open.note, others.length ? others.join(', ') : open ? 'none is halted' : 'none is assigned');
  const late = status.late?.reduce((sum, counts) => counts.map((n, b) => n + (sum[b] ?? 0)), []) ?? [];
  const bounds = status.routes[0]?.latency.bounds_ms ?? [];
  say(figures.latency.value, within(late, bounds, 0.5));
  say(figures.latency.note, late.some((n) => n) ? `99 % ${within(late, bounds, 0.99)}` : 'no records now');
  const dead = status.routes.reduce((sum, r) => sum + r.dead, 0);
  say(figures.dead.value, count(dead));
  say(figures.dead.note, dead ? 'since the start, kept with reasons' : 'none since the start');
  const { used_memory_bytes: used, maxmemory_bytes: most, streams = [] } = status.redis ?? {};
  say(figures.memory.value, bytes(used));
  say(figures.memory.note, status.redis ? `${most ? `of ${bytes(most)}` : 'no limit'}, ${count(streams.reduce((sum, s) => sum + s.entries, 0))} entries` : 'not known');
  say(figures.up.value, span(status.uptime_seconds));
  say(figures.up.note, `since ${new Date(Date.now() - status.uptime_seconds * 1000).toLocaleString('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' })}`);
  drawConditions();
  table(by('partitions'), ['Partition', 'Phase', 'Lag', 'Position', ['End', 'wide'], ['Epoch', 'wide']], status.partitions.map((p) =>
    [`${p.topic}[${p.partition}]`, phase(p), count(p.lag), p.position === null ? '–' : whole.format(p.position), p.end === null ? '–' : whole.format(Math.max(p.end, p.position)), String(p.epoch)]));
  say(by('partitions-sum'), `${status.partitions.length}`);
  table(by('routes'), ['Route', 'a second', 'Latency (99 %)', ['Records', 'wide'], ['Commands', 'wide'], ['Dropped', 'wide'], 'Dead', ['Expired', 'wide']], status.routes.map((r, i) =>
    [r.name, status.rates ? count(Math.round(status.rates[i])) : '–', status.late ? within(status.late[i], r.latency.bounds_ms, 0.99) : '–', count(r.records), count(r.commands), count(r.dropped), count(r.dead), count(r.expired)]));
  say(by('routes-sum'), `${status.routes.length}`);
}

const phase = ({ phase: name, held_by: code }) =>
  [code ? `${name}: ${code}` : name, name === 'open' ? 'tag good' : name === 'halted' ? 'tag bad' : 'tag'];

/** Fills a table in place; a head or cell is a text, or one with a class. */
function table(element, heads, rows) {
  if (!element.tHead) {
    const head = element.createTHead().insertRow();
    for (const h of heads) {
      const cell = make('th', Array.isArray(h) ? h[1] : '', Array.isArray(h) ? h[0] : h);
      cell.scope = 'col';
      head.append(cell);
    }
    element.createTBody();
  }
  const body = element.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, r) => {
    const row = body.rows[r] || body.insertRow();
    cells.forEach((cell, c) => {
      let at = row.cells[c];
      if (!at) {
        at = make(c ? 'td' : 'th', Array.isArray(heads[c]) ? heads[c][1] : '', make('span'));
        if (!c) at.scope = 'row';
        row.append(at);
      }
      say(at.firstChild, Array.isArray(cell) ? cell[0] : cell);
      if (Array.isArray(cell)) dress(at.firstChild, cell[1]);
    });
  });
}

// On a phone the data come first.
if (matchMedia('(max-width: 34rem)').matches) {
  by('partitions-box').open = false;
  by('routes-box').open = false;
}

let conditionsShown = '';
function drawConditions() {
  const held = JSON.stringify(status.conditions);
  if (held === conditionsShown) return;
  conditionsShown = held;
  by('conditions').replaceChildren(...status.conditions.map((c) => make('li', c.needs_person ? 'bad' : '',
    make('p', '', make('strong', '', c.code), ` ${c.subject} `, make('span', 'quiet', `since ${new Date(c.since).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })}${c.needs_person ? '' : ', passes by itself'}`)),
    make('p', '', c.message),
    make('p', 'todo', make('strong', c.needs_person ? 'bad' : '', 'What to do: '), c.remedy))));
}
