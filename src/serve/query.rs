//! What stands behind the `?`: each wrong part is named.
use super::entry::Id;
use super::problem::Problem;
use axum::extract::Query;
use axum::http::Uri;
use std::collections::BTreeMap;
use std::str::FromStr as _;

/// The parameters of a request.
pub struct Params(BTreeMap<&'static str, String>);

impl Params {
    /// Reads them.
    ///
    /// # Errors
    /// One that is not among the known, or stands twice.
    pub fn read(uri: &Uri, known: &[&'static str]) -> Result<Self, Problem> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(Problem::field("query", uri.query().unwrap_or_default(), "name=value, joined by &"));
        };
        let mut found = BTreeMap::new();
        for (name, value) in pairs {
            let Some(known) = known.iter().find(|k| **k == name) else {
                return Err(Problem::field("query", name, known.join(", ")));
            };
            if found.insert(*known, value).is_some() {
                return Err(Problem::field(known, "it twice", "it once"));
            }
        }
        Ok(Self(found))
    }

    pub fn text(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// How many, from 1 on.
    pub fn count(&self, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.text("count") else { return Ok(max.min(100)) };
        let count = text.parse().ok().filter(|n| (1..=max).contains(n) && text.bytes().all(|b| b.is_ascii_digit()));
        count.ok_or_else(|| Problem::field("count", text, format!("1 to {max}")))
    }

    /// An entry's id, or a time: where one is given without its last part, that is `seq`. Before 1970 there are no ids.
    pub fn id(&self, name: &'static str, seq: u64) -> Result<Option<Id>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let id = Id::from_str(text).map(|id| if text.contains('-') { id } else { Id { seq, ..id } }).ok();
        let time = || jiff::Timestamp::from_str(text).ok().map(|t| u64::try_from(t.as_millisecond()).map_or(Id::default(), |ms| Id { ms, seq }));
        let allowed = "an entry's id such as 1701878400000-0, milliseconds, or an RFC 3339 time";
        id.or_else(time).map(Some).ok_or_else(|| Problem::field(name, text, allowed))
    }

    /// The id of an entry, as the link to the next page has it.
    pub fn cursor(&self) -> Result<Option<Id>, Problem> {
        let Some(text) = self.text("cursor") else { return Ok(None) };
        let id = Id::from_str(text).ok().filter(|_| text.contains('-'));
        id.map(Some).ok_or_else(|| Problem::field("cursor", text, "the cursor of the page before, as its Link has it"))
    }

    /// One of some words.
    pub fn one_of(&self, name: &'static str, words: &[&'static str]) -> Result<Option<&'static str>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        words.iter().find(|w| **w == text).map(|w| Some(*w)).ok_or_else(|| Problem::field(name, text, words.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Params, Problem> {
        Params::read(&format!("/x?{query}").parse().unwrap(), &["count", "from", "order"])
    }

    #[test]
    fn what_is_right_is_read() {
        let params = read("count=7&from=5&order=asc").unwrap_or_else(|_| panic!("it is right"));
        assert_eq!(params.count(10).ok(), Some(7));
        assert_eq!(params.id("from", 3).ok().flatten(), Some(Id { ms: 5, seq: 3 }));
        assert_eq!(params.one_of("order", &["asc", "desc"]).ok().flatten(), Some("asc"));
        let timed = read("from=2025-12-06T14:00:00Z").unwrap_or_else(|_| panic!("it is right"));
        assert_eq!(timed.id("from", 0).ok().flatten(), Some(Id { ms: 1_765_029_600_000, seq: 0 }));
        let long_ago = read("from=1960-12-06T14:00:00%2B01:00").unwrap_or_else(|_| panic!("it is right"));
        assert_eq!(long_ago.id("from", 7).ok().flatten(), Some(Id::default()));
    }

    #[test]
    fn each_wrong_part_is_named() {
        let told = |problem: Problem| serde_json::to_value(problem).unwrap()["field"].as_str().unwrap().to_owned();
        for (query, field) in [("count=0", "count"), ("count=-1", "count"), ("count=%2B5", "count"), ("from=x", "from"), ("order=up", "order")] {
            let params = read(query).unwrap_or_else(|_| panic!("it can be read"));
            let wrong = params.count(10).err().or(params.id("from", 0).err()).or(params.one_of("order", &["asc", "desc"]).err());
            assert_eq!(told(wrong.unwrap()), field, "{query}");
        }
        assert_eq!(read("conut=1").err().map(told).as_deref(), Some("query"));
        assert_eq!(read("count=1&count=2").err().map(told).as_deref(), Some("count"));
    }
}
