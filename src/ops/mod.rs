//! Operations: what an operator sees and steers.
//!
//! | file | concept |
//! |---|---|
//! | [`conditions`] | what holds now, since when, and what to do |
//! | [`status`] | a snapshot of everything, as /status serves it |
//! | [`http`] | /livez /readyz /metrics /status |
//! | [`listener`] | a listener whose clients are bounded |
//! | [`metrics`] | Prometheus text |
//! | [`signals`] | SIGTERM, SIGINT, SIGHUP |
//! | [`telemetry`] | structured logs |
pub mod conditions;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod signals;
pub mod status;
pub mod telemetry;
