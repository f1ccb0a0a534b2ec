//! `schema`: the configuration's JSON Schema, or its reference page.
use super::Exit;
use crate::config::reference;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the reference page in Markdown instead
    #[arg(long)]
    pub markdown: bool,
}

pub fn run(args: &Args) -> Exit {
    if args.markdown {
        print!("{}", reference::page());
    } else {
        println!("{:#}", reference::schema());
    }
    Exit::Done
}
