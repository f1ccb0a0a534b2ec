//! Which faults a run has: a random subset finds more than all at once (swarm testing).
use super::FOUND;
use super::random::Random;

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Wires break; who waits gives up.
    pub(crate) cuts: bool,
    /// What was given up on is still applied, whole or in part.
    pub(crate) late: bool,
    /// Redis refuses everything for a while.
    pub(crate) refusals: bool,
    /// A replica that lags becomes the master; the old one may go on.
    pub(crate) failovers: bool,
    /// Bridges are killed, or drain.
    pub(crate) crashes: bool,
    /// A partition moves, and its former owner does not hear of it.
    pub(crate) zombies: bool,
    /// A partition moves (cooperative, consumer).
    pub(crate) moves: bool,
    /// All partitions move at once (eager).
    pub(crate) eager: bool,
    /// Commits fail.
    pub(crate) commits: bool,
    /// Seeks are refused.
    pub(crate) seeks: bool,
    /// No broker answers.
    pub(crate) kafka_away: bool,
    /// Records are compacted away.
    pub(crate) compaction: bool,
    /// States are evicted: then at least once is all that can be promised.
    pub(crate) evictions: bool,
    /// All of Redis is emptied while no bridge runs, and rebuilt.
    pub(crate) flushes: bool,
    /// The ACL denies writes for a while.
    pub(crate) denials: bool,
    /// A partition is recreated, or loses records that were not read.
    pub(crate) logs: bool,
    /// Redis refuses for reasons that need a person, who restarts the bridge.
    pub(crate) permissions: bool,
    /// No fault: the group begins in the middle, and a partition is added later.
    pub(crate) grows: bool,
    /// No fault: three bridges instead of two.
    pub(crate) third: bool,
    /// No fault: dead letters go to a topic, which gets them at least once.
    pub(crate) topic: bool,
    /// No fault: a second write of which nobody can tell whether it was refused.
    pub(crate) explicit: bool,
    /// No fault: a job applies some of the records again, beside the bridges; its processes are killed, stopped, two at once.
    pub(crate) job: bool,
    /// No fault: everything is produced before the bridges start, so that partitions fall quiet under the faults.
    pub(crate) quiet: bool,
    /// Steps with faults.
    pub(crate) steps: usize,
    /// Whether what happens is written down.
    pub(crate) traced: bool,
}

impl Faults {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(!seed);
        let mut chance = |percent| random.percent(percent);
        // What makes a weaker promise comes alone, so that the strong one is what is mostly tried.
        let (evictions, denials) = (chance(15), chance(8));
        let plain = !evictions && !denials;
        let quiet = chance(25);
        // A compacted topic that was recreated can't be told from the former one where the last record is a hole.
        let compaction = chance(20) && plain;
        let failovers = chance(40) && plain;
        let grows = chance(10);
        let logs = !grows && chance(15) && plain && !compaction && !failovers;
        Self {
            cuts: chance(50) && !denials,
            late: chance(50),
            refusals: chance(50),
            failovers,
            crashes: chance(50) && !denials,
            zombies: chance(50) && !denials,
            moves: chance(50) && !denials,
            eager: chance(20) && !denials,
            commits: chance(40),
            seeks: chance(40),
            kafka_away: chance(30),
            compaction,
            evictions,
            denials,
            logs,
            flushes: chance(10) && plain && !compaction && !logs && !grows,
            permissions: chance(10) && plain,
            grows,
            third: chance(30),
            topic: chance(30),
            explicit: chance(20) && !evictions,
            quiet,
            // What was found without one is found again without one. A log that changes under a job is no more its log.
            job: chance(35) && !logs && !FOUND.contains(&seed),
            // Long enough that all is settled, and faults meet partitions that have nothing to do.
            steps: if quiet { 4000 } else { 1200 },
            traced: false,
        }
    }

    /// The faults by name, each to be switched off.
    fn switches(&mut self) -> [(&'static str, &mut bool); 23] {
        [
            ("cuts", &mut self.cuts),
            ("late", &mut self.late),
            ("refusals", &mut self.refusals),
            ("failovers", &mut self.failovers),
            ("crashes", &mut self.crashes),
            ("zombies", &mut self.zombies),
            ("moves", &mut self.moves),
            ("eager", &mut self.eager),
            ("commits", &mut self.commits),
            ("seeks", &mut self.seeks),
            ("kafka_away", &mut self.kafka_away),
            ("compaction", &mut self.compaction),
            ("evictions", &mut self.evictions),
            ("denials", &mut self.denials),
            ("flushes", &mut self.flushes),
            ("permissions", &mut self.permissions),
            ("grows", &mut self.grows),
            ("third", &mut self.third),
            ("logs", &mut self.logs),
            ("topic", &mut self.topic),
            ("explicit", &mut self.explicit),
            ("quiet", &mut self.quiet),
            ("job", &mut self.job),
        ]
    }

    /// Fewer faults and fewer steps with which it still fails.
    pub(crate) fn shrunk(mut self, fails: impl Fn(Self) -> bool) -> Self {
        for n in 0..self.switches().len() {
            let mut fewer = self;
            *fewer.switches()[n].1 = false;
            if fails(fewer) {
                self = fewer;
            }
        }
        let (mut low, mut high) = (0, self.steps);
        while low < high {
            let steps = usize::midpoint(low, high);
            if fails(Self { steps, ..self }) {
                high = steps;
            } else {
                low = steps + 1;
            }
        }
        self.steps = high;
        self
    }

    /// What there is, by name.
    pub(crate) fn names(mut self) -> String {
        let on: Vec<&str> = self.switches().into_iter().filter(|(_, on)| **on).map(|(name, _)| name).collect();
        format!("{} for {} steps", if on.is_empty() { "no fault".into() } else { on.join(", ") }, self.steps)
    }
}
