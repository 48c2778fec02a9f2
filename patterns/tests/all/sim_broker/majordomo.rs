//! Majordomo in virtual time: who falls silent, who leaves, and what is left of their requests.

use std::time::Duration;

use mutirao::broker::majordomo::Version;
use mutirao::broker::{
    BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, ClientSays, Deed, JobSettings, LeaseId,
    Slice, Takes, WorkerTells,
};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, JobId, PeerId, Span, WorkerId};

const CLIENT: PeerId = 1;
const FIRST: PeerId = 2;
const SECOND: PeerId = 3;

/// A Majordomo worker is believed alive for so long, and looked at once in a while.
const WINDOW: Duration = Duration::from_millis(7_500 + 2_000);

/// A body of one frame, as the driver makes it.
fn body(byte: u8) -> Slice {
    Slice::from([0xc4, 1, byte].into(), 0)
}

/// A body of several frames.
fn frames(parts: &[&[u8]]) -> Slice {
    let mut bytes = Vec::new();
    rmp::encode::write_array_len(&mut bytes, parts.len() as u32).expect("memory");
    for part in parts {
        rmp::encode::write_bin(&mut bytes, part).expect("memory");
    }
    Slice::from(bytes.into(), 0)
}

struct Office {
    machine: BrokerMachine,
    now: Time,
    said: Vec<BrokerOutput>,
}

impl Office {
    fn open(limits: BrokerLimits) -> Office {
        Office {
            machine: BrokerMachine::new(limits, Incarnation(1), 100, false),
            now: Time::START,
            said: Vec::new(),
        }
    }

    fn input(&mut self, input: BrokerInput) {
        self.machine.handle(self.now, input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.poll() {
            self.said.push(output);
        }
        self.machine.audit().expect("it adds up");
    }

    fn hand(&mut self, peer: PeerId, deed: Deed) {
        self.input(BrokerInput::Hand(peer, Version::V1, deed));
    }

    fn ready(&mut self, peer: PeerId, service: &str) {
        self.hand(peer, Deed::Ready(service.into()));
    }

    fn ask(&mut self, service: &str, record: Slice) {
        self.input(BrokerInput::Request {
            peer: CLIENT,
            version: Version::V1,
            service: service.into(),
            record,
        });
    }

    /// Lets time pass, while these workers beat.
    fn pass(&mut self, time: Duration, beating: &[PeerId]) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(100));
            for &peer in beating {
                self.hand(peer, Deed::Heartbeat);
            }
            self.machine.wake(self.now);
            self.settle();
        }
    }

    /// What was said since the last look, without heartbeats.
    fn news(&mut self) -> Vec<BrokerOutput> {
        let mut said = std::mem::take(&mut self.said);
        said.retain(|output| !matches!(output, BrokerOutput::HandBeat(..)));
        said
    }

    /// The only lease that was given out since the last look, and to whom.
    fn lease(&mut self) -> (PeerId, LeaseId) {
        let granted = self.news().into_iter().filter_map(|output| match output {
            BrokerOutput::Grant(grant) => Some((grant.peer, grant.lease)),
            _ => None,
        });
        let granted: Vec<_> = granted.collect();
        assert_eq!(granted.len(), 1, "{granted:?}");
        granted[0]
    }

    fn reply(&mut self, peer: PeerId, lease: LeaseId, byte: u8) {
        let address = lease.to_be_bytes().to_vec();
        self.hand(peer, Deed::Reply(address, body(byte)));
    }
}

fn replies(news: &[BrokerOutput]) -> Vec<(PeerId, Vec<u8>)> {
    let replies = news.iter().filter_map(|output| match output {
        BrokerOutput::Reply { peer, body, .. } => Some((*peer, body.bytes().to_vec())),
        _ => None,
    });
    replies.collect()
}

#[test]
fn a_request_at_a_worker_that_falls_silent_goes_to_another() {
    let mut office = Office::open(BrokerLimits::default());
    office.ready(FIRST, "echo");
    office.ask("echo", body(b'?'));
    let (holder, lost) = office.lease();
    assert_eq!(holder, FIRST);
    office.ready(SECOND, "echo");
    office.pass(WINDOW, &[SECOND]);
    let (holder, lease) = office.lease();
    assert_eq!(holder, SECOND);
    // The first one was only slow.
    office.reply(FIRST, lost, b'1');
    assert!(matches!(
        office.news()[..],
        [BrokerOutput::Dismiss(FIRST, _)]
    ));
    office.reply(SECOND, lease, b'2');
    let answer = body(b'2').bytes().to_vec();
    assert_eq!(replies(&office.news()), [(CLIENT, answer)]);
}

#[test]
fn a_worker_that_beats_keeps_a_long_request() {
    let mut office = Office::open(BrokerLimits::default());
    office.ready(FIRST, "echo");
    office.ready(SECOND, "echo");
    office.ask("echo", body(b'?'));
    let (holder, lease) = office.lease();
    office.pass(6 * WINDOW, &[FIRST, SECOND]);
    office.reply(holder, lease, b'!');
    assert_eq!(replies(&office.news()).len(), 1);
}

#[test]
fn whoever_is_silent_for_long_is_forgotten_whatever_it_said() {
    let deeds = [
        Deed::Ready("echo".into()),
        Deed::Ready("mmi.echo".into()),
        Deed::Heartbeat,
        Deed::Disconnect,
        Deed::Reply(vec![0; 8], body(b'x')),
    ];
    for deed in deeds {
        let mut office = Office::open(BrokerLimits::default());
        office.hand(FIRST, deed.clone());
        office.pass(WINDOW, &[]);
        let gone = office.news();
        assert!(gone.contains(&BrokerOutput::Gone(FIRST)), "{deed:?}");
        assert_eq!(office.machine.footprint(), 0, "{deed:?}");
    }
}

#[test]
fn a_request_that_finds_no_room_leaves_nothing() {
    let limits = BrokerLimits {
        queue_tasks: 1,
        ..BrokerLimits::default()
    };
    let mut office = Office::open(limits);
    office.ask("echo", body(b'1'));
    let footprint = office.machine.footprint();
    for _ in 0..100 {
        office.ask("echo", body(b'2'));
    }
    assert_eq!(office.machine.counts().refused, 100);
    assert_eq!(office.machine.footprint(), footprint);
}

#[test]
fn a_request_that_is_closed_on_the_way_tells_its_worker_nothing_that_it_would_not_understand() {
    let mut office = Office::open(BrokerLimits::default());
    office.ready(FIRST, "echo");
    office.ask("titanic.request", frames(&[b"echo", b"?"]));
    let news = office.news();
    let ticket = replies(&news)[0].1.clone();
    let ticket = &ticket[ticket.len() - 32..];
    office.ask("titanic.close", frames(&[ticket]));
    let news = office.news();
    let to_worker = |output: &&BrokerOutput| matches!(output, BrokerOutput::ToWorker(..));
    assert_eq!(news.iter().find(to_worker), None);
    assert_eq!(replies(&news).len(), 1);
    // Its worker is still one.
    office.ask("echo", body(b'?'));
    assert_eq!(office.lease().0, FIRST);
}

/// A socket that is a worker of ours and a client of Majordomo at once keeps its number when its
/// connection breaks.
#[test]
fn requests_of_one_that_comes_back_are_counted_right() {
    let mut office = Office::open(BrokerLimits::default());
    let ready = WorkerTells::Ready {
        worker: WorkerId(9),
        slots: 3,
        operations: vec!["echo".into()],
        held: Vec::new(),
        takes: Takes::default(),
        name: None,
    };
    office.input(BrokerInput::Worker(CLIENT, ready));
    office.ask("echo", body(b'1'));
    office.ask("echo", body(b'2'));
    office.input(BrokerInput::Unreachable(CLIENT));
    office.ask("echo", body(b'3'));
    let beat = WorkerTells::Beat {
        seen: 0,
        held: vec![100, 101],
    };
    office.input(BrokerInput::Worker(CLIENT, beat));
    for lease in 100..103 {
        office.input(BrokerInput::Worked {
            peer: CLIENT,
            lease,
            span: Span { first: 0, count: 1 },
            busy: Duration::from_millis(1),
            records: Slice::from([0xc3, 0xc4, 1, b'!'].into(), 0),
        });
    }
    // The first two were dropped with the connection that their replies would have needed.
    assert_eq!(replies(&office.news()).len(), 1);
    office.pass(2 * WINDOW, &[]);
    assert!(office.news().contains(&BrokerOutput::Gone(CLIENT)));
}

/// What a worker of ours calls itself may be the number by which another peer is known.
#[test]
fn a_worker_of_ours_takes_nothing_from_one_of_majordomo() {
    let mut office = Office::open(BrokerLimits::default());
    let ready = |operations: &[&str]| WorkerTells::Ready {
        worker: WorkerId(SECOND),
        slots: 1,
        operations: operations.iter().map(ToString::to_string).collect(),
        held: Vec::new(),
        takes: Takes::default(),
        name: None,
    };
    office.input(BrokerInput::Worker(FIRST, ready(&["echo"])));
    office.ready(SECOND, "other");
    office.ask("echo", body(b'1'));
    assert_eq!(office.lease().0, FIRST);
    office.ask("other", body(b'2'));
    let (holder, lease) = office.lease();
    assert_eq!(holder, SECOND);
    office.input(BrokerInput::Worker(FIRST, ready(&[])));
    office.reply(SECOND, lease, b'!');
    assert_eq!(replies(&office.news()).len(), 1);
    // Whoever changes the protocol begins anew.
    office.input(BrokerInput::Worker(SECOND, ready(&["echo"])));
    assert_eq!(office.machine.status(office.now).workers.len(), 1);
}

#[test]
fn a_worker_of_majordomo_does_the_tasks_of_a_job_one_by_one() {
    let mut office = Office::open(BrokerLimits::default());
    office.ready(FIRST, "echo");
    let (job, settings) = (JobId(7), JobSettings::new("echo"));
    office.input(BrokerInput::Client(
        CLIENT,
        ClientSays::Open { job, settings },
    ));
    let span = Span { first: 0, count: 2 };
    let records = Slice::from([body(b'a').bytes(), body(b'b').bytes()].concat().into(), 0);
    office.input(BrokerInput::Submit {
        peer: CLIENT,
        job,
        span,
        records,
    });
    // One at a time.
    let (_, lease) = office.lease();
    office.reply(FIRST, lease, b'A');
    let (_, lease) = office.lease();
    office.reply(FIRST, lease, b'B');
    let status = office.machine.status(office.now);
    assert_eq!(status.services["echo"].done, 2);
}
