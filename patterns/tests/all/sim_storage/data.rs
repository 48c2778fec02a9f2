//! A data node in the simulator: the machine and its file.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use mutirao::machine::{Machine, Time};
use mutirao::sim::{Node, NodeId, Rng};
use mutirao::storage::{
    DataConfig, DataInput, DataLine, DataMachine, DataOutput, InstanceId, Payload, ReadFailure,
    RecordId, TextLine,
};

use super::disk::{Disk, load};
use super::nodes::Message;

pub(super) struct DataNode {
    pub(super) machine: DataMachine,
    disk: Disk,
    /// Where the last line of each record lies.
    index: BTreeMap<RecordId, Range<usize>>,
    /// Records whose lines are on their way to disk, by operation.
    on_their_way: BTreeMap<u64, RecordId>,
    pub(super) capacity: u64,
    rng: Rng,
    outbox: VecDeque<(NodeId, Message)>,
    pub(super) turned_away: Option<String>,
    now: Time,
}

impl DataNode {
    pub(super) fn new(
        now: Time,
        (instance, name, start): (InstanceId, String, u64),
        mut file: Vec<u8>,
        capacity: u64,
        rng: Rng,
    ) -> DataNode {
        let mut index = BTreeMap::new();
        let mut lines = Vec::new();
        for named in load::<DataLine>(&mut file) {
            let line = named.line.expect("only good lines are loaded");
            if let DataLine::Record { id, .. } = line {
                let start = named.offset as usize;
                index.insert(id, start..start + named.length as usize);
            }
            lines.push(line);
        }
        let config = DataConfig {
            name,
            start,
            reserve_bytes: 0,
        };
        let mut node = DataNode {
            machine: DataMachine::new(config, instance, lines),
            disk: Disk::new(file),
            index,
            on_their_way: BTreeMap::new(),
            capacity,
            rng,
            outbox: VecDeque::new(),
            turned_away: None,
            now,
        };
        node.measure();
        node
    }

    pub(super) fn crash(mut self) -> Vec<u8> {
        self.disk.crash(&mut self.rng)
    }

    /// Flips a bit of a copy, where it lies, and not that of the line's end, which would damage the next
    /// record as well; whether there was one.
    pub(super) fn flip(&mut self, id: RecordId) -> bool {
        let Some(place) = self.index.get(&id).cloned() else {
            return false;
        };
        let at = place.start + self.rng.below(place.len() as u64 - 1) as usize;
        self.disk.file[at] ^= 1_u8 << self.rng.below(8);
        true
    }

    /// What the copy on disk says, if it counts and is good.
    pub(super) fn good_copy(&self, id: RecordId) -> Option<Payload> {
        let counts = self.machine.copies().any(|copy| copy.id == id);
        counts.then(|| self.read(id).ok()).flatten()
    }

    fn read(&self, id: RecordId) -> Result<Payload, ReadFailure> {
        let place = self.index.get(&id).ok_or(ReadFailure::Damaged)?;
        match DataLine::from_line(&self.disk.file[place.clone()]) {
            Ok(DataLine::Record { bytes, .. }) => Ok(bytes),
            _ => Err(ReadFailure::Damaged),
        }
    }

    /// Tells the machine how much room there is; lines are a little longer than records.
    fn measure(&mut self) {
        let free = self.capacity.saturating_sub(self.disk.bytes());
        self.machine.handle(self.now, DataInput::Free(free));
    }

    fn obey(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                DataOutput::ToHead(head, says) => {
                    let to = NodeId(head.0 as usize);
                    self.outbox.push_back((to, Message::FromData(says)));
                }
                DataOutput::Keep(op, line) => self.keep(op, &line),
                DataOutput::Read(op, id) => {
                    let read = self.read(id);
                    self.machine.handle(self.now, DataInput::Read(op, read));
                }
                DataOutput::TurnedAway(reason) => self.turned_away = Some(reason),
            }
        }
    }

    fn keep(&mut self, op: u64, line: &DataLine) {
        let is_record = matches!(line, DataLine::Record { .. });
        let room = self.capacity.saturating_sub(self.disk.bytes());
        if is_record && room < line.to_line().len() as u64 {
            let reason = "the disk is full".to_string();
            return self
                .machine
                .handle(self.now, DataInput::NotKept(op, reason));
        }
        if let DataLine::Record { id, .. } = line {
            self.on_their_way.insert(op, *id);
        }
        self.disk.append(self.now, op, line, &mut self.rng);
    }

    fn sync(&mut self, now: Time) {
        while let Some((op, offset)) = self.disk.sync(now) {
            if let Some(id) = self.on_their_way.remove(&op) {
                self.index.insert(id, offset..self.disk.file.len());
            }
            self.machine.handle(now, DataInput::Kept(op));
        }
    }
}

impl Node for DataNode {
    type Message = Message;

    fn handle(&mut self, now: Time, _from: NodeId, message: Message) {
        self.now = now;
        let Message::ToData(asks) = message else {
            unreachable!("not for data nodes");
        };
        self.measure();
        self.machine.handle(now, DataInput::Head(asks));
        self.obey();
    }

    fn wake(&mut self, now: Time) {
        self.now = now;
        self.sync(now);
        self.obey();
    }

    fn poll(&mut self) -> Option<(NodeId, Message)> {
        self.outbox.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        self.disk.due()
    }
}
