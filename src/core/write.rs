//! A write: one Redis command template of a route, compiled.
use super::condition::Condition;
use super::decode::{Document, text_of};
use super::encode::Encoder;
use super::record::Record;
use super::template::Template;
use std::time::Duration;

/// One write and what is done with it.
#[derive(Clone, Debug)]
pub struct Write {
    pub kind: Kind,
    pub effect: Effect,
    /// Whether it is applied to a record.
    pub when: Option<Condition>,
    pub on_condition_error: OnConditionError,
}

/// What becomes of a record to which a condition, a route's or a write's, can't be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConditionError {
    /// It is as if the condition did not hold, and counted.
    Skip,
    /// The record is dead.
    Dead,
}

impl Write {
    /// Applied to each record.
    pub fn new(kind: Kind) -> Self {
        Self { kind, effect: Effect::Apply, when: None, on_condition_error: OnConditionError::Skip }
    }
}

/// What a write does when its record comes: the live path applies, a rebuild leaves PUBLISH out, a replay compares first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Apply,
    Skip,
    /// Only where nothing stands that the replay did not itself write.
    IfMissing,
    /// Only over what has a lower version, which this template finds in the value.
    IfNewer(Template),
}

impl Effect {
    /// Whether what stands at the key decides whether the write goes.
    pub fn compares(&self) -> bool {
        matches!(self, Self::IfMissing | Self::IfNewer(_))
    }
}

/// The command that a write becomes.
#[derive(Clone, Debug)]
pub enum Kind {
    Xadd(Xadd),
    Set {
        key: Template,
        value: Template,
        ttl: Option<Ttl>,
        /// Of several in one transaction the last of a key is enough.
        collapse: bool,
    },
    Publish {
        channel: Template,
        message: Template,
    },
    Del {
        key: Template,
    },
    Command(Vec<Template>),
}

#[derive(Clone, Debug)]
pub struct Xadd {
    pub key: Template,
    pub fields: Fields,
    pub id: Template,
    pub trim: Option<Trim>,
    pub nomkstream: bool,
    /// How far the time of an explicit id may lie ahead of the clock, in ms: one far in the future blocks its stream for
    /// all that comes after it.
    pub ahead_max_ms: u64,
}

#[derive(Clone, Debug)]
pub enum Fields {
    /// Each top-level field of the JSON object, in the record's order, nulls left out.
    All,
    Table(Vec<(String, Template)>),
}

#[derive(Clone, Debug)]
pub struct Trim {
    pub by: TrimBy,
    /// `=` instead of `~`: exact trimming is dearer.
    pub exact: bool,
    /// LIMIT: entries removed at most a command; only with `~`.
    pub limit: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum TrimBy {
    MaxLen(u64),
    MinId(Template),
}

/// The longest time to live. Redis refuses an expire time whose milliseconds overflow; a century is plenty.
pub const TTL_SECONDS_MAX: u64 = 3_155_760_000;

#[derive(Clone, Debug)]
pub enum Ttl {
    /// Milliseconds, above zero.
    Fixed(u64),
    /// Renders seconds, with a fraction perhaps.
    Rendered(Template),
    /// Counts from the record's time.
    FromRecord(Box<Ttl>),
}

/// When a value expires, in milliseconds.
enum Expiry {
    In(u64),
    At(u64),
}

impl Ttl {
    /// What it is rendered from, where it is.
    pub fn template(&self) -> Option<&Template> {
        match self {
            Self::Fixed(_) => None,
            Self::Rendered(template) => Some(template),
            Self::FromRecord(ttl) => ttl.template(),
        }
    }

    /// `None`: it has expired.
    fn expiry(&self, record: &Record, doc: Option<&Document<'_>>, now_ms: i64) -> Result<Option<Expiry>, String> {
        Ok(match self {
            Self::Fixed(ms) => Some(Expiry::In(*ms)),
            Self::Rendered(t) => rendered_ttl(t, record, doc)?.map(Expiry::In),
            Self::FromRecord(ttl) => match (ttl.expiry(record, doc, now_ms)?, record.timestamp_ms) {
                (Some(Expiry::In(ms)), Some(time)) if time < now_ms => {
                    let at = time.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
                    u64::try_from(at).ok().filter(|_| at > now_ms).map(Expiry::At)
                }
                (counted, _) => counted,
            },
        })
    }
}

/// What rendering a write came to, where it is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendered {
    Command,
    /// The TTL is zero or less: the value has expired already and is not written.
    Expired,
}

/// Commands of which only the first argument is a key, or a channel: so a prefix before it moves all that they touch.
const ONE_KEY: &str = "append bitfield decr decrby expire expireat geoadd getset hdel hincrby hincrbyfloat hmset \
    hset hsetnx incr incrby incrbyfloat linsert lpop lpush lpushx lrem lset ltrim persist \
    pexpire pexpireat pfadd psetex publish rpop rpush rpushx sadd set setbit setex setnx \
    setrange spublish srem xadd xdel xtrim zadd zincrby zrem zremrangebylex zremrangebyrank \
    zremrangebyscore";

/// Whether a command that was accepted into a transaction can still be refused when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusable {
    /// SET, PUBLISH, DEL: never, once validated.
    Never,
    /// Only by WRONGTYPE: the key must be absent or of this type.
    ByType(&'static str),
    /// For reasons that can't be told afterwards.
    Unknown,
}

impl Kind {
    /// The command's name in lower case, for messages.
    pub fn name(&self) -> String {
        match self {
            Self::Xadd(_) => "xadd".into(),
            Self::Set { ttl: Some(_), .. } => "setex".into(),
            Self::Set { .. } => "set".into(),
            Self::Publish { .. } => "publish".into(),
            Self::Del { .. } => "del".into(),
            Self::Command(args) => String::from_utf8_lossy(args.first().and_then(Template::constant).unwrap_or(b"command")).to_lowercase(),
        }
    }

    /// Whether it writes data that a reader finds by the record's key.
    pub fn is_read_by_key(&self) -> bool {
        matches!(self, Self::Xadd(Xadd { key, .. }) | Self::Set { key, .. } if key.around_key().is_some())
    }

    /// See [`Refusable`].
    pub fn refusable(&self) -> Refusable {
        match (self, self.expects()) {
            (Self::Set { .. } | Self::Publish { .. } | Self::Del { .. }, _) => Refusable::Never,
            (Self::Xadd(x), _) if x.id.constant() != Some(b"*") => Refusable::Unknown,
            (_, Some(expected)) => Refusable::ByType(expected),
            (_, None) => Refusable::Unknown,
        }
    }

    /// The type that the key must have, if it is there, where that is known.
    pub fn expects(&self) -> Option<&'static str> {
        match self {
            Self::Xadd(_) => Some("stream"),
            Self::Set { .. } | Self::Publish { .. } | Self::Del { .. } => None,
            Self::Command(_) => match self.name().as_str() {
                "hset" => Some("hash"),
                "rpush" | "lpush" => Some("list"),
                "sadd" => Some("set"),
                _ => None,
            },
        }
    }

    /// Whether to apply it once more, in the same order, leaves something else behind: an entry more, a higher count.
    /// Of the commands by template, those are known that do not.
    pub fn grows(&self) -> bool {
        const CONVERGE: [&str; 12] = ["hset", "hdel", "sadd", "srem", "zrem", "set", "setex", "psetex", "unlink", "del", "expire", "pexpire"];
        match self {
            Self::Xadd(_) => true,
            Self::Set { .. } | Self::Publish { .. } | Self::Del { .. } => false,
            Self::Command(_) => !CONVERGE.contains(&self.name().as_str()),
        }
    }

    /// Whether it writes no other key than the first, which of a command by template is known of some only.
    pub fn writes_one_key(&self) -> bool {
        !matches!(self, Self::Command(_)) || ONE_KEY.split(' ').any(|one| one == self.name())
    }

    /// Appends the command. On an error nothing of it is left in the encoder.
    ///
    /// # Errors
    /// The reason for which the record is dead.
    pub fn render(&self, record: &Record, doc: Option<&Document<'_>>, now_ms: i64, out: &mut Encoder) -> Result<Rendered, String> {
        let done = self.render_args(record, doc, now_ms, out);
        match done {
            Ok(Rendered::Command) => out.finish(),
            _ => out.abandon(),
        }
        done
    }

    fn render_args(&self, record: &Record, doc: Option<&Document<'_>>, now_ms: i64, out: &mut Encoder) -> Result<Rendered, String> {
        let arg = |out: &mut Encoder, t: &Template| argument(t, record, doc, out);
        match self {
            Self::Xadd(x) => x.render(record, doc, now_ms, out)?,
            Self::Set { key, value, ttl, .. } => {
                let expiry = ttl.as_ref().map(|ttl| ttl.expiry(record, doc, now_ms)).transpose()?;
                if matches!(expiry, Some(None)) {
                    return Ok(Rendered::Expired);
                }
                out.arg(b"SET");
                arg(out, key)?;
                arg(out, value)?;
                match expiry.flatten() {
                    Some(Expiry::In(ms)) if ms % 1000 == 0 => {
                        out.arg(b"EX");
                        out.arg_number(ms / 1000);
                    }
                    Some(Expiry::In(ms)) => {
                        out.arg(b"PX");
                        out.arg_number(ms);
                    }
                    Some(Expiry::At(ms)) => {
                        out.arg(b"PXAT");
                        out.arg_number(ms);
                    }
                    None => {}
                }
            }
            Self::Publish { channel, message } => {
                out.arg(b"PUBLISH");
                arg(out, channel)?;
                arg(out, message)?;
            }
            Self::Del { key } => {
                out.arg(b"DEL");
                arg(out, key)?;
            }
            Self::Command(args) => args.iter().try_for_each(|t| arg(out, t))?,
        }
        Ok(Rendered::Command)
    }

    /// What its key is made of; `None` where it has none.
    pub fn key_template(&self) -> Option<&Template> {
        match self {
            Self::Xadd(x) => Some(&x.key),
            Self::Set { key, .. } | Self::Del { key } => Some(key),
            Self::Publish { .. } => None,
            Self::Command(args) => args.get(1),
        }
    }

    /// The key whose TYPE decides whether the command was refused; `None` where it has none.
    pub fn key(&self, record: &Record, doc: Option<&Document<'_>>) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        self.key_template()?.render(record, doc, &mut key).ok().map(|()| key)
    }
}

impl Xadd {
    /// The place of the id among the command's arguments; the fields stand behind it.
    pub fn id_at(&self) -> usize {
        2 + usize::from(self.nomkstream) + self.trim.as_ref().map_or(0, |trim| if trim.limit.is_some() { 5 } else { 3 })
    }

    fn render_id(&self, record: &Record, doc: Option<&Document<'_>>, now_ms: i64, out: &mut Vec<u8>) -> Result<(), String> {
        let from = out.len();
        self.id.render(record, doc, out).map_err(|e| e.to_string())?;
        let id = &out[from..];
        let digits = id.iter().position(|b| !b.is_ascii_digit()).unwrap_or(id.len());
        let time = std::str::from_utf8(&id[..digits]).ok().and_then(|d| d.parse::<u64>().ok());
        let latest = u64::try_from(now_ms).unwrap_or(0).saturating_add(self.ahead_max_ms);
        match time.filter(|time| *time > latest) {
            Some(_) => {
                let (id, ahead) = (String::from_utf8_lossy(id), self.ahead_max_ms);
                Err(format!("the id {id} lies more than {ahead} ms ahead of the clock (id_ahead_max): it would block the stream for all that comes"))
            }
            None => Ok(()),
        }
    }

    fn render(&self, record: &Record, doc: Option<&Document<'_>>, now_ms: i64, out: &mut Encoder) -> Result<(), String> {
        let arg = |out: &mut Encoder, t: &Template| argument(t, record, doc, out);
        out.arg(b"XADD");
        arg(out, &self.key)?;
        if self.nomkstream {
            out.arg(b"NOMKSTREAM");
        }
        if let Some(trim) = &self.trim {
            let sign: &[u8] = if trim.exact { b"=" } else { b"~" };
            match &trim.by {
                TrimBy::MaxLen(n) => {
                    out.arg(b"MAXLEN");
                    out.arg(sign);
                    out.arg_number(*n);
                }
                TrimBy::MinId(t) => {
                    out.arg(b"MINID");
                    out.arg(sign);
                    arg(out, t)?;
                }
            }
            if let Some(limit) = trim.limit {
                out.arg(b"LIMIT");
                out.arg_number(limit);
            }
        }
        out.arg_with(|bytes| self.render_id(record, doc, now_ms, bytes))?;
        match &self.fields {
            Fields::Table(fields) => {
                for (name, value) in fields {
                    out.arg(name.as_bytes());
                    arg(out, value)?;
                }
            }
            Fields::All => {
                let Some(fields) = doc.and_then(Document::fields) else {
                    return Err("fields = \"*\" needs a JSON object, and the payload is none".into());
                };
                let mut any = false;
                for (name, value) in fields {
                    if value == "null" {
                        continue;
                    }
                    let text = text_of(value).ok_or_else(|| format!("field {name:?} holds a string that is no Unicode text"))?;
                    out.arg(name.as_bytes());
                    out.arg(text.as_bytes());
                    any = true;
                }
                if !any {
                    return Err("fields = \"*\" needs at least one field that is not null".into());
                }
            }
        }
        Ok(())
    }
}

/// Appends a template as an argument.
fn argument(template: &Template, record: &Record, doc: Option<&Document<'_>>, out: &mut Encoder) -> Result<(), String> {
    if let Some(bytes) = template.whole(record) {
        out.arg(bytes);
        return Ok(());
    }
    out.arg_with(|bytes| template.render(record, doc, bytes)).map_err(|e| e.to_string())
}

/// A rendered TTL in ms; `None`: zero or less.
fn rendered_ttl(template: &Template, record: &Record, doc: Option<&Document<'_>>) -> Result<Option<u64>, String> {
    #[allow(clippy::cast_precision_loss, reason = "it is far below 2^53")]
    const SECONDS_MAX: f64 = TTL_SECONDS_MAX as f64;
    let mut text = Vec::new();
    template.render(record, doc, &mut text).map_err(|e| e.to_string())?;
    let shown = String::from_utf8_lossy(&text);
    let value: f64 =
        shown.trim().parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| format!("the ttl rendered to {shown:?}; it must be a number of seconds"))?;
    if value > SECONDS_MAX {
        return Err(format!("the ttl rendered to {shown:?} seconds; at most {SECONDS_MAX} are allowed"));
    }
    Ok((value > 0.0).then(|| whole_ms(Duration::from_secs_f64(value))))
}

/// A time to live as Redis takes it: the nearest millisecond, and one at the least.
pub fn whole_ms(ttl: Duration) -> u64 {
    u64::try_from((ttl.as_nanos() + 500_000) / 1_000_000).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::TopicPartition;

    #[test]
    fn a_ttl_goes_to_the_nearest_millisecond_and_ends_at_zero() {
        let record = Record::copy(TopicPartition::new("t", 0), 0, None, None, Some(b""), []);
        let rendered = |text: &str| rendered_ttl(&Template::parse(text).unwrap(), &record, None);
        for (seconds, ms) in [
            ("1.9", Some(1_900)),
            ("1.001", Some(1_001)),
            ("3600", Some(3_600_000)),
            ("0.0004", Some(1)),
            ("0.0016", Some(2)),
            ("1e-300", Some(1)),
            ("0", None),
            ("-5", None),
        ] {
            assert_eq!(rendered(seconds), Ok(ms), "{seconds}");
            // A fixed one goes by the same rule.
            if let Some(fixed) = seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|_| ms.is_some()) {
                assert_eq!(Some(whole_ms(fixed)), ms, "{seconds}");
            }
        }
        for bad in ["", "soon", "NaN", "inf", "1e300", "3155760001"] {
            assert!(rendered(bad).is_err(), "{bad}");
        }
    }
}
