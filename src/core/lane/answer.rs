//! From the replies to what is settled, put back, reclaimed or halted.
use super::batch::{Batch, Sent};
use super::part::Verdict;
use super::{Burial, Doubt, Event, Lane, Letters, Stage};
use crate::core::letter::Letter;
use crate::core::record::Record;
use crate::core::replay::job::Counts;
use crate::core::reply::{Class, Reply, cause, first_error, triage};
use crate::core::route::Origin;
use crate::core::state::{Guarded, Last};
use crate::core::words;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

impl Lane {
    /// Takes the replies of the last exchange, all of them, in order. `jitter` is from 0 to 1.
    pub fn answered(&mut self, replies: Vec<Reply>, now: Duration, jitter: f64) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle | Stage::Surveyed(_) | Stage::Looked(_) | Stage::Compared(_) => {}
            Stage::Comparing(comparison) => self.comparison_answered(comparison, &replies, now, jitter),
            Stage::Surveying(survey) => self.survey_answered(survey, &replies, now, jitter),
            Stage::Guarding(batch) => self.guard_answered(batch, &replies, now, jitter),
            Stage::Committing(batch) => self.batch_answered(batch, &replies, now, jitter),
            Stage::GuardingBurial(burial) => self.burial_guard_answered(burial, &replies, now, jitter),
            Stage::Burying(burial) => self.burial_answered(burial, &replies, now, jitter),
            Stage::Rechecking(recheck) => self.recheck_answered(recheck, &replies, now, jitter),
            Stage::Auditing(generations) => {
                for (generation, reply) in generations.into_iter().zip(&replies) {
                    self.audit(generation, reply);
                }
            }
        }
    }

    fn guard_answered(&mut self, batch: Batch, replies: &[Reply], now: Duration, jitter: f64) {
        let watched = self.stale(&batch.generations(), self.sent_at);
        match self.read_guards(&watched, replies) {
            Err(error) => {
                let shares = batch.generations();
                self.unbuild(batch);
                self.refused_whole(&error, &shares, now, jitter);
            }
            Ok(true) => self.stage = Stage::Committing(batch),
            Ok(false) => {
                self.drop_watches();
                self.unbuild(batch);
            }
        }
    }

    /// Reads the answers to WATCH and the guards, at the end of `replies`. `Ok(false)`: some did not hold.
    pub(super) fn read_guards(&mut self, generations: &[u64], replies: &[Reply]) -> Result<bool, String> {
        if generations.is_empty() {
            return Ok(true);
        }
        let tail = &replies[replies.len().saturating_sub(generations.len() + 1)..];
        if let Some(error) = first_error(tail) {
            return Err(error.to_owned());
        }
        let mut all = true;
        for (&generation, reply) in generations.iter().zip(&tail[1..]) {
            if self.audit(generation, reply) {
                if let Some(part) = self.parts.get_mut(&generation) {
                    part.watched_at = Some(self.sent_at);
                }
            } else {
                all = false;
            }
        }
        Ok(all)
    }

    /// Whether a partition's state is as we know it; else the partition is claimed again.
    fn audit(&mut self, generation: u64, reply: &Reply) -> bool {
        let sent_at = self.sent_at;
        let Some(part) = self.parts.get_mut(&generation) else { return false };
        if !matches!(reply, Reply::Error(_)) {
            part.compared_at = Some(sent_at);
        }
        let why = match (reply, part.check_guard(reply)) {
            // An error says nothing about the state; what is sent next will meet it again.
            (Reply::Error(_), _) | (_, Guarded::Holds) => return true,
            (_, Guarded::Fenced) => Doubt::Fenced,
            (_, Guarded::Moved) => Doubt::Moved,
            (_, Guarded::Lost) => Doubt::StateLost,
        };
        self.reclaim(generation, why);
        false
    }

    /// Nothing that is watched is to be relied on: UNWATCH goes with the next guard.
    pub(super) fn drop_watches(&mut self) {
        self.unwatch = true;
        self.forget_watches();
    }

    pub(super) fn forget_watches(&mut self) {
        self.parts.values_mut().for_each(|p| p.watched_at = None);
    }

    fn batch_answered(&mut self, mut batch: Batch, replies: &[Reply], now: Duration, jitter: f64) {
        self.forget_watches();
        let n = batch.commands.len();
        let guards = std::mem::take(&mut batch.guards);
        let guarded: Vec<u64> = batch.generations().into_iter().filter(|g| self.parts.get(g).is_some_and(|p| p.guard.is_some())).collect();
        let Some(exec_at) = 1usize.checked_add(n + guarded.len() + batch.counts).filter(|at| *at < replies.len()) else {
            // Fewer replies than commands: the shell hands over all or calls `lost`.
            return self.unbuild(batch);
        };
        if let Reply::Error(error) = &replies[0] {
            let shares = batch.generations();
            self.unbuild(batch);
            return self.refused_whole(error, &shares, now, jitter);
        }
        match &replies[exec_at] {
            Reply::Array(results) => self.applied(batch, results, n),
            Reply::Error(error) => self.aborted(batch, &replies[1..exec_at], error, now, jitter),
            // Nil: a watched state was moved. The guards that ride behind tell whose; it may have befallen others too.
            _ => {
                self.audit_all(now);
                self.disturbed();
                self.unbuild(batch);
            }
        }
        if let Err(error) = self.read_guards(&guards, replies) {
            self.refused_whole(&error, &guards, now, jitter);
        }
    }

    /// The transaction ran. Each result is looked at; nothing is settled before its letters are durable.
    fn applied(&mut self, batch: Batch, results: &[Reply], n: usize) {
        self.out_of_trouble();
        let mut burial = Burial::default();
        let mut refused: BTreeMap<usize, Vec<(Sent, &str)>> = BTreeMap::new();
        for (command, result) in batch.commands.iter().zip(results) {
            match (result, command) {
                (Reply::Error(error), Sent::Begun { entry }) => burial.halts.push((batch.entries[*entry].generation, "refused", unkept(error))),
                (Reply::Error(error), _) => refused.entry(command.entry()).or_default().push((*command, error)),
                _ => {}
            }
        }
        for (entry, errors) in refused.iter().filter(|(_, e)| e.iter().all(|(sent, _)| matches!(sent, Sent::Write { .. }))) {
            burial.letters.push(self.refusal(&batch, *entry, errors));
            if let Some((_, error)) = errors.iter().find(|(_, e)| triage(e) != Class::Permanent) {
                burial.halts.push((batch.entries[*entry].generation, "refused", format!("Redis refused a write: {error}")));
            }
        }
        for (entry, letter) in &batch.letters {
            // In a stream it stands with the transaction, unless it was itself refused: then it is tried once more.
            if self.settings.letters == Letters::Topic || refused.contains_key(entry) {
                burial.letters.push(letter.clone());
            } else {
                self.letter_stands(letter);
            }
        }
        burial.letters.sort_by(|a, b| (&a.record.at(), a.record.offset).cmp(&(&b.record.at(), b.record.offset)));
        for (share, result) in
            batch.shares.iter().filter(|s| self.parts.get(&s.generation).is_some_and(|p| p.guard.is_some())).zip(&results[n.min(results.len())..])
        {
            if *result != Reply::Int(0) {
                burial.halts.push((share.generation, "state-lost", format!("the state was lost while it was written: HSET answered {result:?}")));
            }
        }
        if let Some(error) = first_error(&results[results.len().saturating_sub(batch.counts)..]) {
            burial.halts.extend(batch.shares.iter().map(|s| (s.generation, "refused", unkept(error))));
        }
        for share in &batch.shares {
            if let Some(part) = self.parts.get_mut(&share.generation) {
                part.position = share.to;
                part.unread = share.last.map(|_| share.from);
                part.dirty = share.last.is_some() && part.guard.is_some();
                part.uncounted = Counts::default();
            }
            burial.settle.push((share.generation, share.from..share.to, share.last));
        }
        for (entry, grown) in batch.grown.iter().filter(|(_, g)| g.creates) {
            _ = self.parts.get_mut(&batch.entries[*entry].generation).map(|p| p.remember_begun(grown.key.clone()));
        }
        self.acquit(&batch);
        self.tally(&batch);
        self.tell_left_out(&batch);
        self.time(&batch);
        for entry in &batch.entries {
            self.release(&entry.pending.record);
        }
        let owing: Vec<_> = burial.letters.iter().map(|l| l.record.at().clone()).collect();
        burial.clear = batch.generations().into_iter().filter(|g| self.parts.get(g).is_some_and(|p| owing.contains(&p.at))).collect();
        if burial.letters.is_empty() {
            self.settle(burial.settle);
            self.halt_all(burial.halts);
        } else if self.settings.letters == Letters::Halt {
            // Nowhere to keep them: `unread` stands, and the records stay unsettled in Kafka.
            self.unburied(burial, "no [dead_letter] is set");
        } else {
            self.owe(burial);
        }
    }

    /// A write, as letters identify it.
    pub(super) fn write_name(&self, origin: Origin) -> String {
        format!("{}/{}", self.settings.routes[origin.route].name, origin.write + 1)
    }

    fn refusal(&self, batch: &Batch, entry: usize, errors: &[(Sent, &str)]) -> Letter {
        let name = |sent: &Sent| match sent {
            Sent::Write { origin, .. } => {
                let route = &self.settings.routes[origin.route];
                format!("{} write {} ({})", route.name, origin.write + 1, route.writes[origin.write].kind.name())
            }
            Sent::Letter { .. } | Sent::Begun { .. } => "dead letter".into(),
        };
        let failed: Vec<String> = errors.iter().map(|(sent, error)| format!("{}: {error}", name(sent))).collect();
        let stands = |c: &&Sent| c.entry() == entry && !matches!(c, Sent::Begun { .. }) && !errors.iter().any(|(sent, _)| sent == *c);
        let route = errors.iter().find_map(|(sent, _)| match sent {
            Sent::Write { origin, .. } => Some(self.settings.routes[origin.route].name.clone()),
            _ => None,
        });
        Letter {
            record: batch.entries[entry].pending.record.clone(),
            code: "refused",
            reason: errors.first().map(|(_, e)| (*e).to_owned()).unwrap_or_default(),
            route: route.unwrap_or_default(),
            writes: errors.iter().filter_map(|(sent, _)| if let Sent::Write { origin, .. } = sent { Some(self.write_name(*origin)) } else { None }).collect(),
            failed,
            applied: batch.commands.iter().filter(stands).map(name).collect(),
        }
    }

    /// The transaction did not run. `queued` has the replies to its commands, then to its positions.
    fn aborted(&mut self, mut batch: Batch, queued: &[Reply], error: &str, now: Duration, jitter: f64) {
        let mut whole = None;
        let write_of = |origin: Origin| {
            let route = &self.settings.routes[origin.route];
            words::write(&route.name, origin.write + 1, &route.writes[origin.write].kind.name())
        };
        for (i, reply) in queued.iter().enumerate() {
            let Reply::Error(why) = reply else { continue };
            let Some(&sent) = batch.commands.get(i) else {
                whole = Some(why.clone());
                break;
            };
            let class = triage(why);
            let verdict = match (class, sent) {
                (Class::Transient | Class::Capacity, _) => {
                    whole = Some(why.clone());
                    break;
                }
                (Class::Permanent, Sent::Write { origin, .. }) => {
                    Verdict::Dead { route: origin.route, reason: format!("{} was refused: {why}", write_of(origin)) }
                }
                (_, Sent::Write { origin, .. }) => Verdict::Halt { code: "refused", reason: format!("{} was refused: {why}", write_of(origin)) },
                (_, Sent::Letter { .. }) => Verdict::Halt { code: "dead-letter-refused", reason: format!("the dead letter can't be written: {why}") },
                (_, Sent::Begun { .. }) => Verdict::Halt { code: "refused", reason: unkept(why) },
            };
            let pending = &mut batch.entries[sent.entry()].pending;
            if !matches!(pending.verdict.as_deref(), Some(Verdict::Halt { .. })) {
                pending.verdict = Some(Box::new(verdict));
            }
        }
        let judged = batch.entries.iter().any(|e| e.pending.verdict.is_some());
        let shares = batch.generations();
        self.unbuild(batch);
        if let Some(why) = whole.or_else(|| (!judged).then(|| cause(error).to_owned())) {
            self.refused_whole(&why, &shares, now, jitter);
        }
    }

    /// Redis refuses more than single commands: wait, or halt the partitions concerned.
    pub(super) fn refused_whole(&mut self, error: &str, generations: &[u64], now: Duration, jitter: f64) {
        let code = match triage(error) {
            Class::Transient => "redis-refuses",
            Class::Capacity => "redis-oom",
            Class::Permanent | Class::Permission | Class::Unknown => {
                for generation in generations {
                    self.halt(*generation, "refused", format!("Redis refuses the transaction: {error}"));
                }
                return;
            }
        };
        self.wait_until = Some(now + self.backoff.next(jitter));
        // Another server may have become the master meanwhile, or this one may have loaded older data.
        self.audit_all(now);
        if self.troubled.replace(code) != Some(code) {
            self.events.push(Event::Trouble(Some((code, error.to_owned()))));
        }
    }

    /// Redis took what was sent.
    pub(super) fn out_of_trouble(&mut self) {
        self.backoff.reset();
        if self.troubled.take().is_some() {
            self.events.push(Event::Trouble(None));
        }
    }

    /// Returns a batch's records to the heads of their queues, in order.
    pub(super) fn unbuild(&mut self, batch: Batch) {
        self.unprepare();
        self.return_records(batch);
    }

    pub(super) fn return_records(&mut self, batch: Batch) {
        for entry in batch.entries.into_iter().rev() {
            self.put_back(entry.generation, entry.pending);
        }
    }

    pub(super) fn settle(&mut self, ranges: Vec<(u64, Range<i64>, Option<Last>)>) {
        for (generation, range, last) in ranges {
            self.events.push(Event::Settled { generation, range, last });
        }
    }

    pub(super) fn halt_all(&mut self, halts: Vec<(u64, &'static str, String)>) {
        for (generation, code, reason) in halts {
            self.halt(generation, code, reason);
        }
    }

    /// How late a batch's records are, of each route that its partition's topic goes through.
    fn time(&self, batch: &Batch) {
        for run in batch.entries.chunk_by(|a, b| a.generation == b.generation) {
            for route in self.parts.get(&run[0].generation).iter().flat_map(|p| p.through.iter()) {
                self.tallies[*route].latency.add(self.context.now_ms, run.iter().filter_map(|e| e.pending.record.timestamp_ms));
            }
        }
    }

    /// Tells of dead letters that a pattern let in.
    fn tell_left_out(&mut self, batch: &Batch) {
        if !batch.outcomes.iter().any(|(_, o)| o.letter) {
            return;
        }
        let routes = self.settings.routes.clone();
        let leaves_out = |r: &&Record| routes.iter().any(|route| route.matches(&r.at().topic) && route.leaves_out(r));
        for record in batch.entries.iter().map(|e| &e.pending.record).filter(leaves_out) {
            if self.left_out.insert(record.at().topic.clone()) {
                self.events.push(Event::LeftOut { at: record.at().clone(), offset: record.offset });
            }
        }
    }

    fn tally(&mut self, batch: &Batch) {
        // The counters are shared by the lanes: touched once a batch, not once a record.
        let mut sums: BTreeMap<usize, [u64; 6]> = BTreeMap::new();
        for (route, o) in &batch.outcomes {
            let sum = sums.entry(*route).or_default();
            for (sum, n) in sum.iter_mut().zip([1, o.commands, o.expired, o.tombstones, o.dropped(), o.condition_errors]) {
                *sum += u64::from(n);
            }
        }
        for route in batch.collapsed.iter().filter_map(|sent| if let Sent::Write { origin, .. } = sent { Some(origin.route) } else { None }) {
            _ = sums.get_mut(&route).map(|[_, commands, ..]| *commands -= 1);
        }
        for (route, [records, commands, expired, tombstones, dropped, condition_errors]) in sums {
            self.count(route, |t| (&t.records, records));
            self.count(route, |t| (&t.commands, commands));
            self.count(route, |t| (&t.expired, expired));
            self.count(route, |t| (&t.tombstones, tombstones));
            self.count(route, |t| (&t.dropped, dropped));
            self.count(route, |t| (&t.condition_errors, condition_errors));
        }
        for route in batch.letters.iter().filter_map(|(_, l)| self.route_named(&l.route)) {
            self.count(route, |t| (&t.records, 1));
        }
        self.tell_conditions();
    }

    /// Tells each condition once that could not be applied.
    fn tell_conditions(&mut self) {
        for ((route, write), first) in &mut self.context.unapplied {
            let Some(why) = first.take() else { continue };
            let route = &self.settings.routes[*route];
            let (whose, what) = match write {
                None => (format!("route {}", route.name), "the record is dropped"),
                Some(w) => (format!("route {}, write {} ({})", route.name, w + 1, route.writes[*w].kind.name()), "the write is left out"),
            };
            let message = format!("{whose}: {why}; {what}. Later records of this kind are only counted, as condition_errors (see on_condition_error)");
            self.events.push(Event::ConditionError { whose, message });
        }
    }
}

fn unkept(error: &str) -> String {
    format!("what is kept beside the data (what a rebuild or a job began, the index of keys) can't be written: {error}")
}
