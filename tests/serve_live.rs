//! Live updates: nothing missed, nothing twice, and nobody waits for a slow client.
use crate::support::bed::Bed;
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Event, Events, get};
use crate::support::kafka::{self, Produce, Producer};
use crate::support::process::joined;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::{eventually, free_port, signal};
use std::collections::BTreeMap;
use std::net::TcpStream;

const PAIRS: [&str; 3] = ["BTC/USD", "ETH/USD", "NEO/USD"];

fn serving(extra: &str) -> (RedisServer, Daemon, String) {
    serving_with(extra, &[])
}

fn serving_with(extra: &str, redis: &[&str]) -> (RedisServer, Daemon, String) {
    let redis = RedisServer::with(Kind::System, redis);
    let topic = kafka::topic("live", 3);
    let setup = Setup { group: topic.clone(), ..Setup::new(&topic, &redis.url()) };
    let setup = setup.extra(&format!("[dead_letter]\nstream = \"bridge:dead\"\n[serve]\nenabled = true\n{extra}"));
    let daemon = setup.start();
    daemon.wait_ready();
    (redis, daemon, topic)
}

/// Produces the updates `from..to` of each pair.
fn produce(topic: &str, from: usize, to: usize) {
    let producer = Producer::new();
    for n in from..to {
        PAIRS.iter().for_each(|pair| producer.send(topic, Produce::new(pair, &format!(r#"{{"n":{n}}}"#))));
    }
    producer.flush();
}

/// The pair and the number of an update.
fn of(event: &Event) -> (String, usize) {
    let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    assert!(event.id.starts_with(data["entry"]["id"].as_str().unwrap()), "{event:?}");
    (data["key"].as_str().unwrap().to_owned(), usize::try_from(data["entry"]["n"].as_u64().unwrap()).unwrap())
}

/// Reads so many updates on streams that break off again and again, each time from the last one on.
fn read(port: u16, path: &str, count: usize, each: usize, mut last: Option<String>) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut events = Events::open(port, path, last.as_deref());
        for _ in 0..each.min(count - all.len()) {
            let event = events.update().expect("more updates");
            all.push(of(&event));
            last = Some(event.id);
        }
    }
    all
}

fn check_each_once_in_order(found: &[(String, usize)], pairs: &[&str], count: usize) {
    let mut by_pair: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (pair, n) in found {
        by_pair.entry(pair).or_default().push(*n);
    }
    for pair in pairs {
        assert_eq!(by_pair[pair], (0..count).collect::<Vec<_>>(), "{pair}");
    }
}

#[test]
fn a_reconnect_misses_nothing_and_gets_nothing_twice() {
    const COUNT: usize = 2000;
    let (_redis, daemon, topic) = serving("");
    let port = daemon.http;
    // Both begin before anything is there.
    let begun = |path: &str| Events::open(port, path, None).next().unwrap();
    let (one, all) = (begun("/api/v1/streaming/BTC/USD/live"), begun("/api/v1/streaming/live"));
    assert_eq!((one.name.as_str(), all.name.as_str()), ("open", "open"));
    let feeder = std::thread::spawn(move || (0..20).for_each(|n| produce(&topic, n * COUNT / 20, (n + 1) * COUNT / 20)));
    let single = std::thread::spawn(move || read(port, "/api/v1/streaming/BTC/USD/live", COUNT, 150, Some(one.id)));
    let found = read(port, "/api/v1/streaming/live", COUNT * PAIRS.len(), 700, Some(all.id));
    check_each_once_in_order(&found, &PAIRS, COUNT);
    check_each_once_in_order(&joined("all updates of one pair are read", single), &PAIRS[..1], COUNT);
    joined("all is produced", feeder);
}

#[test]
fn one_subscription_serves_any_number_of_clients() {
    let (redis, daemon, topic) = serving("");
    let mut clients: Vec<Events> = (0..50).map(|_| Events::open(daemon.http, "/api/v1/streaming/live", None)).collect();
    clients.iter_mut().for_each(|c| assert_eq!(c.next().unwrap().name, "open"));
    produce(&topic, 0, 10);
    for client in &mut clients {
        let found: Vec<(String, usize)> = (0..30).map(|_| of(&client.update().unwrap())).collect();
        check_each_once_in_order(&found, &PAIRS, 10);
    }
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connect()).unwrap();
    assert_eq!(list.lines().filter(|l| l.contains("psub=1")).count(), 1, "{list}");
}

#[test]
fn a_slow_client_is_dropped_by_name_and_slows_nobody() {
    let (_redis, daemon, topic) = serving("live_queue = 100\n");
    let mut quick = Events::open(daemon.http, "/api/v1/streaming/live", None);
    assert_eq!(quick.next().unwrap().name, "open");
    // It asks, and reads nothing of what it gets.
    let slow = TcpStream::connect(("127.0.0.1", daemon.http)).unwrap();
    socket2::SockRef::from(&slow).set_recv_buffer_size(4096).unwrap();
    std::io::Write::write_all(&mut &slow, b"GET /api/v1/streaming/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let filler = "x".repeat(20_000);
    let producer = Producer::new();
    let mut seen = 0;
    // Each round waits for the quick one: what waits for the slow one is all that grows.
    while !daemon.log().contains("live-dropped") {
        for n in seen..seen + 10 {
            producer.send(&topic, Produce::new(PAIRS[0], &format!(r#"{{"n":{n},"filler":"{filler}"}}"#)));
        }
        producer.flush();
        for _ in 0..10 {
            assert_eq!(of(&quick.update().unwrap()).1, seen, "the quick one gets each");
            seen += 1;
        }
        assert!(seen < 5000, "the slow one was not dropped");
    }
    assert!(daemon.log().contains("client=127.0.0.1"), "{}", daemon.log());
}

#[test]
fn who_keeps_up_is_not_dropped_however_much_comes_at_once() {
    const AT_ONCE: usize = 400;
    let (redis, daemon, _) = serving("live_queue = 100\n");
    let mut events = following(&daemon, ["/api/v1/streaming/live"]).into_iter().next().unwrap();
    let mut writes = redis::pipe();
    writes.atomic();
    for n in 0..AT_ONCE {
        writes.cmd("XADD").arg("volatility:BTC/USD").arg("*").arg("n").arg(n).ignore();
    }
    writes.cmd("PUBLISH").arg("updates:BTC/USD").arg("{}").ignore();
    writes.query::<()>(&mut redis.connect()).unwrap();
    for n in 0..AT_ONCE {
        assert_eq!(of(&events.update().unwrap()).1, n);
    }
    assert!(!daemon.log().contains("live-dropped"), "{}", daemon.log());
}

#[test]
fn clients_stay_while_redis_is_away_and_get_what_came_meanwhile() {
    let (redis, daemon, topic) = serving("");
    let mut events = Events::open(daemon.http, "/api/v1/streaming/live", None);
    assert_eq!(events.next().unwrap().name, "open");
    produce(&topic, 0, 5);
    let mut found: Vec<(String, usize)> = (0..15).map(|_| of(&events.update().unwrap())).collect();
    redis.command("CLIENT KILL TYPE pubsub");
    produce(&topic, 5, 10);
    found.extend((0..15).map(|_| of(&events.update().unwrap())));
    check_each_once_in_order(&found, &PAIRS, 10);
    eventually("it is followed again", 20, || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut redis.connect()).unwrap();
        list.contains("psub=1")
    });
}

#[test]
fn clients_stay_while_redis_restarts_and_miss_nothing_of_what_survived() {
    let (mut redis, daemon, topic) = serving_with("", &["--appendonly", "yes", "--appendfsync", "always"]);
    let begin = |path: &str| Events::open(daemon.http, path, None);
    let mut clients = [begin("/api/v1/streaming/live"), begin("/api/v1/streaming/live"), begin("/api/v1/streaming/BTC/USD/live")];
    clients.iter_mut().for_each(|c| assert_eq!(c.next().unwrap().name, "open"));
    let mut found: [Vec<(String, usize)>; 3] = Default::default();
    let mut read = |clients: &mut [Events], count: usize| {
        for (n, client) in clients.iter_mut().enumerate() {
            for _ in 0..if n == 2 { count } else { count * PAIRS.len() } {
                let event = client.next().unwrap();
                assert_eq!(event.name, "update", "nothing is lost: {event:?}");
                found[n].push(of(&event));
            }
        }
    };
    produce(&topic, 0, 5);
    read(&mut clients, 5);
    for round in 1..=2 {
        redis.kill();
        produce(&topic, round * 5, round * 5 + 5);
        redis.run();
        read(&mut clients, 5);
    }
    found[..2].iter().for_each(|found| check_each_once_in_order(found, &PAIRS, 15));
    check_each_once_in_order(&found[2], &PAIRS[..1], 15);
}

#[test]
fn clients_are_told_where_redis_came_back_without_what_they_have() {
    let (mut redis, daemon, topic) = serving("");
    let paths = ["/api/v1/streaming/live", "/api/v1/streaming/BTC/USD/live"];
    let mut clients = paths.map(|path| Events::open(daemon.http, path, None));
    clients.iter_mut().for_each(|c| assert_eq!(c.next().unwrap().name, "open"));
    produce(&topic, 0, 3);
    let last = clients.each_mut().map(|c| (0..3).map(|_| c.update().unwrap()).last().unwrap());
    redis.kill();
    redis.run();
    let gap = clients[1].next().unwrap();
    let told: serde_json::Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!((gap.name.as_str(), &told["key"], &told["first"]), ("gap", &serde_json::json!("BTC/USD"), &serde_json::Value::Null));
    assert!(last[1].id.starts_with(told["after"].as_str().unwrap()), "{told} after {:?}", last[1]);
    // One that follows all, and one that only comes back now.
    let told = |client: &mut Events| std::iter::from_fn(|| client.next()).map(|e| e.name).find(|name| name != "update");
    assert_eq!(told(&mut clients[0]).as_deref(), Some("gap"));
    for (path, last) in paths.iter().zip(&last) {
        assert_eq!(Events::open(daemon.http, path, Some(&last.id)).next().unwrap().name, "gap", "{path}");
    }
}

#[test]
fn a_client_is_told_where_the_stream_was_trimmed_beyond_what_it_has() {
    let (redis, daemon, topic) = serving("");
    let path = "/api/v1/streaming/BTC/USD/live";
    let mut events = Events::open(daemon.http, path, None);
    assert_eq!(events.next().unwrap().name, "open");
    produce(&topic, 0, 10);
    let ids: Vec<String> = (0..10).map(|_| events.update().unwrap().id).collect();
    let names = |last: &str| {
        let mut events = Events::open(daemon.http, path, Some(last));
        [(); 3].map(|()| events.next().unwrap()).map(|e| if e.name == "update" { of(&e).1.to_string() } else { e.name })
    };
    assert_eq!(names(&ids[6]), ["7", "8", "9"]);
    redis.command("XTRIM volatility:BTC/USD MAXLEN 2");
    assert_eq!(names(&ids[0]), ["gap", "8", "9"]);
    // However long it was away, it is told once, and what there is.
    let mut events = Events::open(daemon.http, path, Some("5-0"));
    assert_eq!(gap(&events.next().unwrap()), ("BTC/USD".into(), ids[8].split('/').next().map(Into::into)));
    assert_eq!([(); 2].map(|()| of(&events.next().unwrap()).1), [8, 9]);
}

/// The key of a gap, and the first entry behind it.
fn gap(event: &Event) -> (String, Option<String>) {
    let told: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(event.name, "gap", "{event:?}");
    (told["key"].as_str().unwrap().to_owned(), told["first"].as_str().map(Into::into))
}

/// Live clients of these paths.
fn following<const N: usize>(daemon: &Daemon, paths: [&str; N]) -> [Events; N] {
    let mut clients = paths.map(|path| Events::open(daemon.http, path, None));
    clients.iter_mut().for_each(|c| assert_eq!(c.next().unwrap().name, "open"));
    clients
}

/// Adds a key to the route's index, as a transaction of the bridge would.
fn list(redis: &RedisServer, group: &str, key: &str) {
    redis.command(&format!("ZADD bridge:keys:{group}:volatility 0 {key}"));
}

/// What happens beside an entry.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Publish,
    /// The hub's connection is lost, in the same step: no round lies between the two.
    Kill,
    Nothing,
}

/// Adds entries to the stream of BTC/USD in one step, of which the last two stay.
fn add_and_trim(redis: &RedisServer, beside: Beside) {
    let mut all = redis::pipe();
    all.atomic();
    (0..10).for_each(|n| _ = all.cmd("XADD").arg("volatility:BTC/USD").arg("*").arg("n").arg(n));
    all.cmd("XTRIM").arg("volatility:BTC/USD").arg("MAXLEN").arg(2);
    match beside {
        Beside::Publish => _ = all.cmd("PUBLISH").arg("updates:BTC/USD").arg("x"),
        Beside::Kill => _ = all.cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub"),
        Beside::Nothing => {}
    }
    all.exec(&mut redis.connect()).unwrap();
}

#[test]
fn who_had_no_update_yet_is_told_where_entries_were_trimmed_before_they_were_read() {
    for beside in [Beside::Publish, Beside::Kill] {
        let (redis, daemon, topic) = serving("");
        let mut clients = following(&daemon, ["/api/v1/streaming/BTC/USD/live", "/api/v1/streaming/live"]);
        list(&redis, &topic, "BTC/USD");
        add_and_trim(&redis, beside);
        for client in &mut clients {
            assert_eq!(gap(&client.next().unwrap()).0, "BTC/USD");
            assert_eq!([(); 2].map(|()| of(&client.next().unwrap()).1), [8, 9]);
        }
    }
}

#[test]
fn entries_that_no_message_told_of_come_with_the_next_look_at_their_key() {
    for beside in [Beside::Publish, Beside::Kill] {
        let (redis, daemon, topic) = serving("");
        let mut clients = following(&daemon, ["/api/v1/streaming/BTC/USD/live", "/api/v1/streaming/live"]);
        list(&redis, &topic, "BTC/USD");
        // A round without a newcomer: from then on nobody looks at the other key.
        redis.command("XADD volatility:NEO * n 0");
        redis.command("PUBLISH updates:NEO x");
        assert_eq!(of(&clients[1].next().unwrap()), ("NEO".into(), 0));
        add_and_trim(&redis, Beside::Nothing);
        // Somebody who comes forces a round behind these entries, and gets nothing from before.
        let [mut late] = following(&daemon, ["/api/v1/streaming/BTC/USD/live"]);
        let mut next = redis::pipe();
        next.atomic().cmd("XADD").arg("volatility:BTC/USD").arg("*").arg("n").arg(10);
        match beside {
            Beside::Publish => next.cmd("PUBLISH").arg("updates:BTC/USD").arg("x"),
            _ => next.cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub"),
        };
        next.exec(&mut redis.connect()).unwrap();
        for client in &mut clients {
            assert_eq!(gap(&client.next().unwrap()).0, "BTC/USD");
            assert_eq!([(); 3].map(|()| of(&client.next().unwrap()).1), [8, 9, 10]);
        }
        let first = late.next().unwrap();
        let first = if first.name == "gap" { late.next().unwrap() } else { first };
        assert_eq!(of(&first).1, 10);
    }
}

/// Adds the first entry of BTC/USD, and ends the hub's connection in the same step.
fn begin_unheard(redis: &RedisServer) {
    let mut begin = redis::pipe();
    begin.atomic().cmd("XADD").arg("volatility:BTC/USD").arg("*").arg("n").arg(7).cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
    begin.exec(&mut redis.connect()).unwrap();
}

#[test]
fn a_stream_that_begins_while_the_connection_is_lost_is_no_gap() {
    let (redis, daemon, _) = serving("");
    let [mut client] = following(&daemon, ["/api/v1/streaming/BTC/USD/live"]);
    begin_unheard(&redis);
    assert_eq!(of(&client.next().unwrap()).1, 7);
}

#[test]
fn who_follows_all_pairs_is_told_of_each_whose_stream_is_lost_and_who_never_had_it_is_not() {
    let (redis, daemon, topic) = serving("");
    let [mut early] = following(&daemon, ["/api/v1/streaming/live"]);
    produce(&topic, 0, 3);
    (0..9).for_each(|_| _ = of(&early.next().unwrap()));
    let [mut late] = following(&daemon, ["/api/v1/streaming/live"]);
    // Neither is the last that had an update.
    redis.command("DEL volatility:BTC/USD latest:BTC/USD volatility:ETH/USD");
    redis.command("CLIENT KILL TYPE pubsub");
    assert_eq!([(); 2].map(|()| gap(&early.next().unwrap())), [("BTC/USD".into(), None), ("ETH/USD".into(), None)]);
    produce(&topic, 3, 4);
    for client in [&mut early, &mut late] {
        let found: Vec<(String, usize)> = (0..3).map(|_| of(&client.next().unwrap())).collect();
        assert!(PAIRS.iter().all(|pair| found.contains(&((*pair).into(), 3))), "{found:?}");
    }
}

#[test]
fn who_comes_back_to_all_pairs_is_told_of_each_whose_stream_was_trimmed_meanwhile() {
    let (redis, daemon, topic) = serving("");
    let path = "/api/v1/streaming/live";
    let [mut client] = following(&daemon, [path]);
    produce(&topic, 0, 3);
    let last = (0..9).map(|_| client.next().unwrap().id).last().unwrap();
    drop(client);
    produce(&topic, 3, 6);
    daemon.wait_settled(18);
    redis.command("XTRIM volatility:ETH/USD MAXLEN 2");
    // Another begins meanwhile.
    redis.command("XADD volatility:NEW * n 0");
    list(&redis, &topic, "NEW");
    let mut client = Events::open(daemon.http, path, Some(&last));
    assert_eq!(gap(&client.next().unwrap()).0, "ETH/USD");
    let mut found: Vec<(String, usize)> = (0..9).map(|_| of(&client.next().unwrap())).collect();
    found.sort();
    let expected = [("BTC/USD", 3), ("BTC/USD", 4), ("BTC/USD", 5), ("ETH/USD", 4), ("ETH/USD", 5), ("NEO/USD", 3), ("NEO/USD", 4), ("NEO/USD", 5), ("NEW", 0)];
    assert_eq!(found, expected.map(|(pair, n)| (pair.to_owned(), n)));
}

#[test]
fn a_key_that_is_no_stream_holds_up_no_other() {
    let (redis, daemon, topic) = serving("");
    let [mut client] = following(&daemon, ["/api/v1/streaming/live"]);
    redis.command("SET volatility:BAD x");
    list(&redis, &topic, "BAD");
    redis.command("CLIENT KILL TYPE pubsub");
    produce(&topic, 0, 2);
    let found: Vec<(String, usize)> = (0..6).map(|_| of(&client.next().unwrap())).collect();
    check_each_once_in_order(&found, &PAIRS, 2);
    let mut back = Events::open(daemon.http, "/api/v1/streaming/live", Some("1-0"));
    let found: Vec<(String, usize)> = (0..6).map(|_| of(&back.next().unwrap())).collect();
    check_each_once_in_order(&found, &PAIRS, 2);
}

#[test]
fn without_a_list_of_keys_each_is_followed_and_all_together_are_not() {
    let (mut bed, port) = (Bed::new(1), free_port());
    bed.setup = bed.setup.clone().extra(&format!("[serve]\nlisten = \"127.0.0.1:{port}\"\n"));
    let mut server = bed.start(&["serve"]);
    eventually("the API listens", 20, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let all = get(port, "/api/v1/streaming/live");
    assert_eq!((all.status, all.json()["code"].as_str()), (404, Some("not-offered")));
    assert!(all.text().contains("serve.index"), "{}", all.text());
    let mut one = Events::open(port, "/api/v1/streaming/BTC/USD/live", None);
    assert_eq!(one.next().unwrap().name, "open");
    begin_unheard(&bed.redis);
    assert_eq!(of(&one.next().unwrap()).1, 7);
    signal(server.id(), "TERM");
    assert!(server.ended().success());
}

#[test]
fn where_redis_refuses_to_be_followed_the_api_says_so() {
    let (redis, daemon, _) = serving("");
    redis.command("ACL SETUSER default -psubscribe");
    let refused = get(daemon.http, "/api/v1/streaming/live");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (502, Some("redis-refused")), "{}", refused.text());
    redis.command("ACL SETUSER default +psubscribe");
    let [_client] = following(&daemon, ["/api/v1/streaming/live"]);
}
