//! What a route offers to readers and publishers, read from its writes.
use crate::config;
use crate::config::Config;
use crate::config::serve::index;
use crate::core::lane::Index;
use crate::core::route::{Route, Topics};
use crate::core::state::StateKey;
use crate::core::template::Template;
use crate::core::write::{Kind, Write, Xadd};
use std::collections::BTreeSet;

/// A name made of a record's key and text around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

/// Channels whose messages tell of new entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Their names, as Redis' patterns go.
    pub pattern: Vec<u8>,
    of: Of,
}

/// Which key a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    /// The one of whom the channel is.
    Named(Named),
    /// Always this one.
    Only(Vec<u8>),
}

impl Channels {
    /// The key that has news when this channel has a message.
    pub fn key<'a>(&'a self, channel: &'a [u8]) -> Option<&'a [u8]> {
        match &self.of {
            Of::Named(named) => named.key(channel),
            Of::Only(key) => Some(key),
        }
    }
}

/// What can be done with what a route writes for each record's key; or with one that it writes under one name for all records.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The route's name.
    pub name: String,
    /// The name in Redis, where it is one for all records: the only key that there is.
    pub only: Option<Vec<u8>>,
    /// The keys of its values.
    pub latest: Option<Named>,
    /// The keys of its streams.
    pub history: Option<Named>,
    /// The channels that tell of new entries, where these can be followed.
    pub live: Vec<Channels>,
    /// The topic that is published to.
    pub topic: Option<String>,
    /// The fields of its entries that are texts.
    pub strings: BTreeSet<String>,
    /// Where its keys are listed.
    pub index: Option<StateKey>,
    /// What it does not offer, and why.
    pub lacks: Vec<String>,
}

/// A write beside its configuration.
type Written<'a> = (&'a Write, &'a config::Write);

fn written<'a>(route: &'a Route, text: &'a config::Route) -> impl Iterator<Item = Written<'a>> + Clone {
    route.writes.iter().zip(&text.write)
}

/// A channel of a route that has a message whenever a write has an entry: of a `publish` that goes to each record, or by the same
/// condition.
fn beside<'a>(route: &'a Route, text: &'a config::Route, entry: &config::Write, fits: impl Fn(&Template) -> bool) -> Option<&'a Template> {
    let channels = written(route, text).filter(|(_, text)| text.when.is_none() || text.when == entry.when);
    channels.filter_map(|(write, _)| if let Kind::Publish { channel, .. } = &write.kind { Some(channel) } else { None }).find(|channel| fits(channel))
}

/// The stream's template, where its entries have the time of Redis' clock.
fn by_clock(write: &Write) -> Option<&Template> {
    if let Kind::Xadd(Xadd { key, id, .. }) = &write.kind { Some(key).filter(|_| id.constant() == Some(b"*")) } else { None }
}

impl Offer {
    /// What the routes offer for records' keys, in their order; behind that what stands under one name.
    pub fn all(config: &Config, routes: &[Route]) -> Vec<Self> {
        let index = index(config, routes);
        let keyed = routes.iter().zip(&config.route).enumerate().map(|(r, (route, text))| Self::of(route, text, index.as_ref(), r));
        keyed.chain(Self::fixed(config, routes)).collect()
    }

    fn of(route: &Route, text: &config::Route, index: Option<&Index>, r: usize) -> Self {
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
        let told = find("live", "a publish", &|k| if let Kind::Publish { channel, .. } = k { Some(channel) } else { None });
        let entry = written(route, text).find(|(write, _)| by_clock(write).is_some_and(|key| Named::of(key) == history));
        let channel = entry.and_then(|(_, entry)| beside(route, text, entry, |channel| Named::of(channel).is_some()));
        let live = channel.and_then(|c| Some(Channels { pattern: c.pattern(), of: Of::Named(Named::of(c)?) }));
        if told.is_some() && entry.is_none() {
            lacks.push("no live: it needs an xadd whose id is \"*\", since entries are followed in the order of Redis' clock".into());
        } else if told.is_some() && live.is_none() {
            lacks.push("no live: it needs a publish beside each entry, without a when or with the same one as the xadd".into());
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
        let strings = text.strings.iter().cloned().collect();
        Self { name: route.name.clone(), only: None, latest, history, live: live.into_iter().collect(), topic, strings, index, lacks }
    }

    /// What stands under one name for all records, of each route that writes it.
    fn fixed(config: &Config, routes: &[Route]) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for (route, text) in routes.iter().zip(&config.route) {
            for write in &route.writes {
                let (Kind::Set { key, .. } | Kind::Xadd(Xadd { key, .. })) = &write.kind else { continue };
                let Some(name) = key.constant() else { continue };
                if found.iter().any(|o| o.name == route.name && o.only.as_deref() == Some(name)) {
                    continue;
                }
                let has = |kind: fn(&Kind) -> Option<&Template>| route.writes.iter().any(|w| kind(&w.kind).is_some_and(|key| key.constant() == Some(name)));
                let latest = has(|k| if let Kind::Set { key, .. } = k { Some(key) } else { None }).then(Named::default);
                let history = has(|k| if let Kind::Xadd(x) = k { Some(&x.key) } else { None }).then(Named::default);
                let mut lacks = Vec::new();
                let live = if history.is_some() { Self::told(config, routes, name).unwrap_or_else(|why| (lacks.push(why), Vec::new()).1) } else { Vec::new() };
                let strings = text.strings.iter().cloned().collect();
                found.push(Self { name: route.name.clone(), only: Some(name.to_vec()), latest, history, live, topic: None, strings, index: None, lacks });
            }
        }
        found
    }

    /// The channels that tell of a stream's entries, whichever route has written them; or what is missing.
    fn told(config: &Config, routes: &[Route], name: &[u8]) -> Result<Vec<Channels>, String> {
        let mut channels: Vec<Channels> = Vec::new();
        for (route, text) in routes.iter().zip(&config.route) {
            let entries = written(route, text).filter(|(write, _)| matches!(&write.kind, Kind::Xadd(x) if x.key.constant() == Some(name)));
            for (write, entry) in entries {
                let lack = |what: &str| format!("no live of {:?}: it needs {what}, and the route {:?} has none", String::from_utf8_lossy(name), route.name);
                by_clock(write).ok_or_else(|| lack("an xadd whose id is \"*\""))?;
                let channel = beside(route, text, entry, |_| true)
                    .ok_or_else(|| lack("a publish beside each entry, on any channel, without a when or with the same one as the xadd"))?;
                let told = Channels { pattern: channel.pattern(), of: Of::Only(name.to_vec()) };
                if !channels.contains(&told) {
                    channels.push(told);
                }
            }
        }
        Ok(channels)
    }

    /// The keys in Redis that a record's key has data in.
    pub fn data(&self, key: &[u8]) -> Vec<Vec<u8>> {
        self.latest.iter().chain(&self.history).map(|named| named.name(key)).collect()
    }

    /// What it offers, by the names of the paths.
    pub fn offered(&self) -> Vec<&'static str> {
        let all = [
            ("latest", self.latest.is_some()),
            ("history", self.history.is_some()),
            ("live", !self.live.is_empty()),
            ("publish", self.topic.is_some()),
            ("keys", self.index.is_some()),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_text;
    use crate::config::validate::validate;

    #[test]
    fn a_name_tells_its_key_whatever_that_holds() {
        let named = Named { before: b"a*[".to_vec(), behind: b":z".to_vec() };
        for key in [&b"BTC/USD"[..], b"", b"../\r\n*3\r\n", b"\xff:z"] {
            assert_eq!(named.key(&named.name(key)), Some(key));
        }
        assert_eq!(named.key(b"b:z"), None);
    }

    fn offers(routes: &str) -> Vec<Offer> {
        let text = format!("[kafka]\nbrokers = [\"b:9092\"]\ngroup = \"g\"\n[redis]\nurl = \"redis://r:6379\"\n{routes}");
        let valid = validate(&load_text(&text, "bridge.toml", &[]).unwrap()).unwrap_or_else(|e| panic!("{e}"));
        Offer::all(&valid.config, &valid.lane.routes)
    }

    fn route(name: &str, writes: &str) -> String {
        format!("[[route]]\nname = \"{name}\"\ntopics = [\"t\"]\n{writes}")
    }

    #[test]
    fn what_stands_under_one_name_is_offered_beside_what_each_key_has() {
        let all = offers(&route(
            "r",
            "[[route.write]]\nxadd = { key = \"s:{key}\", fields = \"*\" }\n\
             [[route.write]]\nwhen = \"value.v > 1\"\nxadd = { key = \"alerts\", fields = \"*\" }\n\
             [[route.write]]\nwhen = \"value.v > 1\"\npublish = { channel = \"a[{value.v}]\", message = \"m\" }\n\
             [[route.write]]\nset = { key = \"last\", value = \"{payload}\" }\n",
        ));
        let [keyed, alerts, last] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((&keyed.only, keyed.offered()), (&None, vec!["history", "publish"]));
        assert_eq!((alerts.only.as_deref(), alerts.offered()), (Some(&b"alerts"[..]), vec!["history", "live"]));
        let channels = &alerts.live[0];
        assert_eq!((channels.pattern.as_slice(), channels.key(b"a[7]")), (&b"a\\[*\\]"[..], Some(&b"alerts"[..])));
        assert_eq!((last.only.as_deref(), last.offered()), (Some(&b"last"[..]), vec!["latest"]));
    }

    #[test]
    fn what_has_entries_that_no_message_tells_of_is_not_live() {
        let entry = "[[route.write]]\nxadd = { key = \"e\", fields = \"*\" }\n[[route.write]]\nxadd = { key = \"s:{key}\", fields = \"*\" }\n";
        let sometimes = "[[route.write]]\nwhen = \"value.v > 1\"\npublish = { channel = \"c:{key}\", message = \"m\" }\n";
        for offer in offers(&route("r", &format!("{entry}{sometimes}"))) {
            let lack = offer.lacks.iter().find(|l| l.starts_with("no live")).unwrap();
            assert!(offer.live.is_empty() && lack.contains("a publish beside each entry"), "{lack}");
        }
        let always = sometimes.replace("when = \"value.v > 1\"\n", "");
        let live = |offers: &[Offer]| offers.iter().filter(|o| o.name == "r").map(|o| !o.live.is_empty()).collect::<Vec<_>>();
        let one = route("r", &format!("{entry}{always}"));
        assert_eq!(live(&offers(&one)), [true, true]);
        // Another route writes into the same stream, and publishes nothing.
        let both = offers(&(one + &route("q", entry)));
        assert_eq!(live(&both), [true, false]);
        assert!(both.iter().any(|o| o.lacks.iter().any(|l| l.contains("the route \"q\" has none"))), "{both:?}");
    }
}
