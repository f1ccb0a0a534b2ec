//! Which of librdkafka's errors a person has to see to.
use crate::core::record::TopicPartition;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::HashSet;

/// What stays wrong until a person does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The condition's stable code.
    pub code: &'static str,
    pub remedy: &'static str,
}

impl Trouble {
    /// `None`: it may pass by itself, or is no trouble.
    pub fn of(error: RDKafkaErrorCode) -> Option<Self> {
        match error {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL => {
                Some(Self { code: "kafka-refused", remedy: "check security.protocol, ssl.* and sasl.* in kafka.properties" })
            }
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
                Some(Self { code: "kafka-refused", remedy: "allow Read and Describe on the topics, and Read on the group, to this client" })
            }
            // librdkafka does not say of which partition. It fetches that one no further, and each claim meets it again.
            RDKafkaErrorCode::BadMessage => Some(Self {
                code: "kafka-corrupt",
                remedy: "find the damaged log with kafka-dump-log, and restore it from a replica or a backup, or go on behind it (rewind; a job's --from-offset); then start anew",
            }),
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition => {
                Some(Self { code: "topic-missing", remedy: "create it, or restore it" })
            }
            _ => None,
        }
    }
}

/// How brokers refused a client. They do not say of which partitions: of any about which none has answered since.
#[derive(Debug, Default)]
pub struct Refusals {
    last: Option<(Trouble, String)>,
    answered: HashSet<TopicPartition>,
}

impl Refusals {
    /// A broker refused the client.
    pub fn refused(&mut self, trouble: Trouble, why: String) {
        self.last = Some((trouble, why));
        self.answered.clear();
    }

    /// A broker answered what it was asked about a partition.
    pub fn answered(&mut self, at: &TopicPartition) {
        if self.last.is_some() {
            self.answered.insert(at.clone());
        }
    }

    /// Why a partition can't be asked about.
    pub fn of(&self, at: &TopicPartition) -> Option<(Trouble, String)> {
        self.last.clone().filter(|_| !self.answered.contains(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_passed_for_a_partition_that_was_answered_about_and_for_no_other() {
        let (a, b) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let refused = |refusals: &mut Refusals| refusals.refused(Trouble::of(RDKafkaErrorCode::Authentication).unwrap(), "no".into());
        let mut refusals = Refusals::default();
        refusals.answered(&a);
        assert!(refusals.of(&a).is_none() && refusals.of(&b).is_none());
        refused(&mut refusals);
        assert!(refusals.of(&a).is_some() && refusals.of(&b).is_some());
        refusals.answered(&a);
        assert!(refusals.of(&a).is_none() && refusals.of(&b).is_some());
        refused(&mut refusals);
        assert!(refusals.of(&a).is_some(), "it was refused once more");
    }
}
