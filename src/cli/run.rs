//! `run`: the daemon.
use super::{Args as Global, Exit, Output, configuration};
use crate::app::Bridge;
use crate::config::load::load;
use crate::config::validate::{effective_guarantee, validate};
use crate::core::topics;
use crate::kafka::driver::Drained;
use crate::ops::http::{self, Source as _};
use crate::ops::listener::Bounds;
use crate::ops::signals::{self, Asked};
use crate::ops::telemetry;
use crate::serve::Api;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Refused, and says what to use.
    #[arg(long, hide = true, allow_hyphen_values = true, value_parser = refused)]
    from_offset: Option<String>,
    /// As well.
    #[arg(long, hide = true, allow_hyphen_values = true, value_parser = refused)]
    from_time: Option<String>,
}

fn refused(_: &str) -> Result<String, String> {
    Err("the bridge begins at its own position: a unit file that set another one would go back at each restart. To apply a range again beside it: kafka-redis-bridge replay --from-offset ...; to set its own position once: kafka-redis-bridge rewind --topic T --to-offset N".into())
}

/// Runs until a signal or a fatal error, then drains.
pub fn run(args: &Global) -> Exit {
    let log: &[&str] = if args.output == Output::Json { &["log.format=json"] } else { &[] };
    let (loaded, valid) = match configuration(args, log) {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    let level = telemetry::init(&valid.config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %loaded.file.display(), "starting");
    for route in valid.lane.routes.iter() {
        tracing::info!(route = route.name, guarantee = effective_guarantee(&valid.config, route), "route");
    }
    valid.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    for note in topics::notes(&valid.lane.routes) {
        tracing::info!("{note}");
    }
    // Before Kafka hears of it: a process that can't begin must not join the group, take partitions from the others, and leave
    // again at each of its restarts.
    let http = &valid.config.http;
    let listener = match http.enabled.then(|| http::listen(&http.listen)).transpose() {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!(code = "http-failed", "http.listen {}: {e}; choose another address, or http.enabled = false", http.listen);
            return Exit::Fatal;
        }
    };
    let serve = &valid.config.serve;
    let started = (http.enabled && serve.enabled).then(|| Api::new(&valid)).transpose().and_then(|api| Ok((api, Bridge::start(&valid)?)));
    let (api, bridge) = match started {
        Ok(both) => both,
        Err(e) => {
            // librdkafka refuses a combination of properties.
            tracing::error!(code = "start-failed", "{e}");
            return Exit::Config;
        }
    };
    if let Some(listener) = listener {
        let (address, view, served) = (listener.address, bridge.view.clone(), api.clone());
        let router = move || served.iter().fold(http::router(view), |router, api| router.fallback_service(api.router()));
        if let Err(e) = listener.serve(Bounds { all: serve.connections_max, each: serve.connections_per_client }, router) {
            tracing::error!(code = "http-failed", "{e}");
            return Exit::Fatal;
        }
        tracing::info!(%address, "listening: /livez /readyz /metrics /status");
        api.iter().for_each(|api| api.tell());
    }
    let (stop, config, set) = (bridge.stopper(), args.config.clone(), args.set.clone());
    let listening = signals::listen(move |asked| match asked {
        Asked::Stop => {
            tracing::info!("draining; a second signal leaves at once");
            let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
            stop();
        }
        Asked::Reload => match load(config.as_deref(), &set).and_then(|l| validate(&l)) {
            Ok(valid) => {
                level.set(valid.config.log.level);
                tracing::info!(level = ?valid.config.log.level, "the log level was read again; all else needs a restart");
            }
            Err(mistakes) => tracing::warn!(code = "reload-refused", "the file is not taken up: {mistakes}"),
        },
    });
    if let Err(e) = listening {
        tracing::error!(code = "start-failed", "signals: {e}");
        return Exit::Fatal;
    }
    let mut watchdog = Watchdog::new();
    watch(&bridge, &mut watchdog);
    let view = bridge.view.clone();
    let drained = bridge.join(|| watchdog.feed());
    view.leave();
    api.iter().for_each(|api| api.flush());
    report(drained)
}

/// systemd's watchdog, fed three times in its period at the least.
struct Watchdog {
    every: Duration,
    fed: Instant,
}

impl Watchdog {
    fn new() -> Self {
        let mut period = 0;
        let every = if sd_notify::watchdog_enabled(false, &mut period) { Duration::from_micros(period / 3) } else { Duration::from_secs(1) };
        Self { every: every.min(Duration::from_secs(1)), fed: Instant::now() }
    }

    fn feed(&mut self) {
        if self.fed.elapsed() >= self.every {
            self.fed = Instant::now();
            let _ = sd_notify::notify(false, &[NotifyState::Watchdog]);
        }
    }
}

/// Tells systemd when the bridge is ready, and feeds its watchdog while the poller and the lanes turn; until a stop.
fn watch(bridge: &Bridge, watchdog: &mut Watchdog) {
    const STEP: Duration = Duration::from_millis(50);
    let mut announced = false;
    while !bridge.finished() && !bridge.stopping() {
        std::thread::park_timeout(STEP);
        if !announced && bridge.view.ready() {
            announced = true;
            tracing::info!("ready");
            let _ = sd_notify::notify(false, &[NotifyState::Ready]);
        }
        if bridge.view.alive() {
            watchdog.feed();
        }
    }
}

fn report(drained: Option<Drained>) -> Exit {
    let Some(drained) = drained else {
        tracing::error!(code = "close-hung", "the consumer did not close in time; what was settled is in Redis and, as far as it went, committed");
        return Exit::Left;
    };
    for p in &drained.positions {
        tracing::info!(partition = p.partition, position = p.position, end = p.end, "stopped");
    }
    match drained.fatal {
        Some(reason) => {
            tracing::error!(code = "fatal", "{reason}");
            Exit::Fatal
        }
        None if drained.left + drained.unknown > 0 => {
            let Drained { left, unknown, .. } = drained;
            let told = match (left, unknown) {
                (_, 0) => "stopped with records left to the next start",
                (0, _) => "stopped while partitions were being claimed: whether they have records left is not known",
                _ => "stopped with records left to the next start; of some partitions it is not known whether they have any",
            };
            tracing::warn!(code = "records-left", partitions = left, unknown, "{told}");
            Exit::Left
        }
        None => {
            tracing::info!("drained");
            Exit::Done
        }
    }
}
