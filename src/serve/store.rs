//! Redis, as readers use it: one connection that everybody shares, made anew when it is lost, with so many requests on it at
//! most, each with its time. Answers of many values, as histories are, come over some connections of the lanes' kind beside it:
//! redis-rs takes about as long for each value as Redis needs for the whole of it.
use super::problem::Problem;
use crate::config;
use crate::core::encode::Encoder;
use crate::core::reply::{Class, Reply, first_error, triage};
use crate::sink::connection::{Connection, Connector};
use crate::sink::failure;
use axum::http::StatusCode;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Semaphore};

/// Requests to Redis under way at most; more wait.
const REQUESTS_MAX: usize = 1024;
/// Requests of many values under way at most, each with a connection; more wait.
const MANY_MAX: usize = 4;
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

impl Failure {
    /// From an error reply, and how it is told.
    fn reply(line: &str, told: String) -> Self {
        match triage(line) {
            Class::Transient | Class::Capacity => Self::Away(told),
            Class::Permanent | Class::Permission | Class::Unknown => Self::Refused(told),
        }
    }
}

impl From<RedisError> for Failure {
    fn from(e: RedisError) -> Self {
        let Some(code) = e.code() else { return Self::Away(e.to_string()) };
        Self::reply(&format!("{code} {}", e.detail().unwrap_or_default()), e.to_string())
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
    /// Those for answers of many values that are not in use, with the generation they are of, and how many may be in use.
    idle: parking_lot::Mutex<Vec<(Connection, u64)>>,
    many: Arc<Semaphore>,
}

impl Store {
    pub fn new(mut config: config::Redis) -> Self {
        for timeout in [&mut config.connect_timeout.0, &mut config.response_timeout.0] {
            *timeout = PATIENCE.min(*timeout);
        }
        let connector = Connector::new(config);
        Self {
            connector,
            slot: Mutex::default(),
            permits: Semaphore::new(REQUESTS_MAX),
            idle: parking_lot::Mutex::default(),
            many: Arc::new(Semaphore::new(MANY_MAX)),
        }
    }

    /// A connection of one's own, whose pushed messages go to `pushed` in one order with the replies.
    pub async fn connect(&self, pushed: Option<impl AsyncPushSender>) -> Result<MultiplexedConnection, Failure> {
        let client = self.connector.client().map_err(|e| Failure::Away(e.to_string()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connector.connect_timeout()))
            .set_response_timeout(Some(self.connector.response_timeout()));
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
        let Ok(_permit) = self.permits.acquire().await else { return Err(stopping()) };
        let (mut connection, generation) = self.shared().await?;
        let answer = pipeline.query_async(&mut connection).await;
        if let Err(e) = &answer
            && e.code().is_none()
        {
            // Not an answer of the server's: what comes on this connection is not waited for.
            self.lost(generation).await;
        }
        answer.map_err(Failure::from)
    }

    /// Asks all commands, whose answers have many values.
    pub async fn ask_many(&self, commands: Encoder) -> Result<Vec<Reply>, Failure> {
        let Ok(permit) = self.many.clone().acquire_owned().await else { return Err(stopping()) };
        let (_, generation) = self.shared().await?;
        let idle = std::iter::from_fn(|| self.idle.lock().pop()).find(|(_, of)| *of == generation);
        let connector = self.connector.clone();
        let exchange = move |mut connection: Connection| Ok((connection.exchange(commands.bytes(), commands.commands())?, connection));
        let asked = tokio::task::spawn_blocking(move || {
            // Until it is over, whether somebody still waits or not.
            let _permit = permit;
            // One that lay idle may have been closed meanwhile.
            let answer: Option<Result<_, failure::Failure>> = idle.map(|(connection, _)| exchange(connection));
            if let Some(Ok(answer)) = answer { Ok(answer) } else { exchange(connector.connect()?) }
        });
        match asked.await {
            Ok(Ok((replies, connection))) => {
                self.idle.lock().push((connection, generation));
                first_error(&replies).map(|line| Failure::reply(line, line.to_owned())).map_or(Ok(replies), Err)
            }
            Ok(Err(failure)) => {
                self.lost(generation).await;
                Err(Failure::Away(failure.reason))
            }
            Err(_) => Err(stopping()),
        }
    }

    /// The shared connection, if it is still that one, is made anew; the idle ones of its time are left.
    async fn lost(&self, generation: u64) {
        let mut slot = self.slot.lock().await;
        if slot.generation == generation {
            slot.connection = None;
        }
    }
}

fn stopping() -> Failure {
    Failure::Away("the server stops".into())
}
