//! What a route offers to readers and publishers, read from its writes.
use crate::config::Config;
use crate::config::serve::index;
use crate::core::lane::Index;
use crate::core::route::{Route, Topics};
use crate::core::state::StateKey;
use crate::core::template::Template;
use crate::core::write::Kind;
use std::collections::BTreeSet;

/// A name made of a record's key and text around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Named {
    fn of(template: &Template) -> Option<Self> {
        template.around_key().map(|(before, behind)| Self { before: before.to_vec(), behind: behind.to_vec() })
    }

    /// The name of a key's.
    pub fn name(&self, key: &[u8]) -> Vec<u8> {
        [&self.before, key, &self.behind].concat()
    }

    /// The key that a name is of.
    pub fn key<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        name.strip_prefix(self.before.as_slice())?.strip_suffix(self.behind.as_slice())
    }

    /// All such names, as Redis' patterns go.
    pub fn pattern(&self) -> Vec<u8> {
        let escaped = |text: &[u8]| text.iter().flat_map(|b| if b"*?[]^\\".contains(b) { vec![b'\\', *b] } else { vec![*b] }).collect::<Vec<u8>>();
        [escaped(&self.before), b"*".to_vec(), escaped(&self.behind)].concat()
    }
}

/// What can be done with one route.
#[derive(Clone, Debug)]
pub struct Offer {
    pub name: String,
    /// The keys of its values.
    pub latest: Option<Named>,
    /// The keys of its streams.
    pub history: Option<Named>,
    /// The channels that tell of new entries, where these can be followed.
    pub live: Option<Named>,
    /// The topic that is published to.
    pub topic: Option<String>,
    /// The fields of its entries that are texts.
    pub strings: BTreeSet<String>,
    /// Where its keys are listed.
    pub index: Option<StateKey>,
    /// What it does not offer, and why.
    pub lacks: Vec<String>,
}

impl Offer {
    /// What the routes offer, in their order.
    pub fn all(config: &Config, routes: &[Route]) -> Vec<Self> {
        let index = index(config, routes);
        routes.iter().enumerate().map(|(r, route)| Self::of(route, &config.route[r].strings, index.as_ref(), r)).collect()
    }

    fn of(route: &Route, strings: &[String], index: Option<&Index>, r: usize) -> Self {
        let mut lacks = Vec::new();
        let mut find = |what: &str, needs: &str, template: &dyn Fn(&Kind) -> Option<&Template>| {
            let templates: Vec<&Template> = route.writes.iter().filter_map(|w| template(&w.kind)).collect();
            let found = templates.iter().find_map(|t| Named::of(t));
            if found.is_none() {
                let why = if templates.is_empty() { "has none" } else { "has none whose name is made of {key} and text alone" };
                lacks.push(format!("no {what}: it needs {needs}, and the route {why}"));
            }
            found
        };
        let latest = find("latest", "a set or setex", &|k| if let Kind::Set { key, .. } = k { Some(key) } else { None });
        let history = find("history", "an xadd", &|k| if let Kind::Xadd(x) = k { Some(&x.key) } else { None });
        let channel = find("live", "a publish", &|k| if let Kind::Publish { channel, .. } = k { Some(channel) } else { None });
        let by_clock = |key: &Template| Named::of(key) == history;
        let clocked = route.writes.iter().any(|w| matches!(&w.kind, Kind::Xadd(x) if by_clock(&x.key) && x.id.constant() == Some(b"*")));
        if channel.is_some() && !clocked {
            lacks.push("no live: it needs an xadd whose id is \"*\", since entries are followed in the order of Redis' clock".into());
        }
        let topic = match route.topics.as_slice() {
            [Topics::Name(name)] => Some(name.clone()),
            _ => {
                lacks.push("no publishing: it needs one topic, by its name".into());
                None
            }
        };
        let index = index.and_then(|i| i[r].clone());
        if index.is_none() {
            lacks.push("no list of keys: it needs serve.enabled or serve.index in the bridge's configuration, and something to read".into());
        }
        let live = channel.filter(|_| clocked);
        Self { name: route.name.clone(), latest, history, live, topic, strings: strings.iter().cloned().collect(), index, lacks }
    }

    /// The keys in Redis that a record's key has data in.
    pub fn data(&self, key: &[u8]) -> Vec<Vec<u8>> {
        self.latest.iter().chain(&self.history).map(|named| named.name(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_key_whatever_that_holds() {
        let named = Named { before: b"a*[".to_vec(), behind: b":z".to_vec() };
        for key in [&b"BTC/USD"[..], b"", b"../\r\n*3\r\n", b"\xff:z"] {
            assert_eq!(named.key(&named.name(key)), Some(key));
        }
        assert_eq!(named.key(b"b:z"), None);
        assert_eq!(named.pattern(), b"a\\*\\[*:z");
    }
}
