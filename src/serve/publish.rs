//! Publishing: an update goes into Kafka, so that everything downstream sees it, and is answered for once Kafka has it.
//!
//! An `Idempotency-Key` is remembered in Redis, for all servers of a group, before the record goes and again with its place:
//!
//! | the request comes again | finds | gets |
//! |---|---|---|
//! | after it was answered | its place | the same answer, marked as replayed |
//! | while it is on its way | that it is | 409, to be tried again |
//! | after the server died in between | that it is on its way, for a minute | 409, and then it is published again: perhaps a second record |
//! | after Kafka did not acknowledge it | nothing | is published again: perhaps a second record, where Kafka had it and could not say so |
//! | with another body | the first one's fingerprint | 422 |
//!
//! The header `idempotency-key` goes with the record, so that a consumer can find the two that the table leaves.
use super::Api;
use super::access::Client;
use super::offer::Offer;
use super::problem::Problem;
use super::store::Failure;
use crate::core::encode::Encoder;
use crate::core::record::{Record, TopicPartition};
use crate::core::route;
use crate::core::state::StateKey;
use crate::kafka::publisher::Unpublished;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use redis::Pipeline;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

/// The longest key of a request.
const KEY_MAX: usize = 200;
/// How long a record may be on its way before the mark of a server that died is taken for none; where a request may take longer than
/// half of that, twice `serve.timeout`: no record's mark ends before Kafka has been given up on.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// Where a record stands, as it is answered.
fn place(topic: &str, (partition, offset): (i32, i64)) -> String {
    json!({"topic": topic, "partition": partition, "offset": offset}).to_string()
}

fn created(body: String, replayed: bool) -> Response {
    let headers = [("content-type", "application/json"), ("idempotency-replayed", if replayed { "true" } else { "false" })];
    (StatusCode::CREATED, headers, body).into_response()
}

/// What is remembered of a request that came with a key.
struct Mark {
    name: StateKey,
    fingerprint: String,
}

/// What a mark's look-up came to.
enum Found {
    /// Nobody has come with this key; it is marked now.
    New,
    Done(String),
}

impl Api {
    pub(super) async fn publish(self: Arc<Self>, offer: usize, key: Vec<u8>, client: &Client, headers: &HeaderMap, body: Bytes) -> Result<Response, Problem> {
        let topic = self.topic(&self.offers[offer])?.to_owned();
        self.check_record(&topic, &key, &body)?;
        let id = idempotency_key(headers)?;
        let mark = id.as_ref().map(|id| self.mark(&topic, &key, client, id, &body));
        if let Some(mark) = &mark
            && let Found::Done(answer) = self.look_up(mark).await?
        {
            return Ok(created(answer, true));
        }
        // Beside the request: who hangs up does not leave it half done.
        let api = self.clone();
        let done = tokio::spawn(async move {
            let sent = id.as_deref().map(|id| ("idempotency-key", id));
            let published = api.publisher.publish(&topic, &key, &body, sent.as_slice()).await.map(|at| place(&topic, at));
            if let Some(mark) = &mark {
                api.settle(mark, published.as_deref().ok()).await;
            }
            published
        });
        match done.await {
            Ok(Ok(body)) => Ok(created(body, false)),
            Ok(Err(Unpublished::Away(why))) => Err(Problem::away(
                "kafka-away",
                format!("Kafka has not acknowledged it ({why}): it is not known to be published; try again, best with the same Idempotency-Key"),
            )),
            Ok(Err(Unpublished::TooLarge(why))) => Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", why).about("body")),
            Ok(Err(Unpublished::Refused(why))) => Err(Problem::new(StatusCode::BAD_GATEWAY, "kafka-refused", format!("Kafka refuses it: {why}"))),
            Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "publishing panicked; the server's log has the message")),
        }
    }

    fn topic<'a>(&self, offer: &'a Offer) -> Result<&'a str, Problem> {
        let why = || offer.lacks.iter().find(|l| l.starts_with("no publishing")).cloned().unwrap_or_default();
        offer.topic.as_deref().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not-offered", format!("the route {:?} has {}", offer.name, why())))
    }

    /// What the bridge would make a dead letter is not published.
    fn check_record(&self, topic: &str, key: &[u8], body: &[u8]) -> Result<(), Problem> {
        if body.is_empty() {
            return Err(Problem::field("body", "", "an update; an empty one would be a tombstone"));
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let record = Record::copy(TopicPartition::new(topic, 0), 0, Some(now), Some(key), Some(body), []);
        let through = route::through(&self.routes, topic);
        let mut context = route::Context { now_ms: now, ..route::Context::default() };
        route::render(&self.routes, &through, &record, &mut Encoder::default(), |_| (), &mut Vec::new(), &mut context).map(drop).map_err(|poison| {
            let route = &self.routes[poison.route].name;
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "would-be-dead", format!("the route {route:?} could not apply it: {}", poison.reason)).about("body")
        })
    }

    fn mark(&self, topic: &str, key: &[u8], client: &Client, id: &str, body: &[u8]) -> Mark {
        let whose = [topic.as_bytes(), key, client.to_string().as_bytes(), id.as_bytes()].map(|part| format!("{:032x}", xxh3_128(part))).concat();
        let name = StateKey::once(&self.prefix, &self.group, &format!("{:032x}", xxh3_128(whose.as_bytes())));
        Mark { name, fingerprint: format!("{:032x}", xxh3_128(body)) }
    }

    /// Marks a request as on its way, or finds what it came to.
    async fn look_up(&self, mark: &Mark) -> Result<Found, Problem> {
        let mut ask = Pipeline::new();
        ask.cmd("SET").arg(&mark.name.0).arg(format!("{} ", mark.fingerprint)).arg("NX").arg("PX").arg(millis(ON_ITS_WAY.max(self.serve.timeout.0 * 2)));
        ask.cmd("GET").arg(&mark.name.0);
        let (set, found): (Option<String>, Option<String>) = self.store.ask(&ask).await?;
        if set.is_some() {
            return Ok(Found::New);
        }
        let found = found.unwrap_or_default();
        match found.split_once(' ') {
            Some((first, _)) if first != mark.fingerprint => {
                let detail = "this Idempotency-Key came with another body before; take a new key for a new update";
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-used", detail).about("Idempotency-Key"))
            }
            Some((_, answer)) if !answer.is_empty() => Ok(Found::Done(answer.to_owned())),
            _ => Err(Problem::new(StatusCode::CONFLICT, "on-its-way", "a request with this Idempotency-Key is on its way").about("Idempotency-Key").after(1)),
        }
    }

    /// Keeps what a request came to, or that it came to nothing.
    async fn settle(&self, mark: &Mark, answer: Option<&str>) {
        let mut ask = Pipeline::new();
        match answer {
            Some(answer) => ask.cmd("SET").arg(&mark.name.0).arg(format!("{} {answer}", mark.fingerprint)).arg("PX").arg(millis(self.serve.idempotency.0)),
            None => ask.cmd("DEL").arg(&mark.name.0),
        }
        .ignore();
        if let Err(Failure::Away(why) | Failure::Refused(why)) = self.store.ask::<()>(&ask).await {
            tracing::warn!(code = "idempotency-lost", "what a request came to is not kept in Redis ({why}): it may be published again in a minute");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|t| (1..=KEY_MAX).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic()));
    text.map(|t| Some(t.to_owned())).ok_or_else(|| Problem::field("Idempotency-Key", value, format!("1 to {KEY_MAX} printable characters without a space")))
}
