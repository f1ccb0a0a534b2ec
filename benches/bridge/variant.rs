//! The configurations that are compared: the defaults, but for what is named here.
use crate::support::daemon::Setup;
use kafka_redis_bridge::config::load::load_text;
use kafka_redis_bridge::config::validate::{Valid, validate};

/// The reference routes' writes.
pub(crate) const XADD: &str = r#"xadd = { key = "volatility:{key}", fields = "*", maxlen = 1000 }"#;
pub(crate) const SETEX: &str = r#"setex = { key = "latest:{key}", ttl = "1h", value = "{payload}" }"#;
pub(crate) const COLLAPSED: &str = r#"setex = { key = "latest:{key}", ttl = "1h", value = "{payload}", collapse = true }"#;
pub(crate) const PUBLISH: &str = r#"publish = { channel = "volatility_updates:{key}", message = "{payload}" }"#;

#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) writes: Vec<String>,
    pub(crate) guarantee: &'static str,
    /// `None`: the default.
    pub(crate) lanes: Option<usize>,
    /// Lines of `[batch]`; none: the defaults.
    pub(crate) batch: String,
    /// Routes beside the one that takes the records.
    pub(crate) idle_routes: usize,
}

/// The same writes in one route of this topic.
fn route(writes: &[String]) -> String {
    let writes: String = writes.iter().map(|w| format!("[[route.write]]\n{w}\n")).collect();
    format!("[[route]]\nname = \"volatility\"\ntopics = [\"TOPIC\"]\n{writes}")
}

impl Variant {
    pub(crate) fn new(writes: &[&str]) -> Self {
        let writes = writes.iter().map(|w| (*w).to_owned()).collect();
        Self { writes, guarantee: "exactly-once", lanes: None, batch: String::new(), idle_routes: 0 }
    }

    /// All three writes.
    pub(crate) fn reference() -> Self {
        Self::new(&[XADD, SETEX, PUBLISH])
    }

    pub(crate) fn lanes(self, lanes: usize) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    pub(crate) fn guarantee(self, guarantee: &'static str) -> Self {
        Self { guarantee, ..self }
    }

    /// So many records a batch, of these writes each.
    pub(crate) fn batch(self, records: usize) -> Self {
        Self { batch: format!("records_max = {records}\ncommands_max = {}\n", records * self.writes.len()), ..self }
    }

    /// So many commands a batch, and nothing else than the default: a lane's room is counted in records.
    pub(crate) fn commands_max(self, commands: usize) -> Self {
        Self { batch: format!("commands_max = {commands}\n"), ..self }
    }

    pub(crate) fn idle_routes(self, idle_routes: usize) -> Self {
        Self { idle_routes, ..self }
    }

    /// As the bridge gets it; a group of its own each time.
    pub(crate) fn setup(&self, topic: &str, redis: &str) -> Setup {
        let idle: String =
            (0..self.idle_routes).map(|n| format!("[[route]]\nname = \"idle-{n}\"\ntopics = [\"^idle-{n}\\\\..*\"]\n[[route.write]]\n{PUBLISH}\n")).collect();
        let lanes = self.lanes.map(|n| format!("lanes = {n}\n")).unwrap_or_default();
        Setup::new(topic, redis)
            .without_properties()
            .redis_extra(&format!("guarantee = \"{}\"\n{lanes}", self.guarantee))
            .extra(&format!("[dead_letter]\nstream = \"bridge:dead\"\n[batch]\n{}", self.batch))
            .routes(&(route(&self.writes) + &idle))
    }

    /// As the bridge takes it, or why it refuses it. The route that takes the records is the first.
    pub(crate) fn valid(&self) -> Result<Valid, String> {
        let text = self.setup("TOPIC", "redis://127.0.0.1/0").toml(1);
        validate(&load_text(&text, "bench.toml", &[]).map_err(|m| m.to_string())?).map_err(|m| m.to_string())
    }

    /// How many records of these writes a batch takes.
    pub(crate) fn records_a_batch(&self) -> usize {
        let lane = self.valid().unwrap().lane;
        lane.records_max.min(lane.commands_max.div_ceil(self.writes.len()))
    }

    /// The connections that it writes through.
    pub(crate) fn connections(&self) -> usize {
        self.valid().unwrap().config.redis.lanes
    }

    /// The command by which the records that were applied are counted, and how many of them a record becomes.
    pub(crate) fn marker(&self) -> (&'static str, u64) {
        let count = |name: &str| self.writes.iter().filter(|w| w.starts_with(name)).count() as u64;
        let all = [("xadd", count("xadd")), ("publish", count("publish")), ("set", count("setex"))];
        all.into_iter().find(|(_, n)| *n > 0).unwrap()
    }
}
