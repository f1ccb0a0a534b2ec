//! How counts and writes are named in what people read: the same everywhere.
use std::fmt::Display;

/// A count with its noun, which is given in the singular: `1 entry`, `2 entries`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    if n == N::from(1) {
        return format!("{n} {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{n} {stem}ies"),
        _ => format!("{n} {noun}s"),
    }
}

/// What a count is missing: `1 entry is missing`, `2 entries are missing`.
pub fn missing<N: Copy + Display + PartialEq + From<u8>>(n: N, noun: &str) -> String {
    format!("{} {} missing", counted(n, noun), are(n))
}

/// The verb behind a count.
pub fn are<N: PartialEq + From<u8>>(n: N) -> &'static str {
    if n == N::from(1) { "is" } else { "are" }
}

/// A write of a route: `number` counts from 1, as in `--write` and in the field `write` of dead letters.
pub fn write(route: &str, number: usize, command: &str) -> String {
    format!("route {route}, write {number} ({command})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(0u64, "record"), "0 records");
        assert_eq!((counted(1i64, "entry"), counted(2i64, "entry"), counted(3usize, "key")), ("1 entry".into(), "2 entries".into(), "3 keys".into()));
    }

    #[test]
    fn a_write_is_named_by_route_number_and_command() {
        assert_eq!(write("volatility", 3, "publish"), "route volatility, write 3 (publish)");
    }
}
