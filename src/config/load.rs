//! The layers, later wins: defaults, the file, `BRIDGE__A__B` from the environment, `--set a.b=c`.
#![allow(clippy::result_large_err, reason = "a mistake is made once, at the start")]
use super::places::Places;
pub use super::places::{Place, Source};
use super::{Config, layers, reference, shape};
use crate::core::words::counted;
use figment::Figment;
use figment::value::{Tag, Value};
use serde::Serialize;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file and the place in it, the environment variable or the flag it came from.
    #[serde(flatten)]
    pub source: Source,
    /// The dotted key; of a file that is no TOML, that.
    pub key: String,
    pub found: String,
    pub allowed: String,
    /// What was probably meant: the nearest known name, or a value as TOML has it.
    pub nearest: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: found {}; allowed: {}", self.source, self.key, self.found, self.allowed)?;
        // A value of TOML shows itself where it begins and ends; a name stands in quotes.
        let plain = |n: &str| n.contains(['"', '\'', ' ']) || n.parse::<f64>().is_ok() || n.parse::<bool>().is_ok();
        match &self.nearest {
            Some(nearest) if plain(nearest) => write!(f, "; did you mean {nearest}?")?,
            Some(nearest) => write!(f, "; did you mean {nearest:?}?")?,
            None => {}
        }
        write!(f, "{}", number(&self.key))?;
        self.source.place.iter().try_for_each(|place| write!(f, "\n{place}"))
    }
}

/// The number of the write that a key is of, as reports count: from 1.
fn number(key: &str) -> String {
    let words: Vec<&str> = key.split('.').collect();
    let write = if let ["route", _, "write", n, ..] = words.as_slice() { n.parse::<usize>().ok() } else { None };
    write.map(|n| format!(" (write {})", n + 1)).unwrap_or_default()
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, Default)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {}:", counted(self.0.len(), "mistake"))?;
        self.0.iter().try_for_each(|m| writeln!(f, "  {m}"))
    }
}

impl std::error::Error for Mistakes {}

/// A loaded configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// With something harmless in the place of what has a wrong shape.
    pub(super) config: Config,
    /// What the layers and the shape have wrong.
    pub(super) mistakes: Vec<Mistake>,
    /// The keys of what has a wrong shape: what stands there now is not the user's.
    pub(super) mended: Vec<String>,
    pub file: PathBuf,
    origins: Origins,
}

impl Loaded {
    /// For who must ask librdkafka about its properties.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// With other routes in the place of the file's: those that a job was begun with.
    #[must_use]
    pub fn with_routes(mut self, routes: Vec<super::Route>) -> Self {
        self.config.route = routes;
        self
    }

    /// The layer that a key's value came from, and of the file the place.
    pub fn source_of(&self, key: &str) -> Source {
        self.origins.of(key, false)
    }

    /// The same of a part of the text that is a key's value, from a character on (from 1).
    pub(super) fn source_inside(&self, key: &str, text: &str, column: usize) -> Source {
        let source = self.origins.of(key, false);
        let inside = source.place.as_ref().and_then(|_| self.origins.places.inside(key, text, column));
        Source { place: inside.or(source.place), ..source }
    }
}

/// Where each value of the merged tree came from.
#[derive(Clone, Debug)]
struct Origins {
    figment: Figment,
    merged: Value,
    file: String,
    places: Places,
}

impl Origins {
    /// Of a key's value, or of the key itself.
    fn of(&self, key: &str, name: bool) -> Source {
        let named = tag_at(&self.merged, key).and_then(|tag| self.figment.get_metadata(tag));
        let layer = named.map_or_else(|| self.file.clone(), |meta| meta.name.to_string());
        let place = (layer == self.file).then(|| self.places.of(key, name)).flatten();
        Source { name: layer, place }
    }
}

fn tag_at(value: &Value, key: &str) -> Option<Tag> {
    if key.is_empty() {
        return Some(value.tag());
    }
    // A key may have dots of its own: those of kafka.properties do.
    let mut ends = key.match_indices('.').map(|(at, _)| at).chain([key.len()]);
    ends.find_map(|end| {
        let below = match value {
            Value::Dict(_, dict) => dict.get(&key[..end])?,
            Value::Array(_, items) => items.get(key[..end].parse::<usize>().ok()?)?,
            // A text that is a list.
            text => return Some(text.tag()),
        };
        tag_at(below, key[end..].trim_start_matches('.'))
    })
}

/// The configuration file: the flag's, else `$BRIDGE_CONFIG`, else the first that exists of the two usual places.
pub fn find_file(flag: Option<&Path>) -> Result<PathBuf, Mistakes> {
    const USUAL: [&str; 2] = ["config/bridge.toml", "/etc/kafka-redis-bridge/bridge.toml"];
    let named = flag.map(Path::to_path_buf).or_else(|| std::env::var_os("BRIDGE_CONFIG").map(PathBuf::from));
    let found = named.clone().or_else(|| USUAL.iter().map(PathBuf::from).find(|p| p.exists()));
    found.filter(|p| p.exists()).ok_or_else(|| {
        let source = named.map_or_else(|| USUAL.join(" or "), |p| p.display().to_string());
        no_file(source, "no such file".into())
    })
}

fn no_file(source: String, found: String) -> Mistakes {
    let allowed = "a TOML file; config/bridge.toml of the project is an example".into();
    Mistakes(vec![Mistake { source: source.into(), key: "--config".into(), found, allowed, nearest: None }])
}

/// Loads all layers; [`super::validate`] says all that is wrong with them at once.
pub fn load(flag: Option<&Path>, sets: &[String]) -> Result<Loaded, Mistakes> {
    let file = find_file(flag)?;
    let text = std::fs::read_to_string(&file).map_err(|e| no_file(file.display().to_string(), e.to_string()))?;
    let mut variables: Vec<(String, OsString)> = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v))).collect();
    variables.retain(|(name, _)| name.starts_with(layers::PREFIX));
    variables.sort();
    merge(&text, &file, &variables, sets)
}

/// Loads a text in place of a file, and nothing from the environment: for the demo.
pub fn load_text(text: &str, name: &str, sets: &[String]) -> Result<Loaded, Mistakes> {
    merge(text, Path::new(name), &[], sets)
}

fn merge(text: &str, file: &Path, variables: &[(String, OsString)], sets: &[String]) -> Result<Loaded, Mistakes> {
    let (schema, name) = (reference::schema(), file.display().to_string());
    let mut mistakes = Vec::new();
    let read = layers::file(schema, text, &name);
    let broken = read.is_err();
    let outer = variables.iter().map(|(name, value)| layers::variable(schema, name, value.to_str()));
    let layers = [read].into_iter().chain(outer).chain(sets.iter().map(|set| layers::flag(schema, set)));
    let figment = layers.fold(Figment::from(layers::defaults(&name)), |figment, layer| match layer {
        Ok(layer) => figment.merge(layer),
        Err(mistake) => {
            mistakes.push(mistake);
            figment
        }
    });
    if broken {
        return Err(Mistakes(mistakes));
    }
    let failed =
        |e: String| Mistakes(vec![Mistake { source: name.clone().into(), key: "*".into(), found: e, allowed: "see the reference".into(), nearest: None }]);
    let merged = figment.find_value("").map_err(|e| failed(e.to_string()))?;
    let whole = serde_json::to_value(&merged).map_err(|e| failed(e.to_string()))?;
    let origins = Origins { figment, merged, file: name.clone(), places: Places::read(text, schema) };
    let (wrong, tree) = shape::check(whole, |key, name| origins.of(key, name));
    // The shape says all that serde would: the tests compare the two.
    let config = serde_json::from_value(tree).map_err(|e| failed(e.to_string()))?;
    let mended = wrong.iter().map(|m| m.key.clone()).collect();
    mistakes.extend(wrong);
    Ok(Loaded { config, mistakes, mended, file: file.to_path_buf(), origins })
}
