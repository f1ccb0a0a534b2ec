//! A replay: a bounded range of a topic's records, applied again as a job of its own, beside the live bridge.
//!
//! | file | concept |
//! |---|---|
//! | [`bounds`] | where a range begins and ends, as a person says it |
//! | [`claim`] | a process takes a job's partitions |
//! | [`completion`] | a job is marked as complete where its states say so |
//! | [`decide`] | whether a write may go, by what stands at its key |
//! | [`earlier`] | jobs that wrote under the same prefix before |
//! | [`end`] | where a log ends, as who reads it is shown it |
//! | [`job`] | what a job keeps in Redis |
//! | [`leave`] | a process lets go of a job |
//! | [`partitions`] | lists of partitions |
//! | [`plan`] | what a job will do, frozen |
//! | [`policy`] | what each write does in a replay |
//! | [`run`] | a job under way: what is claimed, read, handed over, let go |
//! | [`sample`] | which records a dry run shows |
//! | [`talk`] | what is settled with Redis in some exchanges: a claim, a completion, a leave |
//! | [`unfinished`] | a job that is not complete, and a live bridge that was set back |
//! | [`version`] | which of two values is newer |
pub mod bounds;
pub mod claim;
pub mod completion;
pub mod decide;
pub mod earlier;
pub mod end;
pub mod job;
pub mod leave;
pub mod partitions;
pub mod plan;
pub mod policy;
pub mod run;
pub mod sample;
pub mod talk;
pub mod unfinished;
pub mod version;
