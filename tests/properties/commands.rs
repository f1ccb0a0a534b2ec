//! The RESP encoder against a parser of its own, the product's, and redis-rs'.
use kafka_redis_bridge::core::encode::{Encoder, parse_commands};

type Command = Vec<Vec<u8>>;

/// What is done to the encoder, taken from bytes: a byte says what and how long.
pub(crate) fn check(bytes: &[u8]) {
    let mut encoder = Encoder::default();
    let mut expected: Vec<Command> = Vec::new();
    let mut command: Command = Vec::new();
    let mut mark = encoder.mark();
    let mut marked = 0;
    let mut rest = bytes;
    while let [what, tail @ ..] = rest {
        let len = usize::from(what >> 3);
        let arg = &tail[..len.min(tail.len())];
        rest = &tail[arg.len()..];
        match what & 7 {
            0 | 1 => {
                encoder.arg(arg);
                command.push(arg.to_vec());
            }
            2 => {
                // Longer than any header's usual room.
                let long = arg.repeat(40);
                encoder.arg_with(|out| append(out, &long)).unwrap();
                command.push(long);
            }
            3 => {
                encoder.arg_number(len as u64 * 12_345);
                command.push((len as u64 * 12_345).to_string().into_bytes());
            }
            4 => {
                assert!(encoder.arg_with(|out| append(out, arg).and(Err(()))).is_err());
                command.clear();
            }
            5 if !command.is_empty() => {
                encoder.finish();
                expected.push(std::mem::take(&mut command));
            }
            6 if command.is_empty() => (mark, marked) = (encoder.mark(), expected.len()),
            7 if len == 0 => {
                encoder.truncate(mark);
                command.clear();
                expected.truncate(marked);
            }
            _ => {
                encoder.abandon();
                command.clear();
            }
        }
    }
    encoder.abandon();
    assert_eq!(encoder.commands(), expected.len());
    assert_eq!(parse(encoder.bytes()), expected);
    assert_eq!(parse_commands(encoder.bytes()).as_ref(), Some(&expected));
}

fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ()> {
    out.extend_from_slice(bytes);
    Ok(())
}

/// Reads commands as a server does: each header to its line end, each argument by its length.
fn parse(mut bytes: &[u8]) -> Vec<Command> {
    fn header(bytes: &mut &[u8], kind: u8) -> usize {
        let end = bytes.iter().position(|b| *b == b'\r').expect("a line end");
        let (line, rest) = bytes.split_at(end);
        *bytes = rest.strip_prefix(b"\r\n").expect("CR LF");
        let digits = std::str::from_utf8(line.strip_prefix(&[kind]).expect("its kind")).expect("digits");
        assert!(digits == "0" || !digits.starts_with(['0', '+', '-']), "Redis takes no {digits:?}");
        digits.parse().expect("a number")
    }
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let mut command = Vec::new();
        for _ in 0..header(&mut bytes, b'*') {
            let len = header(&mut bytes, b'$');
            let (arg, rest) = bytes.split_at(len);
            command.push(arg.to_vec());
            bytes = rest.strip_prefix(b"\r\n").expect("CR LF");
        }
        commands.push(command);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::cases(1000))]

        #[test]
        fn whatever_is_done_to_it_the_encoder_holds_the_finished_commands(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            check(&bytes);
        }

        #[test]
        fn commands_are_what_redis_rs_reads(commands in proptest::collection::vec(proptest::collection::vec(any::<Vec<u8>>(), 1..12), 1..6)) {
            let mut encoder = Encoder::default();
            commands.iter().for_each(|c| encoder.command(c));
            prop_assert_eq!(parse(encoder.bytes()), commands.clone());
            let mut parser = redis::Parser::new();
            let mut read = encoder.bytes();
            for command in commands {
                let args = command.into_iter().map(redis::Value::BulkString).collect();
                prop_assert_eq!(parser.parse_value(&mut read).unwrap(), redis::Value::Array(args));
            }
        }
    }
}
