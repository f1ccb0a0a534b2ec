//! Structured logs on standard error: text or JSON, the level changeable while running.
use crate::config::{Log, LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    pub fn set(&self, level: LogLevel) {
        let _ = self.0.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Whether what is written there may be coloured: on a terminal, unless NO_COLOR says no (no-color.org).
pub fn coloured(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Begins logging, to standard error. Called once. Whoever read the log may be gone: that stops nothing.
pub fn init(log: &Log) -> Level {
    init_by(log, std::io::stderr)
}

/// The same, by writers that bring each line to standard error in their own way.
pub fn init_by<W>(log: &Log, writer: W) -> Level
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    match log.format {
        LogFormat::Json => registry.with(fmt::layer().log_internal_errors(false).json().flatten_event(true).with_writer(writer)).init(),
        LogFormat::Text => {
            registry.with(fmt::layer().log_internal_errors(false).with_ansi(coloured(&std::io::stderr())).with_target(false).with_writer(writer)).init();
        }
    }
    Level(handle)
}
