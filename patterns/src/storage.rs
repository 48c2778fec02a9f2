//! A storage cluster that loses nothing it has confirmed: a head that knows where every record is, data
//! nodes that keep them, clients that know only the head.
//!
//! ```text
//!  client ── put, get ──▶ head ── store, read, drop, list, check ──▶ data node   data.txt
//!         ◀─ confirmed ──  │   ◀─ stored, here it is, what I hold ──
//!                          │ registro_server.txt, and the same at the other heads
//! ```
//!
//! A record never changes and has an id that its client chose, so that everything may be said twice.
//! The head confirms it when as many data nodes as asked for have it on disk and the register of most
//! heads says so. What the register says is checked against what the data nodes report; a copy that no
//! register knows is taken into it, never thrown away. `docs/storage.md` tells the whole.
//!
//! The machines know of no election and no failure detector: whoever drives them says that a head
//! [leads](HeadInput::Lead) and how a data node [fares](HeadInput::Health).

mod client;
mod data;
mod file;
mod frames;
mod head;
mod lines;
mod messages;
mod record;
mod register;
mod replace;
mod serve;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use client::{ClientConfig, ClientInput, ClientMachine, ClientOutput, Done, Request};
pub use data::{DataConfig, DataInput, DataMachine, DataOutput, ReadFailure};
pub use file::RecordFile;
pub use frames::{read_frame, write_frame};
pub use head::{HeadConfig, HeadInput, HeadMachine, HeadOutput, Health};
pub use lines::{
    BeatLine, ClientLine, DataLine, LineError, Lines, MAX_NAME_BYTES, Named, NodeBeat,
    RegisterLine, TextLine, Words, check_name,
};
pub use messages::{
    ClientAsks, Copy, DataSays, Deed, HeadAsks, HeadSays, HeadTells, NodeView, Outcome, Refusal,
    StatusView, Verification,
};
pub use record::{Checksum, Payload};
pub use register::{Entry, Fact, Position, Register};
pub use serve::{
    AskError, Beats, ClientSetup, DataNode, DataSetup, HeadPeers, HeadSetup, OnRound,
    StorageClient, StorageError, StorageHead,
};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(#[serde(with = "crate::hex")] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

id! {
    /// A record: chosen at random by the client that stores it, and the same when it tries again.
    RecordId
}
id! {
    /// The disk of a data node: chosen at random when its file is made, so that two nodes with one name
    /// are told apart.
    InstanceId
}

/// A head, by the number it has among its peers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HeadId(pub u32);

/// The reign of one head, as the election counts them; a higher one ends all lower ones.
pub type Epoch = u64;

/// The place of an order among all that heads ever give: a fencing token.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// In which reign.
    pub epoch: Epoch,
    /// The number of the order within it.
    pub seq: u64,
}
