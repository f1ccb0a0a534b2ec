//! Durations and sizes that carry their unit in the value.
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

/// A duration, as `"500ms"` or `"1h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(pub Duration);

/// A number of bytes, as `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl Period {
    /// What is allowed, for messages.
    pub const ALLOWED: &str = "a duration with its unit, such as \"500ms\", \"5s\" or \"1h\"";

    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl Size {
    /// What is allowed, for messages.
    pub const ALLOWED: &str = "a size with its unit, such as \"64KiB\" or \"1MiB\"";

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| Self::ALLOWED.into())
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let has_unit = text.ends_with(['B', 'b']);
        text.parse::<bytesize::ByteSize>().ok().filter(|_| has_unit).map(|b| Self(b.as_u64())).ok_or_else(|| Self::ALLOWED.into())
    }
}

impl TryFrom<String> for Period {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(p: Period) -> Self {
        if p.0.is_zero() { "0ms".into() } else { humantime::format_duration(p.0).to_string() }
    }
}

impl From<Size> for String {
    fn from(s: Size) -> Self {
        // The largest unit in which it is a whole number: what is read again must be the same.
        let unit = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)].into_iter().find(|(_, bits)| s.0 > 0 && s.0.trailing_zeros() >= *bits);
        unit.map_or_else(|| format!("{}B", s.0), |(name, bits)| format!("{}{name}", s.0 >> bits))
    }
}

macro_rules! text_schema {
    ($type:ty, $name:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $name})
            }
        }
    };
}
text_schema!(Period, "period");
text_schema!(Size, "size");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_carry_their_unit_and_survive_printing() {
        for text in ["0ms", "500ms", "1h", "8s"] {
            let p: Period = text.parse().unwrap();
            assert_eq!(String::from(p), text);
        }
        for text in ["1MiB", "64KiB", "1048577B", "0B", "1025MiB"] {
            let s: Size = text.parse().unwrap();
            assert_eq!(String::from(s), text);
        }
        assert!("5".parse::<Period>().is_err());
        assert!("5".parse::<Size>().is_err());
        assert!("-1s".parse::<Period>().is_err());
    }
}
