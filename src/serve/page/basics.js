// The dashboard: /status once a second, the routes' entries as they come. What comes from elsewhere is set as text, never as
// HTML. What is kept is bounded, and drawn a few times a second, whatever the rate.
'use strict';

const KEYS_MAX = 48; // keys of a route that are shown
const POINTS_MAX = 240; // points of a line
const POINT_MS = 250; // at most one point of a line in this time
const ALERTS_MAX = 40;
const FIELDS_MAX = 6;
const RATES_MAX = 60; // looks at the bridge's rate
const LOADS_MAX = 4; // histories asked for at once
const STATUS_MS = 1000;
const POLL_MS = 5000; // of a route that offers nothing live
const STATUS_PATIENCE_MS = 4000;
const SILENCE_MS = 40000; // the server says something every 15 s
const RETRY_MS = [500, 1000, 2000, 5000];

const by = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const encode = encodeURIComponent;

/** An element of a class, with children; a text is a child. */
function make(tag, name, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
}

/** Sets a text where it changed. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets a class where it changed: an animation would begin anew. */
function dress(element, name) {
  if (element.className !== name) element.className = name;
}

// Numbers and times.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const digits = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((n) => new Intl.NumberFormat('en', { minimumFractionDigits: n, maximumFractionDigits: n }));

/** How many decimals a number is written with, within reason. */
function decimals(number) {
  const text = String(number);
  if (text.includes('e')) return 8;
  return Math.min(Math.abs(number) < 1 ? 8 : 6, (text.split('.')[1] || '').length);
}

function show(value, places) {
  if (typeof value === 'number') {
    if (value !== 0 && (Math.abs(value) >= 1e15 || Math.abs(value) < 1e-8)) return value.toExponential(4);
    return digits[Math.max(places || 0, decimals(value))].format(value);
  }
  const text = typeof value === 'string' ? value : JSON.stringify(value) ?? '';
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

const count = (n) => (n === null || n === undefined ? '–' : n < 100000 ? whole.format(n) : short.format(n));
const bytes = (n) => (n === null || n === undefined ? '–' : n < 2 ** 30 ? `${digits[n < 2 ** 24 ? 1 : 0].format(n / 2 ** 20)} MiB` : `${digits[1].format(n / 2 ** 30)} GiB`);
const clock = (time) => new Date(time).toLocaleTimeString('en-GB');

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

// Lines.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let palette = {};
function repaint() {
  palette = { price: colour('--price'), realized: colour('--realized'), implied: colour('--implied'), line: colour('--line') };
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  repaint();
  for (const tile of tiles.values()) tile.dirty = true;
  wake();
});

/** Draws lines over one time and one range, which has `floor` in it: each is a list of [time, value], a colour, and how. */
function plot(canvas, lines, floor = Infinity) {
  const scale = Math.min(3, devicePixelRatio || 1);
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext('2d');
  pen.clearRect(0, 0, width, height);
  let [from, to, low, high] = [Infinity, -Infinity, floor, -Infinity];
  for (const { points } of lines) {
    for (const [time, value] of points) {
      from = Math.min(from, time);
      to = Math.max(to, time);
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (from === Infinity) return;
  if (to === from) from -= 1;
  if (high === low) [low, high] = [low - (Math.abs(low) || 1) / 100, high + (Math.abs(high) || 1) / 100];
  const edge = 3 * scale;
  const x = (time) => ((time - from) / (to - from)) * (width - 2 * edge) + edge;
  const y = (value) => height - edge - ((value - low) / (high - low)) * (height - 2 * edge);
  for (const { points, ink, dashed, filled } of lines) {
    if (!points.length) continue;
    pen.beginPath();
    points.forEach(([time, value], n) => (n ? pen.lineTo(x(time), y(value)) : pen.moveTo(x(time), y(value))));
    pen.strokeStyle = ink;
    pen.lineWidth = 1.8 * scale;
    pen.lineJoin = 'round';
    pen.setLineDash(dashed ? [5 * scale, 3 * scale] : []);
    pen.stroke();
    const [time, value] = points[points.length - 1];
    if (filled) {
      pen.lineTo(x(time), height);
      pen.lineTo(x(points[0][0]), height);
      pen.globalAlpha = 0.12;
      pen.fillStyle = ink;
      pen.fill();
      pen.globalAlpha = 1;
    }
    pen.beginPath();
    pen.arc(x(time), y(value), 2.6 * scale, 0, 7);
    pen.fillStyle = ink;
    pen.fill();
  }
}
