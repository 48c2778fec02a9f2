//! Ctrl-C and SIGTERM: the first asks politely, the second ends the program.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The system's or an orchestrator's request to end.
    Terminate,
}

/// Calls `polite` in a thread of its own at the first signal; the second ends the program with 130.
pub(crate) fn on_signal(polite: impl FnOnce(Signal) + Send + 'static) -> Result<(), Exit> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Exit::Environment(format!("signals cannot be watched: {error}")))?;
    let mut polite = Some(polite);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let signal = if signal == SIGINT {
                Signal::Interrupt
            } else {
                Signal::Terminate
            };
            match polite.take() {
                Some(polite) => _ = std::thread::spawn(move || polite(signal)),
                None => std::process::exit(130),
            }
        }
    });
    Ok(())
}
