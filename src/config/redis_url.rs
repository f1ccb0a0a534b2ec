//! Where Redis is and who we are to it: every part of `redis.url` takes effect, or is refused by name.
use super::validate::Checker;
use super::{Redis, tls};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

/// Where to, and as whom: the URL, and the keys beside it. A user without a password has an empty one, as an ACL user with `nopass`
/// may.
///
/// # Errors
/// The key of the configuration, and what is wrong with it.
pub fn endpoint(redis: &Redis) -> Result<ConnectionInfo, (&'static str, String)> {
    let info = redis.url.0.as_str().into_connection_info().map_err(|e| ("redis.url", e.to_string()))?;
    let mut settings = info.redis_settings().clone();
    if !redis.user.is_empty() {
        settings = settings.set_username(&redis.user);
    }
    if !redis.password_file.is_empty() {
        settings = settings.set_password(password(&redis.password_file)?);
    } else if !redis.password.0.is_empty() {
        settings = settings.set_password(&redis.password.0);
    } else if settings.username().is_some() && settings.password().is_none() {
        settings = settings.set_password("");
    }
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
}

/// Which ACL user connects.
pub fn user(redis: &Redis) -> String {
    endpoint(redis).ok().and_then(|info| info.redis_settings().username().map(str::to_owned)).unwrap_or_else(|| "default".into())
}

/// What a file holds, without the end of its line.
fn password(file: &str) -> Result<String, (&'static str, String)> {
    const KEY: &str = "redis.password_file";
    let text = std::fs::read_to_string(file).map_err(|e| (KEY, format!("{file:?}: {e}")))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err((KEY, format!("{file:?} is empty"))),
        password => Ok(password.to_owned()),
    }
}

/// Where a URL leads, without its secrets.
pub fn address(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Unix(path) => path.display().to_string(),
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        _ => "redis.url".into(),
    }
}

const ALLOWED: &str = "redis://host:port/db, rediss://host:port/db for TLS, or redis+unix:///path?db=0";

/// Adds what is wrong with the URL, and with the keys that go with it. Of the URL no value is shown: it may hold a password.
pub(super) fn check(c: &mut Checker<'_>) {
    let redis = &c.loaded.config.redis;
    let Some(url) = redis::parse_redis_url(&redis.url.0) else {
        return c.add("redis.url", "no Redis URL (not shown, it may hold a password)", ALLOWED);
    };
    let unix = url.scheme().ends_with("unix");
    let tls = ["rediss", "valkeys"].contains(&url.scheme());
    let mut add = |found: String, allowed: &str| c.add("redis.url", format!("{found} (the URL is not shown, it may hold a password)"), allowed);
    match url.fragment() {
        Some("insecure") => {
            add("#insecure, which would trust any certificate".into(), "no fragment: set redis.ca_file to the authority that signed the certificate")
        }
        Some(_) => add("a fragment, which begins with #".into(), "no fragment; a # of a password is written %23"),
        None => {}
    }
    let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    for (n, name) in names.iter().enumerate() {
        let known = unix && ["db", "user", "pass"].contains(&name.as_str());
        if !known {
            let allowed = if unix { "?db=, &user= and &pass=" } else { "no ?: the database is the path, as in redis://host:port/3" };
            add(format!("the parameter {name:?}"), allowed);
        } else if names[..n].contains(name) {
            add(format!("the parameter {name:?} twice"), "each once");
        }
    }
    if unix && (url.has_host() && url.host_str().is_some_and(|h| !h.is_empty()) || url.port().is_some() || !url.username().is_empty()) {
        add("a host, a port or a user before a socket's path".into(), "redis+unix:///path?user=...&pass=...");
    }
    if url.port() == Some(0) {
        add("port 0".into(), "a port from 1 to 65535");
    }
    let info = match url.clone().into_connection_info() {
        Ok(info) => info,
        Err(e) => return c.add("redis.url", format!("{e} (the URL is not shown, it may hold a password)"), ALLOWED),
    };
    if info.redis_settings().db() < 0 {
        add(format!("database {}", info.redis_settings().db()), "a database from 0; Redis has 16 unless its `databases` says otherwise");
    }
    credentials(c, &info);
    for (key, file) in [("redis.ca_file", &redis.ca_file), ("redis.cert_file", &redis.cert_file), ("redis.key_file", &redis.key_file)] {
        if !file.is_empty() && !tls {
            c.add(key, format!("{file:?}, and redis.url is not rediss://"), "only beside a redis.url that begins with rediss://");
        }
    }
    if tls && redis.cert_file.is_empty() == redis.key_file.is_empty() {
        // The file itself is told of by its own check.
        if let Err((key, found)) = tls::client(redis)
            && !c.has(key)
        {
            c.add(key, found, "a PEM file that fits; redis.ca_file holds the authority that signed Redis' certificate");
        }
    }
}

/// A user and a password stand in one place each.
fn credentials(c: &mut Checker<'_>, info: &ConnectionInfo) {
    let (redis, in_url) = (&c.loaded.config.redis, info.redis_settings());
    if !redis.user.is_empty() && in_url.username().is_some_and(|user| user != redis.user) {
        c.add("redis.user", format!("{:?}, and redis.url has another user", redis.user), "one user: here or in the URL");
    }
    if in_url.password().is_some() {
        for (key, set) in [("redis.password", !redis.password.0.is_empty()), ("redis.password_file", !redis.password_file.is_empty())] {
            if set {
                c.add(key, "a password, and redis.url has one too", "one of the two");
            }
        }
    }
    if !redis.password.0.is_empty() && !redis.password_file.is_empty() {
        c.add("redis.password_file", "a file, and redis.password too", "one of the two");
    } else if !redis.password_file.is_empty()
        && let Err((key, found)) = password(&redis.password_file)
    {
        c.add(key, found, "a file with the password, which this user may read");
    }
}
