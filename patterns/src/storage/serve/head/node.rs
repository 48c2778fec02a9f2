//! A head as the driver drives it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::complaints::Complaints;
use crate::detector::{Detector, State as Health_};
use crate::driver::{Node, Port};
use crate::election;
use crate::election::Election;
use crate::machine::{Clock, Machine as _, Time};
use crate::transport::{Frame, Message, Source, TransportError};
use crate::wait::Interest;

use super::super::super::{
    DataSays, Epoch, HeadAsks, HeadId, HeadInput, HeadMachine, HeadOutput, Health, InstanceId,
    read_frame, write_frame,
};
use super::super::Shared;
use super::super::disk::DiskThread;
use super::super::door::{Came, Visitors};
use super::super::envelope::{BeatsAt, ToData, ToHead};
use super::super::lock::Lock;
use super::super::register_file::{RegisterFile, RegisterReport};
use super::OnRound;

/// Messages taken at once; beats go out in between.
const MESSAGES_PER_TURN: usize = 64;

/// A head that is alone takes the lead back from another once; again so soon, and there are two.
const RIVALRY: Duration = Duration::from_secs(60);

pub(super) struct HeadNode {
    pub(super) machine: HeadMachine,
    pub(super) detector: Detector<InstanceId>,
    /// Where everybody knocks.
    pub(super) door: Port,
    pub(super) beats: Port,
    pub(super) beats_at: BeatsAt,
    /// What its beats carry, so that they are not taken for those of another.
    pub(super) token: u64,
    pub(super) others: BTreeMap<HeadId, Port>,
    /// None when it is alone.
    pub(super) election: Option<Election>,
    pub(super) disk: DiskThread<RegisterFile>,
    pub(super) lock: Option<Lock>,
    pub(super) on_round: OnRound,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) state: State,
}

/// What changes while it runs.
#[derive(Default)]
pub(super) struct State {
    visitors: Visitors,
    /// For the log.
    names: HashMap<InstanceId, String>,
    /// The epoch that the election has given, or that it has given itself.
    leads: Option<Epoch>,
    /// The last question to all data nodes, for those who come a little later.
    beat: Option<HeadAsks>,
    /// When it last took the lead back.
    taken_back: Option<Time>,
    malformed: Complaints,
}

impl HeadNode {
    fn head(&self) -> HeadId {
        self.machine.config().head
    }

    /// Who it is, for people: one that is alone has a number that means nothing.
    fn name(&self) -> String {
        match &self.election {
            Some(_) => format!("head {}", self.head().0),
            None => "the head".into(),
        }
    }

    fn handle(&mut self, now: Time, input: HeadInput) {
        self.machine.handle(now, input);
    }

    /// Leads when the election says so, and no longer.
    fn follow_election(&mut self, now: Time) {
        let Some(election) = &self.election else {
            if self.state.leads.is_none() {
                let epoch = self.machine.promised().0 + 1;
                self.lead(now, epoch.max(seconds_since_1970()));
            }
            return;
        };
        let epoch = election.lease().map(|lease| lease.epoch().0);
        if epoch == self.state.leads {
            return;
        }
        match epoch {
            Some(epoch) => self.lead(now, epoch),
            None => {
                log::info!("{} leads no more", self.name());
                self.state.leads = None;
                self.handle(now, HeadInput::Resign);
            }
        }
    }

    fn lead(&mut self, now: Time, epoch: Epoch) {
        log::info!("{} leads, epoch {epoch}", self.name());
        self.state.leads = Some(epoch);
        self.state.beat = None;
        // While it followed nobody answered it, which says nothing of them.
        self.detector = super::detector(self.machine.config());
        self.handle(now, HeadInput::Lead(epoch));
    }

    /// Whether what it says to clients is still to be believed.
    fn may_speak(&self) -> bool {
        let Some(election) = &self.election else {
            return true;
        };
        // A head that follows says only who leads.
        let lease = election.lease().map(|lease| lease.epoch().0);
        self.state.leads.is_none() || lease == self.state.leads
    }

    fn take_reports(&mut self, now: Time) -> Result<(), TransportError> {
        for report in self.disk.reports()? {
            let input = match report {
                RegisterReport::Kept(count) => HeadInput::Kept(count),
                RegisterReport::Full(Some(error)) => {
                    log::error!(
                        "{} takes no records: its register cannot be written ({error}); make room on that disk",
                        self.name()
                    );
                    HeadInput::DiskFull(true)
                }
                RegisterReport::Full(None) => {
                    log::info!("{} takes records again", self.name());
                    HeadInput::DiskFull(false)
                }
            };
            self.handle(now, input);
        }
        Ok(())
    }

    fn look_at_health(&mut self, now: Time) {
        self.detector.wake(now);
        while let Some(change) = self.detector.poll() {
            let health = match change.state {
                Health_::Alive => Health::Alive,
                Health_::Suspect => Health::Stale,
                Health_::Dead => Health::Dead,
            };
            if self.state.leads.is_none() {
                // Whoever leads knows better; this one is not answered.
                continue;
            }
            let name = self.state.names.get(&change.peer);
            let name = name.map_or_else(|| change.peer.to_string(), Clone::clone);
            match health {
                Health::Alive => log::info!("data node {name} is alive again"),
                Health::Stale => {
                    log::warn!("data node {name} is stale: it gets no new records");
                }
                Health::Dead => {
                    log::warn!("data node {name} is dead: its records are copied elsewhere");
                }
            }
            self.handle(now, HeadInput::Health(change.peer, health));
        }
    }

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
        let read = match &message[..] {
            [route, frame] => read_frame::<ToHead>(frame)
                .map(|said| (route, said))
                .map_err(|error| error.to_string()),
            _ => Err("a message that is not one frame".into()),
        };
        match read {
            Ok((route, said)) => self.hear(route, said),
            Err(error) => {
                let place = self.name();
                self.state.malformed.add(&place, &error);
                Ok(())
            }
        }
    }

    fn hear(&mut self, route: &Frame, said: ToHead) -> Result<(), TransportError> {
        let now = self.clock.now();
        match said {
            ToHead::Client(asks) => {
                let client = self.state.visitors.client(route);
                self.handle(now, HeadInput::Client(client, asks));
            }
            ToHead::Data(says) => {
                self.note(now, &says);
                self.handle(now, HeadInput::Data(says));
            }
            ToHead::Head { from, to, says } if to == self.head() => {
                self.handle(now, HeadInput::Head(from, says));
            }
            ToHead::Head { from, to, .. } => {
                let why = format!(
                    "a message of head {} for head {} has come here: check its endpoint among the peers",
                    from.0, to.0
                );
                let place = self.name();
                self.state.malformed.add(&place, &why);
            }
            ToHead::Hello { instance, life } => self.welcome(route, instance, life)?,
        }
        self.act()
    }

    /// Who has answered a beat is alive.
    fn note(&mut self, now: Time, says: &DataSays) {
        let DataSays::Alive {
            instance,
            name,
            epoch,
            ..
        } = says
        else {
            return;
        };
        if Some(*epoch) != self.state.leads || self.state.visitors.node_route(*instance).is_none() {
            return;
        }
        if self.detector.heartbeat(now, *instance).is_ok()
            && self.state.names.get(instance) != Some(name)
        {
            log::info!("data node {name} is here");
            self.state.names.insert(*instance, name.clone());
        }
    }

    /// Says where beats are heard. Who comes between two of them is asked at once.
    fn welcome(
        &mut self,
        route: &Frame,
        instance: InstanceId,
        life: u64,
    ) -> Result<(), TransportError> {
        let now = self.clock.now();
        let came = self.state.visitors.note_node(now, instance, life, route);
        if let Came::Twin(twin) = &came {
            let reason = "another program keeps a copy of its data.txt: give each data node a folder of its own, and begin with an empty one";
            self.turn_away(&Frame::from(&twin[..]), instance, reason)?;
        }
        if came == Came::TooMany {
            let why = "a data node is not answered, as there are too many: restart the head when some have left for good";
            self.state.malformed.add(&self.name(), &why);
        }
        if matches!(came, Came::Late | Came::TooMany) {
            return Ok(());
        }
        let welcome = ToData::Welcome {
            head: self.head(),
            beats: self.beats_at.clone(),
            token: self.token,
        };
        self.door.post_to(vec![route.clone(), frame(&welcome)])?;
        match self.state.beat.clone().filter(|_| came != Came::Known) {
            Some(beat) => self.say_to_node(instance, beat),
            None => Ok(()),
        }
    }

    fn turn_away(
        &mut self,
        route: &Frame,
        to: InstanceId,
        reason: &str,
    ) -> Result<(), TransportError> {
        log::error!("a data node is turned away: {reason}");
        let reason = reason.into();
        let away = ToData::Head(HeadAsks::TurnedAway { to, reason });
        self.door.post_to(vec![route.clone(), frame(&away)])
    }

    fn say_to_node(&mut self, to: InstanceId, asks: HeadAsks) -> Result<(), TransportError> {
        match self.state.visitors.node_route(to) {
            Some(route) => {
                let message = vec![route.clone(), frame(&ToData::Head(asks))];
                self.door.post_to(message)
            }
            // It says hello again, and the order is repeated.
            None => Ok(()),
        }
    }

    fn act(&mut self) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                HeadOutput::ToAll(asks) => {
                    self.state.beat = Some(asks.clone());
                    let token = self.token;
                    self.beats
                        .post_to(vec![frame(&ToData::Beat { token, asks })])?;
                }
                HeadOutput::ToNode(to, asks) => self.say_to_node(to, asks)?,
                HeadOutput::ToHead(to, says) => {
                    let from = self.head();
                    if let Some(port) = self.others.get_mut(&to) {
                        port.post_to(vec![frame(&ToHead::Head { from, to, says })])?;
                    }
                }
                HeadOutput::ToClient(peer, tells) => {
                    if let Some(route) = self.state.visitors.client_route(peer)
                        && self.may_speak()
                    {
                        let message = vec![route.clone(), frame(&tells)];
                        self.door.post_to(message)?;
                    }
                }
                HeadOutput::Keep(line) => self.disk.ask(line),
                HeadOutput::Beat(line) => (self.on_round)(&line),
                HeadOutput::Watch(instance) => {
                    // What was thought of it in another reign, in which it answered somebody else, is nothing to go by.
                    self.detector.forget(instance);
                    // Beyond the limit a node is not watched, and gets nothing.
                    let _ = self.detector.watch(self.clock.now(), instance);
                }
                HeadOutput::Deposed(epoch) => self.deposed(epoch)?,
            }
        }
        Ok(())
    }

    /// Somebody obeys a later reign.
    fn deposed(&mut self, epoch: Epoch) -> Result<(), TransportError> {
        let now = self.clock.now();
        if let Some(election) = &self.election {
            election.outdated(election::Epoch(epoch));
            return Ok(());
        }
        let last = self.state.taken_back.replace(now);
        if last.is_some_and(|last| now.since(last) < RIVALRY) {
            return Err(TransportError::Failed {
                what: "the data nodes obey another head, again and again",
                reason: "stop one of the two, or start both with --peers".into(),
            });
        }
        log::warn!("the data nodes obeyed another head, epoch {epoch}: this one takes over");
        self.lead(now, epoch.max(self.machine.promised().0) + 1);
        Ok(())
    }
}

impl Node for HeadNode {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        self.follow_election(now);
        self.take_reports(now)?;
        self.look_at_health(now);
        self.machine.wake(now);
        self.act()?;
        let more = self.receive()?;
        for port in self.others.values_mut().chain([&mut self.beats]) {
            // Nothing is said there, but subscriptions and the like must be taken.
            port.receive_some(MESSAGES_PER_TURN, drop)?;
            port.flush()?;
        }
        self.door.flush()?;
        Ok(more)
    }

    fn deadline(&self) -> Option<Time> {
        let deadlines = [self.machine.deadline(), self.detector.deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        let ports = [&self.door, &self.beats].into_iter();
        ports
            .chain(self.others.values())
            .for_each(|port| port.interests(sources));
    }

    fn is_over(&self) -> bool {
        self.shared.stop.is_stopped()
    }

    fn close(&mut self, error: Option<TransportError>) {
        if let Some(error) = &error {
            log::error!("{} serves no more: {error}", self.name());
        }
        // Others may lead as soon as possible.
        self.election = None;
        // Before anybody hears of the end, so that the files can be opened again.
        self.disk.finish();
        self.lock = None;
        self.shared.end(error.map(|error| error.to_string()));
    }
}

/// Our own messages hold nothing that MessagePack cannot express.
fn frame<T: Serialize>(message: &T) -> Frame {
    write_frame(message).unwrap_or_default().into()
}

/// An epoch that no earlier life of this head has had, even if its register is lost.
fn seconds_since_1970() -> Epoch {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}
