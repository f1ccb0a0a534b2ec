//! What Redis answered, and what each error means.
use super::text::Text;

/// A reply, free of any client library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Int(i64),
    /// A status (`OK`, `QUEUED`) or a bulk string.
    Text(Text),
    Array(Vec<Reply>),
    /// The whole error line, code first.
    Error(String),
}

impl Reply {
    pub const OK: Self = Self::Text(Text::constant(b"OK"));
    pub const QUEUED: Self = Self::Text(Text::constant(b"QUEUED"));
}

/// The first of some replies that is an error. Of a refused transaction it is the cause: it stands with the command that was
/// refused, before EXECABORT.
pub fn first_error(replies: &[Reply]) -> Option<&str> {
    replies.iter().find_map(|r| if let Reply::Error(error) = r { Some(error.as_str()) } else { None })
}

/// What an error asks for. See the triage table in `docs/delivery.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: retried in order, for ever.
    Transient,
    /// Redis is full: waits, with one warning.
    Capacity,
    /// This command will never be accepted: a dead letter.
    Permanent,
    /// Something a person must set right: the partition halts.
    Permission,
    /// Never guessed at: the partition halts.
    Unknown,
}

/// The start of an EXECABORT that carries its cause.
const ABORT_CAUSE: &str = "EXECABORT Transaction discarded because of: ";

/// What an error is about: an EXECABORT that carries its cause is about that.
pub fn cause(error: &str) -> &str {
    error.strip_prefix(ABORT_CAUSE).unwrap_or(error)
}

/// Sorts an error reply by its code and text.
pub fn triage(error: &str) -> Class {
    let error = cause(error);
    let code = error.split_ascii_whitespace().next().unwrap_or("");
    match code {
        "LOADING" | "READONLY" | "MASTERDOWN" | "MISCONF" | "NOREPLICAS" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MOVED" | "ASK" => Class::Transient,
        "OOM" => Class::Capacity,
        "WRONGTYPE" => Class::Permanent,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Class::Permission,
        "ERR" => triage_err(error),
        _ => Class::Unknown,
    }
}

/// `ERR` says everything in its text; the wording is that of Redis 6.2 to 8 and Valkey 8.
fn triage_err(error: &str) -> Class {
    const PERMANENT: [&str; 14] = [
        "out of range",
        "equal or smaller than the target stream top item",
        "must be greater than 0-0",
        "not an integer",
        "not a valid float",
        "not a float",
        "would produce NaN",
        "Invalid stream ID",
        "invalid expire time",
        "string exceeds maximum allowed size",
        "syntax error",
        "no such key",
        "hash value is not",
        "is not a valid",
    ];
    const PERMISSION: [&str; 4] = ["unknown command", "wrong number of arguments", "unknown subcommand", "not allowed"];
    if error.contains("max number of clients reached") {
        Class::Transient
    } else if PERMISSION.iter().any(|t| error.contains(t)) {
        Class::Permission
    } else if PERMANENT.iter().any(|t| error.contains(t)) {
        Class::Permanent
    } else {
        Class::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_table_has_its_replies() {
        for (error, class) in [
            ("LOADING Redis is loading the dataset in memory", Class::Transient),
            ("READONLY You can't write against a read only replica.", Class::Transient),
            ("ERR max number of clients reached", Class::Transient),
            ("OOM command not allowed when used memory > 'maxmemory'.", Class::Capacity),
            ("EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.", Class::Capacity),
            ("EXECABORT Transaction discarded because of: LOADING Redis is loading the dataset in memory", Class::Transient),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Class::Permanent),
            ("ERR The ID specified in XADD is equal or smaller than the target stream top item", Class::Permanent),
            ("ERR value is not an integer or out of range", Class::Permanent),
            ("NOPERM this user has no permissions to run the 'xadd' command", Class::Permission),
            ("ERR unknown command 'FOO', with args beginning with: ", Class::Permission),
            ("ERR wrong number of arguments for 'xadd' command", Class::Permission),
            ("ERR something new", Class::Unknown),
            ("STRANGE", Class::Unknown),
        ] {
            assert_eq!(triage(error), class, "{error}");
        }
    }
}
