//! A data node fed by hand: whom it obeys, and what it does with what comes late.

use mutirao::machine::{Machine, Time};
use mutirao::storage::{
    DataConfig, DataInput, DataLine, DataMachine, DataOutput, DataSays, Deed, HeadAsks, HeadId,
    InstanceId, Outcome, Payload, ReadFailure, RecordId, Stamp,
};

const HERE: InstanceId = InstanceId(7);
const HEAD: HeadId = HeadId(1);
const ID: RecordId = RecordId(42);

struct HandFed {
    machine: DataMachine,
    file: Vec<DataLine>,
}

impl HandFed {
    fn start(file: Vec<DataLine>) -> HandFed {
        let config = DataConfig {
            name: "norte".into(),
            start: 1,
            reserve_bytes: 100,
        };
        let mut machine = DataMachine::new(config, HERE, file.clone());
        machine.handle(Time::START, DataInput::Free(1_000));
        HandFed { machine, file }
    }

    /// One that obeys epoch 3.
    fn fenced() -> HandFed {
        HandFed::start(vec![DataLine::Epoch {
            epoch: 3,
            head: HEAD,
        }])
    }

    fn restart(self) -> HandFed {
        HandFed::start(self.file)
    }

    fn outputs(&mut self) -> Vec<DataOutput> {
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    /// Gives an order; what is to be kept is kept at once.
    fn order(&mut self, epoch: u64, seq: u64, deed: Deed) -> Vec<DataSays> {
        self.tell(HeadAsks::Order {
            to: HERE,
            head: HEAD,
            stamp: Stamp { epoch, seq },
            deed,
        })
    }

    fn tell(&mut self, asks: HeadAsks) -> Vec<DataSays> {
        self.machine.handle(Time::START, DataInput::Head(asks));
        let mut said = Vec::new();
        while let Some(output) = self.machine.poll() {
            match output {
                DataOutput::ToHead(_, says) => said.push(says),
                DataOutput::Keep(op, line) => {
                    self.file.push(line);
                    self.machine.handle(Time::START, DataInput::Kept(op));
                }
                DataOutput::Read(op, _) => {
                    let damaged = Err(ReadFailure::Damaged);
                    self.machine
                        .handle(Time::START, DataInput::Read(op, damaged));
                }
                DataOutput::TurnedAway(_) => panic!("nobody turned it away"),
            }
        }
        said
    }

    fn outcome(&mut self, epoch: u64, seq: u64, deed: Deed) -> Outcome {
        match &self.order(epoch, seq, deed)[..] {
            [DataSays::Done { outcome, .. }] => outcome.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Says what it holds, as a head wants to know before it lets anything go.
    fn list(&mut self, seq: u64) {
        let listed = self.outcome(3, seq, Deed::List { after: None });
        assert!(matches!(listed, Outcome::Listed { .. }), "{listed:?}");
    }

    fn holds(&self) -> usize {
        self.machine.copies().count()
    }
}

fn store(bytes: &[u8]) -> Deed {
    let bytes = Payload::from(bytes);
    Deed::Store {
        id: ID,
        checksum: bytes.checksum(),
        bytes,
    }
}

fn beat(epoch: u64, head: HeadId) -> HeadAsks {
    let round = 1;
    HeadAsks::Beat { epoch, head, round }
}

#[test]
fn a_head_of_an_earlier_reign_is_refused_even_after_a_restart() {
    let mut node = HandFed::fenced();
    assert!(matches!(
        node.tell(beat(5, HeadId(2)))[..],
        [DataSays::Alive { epoch: 5, .. }]
    ));
    let mut node = node.restart();
    let refused = [DataSays::Deposed {
        instance: HERE,
        epoch: 5,
    }];
    assert_eq!(node.order(3, 1, store(b"late")), refused);
    assert_eq!(
        node.tell(beat(5, HEAD)),
        refused,
        "the epoch is another head's"
    );
    assert_eq!(node.holds(), 0);
}

#[test]
fn a_new_reign_is_on_disk_before_anything_is_answered() {
    let mut node = HandFed::fenced();
    let beaten = DataInput::Head(beat(4, HeadId(2)));
    node.machine.handle(Time::START, beaten);
    let outputs = node.outputs();
    let [DataOutput::Keep(op, DataLine::Epoch { epoch: 4, .. })] = outputs[..] else {
        panic!("{outputs:?}");
    };
    // The one before has lost its power already, though this one has none yet.
    assert!(matches!(
        node.tell(beat(3, HEAD))[..],
        [DataSays::Deposed { epoch: 4, .. }]
    ));
    node.machine.handle(Time::START, DataInput::Kept(op));
    let outputs = node.outputs();
    assert!(matches!(
        outputs[..],
        [DataOutput::ToHead(
            HeadId(2),
            DataSays::Alive { epoch: 4, .. }
        )]
    ));
}

#[test]
fn what_is_said_twice_is_stored_once() {
    let mut node = HandFed::fenced();
    for _ in 0..3 {
        assert_eq!(node.outcome(3, 1, store(b"a")), Outcome::Stored);
    }
    let records = |line: &&DataLine| matches!(line, DataLine::Record { .. });
    assert_eq!(node.file.iter().filter(records).count(), 1);
}

#[test]
fn a_drop_that_comes_late_does_not_touch_what_was_stored_since() {
    let mut node = HandFed::fenced();
    node.order(3, 1, store(b"a"));
    node.list(2);
    assert_eq!(node.outcome(3, 3, Deed::Drop { id: ID }), Outcome::Dropped);
    assert_eq!(node.holds(), 0);
    node.order(3, 4, store(b"a"));
    assert_eq!(node.outcome(3, 3, Deed::Drop { id: ID }), Outcome::Dropped);
    assert_eq!(node.holds(), 1);
    assert_eq!(node.restart().holds(), 1);
}

#[test]
fn a_drop_from_before_a_list_is_void() {
    let mut node = HandFed::fenced();
    node.order(3, 1, store(b"a"));
    let listed = node.outcome(3, 9, Deed::List { after: None });
    assert!(matches!(listed, Outcome::Listed { copies, more: false } if copies.len() == 1));
    node.order(3, 8, Deed::Drop { id: ID });
    assert_eq!(node.holds(), 1, "the head counts on what was listed");
}

/// The head that gave the order may have counted on a list since, before the start.
#[test]
fn a_drop_from_before_the_first_list_is_void() {
    let mut node = HandFed::fenced();
    node.order(3, 1, store(b"a"));
    let mut node = node.restart();
    node.order(3, 8, Deed::Drop { id: ID });
    assert_eq!(node.holds(), 1);
    node.list(9);
    node.order(3, 10, Deed::Drop { id: ID });
    assert_eq!(node.holds(), 0);
}

fn order(seq: u64, deed: Deed) -> DataInput {
    DataInput::Head(HeadAsks::Order {
        to: HERE,
        head: HEAD,
        stamp: Stamp { epoch: 3, seq },
        deed,
    })
}

#[test]
fn what_is_said_again_meanwhile_is_not_done_twice() {
    let mut node = HandFed::fenced();
    node.machine.handle(Time::START, order(1, store(b"a")));
    let outputs = node.outputs();
    let [DataOutput::Keep(op, DataLine::Record { .. })] = outputs[..] else {
        panic!("{outputs:?}");
    };
    node.machine.handle(Time::START, order(1, store(b"a")));
    assert_eq!(node.outputs(), []);
    node.machine.handle(Time::START, DataInput::Kept(op));
    assert_eq!(node.outputs().len(), 1, "one answer");
    assert_eq!(node.outcome(3, 1, store(b"a")), Outcome::Stored);
}

/// In the file the new copy stands before the drop, which would take it away at the next start.
#[test]
fn a_drop_while_a_new_copy_is_on_its_way_to_disk_is_void() {
    let mut node = HandFed::fenced();
    node.order(3, 1, store(b"a"));
    node.list(2);
    node.machine.handle(Time::START, order(3, store(b"a")));
    let outputs = node.outputs();
    let [DataOutput::Keep(op, _)] = outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(node.outcome(3, 4, Deed::Drop { id: ID }), Outcome::Dropped);
    node.machine.handle(Time::START, DataInput::Kept(op));
    assert_eq!(node.holds(), 1);
    assert!(
        !node
            .file
            .iter()
            .any(|line| matches!(line, DataLine::Dropped { .. }))
    );
}

#[test]
fn a_copy_that_the_disk_does_not_give_up_counts_again_after_a_start() {
    let mut node = HandFed::fenced();
    node.order(3, 1, store(b"a"));
    node.machine
        .handle(Time::START, order(2, Deed::Check { after: None }));
    let outputs = node.outputs();
    let [DataOutput::Read(op, ID)] = outputs[..] else {
        panic!("{outputs:?}");
    };
    let unreadable = DataInput::Read(op, Err(ReadFailure::Unreadable));
    node.machine.handle(Time::START, unreadable);
    let outputs = node.outputs();
    let [DataOutput::ToHead(_, DataSays::Done { outcome, .. })] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert!(matches!(outcome, Outcome::Checked { damaged, .. } if damaged[..] == [ID]));
    assert_eq!(node.holds(), 0);
    assert_eq!(node.restart().holds(), 1);
}

#[test]
fn a_check_of_long_records_is_answered_in_parts() {
    let bytes = Payload::from(vec![b'x'; 20 << 20]);
    let record = |id: u64| DataLine::Record {
        id: RecordId(id),
        stamp: Stamp { epoch: 1, seq: id },
        checksum: bytes.checksum(),
        bytes: bytes.clone(),
    };
    let mut node = HandFed::start((1..=3).map(record).collect());
    node.tell(beat(3, HEAD));
    let checked = node.outcome(3, 1, Deed::Check { after: None });
    let Outcome::Checked { checked, next, .. } = checked else {
        panic!("{checked:?}");
    };
    assert_eq!((checked, next), (2, Some(RecordId(2))));
}

#[test]
fn a_damaged_copy_does_not_count_any_more() {
    let mut node = HandFed::fenced();
    node.order(3, 1, store(b"a"));
    // Every read is of a damaged line here.
    let checked = node.outcome(3, 2, Deed::Check { after: None });
    let damaged = vec![ID];
    assert_eq!(
        checked,
        Outcome::Checked {
            checked: 1,
            damaged,
            next: None
        }
    );
    assert_eq!(node.outcome(3, 3, Deed::Read { id: ID }), Outcome::NotHere);
    node.order(3, 4, store(b"a"));
    let node = node.restart();
    assert_eq!(node.holds(), 1, "the new copy is another");
}

#[test]
fn a_record_that_does_not_fit_or_was_changed_on_its_way_is_not_stored() {
    let mut node = HandFed::fenced();
    let outcome = node.outcome(3, 1, store(&[0; 901]));
    assert!(matches!(outcome, Outcome::NotStored { reason } if reason.contains("full")));
    let Deed::Store { id, checksum, .. } = store(b"a") else {
        unreachable!("it is one");
    };
    let bytes = Payload::from(&b"b"[..]);
    let changed = Deed::Store {
        id,
        checksum,
        bytes,
    };
    assert!(matches!(
        node.outcome(3, 2, changed),
        Outcome::NotStored { .. }
    ));
    assert_eq!(node.holds(), 0);
}

#[test]
fn an_order_for_another_disk_is_ignored() {
    let mut node = HandFed::fenced();
    let order = HeadAsks::Order {
        to: InstanceId(8),
        head: HEAD,
        stamp: Stamp { epoch: 9, seq: 1 },
        deed: store(b"a"),
    };
    assert_eq!(node.tell(order), []);
    assert_eq!((node.holds(), node.machine.fence()), (0, (3, HEAD)));
}
