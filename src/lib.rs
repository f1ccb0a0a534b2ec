//! Moves records from Kafka topics into Redis: in order, exactly once, as fast as Redis takes them.
//!
//! ```text
//! Kafka ──▶ poller ──▶ lane: decode ▶ route ▶ batch ──▶ writer ──▶ Redis
//!             ▲                                            │
//!             └──────────── settled ranges ◀───────────────┘
//! ```
//! `ARCHITECTURE.md` has the map and the invariants. The [`core`] is pure; [`kafka`], [`sink`] and [`ops`] are thin
//! shells around it; [`serve`] is the readers' side; [`app`] is the only wiring.
pub mod app;
pub mod cli;
pub mod config;
pub mod core;
pub mod kafka;
pub mod ops;
pub mod replay;
pub mod serve;
pub mod sink;
