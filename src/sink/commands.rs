//! What the server says of the routes' commands (COMMAND INFO): whether they are there, and may be writes.
use super::connection::Connection;
use super::failure::Failure;
use super::preflight::Findings;
use crate::core::encode::Encoder;
use crate::core::reply::Reply;
use crate::core::route::Route;
use crate::core::template::Template;
use crate::core::write::Kind;
use std::collections::BTreeSet;

/// Writes though they are not flagged so: PUBLISH changes no data, and what a script does is the script's.
const UNFLAGGED: [&str; 5] = ["publish", "spublish", "eval", "evalsha", "fcall"];

/// A command of the routes, with the templates of its arguments where it is one by template.
struct Asked<'a> {
    /// Which write it is, as `route R write N: `.
    of: String,
    name: String,
    args: &'a [Template],
}

/// Adds what is wrong with the routes' commands; `space` is what the bridge's own keys begin with.
pub(super) fn check(connection: &mut Connection, routes: &[Route], space: &[u8], found: &mut Findings) -> Result<(), Failure> {
    let writes = routes.iter().flat_map(|r| r.writes.iter().enumerate().map(move |(n, w)| (format!("route {} write {}: ", r.name, n + 1), &w.kind)));
    let mut asked: Vec<Asked<'_>> = writes
        .map(|(of, kind)| match kind {
            Kind::Set { .. } => Asked { of, name: "set".into(), args: &[] },
            Kind::Command(args) => Asked { of, name: kind.name(), args },
            _ => Asked { of, name: kind.name(), args: &[] },
        })
        .collect();
    let mut answers = info(connection, &asked)?;
    for (one, answer) in asked.iter_mut().zip(&answers) {
        if answer.as_ref().is_ok_and(|known| known.as_ref().is_some_and(|k| k.container)) {
            match one.args.get(1).and_then(Template::constant) {
                Some(sub) => one.name = format!("{}|{}", one.name, String::from_utf8_lossy(sub).to_lowercase()),
                None => found.problem(format!("{}{} needs a constant subcommand", one.of, one.name.to_uppercase())),
            }
        }
    }
    if asked.iter().any(|one| one.name.contains('|')) {
        answers = info(connection, &asked)?;
    }
    for (one, answer) in asked.iter().zip(answers) {
        let name = format!("{}{}", one.of, one.name.to_uppercase().replace('|', " "));
        match answer {
            Err(error) => found.note(format!("COMMAND INFO is refused ({error}): what the routes' commands are is not looked at; allow it with +command|info")),
            Ok(None) => found.problem(format!("{}this server does not know {}", one.of, one.name.to_uppercase().replace('|', " "))),
            // Its subcommand is looked at, or is missing, which is told.
            Ok(Some(known)) if known.container => {}
            Ok(Some(known)) if !one.args.is_empty() => judge(&name, one, &known, space, found),
            Ok(Some(_)) => {}
        }
    }
    Ok(())
}

/// Adds which commands of the bridge's own this server lacks; those of the routes are told by [`check`].
pub(super) fn known_all<'a>(connection: &mut Connection, names: impl Iterator<Item = &'a str>, found: &mut Findings) -> Result<(), Failure> {
    let asked: Vec<Asked<'_>> =
        names.collect::<BTreeSet<_>>().into_iter().map(|name| Asked { of: String::new(), name: name.to_lowercase(), args: &[] }).collect();
    for (one, answer) in asked.iter().zip(info(connection, &asked)?) {
        let told = format!("this server does not know {}", one.name.to_uppercase());
        if matches!(answer, Ok(None)) && !found.has(&told) {
            found.problem(format!("{told}, which the bridge needs: take a rename-command for it back"));
        }
    }
    Ok(())
}

/// A command as the server describes it.
struct Known {
    arity: i64,
    flags: Vec<Reply>,
    /// Where its keys stand: first, last, step.
    keys: [i64; 3],
    container: bool,
}

/// What the server knows of each; or why it does not say.
fn info(connection: &mut Connection, asked: &[Asked<'_>]) -> Result<Vec<Result<Option<Known>, String>>, Failure> {
    let mut out = Encoder::default();
    asked.iter().for_each(|one| out.command(&["COMMAND", "INFO", one.name.as_str()]));
    let replies = connection.exchange(out.bytes(), asked.len())?;
    Ok(replies.into_iter().map(known).collect())
}

fn known(reply: Reply) -> Result<Option<Known>, String> {
    let entries = match reply {
        Reply::Array(entries) => entries,
        Reply::Error(error) => return Err(error),
        other => return Err(format!("{other:?}")),
    };
    let Some(Reply::Array(entry)) = entries.into_iter().next() else { return Ok(None) };
    let int = |i: usize| if let Some(Reply::Int(n)) = entry.get(i) { *n } else { 0 };
    let Some(Reply::Array(flags)) = entry.get(2) else { return Err(format!("{entry:?}")) };
    // Since 7.0 the tenth element has the subcommands.
    let container = matches!(entry.get(9), Some(Reply::Array(below)) if !below.is_empty());
    Ok(Some(Known { arity: int(1), flags: flags.clone(), keys: [int(3), int(4), int(5)], container }))
}

/// Whether a command by template may be a write.
fn judge(name: &str, one: &Asked<'_>, known: &Known, space: &[u8], found: &mut Findings) {
    let flagged = |flag: &str| known.flags.contains(&Reply::Text(flag.into()));
    let exempt = UNFLAGGED.contains(&one.name.as_str());
    for bad in ["blocking", "no_multi", "admin", "pubsub"].into_iter().filter(|bad| flagged(bad) && !exempt) {
        found.problem(format!("{name} is flagged {bad} by this server: it can't be a write"));
    }
    if !flagged("write") && !exempt {
        found.problem(format!("{name} writes no data, says this server: it can't be a write"));
    }
    let (words, least) = (i64::try_from(one.args.len()).unwrap_or(i64::MAX), known.arity.abs());
    if words < least || (known.arity > 0 && words > least) {
        let needed = if known.arity > 0 { format!("{least}") } else { format!("{least} or more") };
        found.problem(format!("{name} is given {words} words, its name among them, and takes {needed}"));
    }
    let [first, last, step] = known.keys;
    let last = if last < 0 { words + last } else { last };
    // SPUBLISH's channel stands where a key would.
    if first > 0 && !exempt {
        let at = (first..=last).step_by(usize::try_from(step.max(1)).unwrap_or(1));
        let keys = at.filter_map(|i| one.args.get(usize::try_from(i).ok()?));
        for key in keys.filter(|key| key.prefix().starts_with(space)) {
            found.problem(format!("{name} would write to {:?}: keys that begin so are the bridge's own", String::from_utf8_lossy(key.prefix())));
        }
    }
}
