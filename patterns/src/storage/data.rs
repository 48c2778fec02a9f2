//! The data node: keeps copies of records, and does what the latest head says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use crate::machine::{Machine, Time};

use super::{
    Checksum, Copy, DataLine, DataSays, Deed, Epoch, HeadAsks, HeadId, InstanceId, Outcome,
    Payload, RecordId, Stamp,
};

/// Copies named in one message.
const PAGE: usize = 1_000;

/// Copies read for one answer to a check, and bytes of them, so that the answer comes before the head has
/// given the node up.
const CHECKED_AT_ONCE: usize = 64;
const CHECKED_BYTES_AT_ONCE: u64 = 32 << 20;

/// Orders that may wait for the disk; those beyond are dropped, and given again by the head.
const MAX_WAITING: usize = 4_096;

/// What a data node is.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Its name, for people; unique in the cluster.
    pub name: String,
    /// The number of this start; larger than that of every earlier one.
    pub start: u64,
    /// Bytes that must stay free on the disk; no record is taken that would not leave them.
    pub reserve_bytes: u64,
}

/// What happens to a data node.
#[derive(Debug)]
pub enum DataInput {
    /// A head speaks.
    Head(HeadAsks),
    /// The line of this number is on disk.
    Kept(u64),
    /// The disk did not take the line of this number, and nothing of it is in the file.
    NotKept(u64, String),
    /// What the record of this number holds, as read from the disk and found good.
    Read(u64, Result<Payload, ReadFailure>),
    /// How many bytes the disk has room for.
    Free(u64),
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The line is not what was written.
    #[error("the record is damaged")]
    Damaged,
    /// The disk did not answer, which it may do later.
    #[error("the disk cannot be read")]
    Unreadable,
}

/// What a data node wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataOutput {
    /// Answer the head that spoke last, or this one.
    ToHead(HeadId, DataSays),
    /// Append the line and sync it, in order; answered by [`Kept`](DataInput::Kept) or
    /// [`NotKept`](DataInput::NotKept) with this number.
    Keep(u64, DataLine),
    /// Read the last line of this record; answered by [`Read`](DataInput::Read) with this number.
    Read(u64, RecordId),
    /// A head does not want this node, for this reason.
    TurnedAway(String),
}

/// A copy that is on disk.
#[derive(Clone, Copy, Debug)]
struct Held {
    stamp: Stamp,
    checksum: Checksum,
    length: u64,
}

impl Held {
    fn copy(&self, id: RecordId) -> Copy {
        let Held {
            checksum, length, ..
        } = *self;
        Copy {
            id,
            checksum,
            length,
        }
    }
}

/// What waits for the disk.
#[derive(Debug)]
enum Waiting {
    Fence(Epoch, HeadId),
    Store(HeadId, Stamp, RecordId, Held),
    Drop(HeadId, Stamp, RecordId, Held),
    Damaged,
    Read(HeadId, Stamp, RecordId, Stamp),
    Check(HeadId, Stamp, Check),
}

impl Waiting {
    /// The order that is being followed.
    fn order(&self) -> Option<Stamp> {
        match self {
            Waiting::Fence(..) | Waiting::Damaged => None,
            Waiting::Store(_, stamp, ..)
            | Waiting::Drop(_, stamp, ..)
            | Waiting::Read(_, stamp, ..)
            | Waiting::Check(_, stamp, _) => Some(*stamp),
        }
    }
}

/// A check under way: one copy is read after the other.
#[derive(Debug)]
struct Check {
    at: RecordId,
    copy: Stamp,
    left: usize,
    bytes_left: u64,
    checked: u64,
    damaged: Vec<RecordId>,
}

/// The data node as a machine.
#[derive(Debug)]
pub struct DataMachine {
    config: DataConfig,
    instance: InstanceId,
    /// The latest reign that is on disk.
    fence: (Epoch, HeadId),
    /// A later one that is on its way there, and the round to answer then.
    adopting: Option<(Epoch, Option<u64>)>,
    held: BTreeMap<RecordId, Held>,
    bytes: u64,
    digest: u64,
    free: u64,
    /// The last order to list since the start. Earlier orders to drop are void, as the head counts on what
    /// was listed; and so are all before the first, whatever was listed before the start.
    listed: Option<Stamp>,
    waiting: BTreeMap<u64, Waiting>,
    /// Orders that are being followed: what is said again meanwhile is not done twice.
    under_way: BTreeSet<Stamp>,
    ops: u64,
    outbox: VecDeque<DataOutput>,
}

impl DataMachine {
    /// A data node with the file that `instance` names; `lines` are those behind its first one, without
    /// those that are damaged.
    pub fn new(
        config: DataConfig,
        instance: InstanceId,
        lines: impl IntoIterator<Item = DataLine>,
    ) -> DataMachine {
        let mut machine = DataMachine {
            config,
            instance,
            fence: (0, HeadId(0)),
            adopting: None,
            held: BTreeMap::new(),
            bytes: 0,
            digest: 0,
            free: 0,
            listed: None,
            waiting: BTreeMap::new(),
            under_way: BTreeSet::new(),
            ops: 0,
            outbox: VecDeque::new(),
        };
        lines.into_iter().for_each(|line| machine.replay(line));
        machine
    }

    /// Whose file it is, once that is known.
    pub(super) fn belong_to(&mut self, instance: InstanceId) {
        self.instance = instance;
    }

    /// Takes note of a line that was read from the file.
    pub(super) fn replay(&mut self, line: DataLine) {
        match line {
            DataLine::Node { .. } => {}
            DataLine::Epoch { epoch, head } => self.fence = self.fence.max((epoch, head)),
            DataLine::Record {
                id,
                stamp,
                checksum,
                bytes,
            } => {
                let length = bytes.len() as u64;
                let held = Held {
                    stamp,
                    checksum,
                    length,
                };
                self.hold(id, held);
            }
            DataLine::Dropped { id, stamp } => self.let_go_if(id, |held| held < stamp),
            DataLine::Damaged { id, stamp } => self.let_go_if(id, |held| held == stamp),
        }
    }

    /// The copies that it holds.
    pub fn copies(&self) -> impl Iterator<Item = Copy> {
        self.held.iter().map(|(&id, held)| held.copy(id))
    }

    /// The latest reign that it has seen, on disk.
    pub fn fence(&self) -> (Epoch, HeadId) {
        self.fence
    }

    fn hold(&mut self, id: RecordId, held: Held) {
        self.let_go(id);
        self.bytes += held.length;
        self.digest ^= digest(&held.copy(id));
        self.held.insert(id, held);
    }

    fn let_go_if(&mut self, id: RecordId, goes: impl Fn(Stamp) -> bool) {
        if self.held.get(&id).is_some_and(|held| goes(held.stamp)) {
            self.let_go(id);
        }
    }

    fn let_go(&mut self, id: RecordId) {
        if let Some(held) = self.held.remove(&id) {
            self.bytes -= held.length;
            self.digest ^= digest(&held.copy(id));
        }
    }

    fn hear(&mut self, message: HeadAsks) {
        match message {
            HeadAsks::Beat { epoch, head, round } => {
                if self.obeys(epoch, head, Some(round)) {
                    self.answer_beat(head, round);
                }
            }
            HeadAsks::Order { to, .. } | HeadAsks::TurnedAway { to, .. } if to != self.instance => {
            }
            HeadAsks::Order {
                head, stamp, deed, ..
            } => {
                let room = self.waiting.len() < MAX_WAITING && !self.under_way.contains(&stamp);
                if self.obeys(stamp.epoch, head, None) && room {
                    self.obey(head, stamp, deed);
                }
            }
            HeadAsks::TurnedAway { reason, .. } => {
                self.outbox.push_back(DataOutput::TurnedAway(reason));
            }
        }
    }

    /// Whether this head may order now. A new one may when its reign is on disk: a node that forgot it
    /// might obey the one before.
    fn obeys(&mut self, epoch: Epoch, head: HeadId, round: Option<u64>) -> bool {
        let newest = match self.adopting {
            Some((adopting, _)) => adopting,
            None => self.fence.0,
        };
        if epoch < newest || (epoch == self.fence.0 && head != self.fence.1) {
            let instance = self.instance;
            let epoch = newest;
            self.tell(head, DataSays::Deposed { instance, epoch });
            return false;
        }
        if epoch == self.fence.0 {
            return true;
        }
        match &mut self.adopting {
            Some((adopting, waits)) if *adopting == epoch => *waits = round.or(*waits),
            _ => {
                self.adopting = Some((epoch, round));
                self.keep(DataLine::Epoch { epoch, head }, Waiting::Fence(epoch, head));
            }
        }
        false
    }

    fn answer_beat(&mut self, head: HeadId, round: u64) {
        let alive = DataSays::Alive {
            instance: self.instance,
            start: self.config.start,
            name: self.config.name.clone(),
            epoch: self.fence.0,
            round,
            records: self.held.len() as u64,
            bytes: self.bytes,
            free: self.free.saturating_sub(self.config.reserve_bytes),
            digest: self.digest,
        };
        self.tell(head, alive);
    }

    fn obey(&mut self, head: HeadId, stamp: Stamp, deed: Deed) {
        match deed {
            Deed::Store {
                id,
                checksum,
                bytes,
            } => self.store(head, stamp, id, checksum, bytes),
            Deed::Read { id } => match self.held.get(&id) {
                Some(held) => {
                    let copy = held.stamp;
                    self.read(id, Waiting::Read(head, stamp, id, copy));
                }
                None => self.done(head, stamp, Outcome::NotHere),
            },
            Deed::Drop { id } => self.drop_copy(head, stamp, id),
            Deed::List { after } => self.list(head, stamp, after),
            Deed::Check { after } => {
                let check = Check {
                    at: RecordId(0),
                    copy: Stamp::default(),
                    left: CHECKED_AT_ONCE,
                    bytes_left: CHECKED_BYTES_AT_ONCE,
                    checked: 0,
                    damaged: Vec::new(),
                };
                self.check_next(head, stamp, after, check);
            }
        }
    }

    fn store(
        &mut self,
        head: HeadId,
        stamp: Stamp,
        id: RecordId,
        checksum: Checksum,
        bytes: Payload,
    ) {
        let length = bytes.len() as u64;
        if bytes.checksum() != checksum {
            let reason = "the record was damaged on its way".into();
            return self.done(head, stamp, Outcome::NotStored { reason });
        }
        match self.held.get(&id) {
            // Said twice, or said late.
            Some(held) if held.stamp >= stamp => {
                let outcome = match held.checksum == checksum && held.length == length {
                    true => Outcome::Stored,
                    false => Outcome::NotStored {
                        reason: "another record was stored under this id since".into(),
                    },
                };
                return self.done(head, stamp, outcome);
            }
            _ => {}
        }
        if self.free < length.saturating_add(self.config.reserve_bytes) {
            let reason = format!("the disk of {} is full", self.config.name);
            return self.done(head, stamp, Outcome::NotStored { reason });
        }
        let held = Held {
            stamp,
            checksum,
            length,
        };
        let line = DataLine::Record {
            id,
            stamp,
            checksum,
            bytes,
        };
        self.keep(line, Waiting::Store(head, stamp, id, held));
    }

    /// The copy is gone from the list at once, so that no answer names what is about to go.
    fn drop_copy(&mut self, head: HeadId, stamp: Stamp, id: RecordId) {
        let counted_on = self.listed.is_none_or(|listed| stamp < listed) || self.is_storing(id);
        match self.held.get(&id).copied() {
            Some(held) if held.stamp < stamp && !counted_on => {
                self.let_go(id);
                let line = DataLine::Dropped { id, stamp };
                self.keep(line, Waiting::Drop(head, stamp, id, held));
            }
            _ => self.done(head, stamp, Outcome::Dropped),
        }
    }

    /// Whether another copy is on its way to disk: in the file it would stand before the drop.
    fn is_storing(&self, id: RecordId) -> bool {
        let mut waiting = self.waiting.values();
        waiting.any(|waiting| matches!(waiting, Waiting::Store(_, _, stored, _) if *stored == id))
    }

    fn list(&mut self, head: HeadId, stamp: Stamp, after: Option<RecordId>) {
        self.listed = self.listed.max(Some(stamp));
        let mut behind = self.held.range(behind(after));
        let copies = behind.by_ref().take(PAGE);
        let copies: Vec<_> = copies.map(|(&id, held)| held.copy(id)).collect();
        let more = behind.next().is_some();
        self.done(head, stamp, Outcome::Listed { copies, more });
    }

    fn check_next(
        &mut self,
        head: HeadId,
        stamp: Stamp,
        after: Option<RecordId>,
        mut check: Check,
    ) {
        let mut rest = self.held.range(behind(after));
        match rest.next().map(|(&id, held)| (id, *held)) {
            Some((id, held)) if check.left > 0 && check.bytes_left > 0 => {
                check.left -= 1;
                check.bytes_left = check.bytes_left.saturating_sub(held.length);
                (check.at, check.copy) = (id, held.stamp);
                self.read(id, Waiting::Check(head, stamp, check));
            }
            more => {
                let next = more.and(after);
                let Check {
                    checked, damaged, ..
                } = check;
                let outcome = Outcome::Checked {
                    checked,
                    damaged,
                    next,
                };
                self.done(head, stamp, outcome);
            }
        }
    }

    fn kept(&mut self, op: u64) {
        match self.answered(op) {
            Some(Waiting::Fence(epoch, head)) => {
                self.fence = self.fence.max((epoch, head));
                let round = self.adopting.take_if(|adopting| adopting.0 == epoch);
                if let Some((_, Some(round))) = round {
                    self.answer_beat(head, round);
                }
            }
            Some(Waiting::Store(head, stamp, id, held)) => {
                self.hold(id, held);
                self.done(head, stamp, Outcome::Stored);
            }
            Some(Waiting::Drop(head, stamp, ..)) => self.done(head, stamp, Outcome::Dropped),
            _ => {}
        }
    }

    fn not_kept(&mut self, op: u64, reason: String) {
        match self.answered(op) {
            Some(Waiting::Fence(epoch, _)) => {
                self.adopting.take_if(|adopting| adopting.0 == epoch);
            }
            Some(Waiting::Store(head, stamp, ..)) => {
                self.done(head, stamp, Outcome::NotStored { reason });
            }
            // It is still there; the head will find it in the next list.
            Some(Waiting::Drop(_, _, id, held)) if !self.held.contains_key(&id) => {
                self.hold(id, held);
            }
            _ => {}
        }
    }

    fn was_read(&mut self, op: u64, result: Result<Payload, ReadFailure>) {
        match self.answered(op) {
            Some(Waiting::Read(head, stamp, id, copy)) => {
                if let Err(failure) = result {
                    self.give_up(id, copy, failure);
                }
                let outcome = result.map_or(Outcome::NotHere, Outcome::Bytes);
                self.done(head, stamp, outcome);
            }
            Some(Waiting::Check(head, stamp, mut check)) => {
                check.checked += 1;
                if let Err(failure) = result {
                    self.give_up(check.at, check.copy, failure);
                    check.damaged.push(check.at);
                }
                self.check_next(head, stamp, Some(check.at), check);
            }
            _ => {}
        }
    }

    /// A damaged copy does not count any more, and the head sees in the next beat that it is missing.
    /// One that was stored since in its place does. One that the disk does not give up may be sound: it
    /// counts again after the next start.
    fn give_up(&mut self, id: RecordId, stamp: Stamp, failure: ReadFailure) {
        self.let_go_if(id, |held| held == stamp);
        if failure == ReadFailure::Damaged {
            self.keep(DataLine::Damaged { id, stamp }, Waiting::Damaged);
        }
    }

    fn keep(&mut self, line: DataLine, then: Waiting) {
        let op = self.wait(then);
        self.outbox.push_back(DataOutput::Keep(op, line));
    }

    fn read(&mut self, id: RecordId, then: Waiting) {
        let op = self.wait(then);
        self.outbox.push_back(DataOutput::Read(op, id));
    }

    fn wait(&mut self, waiting: Waiting) -> u64 {
        self.ops += 1;
        self.under_way.extend(waiting.order());
        self.waiting.insert(self.ops, waiting);
        self.ops
    }

    /// The disk has answered.
    fn answered(&mut self, op: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&op)?;
        if let Some(stamp) = waiting.order() {
            self.under_way.remove(&stamp);
        }
        Some(waiting)
    }

    fn done(&mut self, head: HeadId, stamp: Stamp, outcome: Outcome) {
        let instance = self.instance;
        let done = DataSays::Done {
            instance,
            stamp,
            outcome,
        };
        self.tell(head, done);
    }

    fn tell(&mut self, head: HeadId, message: DataSays) {
        self.outbox.push_back(DataOutput::ToHead(head, message));
    }
}

impl Machine for DataMachine {
    type Input = DataInput;
    type Output = DataOutput;

    fn handle(&mut self, _now: Time, input: DataInput) {
        match input {
            DataInput::Head(message) => self.hear(message),
            DataInput::Kept(op) => self.kept(op),
            DataInput::NotKept(op, reason) => self.not_kept(op, reason),
            DataInput::Read(op, result) => self.was_read(op, result),
            DataInput::Free(bytes) => self.free = bytes,
        }
    }

    /// Everything a data node does is an answer.
    fn wake(&mut self, _now: Time) {}

    fn poll(&mut self) -> Option<DataOutput> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// What lies behind a record.
fn behind(after: Option<RecordId>) -> (Bound<RecordId>, Bound<RecordId>) {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    (start, Bound::Unbounded)
}

/// A copy as a number; a set of copies is the exclusive or of theirs.
pub(super) fn digest(copy: &Copy) -> u64 {
    // The mixer of SplitMix64, once for each half.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(copy.id.0) ^ u64::from(copy.checksum.0) ^ (copy.length << 32))
}
