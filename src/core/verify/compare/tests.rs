use super::*;

const ALONE: May = May { add: None, set: None, end: false };
const BESIDE: May = May { add: Some(Kept::All), ..ALONE };

fn entries(range: &[Print], tail: &[Print]) -> Entries {
    Entries { prints: [range, tail].concat(), of_range: range.len() }
}

fn expected(sources: &[Entries], kept: Kept) -> Stream {
    Stream { sources: sources.iter().cloned().enumerate().collect(), kept, ..Stream::default() }
}

fn found(prints: &[Print]) -> FoundStream {
    FoundStream { prints: prints.to_vec(), length: prints.len(), deleted: Some(false) }
}

/// Whether something came before the range, of all its sources or of none.
fn stream(expected: &Stream, found: &FoundStream, from_start: bool, may: &May) -> Result<Equal, String> {
    let older: Option<BTreeSet<usize>> = (!from_start).then(|| expected.sources.keys().copied().collect());
    super::stream(expected, found, older.as_ref(), may)
}

fn value(expected: &Value, found: Option<FoundValue>, now: i64, tolerance: i64, may: &May) -> Result<Equal, String> {
    super::value(expected, found, Times { now, tolerance, ahead: 0 }, may)
}

#[test]
fn a_stream_of_one_partition_ends_with_its_entries_in_order() {
    let one = |range: &[Print], tail: &[Print]| expected(&[entries(range, tail)], Kept::All);
    for (e, f, from_start, equal) in [
        (one(&[1, 2, 3], &[]), found(&[1, 2, 3]), true, true),
        (one(&[1, 2, 3], &[4, 5]), found(&[1, 2, 3, 4]), true, true),
        (one(&[2, 3], &[]), found(&[1, 2, 3]), false, true),
        (one(&[2, 3], &[]), found(&[1, 2, 3]), true, false),
        (one(&[1, 2, 3], &[]), found(&[1, 3, 2]), true, false),
        (one(&[1, 2, 3], &[]), found(&[1, 2, 2, 3]), true, false),
        (one(&[1, 2, 3], &[]), found(&[2, 3]), true, false),
        (one(&[1, 2, 3], &[]), found(&[1, 2]), true, false),
        (one(&[1, 2], &[]), found(&[]), true, false),
        (one(&[], &[]), found(&[]), true, true),
        // All look the same.
        (one(&[1, 1], &[1]), found(&[1, 1, 1]), true, true),
        (one(&[1, 1], &[1]), found(&[1, 1, 1, 1]), true, false),
    ] {
        assert_eq!(stream(&e, &f, from_start, &ALONE).is_ok(), equal, "{e:?} {f:?}");
    }
}

#[test]
fn a_trimmed_stream_keeps_as_many_as_the_write_says() {
    let e = expected(&[entries(&[1, 2, 3, 4], &[])], Kept::AtLeast(2));
    assert_eq!(stream(&e, &found(&[2, 3, 4]), true, &ALONE), Ok(Equal { trimmed: 1, ..Equal::default() }));
    assert!(stream(&e, &found(&[4]), true, &ALONE).unwrap_err().contains("trims to 2"));
    // The bridge added another, and trimmed, while it was read from its end on.
    let trimmed_meanwhile = FoundStream { length: 2, ..found(&[4]) };
    assert_eq!(stream(&e, &trimmed_meanwhile, true, &ALONE), Ok(Equal { trimmed: 3, ..Equal::default() }));
}

#[test]
fn behind_minid_the_newest_is_left_and_of_the_others_nothing_is_told() {
    let e = expected(&[entries(&[1, 2, 3], &[])], Kept::Newest);
    assert_eq!(stream(&e, &found(&[3]), true, &ALONE), Ok(Equal { trimmed: 2, blind: true, ..Equal::default() }));
    assert_eq!(stream(&e, &found(&[1, 2, 3]), true, &ALONE), Ok(Equal::default()));
    assert!(stream(&e, &found(&[]), true, &ALONE).unwrap_err().contains("none is left"));
    assert!(stream(&e, &found(&[1, 3]), true, &ALONE).is_err());
}

#[test]
fn entries_of_several_partitions_may_mingle() {
    let e = expected(&[entries(&[1, 2], &[9]), entries(&[3, 3], &[])], Kept::All);
    for (f, equal) in
        [(vec![3, 1, 3, 2], true), (vec![1, 2, 3, 3, 9], true), (vec![1, 2, 3], false), (vec![1, 2, 3, 3, 3], false), (vec![1, 2, 3, 3, 7], false)]
    {
        assert_eq!(stream(&e, &found(&f), true, &ALONE).is_ok(), equal, "{f:?}");
    }
    assert!(stream(&e, &found(&[7, 1, 2, 3, 3]), false, &ALONE).is_ok(), "it may be older than the range");
}

#[test]
fn an_entry_of_several_partitions_that_stands_twice_is_found_behind_the_ranges_first_ones_and_told_before_them() {
    let e = expected(&[entries(&[1, 2], &[]), entries(&[3, 4], &[9])], Kept::All);
    for (f, older, equal) in [
        (&[7, 1, 3, 2, 4][..], [0, 1], Ok(false)),
        (&[7, 1, 7, 3, 2, 4, 9], [0, 1], Ok(false)),
        (&[1, 3, 2, 4, 4], [0, 1], Err(())),
        (&[1, 3, 2, 4, 7], [0, 1], Err(())),
        // The first of the two may be older than the range.
        (&[1, 1, 3, 2, 4], [0, 1], Ok(true)),
        (&[3, 1, 1, 2, 4], [1, 1], Err(())),
        // All of one partition came first: the second 1 stands behind the 2 that came after the first.
        (&[1, 2, 3, 4, 1], [0, 1], Err(())),
        (&[1, 2, 3, 4, 9, 2], [0, 1], Ok(true)),
        // Of a partition of which the range has no entry, nothing is known.
        (&[1, 3, 2, 4, 4], [0, 2], Ok(true)),
        (&[1, 3, 2, 4, 7], [0, 2], Ok(false)),
    ] {
        let told = super::stream(&e, &found(f), Some(&older.into()), &ALONE).map(|equal| equal.untold.is_some());
        assert_eq!(told.map_err(drop), equal, "{f:?} {older:?}");
    }
}

#[test]
fn older_entries_of_another_partition_may_stand_among_those_of_the_only_one_that_the_range_has() {
    let e = expected(&[entries(&[1, 2, 3], &[])], Kept::All);
    for (f, older, equal) in [(&[7, 1, 8, 2, 3][..], &[0, 1][..], true), (&[7, 1, 8, 2, 3], &[0], false), (&[7, 1, 8, 3], &[0, 1], false)] {
        assert_eq!(super::stream(&e, &found(f), Some(&older.iter().copied().collect()), &ALONE).is_ok(), equal, "{f:?} {older:?}");
    }
}

#[test]
fn what_was_deleted_in_the_midst_of_mingled_entries_is_no_trimming() {
    let e = expected(&[entries(&[1, 2, 3], &[]), entries(&[4, 5, 5], &[])], Kept::AtLeast(2));
    let trimmed = |trimmed| Ok(Equal { trimmed, ..Equal::default() });
    assert_eq!(stream(&e, &found(&[2, 5, 5, 3]), true, &ALONE), trimmed(2));
    assert!(stream(&e, &found(&[1, 5, 5, 3]), true, &ALONE).unwrap_err().contains("older ones of the same partition"));
    assert!(stream(&e, &found(&[4, 5, 3]), true, &ALONE).is_err());
    // 2 may have been trimmed, were it not that 1, older or not, was deleted by its id.
    let deleted = FoundStream { deleted: Some(true), ..found(&[4, 3, 5, 5]) };
    assert!(stream(&e, &deleted, true, &ALONE).unwrap().untold.unwrap().contains("XDEL"));
    let old_server = FoundStream { deleted: None, ..found(&[4, 3, 5, 5]) };
    assert_eq!(stream(&e, &old_server, true, &ALONE), Ok(Equal { trimmed: 2, blind: true, ..Equal::default() }));
}

#[test]
fn where_others_may_add_the_ranges_entries_are_among_what_is_there_and_the_rest_is_not_judged() {
    let one = expected(&[entries(&[1, 2, 3], &[4])], Kept::All);
    let several = expected(&[entries(&[1, 2], &[]), entries(&[3], &[])], Kept::All);
    for (e, f, other) in [(&one, vec![1, 2, 3], 0), (&one, vec![7, 1, 8, 2, 3, 9], 3), (&several, vec![7, 3, 1, 9, 2], 2)] {
        assert!(other == 0 || stream(e, &found(&f), true, &ALONE).is_err(), "alone it differs: {f:?}");
        let equal = stream(e, &found(&f), true, &BESIDE).unwrap();
        let told = equal.untold.map_or(String::new(), |why| why);
        assert!(
            equal.trimmed == 0 && (other == 0) == told.is_empty() && told.contains(&if other > 0 { format!("{other} more") } else { String::new() }),
            "{f:?}: {told}"
        );
    }
    for (e, f) in [(&one, vec![7, 1, 3, 9]), (&one, vec![1, 3, 2, 9]), (&one, vec![7, 2, 3]), (&several, vec![1, 9, 3]), (&several, vec![9])] {
        assert!(stream(e, &found(&f), true, &BESIDE).is_err(), "{f:?}");
    }
    let trims = May { add: Some(Kept::AtLeast(2)), ..May::default() };
    assert_eq!(stream(&one, &found(&[9, 3]), true, &trims).unwrap().trimmed, 2, "they trim it, too");
    assert!(stream(&one, &found(&[1, 9, 3]), true, &trims).is_err(), "but from its beginning");
    let ends = May { end: true, ..May::default() };
    assert!(stream(&one, &found(&[]), true, &ends).unwrap().untold.unwrap().contains("may have deleted it"));
}

#[test]
fn a_value_is_the_last_one_or_a_later_one_and_lives_as_long_as_it_must() {
    let written = |print: Print, lives: Lives| Written::Value { print, lives, time: Some(1_000) };
    let e = |lives: Lives| Value { last: [(0, written(1, lives))].into(), later: vec![written(2, lives)], ..Value::default() };
    let at = |print: Print, ttl: Option<i64>| Some(FoundValue { print, ttl });
    for (lives, found, equal) in [
        (Lives::Forever, at(1, None), true),
        (Lives::Forever, at(2, None), true),
        (Lives::Forever, at(3, None), false),
        (Lives::Forever, at(1, Some(5)), false),
        (Lives::Forever, None, false),
        (Lives::For(10_000), at(1, Some(6_000)), true),
        (Lives::For(10_000), at(1, Some(10_000)), true),
        (Lives::For(10_000), at(1, Some(12_000)), false),
        (Lives::For(10_000), at(1, Some(3_000)), false),
        (Lives::For(10_000), at(1, None), false),
        (Lives::For(10_000), None, false),
        (Lives::For(3_000), None, true),
        (Lives::Until(9_000), at(1, Some(4_000)), true),
        (Lives::Until(9_000), at(1, Some(6_000)), false),
        (Lives::Until(4_000), None, true),
    ] {
        assert_eq!(value(&e(lives), found, 5_000, 100, &ALONE).is_ok(), equal, "{lives:?} {found:?}");
    }
    let deleted = Value { last: [(0, Written::Nothing)].into(), ..Value::default() };
    assert_eq!(value(&deleted, None, 0, 0, &ALONE), Ok(Equal::default()));
    assert!(value(&deleted, at(1, None), 0, 0, &ALONE).is_err());
}

#[test]
fn a_value_that_others_may_have_written_is_not_judged_and_one_that_is_gone_is() {
    let e = Value { last: [(0, Written::Value { print: 1, lives: Lives::For(9_000), time: Some(1_000) })].into(), ..Value::default() };
    let other = Some(FoundValue { print: 7, ttl: Some(5_000) });
    let told = |found, may: May| value(&e, found, 2_000, 0, &may).map(|equal| equal.untold.is_some());
    let sets = |lives| May { set: Some(lives), ..May::default() };
    assert_eq!((told(other, ALONE).is_err(), told(other, sets(9_000))), (true, Ok(true)));
    assert!(told(None, sets(9_000)).is_err(), "theirs would live as long");
    assert_eq!(told(None, sets(8_999)), Ok(true), "theirs may have expired");
    assert_eq!(told(None, May { end: true, ..May::default() }), Ok(true));
    let same = Some(FoundValue { print: 1, ttl: Some(8_500) });
    assert_eq!(told(same, sets(1)), Ok(false));
}

#[test]
fn where_clocks_of_producers_are_ahead_a_value_that_lives_so_much_shorter_is_not_judged() {
    let e = |lives: Lives| Value { last: [(0, Written::Value { print: 1, lives, time: Some(1_000) })].into(), ..Value::default() };
    let told = |lives, ttl: Option<i64>, ahead| {
        let found = ttl.map(|ttl| FoundValue { print: 1, ttl: Some(ttl) });
        super::value(&e(lives), found, Times { now: 5_000, tolerance: 100, ahead }, &ALONE).map(|equal| equal.untold.is_some()).map_err(drop)
    };
    for (lives, ttl, ahead, equal) in [
        (Lives::For(10_000), Some(6_000), 9_000, Ok(false)),
        (Lives::For(10_000), Some(3_000), 2_900, Ok(true)),
        (Lives::For(10_000), Some(3_000), 2_800, Err(())),
        (Lives::For(10_000), Some(12_000), 9_000, Err(())),
        (Lives::For(10_000), None, 6_000, Ok(true)),
        (Lives::Until(9_000), Some(2_000), 1_900, Ok(true)),
        (Lives::Until(9_000), Some(2_000), 1_800, Err(())),
        (Lives::Until(9_000), Some(6_000), 9_000, Err(())),
    ] {
        assert_eq!(told(lives, ttl, ahead), equal, "{lives:?} {ttl:?} {ahead}");
    }
}
