//! Whether Redis holds what the records of a range must have become.
//!
//! | file | concept |
//! |---|---|
//! | [`model`] | what must be there, gathered record after record |
//! | [`members`] | hashes, sets and sorted sets, element by element |
//! | [`compare`] | what is there, against it |
//! | [`others`] | what else may have written a key: what lies outside of the range |
pub mod compare;
pub mod members;
pub mod model;
pub mod others;
