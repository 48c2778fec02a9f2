//! What each transport promises, and whether that is enough for a pattern.

use crate::endpoint::Scheme;

/// What a transport does with the messages between two peers while their connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Every message arrives, unless the connection ends.
    pub complete: bool,
    /// Messages arrive in the order in which they were sent, and none twice.
    pub ordered: bool,
    /// The longest message of one frame in bytes, each other one taking four more; `None` where only the socket's own limit counts.
    pub message_bytes: Option<usize>,
    /// It can encrypt and authenticate.
    pub encrypts: bool,
    /// It reaches other machines.
    pub remote: bool,
}

/// The most that a datagram of plain UDP carries, in bytes: what IPv4 leaves of 65,535.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// The longest message of one frame that plain UDP carries, in bytes: a datagram without its header and the frame's.
pub const MAX_PLAIN_BYTES: usize = MAX_DATAGRAM_BYTES - 24 - 4;

impl Scheme {
    /// What the transport behind this scheme promises.
    pub fn promises(self) -> Promises {
        let stream = Promises {
            complete: true,
            ordered: true,
            message_bytes: None,
            encrypts: false,
            remote: true,
        };
        match self {
            Scheme::Tcp => Promises {
                encrypts: true,
                ..stream
            },
            Scheme::Ipc => Promises {
                encrypts: true,
                remote: false,
                ..stream
            },
            Scheme::Inproc | Scheme::Memory => Promises {
                remote: false,
                ..stream
            },
            Scheme::RawTcp | Scheme::ReliableUdp => stream,
            Scheme::RawUdp => Promises {
                complete: false,
                ordered: false,
                message_bytes: Some(MAX_PLAIN_BYTES),
                ..stream
            },
        }
    }
}

/// What a pattern or an application cannot do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Every message has to arrive while the connection stands.
    pub complete: bool,
    /// Messages may have so many bytes; 0 for no need.
    pub message_bytes: usize,
}

/// Why a transport does not do for a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Messages may be lost.
    #[error("{0}:// loses messages, which {1} cannot do without: use {2}")]
    Loses(&'static str, &'static str, &'static str),
    /// Messages may be too long.
    #[error("{0}:// carries at most {1} bytes at once and {2} needs up to {3}: use {4}")]
    TooShort(&'static str, usize, &'static str, usize, &'static str),
}

/// What is proposed instead.
const INSTEAD: &str = "reliable+udp:// (--reliable), raw+tcp:// or tcp://";

impl Needs {
    /// Whether `scheme` does for `what`, which is a pattern's or an application's name.
    ///
    /// # Errors
    ///
    /// It does not; the reason is a sentence for a person.
    pub fn check(self, what: &'static str, scheme: Scheme) -> Result<(), Unfit> {
        let promises = scheme.promises();
        if self.complete && !promises.complete {
            return Err(Unfit::Loses(scheme.name(), what, INSTEAD));
        }
        match promises.message_bytes {
            Some(most) if self.message_bytes > most => Err(Unfit::TooShort(
                scheme.name(),
                most,
                what,
                self.message_bytes,
                INSTEAD,
            )),
            _ => Ok(()),
        }
    }
}
