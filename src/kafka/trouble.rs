//! What Kafka's and librdkafka's errors mean to a bridge: which ones pass by themselves, and which ones a person has to see to.
use crate::core::record::TopicPartition;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};
use std::collections::HashSet;

/// The code where a broker refuses a login or a topic.
pub const KAFKA_REFUSED: &str = "kafka-refused";
/// The code where the group's coordinator keeps a member out.
pub const GROUP_REFUSED: &str = "group-refused";
/// The code where Kafka or a setting is not what a bridge needs.
pub const UNSUPPORTED: &str = "kafka-unsupported";

/// What stays wrong until a person does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The condition's stable code.
    pub code: &'static str,
    pub remedy: &'static str,
}

/// What an error means to a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It stays wrong until a person does something.
    Person(Trouble),
    /// It passes by itself, and is told where it lasts.
    Passes,
    /// No error, or one that is told elsewhere with what it does to the bridge.
    Quiet,
}

impl Meaning {
    /// What an error means; of one that this build does not know, that it passes.
    pub fn of(error: Code) -> Self {
        known(error).unwrap_or(Self::Passes)
    }
}

impl Trouble {
    /// `None`: it may pass by itself, or is no trouble.
    pub fn of(error: Code) -> Option<Self> {
        match Meaning::of(error) {
            Meaning::Person(trouble) => Some(trouble),
            Meaning::Passes | Meaning::Quiet => None,
        }
    }
}

const fn person(code: &'static str, remedy: &'static str) -> Option<Meaning> {
    Some(Meaning::Person(Trouble { code, remedy }))
}

/// Every error that has a meaning: a test asks for each that librdkafka knows.
fn known(error: Code) -> Option<Meaning> {
    refused(error).or_else(|| unfit(error)).or_else(|| passing(error)).or_else(|| foreign(error)).or_else(|| quiet(error))
}

/// Rights, credentials, and what keeps a member out of its group.
fn refused(error: Code) -> Option<Meaning> {
    match error {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::SSL
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::UnacceptableCredential
        | Code::InvalidPrincipalType
        | Code::PrincipalDeserializationFailure
        | Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired => person("kafka-refused", "check security.protocol, ssl.* and sasl.* in kafka.properties"),
        Code::TopicAuthorizationFailed => person("kafka-refused", "allow Read and Describe on the topics, and Read on the group, to this client"),
        Code::ClusterAuthorizationFailed | Code::TransactionalIdAuthorizationFailed => {
            person("kafka-refused", "allow IdempotentWrite on the cluster to this client, which the producer of dead letters needs")
        }
        Code::GroupAuthorizationFailed => person(GROUP_REFUSED, "allow Read on the group (kafka.group) to this client"),
        Code::InconsistentGroupProtocol => person(
            GROUP_REFUSED,
            "the group has members that share partitions in another way: give the bridge a kafka.group of its own, or all members the same partition.assignment.strategy and group.protocol",
        ),
        Code::UnsupportedAssignor => person(GROUP_REFUSED, "set group.remote.assignor to one that the broker has (group.consumer.assignors)"),
        Code::InvalidSessionTimeout => person(
            GROUP_REFUSED,
            "set session.timeout.ms in kafka.properties to what the broker allows: group.min.session.timeout.ms to group.max.session.timeout.ms",
        ),
        Code::GroupMaxSizeReached => {
            person(GROUP_REFUSED, "the group is full: stop a member, or raise group.max.size (classic) or group.consumer.max.size on the brokers")
        }
        Code::FencedInstanceId | Code::UnreleasedInstanceId | Code::Fenced => {
            person(GROUP_REFUSED, "another member has the same group.instance.id: give each bridge one of its own, or leave it out; then start anew")
        }
        Code::InvalidGroupId | Code::UnknownGroup => person(GROUP_REFUSED, "set kafka.group to a name that Kafka takes"),
        Code::OffsetMetadataTooLarge | Code::InvalidCommitOffsetSize => {
            person(GROUP_REFUSED, "positions cannot be committed: raise offset.metadata.max.bytes on the brokers to 128 or more")
        }
        _ => None,
    }
}

/// Topics, logs and brokers that are not as a bridge needs them.
fn unfit(error: Code) -> Option<Meaning> {
    match error {
        // librdkafka does not say of which partition. It fetches that one no further, and each claim meets it again.
        Code::BadMessage | Code::BadCompression => person(
            "kafka-corrupt",
            "find the damaged log with kafka-dump-log, and restore it from a replica or a backup, or go on behind it (rewind; a job's --from-offset); then start anew",
        ),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId => {
            person("topic-missing", "create it, or restore it")
        }
        Code::InvalidTopic => person("topic-missing", "correct the name in the route's topics: Kafka can have no such topic"),
        Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::NotImplemented
        | Code::UnknownProtocol
        | Code::InvalidRequest => person(
            UNSUPPORTED,
            "the brokers are too old for this bridge or its group.protocol, or a producer uses a codec that this build lacks: upgrade the brokers, or change the codec; see the brokers' log",
        ),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            person(UNSUPPORTED, "raise receive.message.max.bytes and fetch.message.max.bytes in kafka.properties above the largest batch of the topic")
        }
        Code::CriticalSystemResource | Code::FileSystem => {
            person(UNSUPPORTED, "the system gives this process no thread, file or memory: raise its limits; then start anew")
        }
        Code::InvalidConfig | Code::PolicyViolation | Code::InvalidArgument | Code::NotConfigured => {
            person(UNSUPPORTED, "correct the setting that the message names in kafka.properties")
        }
        _ => None,
    }
}

/// Brokers that start, leaders and coordinators that move, members that come and go, clients that are asked to wait.
fn passing(error: Code) -> Option<Meaning> {
    match error {
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ISRInsufficient
        | Code::ListenerNotFound
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::StaleControllerEpoch
        | Code::StaleBrokerEpoch
        | Code::NotController
        | Code::ReassignmentInProgress
        | Code::KafkaStorageError
        | Code::LogDirNotFound
        | Code::InconsistentVoterSet
        | Code::RebootstrapRequired => Some(Meaning::Passes),
        Code::CoordinatorLoadInProgress | Code::CoordinatorNotAvailable | Code::NotCoordinator | Code::WaitingForCoordinator | Code::UnstableOffsetCommit => {
            Some(Meaning::Passes)
        }
        Code::NetworkException
        | Code::RequestTimedOut
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::ThrottlingQuotaExceeded
        | Code::QueueFull
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::Underflow => Some(Meaning::Passes),
        _ => None,
    }
}

/// Nothing that a bridge asks is answered by these: transactions, administration, telemetry. Should one come, it is told where it lasts.
fn foreign(error: Code) -> Option<Meaning> {
    match error {
        Code::Unknown
        | Code::Fail
        | Code::InvalidRequiredAcks
        | Code::TopicAlreadyExists
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::UnknownProducerId
        | Code::InvalidTransactionalState
        | Code::InvalidProducerIdMapping
        | Code::InvalidTransactionTimeout
        | Code::ConcurrentTransactions
        | Code::TransactionCoordinatorFenced
        | Code::OperationNotAttempted
        | Code::NonEmptyGroup
        | Code::GroupIdNotFound
        | Code::GroupSubscribedToTopic
        | Code::TopicDeletionDisabled
        | Code::ElectionNotNeeded
        | Code::NoReassignmentInProgress
        | Code::ResourceNotFound
        | Code::DuplicateResource
        | Code::InvalidUpdateVersion
        | Code::FeatureUpdateFailed
        | Code::UnknownSubscriptionId
        | Code::TelemetryTooLarge
        | Code::InvalidDifferentRecord
        | Code::GaplessGuarantee
        | Code::Inconsistent => Some(Meaning::Passes),
        _ => None,
    }
}

fn quiet(error: Code) -> Option<Meaning> {
    match error {
        // One connection of several: where all are gone, AllBrokersDown says so.
        Code::BrokerTransportFailure | Code::Resolve | Code::UnknownBroker | Code::NodeUpdate | Code::AllBrokersDown | Code::DestroyBroker => {
            Some(Meaning::Quiet)
        }
        // A member that Kafka knows no more joins again at once; whether it gets in shows by the statistics.
        Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::RebalanceInProgress
        | Code::MemberIdRequired
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::PollExceeded
        | Code::AssignmentLost => Some(Meaning::Quiet),
        // The partition is claimed again, and its claim tells what became of the log.
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation | Code::NoOffset => Some(Meaning::Quiet),
        // What librdkafka says to itself, and how calls of its interface end.
        Code::NoError
        | Code::Begin
        | Code::End
        | Code::EndAll
        | Code::PartitionEOF
        | Code::BrokerDestroy
        | Code::InProgress
        | Code::PreviousInProgress
        | Code::ExistingSubscription
        | Code::AssignPartitions
        | Code::RevokePartitions
        | Code::Conflict
        | Code::State
        | Code::Outdated
        | Code::WaitCache
        | Code::Interrupted
        | Code::KeySerialization
        | Code::ValueSerialization
        | Code::KeyDeserialization
        | Code::ValueDeserialization
        | Code::Partial
        | Code::ReadOnly
        | Code::NoEnt
        | Code::InvalidType
        | Code::Retry
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::Application
        | Code::Noop => Some(Meaning::Quiet),
        // Ends the client: told by what ends the bridge.
        Code::Fatal => Some(Meaning::Quiet),
        _ => None,
    }
}

/// Every error that librdkafka knows.
fn all() -> impl Iterator<Item = Code> {
    (-200..=200).filter_map(|n: i32| RDKafkaRespErr::try_from(n).ok()).map(Code::from)
}

/// Which error a text of librdkafka's ends with.
pub fn named(text: &str) -> Option<Code> {
    // An error is shown as its name, and in parentheses the words that librdkafka uses.
    let says = |code: &Code| code.to_string().split_once('(').is_some_and(|(_, words)| text.ends_with(words.trim_end_matches(')')));
    all().filter(|code| *code != Code::NoError).find(says)
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
    fn every_error_that_librdkafka_knows_has_a_meaning() {
        assert!(all().count() > 150, "they were found");
        let without: Vec<Code> = all().filter(|code| known(*code).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn an_error_means_one_thing() {
        for code in all() {
            let meanings = [refused(code), unfit(code), passing(code), foreign(code), quiet(code)];
            assert_eq!(meanings.iter().flatten().count(), 1, "{code:?}");
        }
    }

    #[test]
    fn an_error_is_known_by_the_words_that_librdkafka_has_for_it() {
        for code in [Code::GroupAuthorizationFailed, Code::NotCoordinator, Code::InvalidSessionTimeout] {
            let words = code.to_string();
            let words = words.split_once('(').unwrap().1.trim_end_matches(')');
            assert_eq!(named(&format!("Consumer group session timed out (last error was {words}")), Some(code));
        }
        assert_eq!(named("no error at all"), None);
    }

    #[test]
    fn a_refusal_has_passed_for_a_partition_that_was_answered_about_and_for_no_other() {
        let (a, b) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let refused = |refusals: &mut Refusals| refusals.refused(Trouble::of(Code::Authentication).unwrap(), "no".into());
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
