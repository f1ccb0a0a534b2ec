//! What goes wrong for one partition of a job holds up no other, is told, and ends.
use crate::support::bed::Bed;
use crate::support::certificates::Certificates;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::kafka_server::KafkaServer;
use crate::support::sequence::{Ticks, sequence, tick};
use crate::support::{eventually, unique};
use rdkafka::ClientConfig;

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
    assert_eq!(job.wait().unwrap().code(), Some(3), "{}", bed.log());
    free.expect_exactly(&bed.redis);
    assert_eq!(sequence(&bed.redis, "H0/USD").len(), 2_000);
    assert_eq!(rdkafka::Message::key(&kafka::read_all(&dead, 1)[0]), Some(&b"text"[..]));
    assert_eq!((bed.count("records"), bed.count("dead"), bed.count("applied")), (40_001, 1, 80_001));
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
    // A byte of the second batch changes on the disk.
    server.stop();
    let segment = server.home.path().join(format!("log/{}-0/00000000000000000000.log", bed.topic));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|w| w == b"\"seq\":15").unwrap();
    bytes[at + 7] = b'6';
    std::fs::write(&segment, bytes).unwrap();
    server.run();
    bed.setup = properties.iter().fold(bed.setup.clone().brokers(&server.bootstrap()), |s, (n, v)| s.property(n, v));
    let told = bed.expect(1, &["replay", "--yes", "--from-offset", "earliest"]);
    assert!(told.contains("kafka-corrupt") && told.contains("kafka-dump-log") && told.contains("carry it on"), "{told}");
    assert_eq!(sequence(&bed.redis, "P0/USD"), (0..10).collect::<Vec<u64>>(), "nothing behind it is applied");
    bed.setup = bed.setup.clone().property("sasl.password", "wrong");
    let told = bed.expect(1, &["replay", "--resume", &bed.job()]);
    assert!(told.contains("kafka-refused") && told.contains("sasl.*") && told.contains("carry it on"), "{told}");
}
