//! What the benchmark lies on: one Kafka, one Redis, and how much is measured.
use crate::support::kafka_server::KafkaServer;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::{kafka, process_status, unique};
use crate::ticks::Workload;

/// How much is measured, as the environment says.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) only: Vec<String>,
    /// Records of the large topics.
    pub(crate) records: u64,
    /// How often what is compared takes turns.
    pub(crate) rounds: usize,
    /// How long a steady load lasts.
    pub(crate) seconds: u64,
    given: String,
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|t| !t.is_empty())
}

impl Scale {
    pub(crate) fn read() -> Self {
        let quick = text("QUICK").is_some();
        let number = |name: &str, otherwise| text(name).map_or(otherwise, |t| t.parse().unwrap_or_else(|_| panic!("{name} is a number")));
        let given = ["ONLY", "QUICK", "RECORDS", "ROUNDS", "REDIS_CPUS"].iter().filter_map(|name| text(name).map(|t| format!(" {name}={t}"))).collect();
        Self {
            only: text("ONLY").iter().flat_map(|t| t.split(',')).map(|n| n.trim().to_owned()).collect(),
            records: number("RECORDS", if quick { 200_000 } else { 2_000_000 }),
            rounds: number("ROUNDS", if quick { 3 } else { 5 }) as usize,
            seconds: if quick { 5 } else { 20 },
            given,
        }
    }

    /// The command that measures this again.
    pub(crate) fn command(&self) -> String {
        format!("make bench{}", self.given)
    }

    /// The rounds where many cases are compared.
    pub(crate) fn few_rounds(&self) -> usize {
        self.rounds.min(3)
    }

    /// The part of the records that a case needs which is measured many times.
    pub(crate) fn share(&self, divisor: u64) -> u64 {
        (self.records / divisor).max(1000)
    }
}

/// Of the Kafka in a folder.
fn version_of(jars: &str) -> Option<String> {
    let mut names = std::fs::read_dir(jars).ok()?.flatten().filter_map(|jar| jar.file_name().into_string().ok());
    names.find_map(|name| Some(name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned()))
}

pub(crate) struct Bed {
    pub(crate) scale: Scale,
    pub(crate) redis: RedisServer,
    /// Ended with the bed; `None` where one was given.
    kafka: Option<KafkaServer>,
}

/// A Redis that writes nothing to disk.
pub(crate) const QUIET: [&str; 2] = ["--appendonly", "no"];

/// What the benchmark's Redis is started with: on cores of its own where that is asked for.
fn redis_args(cpus: Option<&String>) -> Vec<&str> {
    let cpus = cpus.map(|cpus| ["--server_cpulist", cpus]);
    QUIET.into_iter().chain(cpus.into_iter().flatten()).collect()
}

impl Bed {
    pub(crate) fn make(scale: Scale) -> Self {
        let own = std::env::var_os("KAFKA_BOOTSTRAP").is_none().then(|| KafkaServer::plain(&[]));
        if let Some(server) = &own {
            kafka::use_broker(server.bootstrap());
        }
        let cpus = text("REDIS_CPUS");
        assert!(cpus.is_none() || !scale.only.iter().any(|o| o == "network"), "REDIS_CPUS is not for the part network, whose Redis is another one");
        let redis = RedisServer::with(Kind::System, &redis_args(cpus.as_ref()));
        // Redis says nothing about a list that it can't take.
        let runs_on = process_status(redis.pid(), "Cpus_allowed_list");
        assert!(cpus.is_none_or(|cpus| cpus == runs_on), "REDIS_CPUS: Redis runs on {runs_on}");
        Self { scale, redis, kafka: own }
    }

    /// The servers' versions. Redis tells its own; Kafka tells none, so it is that of the jars which the broker was started from.
    pub(crate) fn versions(&self) -> String {
        let own = self.kafka.is_some().then(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target/testbed/kafka").to_owned());
        // scripts/with-kafka sets it for the broker that it starts, and not for one that it was given.
        let kafka = own.or_else(|| text("KAFKA_JARS")).and_then(|jars| version_of(&jars));
        let kafka = kafka.map_or("the Kafka at KAFKA_BOOTSTRAP (version unknown)".to_owned(), |version| format!("Apache Kafka {version}"));
        let info: String = redis::cmd("INFO").arg("server").query(&mut self.redis.connect()).unwrap();
        format!("{kafka}, Redis {}", info.lines().find_map(|l| l.strip_prefix("redis_version:")).unwrap_or("unknown"))
    }

    /// Where its Redis is.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.redis.port)
    }

    /// A topic of these records.
    pub(crate) fn topic(&self, workload: &Workload) -> String {
        let topic = unique("volatility");
        kafka::create(&topic, workload.partitions, &[]);
        workload.produce(&topic);
        topic
    }
}

/// As if it had just been started.
pub(crate) fn refresh(redis: &RedisServer) {
    redis.command("FLUSHALL SYNC");
    redis.command("CONFIG RESETSTAT");
}
