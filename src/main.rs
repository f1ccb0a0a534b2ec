//! Arguments → subcommand → exit code, nothing else.
use clap::Parser as _;
use kafka_redis_bridge::cli;

fn main() {
    // redis-rs' TLS needs one provider, chosen here and nowhere else.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = cli::Args::parse();
    std::process::exit(cli::main(&args) as i32);
}
