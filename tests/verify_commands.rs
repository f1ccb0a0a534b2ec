//! What `verify` compares of hashes, sets and values by command, and what it says it could not compare.
use crate::support::bed::Bed;
use crate::support::kafka::{self, Produce};

const ALL: [&str; 3] = ["verify", "--from-offset", "earliest"];
const ORDERS: &str = "[[route]]\nname = \"orders\"\ntopics = [\"TOPIC\"]\n\
    [[route.write]]\ncommand = [\"HSET\", \"order:{key}\", \"status\", \"{value.status}\", \"total\", \"{value.total}\"]\nREPLAY\n";

/// Orders o-0 to o-6, each with three states, all applied by a bridge that was stopped then.
fn orders(routes: &str) -> Bed {
    let bed = Bed::with(2, &routes.replace("REPLAY\n", ""));
    let payloads: Vec<String> = ["new", "paid", "sent"].iter().map(|s| format!(r#"{{"status":"{s}","total":7}}"#)).collect();
    let keys: Vec<String> = (0..7).map(|n| format!("o-{n}")).collect();
    kafka::produce(&bed.topic, payloads.iter().flat_map(|p| keys.iter().map(move |key| Produce::new(key, p))));
    let mut daemon = bed.setup.start();
    daemon.wait_settled(21);
    assert_eq!(daemon.stop(), 0);
    bed
}

#[test]
fn a_hash_that_is_gone_is_a_difference_and_a_plan_that_applies_nothing_says_so_first() {
    let mut bed = orders(ORDERS);
    let told = bed.expect(0, &ALL);
    assert!(told.contains("7 keys of hashes and sets, 14 elements of them") && told.ends_with("\nequal\n"), "{told}");
    bed.redis.command("DEL order:o-5");
    let told = bed.replay(&["--from-offset", "earliest"]);
    let first = "this job applies nothing: it leaves out route orders, write 1 (hset). To apply a write, set replay = \"apply\" on it in the configuration\n";
    assert!(told.starts_with(first), "{told}");
    assert_eq!(told.matches("this job applies nothing").count(), 2, "before and after: {told}");
    let told = bed.expect(4, &ALL);
    assert!(told.contains("DIFFERENT order:o-5: field \"status\" is missing (2 of the 2 fields differ)") && told.ends_with("\n1 key differs\n"), "{told}");
    // What the plan said to set.
    bed.setup = bed.setup.clone().routes(&ORDERS.replace("REPLAY", "replay = \"apply\""));
    assert!(bed.replay(&["--from-offset", "earliest"]).starts_with("job orders-"));
    assert!(bed.expect(0, &ALL).ends_with("\nequal\n"));
}

#[test]
fn of_a_hash_the_fields_of_the_range_or_later_ones_must_stand_and_others_may() {
    let bed = orders(ORDERS);
    // The first state of each order: what came since is as right.
    for to in ["0:1,1:1", "0:3,1:3"] {
        assert!(bed.expect(0, &["verify", "--from-offset", "earliest", "--to-offset", to]).ends_with("\nequal\n"), "{to}");
    }
    bed.redis.command("HSET order:o-1 note foreign");
    bed.expect(0, &ALL);
    bed.redis.command("HSET order:o-1 status lost");
    bed.redis.command("HDEL order:o-2 total");
    bed.redis.command("DEL order:o-3");
    bed.redis.command("SET order:o-3 text");
    let told = bed.expect(4, &ALL);
    for what in ["o-1: field \"status\" has another value", "o-2: field \"total\" is missing", "o-3: the key holds something of another type"] {
        assert!(told.contains(&format!("DIFFERENT order:{what}")), "{what}: {told}");
    }
}

#[test]
fn what_was_not_compared_has_a_count_a_reason_and_an_exit_code_of_its_own() {
    let counted = "[[route.write]]\ncommand = [\"INCR\", \"orders:{key}\"]\n[[route.write]]\ncommand = [\"HINCRBY\", \"order:{key}\", \"seen\", \"1\"]\n";
    let bed = orders(&(ORDERS.to_owned() + counted));
    let told = bed.expect(5, &ALL);
    for line in [
        "not compared: 21 commands of INCR",
        "not compared: 7 keys: what INCR leaves can't be told",
        "not compared: 7 fields: what HSETNX or HINCRBY leaves depends on the value before",
    ] {
        assert!(told.lines().any(|l| l == line), "{line}: {told}");
    }
    assert!(told.ends_with("\nwhat was compared is equal; not compared: 7 keys, 7 fields\n"), "{told}");
    let report: serde_json::Value = serde_json::from_str(&bed.expect(5, &[ALL.as_slice(), &["--output", "json"]].concat())).unwrap();
    assert_eq!((&report["equal"], &report["verdict"]), (&false.into(), &"not compared".into()));
    assert_eq!((&report["found"]["uncompared_keys"], &report["found"]["uncompared_fields"]), (&7.into(), &7.into()));
    // Asked about nothing but what can be compared, all is.
    assert!(bed.expect(0, &[ALL.as_slice(), &["--write", "orders/1", "--key", "none"]].concat()).ends_with("\nequal\n"));
    bed.redis.command("HDEL order:o-4 status");
    assert!(bed.expect(4, &ALL).ends_with("\n1 key differs; not compared: 7 keys, 7 fields\n"), "a difference comes first");
}

#[test]
fn members_scores_and_values_by_command_are_compared_on_the_real_server() {
    let routes = "[[route]]\nname = \"r\"\ntopics = [\"TOPIC\"]\n\
        [[route.write]]\ncommand = [\"SADD\", \"of:{value.status}\", \"{key}\"]\n\
        [[route.write]]\ncommand = [\"ZADD\", \"totals\", \"{value.total}\", \"{key}\"]\n\
        [[route.write]]\ncommand = [\"set\", \"last:{key}\", \"{value.status}\", \"EX\", \"3600\"]\n\
        [[route.write]]\ncommand = [\"HSET\", \"session:{key}\", \"status\", \"{value.status}\"]\n\
        [[route.write]]\ncommand = [\"EXPIRE\", \"session:{key}\", \"3600\"]\n";
    let bed = orders(routes);
    let told = bed.expect(0, &ALL);
    assert!(told.contains("7 values") && told.contains("11 keys of hashes and sets, 35 elements of them"), "{told}");
    bed.redis.command("SREM of:paid o-1");
    bed.redis.command("ZADD totals 8 o-2");
    bed.redis.command("SET last:o-3 new EX 3600");
    let told = bed.expect(4, &ALL);
    for what in ["of:paid: member \"o-1\" is missing", "totals: member \"o-2\" has another score", "last:o-3: another value is there"] {
        assert!(told.contains(&format!("DIFFERENT {what}")), "{what}: {told}");
    }
    assert!(told.ends_with("\n3 keys differ\n"), "{told}");
    ["SADD of:paid o-1", "ZADD totals 7 o-2", "SET last:o-3 sent EX 3600", "DEL session:o-4"].into_iter().for_each(|c| bed.redis.command(c));
    let told = bed.expect(5, &ALL);
    assert!(told.contains("can't be told session:o-4: field \"status\" is missing; a write lets the key expire"), "{told}");
}
