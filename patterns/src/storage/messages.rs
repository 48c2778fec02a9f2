//! What clients, heads and data nodes say to each other.

use serde::{Deserialize, Serialize};

use super::{Checksum, Entry, Epoch, HeadId, InstanceId, Payload, Position, RecordId, Stamp};

/// From a client to a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAsks {
    /// "Keep this." The same again is harmless. Answered by `Confirmed`, `Refused` or `NotLeading`.
    Put {
        /// The client's choice.
        id: RecordId,
        /// Of the bytes, so that nothing is changed on the way.
        checksum: Checksum,
        /// What to keep.
        bytes: Payload,
    },
    /// "What did I keep there?" Answered by `Found`, `Unknown`, `Refused` or `NotLeading`.
    Get {
        /// Which record.
        id: RecordId,
    },
    /// "Which records are there?" Answered by `Records`.
    List {
        /// Behind this one.
        after: Option<RecordId>,
    },
    /// "How do you fare?" Answered by `Status`.
    Status {},
    /// "Look at every copy." Answered by `Verified` when that is done.
    Verify {},
}

/// From a head to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadTells {
    /// "The record is on disk wherever it must be."
    Confirmed {
        /// Which record.
        id: RecordId,
        /// In whose reign it was registered.
        epoch: Epoch,
        /// The names of the data nodes that have it.
        places: Vec<String>,
    },
    /// "This is the record."
    Found {
        /// Which record.
        id: RecordId,
        /// What the register says of its bytes.
        checksum: Checksum,
        /// The bytes.
        bytes: Payload,
    },
    /// "There is no such record."
    Unknown {
        /// Which.
        id: RecordId,
    },
    /// "I cannot do that."
    Refused {
        /// With which record.
        id: RecordId,
        /// Why.
        why: Refusal,
    },
    /// "Ask another: I do not lead."
    NotLeading {
        /// Who does, as far as is known.
        leader: Option<HeadId>,
    },
    /// Some records, in the order of their ids.
    Records {
        /// Behind which one, as was asked.
        after: Option<RecordId>,
        /// Id and length.
        records: Vec<(RecordId, u64)>,
        /// Whether there are others behind them.
        more: bool,
    },
    /// How the cluster fares.
    Status(StatusView),
    /// Every copy at the nodes that are alive was read.
    Verified(Verification),
}

/// What came of reading every copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Copies that were read.
    pub checked: u64,
    /// Those among them that were damaged; they are being replaced where there is a good one.
    pub damaged: u64,
    /// Data nodes that could not be asked.
    pub missing: Vec<String>,
    /// Records with fewer good copies than asked for, those without any included.
    pub lacking: u64,
    /// Records without any copy that can be reached now.
    pub unreachable: u64,
}

/// Why a record was not stored, or is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Nothing was stored; trying again does not help.
    #[error("the record has {bytes} bytes and at most {limit} are taken: split it")]
    Oversized {
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Nothing was stored; trying again under another id helps.
    #[error("another record has this id: store this one under a new id")]
    Taken,
    /// The bytes changed on the way; trying again helps.
    #[error("the record was damaged on its way: send it again")]
    Damaged,
    /// Perhaps something was stored and nothing is confirmed; trying again later helps.
    #[error("{0}: try again later")]
    Unavailable(String),
}

impl Refusal {
    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Refusal::Unavailable(_) | Refusal::Damaged)
    }
}

/// How a cluster fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The reign.
    pub epoch: Epoch,
    /// Records in the register.
    pub records: u64,
    /// Those among them with fewer good copies than asked for.
    pub lacking: u64,
    /// Those among them without any copy that can be reached now.
    pub unreachable: u64,
    /// The data nodes.
    pub nodes: Vec<NodeView>,
}

/// How a data node fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Which.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// `alive`, `stale` or `dead`.
    pub health: String,
    /// Copies that it holds.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that it has room for.
    pub free: u64,
}

/// From a head to data nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadAsks {
    /// "Are you up?" To all at once. Answered by `Alive`, or by `Deposed`.
    Beat {
        /// In which reign.
        epoch: Epoch,
        /// Who asks.
        head: HeadId,
        /// Counted by the head.
        round: u64,
    },
    /// "Do this." Answered by `Done`, or by `Deposed`.
    Order {
        /// For whom: behind the same address there may be another disk by now.
        to: InstanceId,
        /// Who orders.
        head: HeadId,
        /// The number of the order, which the answer names.
        stamp: Stamp,
        /// What.
        deed: Deed,
    },
    /// "I have no use for you."
    TurnedAway {
        /// For whom.
        to: InstanceId,
        /// One sentence.
        reason: String,
    },
}

/// What a data node is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Append the record and sync it.
    Store {
        /// Which record.
        id: RecordId,
        /// Of its bytes.
        checksum: Checksum,
        /// The bytes.
        bytes: Payload,
    },
    /// Read the record from the disk.
    Read {
        /// Which record.
        id: RecordId,
    },
    /// Let go of a copy, unless it was stored after this order was given.
    Drop {
        /// Which record.
        id: RecordId,
    },
    /// Say what you hold.
    List {
        /// Behind this record.
        after: Option<RecordId>,
    },
    /// Read what you hold and say what is damaged.
    Check {
        /// Behind this record.
        after: Option<RecordId>,
    },
}

/// From a data node to a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataSays {
    /// "I am up."
    Alive {
        /// Who speaks.
        instance: InstanceId,
        /// Which start of it; grows.
        start: u64,
        /// Its name.
        name: String,
        /// Whose question is answered.
        epoch: Epoch,
        /// Which one.
        round: u64,
        /// Copies that it holds.
        records: u64,
        /// Bytes of them.
        bytes: u64,
        /// Bytes that it has room for.
        free: u64,
        /// All copies in one number, to be compared with what the head believes.
        digest: u64,
    },
    /// The answer to an order.
    Done {
        /// Who speaks.
        instance: InstanceId,
        /// Which order.
        stamp: Stamp,
        /// What came of it.
        outcome: Outcome,
    },
    /// "I obey a later reign than yours."
    Deposed {
        /// Who speaks.
        instance: InstanceId,
        /// Which reign.
        epoch: Epoch,
    },
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The record is on disk.
    Stored,
    /// The disk did not take it; the copy does not exist.
    NotStored {
        /// One sentence.
        reason: String,
    },
    /// The record.
    Bytes(Payload),
    /// There is no such copy, or it is damaged and no longer counts.
    NotHere,
    /// The copy is no longer there, or was stored after the order.
    Dropped,
    /// Copies in the order of their ids.
    Listed {
        /// Which.
        copies: Vec<Copy>,
        /// Whether there are others behind them.
        more: bool,
    },
    /// Copies were read.
    Checked {
        /// How many.
        checked: u64,
        /// Which of them were damaged.
        damaged: Vec<RecordId>,
        /// The last of them, if there are others behind it.
        next: Option<RecordId>,
    },
}

/// A copy at a data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Of which record.
    pub id: RecordId,
    /// Of its bytes.
    pub checksum: Checksum,
    /// Their number.
    pub length: u64,
}

/// Between heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadSays {
    /// "I lead: take nothing from those before me." Answered by `Promised` or `Refused`.
    Promise {
        /// The reign.
        epoch: Epoch,
    },
    /// "I take nothing from those before you; so far my register goes."
    Promised {
        /// The reign.
        epoch: Epoch,
        /// The last entry.
        last: Position,
    },
    /// "Send me what your register has behind this." Answered by `Fetched` or `Refused`.
    Fetch {
        /// The reign.
        epoch: Epoch,
        /// What both may have.
        after: Position,
    },
    /// "Both have `after`, and these follow"; or, without entries, "let us look at `after`".
    Fetched {
        /// The reign.
        epoch: Epoch,
        /// What is asked for, or an earlier place when that is unknown here.
        after: Position,
        /// What follows.
        entries: Vec<Entry>,
    },
    /// "Append these." Answered by `Appended` or `Refused`.
    Append {
        /// The reign.
        epoch: Epoch,
        /// What must be there already.
        after: Position,
        /// What follows.
        entries: Vec<Entry>,
    },
    /// The answer to `Append`.
    Appended {
        /// The reign.
        epoch: Epoch,
        /// Whether `after` was there.
        matched: bool,
        /// How far the register agrees with the leader's and is on disk; if nothing matched, where to
        /// look.
        last: Position,
    },
    /// "I have promised myself to a later reign."
    Refused {
        /// Which.
        epoch: Epoch,
    },
}
