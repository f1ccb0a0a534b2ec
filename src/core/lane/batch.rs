//! From the queues to a transaction's bytes.
use super::oversize::HANGS_UP;
use super::part::{Part, Pending, Verdict};
use super::{GUARD_AGE_MAX, Lane, Letters, Next, Settings, Span, Stage};
use crate::core::encode::Encoder;
use crate::core::letter::Letter;
use crate::core::route::{self, Cause, Grown, Origin, Outcome};
use crate::core::state::Last;
use std::collections::BTreeMap;
use std::time::Duration;

/// The records whose commands go in one transaction.
pub(super) struct Batch {
    pub entries: Vec<Entry>,
    /// What each command is, in the order sent.
    pub commands: Vec<Sent>,
    /// The SETs that a later one undoes; they are not sent.
    pub collapsed: Vec<Sent>,
    pub shares: Vec<Share>,
    /// How many commands behind the positions count what letters of the batches before changed.
    pub counts: usize,
    /// The partitions whose guards are read behind its EXEC.
    pub guards: Vec<u64>,
    pub outcomes: Vec<(usize, Outcome)>,
    /// Letters of the records that died while rendering, by their entry. To a stream they go in the transaction
    /// itself; to a topic they must be durable before the batch is settled.
    pub letters: Vec<(usize, Letter)>,
    /// What a rebuild would add to, by its entry.
    pub grown: Vec<(usize, Grown)>,
}

pub(super) struct Entry {
    pub generation: u64,
    pub pending: Pending,
}

/// What a command of a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Write {
        entry: usize,
        origin: Origin,
    },
    Letter {
        entry: usize,
    },
    /// What is kept beside the data: what a rebuild or a job began, an index.
    Begun {
        entry: usize,
    },
}

impl Sent {
    pub(super) fn entry(self) -> usize {
        match self {
            Self::Write { entry, .. } | Self::Letter { entry } | Self::Begun { entry } => entry,
        }
    }
}

/// A partition's part in a batch: `[from, to)` is settled with it. Without a last record nothing is left unread.
pub(super) struct Share {
    pub generation: u64,
    pub from: i64,
    pub to: i64,
    pub last: Option<Last>,
}

impl Batch {
    fn new() -> Self {
        Self {
            entries: Vec::new(),
            commands: Vec::new(),
            collapsed: Vec::new(),
            shares: Vec::new(),
            counts: 0,
            guards: Vec::new(),
            outcomes: Vec::new(),
            letters: Vec::new(),
            grown: Vec::new(),
        }
    }

    /// Forgets what was rendered after there were so many commands and outcomes.
    fn truncate(&mut self, commands: usize, outcomes: usize) {
        self.commands.truncate(commands);
        self.outcomes.truncate(outcomes);
    }

    /// A batch without records: `unread` of some partitions is cleared, their positions move over what is no record.
    pub(super) fn clearing(parts: &BTreeMap<u64, Part>, generations: &[u64]) -> Self {
        let mut batch = Self::new();
        batch.clear(parts, generations);
        batch
    }

    /// The partitions that have a part in it.
    pub(super) fn generations(&self) -> Vec<u64> {
        self.shares.iter().map(|s| s.generation).collect()
    }

    /// The fewest bytes that the replies to its transaction take, of so many commands in all: the `OK` to MULTI, a `QUEUED` for
    /// each, and what EXEC answers. An error is longer than those.
    pub(super) fn reply_bytes_min(&self, commands: usize) -> usize {
        // Behind EXEC stand the WATCH and the reads of the next guards.
        let behind = if self.guards.is_empty() { 0 } else { 1 + self.guards.len() };
        b"+OK\r\n".len() + (commands - behind - 2) * b"+QUEUED\r\n".len() + b"*-1\r\n".len()
    }

    pub(super) fn clear(&mut self, parts: &BTreeMap<u64, Part>, generations: &[u64]) {
        self.shares.extend(generations.iter().map(|&generation| {
            let part = &parts[&generation];
            Share { generation, from: part.position, to: part.may_advance().unwrap_or(part.position), last: None }
        }));
    }
}

/// How many guards are read ahead of a batch at least, where there are as many partitions: a microsecond of Redis each.
const GUARDS_AHEAD: usize = 8;

/// Why no more records of a partition go into this batch.
enum Stop {
    /// The batch is full.
    Full,
    /// This partition has to stop here.
    Part,
}

impl Lane {
    /// Renders as many queued records as one batch may hold, of all partitions in turn.
    pub(super) fn collect(&mut self, now: Duration) -> Option<Batch> {
        let Span::Lane = self.settings.span;
        if self.lingers(now) {
            return None;
        }
        let mut ready: Vec<u64> = self.parts.iter().filter(|(_, p)| p.ready(now)).map(|(g, _)| *g).collect();
        if ready.is_empty() {
            return None;
        }
        // Another partition begins each time, so that none waits behind a busy neighbour for ever.
        self.turn = self.turn.wrapping_add(1);
        let shift = usize::try_from(self.turn).unwrap_or(0) % ready.len();
        ready.rotate_left(shift);
        let alone = self.goes_alone(ready[0]);
        let records_max = if alone { 1 } else { self.settings.records_max };
        if alone {
            ready.truncate(1);
        } else {
            ready.retain(|g| !self.goes_alone(*g));
        }
        self.tx.clear();
        self.tx.command(&[b"MULTI"]);
        let mut batch = Batch::new();
        let full = ready.into_iter().any(|generation| matches!(self.collect_part(generation, &mut batch, records_max, now), Some(Stop::Full)));
        self.whole = if full { batch.entries.len() } else { self.settings.records_max };
        self.collapse(&mut batch);
        self.add_to_index(&mut batch);
        self.queued_since = self.parts.values().any(|p| !p.queue.is_empty()).then_some(now);
        (!batch.shares.is_empty()).then_some(batch)
    }

    /// Takes commands out of a batch that is rendered and has no more than those; what they were.
    pub(super) fn leave_out(&mut self, batch: &mut Batch, is_left_out: impl Fn(usize) -> bool) -> Vec<Sent> {
        // MULTI stands before them.
        self.tx.retain(|n| n == 0 || !is_left_out(n - 1));
        let mut numbers = 0..;
        let (left_out, kept) = std::mem::take(&mut batch.commands).into_iter().partition(|_| numbers.next().is_some_and(&is_left_out));
        batch.commands = kept;
        left_out
    }

    /// Whether more records are waited for before a batch that is not full.
    fn lingers(&self, now: Duration) -> bool {
        let Some(since) = self.queued_since.filter(|_| !self.draining) else { return false };
        now < since + self.settings.linger && self.queued() < self.whole
    }

    /// Records in all queues.
    pub(super) fn queued(&self) -> usize {
        self.parts.values().map(|p| p.queue.len()).sum()
    }

    fn collect_part(&mut self, generation: u64, batch: &mut Batch, records_max: usize, now: Duration) -> Option<Stop> {
        let from = self.parts[&generation].position;
        let begun = batch.entries.len();
        let stop = loop {
            let Settings { commands_max, bytes_max, .. } = self.settings;
            if batch.entries.len() >= records_max || batch.commands.len() >= commands_max || self.tx.bytes().len() >= bytes_max {
                break Some(Stop::Full);
            }
            if !self.admit(generation, now) {
                break None;
            }
            let Some(pending) = self.parts.get_mut(&generation).and_then(Part::pop) else { break None };
            // What is in flight of it is decided about first.
            let first = batch.entries.len() == begun && matches!(self.stage, Stage::Idle);
            match self.render(generation, pending, batch, first) {
                Ok(()) => _ = self.parts.get_mut(&generation).map(|p| p.admitted = 0),
                Err(stop) => break Some(stop),
            }
        };
        if let Some(entry) = batch.entries[begun..].last() {
            let record = &entry.pending.record;
            batch.shares.push(Share { generation, from, to: record.offset + 1, last: Some(Last::of(record)) });
        }
        self.unhold(generation);
        stop
    }

    /// Renders one record into the batch, or stops before it.
    fn render(&mut self, generation: u64, pending: Pending, batch: &mut Batch, first: bool) -> Result<(), Stop> {
        let entry = batch.entries.len();
        let (mark, commands, outcomes) = (self.tx.mark(), batch.commands.len(), batch.outcomes.len());
        if let Some(reason) = self.convicted(generation, pending.record.offset) {
            return Err(self.stop_at(generation, pending, first, HANGS_UP, reason));
        }
        let part = &self.parts[&generation];
        let rebuilds = part.rebuilds(pending.record.offset);
        let routes = if rebuilds { &self.rebuilding } else { &self.settings.routes };
        let dead = match pending.verdict.as_deref() {
            Some(Verdict::Halt { code, reason }) => {
                let (code, reason) = (*code, reason.clone());
                return Err(self.stop_at(generation, pending, first, code, reason));
            }
            Some(Verdict::Dead { route, reason }) => Some(("refused", *route, reason.clone())),
            None => {
                let sent = |origin| batch.commands.push(Sent::Write { entry, origin });
                let (tx, outcomes_of) = (&mut self.tx, &mut batch.outcomes);
                match route::render(routes, &part.through, &pending.record, tx, sent, outcomes_of, &mut self.context) {
                    Ok(()) => self.oversized(mark, &batch.commands[commands..], &pending.record).map(|(route, reason)| {
                        self.tx.truncate(mark);
                        ("too-large", route, reason)
                    }),
                    Err(poison) => Some(self.describe(&poison)),
                }
            }
        };
        let mut letter = None;
        if let Some((code, route, reason)) = dead {
            batch.truncate(commands, outcomes);
            let dead = Letter {
                record: pending.record.clone(),
                code,
                reason: reason.clone(),
                route: self.settings.routes[route].name.clone(),
                writes: vec!["*".into()],
                failed: vec!["all".into()],
                applied: Vec::new(),
            };
            match &self.settings.letters {
                Letters::Halt => {
                    let reason = format!("{reason}, at offset {}, and no [dead_letter] is set", pending.record.offset);
                    return Err(self.stop_at(generation, pending, first, "poison", reason));
                }
                Letters::Stream { name, maxlen } => {
                    let (job, bulk_max) = (self.job.as_ref().map(|job| job.keys.name()), self.letter_bulk_max(generation));
                    dead.encode(name, *maxlen, job, bulk_max, &mut self.tx);
                    batch.commands.push(Sent::Letter { entry });
                }
                Letters::Topic => {}
            }
            letter = Some(dead);
        }
        if entry > 0 && self.tx.bytes().len() > self.settings.bytes_max {
            // Over the limit with this one: it goes with the next batch, alone if it must.
            self.tx.truncate(mark);
            batch.truncate(commands, outcomes);
            self.put_back(generation, pending);
            return Err(Stop::Full);
        }
        if rebuilds && letter.is_none() {
            let origin = |sent: &Sent| if let Sent::Write { origin, .. } = sent { Some(*origin) } else { None };
            let origins: Vec<Origin> = batch.commands[commands..].iter().filter_map(origin).collect();
            let grown = route::grown(routes, &origins, &pending.record);
            batch.grown.extend(grown.into_iter().map(|g| (entry, g)));
        }
        batch.letters.extend(letter.map(|l| (entry, l)));
        batch.entries.push(Entry { generation, pending });
        Ok(())
    }

    /// A record before which its partition halts: at once where nothing of it is in the batch, else at its next turn.
    fn stop_at(&mut self, generation: u64, pending: Pending, first: bool, code: &'static str, reason: String) -> Stop {
        if first {
            self.release(&pending.record);
            self.halt(generation, code, reason);
        } else {
            self.put_back(generation, pending);
        }
        Stop::Part
    }

    pub(super) fn describe(&self, poison: &route::Poison) -> (&'static str, usize, String) {
        let route = &self.settings.routes[poison.route];
        let code = match poison.cause {
            Cause::Decode => "undecodable",
            Cause::Judge => "condition-error",
            Cause::Render => "unrenderable",
        };
        match poison.write {
            None => (code, poison.route, poison.reason.clone()),
            Some(w) => (code, poison.route, format!("write {} ({}): {}", w + 1, route.writes[w].kind.name(), poison.reason)),
        }
    }

    pub(super) fn put_back(&mut self, generation: u64, pending: Pending) {
        match self.parts.get_mut(&generation).filter(|p| !p.closing) {
            Some(part) => part.queue.push_front(pending),
            None => self.release(&pending.record),
        }
    }

    /// Whether the head of a queue passes the limits of its routes and the one of all.
    fn admit(&mut self, generation: u64, now: Duration) -> bool {
        let part = self.parts.get_mut(&generation).expect("an open partition");
        let limits = part.through.iter().map(|r| self.settings.route_limits[*r].as_ref()).chain([self.settings.limit.as_ref()]);
        for limit in limits.enumerate().skip(part.admitted) {
            if let (n, Some(throttle)) = limit {
                if part.queue.is_empty() {
                    return true;
                }
                if let Err(until) = throttle.admit(now) {
                    part.hold_until = Some(until);
                    return false;
                }
                part.admitted = n + 1;
            }
        }
        part.hold_until = None;
        true
    }

    fn unhold(&mut self, generation: u64) {
        if let Some(part) = self.parts.get_mut(&generation).filter(|p| p.held && p.queue.is_empty()) {
            part.held = false;
            self.events.push(super::Event::Hold { generation, hold: false });
        }
    }

    /// Sends the batch, or first the guard that it lacks.
    pub(super) fn send_batch(&mut self, mut batch: Batch, now: Duration) -> Next {
        for share in &batch.shares {
            if let Some(part) = self.parts.get_mut(&share.generation) {
                part.batched_at = now;
            }
        }
        if batch.entries.is_empty() {
            self.unprepare();
            self.tx.clear();
            self.tx.command(&[b"MULTI"]);
        }
        for share in &batch.shares {
            let part = &self.parts[&share.generation];
            let Some(guard) = &part.guard else { continue };
            let key = guard.key.0.as_slice();
            match &share.last {
                Some(last) => self.tx.command(&[
                    b"HSET",
                    key,
                    b"offset",
                    share.to.to_string().as_bytes(),
                    b"last",
                    last.encode().as_bytes(),
                    b"unread",
                    share.from.to_string().as_bytes(),
                ]),
                None => self.tx.command(&[b"HSET", key, b"offset", share.to.to_string().as_bytes(), b"unread", b""]),
            }
        }
        let generations = batch.generations();
        batch.counts = self.count_now(&generations);
        self.tx.command(&[b"EXEC"]);
        // The guards of the next batch ride behind this one's EXEC.
        batch.guards = self.next_guards(&generations);
        let mut tx = std::mem::take(&mut self.tx);
        self.watch(&batch.guards, &mut tx);
        self.tx = tx;
        let stale = self.stale(&generations, now);
        if stale.is_empty() {
            return self.exchange(Stage::Committing(batch), now);
        }
        self.guard(&stale);
        self.exchange(Stage::Guarding(batch), now)
    }

    /// Of which partitions the next batch may be: of these again, or of others, first those with records, as many as cost
    /// next to nothing. One that is missing costs that batch a round trip.
    fn next_guards(&self, generations: &[u64]) -> Vec<u64> {
        let guarded = |g: &u64| self.parts.get(g).is_some_and(|p| p.guard.is_some());
        let mut others: Vec<(bool, u64)> =
            self.parts.iter().filter(|(g, p)| p.decided() && !generations.contains(g)).map(|(g, p)| (p.queue.is_empty(), *g)).collect();
        others.sort_unstable();
        let others = others.into_iter().map(|(_, g)| g).take(GUARDS_AHEAD.saturating_sub(generations.len()));
        generations.iter().copied().chain(others).filter(guarded).collect()
    }

    /// The partitions of these whose guard must be read before a transaction.
    pub(super) fn stale(&self, generations: &[u64], now: Duration) -> Vec<u64> {
        let stale = |p: &Part| p.guard.is_some() && p.watched_at.is_none_or(|t| now >= t + GUARD_AGE_MAX);
        generations.iter().copied().filter(|g| self.parts.get(g).is_some_and(stale)).collect()
    }

    /// Makes `aux` the read of these guards.
    fn guard(&mut self, generations: &[u64]) {
        let mut aux = std::mem::take(&mut self.aux);
        aux.clear();
        if std::mem::take(&mut self.unwatch) {
            aux.command(&[b"UNWATCH"]);
        }
        self.watch(generations, &mut aux);
        self.aux = aux;
    }

    /// Appends WATCH and the read of the guards; nothing where there are none.
    pub(super) fn watch(&self, generations: &[u64], out: &mut Encoder) {
        let guarded = || generations.iter().filter_map(|g| self.parts.get(g)).filter(|p| p.guard.is_some());
        if guarded().next().is_none() {
            return;
        }
        out.arg(b"WATCH");
        for guard in guarded().filter_map(|p| p.guard.as_ref()) {
            out.arg(&guard.key.0);
        }
        out.finish();
        guarded().for_each(|p| p.read_guard(out));
    }
}
