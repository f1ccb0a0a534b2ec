//! Which of librdkafka's errors a person has to see to.
use rdkafka::types::RDKafkaErrorCode;

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
