//! A client of the API, byte for byte: what it sends need not be right.
use super::watchdog;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long an answer, or a live client's next event, is waited for: however many signs of life come meanwhile.
const WAIT: Duration = Duration::from_secs(60);

/// A connection whose next answer is waited for within a bound.
struct Within {
    stream: TcpStream,
    what: String,
    until: Instant,
}

impl Within {
    fn connect(port: u16, what: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_write_timeout(Some(WAIT)).unwrap();
        Self { stream, what: what.to_owned(), until: Instant::now() + WAIT }
    }
}

impl Read for Within {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let _waiting = watchdog::waiting(&self.what);
        // A time-out of zero would be none.
        let left = self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let read = self.stream.read(buffer);
        let late = read.as_ref().is_err_and(|e| [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()));
        assert!(!late, "not within {} s: {}", WAIT.as_secs(), self.what);
        read
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The path of the next page.
    pub(crate) fn next(&self) -> Option<String> {
        Some(self.header("link")?.strip_prefix('<')?.split('>').next()?.to_owned())
    }
}

fn head(reader: &mut impl std::io::BufRead) -> Option<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Some((status, headers)) };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

/// Sends these bytes, and reads what is answered; `None` where the connection ends without an answer.
pub(crate) fn raw(port: u16, bytes: &[u8]) -> Option<Answer> {
    let first = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let connection = Within::connect(port, &format!("an answer to {:.200}", String::from_utf8_lossy(first)));
    // It may be answered, and closed, before all was sent.
    let _ = (&connection.stream).write_all(bytes);
    let mut reader = BufReader::new(connection);
    let (status, headers) = head(&mut reader)?;
    let mut answer = Answer { status, headers, body: Vec::new() };
    match answer.header("content-length").map(|l| l.parse::<u64>().unwrap()) {
        Some(length) => _ = reader.take(length).read_to_end(&mut answer.body),
        None => _ = reader.read_to_end(&mut answer.body),
    }
    Some(answer)
}

pub(crate) fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}{length}\r\n{body}");
    raw(port, request.as_bytes()).unwrap_or_else(|| panic!("no answer to {method} {path}"))
}

pub(crate) fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, &[], "")
}

/// An event of a stream of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: String,
}

/// A live client.
pub(crate) struct Events(BufReader<Within>);

impl Events {
    /// Asks again while it is told to, as a busy server may.
    pub(crate) fn open(port: u16, path: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let mut opened = None;
        super::eventually("a live client is let in", 30, || {
            let connection = Within::connect(port, &format!("what comes of {path}"));
            write!(&connection.stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{last}\r\n").unwrap();
            let mut reader = BufReader::new(connection);
            let (status, headers) = head(&mut reader).expect("an answer");
            let again = status == 503 && headers.iter().any(|(name, _)| name == "retry-after");
            assert!(status == 200 || again, "{status} {path}: {headers:?}");
            opened = (status == 200).then_some(Self(reader));
            opened.is_some()
        });
        opened.expect("it was let in")
    }

    /// The next event; `None` where the stream ends. It is waited for a minute, whatever signs of life come meanwhile.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.0.get_mut().until = Instant::now() + WAIT;
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => event.id = id.into(),
                Some(("event", name)) => event.name = name.into(),
                Some(("data", data)) => event.data = data.into(),
                _ if line.trim_end().is_empty() && !event.data.is_empty() => return Some(event),
                // A chunk's length, a heartbeat.
                _ => {}
            }
        }
    }

    /// The next update.
    pub(crate) fn update(&mut self) -> Option<Event> {
        loop {
            let event = self.next()?;
            if event.name == "update" {
                return Some(event);
            }
        }
    }
}
