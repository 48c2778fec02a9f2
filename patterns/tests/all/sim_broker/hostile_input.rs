//! Whatever arrives, no machine of the broker panics, loses count or keeps more than its bounds.

use std::ops::Range;
use std::time::Duration;

use mutirao::broker::majordomo::Version;
use mutirao::broker::store::Write;
use mutirao::broker::{
    BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, BrokerSays, BrokerTells, ClientInput,
    ClientLimits, ClientMachine, ClientSays, Deed, Held, JobCounts, JobSettings, Keeps, Leased,
    Leaseholder, LeaseholderInput, Mode, Recovery, ResultsTo, Slice, Takes, WorkerTells,
};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, JobId, Span, TaskId, WorkerId};
use proptest::collection::vec;
use proptest::prelude::*;

/// Numbers as they occur, and as they hurt.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..40u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn number32() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..8u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn span() -> impl Strategy<Value = Span> {
    (number(), number32()).prop_map(|(first, count)| Span { first, count })
}

fn ranges() -> impl Strategy<Value = Vec<Range<TaskId>>> {
    let range = (number(), number()).prop_map(|(start, end)| start..end);
    vec(range, 0..4)
}

fn job() -> impl Strategy<Value = JobId> {
    prop_oneof![8 => Just(JobId(7)), 2 => Just(JobId(8)), 1 => (0..100u64).prop_map(JobId)]
}

fn jobs() -> impl Strategy<Value = Vec<JobId>> {
    vec(job(), 0..4)
}

fn peer() -> impl Strategy<Value = u64> {
    0..4u64
}

fn leases() -> impl Strategy<Value = Vec<u64>> {
    vec(number(), 0..5)
}

fn operation() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => Just("a".to_string()),
        3 => Just("b".to_string()),
        1 => Just(String::new()),
        1 => Just("x".repeat(300)),
    ]
}

fn settings() -> impl Strategy<Value = JobSettings> {
    let numbers = (number32(), number(), any::<u8>());
    let results_to = prop_oneof![Just(ResultsTo::Anyone), Just(ResultsTo::Sink)];
    (operation(), numbers, results_to).prop_map(
        |(operation, (attempts, keep_seconds, priority), results_to)| JobSettings {
            attempts,
            keep_seconds,
            priority,
            results_to,
            ..JobSettings::new(operation)
        },
    )
}

/// So many values, or rubbish.
fn records(outcomes: bool) -> impl Strategy<Value = (u64, u32, Slice)> {
    let sound = (0..40u64, 1..8u32).prop_map(move |(first, count)| {
        let each: &[u8] = if outcomes { &[0xc3, 1] } else { &[1] };
        (first, count, each.repeat(count as usize))
    });
    let any = (number(), number32(), vec(any::<u8>(), 0..9));
    let edge =
        (1..4u32).prop_map(|count| (u64::MAX - u64::from(count), count, vec![1; count as usize]));
    prop_oneof![8 => sound, 1 => any, 1 => edge]
        .prop_map(|(first, count, bytes)| (first, count, Slice::from(bytes.into(), 0)))
}

fn client_says() -> impl Strategy<Value = ClientSays> {
    prop_oneof![
        4 => (job(), settings()).prop_map(|(job, settings)| ClientSays::Open { job, settings }),
        2 => (jobs(), jobs())
            .prop_map(|(submitting, fetching)| ClientSays::Beat { submitting, fetching }),
        2 => (job(), number()).prop_map(|(job, tasks)| ClientSays::Close { job, tasks }),
        2 => (job(), number(), ranges()).prop_map(|(job, window_bytes, safe)| {
            ClientSays::Fetch { job, window_bytes, safe }
        }),
        3 => (job(), ranges()).prop_map(|(job, tasks)| ClientSays::Safe { job, tasks }),
        1 => job().prop_map(|job| ClientSays::Cancel { job }),
        1 => Just(ClientSays::Jobs {}),
        1 => job().prop_map(|job| ClientSays::Job { job }),
        1 => Just(ClientSays::Status {}),
    ]
}

fn held() -> impl Strategy<Value = Held> {
    (number(), job(), span()).prop_map(|(lease, job, span)| Held { lease, job, span })
}

fn worker_tells() -> impl Strategy<Value = WorkerTells> {
    let ready = (
        0..3u64,
        number32(),
        vec(operation(), 0..4),
        vec(held(), 0..4),
    );
    prop_oneof![
        4 => ready.prop_map(|(worker, slots, operations, held)| WorkerTells::Ready {
            worker: WorkerId(worker),
            slots: slots.min(9),
            operations,
            held,
            takes: if slots % 3 == 0 { Takes::One } else { Takes::Batches },
            name: (slots % 2 == 0).then(|| "é".repeat(slots as usize % 300)),
        }),
        2 => (number(), leases()).prop_map(|(seen, held)| WorkerTells::Beat { seen, held }),
        3 => (number(), number()).prop_map(|(lease, task)| WorkerTells::Failed {
            lease,
            task,
            reason: "é".repeat(600)
        }),
        2 => leases().prop_map(|leases| WorkerTells::Returned { leases }),
        2 => (number(), number()).prop_map(|(lease, from)| WorkerTells::Cut { lease, from }),
        1 => Just(WorkerTells::Leaving {}),
        1 => Just(WorkerTells::Gone {}),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

/// Bodies as the driver makes them of frames.
fn body() -> impl Strategy<Value = Slice> {
    let bodies: [&[u8]; 4] = [
        &[0xc4, 1, b'x'],
        &[0x92, 0xc4, 1, b'a', 0xc4, 1, b'b'],
        // Titanic's: a service and what it is asked.
        &[0x92, 0xc4, 1, b'a', 0xc4, 0],
        &[0xc4, 36],
    ];
    let mut ticket = bodies[3].to_vec();
    ticket.extend_from_slice(b"01234567-89ab-4def-8123-456789abcdef");
    prop_oneof![
        (0..3usize).prop_map(move |at| bodies[at].to_vec()),
        Just(ticket),
    ]
    .prop_map(|bytes| Slice::from(bytes.into(), 0))
}

fn service() -> impl Strategy<Value = String> {
    let names = [
        "a",
        "b",
        "a",
        "b",
        "nobody",
        "mmi.service",
        "mmi.x",
        "titanic.request",
        "titanic.reply",
        "titanic.close",
    ];
    (0..names.len()).prop_map(move |at| names[at].to_string())
}

/// The address of a lease, or none.
fn address() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => number().prop_map(|lease| lease.to_be_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..9),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => service().prop_map(Deed::Ready),
        4 => (address(), body()).prop_map(|(address, body)| Deed::Reply(address, body)),
        1 => (address(), body()).prop_map(|(address, body)| Deed::Partial(address, body)),
        1 => Just(Deed::Heartbeat),
        1 => Just(Deed::Disconnect),
    ]
}

fn to_broker() -> impl Strategy<Value = BrokerInput> {
    prop_oneof![
        4 => (peer(), version(), service(), body()).prop_map(|(peer, version, service, record)| {
            BrokerInput::Request { peer, version, service, record }
        }),
        4 => (peer(), version(), deed())
            .prop_map(|(peer, version, deed)| BrokerInput::Hand(peer, version, deed)),
        4 => (peer(), client_says()).prop_map(|(peer, says)| BrokerInput::Client(peer, says)),
        3 => (peer(), job(), records(false)).prop_map(|(peer, job, (first, count, records))| {
            BrokerInput::Submit { peer, job, span: Span { first, count }, records }
        }),
        4 => (peer(), worker_tells()).prop_map(|(peer, tells)| BrokerInput::Worker(peer, tells)),
        3 => (peer(), number(), records(true)).prop_map(|(peer, lease, (first, count, records))| {
            let (span, busy) = (Span { first, count }, Duration::MAX);
            BrokerInput::Worked { peer, lease, span, busy, records }
        }),
        1 => peer().prop_map(BrokerInput::Unreachable),
        1 => any::<bool>().prop_map(|full| BrokerInput::StoreTrouble(full.then(String::new))),
    ]
}

/// What a damaged store may hold.
fn write() -> impl Strategy<Value = Write> {
    let body = |(first, count, records): (u64, u32, Slice)| {
        (Span { first, count }, records.bytes().into())
    };
    prop_oneof![
        2 => (job(), records(false)).prop_map(move |(job, records)| {
            let (span, body) = body(records);
            Write::Tasks { job, span, body }
        }),
        2 => (job(), records(true)).prop_map(move |(job, records)| {
            let (span, body) = body(records);
            Write::Results { job, span, body }
        }),
        1 => (job(), ranges()).prop_map(|(job, tasks)| Write::Fetched { job, tasks }),
        1 => (job(), vec(any::<u8>(), 0..9))
            .prop_map(|(job, description)| Write::Job { job, description }),
    ]
}

fn limits() -> BrokerLimits {
    BrokerLimits {
        queue_tasks: 30,
        queue_bytes: 100,
        kept_bytes: 2000,
        batch_tasks: 5,
        ..BrokerLimits::default()
    }
}

fn times<T: std::fmt::Debug>(
    inputs: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<(u64, T)>> {
    let pause = prop_oneof![3 => Just(0u64), 3 => 0..1000u64, 1 => 0..100_000u64];
    vec((pause, inputs), 0..80)
}

/// Feeds a machine at these intervals, wakes it when it is due, and takes what it says; more than
/// this is said for one input only by a machine that has lost its mind.
fn feed<M: Machine>(
    machine: &mut M,
    inputs: Vec<(u64, M::Input)>,
    mut look: impl FnMut(&mut M, Time, M::Output),
    check: impl Fn(&M),
) {
    let mut now = Time::START;
    for (pause_ms, input) in inputs {
        now = now + Duration::from_millis(pause_ms);
        if machine.deadline().is_some_and(|deadline| deadline <= now) {
            machine.wake(now);
            assert!(machine.deadline().is_none_or(|deadline| deadline > now));
            check(machine);
        }
        machine.handle(now, input);
        let mut said = 0;
        while let Some(output) = machine.poll() {
            look(machine, now, output);
            said += 1;
            assert!(said < 1000, "{said} outputs");
        }
        check(machine);
    }
}

fn check_broker(machine: &BrokerMachine) {
    machine.audit().expect("it adds up");
    assert!(machine.footprint() < 5000, "{}", machine.footprint());
}

fn description(job: JobId) -> Write {
    let description = rmp_serde::to_vec(&(JobSettings::new("a"), None::<u64>)).expect("plain");
    Write::Job { job, description }
}

fn keeps() -> impl Strategy<Value = Keeps> {
    prop_oneof![Just(Keeps::Disk), Just(Keeps::Memory), Just(Keeps::Nothing)]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![3 => Just(Mode::LoadBalancing), 1 => Just(Mode::RequestReply)]
}

fn broker_says() -> impl Strategy<Value = BrokerSays> {
    let incarnation = || (0..3u64).prop_map(Incarnation);
    prop_oneof![
        incarnation().prop_map(|incarnation| BrokerSays::Beat { incarnation }),
        job().prop_map(|job| BrokerSays::Resume { job }),
        (job(), incarnation(), keeps(), ranges()).prop_map(
            |(job, incarnation, keeps, accepted)| {
                BrokerSays::Opened {
                    job,
                    incarnation,
                    keeps,
                    accepted,
                }
            }
        ),
        (job(), ranges()).prop_map(|(job, tasks)| BrokerSays::Accepted { job, tasks }),
        (job(), number()).prop_map(|(job, tasks)| BrokerSays::Closed { job, tasks }),
        (job(), number()).prop_map(|(job, first)| {
            let reason = String::new();
            BrokerSays::Full { job, first, reason }
        }),
        job().prop_map(|job| BrokerSays::Room { job }),
        job().prop_map(|job| BrokerSays::Unknown { job }),
        job().prop_map(|job| BrokerSays::Complete {
            job,
            counts: JobCounts::default()
        }),
    ]
}

fn to_client() -> impl Strategy<Value = ClientInput> {
    prop_oneof![
        2 => (job(), settings(), any::<bool>(), ranges()).prop_map(|(job, settings, fetch, safe)| {
            ClientInput::Open { job, settings: fetch.then_some(settings), fetch, safe }
        }),
        2 => (job(), span()).prop_map(|(job, span)| {
            ClientInput::Submit { job, span, frame: [0; 3].into() }
        }),
        1 => (job(), number()).prop_map(|(job, tasks)| ClientInput::Close(job, tasks)),
        1 => (job(), ranges()).prop_map(|(job, tasks)| ClientInput::Safe(job, tasks)),
        1 => job().prop_map(ClientInput::Cancel),
        6 => broker_says().prop_map(ClientInput::Broker),
        2 => (job(), span()).prop_map(|(job, span)| {
            ClientInput::Results { job, span, records: Slice::from([0; 3].into(), 0) }
        }),
    ]
}

fn to_worker() -> impl Strategy<Value = LeaseholderInput<()>> {
    let tells = prop_oneof![
        (0..3u64).prop_map(|number| BrokerTells::Beat {
            incarnation: Incarnation(number)
        }),
        Just(BrokerTells::WhoAreYou {}),
        leases().prop_map(|leases| BrokerTells::Recall { leases }),
        leases().prop_map(|leases| BrokerTells::Drop { leases }),
    ];
    prop_oneof![
        3 => (number(), job(), span()).prop_map(|(lease, job, span)| {
            let (attempt, attempts, time_limit) = (0, 0, None);
            let (operation, body) = ("a".into(), ());
            let leased = Leased { lease, job, span, attempt, attempts, time_limit, operation, body };
            LeaseholderInput::Leased(leased)
        }),
        2 => (number(), vec(number(), 0..3)).prop_map(|(lease, failed)| LeaseholderInput::Worked {
            lease,
            results: vec![[0; 3].into()],
            failed: failed.into_iter().map(|task| (task, String::new())).collect(),
        }),
        1 => (number(), number()).prop_map(|(lease, from)| LeaseholderInput::Cut { lease, from }),
        1 => (number(), number()).prop_map(|(lease, task)| LeaseholderInput::Overdue {
            lease,
            task,
            reason: String::new(),
        }),
        4 => tells.prop_map(LeaseholderInput::Broker),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_broker_survives_any_input(
        durable: bool,
        mode in mode(),
        first_lease in 0..3u64,
        inputs in times(to_broker()),
    ) {
        let limits = BrokerLimits { mode, ..limits() };
        let mut machine = BrokerMachine::new(limits, Incarnation(1), first_lease, durable);
        let mut writes = 0;
        feed(&mut machine, inputs, |machine, now, output| {
            writes += u64::from(matches!(output, BrokerOutput::Keep(_)));
            if writes % 5 == 4 {
                machine.handle(now, BrokerInput::Stored(writes));
            }
        }, check_broker);
    }

    #[test]
    fn a_broker_survives_any_store(writes in vec(write(), 0..40), inputs in times(to_broker())) {
        let mut machine = BrokerMachine::new(limits(), Incarnation(1), 100, true);
        let mut recovery = Recovery::default();
        for write in [description(JobId(7)), description(JobId(8))].into_iter().chain(writes) {
            recovery.take(&mut machine, Time::START, write);
        }
        recovery.finish(&mut machine, Time::START);
        check_broker(&machine);
        feed(&mut machine, inputs, |_, _, _| {}, check_broker);
    }

    #[test]
    fn a_client_of_a_broker_survives_any_input(inputs in times(to_client())) {
        let mut machine = ClientMachine::new(ClientLimits::default());
        feed(&mut machine, inputs, |_, _, _| {}, |_| {});
    }

    #[test]
    fn a_worker_of_a_broker_survives_any_input(slots in 0..5usize, inputs in times(to_worker())) {
        let operations = vec!["a".to_string()];
        let heartbeat = Duration::from_millis(500);
        let mut machine = Leaseholder::new(WorkerId(1), slots, operations, heartbeat, 4);
        feed(&mut machine, inputs, |_, _, _| {}, |machine| assert!(machine.held() < 100));
    }
}
