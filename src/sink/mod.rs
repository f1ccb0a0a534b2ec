//! Redis: thin shells around the core.
//!
//! | file | concept |
//! |---|---|
//! | [`connection`] | a connection; bytes in, replies out |
//! | [`claim`] | the claimer: becoming a partition's owner |
//! | [`lane`] | a lane's thread around [`crate::core::lane`] |
//! | [`preflight`] | whether this Redis can keep what is promised |
pub mod claim;
pub mod connection;
pub mod lane;
pub mod preflight;
