//! The simulation's model of Redis against the real servers: the same random commands give the same replies and the
//! same data.
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/server.rs"]
mod server;

use self::random::Random;
use self::server::{Data, Dialect, Redis, Value};
use crate::core::encode::Encoder;
use crate::core::reply::{Class, Reply, triage};
use crate::support::redis_server::{Kind, RedisServer};
use kafka_redis_bridge::config::Config;
use kafka_redis_bridge::sink::connection::{Connection, Connector};

const CLIENTS: usize = 3;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const SEQUENCES: u64 = 300;
const STEPS: usize = 60;

/// A random command that the bridge could send.
fn command(random: &mut Random, multi: bool) -> Vec<String> {
    let key = KEYS[random.below(KEYS.len())];
    let n = (1 + random.below(9)).to_string();
    let words: &[&str] = match random.below(if multi { 27 } else { 31 }) {
        0..=1 => &["EXEC"],
        2 if !multi => &["MULTI"],
        2 => &["EXEC"],
        3..=4 => &["HSET", key, "f", &n],
        5 => &["HSET", key, "f", &n, "g", "1"],
        6..=7 => &["XADD", key, "*", "v", &n],
        8 => &["XADD", key, &format!("{n}-0"), "v", "1"],
        9 => &["SET", key, &n],
        10 => &["SET", key, &n, "NX"],
        11 => &["HSETNX", key, "f", &n],
        12..=13 => &["HMGET", key, "f", "g"],
        14 => &["HGETALL", key],
        15 => &["HGET", key, "f"],
        16 => &["GET", key],
        17 => &["TYPE", key],
        18 => &["SADD", key, &n],
        19 => &["SADD", key, &n, "1"],
        20 => &["SISMEMBER", key, &n],
        21 => &["EXPIRE", key, "1000"],
        22 => &["HINCRBY", key, "f", &n],
        23 => &["DEL", key],
        24 => &["XREVRANGE", key, "9", &n, "COUNT", "2"],
        25 => &["ZADD", key, "0", &n],
        26 => &["ZADD", key, "0", &n, "0", "1"],
        27..=29 => &["WATCH", key, "a"],
        _ => &["UNWATCH"],
    };
    words.iter().map(|w| (*w).to_owned()).collect()
}

/// What of a reply the bridge acts on: an entry's own id is the server's business, a hash has no order, and an error is
/// what it means.
fn meaning(reply: &Reply) -> Reply {
    match reply {
        Reply::Text(t) if t.first().is_some_and(u8::is_ascii_digit) && t.contains(&b'-') || t == b"*" => Reply::Text(b"an id".into()),
        Reply::Array(items) => Reply::Array(items.iter().map(meaning).collect()),
        Reply::Error(e) if e.contains("MULTI") => Reply::Error("MULTI".into()),
        Reply::Error(e) if e.contains("previous errors") => Reply::Error("previous errors".into()),
        Reply::Error(e) => Reply::Error(format!("{:?}", if e.contains("denied") { Class::Unknown } else { triage(e) })),
        other => other.clone(),
    }
}

fn both(model: &mut Redis, real: &mut [Connection], client: usize, words: &[String]) -> (Reply, Reply) {
    let mut out = Encoder::default();
    out.command(words);
    let expected = model.serve(client, out.bytes()).pop().unwrap();
    let mut found = real[client].exchange(out.bytes(), 1).unwrap().pop().unwrap();
    if words[0] == "HGETALL"
        && let Reply::Array(items) = &mut found
    {
        let mut pairs: Vec<_> = items.chunks(2).map(<[Reply]>::to_vec).collect();
        pairs.sort_by_key(|p| format!("{:?}", p[0]));
        *items = pairs.concat();
    }
    (meaning(&expected), meaning(&found))
}

/// Every key's type and content.
fn data(model: &Redis, redis: &RedisServer) -> (String, String) {
    let mut real = redis.connect();
    let (mut expected, mut found) = (String::new(), String::new());
    for key in KEYS {
        expected += &match model.data.get(key.as_bytes()) {
            None => format!("{key} none\n"),
            Some(Value::Hash(hash)) => format!("{key} {:?}\n", hash.iter().map(|(f, v)| (text(f), text(v))).collect::<std::collections::BTreeMap<_, _>>()),
            Some(Value::Text(t)) => format!("{key} {}\n", text(t)),
            Some(Value::Sorted(members)) => format!("{key} {:?}\n", members.iter().map(|m| text(m)).collect::<Vec<_>>()),
            Some(Value::Set(set)) => format!("{key} {:?}\n", set.iter().map(|m| text(m)).collect::<std::collections::BTreeSet<_>>()),
            Some(Value::Stream(entries)) => format!("{key} {:?}\n", entries.iter().map(|e| text(&e[2])).collect::<Vec<_>>()),
        };
        let kind: String = redis::cmd("TYPE").arg(key).query(&mut real).unwrap();
        found += &match kind.as_str() {
            "hash" => {
                let hash: std::collections::BTreeMap<String, String> = redis::cmd("HGETALL").arg(key).query(&mut real).unwrap();
                format!("{key} {hash:?}\n")
            }
            "set" => {
                let set: std::collections::BTreeSet<String> = redis::cmd("SMEMBERS").arg(key).query(&mut real).unwrap();
                format!("{key} {set:?}\n")
            }
            "zset" => format!("{key} {:?}\n", redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query::<Vec<String>>(&mut real).unwrap()),
            "string" => format!("{key} {}\n", redis::cmd("GET").arg(key).query::<String>(&mut real).unwrap()),
            "stream" => format!("{key} {:?}\n", redis.entries::<String>(key).into_iter().map(|(_, f)| f[0].1.clone()).collect::<Vec<_>>()),
            other => format!("{key} {other}\n"),
        };
    }
    (expected, found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn compare(kind: Kind, dialect: Dialect) {
    const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
    const READONLY: &str = "READONLY You can't write against a read only replica.";
    let redis = RedisServer::with(kind, &[]);
    let mut config = Config::default().redis;
    config.url.0 = redis.url();
    let connector = Connector::new(config);
    for seed in 0..SEQUENCES {
        let mut random = Random::new(seed);
        redis.command("FLUSHALL");
        let mut model = Redis::new(dialect, Data::new());
        let mut real: Vec<Connection> = (0..CLIENTS).map(|_| connector.connect().unwrap()).collect();
        let mut multi = [false; CLIENTS];
        let mut told = Vec::new();
        // Each sequence has one way to be refused, on and off.
        let (refusal, on, off) =
            if seed % 2 == 0 { (OOM, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0") } else { (READONLY, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE") };
        for _ in 0..STEPS {
            if random.percent(4) {
                model.refuses = if model.refuses.is_some() { None } else { Some(refusal) };
                redis.command(if model.refuses.is_some() { on } else { off });
                told.push(format!("refuses: {:?}", model.refuses));
                continue;
            }
            let client = random.below(CLIENTS);
            let words = command(&mut random, multi[client]);
            match words[0].as_str() {
                "MULTI" => multi[client] = true,
                "EXEC" => multi[client] = false,
                _ => {}
            }
            told.push(format!("{client}: {}", words.join(" ")));
            let (expected, found) = both(&mut model, &mut real, client, &words);
            assert_eq!(expected, found, "{kind:?}, sequence {seed}: the model and the server after\n{}", told.join("\n"));
        }
        redis.command(off);
        let (expected, found) = data(&model, &redis);
        assert_eq!(expected, found, "{kind:?}, sequence {seed}: the model's data and the server's after\n{}", told.join("\n"));
    }
}

#[test]
fn the_model_answers_as_redis_7_does() {
    compare(Kind::System, Dialect::Redis7);
}

#[test]
fn the_model_answers_as_redis_6_2_does() {
    compare(Kind::Redis62, Dialect::Redis6);
}

#[test]
fn the_model_answers_as_valkey_8_1_does() {
    compare(Kind::Valkey81, Dialect::Valkey8);
}
