//! Why a partition is claimed again.
use std::fmt;

/// Why a partition is claimed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Another owner has claimed it.
    Fenced,
    /// The position in Redis is not the one that was written last.
    Moved,
    /// The position is gone from Redis.
    StateLost,
    /// The connection is gone: what was applied is not known.
    Disconnected(String),
}

impl Doubt {
    /// The stable code of the condition.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Moved => "moved",
            Self::StateLost => "state-lost",
            Self::Disconnected(_) => "disconnected",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced => f.write_str("another owner has claimed it"),
            Self::Moved => f.write_str("the position in Redis is not the one that was written last: Redis went back, or somebody wrote to the state"),
            Self::StateLost => f.write_str("the position is gone from Redis"),
            Self::Disconnected(why) => write!(f, "the connection is gone ({why}): what was applied is not known"),
        }
    }
}
