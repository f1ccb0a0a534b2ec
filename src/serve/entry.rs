//! A stream's entries as JSON.
use super::offer::Offer;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use serde_json::{Number, json};
use std::collections::BTreeMap;
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
pub type Raw = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// An entry as an object: `id`, then its fields. A number's text stays as it is, so that nothing is rounded; bytes that are
/// no text are an object with their base64. A field that is itself named `id` becomes `field.id`.
pub fn json((id, fields): &Raw, offer: &Offer) -> String {
    // In the entry's order; of two fields of one name the last counts, as in JSON.
    let mut order: Vec<String> = Vec::with_capacity(fields.len());
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in fields {
        let name = String::from_utf8_lossy(name).into_owned();
        let shown = if name == "id" { "field.id".to_owned() } else { name.clone() };
        if values.insert(shown.clone(), value_of(value, offer.strings.contains(&name))).is_none() {
            order.push(shown);
        }
    }
    let mut out = format!("{{\"id\":{}", json!(id));
    for name in order {
        out.push_str(&format!(",{}:{}", json!(name), values[&name]));
    }
    out.push('}');
    out
}

fn value_of(bytes: &[u8], is_string: bool) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !is_string && is_number(text) => text.to_owned(),
        Ok(text) => json!(text).to_string(),
        Err(_) => json!({"base64": BASE64_STANDARD.encode(bytes)}).to_string(),
    }
}

/// Whether a text is a JSON number that a reader can hold.
fn is_number(text: &str) -> bool {
    let bare = text.bytes().next().is_some_and(|b| b == b'-' || b.is_ascii_digit()) && text.bytes().last().is_some_and(|b| b.is_ascii_digit());
    bare && serde_json::from_str::<Number>(text).is_ok() && serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(strings: &[&str]) -> Offer {
        let strings = strings.iter().map(|s| (*s).to_owned()).collect();
        Offer { name: "r".into(), only: None, latest: None, history: None, live: Vec::new(), topic: None, strings, index: None, lacks: Vec::new() }
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
        let told = json(&raw, &offer(&["big"]));
        assert_eq!(told, r#"{"id":"1-0","price":42000.0,"big":"12345678901234567890123","zip":"007","n":"1e999","t":"a\"b","field.id":7}"#);
    }

    #[test]
    fn bytes_that_are_no_text_and_fields_of_one_name_are_told_apart() {
        let raw = ("1-0".into(), vec![(b"a".to_vec(), b"\xff".to_vec()), (b"b".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        assert_eq!(json(&raw, &offer(&[])), r#"{"id":"1-0","a":{"base64":"/w=="},"b":2}"#);
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
