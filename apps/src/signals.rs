//! Ctrl-C and SIGTERM: the first asks politely, the second ends the program.

use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// Signals so close together are one: `timeout` sends its own to the process and to its group, and
/// so does a wrapper that passes on a Ctrl-C which the terminal has sent to both.
const ONE_REQUEST: Duration = Duration::from_millis(100);

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The system's or an orchestrator's request to end.
    Terminate,
}

/// Signals that no longer end the program by themselves. Caught before the program says that it is
/// there, since whoever reads that may send one at once.
#[derive(Debug)]
pub(crate) struct Caught(Signals);

impl Caught {
    /// Signals wait from now on for [`then`](Caught::then).
    pub(crate) fn begin() -> Result<Caught, Exit> {
        Signals::new([SIGINT, SIGTERM])
            .map(Caught)
            .map_err(|error| Exit::Environment(format!("signals cannot be watched: {error}")))
    }

    /// Calls `polite` in a thread of its own at the first signal; the second ends the program with
    /// 130.
    pub(crate) fn then(mut self, polite: impl FnOnce(Signal) + Send + 'static) {
        let mut polite = Some(polite);
        let mut asked = Instant::now();
        std::thread::spawn(move || {
            for signal in self.0.forever() {
                let signal = if signal == SIGINT {
                    Signal::Interrupt
                } else {
                    Signal::Terminate
                };
                match polite.take() {
                    Some(polite) => {
                        asked = Instant::now();
                        std::thread::spawn(move || polite(signal));
                    }
                    None if asked.elapsed() < ONE_REQUEST => {}
                    None => std::process::exit(130),
                }
            }
        });
    }
}
