//! RESP: commands as arrays of bulk strings (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

/// Writes commands into one output buffer. The number of a command's arguments, and the length of an argument that is
/// rendered, are known when they end, and stand before: room is left for the usual number of digits, and where there
/// are others, what follows is moved.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
    /// Where the command under way begins, and how many arguments it has.
    begun: Option<usize>,
    /// No word as the buffer's length is, with which the compiler would count it in one: a store that is read back
    /// in another size stalls, and made this twice as slow.
    args: u32,
    /// Where each whole command ends.
    ends: Vec<usize>,
}

/// The most that stands around an argument.
const HEADER_MAX: usize = b"$18446744073709551615\r\n\r\n".len();

impl Encoder {
    /// Adds a whole command.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        for a in args {
            self.arg(a.as_ref());
        }
        self.finish();
    }

    /// Adds an argument to the command under way.
    #[inline]
    pub fn arg(&mut self, bytes: &[u8]) {
        self.begin();
        self.out.reserve(bytes.len() + HEADER_MAX);
        match u8::try_from(bytes.len()) {
            Ok(n @ 0..10) => self.out.extend_from_slice(&[b'$', b'0' + n, b'\r', b'\n']),
            Ok(n @ 10..100) => self.out.extend_from_slice(&[b'$', b'0' + n / 10, b'0' + n % 10, b'\r', b'\n']),
            _ => {
                self.out.push(b'$');
                self.out.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
        self.args += 1;
    }

    /// Adds a number as an argument.
    pub fn arg_number(&mut self, number: u64) {
        self.arg(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Adds an argument that `render` appends; on its error the whole command is forgotten.
    pub fn arg_with<E>(&mut self, render: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        self.begin();
        let at = self.out.len();
        self.out.extend_from_slice(b"$00\r\n");
        let from = self.out.len();
        if let Err(e) = render(&mut self.out) {
            self.abandon();
            return Err(e);
        }
        let len = self.out.len() - from;
        self.patch(at, 2, len as u64);
        self.out.extend_from_slice(b"\r\n");
        self.args += 1;
        Ok(())
    }

    /// Forgets the command under way.
    pub fn abandon(&mut self) {
        if let Some(at) = self.begun.take() {
            self.out.truncate(at);
        }
        self.args = 0;
    }

    /// Ends the command under way.
    pub fn finish(&mut self) {
        self.begin();
        if let Some(at) = self.begun.take() {
            self.patch(at, 1, self.args.into());
        }
        self.args = 0;
        self.ends.push(self.out.len());
    }

    #[inline]
    fn begin(&mut self) {
        if self.begun.is_none() {
            self.begun = Some(self.out.len());
            self.out.extend_from_slice(b"*0\r\n");
        }
    }

    /// Writes a number into the header at `at`, in which room for `room` digits was left.
    #[inline]
    fn patch(&mut self, at: usize, room: usize, number: u64) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let (from, end) = (at + 1 + room, self.out.len());
        if digits.len() > room {
            self.out.resize(end + digits.len() - room, 0);
        }
        if digits.len() != room {
            self.out.copy_within(from..end, at + 1 + digits.len());
            self.out.truncate(end + digits.len() - room);
        }
        self.out[at + 1..=at + digits.len()].copy_from_slice(digits);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// How many commands stand in the buffer, so how many replies will come.
    pub fn commands(&self) -> usize {
        self.ends.len()
    }

    /// The whole commands, one after the other.
    pub fn encoded(&self) -> impl Iterator<Item = Encoded<'_>> {
        let mut from = 0;
        self.ends.iter().map(move |end| Encoded { bytes: &self.out[std::mem::replace(&mut from, *end)..*end] })
    }

    /// How many commands there are now, to return to with [`Self::truncate`]; between commands only.
    pub fn mark(&self) -> usize {
        debug_assert!(self.begun.is_none());
        self.ends.len()
    }

    /// How many bytes stand behind a mark.
    pub fn bytes_behind(&self, mark: usize) -> usize {
        self.out.len() - mark.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    pub fn truncate(&mut self, mark: usize) {
        self.abandon();
        self.ends.truncate(mark);
        self.out.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Keeps those commands, by their number, for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let (mut to, mut from, mut n) = (0, 0, 0..);
        self.ends.retain_mut(|end| {
            let command = from..*end;
            from = *end;
            let kept = n.next().is_some_and(&mut keep);
            if kept {
                self.out.copy_within(command.clone(), to);
                to += command.len();
                *end = to;
            }
            kept
        });
        self.out.truncate(to);
    }

    pub fn clear(&mut self) {
        self.truncate(0);
    }
}

/// A command in its encoding.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    bytes: &'a [u8],
}

impl<'a> Encoded<'a> {
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// An argument; the first is the name.
    pub fn arg(self, n: usize) -> Option<&'a [u8]> {
        self.args().nth(n)
    }

    pub fn args(self) -> impl Iterator<Item = &'a [u8]> {
        let (count, mut rest) = header(self.bytes).unwrap_or_default();
        (0..count).map_while(move |_| {
            let (len, after) = header(rest)?;
            rest = after.get(len + 2..)?;
            after.get(..len)
        })
    }
}

/// A header's number, and what follows it.
fn header(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let digits = bytes.get(1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = bytes[1..=digits].iter().fold(0usize, |n, b| n.wrapping_mul(10).wrapping_add(usize::from(b - b'0')));
    Some((number, bytes.get(digits + 3..)?))
}

/// Reads commands back from their encoding: for the dry run and for tests.
///
/// Returns `None` where the bytes are no sequence of whole commands.
pub fn parse_commands(mut bytes: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    fn line<'a>(bytes: &mut &'a [u8], kind: u8) -> Option<usize> {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let (head, rest): (&'a [u8], &'a [u8]) = (&bytes[..end], &bytes[end + 2..]);
        *bytes = rest;
        if head.first() != Some(&kind) {
            return None;
        }
        std::str::from_utf8(&head[1..]).ok()?.parse().ok()
    }
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let argc = line(&mut bytes, b'*')?;
        let mut args = Vec::new();
        for _ in 0..argc {
            let len = line(&mut bytes, b'$')?;
            args.push(bytes.get(..len)?.to_vec());
            if bytes.get(len..len + 2)? != b"\r\n" {
                return None;
            }
            bytes = &bytes[len + 2..];
        }
        commands.push(args);
    }
    Some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_any_bytes() {
        let mut e = Encoder::default();
        e.command(&[&b"SET"[..], b"k\r\n*3\r\n", b""]);
        e.command(&[b"PING"]);
        assert_eq!(e.commands(), 2);
        let back = parse_commands(e.bytes()).unwrap();
        assert_eq!(back, vec![vec![b"SET".to_vec(), b"k\r\n*3\r\n".to_vec(), vec![]], vec![b"PING".to_vec()]]);
    }

    #[test]
    fn commands_are_taken_out_and_the_others_stay_whole() {
        for taken in 0u32..16 {
            let mut e = Encoder::default();
            (0..4).for_each(|n| e.command(&[b"SET".to_vec(), b"k".repeat(n), b"v".repeat(20 * n)]));
            e.retain(|n| taken & 1 << n == 0);
            let left: Vec<usize> = (0..4).filter(|n| taken & 1 << n == 0).collect();
            let found: Vec<usize> = parse_commands(e.bytes()).unwrap().iter().map(|c| c[1].len()).collect();
            assert_eq!((found, e.commands()), (left.clone(), left.len()));
        }
    }

    #[test]
    fn commands_are_found_again_in_their_encoding() {
        let mut e = Encoder::default();
        e.command(&[b"MULTI"]);
        e.command(&[&b"SET"[..], b"k\r\n*3\r\n", b""]);
        let args = |c: Encoded<'_>| (0..4).map(|n| c.arg(n).map(<[u8]>::to_vec)).collect::<Vec<_>>();
        let found: Vec<_> = e.encoded().map(args).collect();
        assert_eq!(found, [vec![Some(b"MULTI".to_vec()), None, None, None], vec![Some(b"SET".to_vec()), Some(b"k\r\n*3\r\n".to_vec()), Some(vec![]), None]]);
        let again: Vec<&[u8]> = e.encoded().map(Encoded::bytes).collect();
        assert_eq!((again.concat().as_slice(), again.len()), (e.bytes(), 2));
    }

    #[test]
    fn an_abandoned_command_leaves_nothing() {
        let mut e = Encoder::default();
        e.arg(b"SET");
        assert!(
            e.arg_with(|out| {
                out.extend_from_slice(b"half");
                Err(())
            })
            .is_err()
        );
        e.command(&[b"PING"]);
        assert_eq!(e.bytes(), b"*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn headers_fit_numbers_of_any_length() {
        for len in [0, 1, 9, 10, 99, 100, 1000, 123_456] {
            for args in [1, 9, 10, 100] {
                let bytes = vec![b'x'; len];
                let mut e = Encoder::default();
                e.command(&[b"PING"]);
                for _ in 0..args {
                    e.arg_with(|out| -> Result<(), ()> {
                        out.extend_from_slice(&bytes);
                        Ok(())
                    })
                    .unwrap();
                    e.arg_number(len as u64);
                }
                e.finish();
                let argument = format!("${len}\r\n{}\r\n${}\r\n{len}\r\n", "x".repeat(len), len.to_string().len());
                assert_eq!(e.bytes(), format!("*1\r\n$4\r\nPING\r\n*{}\r\n{}", 2 * args, argument.repeat(args)).as_bytes());
            }
        }
    }
}
