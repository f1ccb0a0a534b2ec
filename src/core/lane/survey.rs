//! A rebuild's look at the keys that it is about to write to: what was there before it may hold the same records already.
//!
//! ```text
//! WATCH keys, TYPE and SISMEMBER of each ──▶ (guard) ──▶ MULTI commands SADD positions EXEC
//! ```
use super::batch::{Batch, Sent};
use super::part::Verdict;
use super::{Lane, Next, Stage};
use crate::core::reply::{Reply, first_error};
use crate::core::route::Grown;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A partition's key that is asked about: the partition's first entry that writes to it, and the type it must have.
type Asked = BTreeMap<(u64, Vec<u8>), (usize, Option<&'static str>)>;

/// A batch, and the keys of it that are asked about, for each partition that writes to them: its first entry that does.
pub(super) struct Survey {
    pub batch: Batch,
    asked: Asked,
}

impl Lane {
    /// Asks about the keys of a rebuilding batch that are not known to have begun since the loss, or sends it.
    pub(super) fn survey(&mut self, batch: Batch, now: Duration) -> Next {
        let mut asked = Asked::new();
        for (entry, Grown { key, expected, .. }) in &batch.grown {
            let generation = batch.entries[*entry].generation;
            if !self.parts[&generation].knows_begun(key) {
                asked.entry((generation, key.clone())).or_insert((*entry, *expected));
            }
        }
        if asked.is_empty() {
            return self.send_rebuilding(batch, now);
        }
        let mut aux = std::mem::take(&mut self.aux);
        aux.clear();
        if std::mem::take(&mut self.unwatch) {
            aux.command(&[b"UNWATCH"]);
        }
        aux.arg(b"WATCH");
        asked.keys().for_each(|(_, key)| aux.arg(key));
        aux.finish();
        for (generation, key) in asked.keys() {
            let Some((_, begun)) = &self.parts[generation].rebuild else { continue };
            aux.command(&[b"TYPE", key.as_slice()]);
            aux.command(&[b"SISMEMBER", begun.key.0.as_slice(), begun.member(key).as_slice()]);
        }
        self.aux = aux;
        self.exchange(Stage::Surveying(Survey { batch, asked }), now)
    }

    pub(super) fn survey_answered(&mut self, survey: Survey, replies: &[Reply], now: Duration, jitter: f64) {
        let Survey { mut batch, asked } = survey;
        if let Some(error) = first_error(replies) {
            self.drop_watches();
            let shares = batch.generations();
            self.unbuild(batch);
            return self.refused_whole(error, &shares, now, jitter);
        }
        let answers = &replies[replies.len().saturating_sub(2 * asked.len())..];
        let mut survived = false;
        for (((generation, key), (entry, expected)), answer) in asked.into_iter().zip(answers.chunks_exact(2)) {
            match (&answer[0], &answer[1]) {
                (_, Reply::Int(1)) => {
                    _ = self.parts.get_mut(&generation).map(|p| p.remember_begun(key));
                }
                // Of another type it refuses what would be added: a dead letter, and nothing is doubled.
                (Reply::Text(found), _) if found == b"none" || expected.is_some_and(|e| found != e.as_bytes()) => {}
                (found, _) => {
                    survived = true;
                    batch.entries[entry].pending.verdict = Some(Box::new(survivor(&key, found)));
                }
            }
        }
        if survived {
            self.drop_watches();
            return self.unbuild(batch);
        }
        self.stage = Stage::Surveyed(batch);
    }

    /// Sends a batch whose keys are all ours to begin or to go on with; which they are is kept with what it writes.
    pub(super) fn send_rebuilding(&mut self, mut batch: Batch, now: Duration) -> Next {
        let mut kept: BTreeMap<u64, (usize, BTreeSet<&[u8]>)> = BTreeMap::new();
        for (entry, grown) in batch.grown.iter().filter(|(_, g)| g.creates) {
            let (_, keys) = kept.entry(batch.entries[*entry].generation).or_insert_with(|| (*entry, BTreeSet::new()));
            keys.insert(grown.key.as_slice());
        }
        for (generation, (entry, keys)) in kept {
            let Some((_, begun)) = &self.parts[&generation].rebuild else { continue };
            let before = self.tx.commands();
            begun.keep(&keys, &mut self.tx);
            batch.commands.extend((before..self.tx.commands()).map(|_| Sent::Begun { entry }));
        }
        self.send_batch(batch, now)
    }
}

fn survivor(key: &[u8], found: &Reply) -> Verdict {
    let shown = String::from_utf8_lossy(key);
    let found = if let Reply::Text(found) = found { String::from_utf8_lossy(found).into_owned() } else { format!("{found:?}") };
    Verdict::Halt {
        code: "rebuild-survivor",
        reason: format!(
            "the {found} {shown:?} was there before this rebuild: its entries would be doubled. Delete what the routes write (DEL {shown:?}), or set redis.on_state_lost = \"resume\" and delete the state"
        ),
    }
}
