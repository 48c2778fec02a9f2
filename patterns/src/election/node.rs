//! A member with its sockets and its ballot, as the driver drives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::complaints::Complaints;
use crate::driver::{Node, Port};
use crate::machine::{Clock, Machine, Time};
use crate::transport::{Message, Source, TransportError};
use crate::wait::Interest;

use super::object::Shared;
use super::twins::Twins;
use super::{
    BallotFile, ElectionInput, ElectionMachine, ElectionOutput, Epoch, MemberId, Packet, Standing,
    Word,
};

/// Messages taken at once; heartbeats go out in between.
const MESSAGES_PER_TURN: usize = 64;

pub(super) struct ElectionNode {
    pub(super) me: MemberId,
    pub(super) cluster: u64,
    /// Drawn at the start, so that two processes under one id can be told apart.
    pub(super) instance: u64,
    pub(super) machine: ElectionMachine,
    /// Where the others' words arrive, and those of who looks on.
    pub(super) door: Port,
    pub(super) others: BTreeMap<MemberId, Port>,
    pub(super) ballot: Option<BallotFile>,
    pub(super) shared: Arc<Shared>,
    /// The one by which the machine lives, and the driver as well.
    pub(super) clock: Clock,
    pub(super) malformed: Complaints,
    pub(super) misdirected: Complaints,
    pub(super) unwritten: Complaints,
    pub(super) twins: Twins,
    pub(super) twinned: Complaints,
}

impl ElectionNode {
    fn receive(&mut self) -> Result<bool, TransportError> {
        let mut messages = Vec::new();
        let more = self
            .door
            .receive_some(MESSAGES_PER_TURN, |message| messages.push(message))?;
        for message in messages {
            self.take(&message)?;
        }
        Ok(more)
    }

    fn take(&mut self, message: &Message) -> Result<(), TransportError> {
        // The routing id stands first.
        let [route, frame] = &message[..] else {
            self.malformed.add(
                &format_args!("member {}", self.me),
                &"a message that is not one frame",
            );
            return Ok(());
        };
        let packet = match Packet::decode(frame) {
            Ok(packet) => packet,
            Err(error) => {
                self.malformed
                    .add(&format_args!("member {}", self.me), &error);
                return Ok(());
            }
        };
        if let Some(why) = self.misfit(&packet) {
            self.misdirected
                .add(&format_args!("member {}", self.me), &why);
            return Ok(());
        }
        if packet.word == Word::AskView {
            let answer = self.packet(packet.from, self.view());
            return self
                .door
                .post_to(vec![route.clone(), answer.encode().into()]);
        }
        let (from, word) = (packet.from, packet.word);
        // Read now, after the word has come: what is promised upon it counts from here.
        let now = self.clock.now();
        if self.others.contains_key(&from) && self.twins.show(now, from, packet.instance) {
            self.twinned.add(
                &format_args!("member {}", self.me),
                &format_args!("two processes speak as member {from}: stop one of them"),
            );
        }
        if let Word::Resign { epoch } = word {
            log::info!("member {from} has given up the lead, epoch {epoch}");
        }
        self.machine.handle(now, ElectionInput::Word { from, word });
        self.act()
    }

    /// Why a packet is not for this member.
    fn misfit(&self, packet: &Packet) -> Option<String> {
        let Packet {
            cluster, to, from, ..
        } = *packet;
        if to != self.me {
            return Some(format!(
                "a word for member {to} has come here: check its endpoint in the list of peers of member {from}"
            ));
        }
        if packet.word == Word::AskView {
            return None;
        }
        if from == self.me {
            return Some("another process speaks under this id: stop one of the two".to_string());
        }
        (cluster != self.cluster).then(|| {
            format!("member {from} was started with other peers, another algorithm or other times")
        })
    }

    fn packet(&self, to: MemberId, word: Word) -> Packet {
        Packet {
            cluster: self.cluster,
            to,
            from: self.me,
            instance: self.instance,
            word,
        }
    }

    fn view(&self) -> Word {
        let now = self.clock.now();
        let (view, tenure) = (self.machine.view(), self.machine.tenure(now));
        let lease = tenure.map(|tenure| {
            tenure
                .until
                .map_or(std::time::Duration::MAX, |until| until.since(now))
        });
        let standing = match (view.standing, tenure) {
            (Standing::Leader, None) => Standing::Follower,
            (standing, _) => standing,
        };
        Word::View {
            standing,
            epoch: view.epoch,
            leader: view.leader,
            lease_us: lease.map_or(0, |lease| {
                u64::try_from(lease.as_micros()).unwrap_or(u64::MAX)
            }),
        }
    }

    fn act(&mut self) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                ElectionOutput::Send { to, word } => {
                    let frame = self.packet(to, word).encode();
                    if let Some(port) = self.others.get_mut(&to) {
                        port.post_to(vec![frame.into()])?;
                    }
                }
                ElectionOutput::Persist(ballot) => self.persist(ballot),
                ElectionOutput::Gained(epoch) => {
                    log::info!("member {} leads, epoch {epoch}", self.me);
                }
                ElectionOutput::Lost(epoch) => {
                    log::info!("member {} leads no more, epoch {epoch}", self.me);
                }
                ElectionOutput::Follows(Some(leader)) if leader != self.me => {
                    let epoch = self.machine.view().epoch;
                    log::info!("member {} follows member {leader}, epoch {epoch}", self.me);
                }
                ElectionOutput::Follows(Some(_)) => {}
                ElectionOutput::Follows(None) => {
                    log::info!("member {} knows no leader", self.me);
                }
            }
        }
        Ok(())
    }

    fn persist(&mut self, ballot: super::Ballot) {
        let stored = self
            .ballot
            .as_ref()
            .map_or(Ok(()), |file| file.store(ballot));
        let input = match stored {
            Ok(()) => ElectionInput::Persisted(ballot),
            Err(error) => {
                self.unwritten
                    .add(&format_args!("member {}", self.me), &error);
                ElectionInput::NotPersisted(ballot)
            }
        };
        self.machine.handle(self.clock.now(), input);
    }

    /// What the program has seen in the world.
    fn learn(&mut self, now: Time) {
        let seen = Epoch(self.shared.seen.load(Ordering::SeqCst));
        if seen > self.machine.view().epoch || self.leads_in(now, seen) {
            self.machine.handle(now, ElectionInput::Seen(seen));
        }
    }

    fn leads_in(&self, now: Time, epoch: Epoch) -> bool {
        let tenure = self.machine.tenure(now);
        tenure.is_some_and(|tenure| tenure.epoch <= epoch)
    }

    /// Hands the lead over, if it has it.
    fn resign(&mut self) -> Result<(), TransportError> {
        self.machine.handle(self.clock.now(), ElectionInput::Resign);
        // The program's lease is over before anybody hears that it is.
        self.publish();
        self.act()?;
        self.others.values_mut().try_for_each(Port::flush)
    }

    /// Shows the program how things stand.
    fn publish(&self) {
        let tenure = self.machine.tenure(self.clock.now());
        self.shared.publish(self.machine.view(), tenure);
    }
}

impl Node for ElectionNode {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        self.machine.wake(now);
        self.learn(now);
        self.act()?;
        let more = self.receive()?;
        self.publish();
        // Answers of a peer to itself are of no interest, but must not pile up.
        for port in self.others.values_mut() {
            port.receive_some(MESSAGES_PER_TURN, drop)?;
            port.flush()?;
        }
        self.door.flush()?;
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        self.door.interests(sources);
        for port in self.others.values() {
            port.interests(sources);
        }
    }

    fn is_over(&self) -> bool {
        self.shared.stop.is_stopped()
    }

    fn close(&mut self, error: Option<TransportError>) {
        match &error {
            Some(error) => log::error!("member {} takes part no more: {error}", self.me),
            // Where that cannot be said the others wait for the lease to end.
            None => drop(self.resign()),
        }
        // Before anybody hears of the end, so that the ballot can be opened again.
        self.ballot = None;
        self.shared.end(error.map(|error| error.to_string()));
    }
}
