//! Arguments → subcommand → exit code, nothing else.
use clap::Parser as _;
use kafka_redis_bridge::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    // redis-rs' TLS needs one provider, chosen here and nowhere else.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ExitCode::from(cli::main(&cli::Args::parse()) as u8)
}
