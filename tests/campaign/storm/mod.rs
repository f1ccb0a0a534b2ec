//! The storm: faults one after the other, in an order that the seed decides, against one bed; at the end everything that
//! was produced must stand in Redis once and in order.
pub(crate) mod bridge;
pub(crate) mod kafka;
pub(crate) mod network;
pub(crate) mod redis;

use crate::bed::{Bed, Broker};
use crate::report::{Fault, Storm};
use crate::support::{eventually, pass};
use crate::table::{Case, Kind};
use crate::told;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

/// How long the bridges may take to be well again once a fault is over.
const RECOVERY_MAX_SECS: u64 = 120;
/// Between two faults.
const CALM: std::ops::Range<u64> = 100..800;

pub(crate) type Inject = fn(&mut Bed<'_>, &mut StdRng);

/// Every kind once, then by weight.
fn order<'c>(cases: &[&'c Case], faults: usize, rng: &mut StdRng) -> Vec<&'c Case> {
    let weight = |c: &&Case| if let Kind::Storm { weight, .. } = c.kind { weight } else { 0 };
    let mut order = cases.to_vec();
    order.shuffle(rng);
    if cases.iter().all(|c| weight(c) == 0) {
        return order.into_iter().cycle().take(faults).collect();
    }
    while order.len() < faults {
        order.push(cases.choose_weighted(rng, weight).unwrap());
    }
    order.truncate(faults);
    order
}

/// Lets the faults loose. What went wrong is in the result; then the storm has ended early.
pub(crate) fn run(broker: &mut Broker, cases: &[&Case], faults: usize, seed: u64, folder: &Path) -> Storm {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut storm = Storm::default();
    let begun = Instant::now();
    let mut bed = Bed::make(broker, folder);
    let order = order(cases, faults, &mut rng);
    for (n, case) in order.iter().enumerate() {
        let Kind::Storm { shows, inject, .. } = case.kind else { continue };
        pass(redis::millis(&mut rng, CALM));
        let mut healed = None;
        let fault = catch_unwind(AssertUnwindSafe(|| {
            bed.begin_fault();
            inject(&mut bed, &mut rng);
            healed = Some(Instant::now());
            let produced = bed.produced();
            eventually("the bridges are well again", RECOVERY_MAX_SECS, || bed.well(produced));
        }));
        let (since, recovered) = (bed.since(), healed.map(|h| h.elapsed().as_secs_f64()));
        let detected = bed.watch.first(shows, since).map(|at| (at - since).as_secs_f64());
        let codes = bed.watch.all(since).into_iter().collect::<Vec<_>>();
        let seconds = |t: Option<f64>| t.map_or_else(|| "-".into(), |t| format!("{t:.2}"));
        told(&format!(
            "{:7.1}s {:3}/{} {:<26} detected {:>6}, recovered {:>6}, seen: {}",
            begun.elapsed().as_secs_f64(),
            n + 1,
            order.len(),
            case.name,
            seconds(detected),
            seconds(recovered),
            codes.join(" ")
        ));
        if let Err(panic) = fault {
            storm.failed.push(format!("{}: {}", case.name, crate::said(&*panic)));
        } else if detected.is_none() && !shows.is_empty() {
            storm.failed.push(format!("{}: none of the conditions {shows:?} was seen", case.name));
        }
        storm.faults.push(Fault { name: case.name.into(), detected, recovered: recovered.filter(|_| storm.failed.is_empty()) });
        if !storm.failed.is_empty() {
            storm.failed.push(bed.describe());
            break;
        }
    }
    judge(bed, &mut storm);
    storm.seconds = begun.elapsed().as_secs_f64();
    storm
}

/// Compares what stands in Redis with what was produced, after a failure too.
fn judge(bed: Bed<'_>, storm: &mut Storm) {
    let settled = catch_unwind(AssertUnwindSafe(|| bed.settle()));
    let (redis, produced) = match settled {
        Ok(both) => both,
        Err(panic) => return storm.failed.push(format!("at the end: {}", crate::said(&*panic))),
    };
    let found = produced.ticks.compare(&redis);
    let (lost, doubled, lines) = produced.compare_letters(&redis);
    storm.records = produced.records();
    storm.letters = 2 * produced.poison;
    storm.lost = found.lost + lost;
    storm.doubled = found.doubled + doubled;
    storm.disordered = found.disordered + found.stale;
    storm.failed.extend(found.differences.into_iter().chain(lines).take(40));
}
