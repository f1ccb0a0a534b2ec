//! A job's dead letters: told from the live ones, under its prefix, and each once.
use crate::support::bed::Bed;
use crate::support::kafka::{self, Produce};
use crate::support::letters;
use rdkafka::message::{Headers as _, Message as _};

const FROM: [&str; 2] = ["--from-offset", "earliest"];

/// Three records, of which the second is poison; a live bridge has settled them and stopped.
fn settled() -> Bed {
    let bed = Bed::new(1);
    kafka::produce(&bed.topic, [Produce::new("a", r#"{"x":1}"#), Produce::new("b", "no json"), Produce::new("c", r#"{"x":1}"#)]);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(3);
    assert_eq!(daemon.stop(), 0);
    bed
}

/// The offset of each letter of a stream, and whose it is.
fn found(bed: &Bed, stream: &str) -> Vec<(String, String)> {
    letters::read(&bed.redis, stream).iter().map(|l| (l.text("offset"), l.text("job"))).collect()
}

fn streams(bed: &Bed) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*bridge:dead*").query(&mut bed.redis.connect()).unwrap();
    keys.sort();
    keys
}

#[test]
fn each_job_keeps_its_letters_in_a_stream_of_its_own_and_the_live_stream_stays_as_it_is() {
    let bed = settled();
    let live = [("1".to_owned(), String::new())];
    assert_eq!(found(&bed, "bridge:dead"), live);
    let jobs: Vec<String> = (0..2)
        .map(|_| {
            let told = bed.expect(3, &[["replay", "--yes"].as_slice(), &FROM].concat());
            let name = told.split_once("job ").unwrap().1.split_whitespace().next().unwrap().to_owned();
            assert!(told.contains(&format!("the dead letters of this job are in the stream bridge:dead:{name}\n")), "{told}");
            assert_eq!(found(&bed, &format!("bridge:dead:{name}")), [("1".to_owned(), name.clone())]);
            name
        })
        .collect();
    assert_ne!(jobs[0], jobs[1]);
    let told = bed.expect(3, &[["replay", "--yes", "--target-prefix", "again:"].as_slice(), &FROM].concat());
    assert!(told.contains("are in the stream again:bridge:dead:"), "{told}");
    assert_eq!(found(&bed, "bridge:dead"), live, "no job wrote there");
    let all = streams(&bed);
    assert_eq!(all.len(), 4, "{all:?}");
    for stream in &all {
        assert_eq!(found(&bed, stream).len(), 1, "{stream}");
    }
    assert_eq!(all.iter().filter(|s| s.starts_with("again:")).count(), 1, "{all:?}");
}

#[test]
fn a_job_of_a_name_that_was_forgotten_does_not_add_to_the_letters_of_the_first() {
    let bed = settled();
    bed.expect(3, &[["replay", "--yes"].as_slice(), &FROM].concat());
    let first = bed.job();
    bed.expect(0, &["jobs", "forget", &first]);
    bed.expect(3, &[["replay", "--yes"].as_slice(), &FROM].concat());
    assert_ne!(bed.job(), first);
    assert_eq!((found(&bed, &format!("bridge:dead:{first}")).len(), found(&bed, &format!("bridge:dead:{}", bed.job())).len()), (1, 1));
}

#[test]
fn in_a_dead_letter_topic_a_header_tells_the_job() {
    let mut bed = Bed::new(1);
    let dead = kafka::topic("dead", 1);
    bed.setup = bed.setup.clone().extra(&format!("[dead_letter]\ntopic = \"{dead}\"\n"));
    kafka::produce(&bed.topic, [Produce::new("b", "no json")]);
    let mut daemon = bed.setup.start();
    daemon.wait_settled(1);
    assert_eq!(daemon.stop(), 0);
    let told = bed.expect(3, &[["replay", "--yes"].as_slice(), &FROM].concat());
    assert!(told.contains(&format!("are in the topic {dead}, with the header dead.job")), "{told}");
    let job = |letter: &rdkafka::message::OwnedMessage| {
        let headers = letter.headers().unwrap();
        headers.iter().find(|h| h.key == "dead.job").and_then(|h| h.value).map(|v| String::from_utf8_lossy(v).into_owned())
    };
    let letters = kafka::read_all(&dead, 2);
    assert_eq!(letters.iter().map(job).collect::<Vec<_>>(), [None, Some(bed.job())]);
}
