//! `schema`: the configuration's JSON Schema, or its reference page.
use super::{Args as Global, Exit, Output, print, without_configuration};
use crate::config::reference;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the reference page in Markdown instead
    #[arg(long)]
    pub markdown: bool,
}

pub fn run(global: &Global, args: &Args) -> Exit {
    if let Err(exit) = without_configuration(global, "schema") {
        return exit;
    }
    match (args.markdown, global.output) {
        (true, Output::Json) => {
            print::failure(Output::Json, "--markdown is no JSON: leave one of it and --output json out");
            return Exit::Usage;
        }
        (true, Output::Text) => print::line(reference::page().trim_end()),
        // A JSON Schema is JSON whatever is asked for.
        (false, _) => print::line(format_args!("{:#}", reference::schema())),
    };
    Exit::Done
}
