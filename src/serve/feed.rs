//! What one live client gets: first what it missed, from the streams, then what the hub sends.
//!
//! `Last-Event-ID` is a place: an entry's id and a key. What lies behind it is read in windows of time up to now, at the
//! client's own pace; then it joins the hub, which says from which time on everything comes, and the rest up to there is read.
use super::Api;
use super::access::Client;
use super::entry::Id;
use super::live::{Update, update};
use super::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a client that gets nothing is told that the line lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Entries that are read ahead of a client.
const AHEAD_MAX: usize = 5000;
/// Of how many keys one exchange reads, and how much of each.
const KEYS_MAX: usize = 256;
const PAGE: usize = 200;

/// A place among the updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    id: Id,
    /// Empty where it is no update's.
    key: Vec<u8>,
}

impl Place {
    /// Reads a `Last-Event-ID`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let (id, key) = text.split_once('/').unwrap_or((text, ""));
        let id = id.parse().ok().filter(|_| id.contains('-'));
        let id = id.ok_or_else(|| Problem::field("Last-Event-ID", text, "the id of an event of this stream, or of an entry"))?;
        Ok(Self { id, key: percent_encoding::percent_decode_str(key).collect() })
    }

    fn is_before(&self, update: &Update, of_one: bool) -> bool {
        self.id < update.id || !of_one && self.id == update.id && self.key < update.key
    }
}

enum Stage {
    /// Reads up to now.
    CatchUp,
    /// Joined: reads up to where the hub begins.
    Close(u64, mpsc::Receiver<Update>),
    Live(mpsc::Receiver<Update>),
    Over,
}

/// See the module's documentation.
pub(super) struct Feed {
    api: Arc<Api>,
    client: Client,
    route: usize,
    key: Option<Vec<u8>>,
    /// What the client has; nothing where it only wants what comes.
    after: Option<Place>,
    /// Everything before this time was read.
    upto: u64,
    /// How much time is read at once, in ms.
    window: u64,
    ready: VecDeque<Bytes>,
    stage: Stage,
}

impl Feed {
    pub(super) async fn open(api: Arc<Api>, client: Client, route: usize, key: Option<Vec<u8>>, after: Option<Place>) -> Result<Self, Problem> {
        let mut feed = Self {
            api,
            client,
            route,
            key,
            upto: after.as_ref().map_or(0, |p| p.id.ms),
            after,
            window: 1 << 20,
            ready: VecDeque::new(),
            stage: Stage::CatchUp,
        };
        if feed.after.is_none() {
            let (from, updates) = feed.join().await?;
            // A place to come back to before anything came.
            let before = Id { ms: from.saturating_sub(1), seq: u64::MAX };
            feed.ready.push_back(format!("id: {before}\nevent: open\ndata: {{}}\n\n").into());
            feed.stage = Stage::Live(updates);
        } else {
            // Whether Redis is there, and whether what the client has is.
            feed.api.redis_time().await?;
            feed.tell_gap().await?;
        }
        Ok(feed)
    }

    async fn join(&self) -> Result<(u64, mpsc::Receiver<Update>), Problem> {
        self.api.hub.join(self.route, self.key.clone(), self.client.clone(), self.api.serve.live_queue).await
    }

    /// Says so where the entry that the client has last is gone, and so perhaps what came behind it.
    async fn tell_gap(&mut self) -> Result<(), Problem> {
        let Some(after) = &self.after else { return Ok(()) };
        let key = if after.key.is_empty() { self.key.as_ref() } else { Some(&after.key) };
        let other = self.key.as_ref().is_some_and(|own| key != Some(own));
        // The place that an open event names is no entry's.
        let Some(key) = key.filter(|_| !other && after.id.seq != u64::MAX) else { return Ok(()) };
        let gaps = self.api.gaps(&[(self.route, key, after.id)]).await?;
        self.ready.extend(gaps.into_iter().flatten());
        Ok(())
    }

    /// The response that it becomes.
    pub(super) fn into_response(self) -> Response {
        let events = futures_util::stream::unfold(self, |mut feed| async { feed.next().await.map(|bytes| (Ok::<_, std::convert::Infallible>(bytes), feed)) });
        let headers =
            [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store"), (header::HeaderName::from_static("x-accel-buffering"), "no")];
        (headers, Body::from_stream(events)).into_response()
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Over => return None,
                Stage::CatchUp => self.stage = self.catch_up().await.ok()?,
                Stage::Close(from, updates) => {
                    self.read_window(from).await.ok()?;
                    self.stage = if self.upto < from { Stage::Close(from, updates) } else { Stage::Live(updates) };
                }
                Stage::Live(mut updates) => {
                    let bytes = match tokio::time::timeout(HEARTBEAT, updates.recv()).await {
                        Err(_) => Bytes::from_static(b":\n\n"),
                        Ok(None) => return None,
                        Ok(Some(update)) => {
                            self.stage = Stage::Live(updates);
                            if self.after.as_ref().is_some_and(|after| !after.is_before(&update, self.key.is_some())) {
                                continue;
                            }
                            return Some(update.frame);
                        }
                    };
                    self.stage = Stage::Live(updates);
                    return Some(bytes);
                }
            }
        }
    }

    async fn catch_up(&mut self) -> Result<Stage, Problem> {
        let now = self.api.redis_time().await?;
        self.read_window(now).await?;
        if self.upto < now {
            return Ok(Stage::CatchUp);
        }
        let (from, updates) = self.join().await?;
        Ok(Stage::Close(from, updates))
    }

    /// Reads what lies before a time, or, where that is too much at once, the beginning of it.
    async fn read_window(&mut self, end: u64) -> Result<(), Problem> {
        if self.upto >= end {
            return Ok(());
        }
        let keys = match &self.key {
            Some(key) => vec![key.clone()],
            None => self.api.all_keys(self.route).await?,
        };
        loop {
            let until = end.min(self.upto.saturating_add(self.window));
            if let Some(mut found) = self.read(&keys, until).await? {
                found.sort_by(|a, b| (a.id, &a.key).cmp(&(b.id, &b.key)));
                let of_one = self.key.is_some();
                found.retain(|u| self.after.as_ref().is_none_or(|after| after.is_before(u, of_one)));
                self.ready.extend(found.into_iter().map(|u| u.frame));
                self.upto = until;
                self.window = self.window.saturating_mul(2).min(1 << 40);
                return Ok(());
            }
            self.window = (self.window / 4).max(1);
        }
    }

    /// The updates of some keys up to a time; `None` where they are too many. Those of one ms are never too many.
    async fn read(&self, keys: &[Vec<u8>], until: u64) -> Result<Option<Vec<Update>>, Problem> {
        let offer = &self.api.offers[self.route];
        let Some(named) = &offer.history else { return Ok(Some(Vec::new())) };
        let mut found = Vec::new();
        for keys in keys.chunks(KEYS_MAX) {
            let mut left: Vec<(&Vec<u8>, Id)> = keys.iter().map(|key| (key, Id { ms: self.upto, seq: 0 })).collect();
            while !left.is_empty() {
                let asked: Vec<(Vec<u8>, Id)> = left.iter().map(|(key, from)| (named.name(key), *from)).collect();
                let pages = self.api.entries(&asked, until, PAGE).await?;
                let mut more = Vec::new();
                for ((key, _), page) in left.into_iter().zip(pages) {
                    let updates: Vec<Update> = page.iter().filter_map(|raw| update(key, raw, offer)).collect();
                    more.extend(updates.last().filter(|_| page.len() == PAGE).and_then(|last| Some((key, last.id.next()?))));
                    found.extend(updates);
                }
                left = more;
                if found.len() >= AHEAD_MAX && until > self.upto + 1 {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }
}

impl Api {
    /// For each place of a key whose entry is gone, trimmed or lost with its stream, an event that says so.
    pub(super) async fn gaps(&self, places: &[(usize, &Vec<u8>, Id)]) -> Result<Vec<Option<Bytes>>, Problem> {
        let mut found = Vec::new();
        for places in places.chunks(KEYS_MAX) {
            let name = |(offer, key, _): &(usize, &Vec<u8>, Id)| self.offers[*offer].history.as_ref().map(|named| named.name(key)).unwrap_or_default();
            let asked: Vec<(Vec<u8>, Id)> = places.iter().map(|place| (name(place), place.2)).collect();
            let next = self.entries(&asked, u64::MAX, 1).await?;
            found.extend(places.iter().zip(next).map(|((_, key, after), next)| {
                let first: Option<Id> = next.first().and_then(|(id, _)| id.parse().ok());
                (first != Some(*after)).then(|| gap(key, *after, first))
            }));
        }
        Ok(found)
    }

    /// All keys of a route that have data.
    pub(super) async fn all_keys(&self, route: usize) -> Result<Vec<Vec<u8>>, Problem> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (mut keys, next) = self.listed(&self.offers[route], after, 1000).await?;
            all.append(&mut keys);
            after = next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}

/// Says that the entry which was the last is gone, and which is the first that there is behind it.
fn gap(key: &[u8], after: Id, first: Option<Id>) -> Bytes {
    let told = serde_json::json!({"key": super::live::shown(key), "after": after.to_string(), "first": first.map(|id| id.to_string())});
    format!("event: gap\ndata: {told}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_what_comes_behind_it() {
        let update = |ms, key: &str| Update { id: Id { ms, seq: 0 }, key: key.into(), frame: Bytes::new() };
        let place = Place::parse("5-0/BTC%2FUSD").unwrap_or_else(|_| panic!("it is one"));
        assert_eq!(place, Place { id: Id { ms: 5, seq: 0 }, key: b"BTC/USD".to_vec() });
        assert!(place.is_before(&update(5, "ETH/USD"), false) && !place.is_before(&update(5, "ETH/USD"), true));
        assert!(!place.is_before(&update(5, "BTC/USD"), false) && !place.is_before(&update(4, "Z"), false));
        assert!(place.is_before(&update(6, "A"), false) && place.is_before(&update(6, "A"), true));
        assert!(Place::parse("x").is_err() && Place::parse("5").is_err());
    }
}
