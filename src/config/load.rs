//! The layers, later wins: defaults, the file, `BRIDGE__A__B` from the environment, `--set a.b=c`.
use super::{Config, shape};
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, the environment variable or the flag it came from.
    pub source: String,
    /// The dotted key.
    pub key: String,
    pub found: String,
    pub allowed: String,
    /// The nearest known name, for a typo.
    pub nearest: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: found {}; allowed: {}", self.source, self.key, self.found, self.allowed)?;
        self.nearest.iter().try_for_each(|n| write!(f, "; did you mean {n:?}?"))
    }
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, Default)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {} mistake{}:", self.0.len(), if self.0.len() == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|m| writeln!(f, "  {m}"))
    }
}

impl std::error::Error for Mistakes {}

/// A loaded configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// With defaults in the place of what has a wrong shape.
    pub(super) config: Config,
    /// What has a wrong shape.
    pub(super) mistakes: Vec<Mistake>,
    pub file: PathBuf,
    figment: Figment,
}

impl Loaded {
    /// For who must ask librdkafka about its properties.
    pub fn kafka(&self) -> &super::Kafka {
        &self.config.kafka
    }

    /// Names the layer that a key's value came from.
    pub fn source_of(&self, key: &str) -> String {
        source_of(&self.figment, key, &self.file)
    }
}

/// The configuration file: the flag's, else `$BRIDGE_CONFIG`, else the first that exists of the two usual places.
pub fn find_file(flag: Option<&Path>) -> Result<PathBuf, Mistakes> {
    const USUAL: [&str; 2] = ["config/bridge.toml", "/etc/kafka-redis-bridge/bridge.toml"];
    let named = flag.map(Path::to_path_buf).or_else(|| std::env::var_os("BRIDGE_CONFIG").map(PathBuf::from));
    let found = named.clone().or_else(|| USUAL.iter().map(PathBuf::from).find(|p| p.exists()));
    found.filter(|p| p.exists()).ok_or_else(|| {
        let source = named.map_or_else(|| USUAL.join(" or "), |p| p.display().to_string());
        Mistakes(vec![Mistake {
            source,
            key: "--config".into(),
            found: "no such file".into(),
            allowed: "a TOML file; config/bridge.toml of the project is an example".into(),
            nearest: None,
        }])
    })
}

/// Loads all layers; [`super::validate`] says all that is wrong with them at once.
pub fn load(flag: Option<&Path>, sets: &[String]) -> Result<Loaded, Mistakes> {
    let file = find_file(flag)?;
    merge(Toml::file_exact(&file), Some(Env::prefixed("BRIDGE__").split("__")), &file, sets)
}

/// Loads a text in place of a file, and nothing from the environment: for the demo.
pub fn load_text(text: &str, name: &str, sets: &[String]) -> Result<Loaded, Mistakes> {
    merge(Toml::string(text), None, Path::new(name), sets)
}

fn merge(toml: impl Provider, env: Option<Env>, file: &Path, sets: &[String]) -> Result<Loaded, Mistakes> {
    let figment = Figment::from(Serialized::defaults(Config::default())).merge(toml);
    let figment = env.into_iter().fold(figment, Figment::merge);
    let figment = sets.iter().try_fold(figment, |f, set| parse_set(set).map(|s| f.merge(s)))?;
    let mistake =
        |key: String, found: String, allowed: &str| Mistake { source: file.display().to_string(), key, found, allowed: allowed.into(), nearest: None };
    let whole: serde_json::Value =
        figment.extract().map_err(|e| Mistakes(e.into_iter().map(|e| mistake(e.path.join("."), e.kind.to_string(), "valid TOML")).collect()))?;
    let (mistakes, mended) = shape::check(whole, |key| source_of(&figment, key, file));
    let config = serde_json::from_value(mended).map_err(|e| {
        let other = mistake(String::new(), e.to_string(), "see the reference");
        Mistakes(if mistakes.is_empty() { vec![other] } else { mistakes.clone() })
    })?;
    Ok(Loaded { config, mistakes, file: file.to_path_buf(), figment })
}

/// A `--set a.b=c`.
struct Set {
    path: String,
    value: Value,
}

fn parse_set(text: &str) -> Result<Set, Mistakes> {
    let Some((path, value)) = text.split_once('=').filter(|(p, _)| !p.is_empty()) else {
        return Err(Mistakes(vec![Mistake {
            source: "--set".into(),
            key: text.into(),
            found: "no \"=\"".into(),
            allowed: "KEY=VALUE, such as redis.lanes=4".into(),
            nearest: None,
        }]));
    };
    let value = value.parse().unwrap_or_else(|_| Value::from(value));
    Ok(Set { path: path.into(), value })
}

impl Provider for Set {
    fn metadata(&self) -> Metadata {
        Metadata::named("--set")
    }
    fn data(&self) -> figment::Result<Map<Profile, figment::value::Dict>> {
        // kafka.properties has dots in its own keys.
        let mut keys: Vec<&str> = match self.path.strip_prefix("kafka.properties.") {
            Some(property) => vec!["kafka", "properties", property],
            None => self.path.split('.').collect(),
        };
        let mut value = self.value.clone();
        while let Some(key) = keys.pop() {
            value = Value::from(Map::from([(key.to_owned(), value)]));
        }
        let dict = value.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

fn source_of(figment: &Figment, key: &str, file: &Path) -> String {
    let Some(meta) = figment.find_metadata(key) else { return file.display().to_string() };
    match &meta.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ if meta.name.contains("environment") => format!("environment variable BRIDGE__{}", key.replace('.', "__").to_uppercase()),
        _ if meta.name == "--set" => "--set".into(),
        _ => file.display().to_string(),
    }
}
