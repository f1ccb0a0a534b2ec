//! Redis, as readers use it: one connection that everybody shares, made anew when it is lost, with so many requests on it at
//! most, each with its time.
use super::problem::Problem;
use crate::core::reply::{Class, triage};
use crate::sink::connection::Connector;
use axum::http::StatusCode;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// Requests to Redis under way at most; more wait.
const REQUESTS_MAX: usize = 1024;
/// How long after a failed attempt none is made: whoever asks meanwhile is told at once.
const PAUSE: Duration = Duration::from_millis(200);
/// A reader does not wait longer for an answer than this, whatever the bridge's own connections may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why Redis gave no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It is away, or takes no commands now: passes by itself.
    Away(String),
    /// It refuses this command.
    Refused(String),
}

impl From<RedisError> for Failure {
    fn from(e: RedisError) -> Self {
        let Some(code) = e.code() else { return Self::Away(e.to_string()) };
        let line = format!("{code} {}", e.detail().unwrap_or_default());
        match triage(&line) {
            Class::Transient | Class::Capacity => Self::Away(e.to_string()),
            Class::Permanent | Class::Permission | Class::Unknown => Self::Refused(e.to_string()),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(why) => Self::away("redis-away", format!("Redis gives no answer now ({why}); it is asked again with the next request")),
            Failure::Refused(why) => Self::new(StatusCode::BAD_GATEWAY, "redis-refused", format!("Redis refuses to answer: {why}")),
        }
    }
}

#[derive(Default)]
struct Slot {
    connection: Option<MultiplexedConnection>,
    /// Which connection it is.
    generation: u64,
    failed: Option<(Instant, String)>,
}

/// Who answers a pipeline.
pub(super) trait Ask {
    async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Failure>;
}

/// A connection of one's own.
impl Ask for MultiplexedConnection {
    async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Failure> {
        Ok(pipeline.query_async(&mut self.clone()).await?)
    }
}

/// The connection that everybody shares.
impl Ask for Store {
    async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Failure> {
        Self::ask(self, pipeline).await
    }
}

/// See the module's documentation.
pub struct Store {
    connector: Connector,
    slot: Mutex<Slot>,
    permits: Semaphore,
}

impl Store {
    pub fn new(connector: Connector) -> Self {
        Self { connector, slot: Mutex::default(), permits: Semaphore::new(REQUESTS_MAX) }
    }

    /// A connection of one's own, whose pushed messages go to `pushed` in one order with the replies.
    pub async fn connect(&self, pushed: Option<impl AsyncPushSender>) -> Result<MultiplexedConnection, Failure> {
        let client = self.connector.client().map_err(|e| Failure::Away(e.to_string()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connector.connect_timeout().min(PATIENCE)))
            .set_response_timeout(Some(self.connector.response_timeout().min(PATIENCE)));
        let config = if let Some(pushed) = pushed { config.set_push_sender(pushed) } else { config };
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(|e| Failure::Away(e.to_string()))
    }

    async fn shared(&self) -> Result<(MultiplexedConnection, u64), Failure> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((connection.clone(), slot.generation));
        }
        if let Some((_, why)) = slot.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(Failure::Away(why.clone()));
        }
        match self.connect(None::<tokio::sync::mpsc::UnboundedSender<redis::PushInfo>>).await {
            Ok(connection) => {
                if slot.failed.take().is_some() {
                    tracing::info!("Redis answers again");
                }
                slot.generation += 1;
                slot.connection = Some(connection.clone());
                Ok((connection, slot.generation))
            }
            Err(failure) => {
                let (Failure::Away(why) | Failure::Refused(why)) = &failure;
                if slot.failed.replace((Instant::now(), why.clone())).is_none() {
                    tracing::warn!(code = "redis-unreachable", "reading waits for Redis, which is tried again with each request: {why}");
                }
                Err(failure)
            }
        }
    }

    /// Asks all of a pipeline, and reads the answers.
    pub async fn ask<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Failure> {
        let Ok(_permit) = self.permits.acquire().await else { return Err(Failure::Away("the server stops".into())) };
        let (mut connection, generation) = self.shared().await?;
        let answer = pipeline.query_async(&mut connection).await;
        if let Err(e) = &answer
            && e.code().is_none()
        {
            // Not an answer of the server's: what comes on this connection is not waited for.
            let mut slot = self.slot.lock().await;
            if slot.generation == generation {
                slot.connection = None;
            }
        }
        answer.map_err(Failure::from)
    }
}
