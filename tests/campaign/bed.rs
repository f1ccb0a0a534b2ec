//! What a storm blows over: one Kafka, one Redis, two bridges in one group, a producer that does not stop, and proxies
//! between all of them.
use crate::feed::{self, Feed, Produced};
use crate::support::daemon::{Daemon, Setup};
use crate::support::kafka_server::KafkaServer;
use crate::support::proxy::Proxy;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::{eventually, free_port, kafka, pass};
use crate::watch::Watch;
use kafka_redis_bridge::ops::status::Status;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const PARTITIONS: i32 = 8;
pub(crate) const LETTERS: &str = "bridge:dead";

/// The campaign's own Kafka, and a door into it for each bridge.
pub(crate) struct Broker {
    pub(crate) server: KafkaServer,
    pub(crate) doors: [Proxy; 2],
}

impl Broker {
    pub(crate) fn start() -> Self {
        let own = [free_port(), free_port()];
        let doors = own.map(|port| Proxy::start(0, &format!("127.0.0.1:{port}")));
        let server = KafkaServer::plain(&[(own[0], doors[0].port), (own[1], doors[1].port)]);
        kafka::use_broker(server.bootstrap());
        Self { server, doors }
    }
}

pub(crate) struct Bed<'b> {
    pub(crate) broker: &'b mut Broker,
    pub(crate) redis: RedisServer,
    /// Between the bridges and Redis.
    pub(crate) wire: Proxy,
    pub(crate) topic: String,
    pub(crate) setups: [Setup; 2],
    pub(crate) bridges: [Daemon; 2],
    pub(crate) watch: Watch,
    feed: Feed,
    logs: PathBuf,
    since: Instant,
}

/// A Redis that loses nothing when it is killed.
pub(crate) fn redis_server() -> RedisServer {
    let save = ["--appendonly", "yes", "--appendfsync", "always"];
    RedisServer::with(Kind::System, &[&save[..], &["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"]].concat())
}

impl<'b> Bed<'b> {
    /// The bridges' logs are kept in this folder.
    pub(crate) fn make(broker: &'b mut Broker, logs: &Path) -> Self {
        let redis = redis_server();
        feed::prepare(&redis);
        let wire = Proxy::start(0, &format!("127.0.0.1:{}", redis.port));
        let topic = kafka::topic("storm", PARTITIONS);
        let setup = Setup::new(&topic, &format!("redis://127.0.0.1:{}/0", wire.port))
            .extra(&format!("[dead_letter]\nstream = \"{LETTERS}\"\n[drain]\ndeadline = \"4s\"\n"))
            .redis_extra("response_timeout = \"2s\"\nconnect_timeout = \"2s\"\n")
            .property("max.poll.interval.ms", "6000")
            .property("socket.timeout.ms", "10000");
        let setups = [0, 1].map(|n| setup.clone().brokers(&format!("127.0.0.1:{}", broker.doors[n].port)));
        let feed = Feed::start(&topic);
        let bridges = [setups[0].start(), setups[1].start()];
        let watch = Watch::start();
        bridges.iter().enumerate().for_each(|(n, b)| watch.at(n, b.http));
        let bed = Self { broker, redis, wire, topic, setups, bridges, watch, feed, logs: logs.to_owned(), since: Instant::now() };
        eventually("both bridges are at work", 60, || bed.well(1));
        bed
    }

    /// From now on times are counted: all before was preparation.
    pub(crate) fn begin_fault(&mut self) {
        self.since = Instant::now();
    }

    /// When the fault began that is on now.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Lets the fault last until monitoring has seen this condition.
    pub(crate) fn until_seen(&self, code: &str) {
        eventually(&format!("the condition {code} is seen"), 60, || self.watch.first(&[code], self.since).is_some());
    }

    /// Lets the fault last until this bridge has all partitions.
    pub(crate) fn until_alone(&self, bridge: usize) {
        eventually("the other bridge has all partitions", 60, || self.bridges[bridge].open() == 8);
    }

    /// Starts a bridge again whose process has ended.
    pub(crate) fn start_again(&mut self, bridge: usize) {
        self.keep_log(bridge);
        self.bridges[bridge] = self.setups[bridge].start();
        self.watch.at(bridge, self.bridges[bridge].http);
    }

    pub(crate) fn keep_log(&self, bridge: usize) {
        let path = self.logs.join(["bridge-a.log", "bridge-b.log"][bridge]);
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(self.bridges[bridge].log().as_bytes()).unwrap();
    }

    fn statuses(&self) -> Option<Vec<Status>> {
        self.bridges.iter().map(Daemon::status).collect()
    }

    /// How far the producer is.
    pub(crate) fn produced(&self) -> i64 {
        self.feed.records()
    }

    /// Nothing holds, all partitions are open, and so many records are settled.
    pub(crate) fn well(&self, settled: i64) -> bool {
        self.statuses().is_some_and(|all| {
            let partitions = || all.iter().flat_map(|s| &s.partitions);
            let open = partitions().filter(|p| p.phase == "open").count();
            let calm = all.iter().all(|s| s.ready && s.conditions.is_empty());
            calm && open == usize::try_from(PARTITIONS).unwrap() && partitions().filter_map(|p| p.position).sum::<i64>() >= settled
        })
    }

    /// What the bridges say of themselves, for whoever looks at a failure.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (n, bridge) in self.bridges.iter().enumerate() {
            self.keep_log(n);
            let log = bridge.log();
            let tail = log.lines().rev().take(30).collect::<Vec<_>>();
            text += &format!("--- bridge {} ---\n{}\n", ["a", "b"][n], bridge.status().map(|s| s.to_string()).unwrap_or_default());
            tail.iter().rev().for_each(|l| text += &format!("{l}\n"));
        }
        text
    }

    /// Ends the storm: the producer stops, everything is settled and committed, the bridges drain.
    pub(crate) fn settle(self) -> (RedisServer, Produced) {
        let Self { redis, topic, setups, mut bridges, feed, logs, .. } = self;
        let produced = feed.stop();
        let ends: Vec<Option<i64>> = kafka::ends(&topic, PARTITIONS).into_iter().map(Some).collect();
        eventually("everything is settled and committed", 90, || kafka::committed(&setups[0].group, &topic, PARTITIONS) == ends);
        for (n, bridge) in bridges.iter_mut().enumerate() {
            bridge.wait_all_open();
            assert_eq!(bridge.stop(), 0, "a drain leaves nothing");
            std::fs::write(logs.join(["bridge-a-last.log", "bridge-b-last.log"][n]), bridge.log()).unwrap();
        }
        pass(Duration::from_millis(100));
        (redis, produced)
    }
}
