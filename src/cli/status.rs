//! `status`: asks a running bridge, and prints it for a person. Also the container's health check.
use super::{Args as Global, Exit, Output, print, refused, without_configuration};
use crate::config::load::load;
use crate::config::validate::{is_host_port, validate};
use crate::ops::status::Status;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The listener of the bridge; else http.listen of the configuration
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub address: Option<String>,
    /// Print nothing; exit 0 if the bridge is ready, 1 if not
    #[arg(long)]
    pub ready: bool,
}

fn address(text: &str) -> Result<String, String> {
    if is_host_port(text) { Ok(text.to_owned()) } else { Err("an address and a port, such as 127.0.0.1:9650".into()) }
}

pub fn run(global: &Global, args: &Args) -> Exit {
    let address = match &args.address {
        Some(address) => match without_configuration(global, "status --address") {
            Ok(()) => address.clone(),
            Err(exit) => return exit,
        },
        // A health check asks often: what librdkafka says is of no matter here.
        None => match load(global.config.as_deref(), &global.set).and_then(|l| validate(&l)) {
            Ok(valid) => valid.config.http.listen,
            Err(mistakes) => return refused(global.output, &mistakes),
        },
    };
    let text = match fetch(&address, "/status") {
        Ok(text) => text,
        Err(e) => {
            print::failure(global.output, format_args!("no bridge answers at {address}: {e}"));
            return Exit::Fatal;
        }
    };
    let status: Status = match serde_json::from_str(&text) {
        Ok(status) => status,
        Err(e) => {
            print::failure(global.output, format_args!("what answers at {address} is no bridge of this version: {e}"));
            return Exit::Fatal;
        }
    };
    if args.ready {
        return if status.ready { Exit::Done } else { Exit::Fatal };
    }
    match global.output {
        Output::Json => print::line(text),
        Output::Text => print::line(status.to_string().trim_end()),
    };
    Exit::Done
}

/// A GET of a small body from our own listener.
pub fn fetch(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    Ok(body.to_owned())
}
