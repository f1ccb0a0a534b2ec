//! A Redis that can't keep what is promised, or lacks what the routes need, is told before the first record.
use crate::support::bed::Bed;
use crate::support::command::check;
use crate::support::daemon::Setup;
use crate::support::redis_server::{Kind, RedisServer};
use crate::support::sequence::Ticks;
use crate::support::{eventually, kafka};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// What `check --connect` says, as a user where one is named.
fn connect(setup: &Setup, user: &str) -> (Option<i32>, String) {
    let env = [("BRIDGE__REDIS__USER", user), ("BRIDGE__REDIS__PASSWORD", "pw")];
    check(&setup.toml(9650), &["--connect"], if user.is_empty() { &[] } else { &env })
}

/// One route with these writes, on a topic of its own.
fn writes(redis: &RedisServer, writes: &[&str]) -> Setup {
    let all: String = writes.iter().map(|w| format!("[[route.write]]\n{w}\n")).collect();
    Setup::new(&kafka::topic("checked", 1), &redis.url()).routes(&format!("[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n{all}"))
}

#[test]
fn check_connect_tells_what_both_ends_are_and_what_is_missing() {
    let redis = RedisServer::start();
    let topic = kafka::topic("checked", 3);
    let setup = Setup::new(&topic, &redis.url());
    let (code, said) = connect(&setup, "");
    assert_eq!(code, Some(0), "{said}");
    for expected in
        [&format!("topic {topic} with 3 partitions"), "Kafka: 1 broker", "maxmemory-policy noeviction", "(master)", "route volatility: exactly-once"]
    {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    redis.command("CONFIG SET maxmemory-policy allkeys-lru");
    let (code, said) = check(&setup.toml(9650).replace(&topic, "no-such-topic"), &["--connect"], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no topic no-such-topic exists yet") && said.contains("maxmemory-policy is allkeys-lru"), "{said}");
}

#[test]
fn a_missing_permission_is_named_with_its_remedy() {
    let redis = RedisServer::start();
    let setup = Setup::new(&kafka::topic("checked", 1), &redis.url());
    redis.command("ACL SETUSER small on >pw ~* &* +@all -xadd -hsetnx");
    let (code, said) = connect(&setup, "small");
    assert_eq!(code, Some(1));
    assert!(said.contains("ACL SETUSER small +xadd") && said.contains("ACL SETUSER small +hsetnx"), "{said}");
    assert!(!said.contains("+publish") && !said.contains("+hmget"), "{said}");
    redis.command("ACL SETUSER blind on >pw ~volatility:* ~latest:* &* +@all");
    let (code, said) = connect(&setup, "blind");
    assert_eq!(code, Some(1));
    assert!(said.contains("ACL SETUSER blind ~bridge:*") && said.contains("key \"bridge:dead\": ACL SETUSER blind ~bridge:dead"), "{said}");
    // What a record will name is not known: told, and not refused.
    redis.command("ACL SETUSER narrow on >pw ~bridge:* ~volatility:BTC* &other +@all");
    let (code, said) = connect(&setup, "narrow");
    assert_eq!(code, Some(0), "{said}");
    for expected in ["ACL SETUSER narrow ~volatility:*", "ACL SETUSER narrow ~latest:*", "channel such as \"updates:1\"", "ACL SETUSER narrow &updates:*"] {
        assert!(said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    // What is constant is known.
    let constant = writes(&redis, &["publish = { channel = \"all\", message = \"{payload}\" }", "command = [\"HSET\", \"all\", \"{key}\", \"{payload}\"]"]);
    let (code, said) = connect(&constant, "narrow");
    assert_eq!(code, Some(1));
    assert!(said.contains("the channel \"all\": ACL SETUSER narrow &all") && said.contains("the key \"all\": ACL SETUSER narrow ~all"), "{said}");
}

#[test]
fn what_only_some_settings_need_is_asked_for_with_them() {
    let redis = RedisServer::start();
    redis.command("ACL SETUSER small on >pw ~* &* +@all -del -sadd -sismember -expire -type");
    let route = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\non_tombstone = \"del\"\n[[route.write]]\nset = { key = \"k:{key}\", value = \"{payload}\" }\n";
    let plain = Setup::new(&kafka::topic("checked", 1), &redis.url()).extra("");
    assert_eq!(connect(&plain.clone().routes(&route.replace("\"del\"", "\"skip\"")), "small").0, Some(0));
    let (code, said) = connect(&plain.clone().routes(route), "small");
    assert_eq!((code, said.matches("PROBLEM").count()), (Some(1), 1), "{said}");
    assert!(said.contains("+del"), "{said}");
    let (_, said) = connect(&plain.redis_extra("on_state_lost = \"rebuild\"\n"), "small");
    for command in ["sadd", "sismember", "expire", "type"] {
        assert!(said.contains(&format!("ACL SETUSER small +{command}")), "missing: {command}\nin:\n{said}");
    }
}

#[test]
fn the_acl_user_of_the_readme_is_the_least_that_is_needed() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let line = readme.lines().find(|l| l.starts_with("ACL SETUSER bridge")).unwrap().replace(">password", ">pw");
    let redis = RedisServer::start();
    redis.command(&line);
    let reference = std::fs::read_to_string(crate::support::command::REFERENCE).unwrap();
    let setup = Setup::new(&kafka::topic("volatility", 1), &redis.url()).routes(&reference[reference.find("\n[[route]]").unwrap()..]);
    let toml = |s: &Setup| s.toml(9650).replace("\"volatility\"]", &format!("\"{}\"]", s.topic));
    let asked = || check(&toml(&setup), &["--connect"], &[("BRIDGE__REDIS__USER", "bridge"), ("BRIDGE__REDIS__PASSWORD", "pw")]);
    let (code, said) = asked();
    assert!(code == Some(0) && !said.contains("note:"), "{said}");
    for command in line.split(' ').filter_map(|word| word.strip_prefix('+')) {
        redis.command(&format!("ACL SETUSER bridge -{command}"));
        let (_, said) = asked();
        // PING is what a person looks with.
        assert!(command == "ping" || said.contains("PROBLEM: ") || said.contains("note: "), "{command} is not needed:\n{said}");
        redis.command(&format!("ACL SETUSER bridge +{command}"));
    }
}

#[test]
fn a_job_is_refused_before_it_begins_where_its_user_lacks_something() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut lines = readme.lines().filter(|l| l.starts_with("ACL SETUSER bridge"));
    let (live, jobs) = (lines.next().unwrap().replace(">password", ">pw").replace("&volatility_updates:*", "&updates:*"), lines.next().unwrap());
    let mut bed = Bed::new(1);
    bed.redis.command(&live);
    let base = bed.setup.redis_extra.clone();
    bed.setup = bed.setup.clone().redis_extra(&format!("{base}user = \"bridge\"\npassword = \"pw\"\n"));
    Ticks::default().produce(&bed.topic, 20, 2);
    let daemon = bed.setup.start();
    daemon.wait_settled(20);
    bed.redis.command(jobs);
    for word in jobs.split(' ').filter_map(|word| word.strip_prefix('+')).filter(|word| *word != "srem") {
        bed.redis.command(&format!("ACL SETUSER bridge -{word}"));
        let told = bed.expect(1, &["replay", "--yes", "--from-offset", "earliest"]);
        assert!(told.contains(&format!("+{word}")), "{word}: {told}");
        bed.redis.command(&format!("ACL SETUSER bridge +{word}"));
    }
    let told = bed.expect(0, &["jobs", "list"]);
    assert_eq!(told.lines().count(), 1, "none had begun: {told}");
    bed.redis.command("ACL SETUSER bridge ~copy:*");
    bed.replay(&["--from-offset", "earliest"]);
    bed.replay(&["--from-offset", "earliest", "--target-prefix", "copy:"]);
    bed.redis.command("ACL SETUSER bridge +pttl +xrevrange +xlen +xinfo|stream");
    assert!(bed.expect(0, &["verify", "--from-offset", "earliest"]).ends_with("equal\n"));
    bed.expect(0, &["rewind", "--topic", &bed.topic, "--to-offset", "latest", "--yes"]);
    let names = bed.jobs();
    names.iter().for_each(|name| drop(bed.expect(0, &["jobs", "forget", name])));
}

#[test]
fn a_command_by_template_must_be_a_write_to_this_server() {
    let redis = RedisServer::start();
    let refused = [
        ("[\"NOSUCHCOMMAND\", \"k\"]", "this server does not know NOSUCHCOMMAND"),
        ("[\"GET\", \"k\"]", "GET writes no data"),
        ("[\"EVAL_RO\", \"return 1\", \"0\"]", "EVAL_RO writes no data"),
        ("[\"HSET\", \"k\", \"f\"]", "route r write 4: HSET is given 3 words, its name among them, and takes 4 or more"),
        ("[\"INCR\", \"k\", \"1\"]", "INCR is given 3 words, its name among them, and takes 2"),
        ("[\"XGROUP\", \"{value.do}\", \"k\"]", "XGROUP needs a constant subcommand"),
        ("[\"XGROUP\", \"NOSUCH\", \"k\"]", "this server does not know XGROUP NOSUCH"),
        ("[\"RENAME\", \"{key}\", \"bridge:store\"]", "RENAME would write to \"bridge:store\""),
        ("[\"XGROUP\", \"DESTROY\", \"bridge:dead\", \"g\"]", "XGROUP DESTROY would write to \"bridge:dead\""),
        ("[\"GEORADIUS_RO\", \"k\", \"1\", \"1\", \"1\", \"m\"]", "GEORADIUS_RO writes no data"),
    ];
    let all: Vec<String> = refused.iter().map(|(command, _)| format!("command = {command}")).collect();
    let (code, said) = connect(&writes(&redis, &all.iter().map(String::as_str).collect::<Vec<_>>()), "");
    assert_eq!(code, Some(1));
    for (command, expected) in refused {
        assert!(said.contains(expected), "{command}: missing: {expected}\nin:\n{said}");
    }
    assert_eq!(said.matches("PROBLEM").count(), refused.len(), "{said}");
    let fine = [
        "command = [\"EVAL\", \"return redis.call('SET', KEYS[1], ARGV[1])\", \"1\", \"{key}\", \"v\"]",
        "command = [\"SPUBLISH\", \"bridge:news\", \"{payload}\"]",
        "command = [\"PFADD\", \"k\", \"{key}\"]",
        "command = [\"XGROUP\", \"CREATE\", \"s\", \"g\", \"$\", \"MKSTREAM\"]",
        "command = [\"GETEX\", \"k\", \"EX\", \"5\"]",
    ];
    let (code, said) = connect(&writes(&redis, &fine), "");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn older_and_other_servers_are_asked_what_they_know() {
    for kind in [Kind::Redis62, Kind::Valkey81] {
        let redis = RedisServer::with(kind, &[]);
        let setup = Setup::new(&kafka::topic("checked", 1), &redis.url());
        let (code, said) = connect(&setup, "");
        assert!(code == Some(0) && !said.contains("note:"), "{kind:?}: {said}");
        redis.command("ACL SETUSER small on >pw ~volatility:* ~latest:* &* +@all -config");
        let (code, said) = connect(&setup, "small");
        assert_eq!(code, Some(1), "{kind:?}: {said}");
        assert!(said.contains("ACL SETUSER small ~bridge:*"), "{kind:?}: {said}");
        redis.command("ACL SETUSER small ~bridge:*");
        let (code, said) = connect(&setup, "small");
        assert_eq!(code, Some(0), "{kind:?}: {said}");
        assert_eq!(said.contains("make sure that repl-diskless-load is not swapdb"), matches!(kind, Kind::Redis62), "{kind:?}: {said}");
        // Below 7.0 without ACL DRYRUN: nothing of what is tried is done.
        redis.command("ACL SETUSER small -hsetnx -xadd");
        let (code, said) = connect(&setup, "small");
        assert!(code == Some(1) && said.contains("small +hsetnx") && said.contains("small +xadd"), "{kind:?}: {said}");
        assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut redis.connect()).unwrap(), 0, "{kind:?}");
    }
}

#[test]
fn a_command_that_was_renamed_away_is_named_before_a_partition_halts_for_it() {
    let names = ["hsetnx", "hmget", "hgetall", "hset", "watch", "get", "xadd", "publish", "set", "type"];
    let topic = kafka::topic("checked", 1);
    for name in names {
        let redis = RedisServer::with(Kind::System, &["--rename-command", name, ""]);
        let (code, said) = connect(&Setup::new(&topic, &redis.url()), "");
        assert!(code == Some(1) && said.contains(&format!("this server does not know {}", name.to_uppercase())), "{name}: {said}");
    }
}

#[test]
fn a_replica_is_waited_for_until_it_is_promoted() {
    let (redis, master) = (RedisServer::start(), RedisServer::start());
    master.command("CONFIG SET repl-diskless-sync-delay 0");
    redis.command(&format!("REPLICAOF 127.0.0.1 {}", master.port));
    let link = || redis::cmd("INFO").arg("replication").query::<String>(&mut redis.connect()).unwrap();
    eventually("the replica follows", 20, || link().contains("master_link_status:up"));
    let topic = kafka::topic("ticks", 1);
    kafka::produce(&topic, [kafka::Produce::new("K", r#"{"a":1}"#)]);
    let setup = Setup::new(&topic, &redis.url());
    let expected = format!("this Redis is a replica of 127.0.0.1:{}; point redis.url at the master", master.port);
    let (code, said) = connect(&setup, "");
    assert!(code == Some(1) && said.contains(&expected), "{said}");
    // Who may not ask for ROLE is told by INFO.
    redis.command("ACL SETUSER small on >pw ~* &* +@all -role");
    assert!(connect(&setup, "small").1.contains(&expected));
    let daemon = setup.start();
    daemon.wait_holds("redis-unreachable");
    assert!(daemon.message("redis-unreachable").contains(&expected), "{}", daemon.message("redis-unreachable"));
    redis.command("REPLICAOF NO ONE");
    daemon.wait_settled(1);
    assert!(!daemon.holds("redis-unreachable"));
}

/// Something that speaks the protocol and is no Redis: answers by `answer`, which is given a command in upper case.
fn pretender(answer: impl Fn(&str) -> &'static str + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}/0", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(&stream, answer));
        }
    });
    url
}

fn serve(mut stream: &TcpStream, answer: impl Fn(&str) -> &'static str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut words = Vec::new();
        for _ in 0..number(&mut reader)? {
            let mut bytes = vec![0; number(&mut reader)? + 2];
            reader.read_exact(&mut bytes).ok()?;
            words.push(String::from_utf8_lossy(&bytes[..bytes.len() - 2]).to_uppercase());
        }
        stream.write_all(answer(&words.join(" ")).as_bytes()).ok()?;
    }
}

/// `*3` or `$3`.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim().get(1..)?.parse().ok()
}

#[test]
fn what_stands_between_and_answers_for_a_redis_without_transactions_is_refused() {
    // Yes to everything; and what knows no transactions and no COMMAND, as some proxies.
    let yes = |_: &str| "+OK\r\n";
    let no = |command: &str| {
        if ["WATCH", "MULTI", "EXEC", "UNWATCH", "COMMAND", "ROLE"].iter().any(|c| command.starts_with(c)) { "-ERR unknown command\r\n" } else { "+OK\r\n" }
    };
    // What queues nothing: everything is done at once.
    let at_once = |command: &str| match command {
        "EXEC" => "*1\r\n$-1\r\n",
        c if c.starts_with("GET ") => "$-1\r\n",
        _ => "+OK\r\n",
    };
    let topic = kafka::topic("checked", 1);
    for (url, expected) in [
        (pretender(yes), "GET in a transaction is not answered"),
        (pretender(no), "WATCH is not answered"),
        (pretender(at_once), "GET in a transaction is not answered"),
    ] {
        let setup = Setup::new(&topic, &url);
        let (code, said) = connect(&setup, "");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected) && said.contains("a proxy"), "missing: {expected}\nin:\n{said}");
        let mut daemon = setup.start();
        assert_eq!(daemon.exit_code(30), 1, "{}", daemon.log());
    }
    let at_least = Setup::new(&topic, &pretender(no)).redis_extra("guarantee = \"at-least-once\"\n");
    let (code, said) = connect(&at_least, "");
    assert!(code == Some(1) && said.contains("MULTI is not answered"), "{said}");
}
