//! Replies from a connection's bytes (RESP2), however the network has split them.
//!
//! ```text
//! read(socket, decoder.spare_mut()) ─▶ decoder.filled(n) ─▶ decoder.decode(&mut replies) ─▶ until there are enough of them
//! ```
//! Nothing is looked at twice: what is unfinished is kept as far as it came. An array's elements are kept as they come,
//! a long bulk string is gathered outside of the buffer, and what stays in the buffer is at most one line. Memory is
//! bounded by what has come, never by what a header announces.
//!
//! ```
//! use kafka_redis_bridge::core::{reply::Reply, resp::Decoder};
//! let (mut decoder, mut replies) = (Decoder::default(), Vec::new());
//! decoder.feed(b"+OK\r\n*2\r\n:1\r\n$2\r\nh");
//! decoder.decode(&mut replies)?;
//! assert_eq!(replies, [Reply::OK]);
//! decoder.feed(b"i\r\n");
//! decoder.decode(&mut replies)?;
//! assert_eq!(replies[1], Reply::Array(vec![Reply::Int(1), Reply::Text(b"hi".into())]));
//! # Ok::<(), kafka_redis_bridge::core::resp::Garbage>(())
//! ```
use super::reply::Reply;
use super::text::SHORT_MAX;
use std::fmt;

/// The default of what one reply may take: Redis' own limit of a bulk string.
pub const REPLY_BYTES_MAX: usize = 512 << 20;
/// How deep arrays may stand in arrays. COMMAND INFO and FUNCTION LIST need a handful.
const DEPTH_MAX: usize = 32;
/// The longest status or error; Redis cuts an error's own text at some hundred bytes, a script may send more.
const LINE_BYTES_MAX: usize = 64 << 10;
/// The least room that is offered for a read, and what the buffer begins with: some thousand replies.
const ROOM: usize = 32 << 10;

/// Bytes that are no reply, or one that is too large. Where the next reply begins is not known: the connection is of
/// no use any more, and the decoder says the same for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage(String);

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer is no RESP: {}", self.0)
    }
}

impl std::error::Error for Garbage {}

/// See the module's documentation.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    /// The arrays under way, the outermost first.
    arrays: Vec<Array>,
    /// The bulk string under way, and how many of its bytes are missing, the line end included.
    bulk: Option<(Vec<u8>, usize)>,
    /// What the reply under way has taken, and what one may.
    taken: usize,
    bytes_max: usize,
    garbage: Option<Garbage>,
}

/// What was read: `start..end` is not yet taken, behind it is room.
#[derive(Debug, Default)]
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of a line whose end has not come yet was searched for it.
    searched: usize,
}

#[derive(Debug)]
struct Array {
    items: Vec<Reply>,
    len: usize,
}

/// What stands at the beginning of the unread bytes.
enum Piece {
    Whole(Reply),
    /// An array begins, of so many elements, at least one.
    Array(usize),
    Unfinished,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(REPLY_BYTES_MAX)
    }
}

impl Decoder {
    /// One reply may take `bytes_max` bytes of memory: its longer texts, and 32 for each element of an array.
    pub fn new(bytes_max: usize) -> Self {
        Self { input: Input::default(), arrays: Vec::new(), bulk: None, taken: 0, bytes_max, garbage: None }
    }

    /// Room for the next read, never none. It grows only where [`Self::decode`] was not called after the last one.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.input.reserve(ROOM / 2);
        &mut self.input.buffer[self.input.end..]
    }

    /// That many bytes were read into [`Self::spare_mut`].
    pub fn filled(&mut self, n: usize) {
        self.input.end = (self.input.end + n).min(self.input.buffer.len());
    }

    /// Takes bytes that were read elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.reserve(bytes.len());
        let end = self.input.end + bytes.len();
        self.input.buffer[self.input.end..end].copy_from_slice(bytes);
        self.input.end = end;
    }

    /// Whether nothing is under way: all that was read has been handed out.
    pub fn is_empty(&self) -> bool {
        self.input.unread().is_empty() && self.arrays.is_empty() && self.bulk.is_none()
    }

    /// Appends all replies that are whole; the others come once more is read. What came before garbage is appended, too.
    /// That there are more of them than commands is for the caller to notice.
    pub fn decode(&mut self, replies: &mut Vec<Reply>) -> Result<(), Garbage> {
        if let Some(garbage) = &self.garbage {
            return Err(garbage.clone());
        }
        let done = self.decode_all(replies);
        if let Err(garbage) = &done {
            self.garbage = Some(garbage.clone());
            (self.arrays, self.bulk) = (Vec::new(), None);
        }
        done
    }

    fn decode_all(&mut self, replies: &mut Vec<Reply>) -> Result<(), Garbage> {
        loop {
            if self.bulk.is_none() {
                match self.arrays.last_mut() {
                    Some(array) => self.input.common(&mut array.items, array.len),
                    None => self.input.common(replies, usize::MAX),
                }
            }
            if let Some(whole) = self.arrays.pop_if(|a| a.items.len() == a.len) {
                self.add(Reply::Array(whole.items), replies);
                continue;
            }
            match self.piece()? {
                Piece::Unfinished => return Ok(()),
                Piece::Whole(reply) => self.add(reply, replies),
                Piece::Array(len) => self.open(len)?,
            }
        }
    }

    /// A reply is the next element of the innermost array under way, or whole.
    fn add(&mut self, reply: Reply, replies: &mut Vec<Reply>) {
        match self.arrays.last_mut() {
            Some(array) => array.items.push(reply),
            None => {
                self.taken = 0;
                replies.push(reply);
            }
        }
    }

    fn piece(&mut self) -> Result<Piece, Garbage> {
        if self.bulk.is_some() {
            return self.gather();
        }
        match self.input.unread().first() {
            None => Ok(Piece::Unfinished),
            Some(b':') => Ok(self.input.number()?.map_or(Piece::Unfinished, |n| Piece::Whole(Reply::Int(n)))),
            Some(b'$') => match self.input.number()? {
                None => Ok(Piece::Unfinished),
                Some(-1) => Ok(Piece::Whole(Reply::Nil)),
                Some(n) => self.bulk(n),
            },
            Some(b'*') => match self.input.number()? {
                None => Ok(Piece::Unfinished),
                Some(-1) => Ok(Piece::Whole(Reply::Nil)),
                Some(0) => Ok(Piece::Whole(Reply::Array(Vec::new()))),
                Some(n) => usize::try_from(n).map(Piece::Array).map_err(|_| Garbage(format!("an array of {n} elements"))),
            },
            Some(kind @ (b'+' | b'-')) => {
                let error = *kind == b'-';
                let Some(line) = self.input.line()? else { return Ok(Piece::Unfinished) };
                let len = line.len();
                let reply = if error { Reply::Error(String::from_utf8_lossy(line).into_owned()) } else { Reply::Text(line.into()) };
                self.charge_text(len, "a line")?;
                Ok(Piece::Whole(reply))
            }
            Some(other) => Err(Garbage(format!("a reply that begins with {:?}, where one of + - : $ * is expected", char::from(*other)))),
        }
    }

    fn open(&mut self, len: usize) -> Result<(), Garbage> {
        if self.arrays.len() == DEPTH_MAX {
            return Err(Garbage(format!("arrays in arrays, deeper than {DEPTH_MAX}")));
        }
        self.charge(len.saturating_mul(size_of::<Reply>()), "an array")?;
        // The shortest element takes three bytes: no more than may have come already is believed.
        let items = Vec::with_capacity(len.min(self.input.unread().len() / 3 + 1));
        self.arrays.push(Array { items, len });
        Ok(())
    }

    /// Counts what takes memory of its own; a short text does not.
    fn charge_text(&mut self, len: usize, what: &str) -> Result<(), Garbage> {
        self.charge(if len > SHORT_MAX { len } else { 0 }, what)
    }

    fn charge(&mut self, bytes: usize, what: &str) -> Result<(), Garbage> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > self.bytes_max { Err(Garbage(format!("{what} with which a reply takes more than {} bytes", self.bytes_max))) } else { Ok(()) }
    }

    fn bulk(&mut self, len: i64) -> Result<Piece, Garbage> {
        let len = usize::try_from(len).map_err(|_| Garbage(format!("a bulk string of {len} bytes")))?;
        self.charge_text(len, "a bulk string")?;
        if let Some((text, [b'\r', b'\n', ..])) = self.input.unread().split_at_checked(len) {
            let reply = Reply::Text(text.into());
            self.input.start += len + 2;
            return Ok(Piece::Whole(reply));
        }
        self.bulk = Some((Vec::new(), len + 2));
        self.gather()
    }

    /// Goes on with the bulk string under way.
    fn gather(&mut self) -> Result<Piece, Garbage> {
        let Some((mut text, mut missing)) = self.bulk.take() else { return Ok(Piece::Unfinished) };
        let unread = self.input.unread();
        let n = missing.min(unread.len());
        text.extend_from_slice(&unread[..n]);
        self.input.start += n;
        missing -= n;
        if missing > 0 {
            self.bulk = Some((text, missing));
            return Ok(Piece::Unfinished);
        }
        match text.split_last_chunk() {
            Some((_, b"\r\n")) => {
                text.truncate(text.len() - 2);
                Ok(Piece::Whole(Reply::Text(text.into())))
            }
            _ => Err(Garbage(format!("a bulk string that goes on behind its {} bytes", text.len() - 2))),
        }
    }
}

impl Input {
    #[inline]
    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn reserve(&mut self, room: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end < room {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let least = (self.end + room).max(ROOM);
            if self.buffer.len() < least {
                self.buffer.resize(least.next_power_of_two(), 0);
            }
        }
    }

    /// Appends what a transaction answers most, as long as such replies stand here whole and there are fewer than `len`
    /// in all: QUEUED, OK, a number of one digit, an entry's id.
    #[inline]
    fn common(&mut self, replies: &mut Vec<Reply>, len: usize) {
        let mut unread = self.unread();
        while replies.len() < len {
            unread = match unread {
                [b'+', b'Q', b'U', b'E', b'U', b'E', b'D', b'\r', b'\n', rest @ ..] => {
                    replies.push(Reply::QUEUED);
                    rest
                }
                [b'+', b'O', b'K', b'\r', b'\n', rest @ ..] => {
                    replies.push(Reply::OK);
                    rest
                }
                [b':', digit @ b'0'..=b'9', b'\r', b'\n', rest @ ..] => {
                    replies.push(Reply::Int(i64::from(digit - b'0')));
                    rest
                }
                [b'$', tens @ b'1'..=b'2', ones @ b'0'..=b'9', b'\r', b'\n', rest @ ..] => {
                    match rest.split_at_checked(usize::from(tens - b'0') * 10 + usize::from(ones - b'0')) {
                        // A longer one takes memory, and is counted.
                        Some((text, [b'\r', b'\n', rest @ ..])) if text.len() <= SHORT_MAX => {
                            replies.push(Reply::Text(text.into()));
                            rest
                        }
                        _ => break,
                    }
                }
                _ => break,
            };
        }
        let start = self.end - unread.len();
        if start != self.start {
            // What was searched is gone with the line that has its end now.
            (self.start, self.searched) = (start, 0);
        }
    }

    /// The number of a line `:n`, `$n` or `*n`, once the line is whole.
    fn number(&mut self) -> Result<Option<i64>, Garbage> {
        let Some(line) = self.line()? else { return Ok(None) };
        let digits = line.strip_prefix(b"-").unwrap_or(line);
        let number = std::str::from_utf8(line).ok().filter(|_| digits.iter().all(u8::is_ascii_digit)).and_then(|t| t.parse().ok());
        number.map(Some).ok_or_else(|| Garbage(format!("{:?}, where a number is expected", shown(line))))
    }

    /// A line without its kind and its end, once it is whole.
    fn line(&mut self) -> Result<Option<&[u8]>, Garbage> {
        let bytes = &self.buffer[self.start..self.end];
        let from = self.searched.max(1);
        let end = bytes.get(from..).and_then(|rest| rest.iter().position(|b| matches!(b, b'\r' | b'\n'))).map(|i| from + i);
        if end.unwrap_or(bytes.len()) > LINE_BYTES_MAX {
            return Err(Garbage(format!("a line of more than {LINE_BYTES_MAX} bytes")));
        }
        let Some(at) = end else {
            self.searched = bytes.len();
            return Ok(None);
        };
        match bytes[at..] {
            [b'\r', b'\n', ..] => {
                let line = self.start + 1..self.start + at;
                (self.start, self.searched) = (line.end + 2, 0);
                Ok(Some(&self.buffer[line]))
            }
            [b'\r'] => {
                self.searched = at;
                Ok(None)
            }
            _ => Err(Garbage(format!("a line {:?} that does not end in CR LF", shown(&bytes[..at])))),
        }
    }
}

/// The beginning of what was found, for a message.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> Reply {
        Reply::Text(t.into())
    }

    fn decode(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Reply>, Garbage> {
        let mut replies = Vec::new();
        decoder.feed(bytes);
        decoder.decode(&mut replies).map(|()| replies)
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let wire = b"+OK\r\n+QUEUED\r\n+PONG\r\n-ERR no\r\n:0\r\n:-12\r\n:9223372036854775807\r\n$-1\r\n$0\r\n\r\n$4\r\n\r\n\r\n\r\n*-1\r\n*0\r\n*2\r\n*1\r\n+a\r\n$1\r\nb\r\n";
        let nested = Reply::Array(vec![Reply::Array(vec![text("a")]), text("b")]);
        let expected = vec![
            Reply::OK,
            Reply::QUEUED,
            text("PONG"),
            Reply::Error("ERR no".into()),
            Reply::Int(0),
            Reply::Int(-12),
            Reply::Int(i64::MAX),
            Reply::Nil,
            text(""),
            text("\r\n\r\n"),
            Reply::Nil,
            Reply::Array(Vec::new()),
            nested,
        ];
        assert_eq!(decode(&mut Decoder::default(), wire).unwrap(), expected);
        let mut decoder = Decoder::default();
        let one_by_one: Vec<Reply> = wire.iter().flat_map(|b| decode(&mut decoder, &[*b]).unwrap()).collect();
        assert_eq!(one_by_one, expected);
        assert!(decoder.is_empty());
    }

    #[test]
    fn garbage_is_told_by_what_was_found_and_stays_an_error() {
        for (wire, found) in [
            (&b"HTTP/1.1 400\r\n"[..], "'H'"),
            (b":12a\r\n", "12a"),
            (b":\r\n", "\"\""),
            (b":99999999999999999999\r\n", "99999999999999999999"),
            (b":+1\r\n", "+1"),
            (b"$-2\r\n", "-2"),
            (b"*-2\r\n", "-2"),
            (b"+a\nb\r\n", "CR LF"),
            (b"+a\rb\r\n", "CR LF"),
            (b"$1\r\nabc", "goes on behind its 1 bytes"),
            (b"*1152921504606846976\r\n", "more than"),
            (b"$536870913\r\n", "more than"),
            (b"*2\r\n:1\r\n?", "'?'"),
        ] {
            let mut decoder = Decoder::default();
            let garbage = decode(&mut decoder, wire).unwrap_err();
            assert!(garbage.to_string().contains(found), "{garbage}");
            assert_eq!(decode(&mut decoder, b"+OK\r\n"), Err(garbage));
        }
        let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
        assert!(decode(&mut Decoder::default(), deep.as_bytes()).unwrap_err().to_string().contains("deeper"));
        let endless = "+".repeat(LINE_BYTES_MAX + 1);
        assert!(decode(&mut Decoder::default(), endless.as_bytes()).unwrap_err().to_string().contains("line"));
    }

    #[test]
    fn a_line_is_searched_from_its_beginning_though_the_one_before_came_in_pieces() {
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, b":0\r").unwrap(), []);
        assert!(decode(&mut decoder, b"\n:\r$\r\n").unwrap_err().to_string().contains("CR LF"));
    }

    #[test]
    fn what_is_announced_takes_no_memory_before_it_comes() {
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, b"*16000000\r\n:1\r\n").unwrap(), []);
        assert!(decoder.arrays[0].items.capacity() < 100);
        let mut decoder = Decoder::default();
        assert_eq!(decode(&mut decoder, b"$500000000\r\nabc").unwrap(), []);
        assert!(decoder.bulk.unwrap().0.capacity() < 100);
    }

    #[test]
    fn the_buffer_is_reused_however_much_goes_through_it() {
        let mut decoder = Decoder::default();
        let wire = [&b"*3\r\n:1\r\n$100000\r\n"[..], &vec![b'x'; 100_000], b"\r\n+OK\r\n"].concat().repeat(20);
        let (mut rest, mut replies) = (wire.as_slice(), Vec::new());
        while !rest.is_empty() {
            let room = decoder.spare_mut();
            let n = room.len().min(rest.len()).min(1000);
            room[..n].copy_from_slice(&rest[..n]);
            decoder.filled(n);
            rest = &rest[n..];
            decoder.decode(&mut replies).unwrap();
        }
        assert_eq!((replies.len(), decoder.is_empty(), decoder.input.buffer.len()), (20, true, ROOM));
    }
}
