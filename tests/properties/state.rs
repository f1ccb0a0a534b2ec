//! What the bridge writes beside the data, it reads back as it was; what others wrote there, it refuses by name.
use kafka_redis_bridge::core::claim::Marked;
use kafka_redis_bridge::core::rebuild::Rebuild;
use kafka_redis_bridge::core::record::TopicPartition;
use kafka_redis_bridge::core::reply::Reply;
use kafka_redis_bridge::core::state::{Expected, Guarded, Last, State, StateKey, check_guard};

const FIELDS: [&str; 8] = ["version", "offset", "epoch", "owner", "unread", "last", "routes", "other"];

/// Lines `N value`, the value of the Nth field as Redis could hold it.
pub(crate) fn check(bytes: &[u8]) {
    let field = |line: &[u8]| {
        let (n, value) = line.split_first()?;
        Some((FIELDS[usize::from(n & 7)].as_bytes().to_vec(), value.to_vec()))
    };
    let fields: Vec<_> = bytes.split(|b| *b == b'\n').filter_map(field).collect();
    match State::decode(&fields) {
        Ok(state) => {
            let text = |name: &str| fields.iter().rev().find(|(n, v)| n == name.as_bytes() && !v.is_empty()).map(|(_, v)| String::from_utf8_lossy(v));
            assert_eq!(state.offset, text("offset").map(|t| t.parse().unwrap()));
            assert_eq!(state.unread, text("unread").map(|t| t.parse().unwrap()));
            assert!(state.last.is_none_or(|last| Last::decode(&last.encode()) == Some(last)));
        }
        Err(why) => assert!(FIELDS.iter().any(|f| why.contains(f)), "{why} names no field"),
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(marked) = Marked::decode(&text) {
        assert_eq!(Marked::decode(&marked.encode()), Some(marked));
    }
    names_are_told_apart(&text);
}

/// The parts of a key, separated by zero bytes, give another key than the same parts cut elsewhere.
fn names_are_told_apart(text: &str) {
    let parts: Vec<&str> = text.split('\0').collect();
    let [prefix, group, topic, ..] = parts.as_slice() else { return };
    let key = |prefix: &str, group: &str, topic: &str, n| StateKey::partition(prefix, group, &TopicPartition::new(topic, n)).0;
    let this = key(prefix, group, topic, 1);
    assert!(!this.contains(&b'{') && !this.contains(&b'}'));
    let mut others = vec![key(prefix, group, topic, 11), key(group, prefix, topic, 1), key(prefix, topic, group, 1), StateKey::store_id(prefix).0];
    others.push(key(&format!("{prefix}:state"), group, topic, 1));
    others.push(key(prefix, &format!("{group}:{topic}"), "", 1));
    others.push(key(prefix, "", &format!("{group}:{topic}"), 1));
    let same = |a: &str, b: &str| a == b;
    for (i, other) in others.iter().enumerate() {
        // Swapped parts that are equal are the same key, rightly.
        let equal = i == 1 && same(prefix, group) || i == 2 && same(group, topic);
        assert_eq!(*other == this, equal, "{}", String::from_utf8_lossy(&this));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_redis_bridge::core::claim::Guarantee;
    use proptest::prelude::*;

    /// Names made of what is escaped and what escapes look like.
    fn name() -> impl Strategy<Value = String> {
        "([a:%{}]|%3A|%25|state|[0-9]|\\PC){0,5}"
    }

    proptest! {
        #![proptest_config(crate::cases(2000))]

        #[test]
        fn no_two_partitions_share_a_key(a in (name(), name(), name(), 0i32..12), b in (name(), name(), name(), 0i32..12)) {
            let key = |(prefix, group, topic, n): &(String, String, String, i32)| StateKey::partition(prefix, group, &TopicPartition::new(topic.as_str(), *n));
            prop_assert_eq!(key(&a) == key(&b), a == b);
            prop_assert_ne!(key(&a), StateKey::store_id(&b.0));
            prop_assert_eq!(StateKey::store_id(&a.0) == StateKey::store_id(&b.0), a.0 == b.0);
        }

        #[test]
        fn the_last_record_comes_back_as_it_was(offset: i64, timestamp_ms: Option<i64>, fingerprint: u64) {
            let last = Last { offset, timestamp_ms, fingerprint };
            prop_assert_eq!(Last::decode(&last.encode()), Some(last));
        }

        #[test]
        fn a_state_comes_back_as_it_was(offset: i64, epoch: i64, owner: Vec<u8>, unread: Option<i64>, routes: Vec<u8>, last: Option<(i64, Option<i64>, u64)>, rebuild: Option<(i64, Option<i64>)>) {
            let last = last.map(|(offset, timestamp_ms, fingerprint)| Last { offset, timestamp_ms, fingerprint });
            let rebuild = rebuild.map(|(until, alone)| Rebuild { until, alone });
            let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default().into_bytes();
            let fields = [
                ("version", b"1".to_vec()),
                ("offset", number(Some(offset))),
                ("epoch", number(Some(epoch))),
                ("owner", owner.clone()),
                ("unread", number(unread)),
                ("last", last.map(Last::encode).unwrap_or_default().into_bytes()),
                ("routes", routes.clone()),
                ("rebuild", rebuild.map(Rebuild::encode).unwrap_or_default().into_bytes()),
            ];
            let fields: Vec<_> = fields.into_iter().map(|(n, v)| (n.as_bytes().to_vec(), v)).collect();
            let expected = State { version: Some(1), offset: Some(offset), epoch, owner, unread, last, routes, rebuild };
            prop_assert_eq!(State::decode(&fields), Ok(expected));
        }

        #[test]
        fn what_others_wrote_is_refused_by_the_fields_name_or_read(bytes in proptest::collection::vec(prop_oneof![0u8..8, b'0'..=b'9', Just(b'\n'), Just(b' '), Just(b'-'), any::<u8>()], 0..60)) {
            check(&bytes);
        }

        #[test]
        fn a_commits_mark_comes_back_as_it_was(exactly: bool, store_id in "[0-9a-f]{0,32}") {
            let marked = Marked { guarantee: if exactly { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce }, store_id };
            prop_assert_eq!(Marked::decode(&marked.encode()), Some(marked));
        }

        #[test]
        fn only_the_very_answer_that_is_expected_holds(owner in "[ab]{1,2}", offset in 0i64..3, unread in proptest::option::of(0i64..3), answer in proptest::collection::vec(proptest::option::of("[ab]{1,2}|[0-3]|"), 0..5)) {
            let expected = Expected { owner: owner.clone().into_bytes(), offset, unread };
            let very = [Some(owner), Some(offset.to_string()), Some(unread.map(|n| n.to_string()).unwrap_or_default())];
            let reply = Reply::Array(answer.iter().map(|v| v.as_ref().map_or(Reply::Nil, |t| Reply::Text(t.as_str().into()))).collect());
            prop_assert_eq!(check_guard(&reply, &expected) == Guarded::Holds, answer == very);
        }
    }
}
