//! Values that are never shown.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A property's value as librdkafka takes it, however TOML writes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "serde_json::Value")]
#[schemars(inline, with = "String", extend("type" = ["string", "integer", "boolean"]))]
pub struct Property(pub String);

impl From<serde_json::Value> for Property {
    fn from(value: serde_json::Value) -> Self {
        Self(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

/// Some properties are secrets.
impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
