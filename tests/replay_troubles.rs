//! What goes wrong for one partition of a job holds up no other, is told, and ends.
use crate::support::bed::Bed;
use crate::support::certificates::Certificates;
use crate::support::daemon::Setup;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::kafka_server::KafkaServer;
use crate::support::sequence::{Ticks, sequence, tick};
use crate::support::{eventually, pass, signal, unique};
use rdkafka::ClientConfig;
use std::time::Duration;

#[test]
fn a_lane_that_owes_letters_holds_up_no_other_and_they_are_counted() {
    let mut bed = Bed::new(2);
    let dead = unique("dead");
    // A lane a partition.
    bed.setup = bed.setup.clone().redis_extra("lanes = 2").extra(&format!("[dead_letter]\ntopic = \"{dead}\"\n"));
    bed.redis.command("SET volatility:text text");
    kafka::produce(&bed.topic, [Produce { partition: Some(1), ..Produce::new("text", &tick(0)) }]);
    let mut held = Ticks::named("H");
    held.produce_on(&bed.topic, 10_000, 5, 1..2);
    let mut free = Ticks::default();
    free.produce_on(&bed.topic, 30_000, 5, 0..1);
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--append"]);
    eventually("the other partition is at its end", 40, || bed.entries(5) == 30_000);
    assert!(job.try_wait().unwrap().is_none(), "{}", bed.log());
    kafka::create(&dead, 1, &[]);
    assert_eq!(job.ended().code(), Some(3), "{}", bed.log());
    free.expect_exactly(&bed.redis);
    assert_eq!(sequence(&bed.redis, "H0/USD").len(), 2_000);
    assert_eq!(rdkafka::Message::key(&kafka::read_all(&dead, 1)[0]), Some(&b"text"[..]));
    assert_eq!((bed.count("records"), bed.count("dead"), bed.count("applied")), (40_001, 1, 80_001));
}

/// A byte of a topic's first partition changes on the disk: the last one of this text.
fn damage(server: &mut KafkaServer, topic: &str, text: &str) {
    server.stop();
    let segment = server.home.path().join(format!("log/{topic}-0/00000000000000000000.log"));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
    bytes[at + text.len() - 1] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    server.run();
}

#[test]
fn what_only_a_person_can_put_right_in_kafka_is_told_and_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let mut server = KafkaServer::secured(&certificates, "bridge", "s3cret");
    let properties = certificates.sasl_ssl("bridge", "s3cret");
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", server.bootstrap());
    properties.iter().for_each(|(n, v)| _ = client.set(*n, *v));
    let mut bed = Bed::new(1);
    kafka::create_on(&client, &bed.topic, 1, &[]);
    let producer = Producer::on(client);
    for from in [0, 10, 20] {
        (from..from + 10).for_each(|seq| producer.send(&bed.topic, Produce::new("P0/USD", &tick(seq))));
        producer.flush();
    }
    damage(&mut server, &bed.topic, "\"seq\":15");
    bed.setup = properties.iter().fold(bed.setup.clone().brokers(&server.bootstrap()), |s, (n, v)| s.property(n, v));
    let told = bed.expect(1, &["replay", "--yes", "--from-offset", "earliest"]);
    assert!(told.contains("kafka-corrupt") && told.contains("kafka-dump-log") && told.contains("carry it on"), "{told}");
    assert_eq!(sequence(&bed.redis, "P0/USD"), (0..10).collect::<Vec<u64>>(), "nothing behind it is applied");
    bed.setup = bed.setup.clone().property("sasl.password", "wrong");
    let told = bed.expect(1, &["replay", "--resume", &bed.job()]);
    assert!(told.contains("kafka-refused") && told.contains("sasl.*") && told.contains("carry it on"), "{told}");
}

/// A broker of its own, and a job's bed there whose lanes take little in.
fn bed_on(server: &KafkaServer, partitions: i32) -> (Bed, Producer) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", server.bootstrap());
    let mut bed = Bed::new(1);
    bed.topic = unique("ticks");
    bed.setup = Setup::new(&bed.topic, &bed.redis.url()).brokers(&server.bootstrap());
    bed.setup.extra += "[batch]\nrecords_max = 10\n";
    kafka::create_on(&client, &bed.topic, partitions, &[]);
    (bed.fetching_little(), Producer::on(client))
}

#[test]
fn a_damaged_batch_of_one_partition_halts_no_other_when_kafka_was_away_since() {
    let mut server = KafkaServer::plain(&[]);
    let (bed, producer) = bed_on(&server, 2);
    for seq in 0..4_000 {
        producer.send(&bed.topic, Produce { partition: Some(1), ..Produce::new("P1/USD", &tick(seq)) });
    }
    for seq in 0..3 {
        producer.send(&bed.topic, Produce { partition: Some(0), ..Produce::new("P0/USD", &tick(seq)) });
        producer.flush();
    }
    damage(&mut server, &bed.topic, "\"seq\":1");
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "300/s"]);
    eventually("the damage is told", 40, || bed.log().contains("kafka-corrupt"));
    // As its operator would: a broker that was killed looks through its logs, and cuts them at the damage.
    server.stop();
    // Longer than what only a person can put right is waited for.
    pass(Duration::from_secs(35));
    assert!(job.try_wait().unwrap().is_none(), "{}", bed.log());
    server.run();
    assert_eq!(job.ended().code(), Some(1), "{}", bed.log());
    let told = bed.log();
    assert!(told.contains("[0] halted at 1: kafka-corrupt") && !told.contains("[1] halted"), "{told}");
    assert_eq!(sequence(&bed.redis, "P1/USD"), (0..4_000).collect::<Vec<_>>());
}

#[test]
fn a_job_that_no_broker_answers_shows_that_it_lives_and_stops_when_it_is_told_to() {
    let mut server = KafkaServer::plain(&[]);
    let (bed, producer) = bed_on(&server, 8);
    for seq in 0..8_000 {
        producer.send(&bed.topic, Produce { partition: Some(seq % 8), ..Produce::new("P0/USD", &tick(seq.unsigned_abs().into())) });
    }
    producer.flush();
    let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "300/s"]);
    eventually("the job is under way", 40, || bed.entries(1) > 100);
    server.kill();
    eventually("that nobody answers is told", 90, || bed.log().contains("kafka-unanswered"));
    let show = || bed.expect(0, &["jobs", "show", &bed.job()]);
    assert!(show().contains("running"), "while it asks Kafka, Redis is told that it lives: {}", show());
    signal(job.id(), "TERM");
    let mut code = None;
    eventually("it stops", 10, || {
        code = job.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(75), "{}", bed.log());
    assert!(show().contains("stopped") && bed.log().contains("carry it on"), "{}", bed.log());
}

#[test]
fn a_redis_that_does_not_take_the_mark_of_completion_is_waited_for_until_a_stop() {
    let bed = Bed::new(1);
    Ticks::default().produce(&bed.topic, 200, 1);
    for stopped in [false, true] {
        bed.redis.command("FLUSHALL");
        let mut job = bed.start(&["replay", "--yes", "--from-offset", "earliest", "--rate", "25/s"]);
        eventually("the job is under way", 40, || bed.entries(1) > 20);
        let name = bed.job();
        // The records do not touch it; the mark can't be set in it.
        let job_key = format!("bridge:job:{name}");
        let () = redis::pipe().atomic().cmd("RENAME").arg(&job_key).arg("kept").cmd("SET").arg(&job_key).arg("text").exec(&mut bed.redis.connect()).unwrap();
        eventually("the mark is refused", 40, || bed.log().contains("all is applied, and that can't be written to Redis"));
        assert!(job.try_wait().unwrap().is_none(), "{}", bed.log());
        if stopped {
            signal(job.id(), "TERM");
            assert_eq!(job.ended().code(), Some(75), "{}", bed.log());
            assert!(bed.log().contains(&format!("--resume {name}")), "{}", bed.log());
        }
        bed.redis.command(&format!("RENAME kept {job_key}"));
        if stopped {
            bed.expect(0, &["replay", "--resume", &name]);
        } else {
            assert_eq!(job.ended().code(), Some(0), "{}", bed.log());
        }
        assert!(bed.expect(0, &["jobs", "show", &name]).contains("complete"));
        assert_eq!(bed.entries(1), 200);
    }
}
