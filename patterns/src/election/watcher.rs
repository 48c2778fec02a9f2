//! Looking on from outside, without taking part.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::driver::Port;
use crate::endpoint::Endpoint;
use crate::machine::{Clock, Time};
use crate::station::OpenError;
use crate::stop::StopHandle;
use crate::transport::{self, Role, Side, SocketOptions, TransportError};
use crate::wait::{Sleeper, wait};

use super::object::bounded;
use super::{Epoch, MemberId, Packet, Standing, View, Word};

/// Answers taken from one member at a time.
const ANSWERS_PER_TURN: usize = 16;

/// How a member was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// How it sees the election.
    pub view: View,
    /// How much was left of its lease when it answered; 0 when it does not lead, and [`Duration::MAX`] when
    /// it leads without lease.
    pub lease: Duration,
    /// How long ago it answered.
    pub age: Duration,
}

/// Asks members how they see the election.
#[derive(Debug)]
pub struct Watcher {
    ways: BTreeMap<MemberId, Way>,
    sleeper: Sleeper,
    stop: StopHandle,
    clock: Clock,
}

struct Way {
    port: Port,
    seen: Option<(Time, View, Duration)>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Connects to members, of whom some may be away.
    ///
    /// # Errors
    ///
    /// An endpoint is unusable, or the system refuses.
    pub fn connect(
        peers: &BTreeMap<MemberId, Endpoint>,
        options: &SocketOptions,
    ) -> Result<Watcher, OpenError> {
        let (sleeper, waker) = Sleeper::new()?;
        let options = SocketOptions {
            only_connected: true,
            ..bounded(options)
        };
        let way = |(&id, endpoint)| {
            let socket = transport::open(Role::Dealer, Side::Connect, endpoint, &options)?;
            let (port, seen) = (Port::new(socket), None);
            Ok((id, Way { port, seen }))
        };
        Ok(Watcher {
            ways: peers.iter().map(way).collect::<Result<_, OpenError>>()?,
            sleeper,
            stop: StopHandle::new(waker),
            clock: Clock::start(),
        })
    }

    /// Asks all members, and takes their answers for as long as `within`, or until it is stopped.
    ///
    /// # Errors
    ///
    /// A socket failed.
    pub fn look(
        &mut self,
        within: Duration,
    ) -> Result<BTreeMap<MemberId, Option<Sighting>>, TransportError> {
        for (&to, way) in &mut self.ways {
            let (from, word) = (to, Word::AskView);
            let question = Packet {
                cluster: 0,
                to,
                from,
                instance: 0,
                word,
            };
            way.port.post_to(vec![question.encode().into()])?;
            way.port.flush()?;
        }
        let end = self.clock.now() + within;
        while self.clock.now() < end && !self.stop.is_stopped() {
            self.take_answers()?;
            let mut sources = Vec::with_capacity(self.ways.len());
            self.ways
                .values()
                .for_each(|way| way.port.interests(&mut sources));
            wait(&sources, &self.sleeper, &self.clock, Some(end));
        }
        self.take_answers()?;
        Ok(self.sightings())
    }

    fn take_answers(&mut self) -> Result<(), TransportError> {
        let now = self.clock.now();
        for (&id, way) in &mut self.ways {
            let Way { port, seen } = way;
            port.receive_some(ANSWERS_PER_TURN, |message| {
                let answer = message.first().and_then(|frame| Packet::decode(frame).ok());
                if let Some((view, lease)) = answer.and_then(|packet| view_of(id, packet)) {
                    *seen = Some((now, view, lease));
                }
            })?;
        }
        Ok(())
    }

    fn sightings(&self) -> BTreeMap<MemberId, Option<Sighting>> {
        let now = self.clock.now();
        let sighting = |(at, view, lease): (Time, View, Duration)| Sighting {
            view,
            lease,
            age: now.since(at),
        };
        let ways = self.ways.iter();
        ways.map(|(&id, way)| (id, way.seen.map(sighting)))
            .collect()
    }

    /// A handle that ends [`look`](Watcher::look) from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }
}

fn view_of(id: MemberId, packet: Packet) -> Option<(View, Duration)> {
    match packet.word {
        Word::View {
            standing,
            epoch,
            leader,
            lease_us,
        } if packet.from == id => {
            let lease = match lease_us {
                u64::MAX => Duration::MAX,
                lease_us => Duration::from_micros(lease_us),
            };
            Some((seen(standing, epoch, leader), lease))
        }
        _ => None,
    }
}

fn seen(standing: Standing, epoch: Epoch, leader: Option<MemberId>) -> View {
    View {
        standing,
        epoch,
        leader,
    }
}
