//! RESP: commands as arrays of bulk strings (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

/// Writes commands into one output buffer. A command's arguments are gathered first, since their number leads.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
    args: Vec<u8>,
    ends: Vec<usize>,
    commands: usize,
}

impl Encoder {
    /// Adds a whole command.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        for a in args {
            self.arg(a.as_ref());
        }
        self.finish();
    }

    /// Adds an argument to the command under way.
    pub fn arg(&mut self, bytes: &[u8]) {
        self.args.extend_from_slice(bytes);
        self.ends.push(self.args.len());
    }

    /// Adds an argument that `render` writes; on its error the whole command is forgotten.
    pub fn arg_with<E>(&mut self, render: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        match render(&mut self.args) {
            Ok(()) => {
                self.ends.push(self.args.len());
                Ok(())
            }
            Err(e) => {
                self.abandon();
                Err(e)
            }
        }
    }

    /// Forgets the command under way.
    pub fn abandon(&mut self) {
        self.args.clear();
        self.ends.clear();
    }

    /// The arguments of the command under way.
    pub fn pending(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(i, end)| &self.args[if i == 0 { 0 } else { self.ends[i - 1] }..*end])
    }

    /// Ends the command under way.
    pub fn finish(&mut self) {
        self.header(b'*', self.ends.len());
        let mut from = 0;
        for i in 0..self.ends.len() {
            let end = self.ends[i];
            self.header(b'$', end - from);
            self.out.extend_from_slice(&self.args[from..end]);
            self.out.extend_from_slice(b"\r\n");
            from = end;
        }
        self.commands += 1;
        self.abandon();
    }

    fn header(&mut self, kind: u8, n: usize) {
        use std::io::Write as _;
        self.out.push(kind);
        let _ = write!(self.out, "{n}\r\n");
    }

    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// How many commands stand in the buffer, so how many replies will come.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// Where the buffer ends now, to return to with [`Self::truncate`].
    pub fn mark(&self) -> (usize, usize) {
        (self.out.len(), self.commands)
    }

    pub fn truncate(&mut self, (len, commands): (usize, usize)) {
        self.abandon();
        self.out.truncate(len);
        self.commands = commands;
    }

    pub fn clear(&mut self) {
        self.truncate((0, 0));
    }
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
}
