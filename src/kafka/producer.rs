//! A producer that is made anew when librdkafka declares it dead: after a fatal error it takes no record any more, for good, though
//! what was wrong (a right that was withdrawn, a lost producer id) may be put right at any time.
use super::client::Returned;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use std::time::{Duration, Instant};

/// How long a producer is kept at least: none is made anew more often than this, however often it fails.
const KEPT_MIN: Duration = Duration::from_secs(1);

/// What Kafka does not allow the client to do, until a person allows it.
pub const UNAUTHORIZED: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::TopicAuthorizationFailed, RDKafkaErrorCode::ClusterAuthorizationFailed];

/// Why a record was not produced.
#[derive(Clone, Debug)]
pub struct Unproduced {
    pub code: Option<RDKafkaErrorCode>,
    pub reason: String,
}

impl Unproduced {
    /// Of a record that this producer was to send: of a dead one, what it died of.
    pub fn new(producer: &FutureProducer<Returned>, error: &KafkaError) -> Self {
        match producer.client().fatal_error() {
            // What Kafka says of this very record says more.
            Some((code, reason)) if !error.rdkafka_error_code().is_some_and(is_about_the_record) => Self { code: Some(code), reason },
            _ => Self { code: error.rdkafka_error_code(), reason: error.to_string() },
        }
    }
}

/// Whether an error is a broker's answer about a record, or librdkafka's own word.
fn is_about_the_record(code: RDKafkaErrorCode) -> bool {
    !matches!(code, RDKafkaErrorCode::Fatal | RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight | RDKafkaErrorCode::MessageTimedOut)
}

/// See the module's documentation.
pub struct Renewed {
    config: ClientConfig,
    context: Returned,
    current: Mutex<(FutureProducer<Returned>, Instant)>,
}

impl Renewed {
    /// Makes the first one.
    ///
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn new(config: ClientConfig, context: Returned) -> Result<Self, KafkaError> {
        let producer = config.create_with_context(context.clone())?;
        Ok(Self { config, context, current: Mutex::new((producer, Instant::now())) })
    }

    /// The producer, made anew where the last one is dead.
    pub fn get(&self) -> FutureProducer<Returned> {
        let mut current = self.current.lock();
        if current.0.client().fatal_error().is_some() && current.1.elapsed() >= KEPT_MIN {
            match self.config.create_with_context(self.context.clone()) {
                Ok(made) => {
                    let dead = std::mem::replace(&mut *current, (made, Instant::now())).0;
                    // Its end waits for what librdkafka still does; nobody is to wait for that.
                    let dropped = std::thread::Builder::new().name("producer-drop".into()).spawn(move || drop(dead));
                    tracing::debug!(beside = dropped.is_ok(), "a producer was dead, and is made anew");
                }
                Err(e) => tracing::debug!("a producer can't be made anew: {e}"),
            }
        }
        current.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kafka;
    use crate::kafka::client;

    #[test]
    fn a_dead_producer_says_what_it_died_of_and_is_made_anew() {
        let kafka = Kafka { brokers: Vec::new(), ..Kafka::default() };
        let mut config = client::producer(&kafka);
        config.set("test.mock.num.brokers", "1").set("bootstrap.servers", "");
        let renewed = Renewed::new(config, Returned::of(&kafka)).unwrap();
        let first = renewed.get();
        let fatal = |p: &FutureProducer<Returned>| p.client().fatal_error();
        assert_eq!(fatal(&first), None);
        let mock = first.client().mock_cluster().unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        mock.request_errors(
            rdkafka::types::RDKafkaApiKey::InitProducerId,
            &[rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 3],
        );
        let until = Instant::now() + Duration::from_secs(30);
        while fatal(&first).is_none() {
            assert!(Instant::now() < until, "the first producer did not die in 30 s");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let said = Unproduced::new(&first, &KafkaError::MessageProduction(RDKafkaErrorCode::Fatal));
        assert!(said.code == Some(RDKafkaErrorCode::ClusterAuthorizationFailed) && said.reason.contains("authorization"), "{said:?}");
        let said = Unproduced::new(&first, &KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
        assert_eq!(said.code, Some(RDKafkaErrorCode::MessageSizeTooLarge), "what is said of the record itself");
        while fatal(&renewed.get()).is_some() {
            assert!(Instant::now() < until, "no other producer came in 30 s");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
