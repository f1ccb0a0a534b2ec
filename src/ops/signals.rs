//! SIGTERM and SIGINT drain; a second one leaves at once. SIGHUP reads the log level again, and never kills.
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Stop,
    Reload,
}

/// The exit code of a stop that was cut short: records may be left to the next start.
const CUT_SHORT: i32 = 75;

/// Calls `on` for each signal, on a thread of its own.
pub fn listen(on: impl Fn(Asked) + Send + 'static) -> std::io::Result<()> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The conditional exit comes before what arms it, so that only the second signal leaves.
        signal_hook::flag::register_conditional_shutdown(signal, CUT_SHORT, again.clone())?;
        signal_hook::flag::register(signal, again.clone())?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            on(if signal == SIGHUP { Asked::Reload } else { Asked::Stop });
        }
    })?;
    Ok(())
}
