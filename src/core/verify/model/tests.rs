use super::*;
use crate::core::record::TopicPartition;
use crate::core::template::Template;
use crate::core::write::{Fields, Xadd};

#[test]
fn of_an_id_that_a_write_says_its_time_is_compared_or_all_of_it() {
    let print = |ids: Ids, id: &str| ids.print(id.as_bytes(), [b"a".as_slice(), b"b"]);
    for (said, ids, same, other) in
        [("*", Ids::Given, "7-1", None), ("5-*", Ids::Time, "5-9", Some("6-0")), ("5-3", Ids::Whole, "5-3", Some("5-4")), ("5", Ids::Whole, "5-0", Some("5-1"))]
    {
        assert_eq!(Ids::of(said.as_bytes()), Some(ids), "{said}");
        assert_eq!(print(ids, said), print(ids, same), "{said}");
        assert!(other.is_none_or(|other| print(ids, said) != print(ids, other)), "{said}");
    }
    assert_eq!((Ids::of(b"x-*"), Ids::of(b"-1")), (None, None));
}

#[test]
fn a_stream_of_which_only_some_ids_are_said_is_not_followed() {
    let xadd = |id: &str| {
        let (key, id) = (Template::parse("s").unwrap(), Template::parse(id).unwrap());
        Write::new(Kind::Xadd(Xadd { key, fields: Fields::All, id, trim: None, nomkstream: false, ahead_max_ms: 1_000 }))
    };
    for (ids, followed) in [(["*", "*"], true), (["{timestamp}-*", "{timestamp}-*"], true), (["*", "{timestamp}-*"], false)] {
        let routes = [Route::new("r", "t", ids.map(xadd).into())];
        let mut model = Model::new(routes.into(), vec![Origin { route: 0, write: 0 }], 100);
        model.take(&Record::copy(TopicPartition::new("t", 0), 0, Some(107), None, Some(br#"{"a":1}"#), []), &[0], 0, Pass::Range, true);
        assert_eq!(matches!(model.keys[b"s".as_slice()], Expected::Stream(_)), followed, "{ids:?}");
        assert_eq!(model.ahead_ms, 7);
    }
}

/// What is expected after commands by template, one a write, of one record in the range.
fn after(commands: &[&[&str]]) -> Model {
    let write = |words: &&[&str]| Write::new(Kind::Command(words.iter().map(|w| Template::parse(w).unwrap()).collect()));
    let routes = [Route::new("r", "t", commands.iter().map(write).collect())];
    let chosen = (0..commands.len()).map(|write| Origin { route: 0, write }).collect();
    let mut model = Model::new(routes.into(), chosen, 100);
    model.take(&Record::copy(TopicPartition::new("t", 0), 0, Some(7), None, Some(br#"{"a":1}"#), []), &[0], 0, Pass::Range, true);
    model.narrow();
    model
}

/// In words, what is expected at a key.
fn at(model: &Model, key: &str) -> String {
    match model.keys.get(key.as_bytes()) {
        None => "nothing".into(),
        Some(Expected::Stream(_)) => "stream".into(),
        Some(Expected::Unknown(why)) => why.to_string(),
        Some(Expected::Members(m)) => format!("{:?} of {}{}", m.of, m.elements.len(), if m.expires { ", expires" } else { "" }),
        Some(Expected::Value(value)) => match value.last[&0] {
            Written::Nothing => "deleted".into(),
            Written::Value { print, lives, .. } => format!("{} {lives:?}", if print == super::print(Some(b"v")) { "v" } else { "other" }),
        },
    }
}

#[test]
fn commands_by_template_are_followed_where_what_they_leave_is_known() {
    for (command, expected) in [
        (&["set", "k", "v"][..], "v Forever"),
        (&["SET", "k", "v", "ex", "2"], "v For(2000)"),
        (&["SET", "k", "v", "PXAT", "9"], "v Until(9)"),
        (&["SETEX", "k", "2", "v"], "v For(2000)"),
        (&["PSETEX", "k", "2", "v"], "v For(2)"),
        (&["GETSET", "k", "v"], "v Forever"),
        (&["MSET", "other", "1", "k", "v"], "v Forever"),
        (&["UNLINK", "other", "k"], "deleted"),
        (&["hset", "k", "f", "v"], "Hash of 1"),
        (&["SADD", "k", "a", "b"], "Set of 2"),
        (&["ZADD", "k", "1", "a"], "Sorted of 1"),
        (&["PUBLISH", "k", "v"], "nothing"),
        (&["SET", "k", "v", "NX"], "what SET leaves can't be told"),
        (&["SET", "k", "v", "EX", "2", "GET"], "what SET leaves can't be told"),
        (&["INCR", "k"], "what INCR leaves can't be told"),
        (&["RPUSH", "k", "v"], "what RPUSH leaves can't be told"),
        (&["HSET", "k", "f"], "what HSET leaves can't be told"),
    ] {
        let model = after(&[command]);
        assert_eq!(at(&model, "k"), expected, "{command:?}");
        assert_eq!(model.uncompared.is_empty(), !expected.contains("can't"), "{command:?}: {:?}", model.uncompared);
    }
}

#[test]
fn what_else_writes_a_key_is_followed_or_leaves_it_out_and_is_no_difference() {
    let hset: &[&str] = &["HSET", "k", "f", "v"];
    for (commands, expected) in [
        (&[hset, &["EXPIRE", "k", "60"]][..], "Hash of 1, expires"),
        (&[hset, &["PERSIST", "k"]], "Hash of 1"),
        (&[&["DEL", "k"], hset], "Hash of 1"),
        (&[hset, &["DEL", "k"]], "Hash of 1"),
        (&[hset, &["SET", "k", "v"]], KINDS),
        (&[hset, &["SADD", "k", "a"]], KINDS),
        (&[hset, &["HPEXPIRE", "k", "1", "FIELDS", "1", "f"]], "what HPEXPIRE leaves can't be told"),
        (&[hset, &["RENAME", "other", "k"]], "what RENAME leaves can't be told"),
        (&[&["RENAME", "other", "k"], hset], "what RENAME leaves can't be told"),
        (&[&["SET", "k", "v"], &["EXPIRE", "k", "60"]], "what EXPIRE leaves can't be told"),
        (&[&["SET", "k", "v"], &["APPEND", "k", "w"]], "what APPEND leaves can't be told"),
    ] {
        assert_eq!(at(&after(commands), "k"), expected, "{commands:?}");
    }
}
