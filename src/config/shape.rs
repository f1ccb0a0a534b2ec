//! The shape of the merged tree, against the generated schema: every mistake at once.
use super::load::Mistake;
use super::reference::{self, node_at, types};
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
/// across fields can be checked of all the rest in the same go.
pub(super) fn check(mut tree: Value, source_of: impl Fn(&str) -> String) -> (Vec<Mistake>, Value) {
    let schema = reference::schema();
    whole_numbers(&mut tree);
    let (mut mistakes, mut wrong) = (Vec::new(), Vec::new());
    for error in VALIDATOR.iter_errors(&tree) {
        let pointer = error.instance_path().to_string();
        let path: Vec<String> = pointer.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~")).collect();
        for (name, found, allowed, nearest) in describe(schema, &path, &error) {
            let path: Vec<String> = path.iter().cloned().chain(name).collect();
            let key = dotted(&path);
            mistakes.push(Mistake { source: source_of(&key), key, found, allowed, nearest });
            wrong.push(path);
        }
    }
    wrong.iter().for_each(|path| mend(schema, &mut tree, path));
    (mistakes, tree)
}

/// The key as messages name it; TOML allows an empty name.
fn dotted(path: &[String]) -> String {
    path.iter().map(|name| if name.is_empty() { "\"\"" } else { name }).collect::<Vec<_>>().join(".")
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

/// A key below the path, what was found, what is allowed, the nearest known name.
type Described = (Option<String>, String, String, Option<String>);

fn describe(schema: &Value, path: &[String], error: &ValidationError<'_>) -> Vec<Described> {
    let node = node_at(schema, path);
    let shown = || shown(path, node, error.instance());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = reference::keys(node);
            let unknown = |name: &String| (Some(name.clone()), "an unknown key".into(), known.join(", "), nearest(name, &known));
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Type { .. } | ValidationErrorKind::Format { .. } => vec![(None, shown(), allowed(node), None)],
        ValidationErrorKind::Enum { .. } => {
            let names: Vec<String> = node["enum"].as_array().into_iter().flatten().filter_map(|o| o.as_str().map(str::to_owned)).collect();
            let near = error.instance().as_str().and_then(|v| nearest(v, &names));
            vec![(None, shown(), names.join(", "), near)]
        }
        ValidationErrorKind::Required { property } => {
            vec![(property.as_str().map(str::to_owned), "nothing".into(), "a value: this key has no default".into(), None)]
        }
        ValidationErrorKind::Minimum { limit } => vec![(None, shown(), format!("at least {limit}"), None)],
        ValidationErrorKind::Maximum { limit } => vec![(None, shown(), format!("at most {limit}"), None)],
        other => vec![(None, shown(), format!("{other:?}"), None)],
    }
}

/// What was found, without what may be a secret: a text in the place of a table may be a whole section.
fn shown(path: &[String], node: &Value, found: &Value) -> String {
    let secret = path.iter().any(|name| name.contains("password") || name == "url" || name == "properties");
    match found {
        Value::Object(_) => "a table".into(),
        Value::Array(_) => "an array".into(),
        _ if secret => "a value that is not shown".into(),
        Value::String(_) if types(node) == ["object"] => "a text".into(),
        other => other.to_string(),
    }
}

fn allowed(node: &Value) -> String {
    match node.get("format").and_then(Value::as_str) {
        Some("period") => Period::ALLOWED.into(),
        Some("size") => Size::ALLOWED.into(),
        _ => match node.get("enum").and_then(Value::as_array) {
            Some(options) => options.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            None => format!("a value of type {}", types(node).join(" or ")),
        },
    }
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

/// The known name that a typo was probably meant to be.
fn nearest(typo: &str, known: &[String]) -> Option<String> {
    let best = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, typo))?;
    (strsim::damerau_levenshtein(best, typo) <= 1 + best.len() / 4).then(|| best.clone())
}
