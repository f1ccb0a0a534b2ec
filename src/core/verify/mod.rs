//! Whether Redis holds what the records of a range must have become.
//!
//! | file | concept |
//! |---|---|
//! | [`model`] | what must be there, gathered record after record |
//! | [`compare`] | what is there, against it |
pub mod compare;
pub mod model;
