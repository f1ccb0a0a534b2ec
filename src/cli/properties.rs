//! What librdkafka says of its properties: each by itself, then all of them together, in clients that never connect.
use crate::config::load::{Loaded, Mistake};
use crate::config::{Config, Kafka};
use crate::kafka::client;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

const ALLOWED: &str = "a property of librdkafka (its CONFIGURATION.md) and a value of its range";

/// What the broker decides where the group's protocol is the new one.
const CLASSIC: [(&str, &str); 4] = [
    ("session.timeout.ms", "the broker sets it (group.consumer.session.timeout.ms)"),
    ("heartbeat.interval.ms", "the broker sets it (group.consumer.heartbeat.interval.ms)"),
    ("partition.assignment.strategy", "set group.remote.assignor instead"),
    ("group.protocol.type", "it has no such thing"),
];
/// SASL mechanisms, and the feature of librdkafka's build that each needs.
const MECHANISMS: [(&str, &str); 5] =
    [("PLAIN", "sasl_plain"), ("SCRAM-SHA-256", "sasl_scram"), ("SCRAM-SHA-512", "sasl_scram"), ("OAUTHBEARER", "sasl_oauthbearer"), ("GSSAPI", "sasl_gssapi")];

/// A property's name, what was found, what is allowed.
type Refused = (String, String, String);

/// All that is wrong with the properties.
pub(super) fn mistakes(loaded: &Loaded) -> Vec<Mistake> {
    let mut config = loaded.config().clone();
    if config.kafka.group.is_empty() {
        // That is told by its own key; a client can't be made without one.
        config.kafka.group = "-".into();
    }
    let config = &config;
    let mut refused = alone(&config.kafka);
    if refused.is_empty() {
        refused = clashes(&config.kafka);
    }
    if refused.is_empty() {
        refused = together(config);
    }
    let mistake = |(name, found, allowed): Refused| {
        let key = if name.is_empty() { "kafka.properties".into() } else { format!("kafka.properties.{name}") };
        Mistake { source: loaded.source_of(&key), key, found: redacted(&config.kafka, found), allowed, nearest: None }
    };
    refused.into_iter().map(mistake).collect()
}

/// The SASL mechanisms that librdkafka is built with here.
fn mechanisms() -> Vec<&'static str> {
    let features = ClientConfig::new().create_native_config().and_then(|c| c.get("builtin.features")).unwrap_or_default();
    let features: Vec<&str> = features.split(',').collect();
    MECHANISMS.iter().filter(|(_, feature)| features.contains(feature)).map(|(name, _)| *name).collect()
}

/// Those that librdkafka does not know, or whose values it does not take.
fn alone(kafka: &Kafka) -> Vec<Refused> {
    let built = mechanisms();
    let refused = kafka.properties.iter().filter_map(|(name, value)| {
        let value = value.0.as_str();
        if matches!(name.as_str(), "sasl.mechanism" | "sasl.mechanisms") && !built.contains(&value) {
            // Looked at by librdkafka only where security.protocol asks for it.
            return Some((name.clone(), format!("{value:?}"), format!("{}: those that this build has", built.join(", "))));
        }
        if name.starts_with("sasl.kerberos.") && !built.contains(&"GSSAPI") {
            // librdkafka takes these, and does nothing with them.
            return Some((name.clone(), "a setting of GSSAPI".into(), format!("{}: the mechanisms that this build has", built.join(", "))));
        }
        let e = ClientConfig::new().set(name, value).create_native_config().err()?;
        Some((name.clone(), text(e), ALLOWED.into()))
    });
    refused.collect()
}

/// Those that the new group protocol does not take.
fn clashes(kafka: &Kafka) -> Vec<Refused> {
    if kafka.properties.get("group.protocol").is_none_or(|p| p.0 != "consumer") {
        return Vec::new();
    }
    let set = CLASSIC.iter().filter(|(name, _)| kafka.properties.contains_key(*name));
    set.map(|(name, why)| ((*name).into(), "a setting of the classic protocol beside group.protocol = \"consumer\"".into(), format!("leave it out: {why}")))
        .collect()
}

/// What only shows when a client is made. Blamed are the properties that librdkafka names, else those without any one of
/// which a client could be made.
fn together(config: &Config) -> Vec<Refused> {
    let Some(why) = fails(config) else { return Vec::new() };
    let properties = &config.kafka.properties;
    let mut names: Vec<&String> = properties.keys().filter(|name| why.contains(name.as_str())).collect();
    if names.is_empty() {
        let mends = |name: &&String| {
            let mut without = config.clone();
            without.kafka.properties.remove(*name);
            fails(&without).is_none()
        };
        names = properties.keys().filter(mends).collect();
    }
    // It only brings the others into play.
    if names.len() > 1 {
        names.retain(|name| *name != "security.protocol");
    }
    let names = if names.is_empty() { vec![String::new()] } else { names.into_iter().cloned().collect() };
    names.into_iter().map(|name| (name, why.clone(), "properties that a client can be made with".into())).collect()
}

/// Why one of the bridge's clients can't be made.
fn fails(config: &Config) -> Option<String> {
    let kafka = &config.kafka;
    let mut clients = vec![client::consumer(kafka), client::observer(kafka), client::reader(kafka), client::common(kafka)];
    if !config.dead_letter.topic.is_empty() {
        clients.push(client::producer(kafka));
    }
    if kafka.properties.keys().any(|name| name.starts_with("ssl.")) {
        // What is wrong shows before somebody switches it on.
        clients.push(client::common(kafka).set("security.protocol", "SSL").clone());
    }
    clients.into_iter().find_map(|mut client| {
        // Without brokers there is nothing to connect to.
        client.remove("bootstrap.servers");
        let made = if client.get("group.id").is_some() { client.create::<BaseConsumer>().map(drop) } else { client.create::<BaseProducer>().map(drop) };
        made.err().map(text)
    })
}

fn text(error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, ..) | KafkaError::ClientCreation(why) => why,
        other => other.to_string(),
    }
}

/// Without the values that may be secrets, should librdkafka have shown one.
fn redacted(kafka: &Kafka, text: String) -> String {
    const SECRET: [&str; 7] = ["password", "secret", "key", "pem", "username", "oauthbearer", "config"];
    let secrets = kafka.properties.iter().filter(|(name, value)| !value.0.is_empty() && SECRET.iter().any(|s| name.contains(s)));
    secrets.fold(text, |text, (_, value)| text.replace(&value.0, "***"))
}
