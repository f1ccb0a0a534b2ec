//! The JSON Schema and the reference page, both generated from the tree's doc comments.
use super::Config;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// The schema, for editors and for [`super::load`].
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(generate);
    &SCHEMA
}

fn generate() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    // The merged tree is checked, in which every section stands: nothing but the fields without a default is required.
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "kafka-redis-bridge".into());
    }
    bound(&mut schema);
    schema
}

/// An integer's format says how large it may be; only a maximum is checked.
fn bound(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(bound),
        Value::Object(object) => {
            let max = match object.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(u64::from(u32::MAX)),
                // What TOML can write.
                Some("uint" | "uint64") => Some(i64::MAX as u64),
                _ => None,
            };
            object.values_mut().for_each(bound);
            if let Some(max) = max {
                object.insert("maximum".into(), max.into());
            }
        }
        _ => {}
    }
}

/// Follows `$ref`.
fn resolve<'a>(root: &'a Value, mut node: &'a Value) -> &'a Value {
    while let Some(target) = node.get("$ref").and_then(Value::as_str) {
        node = root.pointer(target.trim_start_matches('#')).unwrap_or(&Value::Null);
    }
    node
}

/// One step down: a key of a table, an item of an array. Null where there is no such.
pub(super) fn step<'a>(root: &'a Value, node: &'a Value, name: &str) -> &'a Value {
    let item = || node.get("items").filter(|_| name.parse::<usize>().is_ok());
    let known = node.get("properties").and_then(|p| p.get(name)).or_else(item);
    let any = || node.get("additionalProperties").filter(|a| a.is_object());
    resolve(root, known.or_else(any).unwrap_or(&Value::Null))
}

/// The node at a path; null where there is none.
pub(super) fn node_at<'a>(root: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(resolve(root, root), |node, name| step(root, node, name))
}

/// The known keys of a table.
pub(super) fn keys(node: &Value) -> Vec<String> {
    node.get("properties").and_then(Value::as_object).map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

/// The types that a node takes.
pub(super) fn types(node: &Value) -> Vec<&str> {
    match node.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The reference page, in Markdown.
pub fn page() -> String {
    let root = schema();
    let mut out = String::from(
        "# Configuration reference\n\nGenerated from the code by `kafka-redis-bridge schema --markdown`; a test fails when it is stale.\n\
         Layers, later wins: these defaults, the file, `BRIDGE__SECTION__KEY` from the environment, `--set section.key=value`.\n\n\
         A variable and a flag are taken as the key's type says: text verbatim, without quotes; a list of names with commas \
         (`BRIDGE__KAFKA__BROKERS=a:9092,b:9092`), or as TOML or JSON. Routes come only from the file. A variable's name has no dots: below \
         `BRIDGE__KAFKA__PROPERTIES__` each `_` stands for one (`BRIDGE__KAFKA__PROPERTIES__SASL_PASSWORD` is `sasl.password`).\n",
    );
    section(root, root, "", &mut out);
    out
}

fn section(root: &Value, node: &Value, path: &str, out: &mut String) {
    let node = resolve(root, node);
    let Some(properties) = node.get("properties").and_then(Value::as_object) else { return };
    let is_leaf = |p: &Value| {
        let r = resolve(root, p);
        let items = r.get("items").map(|i| resolve(root, i));
        r.get("properties").is_none() && items.is_none_or(|i| i.get("properties").is_none())
    };
    if !path.is_empty() {
        let _ = writeln!(out, "\n## {path}\n\n{}\n", description(node));
        if properties.values().any(is_leaf) {
            out.push_str("| key | default | |\n|---|---|---|\n");
        }
        for (name, property) in properties.iter().filter(|(_, p)| is_leaf(p)) {
            let default = property.get("default").or_else(|| node.get("default").and_then(|d| d.get(name)));
            let shown = default.map(|d| format!("`{d}`")).unwrap_or_default();
            let _ = writeln!(out, "| `{name}` | {shown} | {} |", description(property).replace('\n', " ").replace('|', "\\|"));
        }
    }
    for (name, property) in properties.iter().filter(|(_, p)| !is_leaf(p)) {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let property = match resolve(root, property).get("items") {
            Some(items) => resolve(root, items).clone(),
            None => {
                let mut merged = resolve(root, property).clone();
                if let (Some(default), Some(object)) = (property.get("default"), merged.as_object_mut()) {
                    object.insert("default".into(), default.clone());
                }
                merged
            }
        };
        section(root, &property, &below, out);
    }
}

fn description(node: &Value) -> &str {
    node.get("description").and_then(Value::as_str).unwrap_or_default()
}
