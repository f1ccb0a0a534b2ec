//! What Kafka's errors and the group's state come to: each is taken note of, told, or ends the bridge.
use super::super::poller::Consumer;
use super::super::statistics::Statistics;
use super::super::trouble::{self, GROUP_REFUSED, KAFKA_REFUSED, Meaning, UNSUPPORTED};
use super::Driver;
use crate::core::membership::{Place, Step};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::sync::atomic::Ordering;

impl Driver {
    pub(super) fn look_at_group(&mut self, statistics: &Statistics) {
        let Some(group) = &statistics.cgrp else { return };
        let now = self.clock.now();
        if group.rebalance_reason != self.left_group {
            self.left_group.clone_from(&group.rebalance_reason);
            // Refused heartbeats are told by nothing else, and end the session.
            let last = group.rebalance_reason.split_once("last error was ").and_then(|(_, error)| trouble::named(error.trim_end_matches(')')));
            if let Some(code) = last {
                self.hear(code, &group.rebalance_reason);
            }
        }
        let place = Place {
            step: match (group.state.as_str(), group.join_state.as_str()) {
                ("up", "init") => Step::Begins,
                ("up", "wait-join") => Step::Joins,
                ("up", "wait-metadata" | "wait-sync") => Step::Syncs,
                ("up", _) => Step::Joined,
                _ => Step::Coordinator,
            },
            partitions: usize::try_from(group.assignment_size).unwrap_or_default(),
            syncs: statistics.brokers.values().map(|b| b.req.sync_group).sum(),
            explained: ["kafka-unreachable", "kafka-refused", "topic-missing"].iter().any(|c| self.conditions.holds(c)),
        };
        let told = self.membership.seen(place, now);
        told.into_iter().for_each(|t| self.tell(t));
        let bare = self.membership.bare(now);
        self.bare.store(bare, Ordering::Relaxed);
        if !bare {
            self.conditions.clear("no-partitions", "group");
        }
    }

    /// What librdkafka says by its callback; the same comes by [`Self::poll_error`] without its words.
    pub fn client_error(&mut self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let message = if self.unreached.is_empty() { reason.to_owned() } else { format!("{reason}; the last one: {}", self.unreached) };
                self.conditions.raise("kafka-unreachable", "kafka", &message, "the bridge goes on by itself when a broker answers; check kafka.brokers")
            }
            Some(code) => self.hear(code, reason),
            None => tracing::debug!("librdkafka: {error}: {reason}"),
        }
    }

    /// A commit was refused.
    pub fn commit_error(&mut self, error: &KafkaError) {
        if let Some(code) = error.rdkafka_error_code() {
            self.hear(code, &format!("positions can't be committed: {code}"));
        }
    }

    fn hear(&mut self, code: RDKafkaErrorCode, reason: &str) {
        let now = self.clock.now();
        let told = match Meaning::of(code) {
            // Of a missing topic the claimer finds out which it is, and of one that may not be seen, for as long as that is so.
            Meaning::Person(trouble) if trouble.code == "topic-missing" || reason.starts_with("Subscribed topic not available") => {
                self.topic_missing.store(true, Ordering::Relaxed);
                Vec::new()
            }
            Meaning::Person(trouble) if [GROUP_REFUSED, UNSUPPORTED].contains(&trouble.code) => {
                self.membership.refused(trouble.code, reason, trouble.remedy, now)
            }
            Meaning::Person(trouble) => {
                self.conditions.alert(trouble.code, "kafka", reason, trouble.remedy);
                if trouble.code == KAFKA_REFUSED {
                    reason.clone_into(&mut self.refused_by);
                    self.topic_refused.store(true, Ordering::Relaxed);
                    self.poller.refused(now);
                }
                Vec::new()
            }
            Meaning::Passes => self.membership.failed(reason, now).into_iter().collect(),
            Meaning::Quiet => {
                if matches!(code, RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) {
                    reason.clone_into(&mut self.unreached);
                }
                Vec::new()
            }
        };
        tracing::debug!("librdkafka: {code}: {reason}");
        told.into_iter().for_each(|t| self.tell(t));
    }

    /// What comes in place of a record: ends the bridge where the client is dead. All else was told by [`Self::client_error`].
    pub fn poll_error(&mut self, consumer: &Consumer, error: &KafkaError) {
        if matches!(error, KafkaError::MessageConsumptionFatal(_) | KafkaError::MessageConsumption(RDKafkaErrorCode::Fatal)) {
            let fatal = consumer.client().fatal_error();
            let remedy = fatal.as_ref().and_then(|(code, _)| trouble::Trouble::of(*code)).map(|t| format!(". What to do: {}", t.remedy));
            let why = fatal.map_or_else(|| error.to_string(), |(_, why)| why);
            self.poller.stop(Some(format!("Kafka: {why}{}", remedy.unwrap_or_default())));
        }
    }
}
