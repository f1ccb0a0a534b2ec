//! What a wrong key or value was probably meant to be.
use super::reference;
use super::units::{Period, Size};
use serde_json::Value;

/// Commands that write, as a write by name would be spelled; those that have one are not among them.
const COMMANDS: &str = "\
    append bitfield bitop copy decr decrby expire expireat geoadd getdel getex getset hdel hexpire hincrby hincrbyfloat hmset hset
    hsetex hsetnx incr incrby incrbyfloat linsert lmove lpop lpush lpushx lrem lset ltrim mset msetnx persist pexpire pexpireat
    pfadd pfmerge psetex rename renamenx rpop rpoplpush rpush rpushx sadd sdiffstore setbit setnx setrange sinterstore smove
    spop spublish srem sunionstore unlink xack xdel xgroup xtrim zadd zincrby zinterstore zpopmax zpopmin zrangestore zrem
    zremrangebyrank zremrangebyscore zunionstore
    json.set json.mset json.merge json.del json.numincrby json.arrappend ts.add ts.madd ts.incrby bf.add bf.madd cf.add cms.incrby
    topk.add tdigest.add";

/// What is allowed in the place of an unknown key, and what it was probably meant to be.
pub(super) fn key(schema: &Value, path: &[String], known: &[String], name: &str) -> (String, Option<String>) {
    let (list, near) = (known.join(", "), nearest(name, known));
    let is_write = matches!(path, [.., array, _] if array == "write");
    // hset is no typo of set.
    if let Some(command) = command(name, near.is_none()).filter(|_| is_write) {
        let command = format!("command = [{:?}, ...]", command.to_uppercase());
        return (
            format!("{list}; there is no write by the name {name}: command takes any command, its name first, then a template an argument"),
            Some(command),
        );
    }
    // It may belong elsewhere.
    (list, near.or_else(|| elsewhere(schema, name)))
}

/// The command of Redis that a key names, with _ for a dot, too; or one that is near.
fn command(name: &str, near: bool) -> Option<String> {
    let names: Vec<String> = COMMANDS.split_ascii_whitespace().map(str::to_owned).collect();
    let lower = name.to_lowercase();
    let named = names.iter().find(|n| **n == lower || n.replace('.', "_") == lower).cloned();
    named.or_else(|| nearest(&lower, &names).filter(|_| near))
}

/// A section that has a key of this name.
fn elsewhere(schema: &Value, name: &str) -> Option<String> {
    let sections = reference::keys(reference::node_at(schema, &[]));
    let has = |section: &&String| reference::keys(reference::node_at(schema, &[(*section).clone()])).iter().any(|key| key == name);
    sections.iter().find(has).map(|section| format!("{section}.{name}"))
}

/// A value that would fit, as TOML writes it.
pub(super) fn value(path: &[String], node: &Value, found: &Value) -> Option<String> {
    let text = found.as_str().map(str::trim);
    let number = found.as_u64().or_else(|| text?.parse().ok());
    match (node.get("format").and_then(Value::as_str), number) {
        (Some("ttl"), Some(n)) => return Some(format!("\"{n}s\"")),
        (Some("period"), Some(n)) => return Some(format!("\"{n}s\" or \"{n}ms\"")),
        (Some("period"), None) => return spaced(text?).filter(|t| t.parse::<Period>().is_ok()).map(|t| format!("{t:?}")),
        (Some("size"), Some(n)) => return Some(format!("{:?}", String::from(Size(n)))),
        (Some("size"), None) => return text.and_then(size).map(|t| format!("{t:?}")),
        _ => {}
    }
    let types = reference::types(node);
    match found {
        Value::String(_) if types == ["integer"] => text?.replace(['_', ','], "").parse::<i64>().ok().map(|n| n.to_string()),
        Value::String(_) | Value::Number(_) if types == ["boolean"] => match found.to_string().trim_matches('"').trim().to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some("true".into()),
            "false" | "no" | "off" | "0" => Some("false".into()),
            _ => None,
        },
        Value::Number(_) | Value::Bool(_) if types.contains(&"string") && node.get("format").is_none() => Some(format!("\"{found}\"")),
        Value::Object(_) if is_tables(node) => Some(header(path)),
        // A command line in place of its words.
        Value::String(_) if types == ["array"] && !is_tables(node) => {
            let words: Vec<String> = text?.split_whitespace().map(|word| format!("{word:?}")).collect();
            (!words.is_empty()).then(|| format!("[{}]", words.join(", ")))
        }
        _ => None,
    }
}

/// `5 s` and `5 SEC` as a duration has it.
fn spaced(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    Some(text.to_lowercase()).filter(|t| !t.is_empty())
}

/// `64 MB` and `64M` as a size has it.
fn size(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    [text.clone(), format!("{text}iB"), format!("{text}B")].into_iter().find(|t| t.parse::<Size>().is_ok())
}

/// Whether a node is a list of tables.
pub(super) fn is_tables(node: &Value) -> bool {
    node.get("items").is_some_and(|items| items.get("$ref").is_some() || items.get("properties").is_some())
}

/// How each table of a list begins.
pub(super) fn header(path: &[String]) -> String {
    let names: Vec<&str> = path.iter().map(String::as_str).filter(|name| name.parse::<usize>().is_err()).collect();
    format!("[[{}]]", names.join("."))
}

/// The known name that a typo was probably meant to be.
pub(super) fn nearest(typo: &str, known: &[String]) -> Option<String> {
    let best = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, typo))?;
    (strsim::damerau_levenshtein(best, typo) <= 1 + best.len() / 4).then(|| best.clone())
}
