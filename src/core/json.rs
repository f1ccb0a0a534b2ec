//! JSON (RFC 8259): one pass that validates a text and finds the fields at its top.
//!
//! It accepts what serde_json's `RawValue` accepts, to the byte (`tests/properties/json.rs` compares the two): escapes
//! are checked for their form, those of the names at the top for being Unicode, too; numbers keep any length; nesting
//! costs a bit a level, on the heap from the 65th on, and has no limit but the text's length.
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A field at the top of an object, as places in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Between its quotes; of an array's element: empty.
    pub name: Range<usize>,
    /// Whether an escape stands in the name.
    pub escaped: bool,
    /// See [`tag`].
    tag: u32,
    /// A string with its quotes.
    pub value: Range<usize>,
}

/// What is no JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub what: &'static str,
    pub at: usize,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Validates a whole text and returns where its value stands. An object's fields are appended to `fields`, in their order.
pub fn scan(text: &str, fields: &mut Vec<Field>) -> Result<Range<usize>, Invalid> {
    let scanner = Scanner { text };
    let from = scanner.blank(0);
    let to = match scanner.byte(from) {
        Some(b'{') => scanner.items(from, |field| fields.push(field))?,
        _ => scanner.value(from)?,
    };
    match scanner.blank(to) {
        end if end == text.len() => Ok(from..to),
        end => Err(Invalid { what: "something behind the value", at: end }),
    }
}

/// The value of the field of that name, the last one as JSON parsers have it, of a text that was scanned.
pub fn find<'a>(text: &'a str, fields: &[Field], name: &str) -> Option<&'a str> {
    let tag = tag(name.as_bytes());
    let field = fields.iter().rev().find(|f| f.tag == tag && f.is_named(text, name))?;
    Some(&text[field.value.clone()])
}

/// The value of an object's field, the last of that name; `None` where there is none, or a name is no Unicode text.
pub fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    if !object.starts_with('{') {
        return None;
    }
    let mut found = None;
    let each = |field: Field| {
        if field.is_named(object, name) {
            found = Some(field.value);
        }
    };
    Scanner { text: object }.items(0, each).ok()?;
    found.map(|value| &object[value])
}

/// An array's element.
pub fn element(array: &str, index: usize) -> Option<&str> {
    if !array.starts_with('[') {
        return None;
    }
    let (mut n, mut found) = (0, None);
    let each = |element: Field| {
        if n == index {
            found = Some(element.value);
        }
        n += 1;
    };
    Scanner { text: array }.items(0, each).ok()?;
    found.map(|value| &array[value])
}

/// What a string with its quotes stands for; `None` where that is no Unicode text (half of a surrogate pair).
#[inline]
pub fn unescape(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if inner.contains('\\') { serde_json::from_str(quoted).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

impl Field {
    /// The name, unescaped; `text` is what was scanned.
    #[inline]
    pub fn name<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.escaped { unescape(&text[self.name.start - 1..=self.name.end]).unwrap_or_default() } else { Cow::Borrowed(&text[self.name.clone()]) }
    }

    fn is_named(&self, text: &str, name: &str) -> bool {
        if self.escaped { self.name(text) == name } else { text.as_bytes()[self.name.clone()] == *name.as_bytes() }
    }
}

/// Functions over a text: each takes where it begins, and returns where what it validated ends.
struct Scanner<'a> {
    text: &'a str,
}

impl Scanner<'_> {
    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// What was found instead of what is expected.
    #[cold]
    fn expected(&self, what: &'static str, at: usize) -> Invalid {
        if at >= self.text.len() { Invalid { what: "it ends too early", at: self.text.len() } } else { Invalid { what, at } }
    }

    #[inline]
    fn blank(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte(at) {
            at += 1;
        }
        at
    }

    /// The items of an object or array that begins here.
    #[inline]
    fn items(&self, from: usize, mut each: impl FnMut(Field)) -> Result<usize, Invalid> {
        let object = self.byte(from) == Some(b'{');
        let close = if object { b'}' } else { b']' };
        let mut at = self.blank(from + 1);
        if self.byte(at) == Some(close) {
            return Ok(at + 1);
        }
        loop {
            let mut field = Field::default();
            if object {
                (at, field.name, field.escaped) = self.name(at)?;
                field.tag = if field.escaped {
                    let name = unescape(&self.text[field.name.start - 1..=field.name.end]);
                    tag(name.ok_or(Invalid { what: "a name that is no Unicode text", at: field.name.start })?.as_bytes())
                } else {
                    tag(&self.text.as_bytes()[field.name.clone()])
                };
            }
            let end = self.value(at)?;
            field.value = at..end;
            each(field);
            at = self.blank(end);
            match self.byte(at) {
                Some(b',') => at = self.blank(at + 1),
                Some(b) if b == close => return Ok(at + 1),
                _ => return Err(self.expected(if object { "no comma and no end of the object" } else { "no comma and no end of the array" }, at)),
            }
        }
    }

    /// A field's name, up to its value.
    #[inline]
    fn name(&self, at: usize) -> Result<(usize, Range<usize>, bool), Invalid> {
        if self.byte(at) != Some(b'"') {
            return Err(self.expected("no field name", at));
        }
        let (end, escaped) = self.string(at + 1)?;
        let colon = self.blank(end);
        if self.byte(colon) != Some(b':') {
            return Err(self.expected("no colon", colon));
        }
        Ok((self.blank(colon + 1), at + 1..end - 1, escaped))
    }

    /// Any value.
    #[inline]
    fn value(&self, at: usize) -> Result<usize, Invalid> {
        match self.byte(at) {
            Some(b'{' | b'[') => self.nested(at),
            _ => self.scalar(at),
        }
    }

    #[inline]
    fn scalar(&self, at: usize) -> Result<usize, Invalid> {
        match self.byte(at) {
            Some(b'"') => self.string(at + 1).map(|(end, _)| end),
            Some(b'-' | b'0'..=b'9') => self.number(at),
            Some(b't') => self.literal(at, "true"),
            Some(b'f') => self.literal(at, "false"),
            Some(b'n') => self.literal(at, "null"),
            _ => Err(self.expected("no value", at)),
        }
    }

    fn literal(&self, at: usize, word: &'static str) -> Result<usize, Invalid> {
        let same = self.text.as_bytes()[at..].iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count();
        if same == word.len() { Ok(at + same) } else { Err(self.expected("no value", at + same)) }
    }

    /// An object or array and all that is in it, without recursion.
    fn nested(&self, from: usize) -> Result<usize, Invalid> {
        let mut open = Nesting::default();
        let mut object = self.byte(from) == Some(b'{');
        let mut first = true;
        let mut at = from + 1;
        loop {
            at = self.blank(at);
            match self.byte(at) {
                Some(b) if b == if object { b'}' } else { b']' } => {
                    at += 1;
                    match open.pop() {
                        Some(outer) => (object, first) = (outer, false),
                        None => return Ok(at),
                    }
                    continue;
                }
                Some(b',') if !first => at = self.blank(at + 1),
                Some(_) if first => {}
                _ => return Err(self.expected(if object { "no comma and no end of the object" } else { "no comma and no end of the array" }, at)),
            }
            if object {
                at = self.name(at)?.0;
            }
            match self.byte(at) {
                Some(b @ (b'{' | b'[')) => {
                    open.push(object);
                    (object, first) = (b == b'{', true);
                    at += 1;
                }
                _ => {
                    at = self.scalar(at)?;
                    first = false;
                }
            }
        }
    }

    /// The rest of a string: where it ends, its quote included, and whether an escape stands in it.
    #[inline]
    fn string(&self, mut at: usize) -> Result<(usize, bool), Invalid> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
                let special = specials(u64::from_le_bytes(*eight));
                if special != 0 {
                    at += special.trailing_zeros() as usize / 8;
                    break;
                }
                at += 8;
            }
            match self.byte(at) {
                Some(b'"') => return Ok((at + 1, escaped)),
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at + 1)?;
                }
                Some(0..0x20) => return Err(Invalid { what: "a control character in a string", at }),
                Some(_) => at += 1,
                None => return Err(self.expected("", at)),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&self, at: usize) -> Result<usize, Invalid> {
        match self.byte(at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
            Some(b'u') => match (at + 1..at + 5).find(|i| !self.byte(*i).is_some_and(|b| b.is_ascii_hexdigit())) {
                None => Ok(at + 5),
                Some(bad) => Err(self.expected("no hexadecimal digit", bad)),
            },
            _ => Err(self.expected("no escape", at)),
        }
    }

    #[inline]
    fn number(&self, from: usize) -> Result<usize, Invalid> {
        let mut at = from + usize::from(self.byte(from) == Some(b'-'));
        at = match self.byte(at) {
            // Nothing may follow a leading zero: a digit there is found to be behind the value.
            Some(b'0') => at + 1,
            _ => self.digits(at)?,
        };
        if self.byte(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.byte(at) {
            at += 1;
            at = self.digits(at + usize::from(matches!(self.byte(at), Some(b'+' | b'-'))))?;
        }
        Ok(at)
    }

    /// One digit or more.
    #[inline]
    fn digits(&self, from: usize) -> Result<usize, Invalid> {
        let mut at = from;
        while let Some(b'0'..=b'9') = self.byte(at) {
            at += 1;
        }
        if at == from { Err(self.expected("no digit", at)) } else { Ok(at) }
    }
}

/// What tells most names apart without looking at them: the length, the first byte and the last two.
#[inline]
fn tag(name: &[u8]) -> u32 {
    let n = name.len();
    let byte = |i: usize| name.get(i).copied().unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, reason = "the lowest byte will do")]
    u32::from_le_bytes([n as u8, byte(0), byte(n.wrapping_sub(2)), byte(n.wrapping_sub(1))])
}

/// Marks the bytes of a word that end a plain run of a string: quote, backslash, control. The lowest mark is exact;
/// above it a borrow may have left a false one.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zeros = |w: u64| w.wrapping_sub(ONES) & !w;
    let quotes = zeros(word ^ (ONES * b'"' as u64));
    let backslashes = zeros(word ^ (ONES * b'\\' as u64));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & HIGH
}

/// Which of the containers around a place are objects, a bit each.
#[derive(Default)]
struct Nesting {
    inner: u64,
    depth: usize,
    /// Full words of the outer ones.
    outer: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(object);
        self.depth += 1;
    }

    fn pop(&mut self) -> Option<bool> {
        self.depth = self.depth.checked_sub(1)?;
        let object = self.inner & 1 == 1;
        self.inner >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Result<Vec<(String, &str)>, Invalid> {
        let mut fields = Vec::new();
        scan(text, &mut fields)?;
        Ok(fields.iter().map(|f| (f.name(text).into_owned(), &text[f.value.clone()])).collect())
    }

    #[test]
    fn fields_come_in_their_order_with_the_text_that_stood_there() {
        let text = r#" { "a" : 1.50 ,"\u0062":"x\"","a":{"c":[ ]}, "":null } "#;
        assert_eq!(scanned(text).unwrap(), [("a".into(), "1.50"), ("b".into(), r#""x\"""#), ("a".into(), r#"{"c":[ ]}"#), (String::new(), "null")]);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (text, what, at) in [
            ("", "it ends too early", 0),
            (r#"{"a":1,}"#, "no field name", 7),
            (r#"{"a" 1}"#, "no colon", 5),
            ("{} x", "something behind the value", 3),
            ("01", "something behind the value", 1),
            ("[1 2]", "no comma and no end of the array", 3),
            ("nul", "it ends too early", 3),
            ("[1,]", "no value", 3),
            ("-", "it ends too early", 1),
            ("\"\u{1}\"", "a control character in a string", 1),
            (r#""\x""#, "no escape", 2),
            (r#""\u12g4""#, "no hexadecimal digit", 5),
            (r#"{"\ud800":1}"#, "a name that is no Unicode text", 2),
        ] {
            assert_eq!(scanned(text), Err(Invalid { what, at }), "{text}");
        }
    }

    #[test]
    fn specials_are_found_at_each_place_of_a_word_and_nothing_else_is() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut word = *b"ab\xc3\xa9 ~}z";
                word[place] = byte;
                let found = specials(u64::from_le_bytes(word));
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(special, found != 0 && found.trailing_zeros() as usize / 8 == place, "{byte:#x} at {place}");
                assert_eq!(special, found != 0, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn nesting_of_any_depth_is_told_apart_level_by_level() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 100_000] {
            let (open, close): (String, String) = ("[{\"a\":".repeat(depth), "}]".repeat(depth));
            assert!(scanned(&format!("{open}1{close}")).is_ok(), "{depth}");
            assert!(scanned(&format!("{open}1{}", close.replacen("}]", "]}", 1))).is_err(), "{depth}");
            let last = close.len() - 1;
            assert!(scanned(&format!("{open}1{}}}", &close[..last])).is_err(), "{depth}");
        }
    }
}
