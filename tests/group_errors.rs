//! Whatever Kafka answers to a request of the bridge is named where a person is needed, and else recovered from: each bridge has a mock
//! broker of its own, which answers by errors.
use crate::support::kafka::{Produce, Producer};
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, unique};
use kafka_redis_bridge::app::Bridge;
use kafka_redis_bridge::config::load::load_text;
use kafka_redis_bridge::config::validate::validate;
use kafka_redis_bridge::ops::conditions::Condition;
use kafka_redis_bridge::ops::http::Source as _;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey::{self, Fetch, FindCoordinator, Heartbeat, JoinGroup, ListOffsets, OffsetCommit, OffsetFetch, SyncGroup};
use rdkafka::types::RDKafkaRespErr::{self, *};
use std::time::{Duration, Instant};

/// How many bridges run at once: a machine has few cores.
const AT_ONCE: usize = 8;
/// As good as for ever.
const FOR_EVER: usize = 5_000;
const FEW: usize = 2;

/// A bridge beside its mock broker.
struct Mocked {
    cluster: MockCluster<'static, DefaultProducerContext>,
    redis: String,
    group: String,
    bridge: Option<Bridge>,
    produced: u64,
}

impl Mocked {
    fn new(redis: &RedisServer) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("ticks", 1, 1).unwrap();
        Self { cluster, redis: redis.url(), group: unique("group"), bridge: None, produced: 0 }
    }

    /// Answers so many requests of this kind by an error.
    fn answer(&self, request: RDKafkaApiKey, error: RDKafkaRespErr, times: usize) {
        self.cluster.request_errors(request, &vec![error; times]);
    }

    fn start(&mut self) {
        let toml = format!(
            "[kafka]\nbrokers = [\"{}\"]\ngroup = \"{}\"\n[redis]\nurl = \"{}\"\nlanes = 1\n[dead_letter]\nstream = \"dead\"\n[http]\nenabled = false\n\
             [[route]]\nname = \"r\"\ntopics = [\"ticks\"]\n[[route.write]]\nxadd = {{ key = \"{}\", fields = \"*\" }}\n",
            self.cluster.bootstrap_servers(),
            self.group,
            self.redis,
            self.group
        );
        let valid = load_text(&toml, "mocked.toml", &[]).and_then(|l| validate(&l)).map_err(|m| m.to_string()).unwrap();
        self.bridge = Some(Bridge::start(&valid).unwrap());
    }

    fn produce(&mut self) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.cluster.bootstrap_servers());
        let producer = Producer::on(client);
        (0..10).for_each(|_| producer.send("ticks", Produce::new("K", r#"{"a":1}"#)));
        producer.flush();
        self.produced += 10;
    }

    fn conditions(&self) -> Vec<Condition> {
        self.bridge.as_ref().unwrap().view.status().conditions
    }

    fn holds(&self, code: &str) -> Option<Condition> {
        self.conditions().into_iter().find(|c| c.code == code)
    }

    fn applied(&self) -> u64 {
        self.bridge.as_ref().unwrap().view.status().routes[0].records
    }

    fn wait_applied(&self, what: &str) {
        eventually(&format!("{what}: all records are applied"), 60, || self.applied() >= self.produced);
    }

    fn stop(&mut self) -> Option<String> {
        let bridge = self.bridge.take().unwrap();
        bridge.stop();
        bridge.join(|| ()).and_then(|drained| drained.fatal)
    }
}

/// Runs all, some at once; panics where one does.
fn each<T: Copy + Send + Sync>(cases: &[T], run: impl Fn(T) + Sync) {
    for some in cases.chunks(AT_ONCE) {
        std::thread::scope(|scope| some.iter().for_each(|case| drop(scope.spawn(|| run(*case)))));
    }
}

/// When errors begin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Begins {
    Start,
    /// Records flow already.
    Flowing,
}

#[test]
fn what_kafka_refuses_is_named_within_ten_seconds_and_over_when_it_does_so_no_more() {
    use Begins::{Flowing, Start};
    let redis = RedisServer::start();
    let cases = [
        (Start, FindCoordinator, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "group-refused", "allow Read on the group"),
        (Start, FindCoordinator, RD_KAFKA_RESP_ERR_INVALID_GROUP_ID, "group-refused", "set kafka.group"),
        (Start, FindCoordinator, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, "group-waits", "goes on by itself"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "group-refused", "allow Read on the group"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, "group-refused", "partition.assignment.strategy"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT, "group-refused", "session.timeout.ms"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED, "group-refused", "group.max.size"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, "group-waits", "goes on by itself"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, "group-waits", "goes on by itself"),
        (Start, SyncGroup, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "group-waits", "goes on by itself"),
        (Flowing, Heartbeat, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "group-refused", "allow Read on the group"),
        (Flowing, OffsetCommit, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "group-refused", "allow Read on the group"),
        (Flowing, OffsetCommit, RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE, "group-refused", "offset.metadata.max.bytes"),
        (Start, JoinGroup, RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, "kafka-unsupported", "upgrade the brokers"),
        (Flowing, Fetch, RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, "kafka-unsupported", "change the codec"),
        (Flowing, Fetch, RD_KAFKA_RESP_ERR_UNKNOWN, "kafka-errors", "asks again by itself"),
        (Start, OffsetFetch, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "kafka-refused", "allow Describe and Read"),
        (Start, ListOffsets, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "kafka-refused", "allow Describe and Read"),
    ];
    each(&cases, |(from, request, error, code, remedy)| {
        let what = format!("{request:?} answered by {error:?}");
        let mut mocked = Mocked::new(&redis);
        let mut since = Instant::now();
        if from == Start {
            mocked.answer(request, error, FOR_EVER);
        }
        mocked.start();
        if from == Flowing {
            mocked.produce();
            mocked.wait_applied(&what);
            mocked.answer(request, error, FOR_EVER);
            since = Instant::now();
        }
        mocked.produce();
        // Ten seconds on a machine that is at peace.
        eventually(&format!("{what}: {code} is told"), 25, || mocked.holds(code).is_some());
        println!("{what}: {code} after {:?}", since.elapsed());
        let told = mocked.holds(code).unwrap();
        assert!(told.remedy.contains(remedy), "{what}: {told:?}");
        assert_eq!(told.needs_person, ["group-refused", "kafka-refused", "kafka-unsupported"].contains(&code), "{what}: {told:?}");
        mocked.cluster.clear_request_errors(request);
        mocked.wait_applied(&what);
        mocked.produce();
        mocked.wait_applied(&what);
        eventually(&format!("{what}: nothing holds any more, but {:?}", mocked.conditions()), 40, || mocked.conditions().is_empty());
        assert_eq!(mocked.stop(), None, "{what}");
    });
}

/// The end of what rights on topics refuse is told elsewhere.
#[test]
fn what_kafka_refuses_of_a_topic_is_named() {
    let redis = RedisServer::start();
    let cases =
        [(Fetch, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "kafka-refused"), (OffsetCommit, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "kafka-refused")];
    each(&cases, |(request, error, code)| {
        let what = format!("{request:?} answered by {error:?}");
        let mut mocked = Mocked::new(&redis);
        mocked.answer(request, error, FOR_EVER);
        mocked.start();
        mocked.produce();
        eventually(&format!("{what}: {code} is told"), 25, || mocked.holds(code).is_some_and(|c| c.needs_person));
        mocked.stop();
    });
}

#[test]
fn a_topic_that_the_client_may_not_see_is_named_and_read_when_it_may() {
    let redis = RedisServer::start();
    let mut mocked = Mocked::new(&redis);
    mocked.cluster.topic_error("ticks", RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    mocked.start();
    eventually("it is named", 25, || mocked.holds("kafka-refused").is_some_and(|c| c.message.contains("ticks") && c.needs_person));
    mocked.cluster.topic_error("ticks", RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    mocked.produce();
    mocked.wait_applied("the topic may be seen");
    eventually("nothing holds any more", 30, || mocked.conditions().is_empty());
    mocked.stop();
}

#[test]
fn what_passes_by_itself_is_recovered_from_without_a_person() {
    let redis = RedisServer::start();
    let cases = [
        (FindCoordinator, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (JoinGroup, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (JoinGroup, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (JoinGroup, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (SyncGroup, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (SyncGroup, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (Heartbeat, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (Heartbeat, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (Heartbeat, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION),
        (Heartbeat, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Fetch, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Fetch, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR),
        (Fetch, RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH),
        (ListOffsets, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE),
        (OffsetFetch, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (OffsetCommit, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (OffsetCommit, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (OffsetCommit, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT),
    ];
    each(&cases, |(request, error)| {
        let what = format!("{request:?} answered by {error:?}");
        let mut mocked = Mocked::new(&redis);
        mocked.answer(request, error, FEW);
        mocked.start();
        let (mut persons, until) = (Vec::new(), Instant::now() + Duration::from_secs(60));
        for _ in 0..2 {
            mocked.produce();
            while mocked.applied() < mocked.produced {
                assert!(Instant::now() < until, "not within a minute: {what}: all records are applied; {:?}", mocked.conditions());
                persons.extend(mocked.conditions().into_iter().filter(|c| c.needs_person));
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        assert!(persons.is_empty(), "{what}: {persons:?}");
        eventually(&format!("{what}: nothing holds any more"), 40, || mocked.conditions().is_empty());
        assert_eq!(mocked.stop(), None, "{what}");
    });
}
