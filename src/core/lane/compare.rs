//! A replay's look at what stands in Redis before it writes: what must not be overwritten leaves the batch.
//!
//! ```text
//! WATCH keys, GET or TYPE of each, HMGET marks ──▶ decide ──▶ (guard) ──▶ MULTI survivors marks counts positions EXEC
//! ```
//! Whoever else writes one of the keys meanwhile makes the EXEC answer nil, and it is decided anew; the live path pays
//! nothing. Where that happens, the next batches look first without WATCH, and watch only what survives the look: the keys
//! that the live path is busy with hold newer values, and need no watch.
use super::batch::{Batch, Sent};
use super::{Burial, Lane, Next, Stage};
use crate::core::encode::{Encoded, Encoder};
use crate::core::letter::Letter;
use crate::core::replay::decide::{Candidate, Decider, Standing, What};
use crate::core::replay::job::{Counts, Keys};
use crate::core::reply::Reply;
use crate::core::route::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Which batch after one that was disturbed is the first that looks under WATCH again.
const CAREFUL: u32 = 64;

/// The job that a lane works for.
pub(super) struct Job {
    pub keys: Keys,
    careful: u32,
}

/// A batch, and what is asked about it.
pub(super) struct Comparison {
    pub batch: Batch,
    candidates: Vec<Candidate>,
    /// The keys that were asked about; a candidate's slot is its place here.
    asked: Vec<(Vec<u8>, bool)>,
    /// The commands that leave the batch.
    dropped: BTreeMap<usize, Dropped>,
    /// The keys are watched: what is decided now is final.
    watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dropped {
    Older,
    Present,
}

impl Lane {
    /// Works for a job: compares first, counts, keeps what it began.
    #[must_use]
    pub fn replaying(mut self, keys: Keys) -> Self {
        self.job = Some(Job { keys, careful: 0 });
        self
    }

    /// Somebody else wrote a key, or a state, that was watched.
    pub(super) fn disturbed(&mut self) {
        if let Some(job) = &mut self.job {
            job.careful = CAREFUL;
        }
    }

    /// Asks about the keys that are compared first, or sends the batch.
    pub(super) fn compare(&mut self, batch: Batch, now: Duration) -> Next {
        let (mut candidates, mut asked, mut slots) = (Vec::new(), Vec::new(), HashMap::new());
        // After MULTI.
        for (command, (sent, encoded)) in batch.commands.iter().zip(self.tx.encoded().skip(1)).enumerate() {
            let Sent::Write { origin, .. } = *sent else { continue };
            if !self.settings.routes[origin.route].writes[origin.write].effect.compares() {
                continue;
            }
            let (Some(key), Some(what)) = (encoded.arg(1), What::of(encoded)) else { continue };
            let stream = what.streams();
            let slot = *slots.entry((key, stream)).or_insert_with(|| {
                asked.push((key.to_vec(), stream));
                asked.len() - 1
            });
            candidates.push(Candidate { command, slot, what, origin });
        }
        let watched = self.job.as_mut().is_none_or(|job| {
            job.careful = job.careful.saturating_sub(1);
            job.careful == 0
        });
        let mut comparison = Comparison { batch, candidates, asked, dropped: BTreeMap::new(), watched };
        if comparison.asked.is_empty() {
            self.keep(&mut comparison.batch, &[], Counts::default());
            return self.send_batch(comparison.batch, now);
        }
        self.question(comparison, now)
    }

    /// Asks what stands at the keys.
    pub(super) fn question(&mut self, comparison: Comparison, now: Duration) -> Next {
        self.encode_questions(&comparison);
        self.exchange(Stage::Comparing(comparison), now)
    }

    fn encode_questions(&mut self, comparison: &Comparison) {
        let Some(job) = &self.job else { return };
        let out = &mut self.aux;
        out.clear();
        if std::mem::take(&mut self.unwatch) {
            out.command(&[b"UNWATCH"]);
        }
        if comparison.watched {
            out.arg(b"WATCH");
            comparison.asked.iter().for_each(|(key, _)| out.arg(key));
            out.finish();
        }
        for (key, stream) in &comparison.asked {
            out.command(&[if *stream { b"TYPE".as_slice() } else { b"GET" }, key]);
        }
        out.arg(b"HMGET");
        out.arg(&job.keys.marks().0);
        comparison.asked.iter().for_each(|(key, _)| out.arg(key));
        out.finish();
    }

    pub(super) fn comparison_answered(&mut self, mut comparison: Comparison, replies: &[Reply], now: Duration, jitter: f64) {
        let answers = &replies[replies.len().saturating_sub(comparison.asked.len() + 1)..];
        // A key of another type is an answer.
        let refused = |r: &&Reply| matches!(r, Reply::Error(e) if !e.starts_with("WRONGTYPE"));
        if let Some(Reply::Error(error)) = replies.iter().find(refused) {
            self.drop_watches();
            let shares = comparison.batch.generations();
            self.unbuild(comparison.batch);
            return self.refused_whole(error, &shares, now, jitter);
        }
        let Some((Reply::Array(marks), found)) = answers.split_last().filter(|(_, found)| found.len() == comparison.asked.len()) else {
            self.drop_watches();
            return self.unbuild(comparison.batch);
        };
        let standing = comparison.asked.iter().zip(found).zip(marks).map(|(((_, stream), found), mark)| Standing::read(*stream, found, mark)).collect();
        let marked = self.decide(&mut comparison, standing);
        let survives = |c: &&Candidate| !comparison.dropped.contains_key(&c.command);
        if comparison.watched || comparison.candidates.iter().filter(survives).count() == 0 {
            let Comparison { mut batch, dropped, .. } = comparison;
            self.finish(&mut batch, &dropped, &marked);
            self.stage = Stage::Compared(batch);
            return;
        }
        self.stage = Stage::Looked(narrowed(comparison));
    }

    /// Decides about each write in turn; what is to be kept of the keys that are written.
    fn decide(&self, comparison: &mut Comparison, standing: Vec<Standing<'_>>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut decider = Decider::new(standing);
        let commands: Vec<Encoded<'_>> = self.tx.encoded().skip(1).collect();
        for candidate in &comparison.candidates {
            if comparison.dropped.contains_key(&candidate.command) {
                continue;
            }
            let effect = &self.settings.routes[candidate.origin.route].writes[candidate.origin.write].effect;
            if let Err(newer) = decider.decide(candidate, effect, commands[candidate.command].arg(2).unwrap_or_default()) {
                comparison.dropped.insert(candidate.command, if newer { Dropped::Older } else { Dropped::Present });
            }
        }
        decider.marks().map(|(slot, mark)| (comparison.asked[slot].0.clone(), mark)).collect()
    }

    /// Takes what is dropped out of the batch, and adds what is kept of the rest.
    fn finish(&mut self, batch: &mut Batch, dropped: &BTreeMap<usize, Dropped>, marked: &[(Vec<u8>, Vec<u8>)]) {
        if !dropped.is_empty() {
            self.leave_out(batch, |command| dropped.contains_key(&command));
        }
        let counts = Counts {
            older: count(dropped.values().filter(|d| **d == Dropped::Older)),
            present: count(dropped.values().filter(|d| **d == Dropped::Present)),
            ..Counts::default()
        };
        self.keep(batch, marked, counts);
    }

    /// Adds what the job keeps to a batch: the marks, and the counts, in the transaction that brings them about.
    fn keep(&mut self, batch: &mut Batch, marked: &[(Vec<u8>, Vec<u8>)], counts: Counts) {
        let Some(job) = &self.job else { return };
        let sum = |of: fn(&Outcome) -> u32| batch.outcomes.iter().map(|(_, o)| i64::from(of(o))).sum();
        let counts = Counts {
            records: count(batch.entries.iter()),
            applied: count(batch.commands.iter().chain(&batch.collapsed).filter(|c| matches!(c, Sent::Write { .. }))),
            expired: sum(|o| o.expired),
            dropped: sum(Outcome::dropped),
            dead: count(batch.letters.iter()),
            condition_errors: sum(|o| o.condition_errors),
            ..counts
        };
        let before = self.tx.commands();
        if !marked.is_empty() {
            self.tx.arg(b"HSET");
            self.tx.arg(&job.keys.marks().0);
            for (key, mark) in marked {
                self.tx.arg(key);
                self.tx.arg(mark);
            }
            self.tx.finish();
        }
        add(&job.keys, &counts, &mut self.tx);
        batch.commands.extend((before..self.tx.commands()).map(|_| Sent::Begun { entry: 0 }));
    }

    /// Adds to a transaction of letters what they change in the counts; how many commands those are.
    pub(super) fn count_letters(&self, burial: &Burial, out: &mut Encoder) -> usize {
        self.job.as_ref().map_or(0, |job| add(&job.keys, &changed(&burial.letters), out))
    }

    /// Letters stand in a topic. What they change in the counts goes in the transaction that clears their `unread`: if it never
    /// goes, they are found once more.
    pub(super) fn count_later(&mut self, letters: &[Letter]) {
        if self.job.is_none() {
            return;
        }
        for part in self.parts.values_mut() {
            let counts = changed(letters.iter().filter(|l| *l.record.at() == part.at));
            part.uncounted.dead += counts.dead;
            part.uncounted.applied += counts.applied;
        }
    }

    /// Adds to a transaction what is yet to be counted of its partitions; how many commands those are.
    pub(super) fn count_now(&mut self, generations: &[u64]) -> usize {
        let Some(job) = &self.job else { return 0 };
        let mut counts = Counts::default();
        for part in generations.iter().filter_map(|g| self.parts.get(g)) {
            counts.dead += part.uncounted.dead;
            counts.applied += part.uncounted.applied;
        }
        add(&job.keys, &counts, &mut self.tx)
    }
}

/// What letters change in the counts. One about all of its record was counted with its batch.
fn changed<'l>(letters: impl IntoIterator<Item = &'l Letter>) -> Counts {
    let mut counts = Counts::default();
    for letter in letters.into_iter().filter(|l| l.writes.iter().all(|w| w != "*")) {
        counts.dead += 1;
        counts.applied -= count(letter.writes.iter());
    }
    counts
}

fn count<T>(of: impl Iterator<Item = T>) -> i64 {
    i64::try_from(of.count()).unwrap_or(i64::MAX)
}

/// One HINCRBY for each that changes; how many those are.
fn add(keys: &Keys, counts: &Counts, out: &mut Encoder) -> usize {
    let before = out.commands();
    for (name, n) in counts.each().into_iter().filter(|(_, n)| *n != 0) {
        out.command(&[b"HINCRBY".as_slice(), &keys.counts().0, name.as_bytes(), n.to_string().as_bytes()]);
    }
    out.commands() - before
}

/// The same question about the keys of what survived alone, which are to be watched.
fn narrowed(comparison: Comparison) -> Comparison {
    let Comparison { batch, mut candidates, asked, dropped, .. } = comparison;
    candidates.retain(|c| !dropped.contains_key(&c.command));
    let kept: BTreeSet<usize> = candidates.iter().map(|c| c.slot).collect();
    let places: BTreeMap<usize, usize> = kept.iter().enumerate().map(|(place, slot)| (*slot, place)).collect();
    candidates.iter_mut().for_each(|c| c.slot = places[&c.slot]);
    let asked = asked.into_iter().enumerate().filter(|(slot, _)| kept.contains(slot)).map(|(_, key)| key).collect();
    Comparison { batch, candidates, asked, dropped, watched: true }
}
