//! Kafka's side of `check --connect`: what `run` will ask of it is asked, or named as what could not be.
use super::check::Ends;
use crate::config::Kafka;
use crate::config::validate::Valid;
use crate::core::claim::Start;
use crate::core::route::{Route, Topics};
use crate::core::words::counted;
use crate::kafka::client::{self, Reader};
use crate::kafka::log::KafkaLog;
use crate::kafka::rights::{self, Right};
use crate::sink::claim::Log as _;
use rdkafka::consumer::Consumer as _;
use std::collections::BTreeSet;
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Of so many topics at most it is asked whether they may be read.
const TOPICS_MAX: usize = 50;

/// Adds what Kafka says.
pub(super) fn ask(valid: &Valid, ends: &mut Ends) {
    let kafka = &valid.config.kafka;
    let asked = client::asking(kafka, &client::common(kafka)).and_then(|c| c.fetch_metadata(None, ANSWER_MAX).map(|metadata| (c, metadata)));
    let (client, metadata) = match asked {
        Ok(both) => both,
        Err(e) => return ends.problems.push(format!("Kafka {}: {e}; check kafka.brokers and the security properties", kafka.brokers.join(","))),
    };
    ends.found.push(format!("Kafka: {}", counted(metadata.brokers().len(), "broker")));
    let all: Vec<&str> = metadata.topics().iter().map(|t| t.name()).collect();
    let mut read = BTreeSet::new();
    for route in valid.lane.routes.iter() {
        topics(&client, route, &all, &mut read, ends);
    }
    let what = format!("group {:?}", kafka.group);
    told(&rights::group(kafka), &what, &format!("Read on the {what}"), ends);
    group(&client, kafka, ends);
    if read.len() > TOPICS_MAX {
        ends.notes.push(format!("Kafka: of {} topics only {TOPICS_MAX} are asked about: Read is needed on all", read.len()));
    }
    let log = KafkaLog::new(kafka, Start::Earliest).ok();
    for topic in read.iter().take(TOPICS_MAX) {
        let what = format!("topic {topic}");
        told(&rights::read(kafka, topic), &what, &format!("Read on the {what}"), ends);
        if let Some(Err(why)) = log.as_ref().map(|log| log.compacted(topic)) {
            ends.notes.push(format!(
                "Kafka: {what}: its cleanup.policy can't be read ({why}): without it a partition halts whose last settled record was compacted away; allow DescribeConfigs on the {what}"
            ));
        }
    }
    let dead = &valid.config.dead_letter.topic;
    if !dead.is_empty() {
        told(&rights::write(kafka, dead), &format!("dead_letter.topic {dead}"), &format!("Write on the topic {dead}"), ends);
    }
}

/// Adds what keeps this bridge out of its group, as far as that shows without joining it.
fn group(client: &Reader, kafka: &Kafka, ends: &mut Ends) {
    const STRATEGY: &str = "partition.assignment.strategy";
    // What brokers allow by default.
    const SESSIONS_MS: std::ops::RangeInclusive<u64> = 6_000..=1_800_000;
    let (ours, name) = (client::consumer(kafka), &kafka.group);
    if let Some(ms) = ours.get("session.timeout.ms").filter(|ms| ms.parse().is_ok_and(|ms| !SESSIONS_MS.contains(&ms))) {
        ends.notes.push(format!(
            "Kafka: whether the broker allows session.timeout.ms = {ms} was not asked: see its group.min.session.timeout.ms and group.max.session.timeout.ms"
        ));
    }
    let Ok(groups) = client.fetch_group_list(Some(name), ANSWER_MAX) else { return };
    let theirs = groups.groups().iter().find(|g| g.name() == name.as_str() && !g.members().is_empty()).map(|g| g.protocol().to_owned());
    if let (Some(ours), Some(theirs)) = (ours.get(STRATEGY), theirs.filter(|t| !t.is_empty()))
        && !ours.split(',').any(|one| one.trim() == theirs)
    {
        ends.problems.push(format!(
            "Kafka: the members of group {name:?} share partitions by {theirs}, and this bridge by {ours}: set {STRATEGY} to the same for all, or another kafka.group"
        ));
    }
}

/// Adds which topics of a route there are, and what may not be seen.
fn topics(client: &Reader, route: &Route, all: &[&str], read: &mut BTreeSet<String>, ends: &mut Ends) {
    for topic in &route.topics {
        let matching: Vec<&str> = match topic {
            Topics::Name(name) => vec![name.as_str()],
            Topics::Pattern(pattern) => {
                let left_out = |name: &&str| Some(format!("route {}: topic {name} is left out: {}", route.name, pattern.leaves_out(name)?));
                ends.notes.extend(all.iter().filter_map(left_out));
                let matching: Vec<&str> = all.iter().copied().filter(|name| topic.matches(name)).collect();
                if matching.is_empty() {
                    ends.problems.push(format!(
                        "route {}: no topic {} exists yet among those that this client may Describe; the bridge will wait for it",
                        route.name,
                        pattern.as_str()
                    ));
                }
                matching
            }
        };
        for name in matching {
            match rights::describe(client, name) {
                Ok(partitions) => {
                    ends.found.push(format!("route {}: topic {name} with {}", route.name, counted(partitions, "partition")));
                    read.insert(name.to_owned());
                }
                Err(Right::Missing) => ends.problems.push(format!("route {}: no topic {name} exists yet; the bridge will wait for it", route.name)),
                Err(right) => told(&right, &format!("topic {name}"), &format!("Describe and Read on the topic {name}"), ends),
            }
        }
    }
}

/// Adds what Kafka says of a right.
fn told(right: &Right, what: &str, needed: &str, ends: &mut Ends) {
    match right {
        Right::Granted => {}
        Right::Lacking => ends.problems.push(format!("Kafka: {what} is refused to this client: allow it {needed}")),
        Right::Missing => ends.problems.push(format!("Kafka: {what} does not exist: create it")),
        Right::Unknown(why) => ends.notes.push(format!("Kafka: {what} could not be asked about ({why}): this client needs {needed}")),
    }
}
