//! The layers as figment takes them: the defaults, the file, variables of the environment, flags.
//!
//! A variable and a flag are text: the schema says what becomes of it. A string takes it verbatim, anything else as TOML
//! or JSON; what is neither stays text, so that the shape's check shows it, or splits it at its commas where names stand.
#![allow(clippy::result_large_err, reason = "a mistake is made once, at the start")]
use super::load::{Mistake, Source};
use super::{places, reference};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use serde_json::Value as Json;

/// What a variable's name begins with.
pub(super) const PREFIX: &str = "BRIDGE__";

/// One layer, and what a mistake in it is said to come from.
pub(super) struct Layer {
    source: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }
    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// Every default. A mistake in none of the other layers is one of the file, which left the key out.
pub(super) fn defaults(file: &str) -> Layer {
    let dict = Value::serialize(super::Config::default()).ok().and_then(Value::into_dict);
    Layer { source: file.into(), dict: dict.expect("the tree is a table") }
}

/// The file's text.
pub(super) fn file(schema: &Json, text: &str, name: &str) -> Result<Layer, Mistake> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        // Not its Display, which shows the line, and with it perhaps a secret.
        let place = Some(Box::new(places::of_error(text, schema, e.span().unwrap_or_default())));
        let source = Source { name: name.into(), place };
        let allowed = "TOML: [section], and key = value with texts in quotes (https://toml.io)".into();
        Mistake { source, key: "TOML".into(), found: complaint(e.message()), allowed, nearest: None }
    })?;
    Ok(Layer { source: name.into(), dict: table.into_iter().map(|(k, v)| (k, from_toml(v))).collect() })
}

/// `BRIDGE__A__B=text`.
pub(super) fn variable(schema: &Json, name: &str, text: Option<&str>) -> Result<Layer, Mistake> {
    let source = format!("environment variable {name}");
    let steps: Vec<String> = name.trim_start_matches(PREFIX).split("__").map(str::to_lowercase).collect();
    let path = match steps.as_slice() {
        // A variable's name has no dots.
        [kafka, properties, rest @ ..] if kafka == "kafka" && properties == "properties" && !rest.is_empty() => {
            vec![kafka.clone(), properties.clone(), rest.join(".").replace('_', ".")]
        }
        _ => steps,
    };
    let Some(text) = text else {
        return Err(Mistake { source: source.into(), key: path.join("."), found: "bytes that are no UTF-8".into(), allowed: "a text".into(), nearest: None });
    };
    layer(schema, source, &path, text, "BRIDGE__SECTION__KEY, such as BRIDGE__REDIS__LANES")
}

/// `--set a.b=text`.
pub(super) fn flag(schema: &Json, set: &str) -> Result<Layer, Mistake> {
    const ALLOWED: &str = "KEY=VALUE, such as redis.lanes=4";
    let source = "--set".to_owned();
    let Some((key, text)) = set.split_once('=') else {
        return Err(Mistake { source: source.into(), key: set.into(), found: "no \"=\"".into(), allowed: ALLOWED.into(), nearest: None });
    };
    let path = match key.strip_prefix("kafka.properties.") {
        // A property's name has dots of its own.
        Some(property) => vec!["kafka".into(), "properties".into(), property.to_owned()],
        None => key.split('.').map(str::to_owned).collect(),
    };
    layer(schema, source, &path, text, ALLOWED)
}

fn layer(schema: &Json, source: String, path: &[String], text: &str, allowed: &str) -> Result<Layer, Mistake> {
    let mistake = |key: String, found: &str, allowed: &str| {
        Err(Mistake { source: source.clone().into(), key, found: found.into(), allowed: allowed.into(), nearest: None })
    };
    if path.iter().any(String::is_empty) {
        return mistake(format!("{:?}", path.join(".")), "a part without a name", allowed);
    }
    if path[0] == "route" {
        return mistake(path.join("."), "a route from outside the file", "routes only from the file");
    }
    let value = typed(text, reference::node_at(schema, path));
    let dict = path[1..].iter().rev().fold(value, |value, step| Value::from(Map::from([(step.clone(), value)])));
    Ok(Layer { source, dict: Map::from([(path[0].clone(), dict)]) })
}

fn typed(text: &str, node: &Json) -> Value {
    let types = reference::types(node);
    if types.contains(&"string") && !types.contains(&"array") || node.is_null() {
        return Value::from(text);
    }
    let toml = || {
        let mut table: toml::Table = format!("value = {text}").parse().ok()?;
        let value = table.remove("value").map(from_toml);
        value.filter(|_| table.is_empty())
    };
    let json = || Value::serialize(serde_json::from_str::<Json>(text).ok()?).ok();
    // Where a text is a list as well, only a list is one in another form.
    let fits = |value: &Value| !types.contains(&"string") || value.as_array().is_some();
    toml().or_else(json).filter(fits).unwrap_or_else(|| Value::from(text))
}

/// Times become texts: that is what the tree has for them.
fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(n) => n.into(),
        toml::Value::Float(n) => n.into(),
        toml::Value::Boolean(b) => b.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => table.into_iter().map(|(k, v)| (k, from_toml(v))).collect::<Dict>().into(),
    }
}

/// What the parser says, in one line. Of some texts it says nothing.
fn complaint(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() { "something that TOML does not know here".into() } else { lines.join(", ") }
}
