//! What one live client gets: first what it missed, from the streams, then what the hub sends.
//!
//! `Last-Event-ID` is a place: an entry's id and a key. What lies behind it is read in windows of time up to now, at the
//! client's own pace; then it joins the hub, which says from which time on everything comes, and the rest up to there is read.
use super::Api;
use super::access::Client;
use super::entry::Id;
use super::live::{Key, Newcomer, Told, Update};
use super::problem::Problem;
use super::read::Listed;
use super::store::Failure;
use super::stretch::{self, Gap, Had, Newest};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use std::collections::{BTreeSet, VecDeque};
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

    /// The entry that it names, of the one key that is followed or of one of all.
    fn entry(&self, followed: Option<&Vec<u8>>) -> Option<(Vec<u8>, Id)> {
        let key = if self.key.is_empty() { followed? } else { &self.key };
        // The place that an open event names is no entry's.
        (self.id.seq != u64::MAX && followed.is_none_or(|own| own == key)).then(|| (key.clone(), self.id))
    }

    fn is_before(&self, update: &Update, of_one: bool) -> bool {
        self.id < update.id || !of_one && self.id == update.id && self.key < update.key
    }
}

enum Stage {
    /// Reads up to now.
    CatchUp,
    /// Joined: reads up to where the hub begins.
    Close(u64, mpsc::Receiver<Told>),
    Live(mpsc::Receiver<Told>),
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
    /// And these entries last.
    newest: Newest,
    /// Keys of which nothing came since a gap was told.
    told: BTreeSet<Key>,
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
            newest: Newest::default(),
            told: BTreeSet::new(),
            window: 1 << 20,
            ready: VecDeque::new(),
            stage: Stage::CatchUp,
        };
        if let Some(after) = feed.after.clone() {
            feed.remember(&after).await?;
        } else {
            let (from, updates) = feed.join().await?;
            // A place to come back to before anything came.
            let before = Id { ms: from.saturating_sub(1), seq: u64::MAX };
            feed.ready.push_back(format!("id: {before}\nevent: open\ndata: {{}}\n\n").into());
            feed.stage = Stage::Live(updates);
        }
        Ok(feed)
    }

    async fn join(&self) -> Result<(u64, mpsc::Receiver<Told>), Problem> {
        let (key, client) = (self.key.clone(), self.client.clone());
        self.api.hub.join(Newcomer { route: self.route, key, client, resumes: self.after.is_some(), room: self.api.serve.live_queue }).await
    }

    async fn keys(&self) -> Result<Vec<Key>, Failure> {
        let keys = match &self.key {
            Some(key) => vec![key.clone()],
            None => self.api.all_keys(self.route).await?,
        };
        Ok(keys.into_iter().map(|key| (self.route, key)).collect())
    }

    /// What the client has of each key: the entry that it names, and of the others what stood there before.
    async fn remember(&mut self, after: &Place) -> Result<(), Failure> {
        let named = after.entry(self.key.as_ref());
        let others: Vec<(Key, Had)> = self.keys().await?.into_iter().map(|key| (key, Had::Before(after.id.ms))).collect();
        for keys in others.chunks(KEYS_MAX) {
            let newest = stretch::newest(&self.api.store, &self.api.offers, keys).await?;
            for ((key, _), newest) in keys.iter().zip(newest) {
                newest.iter().for_each(|id| self.newest.raise(key, *id));
            }
        }
        named.into_iter().for_each(|(key, id)| self.newest.raise(&(self.route, key), id));
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
                    self.stage = if self.upto < from {
                        Stage::Close(from, updates)
                    } else {
                        // From here on the hub knows best.
                        self.api.hub.read_before(&std::mem::take(&mut self.newest));
                        Stage::Live(updates)
                    };
                }
                Stage::Live(mut updates) => {
                    let told = tokio::time::timeout(HEARTBEAT, updates.recv()).await;
                    self.stage = Stage::Live(updates);
                    match told {
                        Err(_) => return Some(Bytes::from_static(b":\n\n")),
                        Ok(None) => return None,
                        Ok(Some(Told::Gap(frame))) => return Some(frame),
                        Ok(Some(Told::Update(update))) if self.lacks(&update) => return Some(update.frame),
                        Ok(Some(Told::Update(_))) => {}
                    }
                }
            }
        }
    }

    /// Whether an update is none of those that the client came with.
    fn lacks(&self, update: &Update) -> bool {
        self.after.as_ref().is_none_or(|after| after.is_before(update, self.key.is_some()))
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
    async fn read_window(&mut self, end: u64) -> Result<(), Failure> {
        if self.upto >= end {
            return Ok(());
        }
        let mut keys: BTreeSet<Key> = self.keys().await?.into_iter().collect();
        // What is gone from the list may be gone with what the client has.
        keys.extend(self.newest.keys().cloned());
        let keys: Vec<Key> = keys.into_iter().collect();
        loop {
            let until = end.min(self.upto.saturating_add(self.window));
            if let Some((gaps, mut found)) = self.read(&keys, until).await? {
                for (key, gap) in gaps {
                    self.newest.lower(&key, gap.newest);
                    if self.told.insert(key) {
                        self.ready.push_back(gap.frame);
                    }
                }
                found.sort_by(|a, b| (a.id, &a.key).cmp(&(b.id, &b.key)));
                for update in found {
                    let key = (self.route, update.key.clone());
                    self.newest.raise(&key, update.id);
                    self.told.remove(&key);
                    if self.lacks(&update) {
                        self.ready.push_back(update.frame);
                    }
                }
                self.upto = until;
                self.window = self.window.saturating_mul(2).min(1 << 40);
                return Ok(());
            }
            self.window = (self.window / 4).max(1);
        }
    }

    /// The updates of some keys up to a time; `None` where they are too many. Those of one ms are never too many.
    async fn read(&self, keys: &[Key], until: u64) -> Result<Option<(Vec<(Key, Gap)>, Vec<Update>)>, Failure> {
        let (mut gaps, mut found) = (Vec::new(), Vec::new());
        for keys in keys.chunks(KEYS_MAX) {
            let mut left: Vec<(Key, Had)> = keys.iter().map(|key| (key.clone(), self.newest.had(key, self.upto))).collect();
            while !left.is_empty() {
                let stretches = stretch::read(&self.api.store, &self.api.offers, &left, Some(until), PAGE).await?;
                let mut more = Vec::new();
                for ((key, _), stretch) in left.into_iter().zip(stretches) {
                    gaps.extend(stretch.gap.map(|gap| (key.clone(), gap)));
                    more.extend(stretch.updates.last().filter(|_| stretch.full).map(|last| (key, Had::Entry(last.id))));
                    found.extend(stretch.updates);
                }
                left = more;
                if found.len() >= AHEAD_MAX && until > self.upto + 1 {
                    return Ok(None);
                }
            }
        }
        Ok(Some((gaps, found)))
    }
}

impl Api {
    /// All keys of a route that have data.
    pub(super) async fn all_keys(&self, route: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let (mut all, mut after) = (Vec::new(), None);
        let Some(index) = &self.offers[route].index else { return Ok(all) };
        loop {
            let Listed { mut keys, next, .. } = self.listed(&self.offers[route], index, after, 1000).await?;
            all.append(&mut keys);
            after = next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
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
