// Asking the server, with a token where one is asked for.

/** A token for reading, where one is asked for; for this tab alone. */
let token = sessionStorage.getItem('token') || '';
let opened = () => {};

class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

async function ask(path, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal, cache: 'no-store', credentials: 'same-origin' });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401) by('door').hidden = false;
  throw new Refused(answer.status, problem.code || '', problem.detail || `${path}: ${answer.status}`);
}

const json = async (path, signal) => (await ask(path, signal)).json();

/** Waits until a token is given. */
function knock(reason) {
  by('door').hidden = false;
  say(by('refused'), token ? reason : '');
  return new Promise((done) => {
    const before = opened;
    opened = () => (before(), done());
  });
}

by('door').addEventListener('submit', (event) => {
  event.preventDefault();
  token = by('token').value.trim();
  sessionStorage.setItem('token', token);
  by('token').value = '';
  by('door').hidden = true;
  const all = opened;
  opened = () => {};
  all();
});

/** Reads a stream of events; ends when it ends, throws when it fails or falls silent. A browser's own EventSource could not carry a token. */
async function events(path, signal, on) {
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  const stop = () => silence.abort();
  signal.addEventListener('abort', stop);
  try {
    heard();
    const answer = await ask(path, silence.signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) {
        let name = '';
        let data = '';
        for (const line of block.split('\n')) {
          if (line.startsWith('event: ')) name = line.slice(7);
          else if (line.startsWith('data: ')) data += line.slice(6);
        }
        if (name) on(name, data);
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}
