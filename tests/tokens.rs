//! Kafka's tokens (SASL OAUTHBEARER) come by a command, for every client, and again before they expire.
use crate::support::command::check;
use crate::support::daemon::Setup;
use crate::support::http::ask;
use crate::support::kafka::{self, Produce, Producer};
use crate::support::kafka_server::KafkaServer;
use crate::support::process::output;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, pass};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A command that prints a token of so many seconds, and keeps count of its runs.
fn command(folder: &Path, seconds: u32) -> PathBuf {
    let file = folder.join("token");
    let encode = "base64 -w0 | tr '+/' '-_' | tr -d '='";
    let script = format!(
        "#!/bin/sh\nset -e\necho run >> {runs}\n[ ! -e {broken} ]\nnow=$(date +%s)\n\
         header=$(printf '{{\"alg\":\"none\"}}' | {encode})\n\
         claims=$(printf '{{\"sub\":\"bridge\",\"iat\":%d,\"exp\":%d}}' $now $((now + {seconds})) | {encode})\n\
         printf '%s.%s.\\n' \"$header\" \"$claims\"\n",
        runs = folder.join("runs").display(),
        broken = folder.join("broken").display()
    );
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn runs(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("runs")).unwrap_or_default().lines().count()
}

#[test]
fn every_client_of_kafka_logs_in_by_the_token_of_a_command_and_by_its_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = command(folder.path(), 10);
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
    let server = KafkaServer::guarded(("OAUTHBEARER", module, "unsecuredLoginStringClaim_sub=\"broker\""));
    for (topic, partitions) in [("ticks", 2), ("dead", 1)] {
        kafka::create_on(&server.inner(), topic, partitions, &[]);
    }
    server.acl("--add --allow-principal User:bridge --operation All --topic * --group *");
    let produce = |payload: &str| {
        let producer = Producer::on(server.inner());
        (0..10).for_each(|n| producer.send("ticks", Produce::new(&format!("K{n}"), payload)));
        producer.flush();
    };
    let redis = RedisServer::start();
    let extra = "[dead_letter]\ntopic = \"dead\"\n[serve]\nenabled = true\npublish = \"loopback\"\n";
    let setup = Setup::new("ticks", &redis.url()).brokers(&server.bootstrap()).extra(extra);
    let setup = setup.property("security.protocol", "SASL_PLAINTEXT").property("sasl.mechanism", "OAUTHBEARER");
    let command = format!("BRIDGE__KAFKA__TOKEN_COMMAND=[\"{}\"]", file.display());
    let (name, value) = command.split_once('=').unwrap();
    produce(r#"{"a":1}"#);
    let mut daemon = setup.start_with(&[(name, value)]);
    daemon.wait_settled(10);
    // The dead-letter topic's producer and the API's.
    produce("poison");
    daemon.wait_settled(20);
    eventually("the letters are taken", 30, || daemon.status().is_some_and(|s| s.routes[0].dead == 10));
    assert_eq!(ask(daemon.http, "POST", "/api/v1/streaming/K", &[], r#"{"a":2}"#).status, 201);
    // The command runs again and again, once for all clients; a connection that is made later takes its latest token.
    let first = runs(folder.path());
    eventually("the command runs again", 30, || runs(folder.path()) > first + 1);
    assert!(runs(folder.path()) < 10, "{} runs", runs(folder.path()));
    let mut check = std::process::Command::new(crate::support::daemon::binary());
    let output = output(check.arg("--config").arg(daemon.config()).args(["check", "--connect"]).env(name, value));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("topic ticks with 2 partitions"), "{said}");
    pass(Duration::from_secs(1));
    assert_eq!(daemon.stop(), 0);
    // A command that fails: said, and over when it no longer does.
    std::fs::write(folder.path().join("broken"), "").unwrap();
    let daemon = setup.start_with(&[(name, value)]);
    daemon.wait_holds("kafka-refused");
    assert!(daemon.message("kafka-refused").contains("kafka.token_command"), "{}", daemon.message("kafka-refused"));
    assert!(daemon.log().contains("token-failed"), "{}", daemon.log());
    std::fs::remove_file(folder.path().join("broken")).unwrap();
    eventually("its partitions are open", 60, || daemon.open() == 2);
    eventually("the refusal is over", 60, || !daemon.holds("kafka-refused"));
}

#[test]
fn a_mechanism_or_a_way_to_a_token_that_this_build_lacks_is_refused_by_name() {
    let with = |kafka: &str, properties: &str| {
        let route = "[[route]]\nname = \"r\"\ntopics = [\"t\"]\n[[route.write]]\ndel = { key = \"k\" }\n";
        check(&format!("[kafka]\n{kafka}\n[kafka.properties]\n{properties}\n{route}"), &[], &[])
    };
    let bearer = "\"sasl.mechanism\" = \"OAUTHBEARER\"";
    let command = "token_command = [\"cat\", \"/run/token\"]";
    for (kafka, properties, expected) in [
        ("", bearer, "kafka.properties.sasl.mechanism: found \"OAUTHBEARER\" without kafka.token_command"),
        (command, "", "kafka.token_command: found a command; allowed: kafka.token_command only beside"),
        ("token_command = [\"\"]", bearer, "kafka.token_command.0: found \"\"; allowed: a command's name or path"),
        ("", "\"sasl.mechanism\" = \"GSSAPI\"", "found \"GSSAPI\"; allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER: those that this build has"),
        ("", "\"sasl.mechanisms\" = \"AWS_MSK_IAM\"", "found \"AWS_MSK_IAM\"; allowed: PLAIN, SCRAM-SHA-256"),
        ("", "\"sasl.kerberos.keytab\" = \"/k\"", "kafka.properties.sasl.kerberos.keytab: found"),
        (
            command,
            &format!("{bearer}\n\"sasl.oauthbearer.method\" = \"oidc\""),
            "kafka.properties.sasl.oauthbearer.method: found a way to a token that this build",
        ),
        (
            command,
            &format!("{bearer}\n\"enable.sasl.oauthbearer.unsecure.jwt\" = \"true\""),
            "unsecure.jwt: found a way to a token that this build does not have",
        ),
        ("", "\"no.such.thing\" = \"1\"", "kafka.properties.no.such.thing: found"),
    ] {
        let (code, said) = with(kafka, properties);
        assert!(code == Some(78) && said.contains(expected), "missing: {expected}\nin:\n{said}");
    }
    let (code, said) = with(command, bearer);
    assert_eq!(code, Some(0), "{said}");
}
