//! Tokens for SASL OAUTHBEARER, by a command of the user's (`kafka.token_command`): one for all clients of the process, got again
//! well before it expires, on a thread of its own, so that no client waits for the command but the first.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Condvar, Mutex};
use rdkafka::client::OAuthToken;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::spawn;
use std::time::{Duration, Instant};

/// How long the command may take, and a client wait for the first token.
const COMMAND_MAX: Duration = Duration::from_secs(15);
/// How long after a failure it is run again.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest wait between two runs, however shortly tokens live.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// How much a command may print.
const OUTPUT_MAX: u64 = 1 << 20;
/// Whose token it is, where neither the command nor the token says.
const PRINCIPAL: &str = "kafka-redis-bridge";

/// A token, and when it expires, in milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    token: String,
    principal: String,
    expires_ms: i64,
}

/// The tokens of one command.
pub struct Tokens {
    last: Mutex<Option<Result<Token, String>>>,
    come: Condvar,
}

impl Tokens {
    /// Of this command, which is run by the first who asks.
    pub fn of(command: &[String]) -> Arc<Self> {
        static ALL: OnceLock<Mutex<BTreeMap<Vec<String>, Arc<Tokens>>>> = OnceLock::new();
        let mut all = ALL.get_or_init(Mutex::default).lock();
        all.entry(command.to_vec()).or_insert_with(|| begin(command.to_vec())).clone()
    }

    /// The token for a client, which asks again at four fifths of the time that it still has.
    ///
    /// # Errors
    /// What the command did in place of printing one.
    pub fn get(&self) -> Result<OAuthToken, String> {
        let until = Instant::now() + COMMAND_MAX;
        let mut last = self.last.lock();
        loop {
            match &*last {
                Some(Ok(t)) if t.expires_ms > now_ms() => {
                    return Ok(OAuthToken { token: t.token.clone(), principal_name: t.principal.clone(), lifetime_ms: t.expires_ms });
                }
                Some(Ok(_)) => return Err("kafka.token_command: the token has expired, and no other one came".into()),
                Some(Err(why)) => return Err(why.clone()),
                None => {}
            }
            if self.come.wait_until(&mut last, until).timed_out() {
                return Err(format!("kafka.token_command printed no token within {COMMAND_MAX:?}"));
            }
        }
    }

    /// Keeps what a run of the command came to: a failure only where no token is left. How long until the next run.
    fn keep(&self, came: Result<Token, String>) -> Duration {
        let (mut last, now) = (self.last.lock(), now_ms());
        let pause = match came {
            Ok(token) => {
                let left = Duration::from_millis(u64::try_from(token.expires_ms - now).unwrap_or(0));
                *last = Some(Ok(token));
                left.mul_f64(0.7).max(PAUSE_MIN)
            }
            Err(why) => {
                tracing::warn!(code = "token-failed", "{why}; it is run again in {AGAIN:?}");
                if !matches!(&*last, Some(Ok(t)) if t.expires_ms > now) {
                    *last = Some(Err(why));
                }
                AGAIN
            }
        };
        self.come.notify_all();
        pause
    }
}

/// Runs the command again and again, on a thread of its own.
fn begin(command: Vec<String>) -> Arc<Tokens> {
    let tokens = Arc::new(Tokens { last: Mutex::new(None), come: Condvar::new() });
    let of = tokens.clone();
    spawn(move || {
        loop {
            let came = printed(&command, COMMAND_MAX).and_then(|text| parse(&text, now_ms())).map_err(|why| format!("kafka.token_command: {why}"));
            let pause = of.keep(came);
            std::thread::park_timeout(pause);
        }
    });
    tokens
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// What a command prints on standard output.
fn printed(command: &[String], time_max: Duration) -> Result<String, String> {
    let (name, arguments) = command.split_first().ok_or("it is empty")?;
    let started = Command::new(name).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| format!("{name}: {e}"))?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = ended(&mut child, time_max).ok_or_else(|| format!("{name} did not end within {time_max:?}"))?;
    // Who holds the other end open beyond the command's end is not waited for.
    let text = |from: crossbeam_channel::Receiver<String>| from.recv_timeout(PAUSE_MIN).unwrap_or_default();
    if status.success() {
        Ok(text(out))
    } else {
        let said: String = text(err).trim().chars().take(300).collect();
        Err(format!("{name} ended with {status}: {said}"))
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> crossbeam_channel::Receiver<String> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(OUTPUT_MAX).read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Waits for its end, bounded; one that does not end is killed.
fn ended(child: &mut Child, time_max: Duration) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + time_max;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::park_timeout(Duration::from_millis(10)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// What a command printed: JSON with the token and, as far as the token does not say it itself, when it expires and whose it is; or
/// a JWT alone.
fn parse(text: &str, now_ms: i64) -> Result<Token, String> {
    let text = text.trim();
    let given: Value = if text.starts_with('{') { serde_json::from_str(text).map_err(|e| format!("it printed no JSON: {e}"))? } else { Value::Null };
    let string = |of: &Value, names: &[&str]| names.iter().find_map(|name| of[*name].as_str().map(str::to_owned));
    let token = if given.is_null() { Some(text.to_owned()) } else { string(&given, &["token", "access_token"]) };
    let token = token.filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic())).ok_or(PRINTED)?;
    let claims = claims(&token);
    let seconds = |of: &Value, name: &str| of[name].as_f64().or_else(|| of[name].as_str()?.parse().ok()).map(|s| s * 1000.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a float that is too large becomes the largest integer")]
    let expires_ms = seconds(&given, "expires_in")
        .map(|ms| (ms + now_ms as f64) as i64)
        .or_else(|| given["expires_at"].as_str()?.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond()))
        .or_else(|| seconds(&given, "expires_at").or_else(|| seconds(&claims, "exp")).map(|ms| ms as i64))
        .ok_or("it printed a token and not when it expires: print JSON with \"expires_in\" (seconds) or \"expires_at\" beside it")?;
    if expires_ms <= now_ms {
        return Err("it printed a token that has expired".into());
    }
    let principal = string(&given, &["principal"]).or_else(|| string(&claims, &["sub", "client_id", "azp"])).filter(|p| !p.contains('\0'));
    Ok(Token { token, principal: principal.unwrap_or_else(|| PRINCIPAL.into()), expires_ms })
}

const PRINTED: &str = "it printed no token: print a JWT, or JSON such as {\"token\": \"...\", \"expires_in\": 900}";

/// What a JWT says of itself; nothing where it is none.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
    payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_is_read_as_json_or_as_a_jwt_that_says_the_rest() {
        let (whole, bare) = (jwt(r#"{"sub":"alice","exp":1700000900}"#), jwt("{}"));
        for (text, token, principal, in_ms) in [
            (format!("{whole}\n"), &whole, "alice", 900_000),
            (format!(r#"{{"token":"{whole}"}}"#), &whole, "alice", 900_000),
            (format!(r#"{{"access_token":"{bare}","expires_in":60,"token_type":"Bearer"}}"#), &bare, PRINCIPAL, 60_000),
            (format!(r#"{{"token":"{whole}","expires_in":"60","principal":"bob"}}"#), &whole, "bob", 60_000),
            (r#"{"token":"opaque","expires_at":"2023-11-14T22:14:20Z"}"#.into(), &"opaque".to_owned(), PRINCIPAL, 60_000),
            (r#"{"token":"opaque","expires_at":1700000060}"#.into(), &"opaque".to_owned(), PRINCIPAL, 60_000),
        ] {
            let expected = Token { token: token.clone(), principal: principal.into(), expires_ms: NOW + in_ms };
            assert_eq!(parse(&text, NOW), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_said_and_not_shown() {
        let old = jwt(r#"{"sub":"alice","exp":1699999999}"#);
        for (text, expected) in [
            ("", "no token"),
            ("two words", "no token"),
            ("{\"token\":\"\"}", "no token"),
            ("{\"tokn\":\"s3cret\"}", "no token"),
            ("{\"token\"", "no JSON"),
            ("s3cret", "not when it expires"),
            (old.as_str(), "expired"),
            (r#"{"token":"s3cret","expires_in":0}"#, "expired"),
        ] {
            let why = parse(text, NOW).expect_err(text);
            assert!(why.contains(expected) && !why.contains("s3cret"), "{text}: {why}");
        }
    }

    #[test]
    fn a_command_is_bounded_in_time_and_its_failure_is_told_with_what_it_said() {
        let run = |script: &str, ms| printed(&["sh".into(), "-c".into(), script.into()], Duration::from_millis(ms));
        assert_eq!(run("echo token", 10_000), Ok("token\n".into()));
        let why = run("echo expired >&2; exit 3", 10_000).unwrap_err();
        assert!(why.contains("exit status: 3: expired"), "{why}");
        let why = run("exec sleep 60", 100).unwrap_err();
        assert!(why.contains("did not end within 100ms"), "{why}");
        assert!(printed(&["/no/such/command".into()], COMMAND_MAX).unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_token_that_is_left_outlives_a_command_that_fails() {
        let tokens = Tokens { last: Mutex::new(None), come: Condvar::new() };
        tokens.keep(Err("no".into()));
        assert_eq!(tokens.get().map(|t| t.token), Err("no".into()));
        let token = |ms| Token { token: "t".into(), principal: "p".into(), expires_ms: now_ms() + ms };
        let pause = tokens.keep(Ok(token(60_000)));
        assert!(pause > Duration::from_secs(35) && pause < Duration::from_secs(43), "{pause:?}");
        assert_eq!(tokens.keep(Err("no".into())), AGAIN);
        assert_eq!(tokens.get().map(|t| t.token), Ok("t".into()));
        tokens.keep(Ok(token(-1)));
        assert!(tokens.get().is_err());
    }
}
