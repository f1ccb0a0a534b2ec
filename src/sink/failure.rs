//! Why Redis can't be used, and what to do about it.
use crate::core::reply::{Class, triage};
use crate::ops::conditions::Conditions;
use std::fmt;
use std::io::{Error, ErrorKind};

/// Why a connection could not be made or used. It is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub kind: Kind,
    /// What a person can do.
    pub remedy: &'static str,
}

/// What it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection, or no answer.
    Unreachable,
    /// The server answers that it takes nothing for now. Some of that it says to a PING already: LOADING, BUSY, MISCONF.
    Refuses,
    /// The configuration and this server do not fit: waiting does not help.
    Refused,
}

/// What is told of a connection that does not answer in time.
pub(super) const SILENT: &str = "no answer in time";
/// What is told of one that the other end closed.
pub(super) const HUNG_UP: &str = "Redis closed the connection";
const REACH: &str = "check that Redis runs there and that this machine reaches it (redis.url); records wait in Kafka, and the bridge goes on by itself";
const WAIT: &str = "the bridge goes on by itself when Redis takes writes; see Redis' log if it lasts";
const CREDENTIALS: &str = "check redis.user, redis.password or redis.password_file, and the ACL";
const DATABASE: &str = "correct the database number at the end of redis.url, or raise `databases` of this Redis";
const CERTIFICATE: &str =
    "set redis.ca_file to the authority that signed this Redis' certificate, redis.url to a name that stands in it, and check that it has not expired";
const AUTHORITY: &str =
    "this Redis' certificate is an authority's own (CA:TRUE): give Redis one that the authority has signed, and set redis.ca_file to the authority's";
const CLIENT_CERTIFICATE: &str = "set redis.cert_file and redis.key_file to a certificate that this Redis trusts";
const VERSIONS: &str = "allow TLS 1.2 or 1.3 to this Redis (tls-protocols, tls-ciphers)";

/// What a server refuses in its greeting for good: a part of the error, and the remedy.
const FOR_GOOD: [(&str, &str); 8] = [
    ("AUTH", CREDENTIALS),
    ("WRONGPASS", CREDENTIALS),
    ("NOPERM", CREDENTIALS),
    ("DB index", DATABASE),
    ("out of range", DATABASE),
    ("SELECT is not allowed in cluster mode", "use database 0: a Redis Cluster has no other"),
    ("DENIED", "this Redis is in protected mode: give it a password or an ACL user, and name it in redis.user and redis.password"),
    ("unknown command", "point redis.url at a Redis: a Sentinel and some proxies lack this command, and rename-command can take it away"),
];

impl Failure {
    /// The conditions that a failure may be: all are over once a connection is made.
    pub const CODES: [&str; 3] = ["redis-unreachable", "redis-refuses", "redis-refused"];

    pub fn unreachable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: Kind::Unreachable, remedy: REACH }
    }

    /// A mistake that a person must correct.
    pub fn refused(reason: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason: reason.into(), kind: Kind::Refused, remedy }
    }

    /// From an error reply.
    pub fn reply(error: &str) -> Self {
        // It hangs up with these words.
        if error.contains("max number of clients reached") {
            return Self { remedy: "raise maxclients of this Redis, or close other clients; the bridge goes on by itself", ..Self::unreachable(error) };
        }
        if let Some((_, remedy)) = FOR_GOOD.iter().find(|(part, _)| error.contains(part)) {
            return Self::refused(error, remedy);
        }
        match triage(error) {
            Class::Permission => Self::refused(error, CREDENTIALS),
            Class::Transient | Class::Capacity => Self { reason: error.into(), kind: Kind::Refuses, remedy: WAIT },
            Class::Permanent | Class::Unknown => Self::unreachable(error),
        }
    }

    /// Whether the other end ended the connection without a word.
    pub(super) fn is_hang_up(&self) -> bool {
        self.kind == Kind::Unreachable && (self.reason == HUNG_UP || self.reason.contains("reset by peer") || self.reason.contains("Broken pipe"))
    }

    /// Whether an answer did not come in time.
    pub(super) fn is_silence(&self) -> bool {
        self.reason.ends_with(SILENT)
    }

    /// The same, with the address that it is about.
    #[must_use]
    pub fn at(self, address: &str) -> Self {
        Self { reason: format!("{address}: {}", self.reason), ..self }
    }

    /// The condition that it is.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// Tells it as a condition of Redis, once for all who meet it; `holder` is out of any other.
    pub fn tell(&self, conditions: &Conditions, holder: &str) {
        Self::CODES.iter().filter(|code| **code != self.code()).for_each(|code| conditions.clear_for(holder, code, "redis"));
        conditions.meet(holder, self.code(), "redis", &self.reason, self.remedy, self.kind == Kind::Refused);
    }

    /// Whether one of these conditions holds for `holder`.
    pub fn told(conditions: &Conditions, holder: &str) -> bool {
        Self::CODES.iter().any(|code| conditions.held_by(holder, code, "redis"))
    }

    /// Redis can be used by `holder`.
    pub fn over(conditions: &Conditions, holder: &str) {
        Self::CODES.iter().for_each(|code| conditions.clear_for(holder, code, "redis"));
    }
}

impl Kind {
    /// The condition that it is.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "redis-unreachable",
            Self::Refuses => "redis-refuses",
            Self::Refused => "redis-refused",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<redis::RedisError> for Failure {
    fn from(e: redis::RedisError) -> Self {
        match e.code() {
            _ if e.kind() == redis::ErrorKind::AuthenticationFailed => Self::refused(e.to_string(), CREDENTIALS),
            _ if e.kind() == redis::ErrorKind::InvalidClientConfig => Self::refused(e.to_string(), "correct redis.url"),
            Some(code) => Self { reason: e.to_string(), ..Self::reply(&format!("{code} {}", e.detail().unwrap_or_default())) },
            None => Self::unreachable(e.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::tls(tls),
            // A blocking socket reports a timeout so.
            None if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Self::unreachable(SILENT),
            None => Self::unreachable(e.to_string()),
        }
    }
}

impl Failure {
    /// TLS fails: what the other end sends, or what we think of it.
    fn tls(error: &rustls::Error) -> Self {
        use rustls::AlertDescription as Alert;
        use rustls::Error::{AlertReceived, InvalidCertificate, NoCertificatesPresented, PeerIncompatible};
        let reason = format!("TLS: {error}");
        match error {
            InvalidCertificate(_) if reason.contains("CaUsedAsEndEntity") => Self::refused(reason, AUTHORITY),
            InvalidCertificate(_) | NoCertificatesPresented => Self::refused(reason, CERTIFICATE),
            AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity) | PeerIncompatible(_) => {
                Self::refused(reason, VERSIONS)
            }
            AlertReceived(
                Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied,
            ) => Self::refused(reason, CLIENT_CERTIFICATE),
            _ => Self::unreachable(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_passes_by_itself_is_told_from_what_does() {
        for (error, kind) in [
            ("ERR DB index is out of range", Kind::Refused),
            ("ERR invalid DB index", Kind::Refused),
            ("ERR value is out of range, value must between -2147483648 and 2147483647", Kind::Refused),
            ("ERR SELECT is not allowed in cluster mode", Kind::Refused),
            ("NOAUTH Authentication required.", Kind::Refused),
            ("WRONGPASS invalid username-password pair or user is disabled.", Kind::Refused),
            ("ERR AUTH <password> called without any password configured for the default user.", Kind::Refused),
            ("NOPERM this user has no permissions to run the 'select' command", Kind::Refused),
            ("DENIED Redis is running in protected mode because protected mode is enabled", Kind::Refused),
            ("ERR unknown command 'SELECT', with args beginning with: '1' ", Kind::Refused),
            ("ERR max number of clients reached", Kind::Unreachable),
            ("LOADING Redis is loading the dataset in memory", Kind::Refuses),
            ("MASTERDOWN Link with MASTER is down", Kind::Refuses),
            ("MISCONF Redis is configured to save RDB snapshots", Kind::Refuses),
            ("ERR no healthy upstream", Kind::Unreachable),
        ] {
            assert_eq!(Failure::reply(error).kind, kind, "{error}");
        }
    }

    #[test]
    fn a_certificate_is_a_persons_and_a_timeout_is_not() {
        let tls = |error| Failure::from(Error::new(ErrorKind::InvalidData, error)).kind;
        assert_eq!(tls(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)), Kind::Refused);
        assert_eq!(tls(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired)), Kind::Refused);
        assert_eq!(tls(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)), Kind::Unreachable);
        assert_eq!(Failure::from(Error::from(ErrorKind::WouldBlock)), Failure::unreachable("no answer in time"));
        // As the verifier names it.
        #[derive(Debug)]
        struct CaUsedAsEndEntity;
        impl fmt::Display for CaUsedAsEndEntity {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
        impl std::error::Error for CaUsedAsEndEntity {}
        let own = rustls::CertificateError::Other(rustls::OtherError(std::sync::Arc::new(CaUsedAsEndEntity)));
        let failure = Failure::from(Error::new(ErrorKind::InvalidData, rustls::Error::InvalidCertificate(own)));
        assert!(failure.kind == Kind::Refused && failure.remedy.contains("one that the authority has signed"), "{failure:?}");
    }

    #[test]
    fn a_trouble_that_many_meet_is_one_condition_until_the_last_is_out_of_it() {
        let conditions = Conditions::default();
        let failure = Failure::unreachable("gone").at("h:6379");
        failure.tell(&conditions, "claimer");
        failure.tell(&conditions, "lane 0");
        assert_eq!(conditions.all().len(), 1);
        assert_eq!(conditions.all()[0].message, "h:6379: gone");
        Failure::over(&conditions, "claimer");
        assert!(!Failure::told(&conditions, "claimer") && Failure::told(&conditions, "lane 0"));
        Failure::reply("NOAUTH Authentication required.").tell(&conditions, "lane 0");
        let codes: Vec<String> = conditions.all().into_iter().map(|c| c.code).collect();
        assert_eq!(codes, ["redis-refused"], "out of the other one");
        Failure::over(&conditions, "lane 0");
        assert!(conditions.all().is_empty());
    }
}
