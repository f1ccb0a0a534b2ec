//! The pure core: no I/O, no clock, no random source, no environment. Time and jitter are passed in, bytes go out.
//!
//! | file | concept |
//! |---|---|
//! | [`record`] | a Kafka record, copied out of librdkafka; partition names |
//! | [`decode`] | a payload's fields by path, or the reason why it is dead |
//! | [`json`] | a text's validity and the places of its fields, in one pass |
//! | [`mod@reference`] | what templates and conditions ask of a record |
//! | [`template`] | literal text with holes, parsed once |
//! | [`condition`] | `when`: whether a route or a write is applied to a record |
//! | [`mod@write`] | one Redis command template of a route |
//! | [`rewind`] | an operator sets where a partition goes on |
//! | [`route`] | topics → writes; what a record becomes |
//! | [`encode`] | RESP |
//! | [`resp`] | replies from a connection's bytes, however they are split |
//! | [`reply`] | what Redis answered, and its triage |
//! | [`words`] | how counts and writes are named in messages |
//! | [`text`] | a byte string that needs no allocation where it is short |
//! | [`claim`] | where a claimed partition begins |
//! | [`claimer`] | becoming a partition's owner: what is read, weighed and written |
//! | [`state`] | the ledger's record in Redis, its key, its guard |
//! | [`letter`] | dead letters |
//! | [`rebuild`] | what is applied anew after the state was lost |
//! | [`lane`] | the ordered path of some partitions: queue → batch → transaction → settled |
//! | [`latency`] | how late records are applied |
//! | [`ledger`] | what has been settled per partition |
//! | [`fingerprint`] | which writes are applied to a topic |
//! | [`flow`] | a partition's phases at the poller: claim, open, pause, close |
//! | [`membership`] | the bridge's place in its group, and what is told of it |
//! | [`poller`] | the poller as a machine: what is claimed, sought, opened, committed, let go |
//! | [`progress`] | how many of the assigned partitions are open |
//! | [`refusal`] | how a refusal by Kafka ends |
//! | [`replay`] | a bounded range applied again, as a job |
//! | [`retry`] | back-off with jitter |
//! | [`telling`] | what a person is told |
//! | [`topics`] | which topics a route reads, and which none may |
//! | [`throttle`] | records a second |
//! | [`verify`] | whether Redis holds what a range must have become |
pub mod claim;
pub mod claimer;
pub mod condition;
pub mod decode;
pub mod encode;
pub mod fingerprint;
pub mod flow;
pub mod json;
pub mod lane;
pub mod latency;
pub mod ledger;
pub mod letter;
pub mod membership;
pub mod poller;
pub mod progress;
pub mod rebuild;
pub mod record;
pub mod reference;
pub mod refusal;
pub mod replay;
pub mod reply;
pub mod resp;
pub mod retry;
pub mod rewind;
pub mod route;
pub mod state;
pub mod telling;
pub mod template;
pub mod text;
pub mod throttle;
pub mod topics;
pub mod verify;
pub mod words;
pub mod write;
