//! `demo`.
use super::Exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop after so many seconds; else at Ctrl-C
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Use this Redis instead of one of its own
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Ticks a second
    #[arg(long, default_value_t = 2000)]
    pub rate: u64,
}

pub fn run(_args: &Args) -> Exit {
    Exit::Fatal
}
