//! What conditions mean, and what is said of those that mean nothing.
use super::*;
use crate::core::decode::{Document, Scratch};
use crate::core::record::{Record, TopicPartition};

const VALUE: &str = r#"{"price":42000.0,"realized_vol":0.35,"n":3,"zero":0,"on":true,"off":false,"side":"buy","digits":"0.6","null":null,
    "a":{"b":[5,{"c":"x"}]},"a.b":"dot","caf\u00e9":"\u00c9t\u00c9","half":"\ud800","big":9007199254740993,"huge":1e999,"24h":1}"#;

fn record() -> Record {
    let headers =
        [("venue", Some(&b"first"[..])), ("venue", Some(&b"one"[..])), ("content-type", Some(&b"a/b"[..])), ("bad", Some(&b"\xff"[..])), ("null", None)];
    Record::copy(TopicPartition::new("ticks", 3), 7, Some(1000), Some(b"BTC/USD"), Some(VALUE.as_bytes()), headers)
}

fn ask(condition: &str) -> Result<bool, String> {
    let condition = Condition::parse(condition).unwrap_or_else(|m| panic!("{condition}: {m:?}"));
    let (record, mut scratch) = (record(), Scratch::default());
    let fields = Fields::Of(Document::parse(VALUE, &mut scratch).unwrap());
    condition.holds(&Subject { record: &record, fields }).map_err(|fault| fault.to_string())
}

#[test]
fn what_holds_and_what_does_not() {
    for holds in [
        "value.realized_vol > 0.30",
        "value.realized_vol >= 0.35 and value.realized_vol <= 0.35",
        "value.price / 2 - 1000 == 20000",
        "1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 7 - 2 - 1 == 4 and 7 % 4 == 3 and -value.n < 0",
        "value.price > value.realized_vol and value.side == value.a.b[1].c or value.on",
        "value.on and not value.off and value.on != value.off",
        "value.on == true and (value.n > 1) == value.on",
        "not value.n > 5",
        "value.\"a.b\" == 'dot' and value.a.b[0] == 5 and value.24h == 1",
        "value.caf\u{e9} == '\u{c9}t\u{c9}' and lower(value.caf\u{e9}) == '\u{e9}t\u{e9}' and length(value.caf\u{e9}) == 3",
        "key == 'BTC/USD' and topic == \"ticks\" and partition == 3 and offset % 7 == 0 and timestamp >= 1000",
        "header.venue == 'one' and header.\"content-type\" == 'a/b'",
        "has(value.price) and has(key) and has(header.venue) and has(header.bad) and has(value.huge) and has(value.a)",
        "not has(value.none) and not has(value.null) and not has(value.half) and not has(header.null) and not has(value.a.b[9])",
        "value.none ?? 0 == 0 and value.none ?? -1 < 0 and value.none ?? value.n == 3 and value.null ?? value.none ?? 'x' == 'x'",
        "value.n ?? 0 == 3 and header.none ?? key == 'BTC/USD' and value.none ?? true",
        "number(value.digits) > 0.5 and number(value.n) == 3 and number(header.none ?? ' 4 ') == 4",
        "contains(key, '/') and starts_with(key, 'BTC') and ends_with(key, 'USD') and contains(payload, 'realized')",
        "matches(key, '^(BTC|ETH)/USD$') and not matches(key, '^USD')",
        "value.big == 9007199254740993 and value.big != 9007199254740992 and value.big > 9007199254740992.0",
        "value.side in ('sell', 'buy') and not key in ('ETH/USD') and value.n in (1 + 1, value.a.b[0] - 2) and value.on in (true)",
        "value.n in ('x', 3) and value.in ?? 1 in (1) and (value.none in (1, 2) or value.n in (value.none, 3))",
        "abs(value.realized_vol - 1) > 0.6 and value.side < 'c' and 'it''s' == \"it's\"",
        // What decides is enough, whatever can't be told of the rest, on either side.
        "value.n == 3 or value.none > 1",
        "value.none > 1 or value.n == 3",
        "not (value.none > 1 and value.n == 4)",
        "not (value.n == 4 and value.none > 1)",
    ] {
        assert_eq!(ask(holds), Ok(true), "{holds}");
        assert_eq!(ask(&format!("not ({holds})")), Ok(false), "{holds}");
    }
}

#[test]
fn what_can_not_be_told_says_why() {
    for (condition, why) in [
        ("value.none > 1", "the record has nothing for value.none"),
        ("value.null > 1", "the record has nothing for value.null"),
        ("value.none ?? value.null == 'x'", "the record has nothing for value.none and value.null"),
        ("value.side > 1", "value.side is text where a number is needed"),
        ("value.digits > 0.5", "value.digits is text where a number is needed"),
        ("value.n == 'buy'", "value.n is a number where text is needed"),
        ("value.n == value.side", "value.n is a number, which == can't compare with text"),
        ("value.on < value.off", "value.on is true or false, which < can't compare with true or false"),
        ("value.n", "value.n is a number where true or false is needed"),
        ("value.a == 'x'", "value.a is an object where text is needed"),
        ("value.a.b == value.a.b", "value.a.b is an array, which == can't compare with an array"),
        ("value.huge > 1", "value.huge is a number beyond 1.8e308 where a number is needed"),
        ("number(value.side) > 1", "value.side is text that is no number where a number is needed"),
        ("number(value.on) > 1", "value.on is true or false where a number is needed"),
        ("header.bad == 'x'", "header.bad is bytes that are no UTF-8 where text is needed"),
        ("value.price / value.zero > 1", "value.zero, by which it divides, is zero"),
        ("value.price % (value.n - 3) > 1", "value.n - 3, by which it divides, is zero"),
        ("value.price * 1e308 > 1", "value.price * 1e308 comes to more than 1.8e308"),
        ("value.\"no such\" == 1", "the record has nothing for value.\"no such\""),
        ("value.none in (1, 2)", "the record has nothing for value.none"),
        ("value.side in ('sell', 1)", "value.side is text where a number is needed"),
        ("value.n == 3 and value.none > 1", "the record has nothing for value.none"),
        ("value.none > 1 or value.n == 4 or header.none == 'x'", "the record has nothing for value.none"),
    ] {
        assert_eq!(ask(condition), Err(why.into()), "{condition}");
    }
}

#[test]
fn what_means_nothing_is_refused_at_its_place_with_what_is_allowed() {
    for (bad, column, found, allowed, nearest) in [
        ("", 1, "the end", "a field such as", None),
        ("value.x >", 10, "the end", "a field such as", None),
        ("value.x > > 1", 11, "\">\"", "a field such as", None),
        ("value.x = 1", 9, "\"=\"", "==", None),
        ("value.x && key", 9, "\"&&\"", "and", None),
        ("!value.x", 1, "\"!\"", "not", None),
        ("vaule.x > 1", 1, "\"vaule.x\"", "value.FIELD", Some("value.x")),
        ("\u{e9}t\u{e9} > 1", 1, "\"\u{e9}t\u{e9}\"", "value.FIELD", Some("value.\u{e9}t\u{e9}")),
        ("'\u{e9}' == 'b' and kye == 'c'", 16, "\"kye\"", "value.FIELD", Some("key")),
        ("value > 1", 1, "\"value\"", "a field behind it", None),
        ("value.", 6, "\".\" without a name", "value.price", None),
        ("value[x] == 1", 6, "an index that is none", "[0]", None),
        ("header == 'x'", 1, "\"header\"", "one name behind it", None),
        ("header.a.b == 'x'", 1, "\"header.a.b\"", "one name behind it", None),
        ("key.x == 'x'", 1, "\"key.x\"", "key without anything behind it", None),
        ("key > 1", 1, "text", "a number", None),
        ("topic + 1 > 1", 1, "text", "a number", None),
        ("1 == 'x'", 6, "text", "a number", None),
        ("true < false", 6, "\"<\" between what is true or false", "== or !=", None),
        ("value.x == 1 == true", 14, "\"==\"", "one comparison", None),
        ("1 < value.x < 2", 13, "\"<\"", "joined by and", None),
        ("value.x in 1", 12, "\"1\"", "a list in parentheses", None),
        ("value.x in ()", 13, "\")\"", "a field such as", None),
        ("value.x in (1, 2", 17, "the end", "\")\"", None),
        ("key in ('a', 1)", 1, "text", "a number", None),
        ("value.x in (1) == true", 16, "\"==\"", "one comparison", None),
        ("in (1)", 1, "\"in\"", "a field such as", None),
        ("value.x + 1", 1, "a number", "what is true or false", None),
        ("key", 1, "text", "what is true or false", None),
        ("not key", 5, "text", "what is true or false", None),
        ("value.a and 1", 13, "a number", "what is true or false", None),
        ("(value.a", 9, "the end", "\")\"", None),
        ("value.a)", 8, "\")\"", "the end", None),
        ("value.a value.b", 9, "\"value.b\"", "the end", None),
        ("'x", 1, "a text without its end", "doubled", None),
        ("value.x > 1.", 11, "\"1.\"", "a number as JSON writes it", None),
        ("value.x > 0x10", 11, "\"0x10\"", "a number as JSON writes it", None),
        ("value.x > 1e999", 11, "\"1e999\"", "a number as JSON writes it", None),
        ("value.x > 1;", 12, "';'", "the signs", None),
        ("contain(key, 'x')", 1, "the function \"contain\"", "contains(TEXT, PART)", Some("contains")),
        ("contains(key)", 1, "contains of 1", "contains(TEXT, PART)", None),
        ("matches(key, 'a', 'b')", 1, "matches of 3", "matches(TEXT, 'PATTERN')", None),
        ("has()", 1, "has of 0", "has(FIELD)", None),
        ("has(value.x ?? 1)", 5, "\"value.x ?? 1\"", "one of key", None),
        ("matches(key, '(')", 14, "\"(\", unclosed group", "a regular expression", None),
        ("matches(key, value.x)", 14, "a field", "a pattern in quotes", None),
        ("matches(key, 'a{999}{999}')", 14, "\"a{999}{999}\"", "a regular expression", None),
        ("number(offset) > 1", 8, "a number", "a field", None),
        ("offset ?? 'x' == 'x'", 11, "text in the place of a number", "a number", None),
        ("key ?? 1 == 1", 8, "a number in the place of text", "number(...)", None),
        ("-key < 1", 2, "text", "a number", None),
    ] {
        let mistake = Condition::parse(bad).expect_err(bad);
        assert_eq!((mistake.column, mistake.nearest.as_deref()), (column, nearest), "{bad}: {mistake:?}");
        assert!(mistake.found.starts_with(found) && mistake.allowed.contains(allowed), "{bad}: {mistake:?}");
    }
}

#[test]
fn what_was_probably_meant_is_said() {
    for (bad, column, found, allowed, nearest) in [
        ("total > 1000", 1, "\"total\"", "value.total for a field", Some("value.total")),
        ("order.total > 1000", 1, "\"order.total\"", "value.order.total for a field", Some("value.order.total")),
        ("id == 5", 1, "\"id\"", "value.id for a field", Some("value.id")),
        ("value.status == paid", 17, "\"paid\"", "'paid', in quotes, for the text; value.paid for a field", Some("'paid'")),
        ("value.status == b.c", 17, "\"b.c\"", "value.b.c for a field", Some("value.b.c")),
        ("value.side in ('buy', sell)", 23, "\"sell\"", "'sell', in quotes", Some("'sell'")),
        ("value.x == lower(abc)", 18, "\"abc\"", "'abc', in quotes", Some("'abc'")),
        ("value.x == 1 and total", 18, "\"total\"", "value.total", Some("value.total")),
        ("value.on == True", 13, "\"True\"", "'True', in quotes", Some("true")),
        ("value.x == null", 12, "\"null\"", "not has(FIELD) where there is nothing", None),
        ("value.x > 1 AND key == 'a'", 13, "\"AND\"", "the end, or and", Some("and")),
        ("value.x < 1 ro key == 'a'", 13, "\"ro\"", "the end, or and", Some("or")),
        ("exists(value.x)", 1, "the function \"exists\"", "has(FIELD)", Some("has")),
        ("startsWith(key, 'a')", 1, "the function \"startsWith\"", "starts_with(TEXT, PART)", Some("starts_with")),
        ("5 % 0 == 0", 1, "\"5 % 0\" (it always divides by zero)", "that has a result", None),
        ("value.x / (2 - 2) > 1", 1, "\"value.x / (2 - 2)\" (it always divides by zero)", "that has a result", None),
        ("value.x > 1e308 * 10", 11, "\"1e308 * 10\" (it is always beyond 1.8e308)", "that has a result", None),
    ] {
        let mistake = Condition::parse(bad).expect_err(bad);
        assert_eq!((mistake.column, mistake.nearest.as_deref()), (column, nearest), "{bad}: {mistake:?}");
        assert!(mistake.found.starts_with(found) && mistake.allowed.contains(allowed), "{bad}: {mistake:?}");
    }
}

#[test]
fn depth_and_length_are_bounded_and_lists_are_not_deep() {
    for deep in [
        format!("{}true{}", "(".repeat(1000), ")".repeat(1000)),
        format!("{}true", "not ".repeat(1000)),
        format!("{}1 > 0", "-".repeat(1000)),
        format!("1{} > 0", " + 1".repeat(1000)),
        format!("value.a{} > 0", " ?? value.a".repeat(300)),
        format!("{}1{} > 0", "abs(".repeat(1000), ")".repeat(1000)),
    ] {
        let mistake = Condition::parse(&deep).unwrap_err();
        assert!(mistake.allowed.contains("64 operations") || mistake.allowed.contains("4096 bytes"), "{mistake:?}");
    }
    assert!(Condition::parse(&format!("true{}", " and true".repeat(400))).is_ok());
    assert_eq!(Condition::parse(&format!("true{}", " and true".repeat(500))).unwrap_err().allowed, "at most 4096 bytes");
}

#[test]
fn what_nobody_can_tell_of_a_value_is_said_apart_and_the_rest_still_decides() {
    let record = record();
    let unknown = Subject { record: &record, fields: Fields::Unknown };
    let none = Subject { record: &record, fields: Fields::None };
    for (condition, if_unknown, if_none) in [
        ("value.price > 1", None, None),
        ("has(value.price)", None, Some(false)),
        ("value.price ?? 5 > 1", None, Some(true)),
        ("key == 'other' and value.price > 1", Some(false), Some(false)),
        ("value.price > 1 or key == 'BTC/USD'", Some(true), Some(true)),
    ] {
        let condition = Condition::parse(condition).unwrap();
        assert!(condition.needs_fields());
        assert_eq!(condition.holds(&unknown).map_err(|f| f == Fault::Unknown), if_unknown.ok_or(true), "{}", condition.text());
        assert_eq!(condition.holds(&none).map_err(|f| f == Fault::Unknown), if_none.ok_or(false), "{}", condition.text());
    }
    assert!(!Condition::parse("has(key) and header.value == 'x'").unwrap().needs_fields());
}

#[test]
fn what_no_record_can_change_is_known_beforehand() {
    for (condition, constant) in [
        ("5 % 2 == 1", Some(true)),
        ("not lower('A') == 'a'", Some(false)),
        ("matches('abc', 'b') and length('abc') == 3", Some(true)),
        ("value.x > 1 or true", Some(true)),
        ("false and value.x > 1", Some(false)),
        ("value.x > 1 and true", None),
        ("value.x ?? 1 == 1", None),
        ("has(key)", None),
        ("partition == 3", None),
    ] {
        assert_eq!(Condition::parse(condition).unwrap().truth().constant(), constant, "{condition}");
    }
}
