//! A million queued tasks take little memory, on disk as well as they are, and are back after a kill.

use std::path::Path;
use std::time::{Duration, Instant};

use mutirao::Endpoint;
use mutirao::broker::{
    BrokerSays, ClientConfig, ClientSays, Console, JobSettings, JobView, Submitter,
};
use mutirao::pipeline::{JobId, RangeSet, Span};
use mutirao::wire::{Kind, Reader, Writer};
use serde_bytes::ByteBuf;

use crate::harness::{DEADLINE, Place, Process, mutirao, wait_until};

const TASKS: u64 = 1_000_000;
const JOB: JobId = JobId(7);
/// Of the broker, with its store on.
const MOST_MIB: u64 = 300;

fn task() -> ByteBuf {
    ByteBuf::from([7; 100])
}

fn settings() -> JobSettings {
    JobSettings::new("nobody-does-this")
}

fn start_broker(at: &str, store: &Path) -> Process {
    let store = store.to_str().expect("a plain path");
    let broker = mutirao(["broker", "--bind", at, "--store", store]).start();
    broker.wait_for("broker at ");
    broker
}

fn job(at: &Endpoint) -> JobView {
    let mut console = Console::connect(&ClientConfig::new(at.clone()), DEADLINE).unwrap();
    console.job(JOB).unwrap().expect("the job")
}

#[track_caller]
fn check_memory(what: &str, broker: &mut Process) {
    let mib = broker.peak_mib();
    eprintln!("{what}: {mib} MiB at most");
    assert!((1..MOST_MIB).contains(&mib), "{what}: {mib} MiB");
}

/// Fills a broker, kills it, and looks what the next one has.
fn fill_and_kill(fill: impl Fn(&Endpoint)) {
    let place = Place::new();
    let (at, store) = (place.ipc("broker"), place.path("store"));
    let endpoint: Endpoint = at.parse().unwrap();
    let mut broker = start_broker(&at, &store);
    fill(&endpoint);
    assert_eq!(job(&endpoint).counts.queued, TASKS);
    check_memory("a million tasks", &mut broker);
    broker.kill();
    let start = Instant::now();
    let mut broker = start_broker(&at, &store);
    assert_eq!(job(&endpoint).counts.queued, TASKS);
    eprintln!("back after {:?}", start.elapsed());
    check_memory("a million tasks from disk", &mut broker);
}

#[test]
fn a_million_tasks_in_batches_take_little_memory() {
    fill_and_kill(|at| {
        let config = ClientConfig::new(at.clone());
        let mut submitter = Submitter::<ByteBuf>::open(config, JOB, settings()).unwrap();
        for _ in 0..TASKS {
            submitter.submit(&task()).unwrap();
        }
        assert_eq!(submitter.finish(Some(DEADLINE)).unwrap(), TASKS);
    });
}

/// A client that knows nothing of batches.
struct Simple {
    socket: zmq::Socket,
    accepted: RangeSet,
}

impl Simple {
    fn open(at: &Endpoint) -> Simple {
        let socket = zmq::Context::new().socket(zmq::DEALER).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.connect(&at.to_string()).unwrap();
        let open = ClientSays::Open {
            job: JOB,
            settings: settings(),
        };
        let frame = Writer::new(Kind::Client).value(&open).unwrap().finish();
        socket.send(frame, 0).unwrap();
        Simple {
            socket,
            accepted: RangeSet::default(),
        }
    }

    fn submit(&self, first: u64, record: &[u8]) {
        let span = Span { first, count: 1 };
        let frame = Writer::new(Kind::Submitted).uint(JOB.0).span(span);
        self.socket.send(frame.records(record).finish(), 0).unwrap();
    }

    fn note(&mut self, accepted: Vec<std::ops::Range<u64>>) {
        for tasks in accepted {
            self.accepted.insert(tasks);
        }
    }

    /// Hears what was accepted up to now.
    fn listen(&mut self) {
        while let Ok(frame) = self.socket.recv_bytes(zmq::DONTWAIT) {
            let reader = Reader::expect(&frame, Kind::Client).unwrap();
            match reader.value::<BrokerSays>().unwrap() {
                BrokerSays::Accepted { tasks, .. } => self.note(tasks),
                BrokerSays::Full { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_million_tasks_one_by_one_take_little_memory() {
    fill_and_kill(|at| {
        let mut client = Simple::open(at);
        let mut record = Vec::new();
        rmp_serde::encode::write(&mut record, &task()).unwrap();
        for first in 0..TASKS {
            client.submit(first, &record);
            if first % 1024 == 0 {
                client.listen();
            }
        }
        wait_until(Duration::from_secs(120), "all to be accepted", || {
            client.listen();
            client.accepted.len() == TASKS
        });
    });
}
