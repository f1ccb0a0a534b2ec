//! Kafka: thin shells around the core.
//!
//! | file | concept |
//! |---|---|
//! | [`client`] | librdkafka's settings, every one that matters explicit |
//! | [`brain`] | what the poller knows and does: messages in, partitions claimed, opened, paused, committed, let go |
//! | [`poller`] | the thread that owns the consumer, and its callbacks |
//! | [`log`] | what the claimer asks Kafka |
//! | [`letters`] | the dead-letter topic |
pub mod brain;
pub mod client;
pub mod letters;
pub mod log;
pub mod poller;
