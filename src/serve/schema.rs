//! What bodies and parameters look like, for the OpenAPI document.
#![allow(dead_code, reason = "they describe what is written by hand")]
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

/// A page of pairs.
#[derive(Serialize, ToSchema)]
pub(super) struct Pairs {
    pairs: Vec<String>,
    /// Those that are no text, percent-encoded.
    #[schema(required = false)]
    encoded: Vec<String>,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<String>,
    /// Those that are no text, percent-encoded.
    #[schema(required = false)]
    encoded: Vec<String>,
}

/// An entry: its id, and its fields beside it; numbers as they were written.
#[derive(Serialize, ToSchema)]
pub(super) struct Entry {
    #[schema(example = "1701878400000-0")]
    id: String,
}

/// Where a record stands in Kafka.
#[derive(Serialize, ToSchema)]
pub(super) struct Placed {
    topic: String,
    partition: i32,
    offset: i64,
}

/// Which entries.
#[derive(Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// Entries at most; the bound is serve.count_max.
    #[param(required = false, minimum = 1, maximum = 1000)]
    count: u32,
    /// From this id, time in ms, or RFC 3339 time on.
    #[param(required = false, pattern = "^[0-9]{1,15}(-[0-9]{1,15})?$|^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)$")]
    from: String,
    /// Up to this one.
    #[param(required = false, pattern = "^[0-9]{1,15}(-[0-9]{1,15})?$|^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)$")]
    to: String,
    /// `asc`: from the oldest on; `desc`: from the newest on; without it the newest, the oldest of them first.
    #[param(required = false, inline)]
    order: Order,
    /// From the page before.
    #[param(required = false, pattern = "^[0-9]{1,15}-[0-9]{1,15}$")]
    cursor: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}
