//! On a terminal a person is asked, and sees how far a job is.
use crate::support::bed::{Bed, said};
use crate::support::kafka::{self, Produce};
use crate::support::sequence::Ticks;

const ALL: [&str; 3] = ["replay", "--from-offset", "earliest"];

#[test]
fn nothing_is_done_before_a_person_has_said_yes() {
    let bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 100, 2);
    for typed in ["n\n", "\n", "maybe\n"] {
        let output = bed.on_terminal(&ALL, typed);
        let told = said(&output);
        assert_eq!((output.status.code(), bed.entries(2)), (Some(0), 0), "{told}");
        assert!(told.contains("100 records at most") && told.contains("Go on? [y/N]") && told.contains("nothing was written"), "{told}");
        assert!(bed.expect(0, &["jobs", "list"]).lines().count() == 1, "no job was begun");
    }
    let output = bed.on_terminal(&ALL, "y\n");
    assert!(output.status.success() && said(&output).contains("complete after"), "{}", said(&output));
    ticks.expect_exactly(&bed.redis);
    let rewind = ["rewind", "--topic", &bed.topic, "--to-offset", "0:40"];
    let state = || redis::cmd("KEYS").arg("bridge:state:*").query::<Vec<String>>(&mut bed.redis.connect()).unwrap();
    let output = bed.on_terminal(&rewind, "n\n");
    assert!(output.status.success() && said(&output).contains("nothing was changed"), "{}", said(&output));
    assert_eq!(state(), [""; 0]);
    let output = bed.on_terminal(&rewind, "yes\n");
    assert!(output.status.success() && state().len() == 1, "{}", said(&output));
}

#[test]
fn a_bar_shows_how_far_it_is() {
    let bed = Bed::new(2);
    Ticks::default().produce(&bed.topic, 6_000, 5);
    let output = bed.on_terminal(&[ALL.as_slice(), &["--yes", "--rate", "3000/s"]].concat(), "");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("records/s") && told.contains("left") && told.contains("/6000") && told.contains("to go"), "{told}");
    assert!(told.contains("complete after") && !told.contains("INFO") && !told.contains("ERROR"), "nothing went wrong: {told}");
}

#[test]
fn a_warning_stands_above_the_bar_and_leaves_it_whole() {
    let bed = Bed::new(1);
    let mut ticks = Ticks::default();
    ticks.produce(&bed.topic, 3_000, 5);
    kafka::produce(&bed.topic, [Produce::new("P0/USD", "no json")]);
    ticks.produce(&bed.topic, 3_000, 5);
    let output = bed.on_terminal(&[ALL.as_slice(), &["--yes", "--rate", "3000/s"]].concat(), "");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("/6001") && told.contains("complete, with dead letters"), "{told}");
    let warnings: Vec<&str> = told.split(['\r', '\n']).filter(|line| line.contains("the first dead letter of this job")).collect();
    assert!(matches!(warnings[..], [one] if one.contains("WARN") && !one.contains("records/s")), "{told:?}");
}
