//! Fingerprints of the writes that are applied to a topic, kept in each state, so that a changed configuration shows.
//!
//! `route=hash,hash route=hash`: a hash a write. A name's characters that stand between are escaped.
use std::collections::BTreeMap;

/// The fingerprint of one route: its name, and what each of its writes is.
pub fn route<'w>(name: &str, writes: impl Iterator<Item = &'w str>) -> String {
    let name: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c.to_string() } else { format!("%{:x};", u32::from(c)) }).collect();
    let hashes: Vec<String> = writes.map(|w| format!("{:08x}", xxhash_rust::xxh3::xxh3_64(w.as_bytes()) >> 32)).collect();
    format!("{name}={}", hashes.join(","))
}

fn parse(fingerprint: &str) -> BTreeMap<&str, Vec<&str>> {
    fingerprint.split(' ').filter_map(|r| r.split_once('=')).map(|(name, hashes)| (name, hashes.split(',').collect())).collect()
}

/// What is applied now that was not applied before, in words; `None` where there is nothing.
pub fn added(before: &str, now: &str) -> Option<String> {
    let before = parse(before);
    let added = parse(now).into_iter().filter_map(|(name, writes)| match before.get(name) {
        None => Some(format!("route {name}")),
        Some(known) => {
            let new: Vec<String> = (1..).zip(&writes).filter(|(_, w)| !known.contains(w)).map(|(n, _)| n.to_string()).collect();
            (!new.is_empty()).then(|| format!("route {name}, write {}", new.join(" and ")))
        }
    });
    let added: Vec<String> = added.collect();
    (!before.is_empty() && !added.is_empty()).then(|| added.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_told_and_what_was_moved_or_removed_is_not() {
        let one = |writes: &[&str]| route("r", writes.iter().copied());
        assert_eq!(added(&one(&["a", "b"]), &one(&["b", "a"])), None);
        assert_eq!(added(&one(&["a", "b"]), &one(&["a"])), None);
        assert_eq!(added(&one(&["a"]), &one(&["a", "b", "c"])).as_deref(), Some("route r, write 2 and 3"));
        let two = format!("{} {}", one(&["a"]), route("s t", ["x"].into_iter()));
        assert_eq!(added(&one(&["a"]), &two).as_deref(), Some("route s%20;t"));
        assert_eq!(added("", &two), None, "a new group");
    }
}
