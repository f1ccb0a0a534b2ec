//! Kafka: thin shells around the core.
//!
//! | file | concept |
//! |---|---|
//! | [`client`] | librdkafka's settings, every one that matters explicit |
//! | [`driver`] | what the poller does with librdkafka, around the machine in `core/poller.rs` |
//! | [`poller`] | the thread that owns the consumer, and its callbacks |
//! | [`log`] | what the claimer asks Kafka |
//! | [`facts`] | what claims have to know, for many partitions at once |
//! | [`range`] | a bounded range of a partition, read without a group |
//! | [`ranges`] | several partitions of a topic, read without a group |
//! | [`letters`] | the dead-letter topic |
//! | [`producer`] | a producer that is made anew when it is dead |
//! | [`publisher`] | what readers' clients publish |
//! | [`rights`] | whether this client may do what `run` will do, for `check --connect` |
//! | [`statistics`] | what is read of librdkafka's statistics |
//! | [`token`] | tokens for SASL OAUTHBEARER, by a command |
//! | [`trouble`] | what Kafka's and librdkafka's errors mean: which pass, and which a person has to see to |
pub mod client;
pub mod driver;
pub mod facts;
pub mod letters;
pub mod log;
pub mod poller;
pub mod producer;
pub mod publisher;
pub mod range;
pub mod ranges;
pub mod rights;
pub mod statistics;
pub mod token;
pub mod trouble;
