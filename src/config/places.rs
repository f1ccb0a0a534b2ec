//! Where the keys of the file stand: line and column, and the line itself, without what may be secret.
use super::reference::{node_at, types};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use toml_edit::{ImDocument, Item, TableLike};

/// What a value or a mistake comes from: a file, perhaps with the place, a variable of the environment, a flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    #[serde(rename = "source")]
    pub name: String,
    #[serde(flatten)]
    pub place: Option<Box<Place>>,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, without what may be secret.
    pub text: String,
    /// What is meant of it, in characters.
    #[serde(skip)]
    marked: Range<usize>,
}

/// The longest line that is shown as a whole.
const SHOWN_MAX: usize = 140;
const HIDDEN: &str = "***";

impl From<String> for Source {
    fn from(name: String) -> Self {
        Self { name, place: None }
    }
}

impl From<&str> for Source {
    fn from(name: &str) -> Self {
        name.to_owned().into()
    }
}

/// `FILE:LINE:COLUMN`, as compilers have it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.place.iter().try_for_each(|p| write!(f, ":{}:{}", p.line, p.column))
    }
}

/// The line, and what is meant of it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let (blank, from) = (" ".repeat(number.len()), " ".repeat(self.marked.start));
        writeln!(f, "    {number} | {}", self.text)?;
        write!(f, "    {blank} | {from}{}", "^".repeat(self.marked.len().max(1)))
    }
}

/// The file's text, and where its keys and values stand in it.
#[derive(Clone, Default)]
pub(super) struct Places {
    text: String,
    /// By the dotted key.
    keys: HashMap<String, Spans>,
    secrets: Vec<Range<usize>>,
}

#[derive(Clone, Debug, Default)]
struct Spans {
    name: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

/// The text may hold a password.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.keys()).finish()
    }
}

impl Places {
    /// Of a text that is TOML.
    pub(super) fn read(text: &str, schema: &Value) -> Self {
        let mut places = Self { text: text.to_owned(), ..Self::default() };
        if let Ok(document) = ImDocument::parse(text) {
            places.table(schema, &[], document.as_table());
        }
        places
    }

    fn table(&mut self, schema: &Value, path: &[String], table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let path: Vec<String> = path.iter().cloned().chain([name.to_owned()]).collect();
            self.item(schema, &path, table.key(name).and_then(toml_edit::Key::span), item.span(), item);
        }
    }

    fn item(&mut self, schema: &Value, path: &[String], name: Option<Range<usize>>, value: Option<Range<usize>>, item: &Item) {
        let below = |i: usize| path.iter().cloned().chain([i.to_string()]).collect::<Vec<_>>();
        if let Some(table) = item.as_table_like() {
            self.table(schema, path, table);
        } else if let Some(tables) = item.as_array_of_tables() {
            for (i, table) in tables.iter().enumerate() {
                self.keys.insert(below(i).join("."), Spans { name: None, value: table.span() });
                self.table(schema, &below(i), table);
            }
        } else if let Some(items) = item.as_array() {
            for (i, value) in items.iter().enumerate() {
                self.item(schema, &below(i), None, value.span(), &Item::Value(value.clone()));
            }
        } else if is_secret(path) || is_misplaced(schema, path) {
            self.secrets.extend(value.clone());
        }
        // Of a table its name stands for all of it.
        let value = if item.is_table() { None } else { value };
        self.keys.insert(super::shape::dotted(path), Spans { name, value });
    }

    /// Where a key's value stands, or the nearest that stands above it; where the key itself does, if the name is meant.
    pub(super) fn of(&self, key: &str, name: bool) -> Option<Box<Place>> {
        let mut above = Some(key);
        while let Some(key) = above {
            if let Some(Spans { name: of_name, value }) = self.keys.get(key) {
                let spans = if name { [of_name, value] } else { [value, of_name] };
                return spans.into_iter().flatten().next().map(|span| self.place(span.clone()));
            }
            above = key.rsplit_once('.').map(|(above, _)| above);
        }
        None
    }

    /// Where a part of a text stands that is a key's value, from a character of the text on; `None` where the file writes the
    /// text in another way (escapes, several lines).
    pub(super) fn inside(&self, key: &str, text: &str, column: usize) -> Option<Box<Place>> {
        let span = self.keys.get(key)?.value.clone()?;
        let plain = self.text.get(span.start + 1..span.end.checked_sub(1)?)? == text && !text.contains('\n');
        let (from, _) = text.char_indices().nth(column.checked_sub(1)?).filter(|_| plain)?;
        let length = text[from..].find(|c: char| c.is_whitespace()).unwrap_or(text.len() - from).max(1);
        let from = span.start + 1 + from;
        self.text.is_char_boundary(from + length).then(|| self.place(from..from + length))
    }

    fn place(&self, span: Range<usize>) -> Box<Place> {
        let begins = self.text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let ends = self.text[begins..].find(['\n', '\r']).map_or(self.text.len(), |at| begins + at);
        let end = span.end.clamp(span.start, ends.max(span.start));
        Box::new(place(&self.text, begins..ends, span.start..end, |part| self.without_secrets(part)))
    }

    fn without_secrets(&self, part: Range<usize>) -> String {
        let (mut shown, mut at) = (String::new(), part.start);
        for secret in self.secrets.iter().filter(|s| s.start < part.end && s.end > part.start) {
            shown.push_str(&self.text[at.min(secret.start)..secret.start.max(at)]);
            shown.push_str(HIDDEN);
            at = secret.end.min(part.end);
        }
        shown.push_str(&self.text[at..part.end]);
        shown
    }
}

/// The place of a syntax error: nobody knows yet what is secret, so only what surely is not is shown.
pub(super) fn of_error(text: &str, schema: &Value, span: Range<usize>) -> Place {
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start.min(text.len()));
    let begins = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let ends = text[begins..].find(['\n', '\r']).map_or(text.len(), |at| begins + at);
    let line = &text[begins..ends];
    let section = text[..begins].lines().rev().find(|l| l.trim_start().starts_with('[')).unwrap_or_default();
    let visible = is_harmless(schema, section, line);
    // As far as the sign behind a name, all is as TOML wants it.
    let known = if visible { line.len() } else { line.find('=').map_or(0, |at| at + 1) };
    let hidden = begins + known;
    let end = floor(span.end.clamp(start, ends.max(start)));
    let shown = |part: Range<usize>| {
        let seen = &text[part.start..part.end.min(hidden).max(part.start)];
        // What is hidden is shown once: as what is marked, where that lies in it.
        let marks = part == (start..end) || (start == end && part.start == end);
        match (part.end > hidden, start > hidden) {
            (false, _) => seen.to_owned(),
            (true, true) if part.end == start => format!("{seen} "),
            (true, true) => if marks { HIDDEN } else { "" }.to_owned(),
            (true, false) if part.start <= hidden => format!("{seen} {HIDDEN}"),
            (true, false) => String::new(),
        }
    };
    place(text, begins..ends, start..end, shown)
}

/// Whether a line that no parser has understood surely holds no secret: it names a known key, and nothing that smells of one.
fn is_harmless(schema: &Value, section: &str, line: &str) -> bool {
    const SECRET: [&str; 8] = ["pass", "secret", "token", "url", "pem", "properties", "sasl", "://"];
    let all = format!("{section} {line}").to_lowercase();
    if SECRET.iter().any(|word| all.contains(word)) {
        return false;
    }
    let name = line.split('=').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    line.trim_start().starts_with('[') || names(schema, name)
}

/// Whether a schema has a key of that name anywhere.
fn names(node: &Value, name: &str) -> bool {
    let here = node.get("properties").is_some_and(|p| p.get(name).is_some());
    here || match node {
        Value::Object(object) => object.values().any(|below| names(below, name)),
        Value::Array(items) => items.iter().any(|below| names(below, name)),
        _ => false,
    }
}

fn place(text: &str, line: Range<usize>, span: Range<usize>, shown: impl Fn(Range<usize>) -> String) -> Place {
    let count = |text: &str| text.chars().count();
    let (before, marked, behind) = (shown(line.start..span.start), shown(span.clone()), shown(span.end..line.end.max(span.end)));
    let (before, marked, behind) = (before.replace('\t', " "), marked.replace('\t', " "), behind.replace('\t', " "));
    // Of a long line what stands around.
    let too_many = (count(&before) + count(&marked)).saturating_sub(SHOWN_MAX / 2).min(count(&before));
    let before = if too_many > 0 { format!("...{}", before.chars().skip(too_many).collect::<String>()) } else { before };
    let from = count(&before);
    let whole: String = before + &marked + &behind;
    let shown: String = whole.chars().take(SHOWN_MAX).collect();
    Place {
        line: text[..line.start].matches('\n').count() + 1,
        column: count(&text[line.start..span.start]) + 1,
        marked: from..(from + count(&marked)).min(count(&shown)).max(from),
        text: if shown.len() < whole.len() { format!("{shown}...") } else { shown }.trim_end().to_owned(),
    }
}

/// Whether what stands at a path is never shown.
pub(super) fn is_secret(path: &[String]) -> bool {
    path.iter().any(|name| name.contains("password") || name == "url" || name == "properties") || path.last().is_some_and(|name| name == "token")
}

/// Whether a plain value stands where nothing is known, or a table should stand: what it is nobody knows. Routes hold no secrets.
fn is_misplaced(schema: &Value, path: &[String]) -> bool {
    let node = node_at(schema, path);
    path[0] != "route" && (node.is_null() || types(node) == ["object"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reference;

    fn at(text: &str, key: &str) -> Option<(usize, usize, String)> {
        let place = Places::read(text, reference::schema()).of(key, false)?;
        Some((place.line, place.column, place.to_string().split(" | ").skip(2).collect()))
    }

    #[test]
    fn a_key_is_found_in_every_form_in_which_toml_writes_it() {
        let text = "redis.lanes = 3\nbatch = { records_max = 5, linger = \"1s\" }\n[kafka]\n  brokers = [\"a:1\", \"b:2\"]\n[kafka.properties]\n\
                    \"client.id\" = \"me\"\n[[route]]\nname = \"r\"\n[[route.write]]\nset = { key = \"k\", value = \"v\" }\n[[route.write]]\ndel.key = 'é'\n";
        for (key, line, column) in [
            ("redis.lanes", 1, 15),
            ("batch.records_max", 2, 25),
            ("batch.linger", 2, 37),
            ("kafka", 3, 2),
            ("kafka.brokers", 4, 13),
            ("kafka.brokers.1", 4, 21),
            ("kafka.properties.client.id", 6, 15),
            ("route.0", 7, 1),
            ("route.0.name", 8, 8),
            ("route.0.write.0.set.value", 10, 28),
            ("route.0.write.0.set.ttl", 10, 7),
            ("route.0.write.1.del.key", 12, 11),
            // What is missing is missing in what stands above it.
            ("route.0.topics", 7, 1),
            ("kafka.group", 3, 2),
        ] {
            assert_eq!(at(text, key).map(|(l, c, _)| (l, c)), Some((line, column)), "{key}");
        }
        assert_eq!(at(text, "log.level"), None);
    }

    #[test]
    fn no_line_shows_a_secret() {
        const SECRET: &str = "hunter2";
        for (line, key) in [
            ("redis = { password = \"hunter2\", lanes = 0 }", "redis.lanes"),
            ("redis = { lanes = 0, url = 'redis://:hunter2@h' }", "redis.lanes"),
            ("redis.password = \"hunter2\"", "redis.password"),
            ("redis.pasword = \"hunter2\"", "redis.pasword"),
            ("redis = \"hunter2\"", "redis"),
            ("redis.lanes = { a = \"hunter2\" }", "redis.lanes"),
            ("kafka.properties = { \"sasl.password\" = \"hunter2\", x = 1 }", "kafka.properties.x"),
            ("serve.token = [{ name = \"n\", token = \"hunter2\" }]", "serve.token.0.name"),
            ("unknown = [\"hunter2\"]", "unknown"),
        ] {
            for name in [false, true] {
                let place = Places::read(line, reference::schema()).of(key, name).unwrap();
                assert!(!place.to_string().contains(SECRET) && place.text.contains(HIDDEN), "{place}");
            }
        }
        for broken in ["[redis]\npassword = hunter2", "pw hunter2", "[kafka.properties]\nx = \"hunter2", "lanes = 1, url = 'redis://hunter2", "x = \"hunter2"] {
            for from in 0..=broken.len() {
                let place = of_error(broken, reference::schema(), from..broken.len());
                assert!(!place.to_string().contains(SECRET), "{place}");
            }
        }
        let place = of_error("[redis]\nlanes = = 2\n", reference::schema(), 16..17);
        assert_eq!(place.to_string(), "    2 | lanes = = 2\n      |         ^");
    }

    #[test]
    fn a_long_line_is_shown_around_what_is_meant() {
        let text = format!("[kafka]\nbrokers = [{}\"last\"]\n", "\"broker:9092\", ".repeat(50));
        let place = Places::read(&text, reference::schema()).of("kafka.brokers.50", false).unwrap();
        let shown = place.to_string();
        assert!(shown.contains("\"last\"]") && shown.lines().all(|l| l.chars().count() < 160), "{shown}");
        let caret = shown.lines().nth(1).unwrap().find('^').unwrap();
        assert!(shown.lines().next().unwrap()[caret..].starts_with("\"last\""), "{shown}");
    }
}
