//! Latest, history, and the lists of keys and routes.
use super::Api;
use super::answer::Page;
use super::entry;
use super::offer::Offer;
use super::problem::Problem;
use super::query::Params;
use super::store::Failure;
use crate::core::encode::Encoder;
use crate::core::reply::Reply;
use crate::core::state::StateKey;
use axum::http::{StatusCode, Uri};
use redis::{Pipeline, pipe};
use serde_json::{Value, json};

/// Takes a key out of an index if none of its data is there, in one step with that look: a transaction of the bridge comes
/// before, and the data is seen, or after, and names the key again.
const TAKE_OUT: &str = "if redis.call('EXISTS', unpack(KEYS, 2)) == 0 then return redis.call('ZREM', KEYS[1], ARGV[1]) end return 0";

/// What a route does not offer can't be asked for.
pub(super) fn offered<T>(offer: &Offer, part: Option<T>, what: &str) -> Result<T, Problem> {
    let why = || offer.lacks.iter().find(|l| l.starts_with(&format!("no {what}"))).cloned().unwrap_or_else(|| format!("no {what} under this name"));
    part.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not-offered", format!("the route {:?} has {}", offer.name, why())))
}

fn nothing(offer: &Offer, key: &[u8], what: &str) -> Problem {
    let key: String = String::from_utf8_lossy(key).chars().take(100).collect();
    let detail = format!("the route {:?} has no {what} of {key:?}: none was written, or it has expired; the list of keys tells which there are", offer.name);
    Problem::new(StatusCode::NOT_FOUND, "no-data", detail).about("key")
}

fn unexpected() -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "redis-refused", "Redis answered something else than entries of a stream")
}

/// A page of the keys that have data.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) keys: Vec<Vec<u8>>,
    /// After which key the next page begins.
    pub(super) next: Option<Vec<u8>>,
    /// Why keys without data were left in the index.
    pub(super) stays: Option<Failure>,
}

impl Api {
    /// The value as it was written.
    pub(super) async fn latest(&self, offer: &Offer, key: &[u8], uri: &Uri) -> Result<Page, Problem> {
        Params::read(uri, &[])?;
        let name = offered(offer, offer.latest.as_ref(), "latest")?.name(key);
        let (value,): (Option<Vec<u8>>,) = self.store.ask(pipe().cmd("GET").arg(name)).await?;
        let body = value.ok_or_else(|| nothing(offer, key, "value"))?;
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        Ok(Page { body, content: if is_json { "application/json" } else { "application/octet-stream" }, next: None })
    }

    /// Entries of the stream. Without an order the last ones of the range, the oldest of them first.
    pub(super) async fn history(&self, offer: &Offer, key: &[u8], uri: &Uri) -> Result<Page, Problem> {
        let name = offered(offer, offer.history.as_ref(), "history")?.name(key);
        let params = Params::read(uri, &["count", "from", "to", "order", "cursor"])?;
        let count = params.count(self.serve.count_max)?;
        let order = params.one_of("order", &["asc", "desc"])?;
        let bound = |name, seq, open: &str| Ok::<_, Problem>(params.id(name, seq)?.map_or_else(|| open.to_owned(), |id| id.to_string()));
        let (mut from, mut to) = (bound("from", 0, "-")?, bound("to", u64::MAX, "+")?);
        if let Some(cursor) = params.cursor()? {
            let (bound, beyond) = if order == Some("asc") { (&mut from, cursor.next()) } else { (&mut to, cursor.before()) };
            let Some(beyond) = beyond else { return Ok(Page::json("[]".into(), None)) };
            *bound = beyond.to_string();
        }
        let mut ask = Encoder::default();
        let count_text = count.to_string();
        let (command, bounds) = if order == Some("asc") { ("XRANGE", [from, to]) } else { ("XREVRANGE", [to, from]) };
        ask.command(&[command.as_bytes(), &name, bounds[0].as_bytes(), bounds[1].as_bytes(), b"COUNT", count_text.as_bytes()]);
        ask.command(&[b"EXISTS".as_slice(), &name]);
        let replies = self.store.ask_many(ask).await?;
        let [range, exists] = replies.as_slice() else { return Err(unexpected()) };
        let (mut entries, exists) = (entry::raws(range).ok_or_else(unexpected)?, *exists != Reply::Int(0));
        // That there is none of a key may be a typo of the key; of a name that the route itself writes it is an empty one.
        if !exists && offer.only.is_none() {
            return Err(nothing(offer, key, "stream"));
        }
        let next = entries.last().filter(|_| entries.len() == count).map(|(id, _)| id.clone());
        if order.is_none() {
            entries.reverse();
        }
        let mut body = vec![b'['];
        for (n, raw) in entries.iter().enumerate() {
            if n > 0 {
                body.push(b',');
            }
            entry::write_json(raw, offer, &mut body);
        }
        body.push(b']');
        Ok(Page { body, content: "application/json", next })
    }

    /// The keys that have data, in the order of their bytes, under this name.
    pub(super) async fn keys(&self, offer: &Offer, uri: &Uri, name: &str) -> Result<Page, Problem> {
        let params = Params::read(uri, &["count", "cursor"])?;
        let count = params.count(self.serve.count_max)?;
        let after = match params.text("cursor") {
            Some(cursor) => Some(unhex(cursor).ok_or_else(|| Problem::field("cursor", cursor, "the cursor of the page before, as its Link has it"))?),
            None => None,
        };
        let index = offered(offer, offer.index.as_ref(), "list")?;
        let Listed { keys, next, .. } = self.listed(offer, index, after, count).await?;
        let (texts, others): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) = keys.iter().partition(|k| std::str::from_utf8(k).is_ok());
        let mut body = json!({ name: texts.iter().map(|k| String::from_utf8_lossy(k)).collect::<Vec<_>>() });
        if !others.is_empty() {
            // Not text: as they stand in a path.
            body["encoded"] = others.iter().map(|k| Value::from(super::path::encode(k))).collect();
        }
        Ok(Page::json(body.to_string(), next.map(|key| hex(&key))))
    }

    /// A page of the keys that have data, and after which key the next one begins. A key whose data is gone is taken out.
    pub(super) async fn listed(&self, offer: &Offer, index: &StateKey, after: Option<Vec<u8>>, count: usize) -> Result<Listed, Failure> {
        let from = after.map_or_else(|| b"-".to_vec(), |key| [b"(", key.as_slice()].concat());
        let mut ask = Pipeline::new();
        ask.cmd("ZRANGEBYLEX").arg(&index.0).arg(from).arg("+").arg("LIMIT").arg(0).arg(count);
        let (keys,): (Vec<Vec<u8>>,) = self.store.ask(&ask).await?;
        if keys.is_empty() {
            return Ok(Listed::default());
        }
        let mut ask = Pipeline::new();
        for key in &keys {
            ask.cmd("EXISTS").arg(offer.data(key));
        }
        let there: Vec<i64> = self.store.ask(&ask).await?;
        let mut take_out = Pipeline::new();
        for (key, _) in keys.iter().zip(&there).filter(|(_, n)| **n == 0) {
            let data = offer.data(key);
            take_out.cmd("EVAL").arg(TAKE_OUT).arg(1 + data.len()).arg(&index.0).arg(data).arg(key).ignore();
        }
        let stays = if take_out.is_empty() { None } else { self.store.ask::<()>(&take_out).await.err() };
        let next = keys.last().cloned().filter(|_| keys.len() == count);
        Ok(Listed { keys: keys.into_iter().zip(there).filter(|(_, n)| *n > 0).map(|(key, _)| key).collect(), next, stays })
    }

    /// What there is.
    pub(super) fn routes(&self) -> Page {
        let fixed = |of: &Offer| -> Vec<Value> {
            let all = self.offers.iter().filter(|o| o.name == of.name);
            all.filter_map(|o| Some(json!({"key": String::from_utf8_lossy(o.only.as_ref()?), "offers": o.offered(), "lacks": o.lacks}))).collect()
        };
        let keyed = self.offers.iter().filter(|o| o.only.is_none());
        let routes: Vec<Value> = keyed.map(|o| json!({"name": o.name, "offers": o.offered(), "lacks": o.lacks, "fixed": fixed(o)})).collect();
        Page::json(json!({"routes": routes, "streaming": self.streaming.map(|s| &self.offers[s].name)}).to_string(), None)
    }

    /// What time it is at Redis, in ms.
    pub(super) async fn redis_time(&self) -> Result<u64, Failure> {
        let ((seconds, micros),): ((u64, u64),) = self.store.ask(pipe().cmd("TIME")).await?;
        Ok(seconds * 1000 + micros / 1000)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let pair = |p: &[u8]| std::str::from_utf8(p).ok().filter(|t| t.bytes().all(digit)).and_then(|t| u8::from_str_radix(t, 16).ok());
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect())?
}
