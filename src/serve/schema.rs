//! What bodies and parameters look like, for the OpenAPI document.
#![allow(dead_code, reason = "they describe what is written by hand")]
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};

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

/// An entry: its id, and its fields beside it; numbers as they were written. A field that is itself named `id` is `field.id`.
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

/// One of the Server-Sent Events of a live path.
#[derive(Serialize, ToSchema)]
pub(super) struct Event {
    /// A place to come back to, as Last-Event-ID.
    #[schema(required = false, example = "1701878400000-0/BTC%2FUSD")]
    id: String,
    #[schema(inline)]
    event: Told,
    /// JSON: of an update its `key` and `entry`.
    data: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Told {
    Open,
    Update,
    Gap,
}

/// Which keys.
#[derive(Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listed {
    /// Keys of a page at most; the bound is serve.count_max.
    #[param(required = false, minimum = 1, maximum = 1000)]
    count: u32,
    /// From the page before.
    #[param(required = false, pattern = "^([0-9a-f]{2})*$")]
    cursor: String,
}

/// From where on.
#[derive(Serialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct After {
    /// The id of the event, or of the entry, that came last.
    #[serde(rename = "Last-Event-ID")]
    #[param(required = false, pattern = "^[0-9]{1,19}-([0-9]{1,19}|18446744073709551615)(/.*)?$")]
    last_event_id: String,
}

/// That it is the same request.
#[derive(Serialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct Once {
    /// Makes a repeated request harmless.
    #[serde(rename = "Idempotency-Key")]
    #[param(required = false, min_length = 1, max_length = 200, pattern = "^[!-~]+$")]
    idempotency_key: String,
}

/// Which entries.
#[derive(Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// Entries at most; the bound is serve.count_max.
    #[param(required = false, minimum = 1, maximum = 1000)]
    count: u32,
    /// From this id, time in ms, or RFC 3339 time on.
    #[param(required = false, schema_with = point)]
    from: String,
    /// Up to this one.
    #[param(required = false, schema_with = point)]
    to: String,
    /// `asc`: from the oldest on; `desc`: from the newest on; without it the newest, the oldest of them first.
    #[param(required = false, inline)]
    order: Order,
    /// From the page before.
    #[param(required = false, pattern = "^[0-9]{1,19}-([0-9]{1,19}|18446744073709551615)$")]
    cursor: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

/// An entry's id, ms since 1970, or a time.
fn point() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let id = text().pattern(Some("^[0-9]{1,19}(-[0-9]{1,19})?$"));
    let words = "An entry's id, ms since 1970, or an RFC 3339 time; it belongs to the range";
    AnyOfBuilder::new().description(Some(words)).item(id).item(text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))).build().into()
}

/// An update of a route that takes JSON.
pub(super) struct Update;

impl PartialSchema for Update {
    fn schema() -> RefOr<Schema> {
        // The builder knows no `not`; what it takes for an extension stands beside the rest.
        let only_nulls = Extensions::from_iter([("not", json!({"additionalProperties": {"type": "null"}}))]);
        let words = "An object of which one field at the least is not null. What the route can't apply is refused with 422; a route with decode = \"raw\" takes any bytes.";
        ObjectBuilder::new().description(Some(words)).extensions(Some(only_nulls)).build().into()
    }
}

impl ToSchema for Update {}
