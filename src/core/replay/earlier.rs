//! Jobs that wrote under the same prefix before: the streams that they began are theirs, and a later job adds nothing to them.
use super::plan::{Plan, Span};
use super::policy::{Options, Planned};

/// Whether earlier jobs leave a new one anything to add; what a person should know where they may not.
///
/// # Errors
/// One of them had a part of the same range. What is to be done about it.
pub fn check(earlier: &[Plan], spans: &[Span], writes: &[Planned], keys: &[String], options: &Options) -> Result<Option<String>, String> {
    let prefix = &options.target_prefix;
    if prefix.is_empty() || options.append || adds(writes).next().is_none() {
        return Ok(None);
    }
    let before: Vec<&Plan> = earlier.iter().filter(|plan| plan.options.target_prefix == *prefix && adds(&plan.writes).next().is_some()).collect();
    let same_keys = |plan: &Plan| keys.is_empty() || plan.keys.is_empty() || keys.iter().any(|key| plan.keys.contains(key));
    let same_write = |plan: &Plan| adds(&plan.writes).any(|one| adds(writes).any(|other| one == other));
    let alike = |plan: &&&Plan| same_keys(plan) && same_write(plan);
    let shared = before.iter().filter(alike).find_map(|plan| Some((plan, plan.spans.iter().find(|span| spans.iter().any(|s| overlap(span, s)))?)));
    if let Some((plan, span)) = shared {
        let name = &plan.name;
        return Err(format!(
            "job {name} wrote records of {} under {prefix:?} before: the streams that it began stay as they are, and this job would add nothing to them. Take another --target-prefix, carry that job on if it was stopped (replay --resume {name}), repeat what it added (--append), or, if those streams were deleted since, forget it first: kafka-redis-bridge jobs forget {name}",
            span.at()
        ));
    }
    let names: Vec<&str> = before.iter().map(|plan| plan.name.as_str()).collect();
    Ok((!names.is_empty()).then(|| {
        format!(
            "other jobs wrote under {prefix:?} before ({}): nothing is added to streams that they began. --append adds to them, and another --target-prefix keeps the two apart",
            names.join(", ")
        )
    }))
}

/// The writes that add entries: by their routes and numbers.
fn adds(writes: &[Planned]) -> impl Iterator<Item = (&str, usize)> {
    writes.iter().filter(|w| w.command == "xadd" && w.does != "skip").map(|w| (w.route.as_str(), w.write))
}

fn overlap(a: &Span, b: &Span) -> bool {
    a.at() == b.at() && a.from.max(b.from) < a.to.min(b.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::replay::policy::Ids;

    fn span(partition: i32, from: i64, to: i64) -> Span {
        Span { topic: "t".into(), partition, from, to, first_ms: None, last_ms: None, live: None }
    }

    fn options(prefix: &str) -> Options {
        Options { target_prefix: prefix.into(), append: false, ids: Ids::Write, writes: Vec::new() }
    }

    fn write(command: &str, does: &str) -> Planned {
        Planned { route: "r".into(), write: 1, command: command.into(), does: does.into(), meaning: String::new() }
    }

    #[test]
    fn a_range_that_a_job_wrote_under_the_same_prefix_is_not_written_there_again() {
        let writes = vec![write("xadd", "if-missing")];
        let earlier = Plan { name: "r-1".into(), writes, options: options("x:"), ..Plan::of(vec![span(0, 10, 20)]) };
        let adds = [write("xadd", "if-missing")];
        let asked = |span: Span, options: &Options| check(std::slice::from_ref(&earlier), &[span], &adds, &["a".into()], options);
        let refused = asked(span(0, 19, 30), &options("x:")).unwrap_err();
        assert!(refused.contains("jobs forget r-1") && refused.contains("--append"), "{refused}");
        assert!(asked(span(0, 20, 30), &options("x:")).unwrap().unwrap().contains("(r-1)"), "another range, perhaps of the same streams");
        assert!(asked(span(1, 10, 20), &options("x:")).unwrap().is_some());
        assert_eq!(asked(span(0, 10, 20), &options("y:")), Ok(None));
        assert_eq!(asked(span(0, 10, 20), &Options { append: true, ..options("x:") }), Ok(None));
        let of_b = Plan { keys: vec!["b".into()], ..earlier.clone() };
        assert!(check(&[of_b], &[span(0, 10, 20)], &adds, &["a".into()], &options("x:")).unwrap().is_some(), "other keys");
        let others = [Planned { write: 4, ..write("xadd", "if-missing") }, Planned { route: "s".into(), ..write("xadd", "if-missing") }];
        let told = check(std::slice::from_ref(&earlier), &[span(0, 10, 20)], &others, &[], &options("x:"));
        assert!(told.as_ref().is_ok_and(|note| note.is_some()), "other writes: {told:?}");
        assert_eq!(check(&[earlier], &[span(0, 10, 20)], &[write("set", "if-missing")], &[], &options("x:")), Ok(None));
    }
}
