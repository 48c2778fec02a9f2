//! Whatever arrives, no machine panics, loses count or keeps more than its bounds.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{
    Batch, Dispatch, Incarnation, JobId, Limits, Results, SinkInput, SinkMachine, SinkSays, Span,
    TaskId, VentilatorInput, VentilatorMachine, VentilatorSays, VentilatorTells, WorkerId,
    WorkerInput, WorkerMachine, WorkerSays,
};
use mutirao::wire::Records;
use proptest::collection::vec;
use proptest::prelude::*;

use super::world::DISPATCHES;

/// Numbers as they occur, and as they hurt.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..40u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn number32() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..6u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn heartbeat() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => (0..2000u64).prop_map(Duration::from_millis), 1 => Just(Duration::MAX)]
}

fn span() -> impl Strategy<Value = Span> {
    (number(), number32()).prop_map(|(first, count)| Span { first, count })
}

fn ranges() -> impl Strategy<Value = Vec<Range<TaskId>>> {
    vec(
        (number(), number()).prop_map(|(start, end)| start..end),
        0..4,
    )
}

fn failures() -> impl Strategy<Value = Vec<(TaskId, String)>> {
    vec((number(), Just("é".repeat(900))), 0..3)
}

fn worker_id() -> impl Strategy<Value = WorkerId> {
    (0..4u64).prop_map(WorkerId)
}

fn job() -> impl Strategy<Value = JobId> {
    prop_oneof![9 => Just(JobId(7)), 1 => (0..100u64).prop_map(JobId)]
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    (0..3u64).prop_map(Incarnation)
}

fn dispatch() -> impl Strategy<Value = Dispatch> {
    (0..3usize).prop_map(|index| DISPATCHES[index])
}

fn from_worker() -> impl Strategy<Value = WorkerSays> {
    let spans = || vec(span(), 0..4);
    prop_oneof![
        (worker_id(), number32(), heartbeat()).prop_map(|(worker, slots, heartbeat)| {
            WorkerSays::Hello {
                worker,
                slots,
                heartbeat,
            }
        }),
        (worker_id(), number32()).prop_map(|(worker, batches)| WorkerSays::Ask { worker, batches }),
        (worker_id(), job(), span()).prop_map(|(worker, job, span)| WorkerSays::Held {
            worker,
            job,
            span
        }),
        (worker_id(), job(), span(), number()).prop_map(|(worker, job, span, busy_us)| {
            WorkerSays::Done {
                worker,
                job,
                span,
                busy_us,
            }
        }),
        (worker_id(), job(), number(), number32()).prop_map(|(worker, job, task, attempt)| {
            let reason = String::new();
            WorkerSays::Failed {
                worker,
                job,
                task,
                attempt,
                reason,
            }
        }),
        (worker_id(), job(), spans()).prop_map(|(worker, job, held)| WorkerSays::Beat {
            worker,
            job,
            held
        }),
        (worker_id(), job(), spans()).prop_map(|(worker, job, unbegun)| WorkerSays::Bye {
            worker,
            job,
            unbegun
        }),
    ]
}

fn from_sink() -> impl Strategy<Value = SinkSays> {
    prop_oneof![
        3 => (job(), incarnation(), heartbeat(), ranges(), ranges(), failures()).prop_map(
            |(job, incarnation, heartbeat, safe, received, failed)| {
                SinkSays::Opened { job, incarnation, heartbeat, safe, received, failed }
            }
        ),
        2 => (job(), ranges()).prop_map(|(job, tasks)| SinkSays::Received { job, tasks }),
        2 => (job(), ranges()).prop_map(|(job, tasks)| SinkSays::Deferred { job, tasks }),
        2 => (job(), ranges(), failures())
            .prop_map(|(job, safe, failed)| SinkSays::Confirmed { job, safe, failed }),
        2 => (job(), incarnation(), number(), number(), any::<bool>()).prop_map(
            |(job, incarnation, safe_below, duplicates, busy)| {
                SinkSays::Beat { job, incarnation, safe_below, duplicates, busy }
            }
        ),
        1 => (job(), number(), number())
            .prop_map(|(job, duplicates, bytes)| SinkSays::Closed { job, duplicates, bytes }),
        1 => job().prop_map(|job| SinkSays::Refused { job, reason: String::new() }),
    ]
}

fn from_ventilator() -> impl Strategy<Value = VentilatorTells> {
    prop_oneof![
        (job(), incarnation(), ranges(), heartbeat()).prop_map(
            |(job, incarnation, safe, heartbeat)| {
                VentilatorTells::Open {
                    job,
                    incarnation,
                    safe,
                    heartbeat,
                }
            }
        ),
        (job(), incarnation())
            .prop_map(|(job, incarnation)| VentilatorTells::Beat { job, incarnation }),
        (job(), incarnation(), number()).prop_map(|(job, incarnation, tasks)| {
            VentilatorTells::Close {
                job,
                incarnation,
                tasks,
            }
        }),
    ]
}

fn to_ventilator() -> impl Strategy<Value = VentilatorInput> {
    prop_oneof![
        1 => (0..20usize).prop_map(|count| {
            let mut records = Records::default();
            (0..count).for_each(|_| records.push(&1).expect("a number"));
            VentilatorInput::Submit(records)
        }),
        5 => from_worker().prop_map(VentilatorInput::Worker),
        4 => from_sink().prop_map(VentilatorInput::Sink),
        1 => worker_id().prop_map(VentilatorInput::Subscribed),
        1 => worker_id().prop_map(VentilatorInput::Unsubscribed),
    ]
}

fn to_worker() -> impl Strategy<Value = WorkerInput<()>> {
    let batch = (
        job(),
        span(),
        number32(),
        number32(),
        prop_oneof![Just(usize::MAX), 0..100usize],
    );
    let worked = (job(), span(), number32(), vec(span(), 0..3), failures());
    prop_oneof![
        3 => batch.prop_map(|(job, span, attempt, attempts, bytes)| {
            let body = ();
            WorkerInput::Tasks(Batch { job, span, attempt, attempts, body, bytes })
        }),
        2 => worked.prop_map(|(job, span, attempt, results, failed)| {
            let frame: Arc<[u8]> = Arc::from([0; 9]);
            let results = results.into_iter().map(|span| Results { span, frame: frame.clone() });
            let results = results.collect();
            WorkerInput::Worked { job, span, attempt, busy: Duration::MAX, results, failed }
        }),
        1 => Just(()).prop_map(|()| WorkerInput::Ventilator(VentilatorSays::WhoAreYou)),
        1 => (job(), incarnation(), heartbeat()).prop_map(|(job, incarnation, heartbeat)| {
            WorkerInput::Ventilator(VentilatorSays::Beat { job, incarnation, heartbeat })
        }),
        1 => job().prop_map(|job| WorkerInput::Ventilator(VentilatorSays::Finished { job })),
        1 => Just(()).prop_map(|()| WorkerInput::SinkReady),
        1 => any::<bool>().prop_map(WorkerInput::SinkBlocked),
        1 => (job(), span()).prop_map(|(job, span)| WorkerInput::Acknowledged(job, span)),
    ]
}

fn to_sink() -> impl Strategy<Value = SinkInput<()>> {
    prop_oneof![
        4 => (worker_id(), job(), span()).prop_map(|(worker, job, span)| SinkInput::Results {
            worker,
            job,
            span,
            body: ()
        }),
        4 => (0..3u64, from_ventilator())
            .prop_map(|(peer, tells)| SinkInput::Ventilator(peer, tells)),
        2 => (job(), ranges(), failures())
            .prop_map(|(job, safe, failed)| SinkInput::Resume(job, safe, failed)),
        1 => (job(), ranges(), failures())
            .prop_map(|(job, safe, failed)| SinkInput::Confirm(job, safe, failed)),
        1 => (job(), ranges()).prop_map(|(job, tasks)| SinkInput::Defer(job, tasks)),
        1 => (job(), number()).prop_map(|(job, bytes)| SinkInput::Close(job, bytes)),
    ]
}

/// Feeds a machine at these intervals, wakes it when it is due, and takes what it says; more than
/// this is said for one input only by a machine that has lost its mind.
fn feed<M: Machine>(machine: &mut M, inputs: Vec<(u64, M::Input)>, check: impl Fn(&M)) {
    let mut now = Time::START;
    for (pause_ms, input) in inputs {
        now = now + Duration::from_millis(pause_ms);
        if machine.deadline().is_some_and(|deadline| deadline <= now) {
            machine.wake(now);
            assert!(machine.deadline().is_none_or(|deadline| deadline > now));
        }
        machine.handle(now, input);
        let said = std::iter::from_fn(|| machine.poll()).take(1000).count();
        assert!(said < 1000, "{said} outputs");
        check(machine);
    }
}

fn times<T: std::fmt::Debug>(
    inputs: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<(u64, T)>> {
    let pause = prop_oneof![3 => Just(0u64), 3 => 0..1000u64, 1 => 0..100_000u64];
    vec((pause, inputs), 0..80)
}

fn limits() -> Limits {
    Limits {
        window_tasks: 50,
        batch_tasks: 5,
        ..Limits::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_ventilator_survives_any_input(dispatch in dispatch(), inputs in times(to_ventilator())) {
        let mut machine = VentilatorMachine::new(JobId(7), Incarnation(1), dispatch, limits());
        feed(&mut machine, inputs, |machine| {
            let kept = machine.audit().expect("right counts");
            assert!(kept < 2000, "{kept}");
        });
    }

    #[test]
    fn a_worker_survives_any_input(slots in number32(), dispatch in dispatch(), inputs in times(to_worker())) {
        let mut machine = WorkerMachine::new(WorkerId(1), slots, dispatch, limits());
        feed(&mut machine, inputs, |machine| {
            machine.audit().expect("right counts");
        });
    }

    #[test]
    fn a_sink_survives_any_input(inputs in times(to_sink())) {
        let mut machine = SinkMachine::new(Incarnation(1), limits());
        feed(&mut machine, inputs, |machine| {
            assert!(machine.audit() < 1000);
        });
    }
}

/// A flood of results that leave gaps is turned away once the gaps are too many; the first missing
/// one is not.
#[test]
fn a_sink_keeps_a_bounded_number_of_gaps() {
    let mut sink = SinkMachine::new(Incarnation(1), limits());
    let (job, worker, now) = (JobId(7), WorkerId(1), Time::START);
    let open = VentilatorTells::Open {
        job,
        incarnation: Incarnation(1),
        safe: Vec::new(),
        heartbeat: Duration::ZERO,
    };
    let mut feed = |input| {
        sink.handle(now, input);
        let outputs: Vec<_> = std::iter::from_fn(|| sink.poll()).collect();
        assert!(sink.audit() < 600_000);
        outputs
    };
    feed(SinkInput::Ventilator(1, open));
    feed(SinkInput::Resume(job, Vec::new(), Vec::new()));
    let mut result = |first| {
        let span = Span { first, count: 1 };
        let body = ();
        feed(SinkInput::Results {
            worker,
            job,
            span,
            body,
        })
    };
    let last = (1..300_000).map(|n| result(2 * n)).last();
    assert!(!format!("{last:?}").contains("Deliver"));
    assert!(format!("{:?}", result(0)).contains("Deliver"));
}
