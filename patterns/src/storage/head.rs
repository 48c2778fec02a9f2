//! The head: knows where every record is, and sees to it that there are enough copies.
//!
//! ```text
//!               Lead(epoch)            promised by most, best register fetched
//!   following ──────────────▶ joining ─────────────────────────────────────────▶ reigning
//!       ▲                        │                                                  │
//!       └────────────────────────┴── a later reign, or the election says so ────────┘
//! ```

mod catalog;
mod desk;
mod followers;
mod join;
mod nodes;
mod orders;
mod puts;
mod reads;
mod reign;
mod repair;

use std::time::Duration;

use rand::rngs::StdRng;

use crate::machine::{Machine, Time};
use crate::pipeline::PeerId;

use super::{
    BeatLine, ClientAsks, DataSays, Epoch, HeadAsks, HeadId, HeadSays, HeadTells, InstanceId,
    Register, RegisterLine, StatusView,
};
use desk::Desk;
use join::{ENTRIES_AT_ONCE, Joining};
use reign::Reign;

/// What a head is, its bounds and times.
#[derive(Clone, Debug)]
pub struct HeadConfig {
    /// Its number.
    pub head: HeadId,
    /// The numbers of the other heads; none for a head that is alone.
    pub peers: Vec<HeadId>,
    /// Copies of each record that must be on disk before it is confirmed; at least 1.
    pub replicas: usize,
    /// How often data nodes are asked whether they are up.
    pub beat: Duration,
    /// After how long a message is sent again that was not answered; a few round trips.
    pub resend: Duration,
    /// After how long another data node is tried for what the first has not done; a few `resend`s.
    pub patience: Duration,
    /// The longest record, in bytes; what a message can carry less a hundred.
    pub record_bytes: u64,
    /// Records that may be on their way to disk at once; more are refused.
    pub puts: usize,
    /// Bytes that they may have together; at least `record_bytes`.
    pub put_bytes: u64,
    /// Bytes a second that any data node takes, reads or sends at least: so much longer it is waited for when it has
    /// much to do; at least 1.
    pub slow_bytes_per_second: u64,
    /// Reads for clients that may be under way at once; more are refused. Together they may have `put_bytes`.
    pub gets: usize,
    /// Copies that are made again at once after a node has died.
    pub repairs: usize,
    /// Bytes of such copies in a second, so that clients are served meanwhile; at least 1.
    pub repair_bytes_per_second: u64,
}

impl HeadConfig {
    /// A head that is alone, two copies, a beat every 5 s, records of up to 16 MiB.
    pub fn alone() -> HeadConfig {
        HeadConfig {
            head: HeadId(1),
            peers: Vec::new(),
            replicas: 2,
            beat: Duration::from_secs(5),
            resend: Duration::from_millis(500),
            patience: Duration::from_secs(2),
            record_bytes: 16 << 20,
            puts: 1_000,
            put_bytes: 256 << 20,
            slow_bytes_per_second: 4 << 20,
            gets: 1_000,
            repairs: 4,
            repair_bytes_per_second: 32 << 20,
        }
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("replicas", self.replicas),
            ("puts", self.puts),
            ("gets", self.gets),
            ("repairs", self.repairs),
            (
                "repair_bytes_per_second",
                self.repair_bytes_per_second.min(1) as usize,
            ),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0: give at least 1"));
        }
        if self.beat.is_zero() || self.resend.is_zero() || self.patience < self.resend {
            return Err("beat or resend is 0, or patience is shorter than resend".into());
        }
        if self.put_bytes < self.record_bytes {
            return Err(
                "put_bytes is below record_bytes: the longest record would never fit".into(),
            );
        }
        if self.peers.contains(&self.head) {
            return Err("peers names this head itself: give the numbers of the others".into());
        }
        Ok(())
    }
}

/// How a data node fares, as the failure detector says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Alive,
    /// It has missed some beats: it gets no new records, and its copies still count.
    Stale,
    /// It has missed many: its records are copied again elsewhere.
    Dead,
}

/// What happens to a head.
#[derive(Debug)]
pub enum HeadInput {
    /// The election says that this head leads, in an epoch that nobody else has. A head that is alone
    /// elects itself, for an epoch above [the last](HeadMachine::promised) and not below the seconds
    /// since 1970, so that it repeats none when its register was lost.
    Lead(Epoch),
    /// The election says that it leads no more.
    Resign,
    /// The failure detector says how a data node fares, whenever that changes.
    Health(InstanceId, Health),
    /// A data node speaks.
    Data(DataSays),
    /// Another head speaks.
    Head(HeadId, HeadSays),
    /// A client speaks.
    Client(PeerId, ClientAsks),
    /// So many lines, counted from the start of the program, are on disk. A line that the disk does not
    /// take is tried again, so that none is missing.
    Kept(u64),
    /// The disk has no room (`true`), or has again: meanwhile no records are taken.
    DiskFull(bool),
}

/// What a head wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadOutput {
    /// Ask all data nodes, known or not.
    ToAll(HeadAsks),
    /// Tell a data node.
    ToNode(InstanceId, HeadAsks),
    /// Tell another head.
    ToHead(HeadId, HeadSays),
    /// Tell a client.
    ToClient(PeerId, HeadTells),
    /// Append the line to the register and sync it, in order; answered by [`Kept`](HeadInput::Kept).
    Keep(RegisterLine),
    /// Append the line to the log of heartbeats.
    Beat(BeatLine),
    /// Let the failure detector watch this data node, as if it had been heard just now.
    Watch(InstanceId),
    /// Somebody obeys a later reign: the election should know.
    Deposed(Epoch),
}

#[derive(Debug)]
enum Role {
    Following(Option<HeadId>),
    Joining(Joining),
    Reigning(Box<Reign>),
}

/// The head as a machine.
#[derive(Debug)]
pub struct HeadMachine {
    desk: Desk,
    role: Role,
    rng: StdRng,
}

impl HeadMachine {
    /// A head with the register that it has on disk; it serves nobody before it [leads](HeadInput::Lead).
    pub fn new(config: HeadConfig, register: Register, rng: StdRng) -> HeadMachine {
        HeadMachine {
            desk: Desk::new(config, register),
            role: Role::Following(None),
            rng,
        }
    }

    /// The latest reign that this head knows, and whose it is. An epoch to lead in must be above it.
    pub fn promised(&self) -> (Epoch, HeadId) {
        self.desk.register.promised()
    }

    /// What it is, its bounds and times.
    pub fn config(&self) -> &HeadConfig {
        &self.desk.config
    }

    /// Its copy of the register.
    pub fn register(&self) -> &Register {
        &self.desk.register
    }

    /// How the cluster fares, if this head reigns.
    pub fn status(&self) -> Option<StatusView> {
        match &self.role {
            Role::Reigning(reign) => Some(reign.status(&self.desk)),
            _ => None,
        }
    }

    fn lead(&mut self, now: Time, epoch: Epoch) {
        let (promised, by) = self.promised();
        let leads = !matches!(self.role, Role::Following(_));
        if leads && (epoch, self.desk.config.head) == (promised, by) {
            return;
        }
        if epoch <= promised {
            return self.desk.say(HeadOutput::Deposed(promised));
        }
        self.step_down(None);
        self.desk.promise(epoch, self.desk.config.head);
        self.role = Role::Joining(Joining::new(now, epoch, &mut self.desk));
    }

    fn step_down(&mut self, leader: Option<HeadId>) {
        let before = std::mem::replace(&mut self.role, Role::Following(leader));
        if let Role::Reigning(reign) = before {
            reign.end(leader, &mut self.desk);
        }
    }

    /// The reign begins as soon as it may.
    fn ascend(&mut self, now: Time) {
        if let Role::Joining(joining) = &self.role
            && joining.is_complete(&self.desk)
        {
            let reign = Reign::new(now, joining.epoch, &mut self.desk, &mut self.rng);
            self.role = Role::Reigning(Box::new(reign));
        }
    }

    fn hear_head(&mut self, now: Time, from: HeadId, message: HeadSays) {
        if !self.desk.config.peers.contains(&from) {
            return;
        }
        match message {
            HeadSays::Promise { epoch } => {
                if self.follows(epoch, from) {
                    let last = self.desk.register.last();
                    self.desk
                        .say_when_kept(from, HeadSays::Promised { epoch, last });
                }
            }
            HeadSays::Fetch { epoch, after } => {
                if self.follows(epoch, from) {
                    self.give(from, epoch, after);
                }
            }
            HeadSays::Append {
                epoch,
                after,
                entries,
            } => {
                if self.follows(epoch, from) {
                    self.append(from, epoch, after, entries);
                }
            }
            HeadSays::Promised { epoch, last } => match &mut self.role {
                Role::Joining(joining) if joining.epoch == epoch => {
                    joining.promised(now, from, last, &mut self.desk);
                }
                _ => {}
            },
            HeadSays::Fetched {
                epoch,
                after,
                entries,
            } => match &mut self.role {
                Role::Joining(joining) if joining.epoch == epoch => {
                    joining.fetched(now, from, after, entries, &mut self.desk);
                }
                _ => {}
            },
            HeadSays::Appended {
                epoch,
                matched,
                last,
            } => match &mut self.role {
                Role::Reigning(reign) if reign.epoch == epoch => {
                    reign.appended(now, from, matched, last, &mut self.desk);
                }
                _ => {}
            },
            HeadSays::Refused { epoch } => self.deposed(epoch),
        }
    }

    /// Whether `from` may order in this epoch; if the epoch is new, whoever else reigned does no more.
    /// Two heads in one epoch, which no sound election allows, would not do harm: the first one counts.
    fn follows(&mut self, epoch: Epoch, from: HeadId) -> bool {
        let promised = self.promised();
        if epoch < promised.0 || (epoch == promised.0 && from != promised.1) {
            let epoch = promised.0;
            self.desk.say_to_head(from, HeadSays::Refused { epoch });
            return false;
        }
        if epoch > promised.0 {
            let reigned = !matches!(self.role, Role::Following(_));
            self.step_down(Some(from));
            if reigned {
                self.desk.say(HeadOutput::Deposed(epoch));
            }
            self.desk.promise(epoch, from);
        }
        self.role = Role::Following(Some(from));
        true
    }

    fn give(&mut self, to: HeadId, epoch: Epoch, after: super::Position) {
        let register = &self.desk.register;
        let (after, entries) = match register.has(after) {
            true => {
                let entries = register.behind(after.index, ENTRIES_AT_ONCE);
                (after, entries.to_vec())
            }
            false => (register.common(after), Vec::new()),
        };
        let fetched = HeadSays::Fetched {
            epoch,
            after,
            entries,
        };
        self.desk.say_when_kept(to, fetched);
    }

    fn append(
        &mut self,
        from: HeadId,
        epoch: Epoch,
        after: super::Position,
        entries: Vec<super::Entry>,
    ) {
        let matched = self.desk.register.has(after);
        let last = match matched {
            true => {
                let end = after.index + entries.len() as u64;
                self.desk.graft(after, entries);
                self.desk.register.position(end).unwrap_or_default()
            }
            false => self.desk.register.common(after),
        };
        let appended = HeadSays::Appended {
            epoch,
            matched,
            last,
        };
        self.desk.say_when_kept(from, appended);
    }

    /// Somebody obeys a later reign.
    fn deposed(&mut self, epoch: Epoch) {
        let ours = match &self.role {
            Role::Following(_) => return,
            Role::Joining(joining) => joining.epoch,
            Role::Reigning(reign) => reign.epoch,
        };
        if epoch >= ours {
            self.step_down(None);
            self.desk.say(HeadOutput::Deposed(epoch));
        }
    }

    fn hear_client(&mut self, now: Time, peer: PeerId, message: ClientAsks) {
        match &mut self.role {
            Role::Reigning(reign) => {
                reign.hear_client(now, peer, message, &mut self.desk, &mut self.rng);
            }
            role => {
                let leader = match role {
                    Role::Following(leader) => *leader,
                    _ => Some(self.desk.config.head),
                };
                let answer = HeadTells::NotLeading { leader };
                self.desk.say(HeadOutput::ToClient(peer, answer));
            }
        }
    }

    fn hear_data(&mut self, now: Time, message: DataSays) {
        if let DataSays::Deposed { epoch, .. } = message {
            return self.deposed(epoch);
        }
        if let Role::Reigning(reign) = &mut self.role {
            reign.hear_data(now, message, &mut self.desk, &mut self.rng);
        }
    }
}

impl Machine for HeadMachine {
    type Input = HeadInput;
    type Output = HeadOutput;

    fn handle(&mut self, now: Time, input: HeadInput) {
        match input {
            HeadInput::Lead(epoch) => self.lead(now, epoch),
            HeadInput::Resign => self.step_down(None),
            HeadInput::Data(message) => self.hear_data(now, message),
            HeadInput::Head(from, message) => self.hear_head(now, from, message),
            HeadInput::Client(peer, message) => self.hear_client(now, peer, message),
            HeadInput::Health(node, health) => {
                if let Role::Reigning(reign) = &mut self.role {
                    reign.fare(now, node, health, &mut self.desk, &mut self.rng);
                }
            }
            HeadInput::Kept(count) => {
                self.desk.kept(count);
                if let Role::Reigning(reign) = &mut self.role {
                    reign.advance(now, &mut self.desk, &mut self.rng);
                }
            }
            HeadInput::DiskFull(full) => {
                self.desk.disk_full = full;
            }
        }
        self.ascend(now);
    }

    fn wake(&mut self, now: Time) {
        match &mut self.role {
            Role::Following(_) => {}
            Role::Joining(joining) => joining.wake(now, &mut self.desk),
            Role::Reigning(reign) => reign.wake(now, &mut self.desk, &mut self.rng),
        }
        self.ascend(now);
    }

    fn poll(&mut self) -> Option<HeadOutput> {
        self.desk.next()
    }

    fn deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Following(_) => None,
            Role::Joining(joining) => Some(joining.deadline()),
            Role::Reigning(reign) => Some(reign.deadline()),
        }
    }
}
