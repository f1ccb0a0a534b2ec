//! Each kind of write does what its template says.
use crate::support::daemon::{Daemon, Setup};
use crate::support::kafka::{self, Produce};
use crate::support::redis_server::{Entries, RedisServer};
use crate::support::{eventually, letters, unique};
use rdkafka::message::{Header, OwnedHeaders};
use std::collections::BTreeMap;

/// Runs one route's writes over records of one partition, until all are settled.
fn applied(writes: &str, records: Vec<Produce<'_>>, prepare: impl Fn(&RedisServer)) -> (RedisServer, Daemon) {
    let redis = RedisServer::start();
    prepare(&redis);
    let topic = kafka::topic("writes", 1);
    let count = i64::try_from(records.len()).unwrap();
    kafka::produce(&topic, records);
    let daemon = Setup::new(&topic, &redis.url()).routes(&format!("[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n{writes}")).start();
    daemon.wait_settled(count);
    (redis, daemon)
}

fn entries(redis: &RedisServer, key: &str) -> Entries<String> {
    redis.entries(key)
}

fn get<T: redis::FromRedisValue>(redis: &RedisServer, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|w| _ = command.arg(w));
    command.query(&mut redis.connect()).unwrap()
}

#[test]
fn xadd_takes_the_objects_fields_in_order_or_a_table_of_templates() {
    let writes = "[[route.write]]\nxadd = { key = \"all:{key}\", fields = \"*\" }\n\
                  [[route.write]]\nxadd = { key = \"some\", fields = { pair = \"{key}\", p = \"{value.price}\", deep = \"{value.a.b[1]}\", at = \"{topic}/{partition}/{offset}\" }, id = \"{value.ms}-0\" }\n";
    let payload = r#"{"z":"text","price":42000.0,"none":null,"a":{"b":[1,{"c":2}]},"ms":1701878400000}"#;
    let (redis, _daemon) = applied(writes, vec![Produce::new("BTC/USD", payload)], |_| ());
    let all = &entries(&redis, "all:BTC/USD")[0].1;
    let pairs: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(pairs, [("z", "text"), ("price", "42000.0"), ("a", r#"{"b":[1,{"c":2}]}"#), ("ms", "1701878400000")]);
    let some = &entries(&redis, "some")[0];
    assert_eq!(some.0, "1701878400000-0");
    let fields: BTreeMap<_, _> = some.1.iter().cloned().collect();
    assert_eq!((fields["pair"].as_str(), fields["p"].as_str(), fields["deep"].as_str()), ("BTC/USD", "42000.0", r#"{"c":2}"#));
    assert!(fields["at"].ends_with("/0/0"));
}

#[test]
fn xadd_trims_as_it_is_told_and_may_leave_a_stream_uncreated() {
    let writes = "[[route.write]]\nxadd = { key = \"exact\", fields = \"*\", maxlen = 10, exact = true }\n\
                  [[route.write]]\nxadd = { key = \"about\", fields = \"*\", maxlen = 10 }\n\
                  [[route.write]]\nxadd = { key = \"limited\", fields = \"*\", maxlen = 10, limit = 100 }\n\
                  [[route.write]]\nxadd = { key = \"byid\", fields = \"*\", id = \"{value.n}-1\", minid = \"{value.oldest}\", exact = true }\n\
                  [[route.write]]\nxadd = { key = \"absent\", fields = \"*\", nomkstream = true }\n";
    let payloads: Vec<String> = (1..=1000).map(|n| format!(r#"{{"n":{n},"oldest":{}}}"#, (n - 5).max(0))).collect();
    let records = payloads.iter().map(|p| Produce::new("K", p)).collect();
    let (redis, _daemon) = applied(writes, records, |_| ());
    assert_eq!(entries(&redis, "exact").len(), 10);
    let about = entries(&redis, "about").len();
    assert!((10..=200).contains(&about), "{about}");
    assert!((10..=300).contains(&entries(&redis, "limited").len()));
    let ids: Vec<String> = entries(&redis, "byid").into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["995-1", "996-1", "997-1", "998-1", "999-1", "1000-1"]);
    assert_eq!(get::<i64>(&redis, &["EXISTS", "absent"]), 0);
}

#[test]
fn an_id_that_redis_refuses_is_a_dead_letter_and_not_taken_for_written() {
    let writes = "[[route.write]]\nxadd = { key = \"s\", fields = \"*\", id = \"{value.ms}-0\" }\n";
    let records = vec![Produce::new("K", r#"{"ms":5}"#), Produce::new("K", r#"{"ms":4}"#), Produce::new("K", r#"{"ms":6}"#)];
    let (redis, _daemon) = applied(writes, records, |_| ());
    assert_eq!(entries(&redis, "s").into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["5-0", "6-0"]);
    let dead = letters::read(&redis, "bridge:dead");
    assert_eq!((dead.len(), dead[0].text("offset")), (1, "1".into()));
    assert!(dead[0].text("reason").contains("equal or smaller"), "{}", dead[0].text("reason"));
}

#[test]
fn set_and_setex_write_value_and_ttl_in_one_command() {
    let writes = "[[route.write]]\nset = { key = \"plain\", value = \"{value.v}\" }\n\
                  [[route.write]]\nset = { key = \"millis\", value = \"{value.v}\", ttl = \"1500ms\" }\n\
                  [[route.write]]\nsetex = { key = \"hour\", value = \"{payload}\", ttl = \"1h\" }\n\
                  [[route.write]]\nsetex = { key = \"own:{key}\", value = \"{value.v}\", ttl = \"{value.ttl}\" }\n";
    let records =
        vec![Produce::new("long", r#"{"v":"x","ttl":7200}"#), Produce::new("expired", r#"{"v":"x","ttl":0}"#), Produce::new("past", r#"{"v":"x","ttl":-3}"#)];
    let (redis, daemon) = applied(writes, records, |_| ());
    assert_eq!(get::<i64>(&redis, &["TTL", "plain"]), -1);
    assert!(get::<i64>(&redis, &["PTTL", "millis"]) <= 1500);
    assert!((3500..=3600).contains(&get::<i64>(&redis, &["TTL", "hour"])));
    assert!((7100..=7200).contains(&get::<i64>(&redis, &["TTL", "own:long"])));
    assert_eq!(get::<i64>(&redis, &["EXISTS", "own:expired", "own:past"]), 0);
    assert_eq!(daemon.status().unwrap().routes[0].expired, 2, "what has expired is counted, and no dead letter");
    assert_eq!(get::<i64>(&redis, &["EXISTS", "bridge:dead"]), 0);
}

#[test]
fn publish_reaches_a_subscriber_with_the_untouched_payload_in_order() {
    let redis = RedisServer::start();
    let mut connection = redis.connect();
    let mut subscriber = connection.as_pubsub();
    subscriber.subscribe("updates:K").unwrap();
    let topic = kafka::topic("writes", 1);
    let payloads: Vec<String> = (0..50).map(|n| format!(r#"{{ "n" : {n} }}"#)).collect();
    kafka::produce(&topic, payloads.iter().map(|p| Produce::new("K", p)));
    let _daemon = Setup::new(&topic, &redis.url()).start();
    for expected in &payloads {
        assert_eq!(subscriber.get_message().unwrap().get_payload::<String>().unwrap(), *expected);
    }
}

#[test]
fn any_other_command_is_sent_by_its_templates() {
    let writes = "[[route.write]]\ncommand = [\"HSET\", \"pair:{key}\", \"price\", \"{value.price}\", \"from {{\", \"{header.source|nowhere}\"]\n\
                  [[route.write]]\ncommand = [\"SADD\", \"pairs\", \"{key}\"]\n\
                  [[route.write]]\ncommand = [\"ZADD\", \"by-price\", \"{value.price}\", \"{key}\"]\n\
                  [[route.write]]\ncommand = [\"INCRBY\", \"count\", \"1\"]\n\
                  [[route.write]]\ndel = { key = \"stale:{key}\" }\n";
    let headers = OwnedHeaders::new().insert(Header { key: "source", value: Some("old") }).insert(Header { key: "source", value: Some("feed") });
    let records = vec![Produce { headers: Some(headers), ..Produce::new("BTC", r#"{"price":1.50}"#) }, Produce::new("ETH", r#"{"price":2}"#)];
    let (redis, _daemon) = applied(writes, records, |redis| redis.command("SET stale:ETH x"));
    let pair: BTreeMap<String, String> = get(&redis, &["HGETALL", "pair:BTC"]);
    assert_eq!((pair["price"].as_str(), pair["from {"].as_str()), ("1.50", "feed"), "the last header of a name counts");
    assert_eq!(get::<String>(&redis, &["HGET", "pair:ETH", "from {"]), "nowhere");
    assert_eq!(get::<Vec<String>>(&redis, &["ZRANGE", "by-price", "0", "-1"]), ["BTC", "ETH"]);
    assert_eq!((get::<i64>(&redis, &["SCARD", "pairs"]), get::<i64>(&redis, &["GET", "count"])), (2, 2));
    assert_eq!(get::<i64>(&redis, &["EXISTS", "stale:ETH"]), 0);
}

#[test]
fn a_record_of_two_routes_goes_through_each_and_a_pattern_finds_topics() {
    let redis = RedisServer::start();
    let base = unique("many");
    let topics = [format!("{base}.one"), format!("{base}.two")];
    topics.iter().for_each(|t| kafka::create(t, 1, &[]));
    let routes = format!(
        "[[route]]\nname = \"all\"\ntopics = [\"^{base}\\\\..*\"]\n[[route.write]]\ncommand = [\"RPUSH\", \"order\", \"all {{topic}} {{key}}\"]\n\
         [[route]]\nname = \"two\"\ntopics = [\"{base}.two\"]\n[[route.write]]\ncommand = [\"RPUSH\", \"order\", \"two {{key}}\"]\n"
    );
    kafka::produce(&topics[0], [Produce::new("a", "1")]);
    let daemon = Setup::new(&base, &redis.url()).routes(&routes).start();
    daemon.wait_settled(1);
    kafka::produce(&topics[1], [Produce::new("b", "1")]);
    daemon.wait_settled(2);
    // A topic that comes later and matches.
    let later = format!("{base}.three");
    kafka::create(&later, 1, &[]);
    kafka::produce(&later, [Produce::new("c", "1")]);
    daemon.wait_settled(3);
    let order: Vec<String> = get(&redis, &["LRANGE", "order", "0", "-1"]);
    assert_eq!(order, [format!("all {} a", topics[0]), format!("all {} b", topics[1]), "two b".into(), format!("all {later} c")]);
    let records: Vec<u64> = daemon.status().unwrap().routes.iter().map(|r| r.records).collect();
    assert_eq!(records, [3, 1]);
}

#[test]
fn tombstones_do_what_the_route_says_and_leave_no_lag() {
    for (setting, exists, stream) in [("skip", 1, 1), ("del", 0, 1), ("write", 1, 2)] {
        let writes = format!(
            "on_tombstone = \"{setting}\"\ndecode = \"raw\"\n[[route.write]]\nset = {{ key = \"latest:{{key}}\", value = \"{{payload|gone}}\" }}\n\
             [[route.write]]\nxadd = {{ key = \"log\", fields = {{ payload = \"{{payload|gone}}\" }} }}\n"
        );
        let records = vec![Produce::new("K", "here"), Produce { key: Some(b"K"), ..Produce::default() }];
        let (redis, daemon) = applied(&writes, records, |_| ());
        assert_eq!(get::<i64>(&redis, &["EXISTS", "latest:K"]), exists, "{setting}");
        assert_eq!(entries(&redis, "log").len(), stream, "{setting}");
        let status = daemon.status().unwrap();
        assert_eq!(status.routes[0].tombstones, u64::from(setting != "write"), "{setting}");
        assert_eq!(status.partitions[0].position, Some(2), "{setting}");
    }
}

#[test]
fn nobody_comes_between_the_writes_of_a_record() {
    let writes = "[[route.write]]\ncommand = [\"INCR\", \"a\"]\n[[route.write]]\ncommand = [\"INCR\", \"b\"]\n";
    let redis = RedisServer::start();
    let topic = kafka::topic("writes", 4);
    let records: Vec<_> = (0..20_000).map(|_| Produce::new("K", "1")).collect();
    kafka::produce(&topic, records);
    let daemon = Setup::new(&topic, &redis.url()).routes(&format!("[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n{writes}")).start();
    let mut reader = redis.connect();
    let mut seen = 0;
    eventually("all records are settled", 60, || {
        let (a, b): (Option<i64>, Option<i64>) = redis::cmd("MGET").arg("a").arg("b").query(&mut reader).unwrap();
        assert_eq!(a, b);
        seen += 1;
        daemon.settled() >= 20_000
    });
    assert!(seen > 0);
}

#[test]
fn an_id_far_in_the_future_is_a_dead_letter_and_blocks_nothing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("writes", 1);
    let now = jiff::Timestamp::now().as_millisecond();
    let ids = [now, now + 3_600_000, now + 10 * 86_400_000, now + 3_600_001];
    let payloads: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{id}}}"#)).collect();
    kafka::produce(&topic, payloads.iter().map(|p| Produce::new("K", p)));
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n[[route.write]]\nxadd = { key = \"s\", fields = \"*\", id = \"{value.id}-0\" }\n";
    let daemon = Setup::new(&topic, &redis.url()).routes(routes).start();
    daemon.wait_settled(4);
    let found: Vec<String> = redis.entries::<String>("s").into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, [format!("{}-0", ids[0]), format!("{}-0", ids[1]), format!("{}-0", ids[3])]);
    let dead = letters::read(&redis, "bridge:dead");
    assert_eq!((dead.len(), dead[0].text("offset")), (1, "2".into()));
    assert!(dead[0].text("reason").contains("ahead of the clock"), "{}", dead[0].text("reason"));
}

#[test]
fn collapsed_sets_leave_the_last_value_and_everything_else_as_it_is() {
    let writes = "[[route.write]]\nxadd = { key = \"all\", fields = \"*\" }\n\
                  [[route.write]]\nsetex = { key = \"last:{key}\", value = \"{payload}\", ttl = \"1h\", collapse = true }\n";
    let payloads: Vec<String> = (0..5000).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let records = payloads.iter().zip(["a", "b", "c"].iter().cycle()).map(|(p, key)| Produce::new(key, p)).collect();
    let (redis, _daemon) = applied(writes, records, |_| ());
    assert_eq!(entries(&redis, "all").len(), 5000);
    for (key, last) in [("last:a", 4998), ("last:b", 4999), ("last:c", 4997)] {
        assert_eq!(get::<String>(&redis, &["GET", key]), format!(r#"{{"n":{last}}}"#));
        assert!(get::<i64>(&redis, &["TTL", key]) > 3500);
    }
    let statistics: String = get(&redis, &["INFO", "commandstats"]);
    let sets = statistics.lines().find_map(|l| l.strip_prefix("cmdstat_set:calls=")?.split(',').next()?.parse::<u32>().ok()).unwrap();
    assert!(sets < 2500, "{sets} SETs of 5000 records in transactions of up to 200");
}
