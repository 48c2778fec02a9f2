//! Broker, client and worker without their sockets, for the fuzz targets: frames go in through the
//! readers of the drivers, time passes when the target says so, and after each step is checked what
//! must always be true.

use std::time::Duration;

use crate::machine::{Machine, Time};
use crate::pipeline::{Incarnation, JobId, Span, WorkerId};
use crate::transport::{Frame, Message};

use super::client::{ClientInput, ClientLimits, ClientMachine, ClientOutput};
use super::frames::{AtClient, AtWorker, read_at_client, read_at_worker};
use super::inbox::Inbox;
use super::json::{self, Codec, End};
use super::leaseholder::{Leaseholder, LeaseholderInput, LeaseholderOutput};
use super::machine::{BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput};
use super::node;
use super::protocol::JobSettings;

/// More than this is said at once only by a machine that has lost its mind.
const MOST_OUTPUTS: usize = 100_000;

/// Wakes a machine whenever it wants to be woken until `end`.
fn pass<M: Machine>(machine: &mut M, now: &mut Time, end: Time, mut settle: impl FnMut(&mut M)) {
    while let Some(due) = machine.deadline().filter(|due| *due <= end) {
        *now = due.max(*now);
        machine.wake(*now);
        let next = machine.deadline();
        assert!(next.is_none_or(|next| next > *now), "a busy loop");
        settle(machine);
    }
    *now = end;
}

/// A broker of small queues.
pub struct Broker {
    machine: BrokerMachine,
    inbox: Inbox,
    now: Time,
    /// Writes that the store was given.
    writes: u64,
    received_bytes: usize,
}

impl Broker {
    /// One that has just started, with a store or without.
    pub fn new(durable: bool) -> Broker {
        let limits = BrokerLimits {
            queue_tasks: 30,
            queue_bytes: 300,
            kept_bytes: 3000,
            batch_tasks: 5,
            ..BrokerLimits::default()
        };
        Broker {
            machine: BrokerMachine::new(limits, Incarnation(1), 1, durable),
            inbox: Inbox::new(Codec::MessagePack, usize::MAX),
            now: Time::START,
            writes: 0,
            received_bytes: 0,
        }
    }

    /// A message arrives.
    pub fn receive(&mut self, route: &[u8], frames: &[Vec<u8>]) {
        self.received_bytes += frames.iter().map(|frame| frame.len() + 8).sum::<usize>() + 16;
        let frames = frames.iter().map(|frame| Frame::from(&frame[..]));
        let message: Message = [Frame::from(route)].into_iter().chain(frames).collect();
        if let Some(answer) = self.inbox.take(&mut self.machine, self.now, message) {
            assert_eq!(&answer[0][..], route);
        }
        self.settle();
    }

    /// Whatever is sent to the peer finds no connection.
    pub fn lose(&mut self, route: &[u8]) {
        let Some(peer) = self.inbox.peers.find(route) else {
            return;
        };
        self.machine
            .handle(self.now, BrokerInput::Unreachable(peer));
        self.settle();
    }

    /// The store has made everything safe.
    pub fn store(&mut self) {
        self.machine
            .handle(self.now, BrokerInput::Stored(self.writes));
        self.settle();
    }

    /// The store takes nothing, or works again.
    pub fn trouble(&mut self, trouble: bool) {
        let reason = trouble.then(|| "the disk is full".to_string());
        self.machine
            .handle(self.now, BrokerInput::StoreTrouble(reason));
        self.settle();
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let Broker {
            machine,
            inbox,
            now,
            writes,
            ..
        } = self;
        pass(machine, now, end, |machine| drain(machine, inbox, writes));
        self.settle();
    }

    /// Messages that made no sense.
    pub fn malformed(&self) -> u64 {
        self.machine.counts().malformed
    }

    /// Tasks that were done.
    pub fn done(&self) -> u64 {
        self.machine.counts().done
    }

    fn settle(&mut self) {
        drain(&mut self.machine, &mut self.inbox, &mut self.writes);
        self.machine.audit().expect("it adds up");
        let footprint = self.machine.footprint();
        let most = 100 + 4 * self.received_bytes;
        assert!(footprint <= most, "{footprint} things after {most} bytes");
    }
}

/// Sends what the machine says, as its driver does.
fn drain(machine: &mut BrokerMachine, inbox: &mut Inbox, writes: &mut u64) {
    let mut said = 0;
    while let Some(output) = machine.poll() {
        said += 1;
        assert!(said < MOST_OUTPUTS, "{said} outputs");
        match output {
            BrokerOutput::Keep(_) => *writes += 1,
            BrokerOutput::Gone(peer) => inbox.peers.forget(peer),
            output => {
                let (_, message) = node::message(output);
                assert!(!message.is_empty());
            }
        }
    }
}

const JOB: JobId = JobId(7);

/// Feeds a client that hands in and fetches job 7 these frames of a broker, with pauses in
/// milliseconds.
pub fn client(frames: &[(u64, Vec<u8>)]) {
    let mut machine = ClientMachine::new(ClientLimits::default());
    let mut now = Time::START;
    let open = ClientInput::Open {
        job: JOB,
        settings: Some(JobSettings::new("a")),
        fetch: true,
        safe: Vec::new(),
    };
    let span = Span { first: 0, count: 3 };
    let frame = b"MUT1\x05\x07\x00\x03\x01\x02\x03"[..].into();
    let job = JOB;
    machine.handle(now, open);
    machine.handle(now, ClientInput::Submit { job, span, frame });
    machine.handle(now, ClientInput::Close(job, 3));
    for (pause_ms, frame) in frames {
        let end = now + Duration::from_millis(*pause_ms);
        pass(&mut machine, &mut now, end, obey_client);
        match read_at_client(Frame::from(&frame[..])) {
            Ok(AtClient::Says(says)) => machine.handle(now, ClientInput::Broker(says)),
            Ok(AtClient::Outcomes(job, span, records)) => {
                machine.handle(now, ClientInput::Results { job, span, records });
            }
            Err(_) => {}
        }
        obey_client(&mut machine);
    }
}

fn obey_client(machine: &mut ClientMachine) {
    let mut said = 0;
    while let Some(output) = machine.poll() {
        said += 1;
        assert!(said < MOST_OUTPUTS, "{said} outputs");
        if let ClientOutput::Deliver {
            span,
            fresh,
            records,
            ..
        } = output
        {
            let outcomes = crate::trio::read_outcomes::<u64>(records.bytes(), span, &fresh);
            assert!(outcomes.len() <= span.count as usize);
        }
    }
}

/// Feeds a worker of two slots these frames of a broker, with pauses in milliseconds; what it runs
/// is done before the next one.
pub fn worker(frames: &[(u64, Vec<u8>)]) {
    let operations = vec!["a".to_string()];
    let heartbeat = Duration::from_millis(500);
    let mut machine = Leaseholder::new(WorkerId(1), 2, operations, heartbeat, 4);
    let mut now = Time::START;
    let mut running = Vec::new();
    for (pause_ms, frame) in frames {
        let end = now + Duration::from_millis(*pause_ms);
        pass(&mut machine, &mut now, end, |machine| {
            obey_worker(machine, &mut running);
        });
        match read_at_worker(Frame::from(&frame[..])) {
            Ok(AtWorker::Tells(tells)) => machine.handle(now, LeaseholderInput::Broker(tells)),
            Ok(AtWorker::Leased(leased)) => machine.handle(now, LeaseholderInput::Leased(leased)),
            Ok(AtWorker::Refused(_)) | Err(_) => {}
        }
        for lease in std::mem::take(&mut running) {
            let (results, failed) = (vec![[0; 3].into()], Vec::new());
            machine.handle(
                now,
                LeaseholderInput::Worked {
                    lease,
                    results,
                    failed,
                },
            );
        }
        obey_worker(&mut machine, &mut running);
        assert!(running.len() <= 2, "more than its slots");
    }
}

fn obey_worker(machine: &mut Leaseholder<(Frame, usize)>, running: &mut Vec<u64>) {
    let mut said = 0;
    while let Some(output) = machine.poll() {
        said += 1;
        assert!(said < MOST_OUTPUTS, "{said} outputs");
        if let LeaseholderOutput::Run(leased) = output {
            assert!(leased.body.1 <= leased.body.0.len());
            running.push(leased.lease);
        }
    }
}

/// Reads a message in JSON as one who is that by the first byte, and what it says, written again.
pub fn json(bytes: &[u8]) {
    const ENDS: [End; 3] = [End::Broker, End::Client, End::Worker];
    let Some((&end, message)) = bytes.split_first() else {
        return;
    };
    let end = ENDS[usize::from(end) % ENDS.len()];
    let again = |frame: &[u8]| {
        let message = json::write(end, frame).expect("what was read can be written");
        json::read(end, &message).expect("what was written can be read")
    };
    let Ok(frame) = json::read(end, message) else {
        return;
    };
    // Bytes that are text become text the first time.
    let once = again(&frame);
    assert_eq!(again(&once), once);
}
