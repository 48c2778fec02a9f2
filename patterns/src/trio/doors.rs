//! Peers that do not get in: those who hold the doors say so too.

use crate::complaints::Complaints;
use crate::driver::Port;

/// Refused handshakes in a row after which a word is said. A peer gives up after three, at whichever
/// of its sockets that comes first, so that the others may have seen but two.
const REFUSALS_TOLD: u32 = 2;

/// Tells the log of peers that are refused where we listen; their own side ends with the reason, but
/// that may be on a machine at which nobody looks.
#[derive(Debug, Default)]
pub(super) struct Doors {
    refused: Complaints,
}

impl Doors {
    /// Looks who was refused lately.
    pub(super) fn look(&mut self, ports: [&mut Port; 2]) {
        for port in ports {
            if let Some(reason) = port.refusal_after(REFUSALS_TOLD) {
                self.refused.add(&"somebody does not get in", &reason);
            }
        }
    }
}
