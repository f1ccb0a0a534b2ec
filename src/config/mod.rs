//! The configuration: its tree (whose doc comments are the reference), loading, validation, compilation.
//!
//! | file | concept |
//! |---|---|
//! | `mod` | the tree with its defaults |
//! | [`redis_url`], [`tls`] | where Redis is, and who we are to it |
//! | [`units`] | durations and sizes that carry their unit |
//! | [`load`] | the layers, merged |
//! | `layers` | what each layer says |
//! | `places` | where the keys of the file stand |
//! | `shape` | every mistake of the merged tree's shape at once |
//! | `suggest` | what a wrong key or value was meant to be |
//! | [`validate`] | the rules across fields |
//! | `secrets` | values that are never shown |
//! | `routes` | the routes compiled for the core |
//! | `pattern` | what a topic pattern may say |
//! | `conditions` | `when`, and what an error of it does |
//! | `policies` | what each write does in a replay |
//! | [`serve`] | the readers' side |
//! | [`mod@reference`] | the schema and the reference page, generated |
mod conditions;
mod layers;
pub mod load;
mod pattern;
mod places;
mod policies;
pub mod redis_url;
pub mod reference;
mod routes;
mod secrets;
pub mod serve;
mod shape;
mod suggest;
pub mod tls;
pub mod units;
pub mod validate;

pub use self::conditions::OnConditionError;
pub use self::policies::{Replay, TtlFrom};
pub use self::secrets::{Property, Secret};
pub use self::serve::Serve;
use self::units::{Period, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole configuration. Every key but the routes has a default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub kafka: Kafka,
    pub redis: Redis,
    pub batch: Batch,
    pub drain: Drain,
    pub dead_letter: DeadLetter,
    pub limit: Limit,
    pub http: Http,
    pub serve: Serve,
    pub log: Log,
    /// The routes: topics → writes. At least one; only from the file.
    pub route: Vec<Route>,
}

/// Where the records come from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Bootstrap brokers, `host:port`: a list, or a text with commas.
    #[schemars(extend("type" = ["array", "string"]))]
    pub brokers: Vec<String>,
    /// The consumer group, by which several bridges share the partitions.
    pub group: String,
    /// Where the group begins that has no position yet: `earliest`, `latest`, or an RFC 3339 time: at the first record that is as late. Before 1970 it is the earliest; where no record is as late, the latest.
    pub start: String,
    /// SASL OAUTHBEARER: a command with its arguments that prints a token, as MSK IAM and OIDC have them: a JWT, or JSON such as
    /// `{"token": "...", "expires_in": 900}` ([tokens](delivery.md#tokens-for-kafka)). It is run again before the token expires.
    pub token_command: Vec<String>,
    /// Any librdkafka property, such as `security.protocol`; those the bridge must own are refused by name.
    pub properties: BTreeMap<String, Property>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: vec!["127.0.0.1:9092".into()],
            group: "kafka-redis-bridge".into(),
            start: "earliest".into(),
            token_command: Vec::new(),
            properties: BTreeMap::new(),
        }
    }
}

/// Where the records go.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://user:password@host:port/db`; `rediss://` for TLS, `redis+unix:///path?db=0&user=...&pass=...` for a socket. User and
    /// password stand here or below; what is none of these parts is refused.
    pub url: Secret,
    /// The ACL user. Without a password it authenticates with an empty one, as a user with `nopass` may.
    pub user: String,
    /// The password; better from the environment or by `password_file`.
    pub password: Secret,
    /// A file that holds the password: a systemd credential, a container's secret.
    pub password_file: String,
    /// TLS: a PEM file with the certificate authorities to trust. Empty: those of the system.
    pub ca_file: String,
    /// TLS: a PEM file with the client's certificate, for a server that asks for one.
    pub cert_file: String,
    /// TLS: a PEM file with the key of `cert_file`.
    pub key_file: String,
    /// `exactly-once`: the position is kept in the same transaction as the data. `at-least-once`: in Kafka's commits
    /// only; after a failure some records are applied again.
    pub guarantee: Guarantee,
    /// When the state is gone from Redis, but Kafka has a commit of ours: `halt` the partition, `resume` from the
    /// commit, or `rebuild`: apply everything from `kafka.start` on anew, without PUBLISH up to the commit; a partition
    /// that meets a stream which survived the loss halts.
    pub on_state_lost: OnStateLost,
    /// The first part of the name of every key that the bridge keeps for itself.
    pub state_prefix: String,
    /// Connections over which the partitions are spread; a few saturate one Redis. 1 to 64.
    pub lanes: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Period,
    /// How long an answer may take before the connection is given up and the state read again.
    pub response_timeout: Period,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: Secret("redis://127.0.0.1:6379/0".into()),
            user: String::new(),
            password: Secret::default(),
            password_file: String::new(),
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            guarantee: Guarantee::ExactlyOnce,
            on_state_lost: OnStateLost::Halt,
            state_prefix: "bridge".into(),
            lanes: 2,
            connect_timeout: Period::secs(5),
            response_timeout: Period::secs(5),
        }
    }
}

/// See [`Redis::guarantee`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
}

impl Guarantee {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// See [`Redis::on_state_lost`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum OnStateLost {
    Halt,
    Resume,
    Rebuild,
}

/// What goes in one transaction.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Records at most.
    pub records_max: usize,
    /// No further record begins in a batch that has so many commands already; those of one record stay together. One
    /// transaction holds Redis for its whole length: its other clients feel long ones.
    pub commands_max: usize,
    /// Encoded bytes at most; a larger record travels alone.
    pub bytes_max: Size,
    /// How long a batch waits for more records. 0: send what is there as soon as the lane is free.
    pub linger: Period,
}

impl Default for Batch {
    fn default() -> Self {
        Self { records_max: 500, commands_max: 500, bytes_max: Size::mib(1), linger: Period::secs(0) }
    }
}

/// How a stop goes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long what the lanes hold may take to be written; what is left is read again at the next start.
    pub deadline: Period,
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline: Period::secs(8) }
    }
}

/// Where records go that can't be applied. Neither set: such a record halts its partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetter {
    /// A stream in the same Redis, written exactly once.
    pub stream: String,
    /// Or a Kafka topic, written at least once.
    pub topic: String,
    /// Trim the stream to about this many letters. 0: never.
    pub maxlen: u64,
}

/// A rate limit, kept by pausing partitions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// Records a second. 0: no limit.
    pub records_per_second: u32,
    /// Records that may come at once; at least `batch.records_max`. 0: that, or the rate if it is larger.
    pub burst: u32,
}

/// The listener for /livez /readyz /metrics /status.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Whether to listen at all.
    pub enabled: bool,
    /// `address:port`; port 0 takes a free one and logs it.
    pub listen: String,
    /// How often Redis is asked for its memory and for the lengths of streams, which /metrics and /status tell. `0ms`: never.
    pub redis_every: Period,
}

impl Default for Http {
    fn default() -> Self {
        Self { enabled: true, listen: "127.0.0.1:9650".into(), redis_every: Period::secs(15) }
    }
}

/// What is logged, on standard error.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` for machines.
    pub format: LogFormat,
    /// `error` needs a person, `warn` recovers by itself, `info` is the life cycle, `debug` and `trace` are for
    /// developers. SIGHUP reads it again.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

/// See [`Log::format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum LogFormat {
    Text,
    Json,
}

/// See [`Log::level`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Topics → writes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in logs, metrics and dead letters.
    pub name: String,
    /// Topic names, or patterns that begin with `^`: a list, or a text with commas; one that begins with `^` is one pattern.
    #[schemars(extend("type" = ["array", "string"]))]
    pub topics: Vec<String>,
    /// How payloads are read: `json`, or `raw` (bytes, no `{value...}` holes).
    #[serde(default = "json")]
    pub decode: Decode,
    /// What a record without a value does: `skip` it, `del` the keys of its set and setex writes, or `write` as usual.
    #[serde(default = "skip")]
    pub on_tombstone: OnTombstone,
    /// A condition such as `value.realized_vol > 0.50` ([conditions](conditions.md)): a record of which it does not hold is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub when: Option<String>,
    /// Where this condition can't be applied to a record, which lacks a field, perhaps: that is `dead`, or dropped (`skip`).
    #[serde(default)]
    pub on_condition_error: OnConditionError,
    /// A rate limit of this route.
    #[serde(default)]
    pub limit: Limit,
    /// The fields of its stream that the API gives as text, though what they hold could be a number.
    #[serde(default)]
    #[schemars(extend("type" = ["array", "string"]))]
    pub strings: Vec<String>,
    /// The writes, applied in this order with nobody in between.
    pub write: Vec<Write>,
}

fn json() -> Decode {
    Decode::Json
}
fn skip() -> OnTombstone {
    OnTombstone::Skip
}

/// See [`Route::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Decode {
    Json,
    Raw,
}

/// See [`Route::on_tombstone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum OnTombstone {
    Skip,
    Del,
    Write,
}

/// One Redis command a record; exactly one of these keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Append to a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Xadd")]
    pub xadd: Option<Xadd>,
    /// Set a key that expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Setex")]
    pub setex: Option<Setex>,
    /// Set a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Set")]
    pub set: Option<Set>,
    /// Publish on a channel: at most once to each subscriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Publish")]
    pub publish: Option<Publish>,
    /// Delete a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Del")]
    pub del: Option<Del>,
    /// Any other command: its name, then a template an argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    pub command: Option<Vec<String>>,
    /// What it does in a replay: `apply`; `skip`; `if-newer` than what stands there, by `newer_by` (set, setex);
    /// `if-missing` (set, setex: only where nothing stands; xadd: only into streams that the replay itself begins). Without
    /// it: `if-newer` where `newer_by` is set, else `if-missing`; publish, del and command are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Replay")]
    pub replay: Option<Replay>,
    /// A template that finds a number or a time in the value that is written, and in the one that stands there, such as
    /// `{value.timestamp}`: the later one is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub newer_by: Option<String>,
    /// A condition as the route's: it is applied to the records of which this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub when: Option<String>,
    /// Where this condition can't be applied: the write is left out (`skip`, the default), or the record is `dead` as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnConditionError")]
    pub on_condition_error: Option<OnConditionError>,
}

/// XADD.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Xadd {
    /// The stream.
    pub key: String,
    /// `"*"`: each top-level field of the JSON object, in its order. Or a table of field → template, sent in the
    /// order of the names.
    #[schemars(extend("type" = ["string", "object"], "additionalProperties" = {"type": "string"}), with = "serde_json::Value")]
    pub fields: Fields,
    /// The entry's id; `*` is Redis' clock.
    #[serde(default = "star")]
    pub id: String,
    /// Trim to this many entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub maxlen: Option<u64>,
    /// Or trim entries whose id is below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub minid: Option<String>,
    /// Trim exactly (`=`) instead of whole nodes at a time (`~`): dearer.
    #[serde(default)]
    pub exact: bool,
    /// Entries trimmed at most by one command; not with `exact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub limit: Option<u64>,
    /// Do not create the stream.
    #[serde(default)]
    pub nomkstream: bool,
    /// How far the time of an explicit id may lie ahead of this machine's clock. One far in the future blocks its stream
    /// for all that comes after it: beyond this, the record is a dead letter.
    #[serde(default = "a_day")]
    pub id_ahead_max: Period,
}

fn a_day() -> Period {
    Period::secs(24 * 60 * 60)
}

fn star() -> String {
    "*".into()
}

/// See [`Xadd::fields`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fields {
    All(String),
    Table(BTreeMap<String, String>),
}

/// SET with a time to live, in one command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setex {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// A duration (`"1h"`), or a template that renders seconds (`1.5`), to the millisecond; zero or less: not written, counted as expired.
    #[schemars(extend("format" = "ttl"))]
    pub ttl: String,
    /// Of several SETs of one key in a transaction only the last is sent, unless another command of it names that key. Keyspace
    /// notifications then see fewer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collapse: bool,
    /// What the time to live counts from: `now` (default), or the record's `timestamp`, so that what would have expired
    /// is not written, a replay's history too; a record without one, or from the future, counts from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TtlFrom")]
    pub ttl_from: Option<TtlFrom>,
}

/// SET.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// As in setex; without it the key stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "ttl"))]
    pub ttl: Option<String>,
    /// As in setex.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collapse: bool,
    /// As in setex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TtlFrom")]
    pub ttl_from: Option<TtlFrom>,
}

/// PUBLISH.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The channel.
    pub channel: String,
    /// The message.
    pub message: String,
}

/// DEL.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Del {
    /// The key.
    pub key: String,
}
