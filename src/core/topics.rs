//! Which topics a route reads: those it names, and those a pattern admits. A pattern admits users' data alone: what Kafka keeps
//! for itself and the dead letters are left out, by this one rule, wherever topics are looked for.
use super::route::Route;
use std::fmt;

/// The topics in which Kafka keeps its own data. No route reads them, by name or by pattern.
pub const INTERNAL: [&str; 5] = ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata", "__remote_log_metadata"];

/// What the names of topics begin with that tools keep for themselves.
const HIDDEN: &str = "__";

/// Which topics a route reads.
#[derive(Clone, Debug)]
pub enum Topics {
    Name(String),
    Pattern(Pattern),
}

impl Topics {
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Pattern(pattern) => pattern.admits(topic),
        }
    }

    /// Whether it was written with topics in mind whose names begin with `__`.
    fn means_hidden(&self) -> bool {
        match self {
            Self::Name(name) => name.starts_with(HIDDEN),
            Self::Pattern(pattern) => pattern.means_hidden(),
        }
    }
}

/// A pattern, `^` first, as librdkafka subscribes to it.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: regex::Regex,
    /// The dead-letter topic; empty: none.
    letters: String,
}

/// Why a pattern leaves out a topic that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Internal,
    Hidden,
    Letters,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internal => "Kafka keeps its own data there",
            Self::Hidden => "its name begins with __; to read it, name it in topics, or begin the pattern with ^__",
            Self::Letters => "it is the dead-letter topic",
        })
    }
}

impl Pattern {
    pub fn new(regex: regex::Regex, letters: &str) -> Self {
        Self { regex, letters: letters.to_owned() }
    }

    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether a topic of this name is read.
    pub fn admits(&self, topic: &str) -> bool {
        self.regex.is_match(topic) && self.reserved(topic).is_none()
    }

    /// Why a topic is left out though the pattern matches it.
    pub fn leaves_out(&self, topic: &str) -> Option<LeftOut> {
        self.reserved(topic).filter(|_| self.regex.is_match(topic))
    }

    fn reserved(&self, topic: &str) -> Option<LeftOut> {
        if topic == self.letters {
            Some(LeftOut::Letters)
        } else if INTERNAL.contains(&topic) {
            Some(LeftOut::Internal)
        } else if topic.starts_with(HIDDEN) && !self.means_hidden() {
            Some(LeftOut::Hidden)
        } else {
            None
        }
    }

    fn means_hidden(&self) -> bool {
        self.as_str().strip_prefix('^').is_some_and(|rest| rest.starts_with(HIDDEN))
    }
}

/// What librdkafka is to ignore, so that no pattern subscribes to it: POSIX regular expressions, which hold for all routes
/// together. Where one route means topics that begin with `__`, those that only another one's pattern matches are subscribed to,
/// and no route takes their records. Empty: no route has a pattern.
pub fn ignored(routes: &[Route]) -> Vec<String> {
    let all = || routes.iter().flat_map(|r| &r.topics);
    let patterns: Vec<&Pattern> = all().filter_map(|t| if let Topics::Pattern(pattern) = t { Some(pattern) } else { None }).collect();
    let Some(first) = patterns.first() else { return Vec::new() };
    let mut ignored: Vec<String> = INTERNAL.iter().map(|name| exactly(name)).collect();
    if !all().any(Topics::means_hidden) {
        ignored.push(format!("^{HIDDEN}"));
    }
    if !first.letters.is_empty() {
        ignored.push(exactly(&first.letters));
    }
    ignored
}

/// What the patterns of the routes match and leave out, as far as it is known beforehand, for whoever starts or checks a bridge.
pub fn notes(routes: &[Route]) -> Vec<String> {
    let mut notes = Vec::new();
    for route in routes {
        for pattern in route.topics.iter().filter_map(|t| if let Topics::Pattern(pattern) = t { Some(pattern) } else { None }) {
            let known = [pattern.letters.as_str(), INTERNAL[0]].into_iter();
            let left_out = known.filter_map(|topic| pattern.leaves_out(topic).map(|why| (topic, why)));
            notes.extend(left_out.map(|(topic, why)| format!("route {}: {} matches {topic}, which is left out: {why}", route.name, pattern.as_str())));
        }
    }
    notes
}

/// A pattern of one topic's name, which has letters, digits, `.`, `_` and `-`.
fn exactly(name: &str) -> String {
    format!("^{}$", name.replace('.', "[.]"))
}

/// Whether Kafka takes a topic of this name.
pub fn is_name(text: &str) -> bool {
    (1..=249).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && text != "." && text != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(regex::Regex::new(text).unwrap(), "p.dead")
    }

    fn route(topics: Vec<Topics>) -> Route {
        Route { topics, ..Route::new("r", "t", Vec::new()) }
    }

    #[test]
    fn a_pattern_admits_users_data_and_neither_letters_nor_internal_topics() {
        for (text, topic, left_out) in [
            ("^p[.].*", "p.in", None),
            ("^p[.].*", "p.dead", Some(LeftOut::Letters)),
            ("^p[.].*", "p.dead2", None),
            ("^.*", "__consumer_offsets", Some(LeftOut::Internal)),
            ("^__.*", "__transaction_state", Some(LeftOut::Internal)),
            (".*", "__debezium-heartbeat.x", Some(LeftOut::Hidden)),
            ("^_", "__canary", Some(LeftOut::Hidden)),
            ("^_", "_schemas", None),
            ("^__debezium-heartbeat[.].*", "__debezium-heartbeat.x", None),
        ] {
            let pattern = pattern(text);
            assert_eq!((pattern.leaves_out(topic), pattern.admits(topic)), (left_out, left_out.is_none()), "{text} and {topic}");
        }
        // What it does not match it neither admits nor leaves out.
        assert_eq!((pattern("^q").leaves_out("p.dead"), pattern("^q").admits("p.dead")), (None, false));
    }

    #[test]
    fn what_the_client_ignores_is_what_no_route_reads() {
        let ignores = |routes: &[Route], topic: &str| ignored(routes).iter().any(|p| regex::Regex::new(p).unwrap().is_match(topic));
        let wide = route(vec![Topics::Pattern(pattern("^.*"))]);
        let named = route(vec![Topics::Name("__canary".into())]);
        let hidden = route(vec![Topics::Pattern(pattern("^__canary.*"))]);
        assert!(ignored(std::slice::from_ref(&named)).is_empty(), "names need no rule");
        for routes in [vec![wide.clone()], vec![wide.clone(), named], vec![wide, hidden]] {
            for topic in ["p.in", "pxdead", "p.dead2", "p.dead", "__consumer_offsets", "__canary", "__other"] {
                let read = routes.iter().any(|r| r.matches(topic));
                let harmless = routes.len() > 1 && topic == "__other";
                assert!(ignores(&routes, topic) != read || harmless, "{topic}: {:?}", ignored(&routes));
            }
        }
    }

    #[test]
    fn names_are_those_that_kafka_takes() {
        for (text, fits) in [("a.b_c-9", true), ("", false), ("a b", false), ("a,b", false), ("..", false), ("\u{e4}", false)] {
            assert_eq!(is_name(text), fits, "{text:?}");
        }
        assert!(is_name(&"a".repeat(249)) && !is_name(&"a".repeat(250)));
    }
}
