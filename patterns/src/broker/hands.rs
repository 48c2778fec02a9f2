//! Workers that speak Majordomo: one task at a time, each under a lease that they know as the address
//! of a client.

use std::time::Duration;

use crate::machine::Time;
use crate::pipeline::{PeerId, WorkerId};
use crate::transport::Frame;

use super::bodies;
use super::machine::{BrokerMachine, BrokerOutput};
use super::majordomo::titanic;
use super::majordomo::{Version, mmi};
use super::piece::Slice;
use super::protocol::{LeaseId, Takes};
use super::workers::Registration;

/// How often a Majordomo worker is heard, as the Guide has it.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(2_500);

/// How many of its heartbeats it may be silent, as the Guide has it.
pub(super) const LIVENESS: u32 = 3;

/// How long a request may wait for its reply without a word of its client, which Majordomo does not
/// ask of it.
pub(super) const REQUEST_PATIENCE: Duration = Duration::from_secs(3600);

/// MessagePack's `true`, before a result.
const TRUE: u8 = 0xc3;

/// What a worker tells a broker by Majordomo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It registers for a service.
    Ready(String),
    /// It has done the request that came with this address.
    Reply(Vec<u8>, Slice),
    /// It has done a part of it.
    Partial(Vec<u8>, Slice),
    /// It lives.
    Heartbeat,
    /// It leaves.
    Disconnect,
}

/// The address under which a worker answers.
pub(super) fn address(lease: LeaseId) -> Frame {
    Frame::from(&lease.to_be_bytes()[..])
}

fn lease_of(address: &[u8]) -> Option<LeaseId> {
    address.try_into().ok().map(LeaseId::from_be_bytes)
}

impl BrokerMachine {
    pub(super) fn hear_hand(&mut self, now: Time, peer: PeerId, version: Version, deed: Deed) {
        if let Deed::Ready(service) = &deed {
            return self.hire(now, peer, version, service);
        }
        let Some(worker) = self.workers.get_mut(&peer) else {
            self.watch(now, peer);
            // Whoever says anything but READY first is told to begin anew.
            return match deed {
                Deed::Disconnect => {}
                _ => self.dismiss(peer, version),
            };
        };
        match deed {
            Deed::Heartbeat => worker.heard.beat(now),
            _ => worker.heard.sign(now),
        }
        let is_back = worker.late;
        match deed {
            Deed::Reply(address, record) => self.hand_done(now, peer, &address, &record),
            Deed::Partial(address, record) => self.hand_part(peer, &address, record),
            Deed::Disconnect => self.part_with(now, peer),
            Deed::Heartbeat | Deed::Ready(_) => {}
        }
        if is_back {
            self.welcome(now, peer);
        }
    }

    fn hire(&mut self, now: Time, peer: PeerId, version: Version, service: &str) {
        self.watch(now, peer);
        let reserved = mmi::is_reserved(service) || titanic::Service::named(service).is_some();
        if reserved || self.workers.contains_key(&peer) {
            self.part_with(now, peer);
            return self.dismiss(peer, version);
        }
        // A name for people: nobody comes back under it.
        let id = WorkerId(peer);
        let registration = Registration {
            id,
            slots: 1,
            operations: vec![service.to_string()],
            takes: Takes::One,
            name: None,
            majordomo: Some(version),
        };
        self.register(now, peer, registration);
        self.welcome(now, peer);
    }

    /// Whether it is a worker that speaks Majordomo.
    pub(super) fn is_hand(&self, peer: PeerId) -> bool {
        let worker = self.workers.get(&peer);
        worker.is_some_and(|worker| worker.majordomo.is_some())
    }

    fn dismiss(&mut self, peer: PeerId, version: Version) {
        self.outbox.push_back(BrokerOutput::Dismiss(peer, version));
    }

    fn hand_done(&mut self, now: Time, peer: PeerId, address: &[u8], record: &Slice) {
        let lease = lease_of(address).and_then(|id| Some((id, self.leases.get(&id)?)));
        let Some((id, lease)) = lease else {
            self.counts.stale += 1;
            return;
        };
        let (span, busy) = (lease.piece.span, now.since(lease.sent));
        let mut outcome = Vec::with_capacity(record.len() + 1);
        outcome.push(TRUE);
        outcome.extend_from_slice(record.bytes());
        self.worked(now, peer, id, span, busy, Slice::from(outcome.into(), 0));
    }

    /// Passes a part on to the client, where its protocol knows parts.
    fn hand_part(&mut self, peer: PeerId, address: &[u8], record: Slice) {
        let lease = lease_of(address).and_then(|id| self.leases.get(&id));
        let lease = lease.filter(|lease| lease.peer == peer);
        let Some(job) = lease.and_then(|lease| self.jobs.get(&lease.job)) else {
            self.counts.stale += 1;
            return;
        };
        let asker = job.asker.as_ref();
        if let Some(asker) = asker.filter(|asker| asker.version == Some(Version::V2)) {
            self.outbox.push_back(BrokerOutput::Part {
                peer: asker.peer,
                service: job.operation.clone(),
                body: record,
            });
        }
    }
}

/// The body of a request, as a worker gets it.
pub(super) fn body(records: &Slice) -> Vec<Frame> {
    bodies::frames(records.bytes())
}
