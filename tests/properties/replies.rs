//! The decoder of replies: any split of the bytes gives the same, garbage is an error, and what a plain parser of the
//! whole bytes finds is what it finds.
use kafka_redis_bridge::core::reply::Reply;
use kafka_redis_bridge::core::resp::Decoder;

/// Small, so that the bound is met.
const BYTES_MAX: usize = 2000;

/// The first byte says how the others are split.
pub(crate) fn check(bytes: &[u8]) {
    let [seed, wire @ ..] = bytes else { return };
    let (replies, garbage) = decode(wire, |_| wire.len());
    assert_eq!(plain(wire), (replies.clone(), garbage.is_some()), "{garbage:?}");
    let mut state = u64::from(*seed);
    let random = |left: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + usize::try_from(state >> 33).unwrap() % left.min(1 + usize::from(*seed))
    };
    assert_eq!(decode(wire, random), (replies.clone(), garbage.clone()), "split by {seed}");
    assert_eq!(decode(wire, |_| 1), (replies, garbage), "byte by byte");
}

/// All replies in the bytes, read in pieces of these lengths, and what ended them.
fn decode(mut wire: &[u8], mut piece: impl FnMut(usize) -> usize) -> (Vec<Reply>, Option<String>) {
    let mut decoder = Decoder::new(BYTES_MAX);
    let mut replies = Vec::new();
    while !wire.is_empty() {
        let room = decoder.spare_mut();
        let n = piece(wire.len()).min(room.len());
        room[..n].copy_from_slice(&wire[..n]);
        decoder.filled(n);
        wire = &wire[n..];
        if let Err(garbage) = decoder.decode(&mut replies) {
            let count = replies.len();
            decoder.feed(b"+OK\r\n");
            assert_eq!(decoder.decode(&mut replies), Err(garbage.clone()));
            assert_eq!(replies.len(), count, "nothing comes after garbage");
            return (replies, Some(garbage.to_string()));
        }
    }
    (replies, None)
}

/// The same by recursion over whole bytes: the replies, and whether garbage ended them.
fn plain(mut wire: &[u8]) -> (Vec<Reply>, bool) {
    let mut replies = Vec::new();
    loop {
        match one(&mut wire, 0, &mut 0) {
            Ok(Some(reply)) => replies.push(reply),
            Ok(None) => return (replies, false),
            Err(()) => return (replies, true),
        }
    }
}

fn one(wire: &mut &[u8], depth: usize, taken: &mut usize) -> Result<Option<Reply>, ()> {
    let Some((kind, rest)) = wire.split_first() else { return Ok(None) };
    if !b"+-:$*".contains(kind) {
        return Err(());
    }
    let Some(end) = rest.iter().position(|b| b"\r\n".contains(b)) else { return if wire.len() > 65536 { Err(()) } else { Ok(None) } };
    let line = &rest[..end];
    match rest[end..] {
        [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => *wire = &rest[end + 2..],
        _ => return Err(()),
    }
    let mut charge = |n: usize| {
        *taken = taken.saturating_add(n);
        if *taken > BYTES_MAX { Err(()) } else { Ok(()) }
    };
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || match line {
        [b'+', ..] => Err(()),
        _ => text().parse::<i64>().map_err(drop),
    };
    match kind {
        b'+' | b'-' => {
            charge(if line.len() > 24 { line.len() } else { 0 })?;
            Ok(Some(if *kind == b'+' { Reply::Text(line.into()) } else { Reply::Error(text()) }))
        }
        b':' => number().map(|n| Some(Reply::Int(n))),
        b'$' => match number()? {
            -1 => Ok(Some(Reply::Nil)),
            n => {
                let n = usize::try_from(n).map_err(drop)?;
                charge(if n > 24 { n } else { 0 })?;
                if wire.len() < n + 2 {
                    return Ok(None);
                }
                let (found, rest) = wire.split_at(n);
                *wire = rest.strip_prefix(b"\r\n").ok_or(())?;
                Ok(Some(Reply::Text(found.into())))
            }
        },
        _ => match number()? {
            -1 => Ok(Some(Reply::Nil)),
            0 => Ok(Some(Reply::Array(Vec::new()))),
            n => {
                let n = usize::try_from(n).map_err(drop)?;
                charge_array(n, depth, taken)?;
                let mut items = Vec::new();
                for _ in 0..n {
                    match one(wire, depth + 1, taken)? {
                        Some(item) => items.push(item),
                        None => return Ok(None),
                    }
                }
                Ok(Some(Reply::Array(items)))
            }
        },
    }
}

fn charge_array(n: usize, depth: usize, taken: &mut usize) -> Result<(), ()> {
    *taken = taken.saturating_add(n.saturating_mul(32));
    if depth == 32 || *taken > BYTES_MAX { Err(()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply() -> impl Strategy<Value = Reply> {
        let text =
            prop_oneof![Just(b"OK".to_vec()), Just(b"QUEUED".to_vec()), Just(b"1701878400000-0".to_vec()), proptest::collection::vec(any::<u8>(), 0..40),];
        let one = prop_oneof![
            Just(Reply::Nil),
            (0i64..3).prop_map(Reply::Int),
            any::<i64>().prop_map(Reply::Int),
            text.prop_map(|t| Reply::Text(t.into())),
            "[A-Z]{2,10} [ -~]{0,40}".prop_map(Reply::Error),
        ];
        one.prop_recursive(4, 24, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Reply::Array))
    }

    fn encode(reply: &Reply, bulk: bool, out: &mut Vec<u8>) {
        match reply {
            Reply::Nil => out.extend_from_slice(if bulk { b"$-1\r\n" } else { b"*-1\r\n" }),
            Reply::Int(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
            Reply::Text(t) if !bulk && !t.iter().any(|b| b"\r\n".contains(b)) => out.extend_from_slice(&[b"+", &**t, b"\r\n"].concat()),
            Reply::Text(t) => out.extend_from_slice(&[format!("${}\r\n", t.len()).as_bytes(), t, b"\r\n"].concat()),
            Reply::Error(e) => out.extend_from_slice(format!("-{e}\r\n").as_bytes()),
            Reply::Array(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|i| encode(i, bulk, out));
            }
        }
    }

    proptest! {
        #![proptest_config(crate::cases(1000))]

        #[test]
        fn replies_come_back_as_they_were_sent_however_the_bytes_are_split(replies in proptest::collection::vec(reply(), 0..8), bulk: bool, seed: u8) {
            let mut wire = vec![seed];
            replies.iter().for_each(|r| encode(r, bulk, &mut wire));
            check(&wire);
            let (found, garbage) = decode(&wire[1..], |n| 1 + n / 3);
            prop_assert_eq!((found, garbage), (replies, None));
        }

        #[test]
        fn what_is_broken_somewhere_is_garbage_however_it_is_split(replies in proptest::collection::vec(reply(), 1..6), bulk: bool, seed: u8, at: prop::sample::Index, byte: u8) {
            let mut wire = vec![seed];
            replies.iter().for_each(|r| encode(r, bulk, &mut wire));
            let at = at.index(wire.len());
            wire[at] = byte;
            check(&wire);
        }

        #[test]
        fn anything_made_of_the_protocols_bytes_is_a_reply_or_garbage(wire in "([+$*:-]|[0-9]|\r\n|[a\r\n]){0,60}", seed: u8) {
            check(&[&[seed], wire.as_bytes()].concat());
        }

        #[test]
        fn any_bytes_are_replies_or_garbage(bytes: Vec<u8>) {
            check(&bytes);
        }
    }
}
