//! A head fed by hand, with data nodes that do as they are told: what clients and nodes hear when
//! something is wrong.

use std::time::Duration;

use mutirao::machine::{Machine, Time};
use mutirao::storage::{
    ClientAsks, DataSays, Deed, Entry, Fact, HeadAsks, HeadConfig, HeadId, HeadInput, HeadMachine,
    HeadOutput, HeadSays, HeadTells, Health, InstanceId, Outcome, Payload, Position, RecordId,
    Refusal, Register, RegisterLine,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

const ID: RecordId = RecordId(42);
const CLIENT: u64 = 9;

struct HandFed {
    machine: HeadMachine,
    now: Time,
    kept: u64,
    file: Vec<RegisterLine>,
    told: Vec<HeadTells>,
    turned_away: Vec<(InstanceId, String)>,
    /// The nodes that do as they are told.
    stored: Vec<InstanceId>,
    /// Whether lines are on disk as soon as they are written.
    keeps: bool,
}

impl HandFed {
    fn start(file: Vec<RegisterLine>, epoch: u64) -> HandFed {
        let mut register = Register::default();
        for line in &file {
            register.replay(line.clone()).expect("no gap");
        }
        let config = HeadConfig {
            record_bytes: 1_000,
            ..HeadConfig::alone()
        };
        let mut head = HandFed {
            machine: HeadMachine::new(config, register, StdRng::seed_from_u64(1)),
            now: Time::START,
            kept: 0,
            file,
            told: Vec::new(),
            turned_away: Vec::new(),
            stored: Vec::new(),
            keeps: true,
        };
        head.feed(HeadInput::Lead(epoch));
        head
    }

    fn feed(&mut self, input: HeadInput) {
        self.machine.handle(self.now, input);
        while let Some(output) = self.machine.poll() {
            let answer = match output {
                HeadOutput::Keep(line) => {
                    self.file.push(line);
                    self.kept += 1;
                    self.keeps.then_some(HeadInput::Kept(self.kept))
                }
                HeadOutput::ToNode(node, asks) => self.node_hears(node, asks),
                HeadOutput::ToClient(CLIENT, tells) => {
                    self.told.push(tells);
                    None
                }
                _ => None,
            };
            if let Some(answer) = answer {
                self.machine.handle(self.now, answer);
            }
        }
    }

    fn node_hears(&mut self, instance: InstanceId, asks: HeadAsks) -> Option<HeadInput> {
        let (stamp, deed) = match asks {
            HeadAsks::Order { stamp, deed, .. } => (stamp, deed),
            HeadAsks::TurnedAway { to, reason } => {
                self.turned_away.push((to, reason));
                return None;
            }
            HeadAsks::Beat { .. } => return None,
        };
        let outcome = match deed {
            Deed::Store { .. } => {
                self.stored.push(instance);
                Outcome::Stored
            }
            Deed::List { .. } => Outcome::Listed {
                copies: Vec::new(),
                more: false,
            },
            _ => Outcome::NotHere,
        };
        Some(HeadInput::Data(DataSays::Done {
            instance,
            stamp,
            outcome,
        }))
    }

    fn alive(&mut self, instance: u64, name: &str) {
        let epoch = self.machine.promised().0;
        self.feed(HeadInput::Data(DataSays::Alive {
            instance: InstanceId(instance),
            start: 1,
            name: name.into(),
            epoch,
            round: 1,
            records: 0,
            bytes: 0,
            free: 10_000,
            digest: 0,
        }));
    }

    /// With two data nodes.
    fn with_nodes() -> HandFed {
        let mut head = HandFed::start(Vec::new(), 1);
        head.alive(1, "norte");
        head.alive(2, "sul");
        head
    }

    fn put(&mut self, bytes: &[u8]) -> Vec<HeadTells> {
        let bytes = Payload::from(bytes);
        let checksum = bytes.checksum();
        self.ask(ClientAsks::Put {
            id: ID,
            checksum,
            bytes,
        })
    }

    fn ask(&mut self, asks: ClientAsks) -> Vec<HeadTells> {
        self.feed(HeadInput::Client(CLIENT, asks));
        std::mem::take(&mut self.told)
    }
}

fn refusal(told: &[HeadTells]) -> Refusal {
    match told {
        [HeadTells::Refused { why, .. }] => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_is_confirmed_with_its_places_and_a_retry_stores_nothing() {
    let mut head = HandFed::with_nodes();
    let names = ["norte".to_string(), "sul".to_string()];
    for _ in 0..2 {
        let told = head.put(b"muitas");
        let [HeadTells::Confirmed { places, .. }] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(places[..], names);
        assert_eq!(head.stored.len(), 2);
    }
}

#[test]
fn nothing_is_confirmed_before_the_register_is_on_disk() {
    let mut head = HandFed::with_nodes();
    head.keeps = false;
    assert_eq!(head.put(b"milho"), []);
    assert_eq!(head.stored.len(), 2);
    head.feed(HeadInput::Kept(head.kept));
    assert!(matches!(head.told[..], [HeadTells::Confirmed { .. }]));
}

/// Of three heads.
fn one_of_three() -> HeadMachine {
    let config = HeadConfig {
        head: HeadId(2),
        peers: vec![HeadId(1), HeadId(3)],
        ..HeadConfig::alone()
    };
    HeadMachine::new(config, Register::default(), StdRng::seed_from_u64(1))
}

#[test]
fn a_head_promises_and_appends_nothing_before_it_is_on_its_disk() {
    let mut head = one_of_three();
    let mut hear = |input| {
        head.handle(Time::START, input);
        std::iter::from_fn(|| head.poll()).collect::<Vec<_>>()
    };
    let from_leader = |says| HeadInput::Head(HeadId(3), says);
    let said = hear(from_leader(HeadSays::Promise { epoch: 4 }));
    assert!(matches!(said[..], [HeadOutput::Keep(_)]), "{said:?}");
    let said = hear(HeadInput::Kept(1));
    let promised = |output: &_| matches!(output, HeadOutput::ToHead(_, HeadSays::Promised { .. }));
    assert!(said.len() == 1 && promised(&said[0]), "{said:?}");
    let head = HeadId(3);
    let lead = Entry {
        epoch: 4,
        fact: Fact::Lead { head },
    };
    let said = hear(from_leader(HeadSays::Append {
        epoch: 4,
        after: Position::default(),
        entries: vec![lead],
    }));
    assert!(matches!(said[..], [HeadOutput::Keep(_)]), "{said:?}");
    let said = hear(HeadInput::Kept(2));
    let appended = |output: &_| {
        matches!(
            output,
            HeadOutput::ToHead(_, HeadSays::Appended { matched: true, last, .. }) if last.index == 1
        )
    };
    assert!(said.len() == 1 && appended(&said[0]), "{said:?}");
}

#[test]
fn a_name_belongs_to_one_node_until_that_is_dead() {
    let mut head = HandFed::with_nodes();
    head.alive(3, "norte");
    let [(InstanceId(3), reason)] = &head.turned_away[..] else {
        panic!("{:?}", head.turned_away);
    };
    assert!(
        reason.contains("\"norte\"") && reason.contains("--name"),
        "{reason}"
    );
    head.feed(HeadInput::Health(InstanceId(1), Health::Dead));
    head.alive(3, "norte");
    assert_eq!(head.turned_away.len(), 1);
    // The first one has lost it, and is told so.
    head.alive(1, "norte");
    assert_eq!(head.turned_away[1].0, InstanceId(1));
    // Names outlive the head.
    let mut head = HandFed::start(head.file, 2);
    head.alive(1, "norte");
    assert_eq!(head.turned_away[0].0, InstanceId(1));
}

#[test]
fn too_few_nodes_is_a_sentence_with_numbers() {
    let mut head = HandFed::start(Vec::new(), 1);
    head.alive(1, "norte");
    let why = refusal(&head.put(b"a"));
    assert!(why.may_pass());
    assert_eq!(
        why.to_string(),
        "copies asked for: 2; data nodes that have stored it: 0, that are healthy: 1, with room for it: 1: try again later"
    );
    head.alive(2, "sul");
    assert!(matches!(head.put(b"a")[..], [HeadTells::Confirmed { .. }]));
}

#[test]
fn what_cannot_be_stored_is_refused_with_the_reason() {
    let mut head = HandFed::with_nodes();
    let (bytes, limit) = (1_001, 1_000);
    let oversized = Refusal::Oversized { bytes, limit };
    assert_eq!(refusal(&head.put(&[0; 1_001])), oversized);
    head.put(b"a");
    assert_eq!(refusal(&head.put(b"b")), Refusal::Taken);
    let changed = ClientAsks::Put {
        id: RecordId(1),
        checksum: Payload::from(&b"a"[..]).checksum(),
        bytes: Payload::from(&b"b"[..]),
    };
    assert_eq!(refusal(&head.ask(changed)), Refusal::Damaged);
    head.feed(HeadInput::DiskFull(true));
    assert!(
        refusal(&head.put(b"a"))
            .to_string()
            .contains("disk is full")
    );
}

#[test]
fn an_unknown_record_is_unknown_and_one_without_a_copy_is_not() {
    let mut head = HandFed::with_nodes();
    let get = || ClientAsks::Get { id: ID };
    // Its register is new, and was perhaps lost: there may be data nodes that it does not know yet.
    let why = refusal(&head.ask(get()));
    assert!(why.may_pass(), "{why}");
    head.now = Time::START + Duration::from_secs(5);
    head.machine.wake(head.now);
    assert_eq!(head.ask(get()), [HeadTells::Unknown { id: ID }]);
    head.put(b"a");
    // These nodes have thrown it away.
    assert!(matches!(refusal(&head.ask(get())), Refusal::Unavailable(_)));
}

/// A register may have gaps; the data nodes know what was in them.
#[test]
fn nothing_is_unknown_before_all_data_nodes_have_said_what_they_hold() {
    let head = HandFed::with_nodes();
    let mut head = HandFed::start(head.file, 2);
    head.alive(1, "norte");
    let get = || ClientAsks::Get { id: ID };
    let why = refusal(&head.ask(get()));
    assert!(why.to_string().contains("hold: 1"), "{why}");
    head.feed(HeadInput::Health(InstanceId(2), Health::Dead));
    assert_eq!(head.ask(get()), [HeadTells::Unknown { id: ID }]);
}

#[test]
fn who_does_not_lead_says_who_does() {
    let mut head = one_of_three();
    let ask = |head: &mut HeadMachine| {
        head.handle(
            Time::START,
            HeadInput::Client(CLIENT, ClientAsks::Status {}),
        );
        std::iter::from_fn(|| head.poll()).last()
    };
    let leader = |leader| {
        Some(HeadOutput::ToClient(
            CLIENT,
            HeadTells::NotLeading { leader },
        ))
    };
    assert_eq!(ask(&mut head), leader(None));
    let promise = HeadSays::Promise { epoch: 4 };
    head.handle(Time::START, HeadInput::Head(HeadId(3), promise));
    assert_eq!(ask(&mut head), leader(Some(HeadId(3))));
}

#[test]
fn every_round_of_heartbeats_is_recorded() {
    let mut head = HandFed::with_nodes();
    head.now = Time::START + Duration::from_secs(5);
    head.machine.wake(head.now);
    let rounds = std::iter::from_fn(|| head.machine.poll());
    let rounds = rounds.filter_map(|output| match output {
        HeadOutput::Beat(line) => Some(line),
        _ => None,
    });
    let rounds: Vec<_> = rounds.collect();
    assert_eq!((rounds.len(), rounds[0].round), (1, 1));
    let nodes = rounds[0].nodes.iter();
    let nodes: Vec<_> = nodes
        .map(|node| (node.name.as_str(), node.answered))
        .collect();
    assert_eq!(nodes, [("norte", true), ("sul", true)]);
}
