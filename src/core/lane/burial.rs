//! Dead letters that must be durable before their partitions go on: in a stream by a transaction of their own, in a topic
//! beside all else. Partitions that owe none do not wait.
use super::part::Part;
use super::{Event, Lane, Letters, Next, Stage, Unburied};
use crate::core::encode::Encoder;
use crate::core::letter::Letter;
use crate::core::record::TopicPartition;
use crate::core::reply::{Class, Reply, cause, first_error, triage};
use crate::core::state::Last;
use std::ops::Range;
use std::time::Duration;

/// Letters that must be durable before their partitions go on.
#[derive(Default)]
pub(super) struct Burial {
    pub letters: Vec<Letter>,
    /// What is settled then.
    pub settle: Vec<(u64, Range<i64>, Option<Last>)>,
    /// Partitions that halt then, and why.
    pub halts: Vec<(u64, &'static str, String)>,
    /// Partitions whose `unread` is cleared with the letters.
    pub clear: Vec<u64>,
}

impl Lane {
    /// Letters came up: their partitions wait for them. What the others settled with them is settled.
    pub(super) fn owe(&mut self, mut burial: Burial) {
        self.unprepare();
        for generation in &burial.clear {
            _ = self.parts.get_mut(generation).map(|p| p.owes_letters = true);
        }
        let (owing, free): (Vec<_>, Vec<_>) = std::mem::take(&mut burial.settle).into_iter().partition(|(g, ..)| burial.clear.contains(g));
        let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut burial.halts).into_iter().partition(|(g, ..)| burial.clear.contains(g));
        (burial.settle, burial.halts) = (owing, later);
        self.settle(free);
        self.halt_all(now);
        let before = self.burial.take().map(|b| self.still_ours(b));
        let waiting = self.burial.insert(before.unwrap_or_default());
        waiting.letters.append(&mut burial.letters);
        waiting.settle.append(&mut burial.settle);
        waiting.halts.append(&mut burial.halts);
        waiting.clear.append(&mut burial.clear);
    }

    /// What is to be done about the letters that wait.
    pub(super) fn next_burial(&mut self, now: Duration) -> Option<Next> {
        if self.producing.is_some() {
            return None;
        }
        let burial = self.burial.take()?;
        let burial = self.still_ours(burial);
        if !burial.letters.is_empty() {
            return Some(self.send_burial(burial, now));
        }
        self.buried(burial, false);
        None
    }

    /// How producing letters ended. The partitions of those that can't be written halt, and no other; `unread` keeps them.
    pub(super) fn produced(&mut self, result: Result<(), Vec<Unburied>>) {
        let Some(burial) = self.producing.take() else { return };
        let mut burial = self.still_ours(burial);
        for (at, why) in result.err().unwrap_or_default() {
            let refused = self.split_off(&mut burial, &at);
            self.unburied(refused, &why);
        }
        self.buried(burial, false);
    }

    /// Takes from a burial what is of one partition.
    fn split_off(&self, burial: &mut Burial, at: &TopicPartition) -> Burial {
        let of = |g: &u64| self.parts.get(g).is_some_and(|p| p.at == *at);
        let mut taken = Burial::default();
        (taken.letters, burial.letters) = std::mem::take(&mut burial.letters).into_iter().partition(|l| l.record.at() == at);
        (taken.settle, burial.settle) = std::mem::take(&mut burial.settle).into_iter().partition(|(g, ..)| of(g));
        (taken.halts, burial.halts) = std::mem::take(&mut burial.halts).into_iter().partition(|(g, ..)| of(g));
        (taken.clear, burial.clear) = std::mem::take(&mut burial.clear).into_iter().partition(of);
        taken
    }

    /// Makes the letters durable that must be before their partitions go on: in a topic by the shell, in a stream by a
    /// transaction of their own. A letter that the stream's key refused would not undo the clearing of `unread` beside
    /// it, so the key's type is read under WATCH first, with the guards.
    fn send_burial(&mut self, burial: Burial, now: Duration) -> Next {
        let Letters::Stream { name, .. } = &self.settings.letters else {
            let letters = burial.letters.clone();
            self.producing = Some(burial);
            return Next::Bury(letters);
        };
        let mut aux = std::mem::take(&mut self.aux);
        aux.clear();
        if std::mem::take(&mut self.unwatch) {
            aux.command(&[b"UNWATCH"]);
        }
        self.watch(&burial.clear, &mut aux);
        aux.command(&[b"WATCH", name.as_bytes()]);
        aux.command(&[b"TYPE", name.as_bytes()]);
        self.aux = aux;
        self.exchange(Stage::GuardingBurial(burial), now)
    }

    /// Makes `aux` the transaction of the letters.
    fn encode_burial(&mut self, burial: &Burial) {
        let Letters::Stream { name, maxlen } = &self.settings.letters else { return };
        let mut aux = std::mem::take(&mut self.aux);
        aux.clear();
        aux.command(&[b"MULTI"]);
        let job = self.job.as_ref().map(|job| job.keys.name());
        // Whether one of them is suspected, all are cut: it is rare.
        let bulk_max = burial.clear.iter().map(|g| self.letter_bulk_max(*g)).min().unwrap_or(usize::MAX);
        for letter in &burial.letters {
            letter.encode(name, *maxlen, job, bulk_max, &mut aux);
        }
        for guard in burial.clear.iter().filter_map(|g| self.parts.get(g)?.guard.as_ref()) {
            aux.command(&[b"HSET", guard.key.0.as_slice(), b"unread", b""]);
        }
        self.count_letters(burial, &mut aux);
        aux.command(&[b"EXEC"]);
        self.watch(&burial.clear, &mut aux);
        self.aux = aux;
    }

    pub(super) fn burial_guard_answered(&mut self, burial: Burial, replies: &[Reply], now: Duration, jitter: f64) {
        let guarded: Vec<u64> = burial.clear.iter().copied().filter(|g| self.parts.get(g).is_some_and(|p| p.guard.is_some())).collect();
        let error = first_error(replies);
        let Some((stream_type, guards)) = replies.split_last().filter(|(_, rest)| error.is_none() && !rest.is_empty()) else {
            self.drop_watches();
            let shares = burial.clear.clone();
            self.burial = Some(burial);
            return self.refused_whole(error.unwrap_or_default(), &shares, now, jitter);
        };
        // Before the last one, the WATCH of the stream's key.
        let held = self.read_guards(&guarded, &guards[..guards.len() - 1]) == Ok(true);
        match stream_type {
            Reply::Text(found) if found != b"none" && found != b"stream" => {
                self.drop_watches();
                self.unburied(burial, &format!("the key of dead_letter.stream holds a {}", String::from_utf8_lossy(found)));
            }
            _ if held => {
                self.encode_burial(&burial);
                self.stage = Stage::Burying(burial);
            }
            _ => {
                self.drop_watches();
                self.burial = Some(burial);
            }
        }
    }

    /// What of a burial belongs to partitions that are still open here: the letters of the others are found again by
    /// their next claim, since their `unread` stands.
    fn still_ours(&self, mut burial: Burial) -> Burial {
        let open: Vec<_> = burial.clear.iter().filter_map(|g| self.parts.get(g)).map(|p| p.at.clone()).collect();
        burial.letters.retain(|l| open.contains(l.record.at()));
        burial.settle.retain(|(g, ..)| self.parts.contains_key(g));
        burial.clear.retain(|g| self.parts.contains_key(g));
        burial
    }

    pub(super) fn burial_answered(&mut self, burial: Burial, replies: &[Reply], now: Duration, jitter: f64) {
        self.forget_watches();
        let guarded: Vec<u64> = burial.clear.iter().copied().filter(|g| self.parts.get(g).is_some_and(|p| p.guard.is_some())).collect();
        let exec_at = 1 + burial.letters.len() + guarded.len() + self.count_letters(&burial, &mut Encoder::default());
        let exec = replies.get(exec_at);
        let failed = first_error(&replies[..exec_at.min(replies.len())]);
        match exec {
            Some(Reply::Array(results)) => match first_error(results) {
                None => {
                    self.out_of_trouble();
                    self.buried(burial, true);
                }
                Some(error) => self.unburied(burial, error),
            },
            Some(Reply::Error(error)) => {
                let error = failed.unwrap_or_else(|| cause(error));
                if matches!(triage(error), Class::Transient | Class::Capacity) {
                    let shares = burial.clear.clone();
                    self.burial = Some(burial);
                    self.refused_whole(error, &shares, now, jitter);
                } else {
                    self.unburied(burial, error);
                }
            }
            _ => self.burial = Some(burial),
        }
        // What could not be read, the next guard will meet again.
        let _ = self.read_guards(&guarded, replies);
    }

    /// The letters are durable. `cleared`: `unread` was emptied with them.
    fn buried(&mut self, burial: Burial, cleared: bool) {
        burial.letters.iter().for_each(|l| self.letter_stands(l));
        if !cleared {
            self.count_later(&burial.letters);
        }
        for part in &burial.clear {
            if let Some(part) = self.parts.get_mut(part) {
                part.owes_letters = false;
                if cleared {
                    (part.unread, part.dirty) = (None, false);
                }
            }
        }
        self.settle(burial.settle);
        self.halt_all(burial.halts);
    }

    pub(super) fn letter_stands(&mut self, letter: &Letter) {
        if let Some(route) = self.route_named(&letter.route) {
            self.count(route, |t| (&t.dead, 1));
            self.events.push(Event::Buried { route: letter.route.clone(), code: letter.code, reason: letter.reason.clone() });
        }
    }

    pub(super) fn route_named(&self, name: &str) -> Option<usize> {
        self.settings.routes.iter().position(|r| r.name == name)
    }

    /// The letters can't be written: what needs them stays unsettled, and `unread` in the state keeps them.
    pub(super) fn unburied(&mut self, burial: Burial, why: &str) {
        let owes = |part: &Part| burial.letters.iter().find(|l| *l.record.at() == part.at);
        let owing: Vec<(u64, String)> = burial.clear.iter().filter_map(|g| Some((*g, owes(self.parts.get(g)?)?.reason.clone()))).collect();
        let settled = burial.settle.iter().filter(|(g, ..)| owing.iter().all(|(o, _)| o != g)).cloned().collect();
        self.settle(settled);
        for (generation, reason) in owing {
            self.halt(generation, "dead-letter-refused", format!("a dead letter can't be written ({why}); its reason was: {reason}"));
        }
        self.halt_all(burial.halts);
    }
}
