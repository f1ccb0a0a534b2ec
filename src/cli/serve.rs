//! `serve`: the readers' side as a process of its own.
use super::{Args as Global, Exit, Output, configuration, without_configuration};
use crate::config::load::load;
use crate::config::validate::validate;
use crate::ops::listener::Bounds;
use crate::ops::signals::{self, Asked};
use crate::ops::{http, telemetry};
use crate::serve::Api;
use axum::Router;
use crossbeam_channel::bounded;
use sd_notify::NotifyState;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the OpenAPI document of the API, and serve nothing
    #[arg(long)]
    pub openapi: bool,
}

/// Serves until a signal.
pub fn run(global: &Global, args: &Args) -> Exit {
    if args.openapi {
        if let Err(exit) = without_configuration(global, "serve --openapi") {
            return exit;
        }
        super::print::line(crate::serve::document());
        return Exit::Done;
    }
    let log: &[&str] = if global.output == Output::Json { &["log.format=json"] } else { &[] };
    let (loaded, valid) = match configuration(global, log) {
        Ok(both) => both,
        Err(exit) => return exit,
    };
    let level = telemetry::init(&valid.config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %loaded.file.display(), "serving");
    let serve = &valid.config.serve;
    let listener = match http::listen(&serve.listen) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!(code = "http-failed", "serve.listen {}: {e}; choose another address", serve.listen);
            return Exit::Fatal;
        }
    };
    let api = match Api::new(&valid) {
        Ok(api) => api,
        Err(e) => {
            tracing::error!(code = "start-failed", "{e}");
            return Exit::Config;
        }
    };
    let (address, served) = (listener.address, api.clone());
    let bounds = Bounds { all: serve.connections_max, each: serve.connections_per_client };
    if let Err(e) = listener.serve(bounds, move || Router::new().fallback_service(served.router())) {
        tracing::error!(code = "http-failed", "{e}");
        return Exit::Fatal;
    }
    tracing::info!(%address, "listening: the page at /, the API at /api/v1");
    api.tell();
    let ((stop, stopped), config, set) = (bounded(1), global.config.clone(), global.set.clone());
    let listening = signals::listen(move |asked| match asked {
        Asked::Stop => _ = stop.try_send(()),
        Asked::Reload => match load(config.as_deref(), &set).and_then(|l| validate(&l)) {
            Ok(valid) => level.set(valid.config.log.level),
            Err(mistakes) => tracing::warn!(code = "reload-refused", "the file is not taken up: {mistakes}"),
        },
    });
    if let Err(e) = listening {
        tracing::error!(code = "start-failed", "signals: {e}");
        return Exit::Fatal;
    }
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
    let _ = stopped.recv();
    let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
    api.flush();
    tracing::info!("stopped");
    Exit::Done
}
