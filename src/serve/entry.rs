//! A stream's entries as JSON.
use super::offer::Offer;
use crate::core::reply::Reply;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Number;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// An entry's id. Its time is Redis' clock in ms, where the id is `*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub ms: u64,
    pub seq: u64,
}

impl Id {
    /// The one behind it.
    pub fn next(self) -> Option<Self> {
        let Self { ms, seq } = self;
        seq.checked_add(1).map(|seq| Self { ms, seq }).or_else(|| ms.checked_add(1).map(|ms| Self { ms, seq: 0 }))
    }

    /// The one before it.
    pub fn before(self) -> Option<Self> {
        let Self { ms, seq } = self;
        seq.checked_sub(1).map(|seq| Self { ms, seq }).or_else(|| ms.checked_sub(1).map(|ms| Self { ms, seq: u64::MAX }))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for Id {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |t: &str| if t.bytes().all(|b| b.is_ascii_digit()) { t.parse().map_err(drop) } else { Err(()) };
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self { ms: number(ms)?, seq: number(seq)? })
    }
}

/// An entry as Redis gives it: id, fields.
pub type Raw<B = Vec<u8>> = (String, Vec<(B, B)>);

/// The entries of a reply to XRANGE or XREVRANGE; `None` where it is not one.
pub(super) fn raws(reply: &Reply) -> Option<Vec<Raw<&[u8]>>> {
    let Reply::Array(entries) = reply else { return None };
    entries.iter().map(raw).collect()
}

fn raw(entry: &Reply) -> Option<Raw<&[u8]>> {
    let Reply::Array(entry) = entry else { return None };
    let [Reply::Text(id), Reply::Array(fields)] = entry.as_slice() else { return None };
    let (pairs, []) = fields.as_chunks() else { return None };
    Some((String::from_utf8_lossy(id).into_owned(), pairs.iter().map(pair).collect::<Option<_>>()?))
}

fn pair(pair: &[Reply; 2]) -> Option<(&[u8], &[u8])> {
    if let [Reply::Text(name), Reply::Text(value)] = pair { Some((name, value)) } else { None }
}

/// Adds an entry as an object: `id`, then its fields. A number's text stays as it is, so that nothing is rounded; bytes that are
/// no text are an object with their base64. Which name a field gets, `shown` says. In the entry's order; of two fields of one
/// name the last counts, as in JSON.
pub fn write_json<B: AsRef<[u8]>>((id, fields): &Raw<B>, offer: &Offer, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    write_text(id, out);
    let names: Vec<Cow<'_, str>> = fields.iter().map(|(name, _)| shown(name.as_ref())).collect();
    let mut last: HashMap<&str, &[u8]> = HashMap::new();
    let repeats = repeats(&names);
    if repeats {
        last.extend(names.iter().zip(fields).map(|(name, (_, value))| (name.as_ref(), value.as_ref())));
    }
    for (shown, (name, value)) in names.iter().zip(fields) {
        // The first place of a name, with its last value.
        let value = if repeats { last.remove(shown.as_ref()) } else { Some(value.as_ref()) };
        let Some(value) = value else { continue };
        out.push(b',');
        write_text(shown, out);
        out.push(b':');
        write_value(value, offer.strings.iter().any(|s| s.as_bytes() == name.as_ref()), out);
    }
    out.push(b'}');
}

/// A field's name as it is shown beside the entry's `id`: `field.id` for a field that is itself named `id`, `field.base64.` and its
/// base64 for a name that is no text. A name that already looks like one of these gets one more `field.`, so that no two fields
/// share a name, and each can be told from its own.
fn shown(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if is_reserved(text) => Cow::Owned(format!("field.{text}")),
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(format!("field.base64.{}", BASE64_STANDARD.encode(name))),
    }
}

fn is_reserved(name: &str) -> bool {
    let bare = name.trim_start_matches("field.");
    bare == "id" || bare.len() < name.len() && bare.starts_with("base64.")
}

/// Whether a name is there twice. Most entries have few fields; many are sorted, so that none costs by the square.
fn repeats(names: &[Cow<'_, str>]) -> bool {
    if names.len() <= 16 {
        return names.iter().enumerate().any(|(i, name)| names[..i].contains(name));
    }
    let mut sorted: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text becomes JSON, and memory takes it");
}

fn write_value(bytes: &[u8], is_string: bool, out: &mut Vec<u8>) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !is_string && is_number(text) => out.extend_from_slice(bytes),
        Ok(text) => write_text(text, out),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":");
            write_text(&BASE64_STANDARD.encode(bytes), out);
            out.push(b'}');
        }
    }
}

/// Whether a text is a JSON number that a reader can hold.
fn is_number(text: &str) -> bool {
    let bare = text.bytes().next().is_some_and(|b| b == b'-' || b.is_ascii_digit()) && text.bytes().last().is_some_and(|b| b.is_ascii_digit());
    bare && serde_json::from_str::<Number>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(strings: &[&str]) -> Offer {
        let strings = strings.iter().map(|s| (*s).to_owned()).collect();
        Offer { name: "r".into(), only: None, latest: None, history: None, live: Vec::new(), topic: None, strings, index: None, lacks: Vec::new() }
    }

    fn told(raw: &Raw, strings: &[&str]) -> String {
        let mut out = Vec::new();
        write_json(raw, &offer(strings), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_stay_as_they_stood_and_all_else_is_text() {
        let field = |n: &str, v: &str| (n.as_bytes().to_vec(), v.as_bytes().to_vec());
        let raw = (
            "1-0".into(),
            vec![
                field("price", "42000.0"),
                field("big", "12345678901234567890123"),
                field("zip", "007"),
                field("n", "1e999"),
                field("t", "a\"b"),
                field("id", "7"),
            ],
        );
        assert_eq!(told(&raw, &["big"]), r#"{"id":"1-0","price":42000.0,"big":"12345678901234567890123","zip":"007","n":"1e999","t":"a\"b","field.id":7}"#);
    }

    #[test]
    fn bytes_that_are_no_text_and_fields_of_one_name_are_told_apart() {
        let raw = ("1-0".into(), vec![(b"a".to_vec(), b"\xff".to_vec()), (b"b".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        assert_eq!(told(&raw, &[]), r#"{"id":"1-0","a":{"base64":"/w=="},"b":2}"#);
    }

    #[test]
    fn of_many_fields_too_the_last_of_a_name_counts_at_its_first_place() {
        for more in [0, 20] {
            let field = |n: String, v: &str| (n.into_bytes(), v.as_bytes().to_vec());
            let others = (0..more).map(|n| field(format!("f{n}"), "0"));
            let fields: Vec<_> = [field("a".into(), "1"), field("id".into(), "2"), field("field.id".into(), "3")].into_iter().chain(others).collect();
            let fields = fields.into_iter().chain([field("a".into(), "4")]).collect();
            let told: serde_json::Value = serde_json::from_str(&told(&("1-0".into(), fields), &[])).unwrap();
            assert_eq!((&told["a"], &told["field.id"], &told["field.field.id"]), (&4.into(), &2.into(), &3.into()));
            assert_eq!(told.as_object().unwrap().keys().take(4).collect::<Vec<_>>(), ["id", "a", "field.id", "field.field.id"]);
            assert_eq!(told.as_object().unwrap().len(), more + 4);
        }
    }

    #[test]
    fn no_field_hides_another_whatever_it_is_named() {
        let names: [&[u8]; 13] = [
            b"id",
            b"field.id",
            b"field.field.id",
            b"field.",
            b"field.price",
            b"base64./w==",
            b"field.base64./w==",
            b"field.field.base64./w==",
            b"\xff",
            b"\xfe",
            b"\xef\xbf\xbd",
            b"",
            b"Id",
        ];
        let raw = ("1-0".into(), names.iter().enumerate().map(|(n, name)| (name.to_vec(), n.to_string().into_bytes())).collect());
        let told: serde_json::Value = serde_json::from_str(&told(&raw, &[])).unwrap();
        let shown = [
            "field.id",
            "field.field.id",
            "field.field.field.id",
            "field.",
            "field.price",
            "base64./w==",
            "field.field.base64./w==",
            "field.field.field.base64./w==",
            "field.base64./w==",
            "field.base64./g==",
            "\u{fffd}",
            "",
            "Id",
        ];
        for (n, name) in shown.iter().enumerate() {
            assert_eq!(told[name], n, "{name}: {told}");
        }
        assert_eq!((&told["id"], told.as_object().unwrap().len()), (&"1-0".into(), names.len() + 1));
    }

    #[test]
    fn ids_have_neighbours_up_to_their_ends() {
        let (first, last) = (Id::default(), Id { ms: u64::MAX, seq: u64::MAX });
        assert_eq!((first.before(), last.next()), (None, None));
        for id in [first, Id { ms: 5, seq: u64::MAX }, Id { ms: 5, seq: 1 }] {
            assert_eq!(id.next().and_then(Id::before), Some(id));
        }
    }

    #[test]
    fn ids_are_read_as_redis_writes_them() {
        assert_eq!("5-1".parse(), Ok(Id { ms: 5, seq: 1 }));
        assert_eq!("5".parse(), Ok(Id { ms: 5, seq: 0 }));
        for wrong in ["", "-", "5-", "-5", "+5-1", "a", "99999999999999999999-0", "5-1-2"] {
            assert_eq!(wrong.parse::<Id>(), Err(()), "{wrong}");
        }
    }
}
