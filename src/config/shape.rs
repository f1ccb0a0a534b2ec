//! The shape of the merged tree, against the generated schema: every mistake at once.
use super::load::{Mistake, Source};
use super::places::is_secret;
use super::reference::{self, node_at, types};
use super::suggest;
use super::units::{Period, Size};
use jsonschema::Validator;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft7)
        .with_format("period", |t: &str| t.parse::<Period>().is_ok())
        .with_format("size", |t: &str| t.parse::<Size>().is_ok())
        .should_validate_formats(true)
        .build(reference::schema())
        .expect("the generated schema is a schema")
});

/// Finds all that has a wrong shape, and returns the tree with something harmless in its place, so that the rules
/// across fields can be checked of all the rest in the same go. `source_of` tells of a key, or of its name alone, where it stands.
pub(super) fn check(mut tree: Value, source_of: impl Fn(&str, bool) -> Source) -> (Vec<Mistake>, Value) {
    let schema = reference::schema();
    whole_numbers(&mut tree);
    lists(schema, reference::node_at(schema, &[]), &mut tree);
    let (mut mistakes, mut wrong) = (Vec::new(), Vec::new());
    for error in VALIDATOR.iter_errors(&tree) {
        let pointer = error.instance_path().to_string();
        let path: Vec<String> = pointer.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~")).collect();
        for Described { below, found, allowed, nearest } in describe(schema, &path, &error) {
            let unknown = found == UNKNOWN;
            let path: Vec<String> = path.iter().cloned().chain(below).collect();
            let key = dotted(&path);
            mistakes.push(Mistake { source: source_of(&key, unknown), key, found, allowed, nearest });
            wrong.push(path);
        }
    }
    wrong.iter().for_each(|path| mend(schema, &mut tree, path));
    (mistakes, tree)
}

/// The key as messages name it; TOML allows an empty name.
pub(super) fn dotted(path: &[String]) -> String {
    path.iter().map(|name| if name.is_empty() { "\"\"" } else { name }).collect::<Vec<_>>().join(".")
}

/// Where a list of names is wanted, a text is one: its names stand between commas. A pattern may have commas of its own.
fn lists(schema: &Value, node: &Value, value: &mut Value) {
    let types = types(node);
    match value {
        Value::String(text) if types.contains(&"array") && types.contains(&"string") => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            *value = if text.starts_with('^') { json!([text]) } else { names.collect() };
        }
        Value::Array(items) => items.iter_mut().for_each(|item| lists(schema, reference::step(schema, node, "0"), item)),
        Value::Object(object) => object.iter_mut().for_each(|(name, below)| lists(schema, reference::step(schema, node, name), below)),
        _ => {}
    }
}

/// To a schema 2.0 is an integer, to serde it is none.
fn whole_numbers(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(object) => object.values_mut().for_each(whole_numbers),
        Value::Number(n) if n.is_f64() => {
            if let Some(whole) = n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= EXACT) {
                *value = json!(whole as i64);
            }
        }
        _ => {}
    }
}

const UNKNOWN: &str = "an unknown key";

/// What is wrong with a value, or with a key below it.
struct Described {
    below: Option<String>,
    found: String,
    allowed: String,
    nearest: Option<String>,
}

fn describe(schema: &Value, path: &[String], error: &ValidationError<'_>) -> Vec<Described> {
    let node = node_at(schema, path);
    let shown = || shown(path, node, error.instance());
    let one = |allowed: String, nearest: Option<String>| vec![Described { below: None, found: shown(), allowed, nearest }];
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = reference::keys(node);
            let unknown = |name: &String| {
                let (allowed, nearest) = suggest::key(schema, path, &known, name);
                Described { below: Some(name.clone()), found: UNKNOWN.into(), allowed, nearest }
            };
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Type { .. } | ValidationErrorKind::Format { .. } => {
            // What may be a secret is not repeated.
            let nearest = if is_secret(path) { None } else { suggest::value(path, node, error.instance()) };
            one(allowed(path, node), nearest)
        }
        ValidationErrorKind::Enum { .. } => {
            let names: Vec<String> = node["enum"].as_array().into_iter().flatten().filter_map(|o| o.as_str().map(str::to_owned)).collect();
            let near = error.instance().as_str().and_then(|v| suggest::nearest(v, &names));
            one(names.join(", "), near)
        }
        ValidationErrorKind::Required { property } => {
            let allowed = "a value: this key has no default".into();
            vec![Described { below: property.as_str().map(str::to_owned), found: "nothing".into(), allowed, nearest: None }]
        }
        ValidationErrorKind::Minimum { limit } => one(format!("at least {limit}"), None),
        ValidationErrorKind::Maximum { limit } => one(format!("at most {limit}"), None),
        other => one(format!("{other:?}"), None),
    }
}

/// What was found, without what may be a secret: a text in the place of a table may be a whole section.
fn shown(path: &[String], node: &Value, found: &Value) -> String {
    match found {
        Value::Object(_) => "a table".into(),
        Value::Array(_) => "an array".into(),
        _ if is_secret(path) => "a value that is not shown".into(),
        Value::String(_) if types(node) == ["object"] => "a text".into(),
        other => other.to_string(),
    }
}

fn allowed(path: &[String], node: &Value) -> String {
    match node.get("format").and_then(Value::as_str) {
        Some("period") => return Period::ALLOWED.into(),
        Some("size") => return Size::ALLOWED.into(),
        Some("ttl") => return format!("{}; or a template that renders seconds", Period::ALLOWED),
        _ => {}
    }
    if let Some(options) = node.get("enum").and_then(Value::as_array) {
        return options.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    }
    let types = types(node);
    let named = types.iter().map(|name| match *name {
        "string" if types.contains(&"array") => "a text with names between commas".to_owned(),
        "string" => "a text in quotes".into(),
        "integer" => "a whole number".into(),
        "boolean" => "true or false".into(),
        "array" if suggest::is_tables(node) => format!("tables, each begun by {}", suggest::header(path)),
        "array" => "a list such as [\"a\", \"b\"]".into(),
        "object" => "a table".into(),
        other => other.into(),
    });
    named.collect::<Vec<_>>().join(", or ")
}

/// Puts something harmless in the place of what is wrong; takes away what is unknown.
fn mend(schema: &Value, tree: &mut Value, path: &[String]) {
    let Some((last, above)) = path.split_last() else { return };
    let node = node_at(schema, path);
    let parent = above.iter().try_fold(tree, |value, step| match value {
        Value::Object(object) => object.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    });
    match parent {
        Some(Value::Object(object)) if node.is_null() => drop(object.remove(last)),
        Some(Value::Object(object)) => drop(object.insert(last.clone(), harmless(schema, node))),
        Some(Value::Array(items)) => {
            if let Some(item) = last.parse::<usize>().ok().and_then(|n| items.get_mut(n)) {
                *item = harmless(schema, node);
            }
        }
        _ => {}
    }
}

/// The least that fits a node.
fn harmless(schema: &Value, node: &Value) -> Value {
    if let Some(option) = node.get("enum").and_then(|options| options.get(0)) {
        return option.clone();
    }
    match (types(node).first().copied(), node.get("format").and_then(Value::as_str)) {
        (Some("integer"), _) => json!(1),
        (Some("boolean"), _) => json!(false),
        (Some("array"), _) => json!([]),
        (Some("object"), _) => {
            let required = node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            let field = |name: &str| (name.to_owned(), harmless(schema, reference::step(schema, node, name)));
            Value::Object(required.map(field).collect::<Map<_, _>>())
        }
        (_, Some("period")) => json!("1s"),
        (_, Some("size")) => json!("1MiB"),
        _ => json!("-"),
    }
}
