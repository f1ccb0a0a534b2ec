//! The readers' side: an HTTP API over what the routes write.
//!
//! ```text
//! client ──▶ listener ──▶ gate ──▶ read ────▶ store ──▶ Redis
//!                          │  └──▶ publish ─▶ Kafka (and the request's mark in Redis)
//!                          └─────▶ feed ◀── hub ◀── Redis (one connection)
//! ```
//!
//! | file | concept |
//! |---|---|
//! | [`offer`] | what a route offers, read from its writes |
//! | `api` | the paths, and the OpenAPI document that comes of them |
//! | [`access`] | who may do what, and how often |
//! | [`path`] | keys in paths |
//! | [`query`] | what stands behind the `?` |
//! | [`problem`] | errors |
//! | [`answer`] | a body with its tag |
//! | [`known`] | the last known answers |
//! | `read` | latest, history, lists |
//! | [`entry`] | a stream's entries as JSON |
//! | [`store`] | Redis |
//! | `live` | the hub: from one connection to any number of clients |
//! | `feed` | what one live client gets |
//! | `stretch` | the entries behind what somebody has, and whether any may be missing |
//! | `sweep` | the indexes of keys stay as large as the data |
//! | `publish` | updates into Kafka |
//! | `schema` | what the OpenAPI document says of bodies |
//! | `page` | the dashboard at `/` |
pub mod access;
pub mod answer;
mod api;
pub mod entry;
mod feed;
pub mod known;
mod live;
pub mod offer;
mod page;
pub mod path;
pub mod problem;
mod publish;
pub mod query;
mod read;
mod schema;
pub mod store;
mod stretch;
mod sweep;

use self::access::Gate;
use self::known::Known;
use self::live::Hub;
use self::offer::Offer;
use self::store::Store;
use crate::config::Serve;
use crate::config::serve::Scope;
use crate::config::validate::Valid;
use crate::core::route::Route;
use crate::kafka::publisher::Publisher;
use axum::Router;
use std::sync::Arc;

pub use self::api::document;

/// What all requests share.
pub struct Api {
    serve: Serve,
    offers: Vec<Offer>,
    /// The route behind /api/v1/streaming.
    streaming: Option<usize>,
    routes: Arc<[Route]>,
    prefix: String,
    group: String,
    gate: Gate,
    store: Store,
    known: Known,
    hub: Hub,
    publisher: Publisher,
}

impl Api {
    /// # Errors
    /// A token that can't be read; a property that librdkafka does not know.
    pub fn new(valid: &Valid) -> Result<Arc<Self>, String> {
        let config = &valid.config;
        let serve = config.serve.clone();
        let offers = Offer::all(config, &valid.lane.routes);
        let streaming = if serve.streaming.is_empty() && config.route.len() == 1 { Some(0) } else { offers.iter().position(|o| o.name == serve.streaming) };
        // Kafka is given up on before the client's time is over.
        let publisher = Publisher::new(&config.kafka, serve.timeout.0 * 4 / 5).map_err(|e| format!("Kafka: {e}"))?;
        Ok(Arc::new(Self {
            offers,
            streaming,
            routes: valid.lane.routes.clone(),
            prefix: config.redis.state_prefix.clone(),
            group: config.kafka.group.clone(),
            gate: Gate::new(&serve)?,
            store: Store::new(config.redis.clone()),
            known: Known::default(),
            hub: Hub::default(),
            publisher,
            serve,
        }))
    }

    /// Logs who may do what, and what there is.
    pub fn tell(&self) {
        tracing::info!("who may read: {}", self.gate.who(Scope::Read));
        tracing::info!("who may publish: {}", self.gate.who(Scope::Publish));
        match self.streaming {
            Some(s) => tracing::info!(route = self.offers[s].name, "/api/v1/streaming"),
            None => tracing::info!("/api/v1/streaming is none of several routes: serve.streaming names it"),
        }
        for offer in &self.offers {
            offer.lacks.iter().for_each(|lack| tracing::info!(route = offer.name, "{lack}"));
        }
    }

    /// Waits for what is on its way to Kafka.
    pub fn flush(&self) {
        self.publisher.flush(self.serve.timeout.0);
    }

    /// The paths of the API, and the page over it; to be called within the runtime that serves them.
    pub fn router(self: &Arc<Self>) -> Router {
        tokio::spawn(live::run(self.clone()));
        tokio::spawn(sweep::run(self.clone()));
        api::router(self.clone())
    }
}
