//! Records that are larger than Redis takes: by the limit that it tells, or, where it tells none, by the connections that it closes.
//!
//! Redis closes a connection on which an argument comes that is longer than `proto-max-bulk-len`, and a closed connection does not say
//! which record it was. So what was in flight each time goes record by record after some times, each alone: the innocent ones
//! get through, and the partition of the one that does not is halted. Each time the partition was claimed again meanwhile: the state
//! says that the record is not applied, and Redis answers to all else.
use super::batch::{Batch, Sent};
use super::part::Part;
use super::{Lane, Stage};
use crate::core::encode::Encoder;
use crate::core::record::Record;
use std::ops::Range;

/// How many times in a row the connection is closed on the same records before each goes alone.
const TOGETHER_MAX: u32 = 3;
/// How many times in a row it is closed on one that was alone before its partition halts.
const ALONE_MAX: u32 = 3;
/// The least that `proto-max-bulk-len` can be: a letter whose arguments are no longer goes through.
const BULK_LEAST: usize = 1 << 20;
/// The code of a partition that halts for it.
pub(super) const HANGS_UP: &str = "redis-hangs-up";

/// What was in flight of a partition when Redis closed the connection.
pub(super) struct Suspect {
    /// From the first record to behind the last.
    range: Range<i64>,
    /// How many times in a row.
    losses: u32,
    /// How many times in a row the first record was sent alone for it.
    alone: u32,
}

impl Lane {
    /// How long an argument may be, where Redis tells it; asked again whenever a connection was made, and every now and then.
    pub fn set_bulk_max(&mut self, bulk_max: Option<usize>) {
        self.bulk_max = bulk_max;
    }

    /// The other end closed the connection on what is in flight; [`Lane::lost`] follows.
    pub fn hung_up(&mut self) {
        let suspects: Vec<(u64, Range<i64>)> = match &self.stage {
            Stage::Committing(batch) => {
                let first = |g: u64| batch.entries.iter().find(|e| e.generation == g).map(|e| e.pending.record.offset);
                batch.shares.iter().filter_map(|s| Some((s.generation, first(s.generation)?..s.to))).collect()
            }
            Stage::Burying(burial) => {
                let of = |g: &u64| burial.letters.iter().find(|l| self.parts.get(g).is_some_and(|p| p.at == *l.record.at())).map(|l| l.record.offset);
                burial.clear.iter().filter_map(|g| of(g).map(|at| (*g, at..at + 1))).collect()
            }
            _ => return,
        };
        let single = matches!(&self.stage, Stage::Committing(batch) if batch.entries.len() == 1);
        for (generation, range) in suspects {
            let Some(at) = self.parts.get(&generation).map(|p| p.at.clone()) else { continue };
            let suspect = self.suspects.entry(at).or_insert(Suspect { range: range.clone(), losses: 0, alone: 0 });
            let alone = u32::from(single && suspect.losses >= TOGETHER_MAX);
            if !suspect.range.contains(&range.start) {
                *suspect = Suspect { range, losses: 1, alone: 0 };
            } else if suspect.range.start == range.start {
                suspect.losses += 1;
                suspect.alone = (suspect.alone + 1) * alone;
            } else {
                // Those before it got through.
                suspect.range.start = range.start;
                suspect.alone = alone;
            }
        }
    }

    /// These are applied up to their ends.
    pub(super) fn acquit(&mut self, batch: &Batch) {
        for share in &batch.shares {
            if self.suspects.is_empty() {
                return;
            }
            if let Some(part) = self.parts.get(&share.generation) {
                self.suspects.retain(|at, suspect| *at != part.at || share.to < suspect.range.end);
            }
        }
    }

    /// Whether the next record of a partition is to be sent alone.
    pub(super) fn goes_alone(&self, generation: u64) -> bool {
        let suspected = |p: &Part| {
            let suspect = self.suspects.get(&p.at).filter(|s| s.losses >= TOGETHER_MAX && s.alone < ALONE_MAX)?;
            Some(suspect.range.contains(&p.queue.front()?.record.offset))
        };
        !self.suspects.is_empty() && self.parts.get(&generation).and_then(suspected) == Some(true)
    }

    /// Why a record is not sent again, if it is not.
    pub(super) fn convicted(&self, generation: u64, offset: i64) -> Option<String> {
        let suspect = self.suspects.get(&self.parts.get(&generation)?.at)?;
        (suspect.alone >= ALONE_MAX && suspect.range.start == offset).then(|| {
            let limit = match self.bulk_max {
                Some(max) => format!("no argument of it is longer than proto-max-bulk-len, {max} bytes"),
                None => "Redis does not tell its proto-max-bulk-len (512 MiB, unless it was changed)".into(),
            };
            format!(
                "Redis closed the connection {} times in a row when the record at offset {offset} was sent alone, and answers to all else; {limit}",
                suspect.alone
            )
        })
    }

    /// How long the arguments of a partition's letter may be.
    pub(super) fn letter_bulk_max(&self, generation: u64) -> usize {
        let suspected = || self.suspects.get(&self.parts.get(&generation)?.at).filter(|s| s.losses >= TOGETHER_MAX);
        self.bulk_max.unwrap_or_else(|| if suspected().is_some() { BULK_LEAST } else { usize::MAX })
    }

    /// The first command of a record, rendered behind `mark`, that Redis would not take: its route and why.
    pub(super) fn oversized(&self, mark: usize, sent: &[Sent], record: &Record) -> Option<(usize, String)> {
        let max = self.bulk_max?;
        // The index of keys names it, whatever the writes make of it.
        let key = || record.key().map(<[u8]>::len).filter(|len| self.index.is_some() && *len > max).map(|len| (0, len));
        let (command, length) = longer_than(&self.tx, mark, max).or_else(key)?;
        let Some(Sent::Write { origin, .. }) = sent.get(command) else { return None };
        let write = &self.settings.routes[origin.route].writes[origin.write].kind;
        let reason = format!(
            "write {} ({}): an argument of {length} bytes is longer than this Redis takes (proto-max-bulk-len, {max} bytes); raise that, or write less of the record",
            origin.write + 1,
            write.name()
        );
        Some((origin.route, reason))
    }
}

/// The first command behind a mark, by its number from there, that has a longer argument, and how long that is.
fn longer_than(commands: &Encoder, mark: usize, max: usize) -> Option<(usize, usize)> {
    if commands.bytes_behind(mark) <= max {
        return None;
    }
    commands.encoded().skip(mark).enumerate().find_map(|(n, command)| command.args().map(<[u8]>::len).find(|len| *len > max).map(|len| (n, len)))
}
