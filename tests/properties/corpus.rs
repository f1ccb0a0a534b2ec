//! What the fuzzers began with and what they found (`fuzz/corpus/`), each through its check again.
use crate::{commands, conditions, configuration, json, replies, state, templates};
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() >= 10, "{} has {} files", folder.display(), files.len());
    for file in files {
        println!("{}", file.display());
        check(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn the_corpus_of_each_fuzz_target_passes_its_check() {
    replay("commands", commands::check);
    replay("conditions", conditions::check);
    replay("configuration", configuration::check);
    replay("json", json::check);
    replay("replies", replies::check);
    replay("state", state::check);
    replay("templates", templates::check);
}
