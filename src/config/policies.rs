//! What each write does in a replay: what the configuration says, or what is safe.
use super::validate::Checker;
use super::{Route, Write};
use crate::core::replay::policy::Policy;
use crate::core::template::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// See [`Write::replay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Replay {
    Apply,
    Skip,
    IfNewer,
    IfMissing,
}

/// See [`super::Setex::ttl_from`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum TtlFrom {
    Now,
    Timestamp,
}

pub(super) fn policies(c: &mut Checker<'_>, i: usize, route: &Route) -> Vec<Policy> {
    route.write.iter().enumerate().map(|(w, write)| policy(c, &format!("route.{i}.write.{w}"), write)).collect()
}

fn policy(c: &mut Checker<'_>, at: &str, write: &Write) -> Policy {
    let (sets, appends) = (write.set.is_some() || write.setex.is_some(), write.xadd.is_some());
    let version = write.newer_by.as_ref().and_then(|text| newer_by(c, format!("{at}.newer_by"), text));
    let found = |what: &str| format!("{what:?} on this write");
    match (write.replay, version) {
        (_, Some(_)) if !sets => {
            c.add(format!("{at}.newer_by"), "newer_by on a write that sets no value", "newer_by only beside set or setex");
            Policy::Skip
        }
        (None | Some(Replay::IfNewer), Some(version)) => Policy::IfNewer(version),
        (Some(Replay::IfNewer), None) => {
            if write.newer_by.is_none() {
                let allowed = "newer_by beside it, a template that finds a number or a time in the value, such as \"{value.timestamp}\"; only on set and setex";
                c.add(format!("{at}.replay"), "\"if-newer\" without newer_by", allowed);
            }
            Policy::Skip
        }
        (Some(_), Some(_)) => {
            c.add(format!("{at}.newer_by"), "newer_by beside another replay than \"if-newer\"", "replay = \"if-newer\", or no newer_by");
            Policy::Skip
        }
        (Some(Replay::Apply), None) => Policy::Apply,
        (Some(Replay::Skip), None) => Policy::Skip,
        (Some(Replay::IfMissing), None) if !sets && !appends => {
            c.add(format!("{at}.replay"), found("if-missing"), "\"skip\" or \"apply\": only xadd, set and setex can be compared with what is there");
            Policy::Skip
        }
        (Some(Replay::IfMissing) | None, None) if sets || appends => Policy::IfMissing,
        (Some(Replay::IfMissing) | None, None) => Policy::Skip,
    }
}

fn newer_by(c: &mut Checker<'_>, key: String, text: &str) -> Option<Template> {
    let template = c.template(key.clone(), text)?;
    if !template.is_of_fields() {
        c.add(key, format!("{text:?}"), "{value.FIELD} holes, one at the least, and no other: it is also asked of the value that stands in Redis");
        return None;
    }
    Some(template)
}
