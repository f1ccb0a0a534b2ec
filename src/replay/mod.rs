//! A replay's shells: the job in Redis, and the loop that carries records from Kafka to the lanes.
//!
//! | file | concept |
//! |---|---|
//! | [`store`] | the job in Redis: begun, found again, counted, forgotten |
//! | [`prepare`] | from what a person asks for to a plan |
//! | [`work`] | the loop: claim, read, hand to the lanes, until the end or a stop |
//! | [`speed`] | how fast it goes, and how long it will take |
pub mod prepare;
pub mod speed;
pub mod store;
pub mod work;
