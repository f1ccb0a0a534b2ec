//! The shape of the merged tree, against the generated schema: every mistake at once.
use super::load::Mistake;
use super::reference;
use super::units::{Period, Size};
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde_json::{Value, json};

/// Finds all that has a wrong shape, and returns the tree with something harmless in its place, so that the rules
/// across fields can be checked of all the rest in the same go.
pub(super) fn check(mut tree: Value, source_of: impl Fn(&str) -> String) -> (Vec<Mistake>, Value) {
    let schema = reference::schema();
    let validator = jsonschema::options()
        .with_format("period", |t: &str| t.parse::<Period>().is_ok())
        .with_format("size", |t: &str| t.parse::<Size>().is_ok())
        .should_validate_formats(true)
        .build(&schema)
        .expect("the generated schema is a schema");
    let (mut mistakes, mut wrong) = (Vec::new(), Vec::new());
    for error in validator.iter_errors(&tree) {
        let pointer = error.instance_path.to_string();
        let path: Vec<String> = pointer.split('/').skip(1).map(|p| p.replace("~1", "/").replace("~0", "~")).collect();
        for (name, found, allowed, nearest) in describe(&schema, &path, &error) {
            let path: Vec<String> = path.iter().cloned().chain(name).collect();
            let key = dotted(&path);
            mistakes.push(Mistake { source: source_of(&key), key, found, allowed, nearest });
            wrong.push(path);
        }
    }
    wrong.iter().for_each(|path| mend(&mut tree, path));
    (mistakes, tree)
}

/// The key as messages name it; TOML allows an empty name.
fn dotted(path: &[String]) -> String {
    path.iter().map(|name| if name.is_empty() { "\"\"" } else { name }).collect::<Vec<_>>().join(".")
}

/// A key below the path, what was found, what is allowed, the nearest known name.
type Described = (Option<String>, String, String, Option<String>);

fn describe(schema: &Value, path: &[String], error: &ValidationError<'_>) -> Vec<Described> {
    let hidden = |name: &String| name.contains("password") || name == "url" || name == "properties";
    let shown = || if path.iter().any(hidden) { "a value that is not shown".to_owned() } else { error.instance.to_string() };
    match &error.kind {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = reference::keys_at(schema, &path.join("."));
            let unknown = |name: &String| (Some(name.clone()), "an unknown key".into(), known.join(", "), nearest(name, &known));
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Type { kind } => {
            let allowed = match kind {
                TypeKind::Single(t) => t.to_string(),
                TypeKind::Multiple(ts) => ts.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(" or "),
            };
            vec![(None, shown(), format!("a value of type {allowed}"), None)]
        }
        ValidationErrorKind::Enum { options } => {
            let names: Vec<String> = options.as_array().into_iter().flatten().filter_map(|o| o.as_str().map(str::to_owned)).collect();
            let near = error.instance.as_str().and_then(|v| nearest(v, &names));
            vec![(None, shown(), names.join(", "), near)]
        }
        ValidationErrorKind::Format { format } => {
            let allowed = if format == "size" { Size::ALLOWED } else { Period::ALLOWED };
            vec![(None, shown(), allowed.into(), None)]
        }
        ValidationErrorKind::Required { property } => {
            vec![(property.as_str().map(str::to_owned), "nothing".into(), "a value: this key has no default".into(), None)]
        }
        ValidationErrorKind::Minimum { limit } => vec![(None, shown(), format!("at least {limit}"), None)],
        ValidationErrorKind::Maximum { limit } => vec![(None, shown(), format!("at most {limit}"), None)],
        other => vec![(None, shown(), format!("{other:?}"), None)],
    }
}

/// Puts something harmless in the place of what is wrong: nothing, where there is a default.
fn mend(tree: &mut Value, path: &[String]) {
    let write = || json!({"del": {"key": "-"}});
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    let (target, harmless) = match steps.as_slice() {
        ["route"] => ("/route".to_owned(), json!([])),
        ["route", n] => (format!("/route/{n}"), json!({"name": format!("#{n}"), "topics": ["-"], "write": [write()]})),
        ["route", n, "name"] => return insert(tree, &format!("/route/{n}"), "name", json!(format!("#{n}"))),
        ["route", n, "topics", ..] => return insert(tree, &format!("/route/{n}"), "topics", json!(["-"])),
        ["route", n, "write"] => return insert(tree, &format!("/route/{n}"), "write", json!([write()])),
        ["route", n, "write", m, ..] => (format!("/route/{n}/write/{m}"), write()),
        [above @ .., last] => {
            let above = above.iter().fold(String::new(), |p, step| p + "/" + &step.replace('~', "~0").replace('/', "~1"));
            if let Some(Value::Object(object)) = tree.pointer_mut(&above) {
                object.remove(*last);
            }
            return;
        }
        [] => return,
    };
    if let Some(value) = tree.pointer_mut(&target) {
        *value = harmless;
    }
}

fn insert(tree: &mut Value, at: &str, name: &str, value: Value) {
    if let Some(Value::Object(object)) = tree.pointer_mut(at) {
        object.insert(name.into(), value);
    }
}

/// The known name that a typo was probably meant to be.
fn nearest(typo: &str, known: &[String]) -> Option<String> {
    let best = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, typo))?;
    (strsim::damerau_levenshtein(best, typo) <= 1 + best.len() / 4).then(|| best.clone())
}
