//! The hub: new entries of the streams, from one connection to Redis to any number of clients.
//!
//! PUBLISH only says that a key has news; what is sent on are the stream's entries, which have ids. The hub goes in windows
//! of Redis' clock: all entries before the time `upto` were sent, none of those from there on. A round asks what time it is,
//! reads the entries of each key that has news up to that time, and sends them in the order of (id, key). The messages and
//! the replies come on one connection (RESP3), so with the time's reply each message about an entry before it is here; and
//! an entry's id is not before the time at which it is added. So nothing is missed and nothing sent twice; a client that
//! comes to the hub is told from which time on it gets everything, and reads what is before in the streams.
use super::Api;
use super::access::Client;
use super::entry::{self, Id, Raw};
use super::offer::Channels;
use super::problem::Problem;
use super::store::Failure;
use axum::body::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, PushKind, pipe};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Between two rounds at the least: what comes meanwhile goes together.
const PACE: Duration = Duration::from_millis(5);
/// Without news, whether the connection lives is seen this often.
const QUIET: Duration = Duration::from_secs(5);
/// Between two attempts to reach Redis.
const AGAIN: Duration = Duration::from_millis(500);
/// Keys that are read with one exchange.
const KEYS_MAX: usize = 256;
/// Entries of a key that are read at once.
const ENTRIES_MAX: usize = 1000;

/// A key of an offer.
pub(super) type Key = (usize, Vec<u8>);

/// An entry on its way.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) id: Id,
    pub(super) key: Vec<u8>,
    /// As an event.
    pub(super) frame: Bytes,
}

/// A key in JSON: a text, or where it is none its path segment.
pub(super) fn shown(key: &[u8]) -> Value {
    std::str::from_utf8(key).map_or_else(|_| json!({"encoded": super::path::encode(key)}), |text| json!(text))
}

/// Writes an entry as an event. Its id is its place: the entry's id and the key.
pub(super) fn update(key: &[u8], raw: &Raw, offer: &super::offer::Offer) -> Option<Update> {
    let id: Id = raw.0.parse().ok()?;
    let mut frame = format!("id: {id}/{}\nevent: update\ndata: {{\"key\":{},\"entry\":", super::path::encode(key), shown(key)).into_bytes();
    entry::write_json(raw, offer, &mut frame);
    frame.extend_from_slice(b"}\n\n");
    Some(Update { id, key: key.to_vec(), frame: frame.into() })
}

/// What a listener wants: one key of a route, or all of them.
type Topic = (usize, Option<Vec<u8>>);

/// Somebody who wants to know.
struct Listener {
    queue: mpsc::Sender<Update>,
    client: Client,
}

/// Somebody who comes to the hub, and is told from which time on everything comes.
struct Newcomer {
    topic: Topic,
    listener: Listener,
    told: oneshot::Sender<u64>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Hub {
    newcomers: Mutex<Vec<Newcomer>>,
    /// Keys that may have news.
    news: Mutex<BTreeSet<Key>>,
    woken: Notify,
}

impl Hub {
    /// Comes to the hub: the time from which on everything comes, and where it comes.
    pub(super) async fn join(&self, route: usize, key: Option<Vec<u8>>, client: Client, room: usize) -> Result<(u64, mpsc::Receiver<Update>), Problem> {
        let (queue, updates) = mpsc::channel(room);
        let (told, from) = oneshot::channel();
        self.newcomers.lock().push(Newcomer { topic: (route, key), listener: Listener { queue, client }, told });
        self.woken.notify_one();
        match tokio::time::timeout(Duration::from_secs(3), from).await {
            Ok(Ok(from)) => Ok((from, updates)),
            _ => Err(Problem::away("redis-away", "updates can't be followed now: Redis gives no answer")),
        }
    }

    /// A pushed message.
    fn pushed(&self, message: &PushInfo, channels: &[(usize, Channels)]) {
        let (PushKind::PMessage, [redis::Value::BulkString(pattern), redis::Value::BulkString(channel), ..]) = (&message.kind, message.data.as_slice()) else {
            return;
        };
        for (offer, channels) in channels.iter().filter(|(_, c)| c.pattern == *pattern) {
            if let Some(key) = channels.key(channel) {
                self.news.lock().insert((*offer, key.to_vec()));
                self.woken.notify_one();
            }
        }
    }
}

/// Those who want the same.
#[derive(Default)]
struct Group {
    listeners: Vec<Listener>,
    /// The update that they got last.
    last: Option<Update>,
}

impl Group {
    /// Hands an update to all. Who has no room for it is dropped: nobody else waits.
    fn send(&mut self, update: &Update) {
        self.listeners.retain(|l| match l.queue.try_send(update.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let waiting = l.queue.max_capacity();
                tracing::warn!(code = "live-dropped", client = %l.client, "a live client reads too slowly and is dropped: {waiting} updates wait for it (serve.live_queue)");
                false
            }
        });
    }
}

/// What a hub's task has.
struct Rounds {
    api: Arc<Api>,
    groups: HashMap<Topic, Group>,
    /// All entries before this time were sent.
    upto: u64,
}

/// Runs the hub, while the server does.
pub(super) async fn run(api: Arc<Api>) {
    let mut rounds = Rounds { api, groups: HashMap::new(), upto: 0 };
    loop {
        if let Err(failure) = rounds.follow().await {
            let hub = &rounds.api.hub;
            tracing::debug!("the hub lost Redis: {failure:?}");
            // Who waits to come in is told that Redis is away.
            hub.newcomers.lock().clear();
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Rounds {
    /// Follows the streams until nobody wants to know any more, or Redis is lost.
    async fn follow(&mut self) -> Result<(), Failure> {
        while self.groups.is_empty() && self.api.hub.newcomers.lock().is_empty() {
            self.api.hub.woken.notified().await;
        }
        let channels: Vec<(usize, Channels)> =
            self.api.offers.iter().enumerate().flat_map(|(o, offer)| offer.live.iter().map(move |c| (o, c.clone()))).collect();
        let (api, heard) = (self.api.clone(), channels.clone());
        let pushed = move |message: PushInfo| -> Result<(), redis::aio::SendError> {
            api.hub.pushed(&message, &heard);
            Ok(())
        };
        let mut redis = self.api.store.connect(Some(pushed)).await?;
        for pattern in channels.iter().map(|(_, c)| &c.pattern).collect::<BTreeSet<_>>() {
            redis.psubscribe(pattern.as_slice()).await?;
        }
        if self.groups.is_empty() {
            self.upto = time(&mut redis).await?;
        } else {
            // What was published meanwhile nobody heard: all that is listened to may have news; or Redis came back without.
            self.tell_gaps().await?;
            self.suspect_all().await?;
        }
        loop {
            self.round(&mut redis).await?;
            if self.groups.is_empty() && self.api.hub.newcomers.lock().is_empty() {
                return Ok(());
            }
            tokio::time::sleep(PACE).await;
            if self.api.hub.news.lock().is_empty() {
                _ = tokio::time::timeout(QUIET, self.api.hub.woken.notified()).await;
            }
        }
    }

    /// Tells those whose last update is no longer in its stream.
    async fn tell_gaps(&mut self) -> Result<(), Failure> {
        let told: Vec<(Topic, Update)> = self.groups.iter().filter_map(|(topic, group)| Some((topic.clone(), group.last.clone()?))).collect();
        let places: Vec<(usize, &Vec<u8>, Id)> = told.iter().map(|((offer, _), last)| (*offer, &last.key, last.id)).collect();
        let gaps = self.api.gaps(&places).await.map_err(|_| Failure::Away("the streams can't be read".into()))?;
        for ((topic, last), gap) in told.into_iter().zip(gaps) {
            let (Some(frame), Some(group)) = (gap, self.groups.get_mut(&topic)) else { continue };
            group.last = None;
            // Behind all that a client may have come with.
            group.send(&Update { id: Id { ms: u64::MAX, seq: u64::MAX }, key: last.key, frame });
        }
        Ok(())
    }

    async fn suspect_all(&self) -> Result<(), Failure> {
        let mut suspects: BTreeSet<Key> = self.groups.keys().filter_map(|(route, key)| Some((*route, key.clone()?))).collect();
        for route in self.groups.keys().filter(|(_, key)| key.is_none()).map(|(route, _)| *route) {
            suspects.extend(self.api.all_keys(route).await.map_err(|_| Failure::Away("the keys can't be listed".into()))?.into_iter().map(|k| (route, k)));
        }
        self.api.hub.news.lock().append(&mut suspects);
        Ok(())
    }

    async fn round(&mut self, redis: &mut MultiplexedConnection) -> Result<(), Failure> {
        self.groups.retain(|_, group| {
            group.listeners.retain(|l| !l.queue.is_closed());
            !group.listeners.is_empty()
        });
        let newcomers = std::mem::take(&mut *self.api.hub.newcomers.lock());
        let now = time(redis).await?;
        // Where the clock went back, it is waited until it is there again.
        let until = now.max(self.upto);
        let news = std::mem::take(&mut *self.api.hub.news.lock());
        let wants = |topic: Topic| self.groups.contains_key(&topic);
        let wanted: Vec<&Key> = news.iter().filter(|(route, key)| wants((*route, None)) || wants((*route, Some(key.clone())))).collect();
        let mut later = BTreeSet::new();
        let mut updates = Vec::new();
        for keys in wanted.chunks(KEYS_MAX) {
            self.read(redis, keys, until, &mut updates, &mut later).await.inspect_err(|_| self.api.hub.news.lock().extend(news.iter().cloned()))?;
        }
        updates.sort_by(|(_, a), (_, b)| (a.id, &a.key).cmp(&(b.id, &b.key)));
        for (route, update) in updates {
            self.send(route, &update);
        }
        self.upto = until;
        if !newcomers.is_empty() {
            // Of what is new and nobody wanted, they may want what comes from here on.
            later.extend(news);
            later.extend(newcomers.iter().filter_map(|n| Some((n.topic.0, n.topic.1.clone()?))));
        }
        self.api.hub.news.lock().append(&mut later);
        for newcomer in newcomers {
            if newcomer.told.send(self.upto).is_ok() {
                self.groups.entry(newcomer.topic).or_default().listeners.push(newcomer.listener);
            }
        }
        Ok(())
    }

    /// Reads the entries of some keys in the window; a key that has later ones is looked at again.
    async fn read(
        &self,
        redis: &mut MultiplexedConnection,
        keys: &[&Key],
        until: u64,
        updates: &mut Vec<(usize, Update)>,
        later: &mut BTreeSet<Key>,
    ) -> Result<(), Failure> {
        let mut left: Vec<(&Key, String)> = keys.iter().map(|key| (*key, format!("{}-0", self.upto))).collect();
        while !left.is_empty() {
            let mut ask = Pipeline::new();
            for ((route, key), from) in &left {
                let name = self.api.offers[*route].history.as_ref().map(|named| named.name(key)).unwrap_or_default();
                ask.cmd("XRANGE").arg(name).arg(from).arg("+").arg("COUNT").arg(ENTRIES_MAX);
            }
            let pages: Vec<Vec<Raw>> = ask.query_async(redis).await?;
            let mut more = Vec::new();
            for ((key, _), page) in left.into_iter().zip(pages) {
                let full = page.len() == ENTRIES_MAX;
                let mut ended = false;
                let mut last = String::new();
                for raw in page {
                    let Some(update) = update(&key.1, &raw, &self.api.offers[key.0]) else { continue };
                    if update.id.ms >= until {
                        later.insert(key.clone());
                        ended = true;
                        break;
                    }
                    last = format!("({}", raw.0);
                    updates.push((key.0, update));
                }
                if full && !ended {
                    more.push((key, last));
                }
            }
            left = more;
        }
        Ok(())
    }

    /// Hands an update to all who want it.
    fn send(&mut self, offer: usize, update: &Update) {
        for topic in [(offer, None), (offer, Some(update.key.clone()))] {
            let Some(group) = self.groups.get_mut(&topic) else { continue };
            group.send(update);
            group.last = Some(update.clone());
        }
    }
}

async fn time(redis: &mut MultiplexedConnection) -> Result<u64, Failure> {
    let ((seconds, micros),): ((u64, u64),) = pipe().cmd("TIME").query_async(redis).await?;
    Ok(seconds * 1000 + micros / 1000)
}
