//! What travels between the programs: the machines' messages, and how they find each other.

use serde::{Deserialize, Serialize};

use super::super::{ClientAsks, DataSays, HeadAsks, HeadId, HeadSays, InstanceId};

/// What arrives at a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToHead {
    /// From a client, which is answered with a `HeadTells`.
    Client(ClientAsks),
    /// From a data node.
    Data(DataSays),
    /// From another head.
    Head {
        /// Which.
        from: HeadId,
        /// For whom it is: another program may listen where a head did.
        to: HeadId,
        /// What it says.
        says: HeadSays,
    },
    /// From a data node that wants to hear beats, and can be told something from here on.
    Hello {
        /// Which.
        instance: InstanceId,
        /// The same for as long as the program runs, and of no other: so two with one file are told apart.
        life: u64,
    },
}

/// What a head tells a data node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToData {
    /// To this one.
    Head(HeadAsks),
    /// To all who listen there.
    Beat {
        /// Of the `Welcome`: other clusters may use the same group.
        token: u64,
        /// What is asked.
        asks: HeadAsks,
    },
    /// The answer to `Hello`.
    Welcome {
        /// Who speaks.
        head: HeadId,
        /// Where its beats are heard.
        beats: BeatsAt,
        /// What its beats carry.
        token: u64,
    },
}

/// Where beats are heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BeatsAt {
    /// Published at the head's host, at this port.
    Port(u16),
    /// Published beside the head's endpoint, which has no port.
    Beside,
    /// Sent to this group.
    Group(String),
}
