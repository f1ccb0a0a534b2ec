//! Redis: thin shells around the core.
//!
//! | file | concept |
//! |---|---|
//! | [`connection`] | a connection; bytes in, replies out |
//! | [`claim`] | the claimer: becoming a partition's owner |
//! | [`figures`] | its memory and the lengths of streams, for /metrics |
//! | [`lane`] | a lane's thread around [`crate::core::lane`] |
//! | [`failure`] | why Redis can't be used, and what to do |
//! | [`vigil`] | names a Redis that does not answer while it is waited for |
//! | `plain` | sockets, and the core's own decoder |
//! | `tls` | TLS, and whether a port speaks it |
//! | `low_water` | how many bytes wake a reader |
//! | [`preflight`] | whether this Redis can keep what is promised |
//! | `commands` | what it says of the routes' commands |
//! | `permits` | whether the ACL user may do what will be done |
pub mod claim;
mod commands;
pub mod connection;
pub mod failure;
pub mod figures;
pub mod lane;
mod low_water;
mod permits;
mod plain;
pub mod preflight;
mod tls;
pub mod vigil;
