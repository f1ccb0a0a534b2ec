//! The hub: new entries of the streams, from one connection to Redis to any number of clients.
//!
//! PUBLISH only says that a key has news; what is sent on are the stream's entries, which have ids. The hub goes in windows
//! of Redis' clock: all entries before the time `upto` that a message told of were sent, and none of those from there on.
//! A round asks what time it is, reads the entries of each key that has news up to that time, and sends them in the order
//! of (id, key). An entry without a message of its own comes with the next look at its key. The messages and
//! the replies come on one connection (RESP3), so with the time's reply each message about an entry before it is here; and
//! an entry's id is not before the time at which it is added. So nothing is missed and nothing sent twice; a client that
//! comes to the hub is told from which time on it gets everything, and reads what is before in the streams. What a stream loses
//! before it is read is told as a gap (`stretch`), whether the connection was lost meanwhile or not.
use super::Api;
use super::access::Client;
use super::entry::{self, Id, Raw};
use super::offer::Channels;
use super::problem::Problem;
use super::store::{Ask as _, Failure};
use super::stretch::{self, Gap, Had, Newest};
use axum::body::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, pipe};
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
/// Updates that are handed out before who gets them has its turn to send them on: a long round fills no queue of a client that
/// keeps up. Half of what a task may take in one turn.
const TURN: usize = 64;
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

/// What a listener is told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Update(Update),
    /// That updates may be missing, as an event.
    Gap(Bytes),
}

/// What a listener wants: one key of a route, or all of them.
type Topic = (usize, Option<Vec<u8>>);

/// Somebody who wants to know.
struct Listener {
    queue: mpsc::Sender<Told>,
    client: Client,
    /// It gets every entry from this time on, in ms, and none from before.
    from: u64,
    /// Whether it has what came before, too.
    resumes: bool,
}

/// Somebody who comes to the hub, and is told from which time on everything comes.
pub(super) struct Newcomer {
    pub(super) route: usize,
    /// One key, or all of the route's.
    pub(super) key: Option<Vec<u8>>,
    pub(super) client: Client,
    /// Whether it has what came before, too.
    pub(super) resumes: bool,
    /// How many updates may wait for it.
    pub(super) room: usize,
}

/// A newcomer at the door.
struct Knock {
    newcomer: Newcomer,
    queue: mpsc::Sender<Told>,
    told: oneshot::Sender<Result<u64, Failure>>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Hub {
    door: Mutex<Vec<Knock>>,
    /// Keys that may have news.
    news: Mutex<BTreeSet<Key>>,
    /// What was read of those that somebody listens to.
    newest: Mutex<Newest>,
    woken: Notify,
}

impl Hub {
    /// Comes to the hub: the time from which on everything comes, and where it comes.
    pub(super) async fn join(&self, newcomer: Newcomer) -> Result<(u64, mpsc::Receiver<Told>), Problem> {
        let (queue, updates) = mpsc::channel(newcomer.room);
        let (told, from) = oneshot::channel();
        self.door.lock().push(Knock { newcomer, queue, told });
        self.woken.notify_one();
        match tokio::time::timeout(Duration::from_secs(3), from).await {
            Ok(Ok(from)) => Ok((from?, updates)),
            _ => Err(Failure::Away("it has not said within 3 s what time it is".into()).into()),
        }
    }

    /// Somebody who has joined has read these before.
    pub(super) fn read_before(&self, newest: &Newest) {
        self.newest.lock().merge(newest);
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

impl Listener {
    /// The place since which it has everything.
    fn since(&self) -> Id {
        if self.resumes { Id::default() } else { Id { ms: self.from, seq: 0 } }
    }

    /// Whether it is still there, and has room for what it is told. Who has none is dropped: nobody else waits.
    fn take(&self, told: Told) -> bool {
        match self.queue.try_send(told) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                let waiting = self.queue.max_capacity();
                tracing::warn!(code = "live-dropped", client = %self.client, "a live client reads too slowly and is dropped: {waiting} updates wait for it (serve.live_queue)");
                false
            }
        }
    }
}

/// What a hub's task has.
struct Rounds {
    api: Arc<Api>,
    /// Who wants the same; none is empty.
    groups: HashMap<Topic, Vec<Listener>>,
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
            // Who waits to come in is told why it can't.
            std::mem::take(&mut *hub.door.lock()).into_iter().for_each(|knock| drop(knock.told.send(Err(failure.clone()))));
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Rounds {
    /// Follows the streams until nobody wants to know any more, or Redis is lost.
    async fn follow(&mut self) -> Result<(), Failure> {
        while self.groups.is_empty() && self.api.hub.door.lock().is_empty() {
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
        // What was added within the ms in which the subscription began may not have been heard: that ms is waited for, and what is
        // promised begins behind it.
        let begun = time(&redis).await?;
        let mut now = begun;
        while now == begun {
            now = time(&redis).await?;
        }
        if self.groups.is_empty() {
            self.upto = now;
            *self.api.hub.newest.lock() = Newest::default();
        } else {
            // What was published meanwhile nobody heard; or Redis came back without what it had.
            self.suspect_all().await?;
        }
        loop {
            self.round(&redis).await?;
            if self.groups.is_empty() && self.api.hub.door.lock().is_empty() {
                return Ok(());
            }
            tokio::time::sleep(PACE).await;
            if self.api.hub.news.lock().is_empty() {
                _ = tokio::time::timeout(QUIET, self.api.hub.woken.notified()).await;
            }
        }
    }

    /// All that is listened to may have news, and what was read of it may be gone.
    async fn suspect_all(&self) -> Result<(), Failure> {
        let mut suspects: BTreeSet<Key> = self.groups.keys().filter_map(|(route, key)| Some((*route, key.clone()?))).collect();
        for route in self.groups.keys().filter(|(_, key)| key.is_none()).map(|(route, _)| *route) {
            suspects.extend(self.api.all_keys(route).await?.into_iter().map(|key| (route, key)));
        }
        suspects.extend(self.api.hub.newest.lock().keys().cloned());
        self.api.hub.news.lock().append(&mut suspects);
        Ok(())
    }

    /// Those who follow all keys of a key's route, and those who follow this key.
    fn groups_of(&self, (route, key): &Key) -> impl Iterator<Item = &Vec<Listener>> {
        [(*route, None), (*route, Some(key.clone()))].into_iter().filter_map(|topic| self.groups.get(&topic))
    }

    fn wants(&self, key: &Key) -> bool {
        self.groups_of(key).next().is_some()
    }

    /// The time from which on somebody was promised the entries of a key. A key without a known entry is read from
    /// there on, not from the last round on: so no entry is passed over that had no message, as one of a replay.
    fn promised_from(&self, key: &Key) -> u64 {
        self.groups_of(key).flatten().map(|l| l.from).min().unwrap_or(self.upto)
    }

    async fn round(&mut self, redis: &MultiplexedConnection) -> Result<(), Failure> {
        let before = self.groups.len();
        self.groups.retain(|_, group| {
            group.retain(|l| !l.queue.is_closed());
            !group.is_empty()
        });
        if self.groups.len() < before {
            // What nobody wants is not read on.
            let mut newest = self.api.hub.newest.lock();
            newest.retain(|key| self.wants(key));
        }
        let now = time(redis).await?;
        // Where the clock went back, it is waited until it is there again.
        let until = now.max(self.upto);
        let news = std::mem::take(&mut *self.api.hub.news.lock());
        let wanted: Vec<&Key> = news.iter().filter(|key| self.wants(key)).collect();
        let mut found = Found::default();
        for keys in wanted.chunks(KEYS_MAX) {
            self.read(redis, keys, until, &mut found).await.inspect_err(|_| self.api.hub.news.lock().extend(news.iter().cloned()))?;
        }
        self.upto = until;
        for (key, gap) in found.gaps {
            self.tell(&key, &gap);
        }
        found.updates.sort_by(|(_, a), (_, b)| (a.id, &a.key).cmp(&(b.id, &b.key)));
        let turn = TURN.min(self.api.serve.live_queue);
        for (n, (route, update)) in found.updates.into_iter().enumerate() {
            self.send(route, update);
            if n % turn == turn - 1 {
                tokio::task::yield_now().await;
            }
        }
        let knocks = std::mem::take(&mut *self.api.hub.door.lock());
        if !knocks.is_empty() {
            // Of what is new and nobody wanted, they may want what comes from here on.
            found.later.extend(news);
            found.later.extend(knocks.iter().filter_map(|k| Some((k.newcomer.route, k.newcomer.key.clone()?))));
        }
        self.api.hub.news.lock().append(&mut found.later);
        for Knock { newcomer, queue, told } in knocks {
            if told.send(Ok(self.upto)).is_ok() {
                let listener = Listener { queue, client: newcomer.client, from: self.upto, resumes: newcomer.resumes };
                self.groups.entry((newcomer.route, newcomer.key)).or_default().push(listener);
            }
        }
        Ok(())
    }

    /// Reads the entries of some keys in the window; a key that has later ones is looked at again.
    async fn read(&self, redis: &MultiplexedConnection, keys: &[&Key], until: u64, found: &mut Found) -> Result<(), Failure> {
        let mut left: Vec<(Key, Had)> = {
            let newest = self.api.hub.newest.lock();
            keys.iter().map(|key| ((*key).clone(), newest.had(key, self.promised_from(key)))).collect()
        };
        while !left.is_empty() {
            let stretches = stretch::read(redis, &self.api.offers, &left, None, ENTRIES_MAX).await?;
            let mut more = Vec::new();
            for ((key, _), stretch) in left.into_iter().zip(stretches) {
                let (last, whole) = (stretch.updates.last().map(|u| u.id), stretch.updates.len());
                let within = stretch.updates.iter().take_while(|u| u.id.ms < until).count();
                // A gap whose entries are all behind the window is found again with them, and told once.
                if within > 0 || whole == 0 {
                    found.gaps.extend(stretch.gap.map(|gap| (key.clone(), gap)));
                }
                found.updates.extend(stretch.updates.into_iter().take(within).map(|update| (key.0, update)));
                if within < whole {
                    found.later.insert(key);
                } else if let Some(last) = last.filter(|_| stretch.full) {
                    more.push((key, Had::Entry(last)));
                }
            }
            left = more;
        }
        Ok(())
    }

    /// Hands an update to all who want it.
    fn send(&mut self, route: usize, update: Update) {
        let key = (route, update.key.clone());
        self.api.hub.newest.lock().raise(&key, update.id);
        for topic in [(route, None), (route, Some(key.1))] {
            let Some(group) = self.groups.get_mut(&topic) else { continue };
            group.retain(|l| update.id.ms < l.from || l.take(Told::Update(update.clone())));
        }
    }

    /// Tells those who may miss something.
    fn tell(&mut self, key: &Key, gap: &Gap) {
        self.api.hub.newest.lock().lower(key, gap.newest);
        for topic in [(key.0, None), (key.0, Some(key.1.clone()))] {
            let Some(group) = self.groups.get_mut(&topic) else { continue };
            group.retain(|l| !gap.is_for(l.since()) || l.take(Told::Gap(gap.frame.clone())));
        }
    }
}

/// What a round finds.
#[derive(Default)]
struct Found {
    gaps: Vec<(Key, Gap)>,
    updates: Vec<(usize, Update)>,
    /// Keys that have more behind the window.
    later: BTreeSet<Key>,
}

async fn time(redis: &MultiplexedConnection) -> Result<u64, Failure> {
    let ((seconds, micros),): ((u64, u64),) = redis.ask(pipe().cmd("TIME")).await?;
    Ok(seconds * 1000 + micros / 1000)
}
