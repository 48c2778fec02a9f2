//! A data node as the driver drives it.

use std::sync::Arc;
use std::time::Duration;

use crate::complaints::Complaints;
use crate::driver::Node;
use crate::machine::{Clock, Machine as _, Time};
use crate::transport::{Frame, Message, Source, TransportError};
use crate::wait::Interest;

use super::super::super::{
    DataInput, DataMachine, DataOutput, HeadAsks, InstanceId, read_frame, write_frame,
};
use super::super::Shared;
use super::super::disk::DiskThread;
use super::super::envelope::{ToData, ToHead};
use super::super::lock::Lock;
use super::keeper::{Job, Keeper, Report};
use super::link::Link;

/// How often the disk's room is looked at although nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct DriverNode {
    machine: DataMachine,
    links: Vec<Link>,
    disk: DiskThread<Keeper>,
    lock: Option<Lock>,
    shared: Arc<Shared>,
    clock: Clock,
    hello: Frame,
    look_at: Time,
    /// Why a head does not want this node.
    turned_away: Option<String>,
    malformed: Complaints,
    homeless: Complaints,
}

impl DriverNode {
    pub(crate) fn new(
        machine: DataMachine,
        instance: InstanceId,
        links: Vec<Link>,
        (disk, lock): (DiskThread<Keeper>, Lock),
        shared: Arc<Shared>,
        clock: Clock,
    ) -> DriverNode {
        DriverNode {
            machine,
            links,
            disk,
            lock: Some(lock),
            shared,
            clock,
            hello: frame(&ToHead::Hello {
                instance,
                life: rand::random(),
            }),
            look_at: Time::START,
            turned_away: None,
            malformed: Complaints::default(),
            homeless: Complaints::default(),
        }
    }

    fn take_reports(&mut self, now: Time) -> Result<(), TransportError> {
        for report in self.disk.reports()? {
            let input = match report {
                Report::Kept(number) => DataInput::Kept(number),
                Report::NotKept(number, reason) => {
                    log::error!("a record was not written: {reason}");
                    DataInput::NotKept(number, reason)
                }
                Report::Read(number, result) => DataInput::Read(number, result),
                Report::Free(bytes) => DataInput::Free(bytes),
            };
            self.machine.handle(now, input);
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<bool, TransportError> {
        let mut more = false;
        for at in 0..self.links.len() {
            let mut messages = Vec::new();
            more |= self.links[at].receive(|message| messages.push(message))?;
            for message in messages {
                self.take(at, &message);
            }
        }
        Ok(more)
    }

    fn take(&mut self, at: usize, message: &Message) {
        let said = match &message[..] {
            [frame] => read_frame::<ToData>(frame).map_err(|error| error.to_string()),
            _ => Err("a message that is not one frame".into()),
        };
        match said {
            Ok(ToData::Head(asks)) => self.hear(asks),
            // Those of other clusters that use the same group are none of ours.
            Ok(ToData::Beat { token, asks }) => {
                if self.links[at].token == Some(token) {
                    self.hear(asks);
                }
            }
            Ok(ToData::Welcome { head, beats, token }) => {
                if let Err(error) = self.links[at].welcomed(head, beats, token) {
                    self.malformed.add(&"its beats cannot be heard", &error);
                }
            }
            Err(error) => self.malformed.add(&"from a head", &error),
        }
    }

    fn hear(&mut self, asks: HeadAsks) {
        self.machine.handle(self.clock.now(), DataInput::Head(asks));
    }

    fn act(&mut self) -> Result<(), TransportError> {
        while let Some(output) = self.machine.poll() {
            match output {
                DataOutput::ToHead(head, says) => {
                    let link = self.links.iter_mut().find(|link| link.head == Some(head));
                    match link {
                        Some(link) => link.port.post_to(vec![frame(&ToHead::Data(says))])?,
                        None => self.homeless.add(
                            &format_args!("head {}", head.0),
                            &"an answer cannot be sent before the head has said where it is",
                        ),
                    }
                }
                DataOutput::Keep(number, line) => self.disk.ask(Job::Keep(number, line)),
                DataOutput::Read(number, id) => self.disk.ask(Job::Read(number, id)),
                DataOutput::TurnedAway(reason) => {
                    self.turned_away.get_or_insert(reason);
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, now: Time) {
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.disk.ask(Job::Look);
        }
    }
}

impl Node for DriverNode {
    fn turn(&mut self, now: Time) -> Result<bool, TransportError> {
        self.take_reports(now)?;
        self.look(now);
        for link in &mut self.links {
            link.wake(now, &self.hello)?;
        }
        let more = self.receive()?;
        self.act()?;
        for link in &mut self.links {
            link.port.flush()?;
        }
        match self.turned_away.take() {
            Some(reason) => Err(TransportError::Failed {
                what: "the head has turned this data node away",
                reason,
            }),
            None => Ok(more),
        }
    }

    fn deadline(&self) -> Option<Time> {
        let hellos = self.links.iter().map(Link::deadline);
        hellos.chain([self.look_at]).min()
    }

    fn interests<'a>(&'a self, sources: &mut Vec<(Source<'a>, Interest)>) {
        let ports = self.links.iter().flat_map(Link::ports);
        ports.for_each(|port| port.interests(sources));
    }

    fn is_over(&self) -> bool {
        self.shared.stop.is_stopped()
    }

    fn close(&mut self, error: Option<TransportError>) {
        // Before anybody hears of the end, so that the file can be opened again.
        self.disk.finish();
        self.lock = None;
        self.shared.end(error.map(|error| error.to_string()));
    }
}

/// Our own messages hold nothing that MessagePack cannot express.
fn frame(message: &ToHead) -> Frame {
    write_frame(message).unwrap_or_default().into()
}
