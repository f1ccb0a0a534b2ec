//! A job that is not complete, beside a live bridge that stands below the end of what the job is yet to add: both would add the
//! same entries to the streams that the job began.
use super::plan::{Plan, Span};
use super::policy::{Live, check_ids};
use crate::core::record::TopicPartition;
use crate::core::route::Route;

/// What is left of each range of a job that has come to these positions.
pub fn left(plan: &Plan, positions: &[Option<i64>]) -> Vec<Span> {
    let span = |(span, position): (&Span, &Option<i64>)| Span { from: position.unwrap_or(span.from).min(span.to), ..span.clone() };
    plan.spans.iter().zip(positions).map(span).filter(|span| !span.is_empty()).collect()
}

/// Whether a job adds to streams to which the live bridge adds.
fn adds(plan: &Plan) -> bool {
    plan.options.target_prefix.is_empty() && plan.writes.iter().any(|w| w.command == "xadd" && w.does == "if-missing")
}

/// Whether a job can be carried on. `left`: what is left of it, and where the live bridge is now. What was allowed when it
/// began may be allowed no more.
///
/// # Errors
/// What is to be done about it.
pub fn check(plan: &Plan, routes: &[Route], left: &[Span]) -> Result<(), String> {
    let name = &plan.name;
    let below: Vec<&Span> = left.iter().filter(|s| adds(plan) && s.live.is_some_and(|live| live < s.to)).collect();
    if let Some(first) = below.first() {
        let place = |s: &&Span| format!("{}: the job is at {} of {}, the bridge at {}", s.at(), s.from, s.to, s.live.unwrap_or_default());
        let ends = below.iter().filter(|s| s.topic == first.topic).map(|s| format!("{}:{}", s.partition, s.to)).collect::<Vec<_>>().join(",");
        return Err(format!(
            "the live bridge stands below the end of what job {name} is yet to add, and will add the same entries: {}. Let the bridge go on behind the range (rewind --topic {} --to-offset {ends}) and carry the job on; or forget the job (jobs forget {name}): then the bridge adds what is above its position, and of what is below it another job adds the rest (replay --append, which adds to whatever stream is there). To wait until the bridge has passed the range makes each of them stand there twice",
            below.iter().map(place).collect::<Vec<_>>().join("; "),
            first.topic
        ));
    }
    let lives: Vec<Live> = left.iter().map(|s| Live { at: s.at(), to: s.to, position: s.live }).collect();
    check_ids(routes, &lives, &plan.options).map_err(|why| format!("{why}. Job {name} keeps its plan: forget it (jobs forget {name}), and begin another one"))
}

/// What a person should know who sets the live bridge to an offset of a partition beside a job of which so much is left.
pub fn note(plan: &Plan, left: &[Span], at: &TopicPartition, to: i64) -> Option<String> {
    let span = left.iter().find(|s| adds(plan) && s.at() == *at && to < s.to)?;
    let name = &plan.name;
    Some(format!(
        "job {name} is at {} of {}, and is yet to add entries that the bridge will add from {to} on: they will stand there twice, unless the job comes to its end before, or is forgotten (jobs forget {name})",
        span.from, span.to
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::replay::policy::{Ids, Options, Planned};
    use crate::core::template::Template;
    use crate::core::write::{Fields, Kind, Write, Xadd};

    fn plan(does: &str, options: Options) -> Plan {
        let span = |partition| Span { topic: "t".into(), partition, from: 10, to: 100, first_ms: None, last_ms: None, live: Some(100) };
        let writes = vec![Planned { route: "r".into(), write: 1, command: "xadd".into(), does: does.into(), meaning: String::new() }];
        Plan { name: "r-1".into(), writes, options, ..Plan::of(vec![span(0), span(1)]) }
    }

    fn options() -> Options {
        Options { target_prefix: String::new(), append: false, ids: Ids::Write, writes: Vec::new() }
    }

    fn routes() -> [Route; 1] {
        let template = |text: &str| Template::parse(text).unwrap();
        let xadd = Xadd { key: template("s:{key}"), fields: Fields::All, id: template("*"), trim: None, nomkstream: false, ahead_max_ms: 1 };
        [Route::new("r", "t", vec![Write::new(Kind::Xadd(xadd))])]
    }

    /// Carried on at these positions, where the live bridge is there now.
    fn carried_on(plan: &Plan, positions: [i64; 2], live: Option<i64>) -> Result<(), String> {
        let now = |span: Span| Span { live, ..span };
        let left: Vec<Span> = left(plan, &positions.map(Some)).into_iter().map(now).collect();
        check(plan, &routes(), &left)
    }

    #[test]
    fn a_job_is_not_carried_on_where_the_live_bridge_was_set_back_below_what_is_left_of_it() {
        let plan = plan("if-missing", options());
        assert_eq!(carried_on(&plan, [50, 60], Some(100)), Ok(()));
        assert_eq!(carried_on(&plan, [50, 60], None), Ok(()));
        assert_eq!(carried_on(&plan, [100, 100], Some(20)), Ok(()), "nothing of it is left: it is marked as complete");
        let refused = carried_on(&plan, [100, 60], Some(70)).unwrap_err();
        assert!(refused.contains("t[1]: the job is at 60 of 100, the bridge at 70") && !refused.contains("t[0]"), "{refused}");
        assert!(refused.contains("rewind --topic t --to-offset 1:100") && refused.contains("jobs forget r-1"), "{refused}");
    }

    #[test]
    fn what_goes_to_streams_of_its_own_or_may_be_repeated_is_carried_on_wherever_the_live_bridge_is() {
        assert_eq!(carried_on(&plan("if-missing", Options { target_prefix: "x:".into(), ..options() }), [50, 50], Some(20)), Ok(()));
        assert_eq!(carried_on(&plan("apply", Options { append: true, ..options() }), [50, 50], Some(20)), Ok(()));
        assert_eq!(carried_on(&plan("skip", options()), [50, 50], Some(20)), Ok(()));
    }

    #[test]
    fn a_job_whose_ids_are_the_records_time_is_not_carried_on_where_a_bridge_adds_newer_ones_since() {
        let plan = plan("if-missing", Options { ids: Ids::Timestamp, ..options() });
        assert_eq!(carried_on(&plan, [50, 50], None), Ok(()));
        let refused = carried_on(&plan, [50, 50], Some(200)).unwrap_err();
        assert!(refused.contains("--ids timestamp") && refused.contains("jobs forget r-1"), "{refused}");
    }

    #[test]
    fn who_sets_the_live_bridge_back_is_told_of_a_job_that_is_yet_to_add_the_same_entries() {
        let plan = plan("if-missing", options());
        let told = |partition, to| note(&plan, &left(&plan, &[Some(50), Some(100)]), &TopicPartition::new("t", partition), to);
        assert!(told(0, 99).unwrap().contains("job r-1 is at 50 of 100"));
        assert_eq!((told(0, 100), told(1, 20), told(2, 20)), (None, None, None));
    }
}
