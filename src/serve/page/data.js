// What the data are shown in: a tile for each key, a list of alerts.

const tiles = new Map(); // by the key's path segment
let current = null; // the route shown
let unseen = false; // there are keys without a tile
let updates = 0; // since the last look
let pace = '';

/** A key as the API gives it: a text, or `{encoded}` where it is none. Gives its path segment and what to show. */
const named = (key) => (typeof key === 'string' ? [encode(key), key || '(empty)'] : [key.encoded, key.encoded]);
/** When an entry was written, by its id. */
const timeOf = (entry) => Number(String(entry.id ?? '').split('-')[0]) || Date.now();
const sought = (label) => label.toLowerCase().includes(by('find').value.trim().toLowerCase());

const MAIN = ['price', 'last', 'value', 'mid', 'close'];
/** Which field is the main one: a price by its name, else the first number that is no time. */
function mainField(entry) {
  const numeric = Object.keys(entry).filter((f) => typeof entry[f] === 'number');
  return MAIN.find((f) => numeric.includes(f)) ?? numeric.find((f) => !/time|date|seq|offset|(^|_)(id|ts)$/i.test(f)) ?? numeric[0];
}

const VOLATILITIES = ['realized_vol', 'implied_vol'];

class Tile {
  constructor(segment, label) {
    Object.assign(this, { segment, label, points: [], entry: null, time: 0, id: '', dirty: true });
    this.element = make('li', '');
    this.parts = null;
    this.element.hidden = !sought(label);
    const after = [...tiles.values()].filter((t) => t.label < label).sort((a, b) => (a.label < b.label ? -1 : 1)).pop();
    if (after) after.element.after(this.element);
    else by('tiles').prepend(this.element);
    tiles.set(segment, this);
  }

  /** Takes an entry, the newest so far or one of before. */
  take(entry) {
    const time = timeOf(entry);
    const last = this.points[this.points.length - 1];
    if (last && time - last.time < POINT_MS && time >= last.time) {
      // The line's end moves, up to the next point's time.
      last.entry = entry;
    } else if (!last || time > last.time) {
      this.points.push({ time, entry });
      if (this.points.length > POINTS_MAX) this.points.shift();
    }
    if (time >= this.time) {
      this.entry = entry;
      this.time = time;
      this.dirty = true;
    }
  }

  /** Puts a history among what came live. */
  weave(entries) {
    const all = [...this.points.map((p) => p.entry), ...(this.entry ? [this.entry] : []), ...entries];
    all.sort((a, b) => timeOf(a) - timeOf(b));
    this.points = [];
    this.time = 0;
    for (const entry of all) this.take(entry);
  }

  line(field) {
    return this.points.filter((p) => typeof p.entry[field] === 'number').map((p) => [p.time, p.entry[field]]);
  }

  build(main, pair) {
    const parts = { shape: `${main} ${pair}`, seen: make('span', 'quiet'), big: make('span', 'big'), delta: make('span', 'delta'), fields: make('dl', 'fields'), places: 0 };
    const rows = [make('div', 'top', make('h3', '', this.label), parts.seen)];
    if (main !== undefined) {
      parts.canvas = make('canvas');
      parts.canvas.setAttribute('role', 'img');
      rows.push(make('div', 'top', parts.big, parts.delta), parts.canvas);
    }
    if (pair) {
      parts.second = make('canvas', 'second');
      parts.second.setAttribute('role', 'img');
      parts.vols = VOLATILITIES.map(() => make('b'));
      const keys = [['realized', 'key realized'], ['implied', 'key dashed implied']];
      rows.push(parts.second, make('div', 'legend', ...keys.map(([label, name], i) => make('span', '', make('span', name, label), ' ', parts.vols[i]))));
    }
    parts.rows = new Map();
    this.element.replaceChildren(...rows, parts.fields);
    this.parts = parts;
  }

  draw() {
    this.dirty = false;
    const entry = this.entry;
    if (!entry) return this.parts || this.build(undefined, false);
    const main = mainField(entry);
    const pair = VOLATILITIES.every((f) => typeof entry[f] === 'number');
    if (this.parts?.shape !== `${main} ${pair}`) this.build(main, pair);
    const parts = this.parts;
    say(parts.seen, clock(this.time));
    if (main !== undefined) {
      // The most decimals so far: the figure keeps its width.
      parts.places = Math.max(parts.places, decimals(entry[main]));
      say(parts.big, show(entry[main], parts.places));
      const line = this.line(main);
      const [first, last] = [line[0], line[line.length - 1]];
      if (line.length > 1) {
        const part = first[1] ? ((last[1] - first[1]) / Math.abs(first[1])) * 100 : 0;
        dress(parts.delta, `delta ${part > 0 ? 'up' : part < 0 ? 'down' : ''}`);
        say(parts.delta, `${part > 0 ? '▲' : part < 0 ? '▼' : '■'} ${digits[2].format(Math.abs(part))} % in ${span((last[0] - first[0]) / 1000)}`);
      }
      plot(parts.canvas, [{ points: line, ink: palette.price, filled: true }]);
      parts.canvas.setAttribute('aria-label', `${main} of ${this.label}: ${parts.big.textContent} ${parts.delta.textContent.replace(/[▲▼■]/, (m) => ({ '▲': 'up', '▼': 'down', '■': 'unchanged' })[m])}`);
    }
    if (pair) {
      const [realized, implied] = VOLATILITIES.map((f) => this.line(f));
      plot(parts.second, [{ points: realized, ink: palette.realized }, { points: implied, ink: palette.implied, dashed: true }]);
      const percent = VOLATILITIES.map((f) => `${digits[1].format(entry[f] * 100)} %`);
      percent.forEach((text, i) => say(parts.vols[i], text));
      parts.second.setAttribute('aria-label', `Volatility of ${this.label}: realized ${percent[0]}, implied ${percent[1]}`);
    }
    const shown = Object.keys(entry).filter((f) => f !== 'id' && f !== main && !(pair && VOLATILITIES.includes(f)));
    // Numbers first; what is long last.
    shown.sort((a, b) => (typeof entry[b] === 'number') - (typeof entry[a] === 'number'));
    const fields = shown.slice(0, FIELDS_MAX);
    if (String(fields) !== parts.listed) {
      parts.listed = String(fields);
      parts.rows = new Map(fields.map((f) => [f, make('dd')]));
      parts.fields.replaceChildren(...fields.map((f) => make('div', '', make('dt', '', show(f)), parts.rows.get(f))));
      parts.fields.hidden = !fields.length;
    }
    for (const f of fields) say(parts.rows.get(f), show(entry[f]));
  }
}

/** The tile of a key; none where there is no room, unless it is sought and another is not. */
function tileOf(key) {
  const [segment, label] = named(key);
  const known = tiles.get(segment);
  if (known) return known;
  if (tiles.size >= KEYS_MAX) {
    unseen = true;
    const other = by('find').value.trim() && sought(label) && [...tiles.values()].find((t) => !sought(t.label));
    if (!other) return null;
    other.element.remove();
    tiles.delete(other.segment);
  }
  return new Tile(segment, label);
}

by('find').addEventListener('input', () => {
  for (const tile of tiles.values()) {
    tile.element.hidden = !sought(tile.label);
    tile.dirty = true;
  }
  wake();
});

const alerts = []; // {label, entry, time, more}, newest first
let alertsSeen = 0;
let alertsDirty = false;

function alarm(label, entry) {
  const time = timeOf(entry);
  // What a key says many times at once is one line.
  if (alerts[0] && alerts[0].label === label && time - alerts[0].time < 1000) {
    Object.assign(alerts[0], { entry, time, more: alerts[0].more + 1 });
  } else {
    alerts.unshift({ label, entry, time, more: 0 });
    alerts.length = Math.min(alerts.length, ALERTS_MAX);
  }
  alertsDirty = true;
}

function drawAlerts() {
  alertsDirty = false;
  const list = by('alert-list');
  const known = new Map([...list.children].map((li) => [li.alert, li]));
  const rows = alerts.map((alert) => {
    const said = `${alert.entry.id} ${alert.more}`;
    let li = known.get(alert);
    if (li?.said === said) return li;
    if (!li) {
      li = make('li', Date.now() - alert.time < 2000 ? 'new' : '');
      li.alert = alert;
    }
    li.said = said;
    const words = ['alert', 'kind', 'reason'].map((f) => alert.entry[f]).filter((v) => typeof v === 'string').map((v) => show(v));
    const fields = Object.entries(alert.entry).filter(([f, v]) => f !== 'id' && typeof v === 'number').slice(0, FIELDS_MAX);
    const values = [...words, ...fields.map(([f, v]) => `${f} ${show(v)}`)].join(' · ') || show(alert.entry);
    li.replaceChildren(
      make('div', 'top', make('strong', '', alert.label), make('span', 'quiet', clock(alert.time))),
      make('div', 'quiet', values + (alert.more ? ` · and ${alert.more} more` : '')));
    return li;
  });
  if (!rows.length) rows.push(make('li', 'quiet', 'None yet.'));
  // Those that stay are not moved: they would arrive anew.
  for (const li of [...list.children]) if (!rows.includes(li)) li.remove();
  rows.forEach((li, at) => {
    if (list.children[at] !== li) list.insertBefore(li, list.children[at] ?? null);
  });
  say(by('alerts-sum'), alertsSeen ? `${count(alertsSeen)} while you watched` : '');
}
