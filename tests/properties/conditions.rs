//! Conditions: whatever is written is read or refused with its place, what is read prints as itself, and what it says of a
//! record is what a naive evaluator over serde_json's values says.
use kafka_redis_bridge::core::condition::{Condition, Fields, Subject};
use kafka_redis_bridge::core::decode::{Decoded, Format, Scratch};
use kafka_redis_bridge::core::record::{Record, TopicPartition};

/// A condition, a key and a payload, separated by zero bytes.
pub(crate) fn check(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |b| *b == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let (key, payload) = (parts.next(), parts.next());
    let condition = match Condition::parse(&text) {
        Ok(condition) => condition,
        Err(mistake) => {
            assert!((1..=text.chars().count() + 1).contains(&mistake.column), "{text:?}: {mistake:?}");
            assert!(!mistake.found.is_empty() && !mistake.allowed.is_empty(), "{text:?}: {mistake:?}");
            return;
        }
    };
    assert_eq!(condition.text(), text);
    prints_as_itself(&condition);
    let record = Record::copy(TopicPartition::new("t", 3), -7, Some(5), key, payload, [("h", Some(&b"one"[..]))]);
    let mut scratch = Scratch::default();
    let fields = match Format::Json.decode(record.payload(), &mut scratch) {
        Decoded::Fields(document) => Fields::Of(document),
        Decoded::Opaque => Fields::None,
        Decoded::Dead(_) => Fields::Unknown,
    };
    let held = condition.holds(&Subject { record: &record, fields }).map_err(|fault| fault.to_string());
    assert_ne!(held, Err(String::new()));
    if !condition.needs_fields() {
        assert_eq!(condition.holds(&Subject { record: &record, fields: Fields::Unknown }).map_err(|fault| fault.to_string()), held, "{text:?}");
    }
}

fn prints_as_itself(condition: &Condition) {
    let printed = condition.truth().to_string();
    // With all its parentheses it may have become too long.
    if printed.len() <= 4096 {
        let again = Condition::parse(&printed).unwrap_or_else(|mistake| panic!("{:?} prints as {printed:?}: {mistake:?}", condition.text()));
        assert_eq!((again.truth(), again.needs_fields()), (condition.truth(), condition.needs_fields()), "{:?} prints as {printed:?}", condition.text());
        assert_eq!(again.truth().to_string(), printed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    /// What the naive evaluator knows: a value, or that there is none to be had.
    type Naive = Result<Value, ()>;
    type Meaning = std::rc::Rc<dyn Fn(&Map<String, Value>) -> Naive>;

    /// A piece of a condition, and what it comes to.
    #[derive(Clone)]
    struct Piece {
        text: String,
        /// It holds together without parentheses.
        simple: bool,
        meaning: Meaning,
    }

    impl std::fmt::Debug for Piece {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.text)
        }
    }

    impl Piece {
        fn new(text: impl Into<String>, simple: bool, meaning: impl Fn(&Map<String, Value>) -> Naive + 'static) -> Self {
            Self { text: text.into(), simple, meaning: std::rc::Rc::new(meaning) }
        }

        fn operand(&self) -> String {
            if self.simple { self.text.clone() } else { format!("({})", self.text) }
        }
    }

    fn number(value: &Value) -> Result<f64, ()> {
        value.as_f64().ok_or(())
    }

    fn truth(value: &Value) -> Result<bool, ()> {
        value.as_bool().ok_or(())
    }

    fn text(value: &Value) -> Result<String, ()> {
        value.as_str().map(str::to_owned).ok_or(())
    }

    const FIELDS: [&str; 6] = ["a", "b", "c", "d", "e e", "none"];

    /// A field as it is written, and its name.
    fn field() -> impl Strategy<Value = (String, &'static str)> {
        proptest::sample::select(&FIELDS[..]).prop_map(|name| (if name.contains(' ') { format!("value.\"{name}\"") } else { format!("value.{name}") }, name))
    }

    fn found<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
        object.get(name).filter(|v| !v.is_null())
    }

    /// A field, with or without what stands in for it.
    fn fields(default: impl Strategy<Value = Piece> + 'static, kind: fn(&Value) -> bool) -> BoxedStrategy<Piece> {
        let alone = field().prop_map(move |(written, name)| Piece::new(written, true, move |o| found(o, name).filter(|v| kind(v)).cloned().ok_or(())));
        let instead = (field(), default).prop_map(move |((written, name), default)| {
            Piece::new(format!("{written} ?? {}", default.operand()), true, move |o| match found(o, name) {
                Some(v) => Some(v).filter(|v| kind(v)).cloned().ok_or(()),
                None => (default.meaning)(o),
            })
        });
        prop_oneof![3 => alone, 1 => instead].boxed()
    }

    fn numbers() -> BoxedStrategy<Piece> {
        let constant = prop_oneof![
            (0..9i32).prop_map(|n| (n.to_string(), json!(n))),
            (0..36i32).prop_map(|n| (format!("{:?}", f64::from(n) / 4.0), json!(f64::from(n) / 4.0)))
        ]
        .prop_map(|(text, value)| Piece::new(text, true, move |_| Ok(value.clone())));
        let leaf = prop_oneof![constant.clone(), fields(constant, Value::is_number), Just(Piece::new("offset", true, |_| Ok(json!(-7))))];
        leaf.prop_recursive(3, 12, 2, |inner| {
            let operation = (inner.clone(), proptest::sample::select(&["+", "-", "*", "/", "%"][..]), inner.clone()).prop_map(|(a, sign, b)| {
                let written = format!("{} {sign} {}", a.operand(), b.operand());
                Piece::new(written, false, move |o| {
                    let (a, b) = (number(&(a.meaning)(o)?)?, number(&(b.meaning)(o)?)?);
                    let result = match sign {
                        "+" => a + b,
                        "-" => a - b,
                        "*" => a * b,
                        "/" => a / b,
                        _ => a % b,
                    };
                    if result.is_finite() { Ok(json!(result)) } else { Err(()) }
                })
            });
            let negative = inner.clone().prop_map(|a| Piece::new(format!("-{}", a.operand()), false, move |o| Ok(json!(-number(&(a.meaning)(o)?)?))));
            let absolute = inner.prop_map(|a| Piece::new(format!("abs({})", a.text), true, move |o| Ok(json!(number(&(a.meaning)(o)?)?.abs()))));
            let length = texts().prop_map(|t| Piece::new(format!("length({})", t.text), true, move |o| Ok(json!(text(&(t.meaning)(o)?)?.chars().count()))));
            prop_oneof![3 => operation, 1 => negative, 1 => absolute, 1 => length]
        })
        .boxed()
    }

    fn texts() -> BoxedStrategy<Piece> {
        let constant = "[aB\"' \u{c9}]{0,3}".prop_map(|t| Piece::new(format!("'{}'", t.replace('\'', "''")), true, move |_| Ok(json!(t))));
        let leaf = prop_oneof![
            constant.clone(),
            fields(constant, Value::is_string),
            Just(Piece::new("header.h", true, |_| Ok(json!("oNe")))),
            Just(Piece::new("key", true, |_| Err(())))
        ];
        let lowered = leaf.clone().prop_map(|t| Piece::new(format!("lower({})", t.text), true, move |o| Ok(json!(text(&(t.meaning)(o)?)?.to_lowercase()))));
        prop_oneof![3 => leaf, 1 => lowered].boxed()
    }

    fn compare<T: PartialOrd>(sign: &str, a: &T, b: &T) -> bool {
        match sign {
            "==" => a == b,
            "!=" => a != b,
            "<" => a < b,
            "<=" => a <= b,
            ">" => a > b,
            _ => a >= b,
        }
    }

    /// One of several things.
    fn among() -> impl Strategy<Value = Piece> {
        let in_numbers = (numbers(), proptest::collection::vec((0..9i32).prop_map(|n| n.to_string()), 1..4)).prop_map(|(a, list)| {
            Piece::new(format!("{} in ({})", a.text, list.join(", ")), false, move |o| {
                let a = number(&(a.meaning)(o)?)?;
                Ok(json!(list.iter().any(|n| n.parse() == Ok(a))))
            })
        });
        let in_texts = (texts(), proptest::collection::vec(texts(), 1..4)).prop_filter_map("of what is known to be a text", |(a, list)| {
            (!a.text.starts_with("value.")).then(|| {
                let written = list.iter().map(|t| t.text.clone()).collect::<Vec<_>>().join(", ");
                Piece::new(format!("{} in ({written})", a.text), false, move |o| {
                    let a = text(&(a.meaning)(o)?)?;
                    let found: Vec<_> = list.iter().map(|b| (b.meaning)(o).and_then(|v| text(&v)).map(|b| a == b)).collect();
                    if found.contains(&Ok(true)) {
                        Ok(json!(true))
                    } else if found.contains(&Err(())) {
                        Err(())
                    } else {
                        Ok(json!(false))
                    }
                })
            })
        });
        prop_oneof![in_numbers, in_texts]
    }

    fn truths() -> BoxedStrategy<Piece> {
        let sign = || proptest::sample::select(&["==", "!=", "<", "<=", ">", ">="][..]);
        let of_numbers = (numbers(), sign(), numbers()).prop_filter_map("of what is known to be a number", |(a, sign, b)| {
            let known = |p: &Piece| !p.text.starts_with("value.") || !p.simple;
            (known(&a) || known(&b)).then(|| {
                Piece::new(format!("{} {sign} {}", a.text, b.text), false, move |o| {
                    Ok(json!(compare(sign, &number(&(a.meaning)(o)?)?, &number(&(b.meaning)(o)?)?)))
                })
            })
        });
        let of_texts = (texts(), sign(), texts()).prop_filter_map("of what is known to be a text", |(a, sign, b)| {
            let known = |p: &Piece| !p.text.starts_with("value.");
            (known(&a) || known(&b)).then(|| {
                Piece::new(format!("{} {sign} {}", a.text, b.text), false, move |o| {
                    Ok(json!(compare(sign, &text(&(a.meaning)(o)?)?, &text(&(b.meaning)(o)?)?)))
                })
            })
        });
        let of_fields = (field(), sign(), field()).prop_map(|((a, a_name), sign, (b, b_name))| {
            Piece::new(format!("{a} {sign} {b}"), false, move |o| match (found(o, a_name).ok_or(())?, found(o, b_name).ok_or(())?) {
                (Value::Number(a), Value::Number(b)) => Ok(json!(compare(sign, &a.as_f64(), &b.as_f64()))),
                (Value::String(a), Value::String(b)) => Ok(json!(compare(sign, a, b))),
                (Value::Bool(a), Value::Bool(b)) if sign == "==" || sign == "!=" => Ok(json!(compare(sign, a, b))),
                _ => Err(()),
            })
        });
        let has = field().prop_map(|(written, name)| Piece::new(format!("has({written})"), true, move |o| Ok(json!(found(o, name).is_some()))));
        let within = (texts(), texts(), 0..3usize).prop_map(|(a, b, place)| {
            let name = ["contains", "starts_with", "ends_with"][place];
            Piece::new(format!("{name}({}, {})", a.text, b.text), true, move |o| {
                let (a, b) = (text(&(a.meaning)(o)?)?, text(&(b.meaning)(o)?)?);
                Ok(json!([a.contains(&b), a.starts_with(&b), a.ends_with(&b)][place]))
            })
        });
        let constant = any::<bool>().prop_map(|b| Piece::new(b.to_string(), true, move |_| Ok(json!(b))));
        let parsed = field().prop_map(|(written, name)| {
            Piece::new(format!("number({written}) > 1"), false, move |o| match found(o, name).ok_or(())? {
                Value::Number(n) => Ok(json!(n.as_f64() > Some(1.0))),
                Value::String(s) => serde_json::from_str::<Value>(s).map_err(drop).and_then(|v| number(&v)).map(|n| json!(n > 1.0)),
                _ => Err(()),
            })
        });
        let leaf = prop_oneof![4 => of_numbers, 2 => of_texts, 2 => of_fields, 2 => among(), 1 => has, 1 => within, 1 => parsed, 1 => constant.clone(), 1 => fields(constant, Value::is_boolean)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let list = |parts: Vec<Piece>, word: &'static str, decides: bool| {
                let written = parts.iter().map(Piece::operand).collect::<Vec<_>>().join(&format!(" {word} "));
                Piece::new(written, false, move |o| {
                    let found: Vec<_> = parts.iter().map(|p| (p.meaning)(o).and_then(|v| truth(&v))).collect();
                    match found.contains(&Ok(decides)) {
                        true => Ok(json!(decides)),
                        false if found.contains(&Err(())) => Err(()),
                        false => Ok(json!(!decides)),
                    }
                })
            };
            let parts = || proptest::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                parts().prop_map(move |p| list(p, "and", false)),
                parts().prop_map(move |p| list(p, "or", true)),
                inner.clone().prop_map(|p| Piece::new(format!("not {}", p.operand()), false, move |o| Ok(json!(!truth(&(p.meaning)(o)?)?)))),
                (inner.clone(), any::<bool>(), has_not_field(inner.clone())).prop_map(|(a, alike, b)| {
                    let written = format!("{} {} {}", a.operand(), if alike { "==" } else { "!=" }, b.operand());
                    Piece::new(written, false, move |o| Ok(json!((truth(&(a.meaning)(o)?)? == truth(&(b.meaning)(o)?)?) == alike)))
                }),
            ]
        })
        .boxed()
    }

    /// Two fields alone would be compared as what they are.
    fn has_not_field(inner: impl Strategy<Value = Piece>) -> impl Strategy<Value = Piece> {
        inner.prop_filter("is known to be true or false", |p| !p.text.starts_with("value.") || !p.simple)
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let value = prop_oneof![
            2 => (-9..9i32).prop_map(|n| json!(n)),
            2 => (-36..36i32).prop_map(|n| json!(f64::from(n) / 4.0)),
            2 => "[aB\"' \u{c9}\n]{0,3}".prop_map(|s| json!(s)),
            1 => "-?[0-9]{1,2}".prop_map(|s| json!(s)),
            2 => any::<bool>().prop_map(|b| json!(b)),
            1 => Just(Value::Null),
            1 => Just(json!({"a": 1})),
            1 => Just(json!(["a"])),
        ];
        proptest::collection::vec((proptest::sample::select(&FIELDS[..5]), value), 0..8).prop_map(|f| f.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
    }

    proptest! {
        #![proptest_config(crate::cases(3000))]

        #[test]
        fn a_condition_says_what_a_naive_evaluator_says_and_prints_as_itself(piece in truths(), objects in proptest::collection::vec(object(), 1..5)) {
            let condition = match Condition::parse(&piece.text) {
                Ok(condition) => condition,
                // What always fails is refused beforehand: of constants, or a division by one.
                Err(mistake) => {
                    prop_assert!(mistake.found.contains("always"), "{}: {:?}", piece.text, mistake);
                    return Ok(());
                }
            };
            prints_as_itself(&condition);
            for object in objects {
                let payload = Value::Object(object.clone()).to_string();
                let record = Record::copy(TopicPartition::new("t", 3), -7, None, None, Some(payload.as_bytes()), [("h", Some(&b"oNe"[..]))]);
                let mut scratch = Scratch::default();
                let Decoded::Fields(document) = Format::Json.decode(record.payload(), &mut scratch) else { panic!("{payload}") };
                let held = condition.holds(&Subject { record: &record, fields: Fields::Of(document) });
                let expected = (piece.meaning)(&object).and_then(|v| truth(&v));
                prop_assert_eq!(held.map_err(|_| ()), expected, "{} of {}", piece.text, payload);
            }
        }

        #[test]
        fn any_text_is_read_or_refused_with_its_place(
            words in proptest::collection::vec("value\\.a|value|header\\.h|key|offset|and|or|not|in|true|has|number|abs|length|lower|contains|matches|[-+*/%<>=!?(),.\\[\\]'\"&|]|==|\\?\\?|0\\.5|1e9|7|'x'|\\PC", 0..14),
            key in ".{0,3}",
            payload in prop_oneof![".{0,10}", Just("{\"a\":1}".to_owned()), Just("{\"a\":true}".to_owned())],
        ) {
            check(format!("{}\0{key}\0{payload}", words.join(" ")).as_bytes());
            check(format!("{}\0{key}\0{payload}", words.concat()).as_bytes());
        }
    }

    #[test]
    fn what_is_as_deep_as_it_may_be_prints_as_itself() {
        let nest = |open: &str, middle: &str, close: &str, n: usize| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
        for deep in [
            nest("not ", "true", "", 64),
            nest("-", "1", "", 63) + " < 0",
            format!("1{} > 0", " - 1".repeat(63)),
            nest("1 - (", "1", ")", 63) + " > 0",
            nest("abs(", "1", ")", 63) + " > 0",
            nest("true == (not ", "true", ")", 32),
            nest("not (true and ", "true", ")", 32),
            nest("(true or (true and ", "true", "))", 32),
            nest("value.a ?? (1 + ", "1", ")", 31) + " > 0",
            nest("value.a ?? -", "1", "", 31) + " > 0",
        ] {
            let condition = Condition::parse(&deep).unwrap_or_else(|m| panic!("{deep}: {m:?}"));
            prints_as_itself(&condition);
        }
    }
}
