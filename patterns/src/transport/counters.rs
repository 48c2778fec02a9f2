//! What became of datagrams.

use std::fmt;

/// What a socket counted since it was opened, where its transport may lose things; all in datagrams.
///
/// Over plain UDP a message is a datagram. Over reliable UDP what was lost was sent again, and messages arrive
/// nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handed to the system, those that carry no message included.
    pub sent: u64,
    /// Received from peers and well formed, those that carry no message included.
    pub received: u64,
    /// Plain: numbers that peers used and that have not arrived (yet). Reliable: what we sent and
    /// gave up as lost.
    pub lost: u64,
    /// Arrived more than once, or so late that it cannot be told; plain UDP delivers them as well.
    pub duplicated: u64,
    /// Arrived after one that was sent later.
    pub reordered: u64,
    /// Sent again; reliable only.
    pub resent: u64,
    /// Not of this protocol, not of this version, or making no sense.
    pub malformed: u64,
    /// From somebody who is no peer, or in the name of one with a wrong session.
    pub strangers: u64,
    /// Dropped because a queue of ours was full, or the system refused them.
    pub dropped: u64,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters {
            sent,
            received,
            lost,
            duplicated,
            reordered,
            resent,
            malformed,
            strangers,
            dropped,
        } = self;
        write!(
            f,
            "{sent} sent, {received} received, {lost} lost, {duplicated} duplicated, {reordered} reordered, \
             {resent} resent, {malformed} malformed, {strangers} from strangers, {dropped} dropped"
        )
    }
}
