//! `when`: conditions compiled, and what becomes of a record to which one can't be applied.
use super::Decode;
use super::validate::Checker;
use crate::core::condition::Condition;
use crate::core::route;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// See [`super::Route::on_condition_error`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum OnConditionError {
    Skip,
    // Nobody knows whether the record was wanted: it is kept.
    #[default]
    Dead,
}

impl From<OnConditionError> for route::OnConditionError {
    fn from(on: OnConditionError) -> Self {
        match on {
            OnConditionError::Skip => Self::Skip,
            OnConditionError::Dead => Self::Dead,
        }
    }
}

/// Compiles the `when` of a route or a write.
pub(super) fn compile_when(c: &mut Checker<'_>, at: &str, when: Option<&str>, decode: Decode) -> Option<Condition> {
    let (key, text) = (format!("{at}.when"), when?);
    match Condition::parse(text) {
        Ok(condition) if decode == Decode::Raw && condition.needs_fields() => {
            c.add(key, format!("{text:?}, with a field of value in a route with decode = \"raw\""), "decode = \"json\", or payload, which is text");
            None
        }
        Ok(condition) => {
            if let Some(holds) = condition.truth().constant() {
                c.warn(&key, format_args!("{text:?} is {} for every record", if holds { "true" } else { "false" }));
            }
            Some(condition)
        }
        Err(mistake) => {
            c.misread(key, text, mistake, "");
            None
        }
    }
}
