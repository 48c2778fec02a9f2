//! Every message survives JSON, and nothing that comes as JSON does harm.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::protocol::*;
use super::record::tests::{outcomes, tasks};
use super::*;
use crate::pipeline::{Incarnation, TaskId};

fn id() -> impl Strategy<Value = JobId> {
    any::<u64>().prop_map(JobId)
}

fn ranges() -> impl Strategy<Value = Vec<Range<TaskId>>> {
    vec(
        (any::<u64>(), any::<u64>()).prop_map(|(from, to)| from..to),
        0..4,
    )
}

fn settings() -> impl Strategy<Value = JobSettings> {
    let numbers = (any::<u32>(), any::<u64>(), any::<u8>(), any::<u64>());
    (".{0,9}", ".{0,9}", numbers, any::<bool>()).prop_map(|(operation, label, numbers, is_sink)| {
        let (attempts, time_limit_ms, priority, keep_seconds) = numbers;
        JobSettings {
            operation,
            label,
            attempts,
            time_limit_ms,
            priority,
            keep_seconds,
            results_to: match is_sink {
                true => ResultsTo::Sink,
                false => ResultsTo::Anyone,
            },
        }
    })
}

fn client_says() -> impl Strategy<Value = ClientSays> {
    prop_oneof![
        (vec(id(), 0..3), vec(id(), 0..3)).prop_map(|(submitting, fetching)| ClientSays::Beat {
            submitting,
            fetching
        }),
        (id(), settings()).prop_map(|(job, settings)| ClientSays::Open { job, settings }),
        (id(), any::<u64>()).prop_map(|(job, tasks)| ClientSays::Close { job, tasks }),
        (id(), any::<u64>(), ranges()).prop_map(|(job, window_bytes, safe)| ClientSays::Fetch {
            job,
            window_bytes,
            safe
        }),
        (id(), ranges()).prop_map(|(job, tasks)| ClientSays::Safe { job, tasks }),
        id().prop_map(|job| ClientSays::Cancel { job }),
        id().prop_map(|job| ClientSays::Await { job }),
        Just(ClientSays::Jobs {}),
        id().prop_map(|job| ClientSays::Job { job }),
        Just(ClientSays::Status {}),
    ]
}

fn counts() -> impl Strategy<Value = JobCounts> {
    any::<[u64; 7]>().prop_map(
        |[accepted, queued, leased, done, failed, retried, fetched]| JobCounts {
            accepted,
            queued,
            leased,
            done,
            failed,
            retried,
            fetched,
        },
    )
}

fn view() -> impl Strategy<Value = JobView> {
    let rest = (any::<Option<u64>>(), any::<u64>(), any::<[bool; 2]>());
    (id(), settings(), counts(), rest).prop_map(|(job, settings, counts, rest)| {
        let (tasks, age_seconds, [fetching, over]) = rest;
        JobView {
            job,
            settings,
            tasks,
            counts,
            age_seconds,
            fetching,
            over,
        }
    })
}

fn status() -> impl Strategy<Value = StatusView> {
    let worker = (
        ".{0,9}",
        vec(".{0,5}", 0..3),
        any::<[u64; 3]>(),
        any::<bool>(),
    );
    let worker =
        worker.prop_map(
            |(worker, operations, [leased, done, seen_ms], suspect)| WorkerView {
                worker,
                protocol: "x".into(),
                operations,
                slots: 3,
                leased,
                done,
                seen_ms,
                suspect,
            },
        );
    let service = any::<[u64; 5]>().prop_map(|[queued, leased, done, workers, done_per_second]| {
        ServiceView {
            queued,
            leased,
            done,
            workers,
            done_per_second,
        }
    });
    let services = prop::collection::btree_map(".{0,5}", service, 0..3);
    let numbers = any::<[u64; 9]>();
    let lists = (vec(worker, 0..3), services);
    (lists, numbers, any::<Option<String>>()).prop_map(|((workers, services), n, trouble)| {
        let services: BTreeMap<String, ServiceView> = services;
        StatusView {
            up_seconds: n[0],
            workers,
            services,
            jobs: n[1],
            clients: n[2],
            done: n[3],
            failed: n[4],
            retried: n[5],
            done_per_second: n[6],
            malformed: n[7],
            kept_bytes: n[8],
            trouble,
            keeps: Keeps::Disk,
        }
    })
}

fn broker_says() -> impl Strategy<Value = BrokerSays> {
    let incarnation = || any::<u64>().prop_map(Incarnation);
    let keeps = prop::sample::select(vec![Keeps::Disk, Keeps::Memory, Keeps::Nothing]);
    prop_oneof![
        incarnation().prop_map(|incarnation| BrokerSays::Beat { incarnation }),
        id().prop_map(|job| BrokerSays::Resume { job }),
        (id(), incarnation(), keeps, ranges()).prop_map(|(job, incarnation, keeps, accepted)| {
            BrokerSays::Opened {
                job,
                incarnation,
                keeps,
                accepted,
            }
        }),
        (id(), ranges()).prop_map(|(job, tasks)| BrokerSays::Accepted { job, tasks }),
        (id(), any::<u64>()).prop_map(|(job, tasks)| BrokerSays::Closed { job, tasks }),
        (id(), any::<u64>(), ".{0,20}").prop_map(|(job, first, reason)| BrokerSays::Full {
            job,
            first,
            reason
        }),
        id().prop_map(|job| BrokerSays::Room { job }),
        (id(), ".{0,20}").prop_map(|(job, reason)| BrokerSays::Refused { job, reason }),
        (id(), counts()).prop_map(|(job, counts)| BrokerSays::Complete { job, counts }),
        id().prop_map(|job| BrokerSays::Unknown { job }),
        id().prop_map(|job| BrokerSays::Cancelled { job }),
        vec(view(), 0..3).prop_map(|jobs| BrokerSays::Jobs { jobs }),
        (view(), ranges()).prop_map(|(job, fetched)| BrokerSays::Job { job, fetched }),
        status().prop_map(|status| BrokerSays::Status { status }),
    ]
}

fn span_of() -> impl Strategy<Value = Span> {
    (0..u64::MAX / 2, 1..u32::MAX).prop_map(|(first, count)| Span { first, count })
}

fn worker_tells() -> impl Strategy<Value = WorkerTells> {
    let held = (any::<u64>(), id(), span_of());
    let held = held.prop_map(|(lease, job, span)| Held { lease, job, span });
    let takes = prop::sample::select(vec![Takes::Batches, Takes::One]);
    let ready = (
        any::<u64>(),
        any::<u32>(),
        vec(".{0,5}", 0..3),
        vec(held, 0..3),
        takes,
        proptest::option::of(".{0,5}"),
    );
    let leases = || vec(any::<u64>(), 0..4);
    prop_oneof![
        ready.prop_map(
            |(worker, slots, operations, held, takes, name)| WorkerTells::Ready {
                worker: WorkerId(worker),
                slots,
                operations,
                held,
                takes,
                name,
            }
        ),
        (any::<u64>(), leases()).prop_map(|(seen, held)| WorkerTells::Beat { seen, held }),
        (any::<u64>(), any::<u64>(), ".{0,20}").prop_map(|(lease, task, reason)| {
            WorkerTells::Failed {
                lease,
                task,
                reason,
            }
        }),
        leases().prop_map(|leases| WorkerTells::Returned { leases }),
        (any::<u64>(), any::<u64>()).prop_map(|(lease, from)| WorkerTells::Cut { lease, from }),
        Just(WorkerTells::Leaving {}),
        Just(WorkerTells::Gone {}),
    ]
}

fn broker_tells() -> impl Strategy<Value = BrokerTells> {
    let leases = || vec(any::<u64>(), 0..4);
    prop_oneof![
        any::<u64>().prop_map(|number| BrokerTells::Beat {
            incarnation: Incarnation(number)
        }),
        Just(BrokerTells::WhoAreYou {}),
        leases().prop_map(|leases| BrokerTells::Recall { leases }),
        leases().prop_map(|leases| BrokerTells::Drop { leases }),
    ]
}

fn records(
    of: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = (u64, u64, u64, Vec<Vec<u8>>)> {
    let numbers = (any::<u64>(), any::<u64>(), 0..u64::MAX / 2);
    (numbers, vec(of, 1..5)).prop_map(|((a, b, first), records)| (a, b, first, records))
}

fn header(kind: Kind, ids: &[u64], first: u64, records: &[Vec<u8>]) -> Writer {
    let writer = ids
        .iter()
        .fold(Writer::new(kind), |writer, &id| writer.uint(id));
    let count = records.len() as u32;
    writer.span(Span { first, count })
}

/// A message of any kind, and who reads it.
fn messages() -> impl Strategy<Value = (End, Vec<u8>)> {
    fn control<T: Control>(to: End, kind: Kind, message: &T) -> (End, Vec<u8>) {
        (to, frame(kind, message).unwrap())
    }
    let leased = (records(tasks()), any::<[u32; 2]>(), any::<u64>(), ".{0,9}");
    let leased = leased.prop_map(
        |((lease, job, first, tasks), [attempt, attempts], ms, operation)| {
            let header = header(Kind::Leased, &[lease, job], first, &tasks);
            let header = header.uint(attempt.into()).uint(attempts.into());
            let frame = header.uint(ms).text(&operation).records(&tasks.concat());
            (End::Worker, frame.finish())
        },
    );
    let asked = (id(), any::<u32>(), any::<u64>(), ".{0,9}", tasks());
    let asked = asked.prop_map(|(job, attempts, ms, operation, task)| {
        let frame = Writer::new(Kind::Asked).uint(job.0).uint(attempts.into());
        let frame = frame.uint(ms).text(&operation).records(&task);
        (End::Broker, frame.finish())
    });
    prop_oneof![
        client_says().prop_map(|says| control(End::Broker, Kind::Client, &says)),
        broker_says().prop_map(|says| control(End::Client, Kind::Client, &says)),
        worker_tells().prop_map(|tells| control(End::Broker, Kind::Worker, &tells)),
        broker_tells().prop_map(|tells| control(End::Worker, Kind::Worker, &tells)),
        records(tasks()).prop_map(|(job, _, first, tasks)| {
            let header = header(Kind::Submitted, &[job], first, &tasks);
            (End::Broker, header.records(&tasks.concat()).finish())
        }),
        records(outcomes()).prop_map(|(lease, busy, first, outcomes)| {
            let header = header(Kind::Worked, &[lease], first, &outcomes).uint(busy);
            (End::Broker, header.records(&outcomes.concat()).finish())
        }),
        records(outcomes()).prop_map(|(job, _, first, outcomes)| {
            let header = header(Kind::Outcomes, &[job], first, &outcomes);
            (End::Client, header.records(&outcomes.concat()).finish())
        }),
        leased,
        asked,
    ]
}

proptest! {
    #[test]
    fn every_message_is_an_object_of_one_of_four_types_and_survives((to, frame) in messages()) {
        let json = write(to, &frame).unwrap();
        let object: Value = serde_json::from_slice(&json).unwrap();
        let of = object["type"].as_str().unwrap();
        prop_assert!(["BEAT", "READY", "PROCESS", "RESULT"].contains(&of), "{}", of);
        let read = read(to, &json);
        prop_assert_eq!(read.as_ref(), Ok(&frame), "{}", String::from_utf8_lossy(&json));
    }

    #[test]
    fn a_message_that_is_damaged_is_refused_or_another(
        (to, frame) in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut: bool,
    ) {
        let mut json = write(to, &frame).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if cut {
            json.truncate(at);
        }
        for end in [End::Broker, End::Client, End::Worker] {
            if let Ok(frame) = read(end, &json) {
                prop_assert!(Reader::open(&frame).is_ok());
            }
        }
    }

    #[test]
    fn an_object_of_likely_fields_never_panics(
        fields in vec((prop::sample::select(FIELDS.to_vec()), any::<prop::sample::Index>()), 0..8),
    ) {
        let values = values();
        let fields = fields.into_iter().map(|(name, at)| (name.to_string(), values[at.index(values.len())].clone()));
        let object = Value::Object(fields.collect());
        let json = serde_json::to_vec(&object).unwrap();
        for end in [End::Broker, End::Client, End::Worker] {
            let _ = read(end, &json);
        }
    }
}

const FIELDS: [&str; 16] = [
    "type",
    "what",
    "role",
    "id",
    "ok",
    "body",
    "error",
    "place",
    "tasks",
    "results",
    "held",
    "holding",
    "operations",
    "job",
    "first",
    "retry",
];

fn values() -> Vec<Value> {
    vec![
        json!("BEAT"),
        json!("READY"),
        json!("PROCESS"),
        json!("RESULT"),
        json!("client"),
        json!("Open"),
        json!("1.2+3.4"),
        json!("7"),
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!([]),
        json!(["1.2.3"]),
        json!([{"body": 1}]),
        json!([{"ok": true, "body": 1}]),
        json!({"name": "a", "input": 0, "piece": 0, "last": true}),
    ]
}

fn at_broker(json: &Value) -> Result<Vec<u8>, JsonError> {
    read(End::Broker, json.to_string().as_bytes())
}

fn tells(json: Value) -> WorkerTells {
    let frame = at_broker(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    Reader::expect(&frame, Kind::Worker)
        .unwrap()
        .value()
        .unwrap()
}

#[test]
fn a_worker_may_say_little() {
    let ready = tells(json!({"type": "READY", "name": "ana", "operations": ["a"]}));
    let (worker, held) = (WorkerId(number_of("ana")), Vec::new());
    let (slots, operations, takes) = (1, vec!["a".to_string()], Takes::One);
    assert_eq!(
        ready,
        WorkerTells::Ready {
            worker,
            slots,
            operations,
            held,
            takes,
            name: Some("ana".into()),
        }
    );
    let holding = json!(["7.3.2a"]);
    let ready = tells(json!({"type": "READY", "name": "b", "operations": [], "holding": holding}));
    let WorkerTells::Ready { held, .. } = ready else {
        panic!("{ready:?}")
    };
    let span = Span { first: 3, count: 1 };
    let (lease, job) = (7, JobId(42));
    assert_eq!(held, [Held { lease, job, span }]);
    let alive = WorkerTells::Returned { leases: Vec::new() };
    assert_eq!(tells(json!({"type": "BEAT"})), alive);
    let (seen, held) = (0, vec![7]);
    let beat = tells(json!({"type": "BEAT", "holding": holding}));
    assert_eq!(beat, WorkerTells::Beat { seen, held });
    let worked = at_broker(&json!({"type": "RESULT", "id": "7.3.2a", "ok": true, "body": "A"}));
    assert_eq!(worked.unwrap(), b"MUT1\x07\x07\x03\x01\x00\xc3\xa1A");
    let failed =
        tells(json!({"type": "RESULT", "id": "7.3.2a", "ok": false, "error": "no", "retry": true}));
    let (lease, task, reason) = (7, 3, "no".to_string());
    assert_eq!(
        failed,
        WorkerTells::Failed {
            lease,
            task,
            reason
        }
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    for (json, part) in [
        (json!({"type": "HELLO"}), "type \"HELLO\""),
        (json!({"what": "Open"}), "missing field `type`"),
        (json!({"type": "BEAT", "what": "Nonsense"}), "Nonsense"),
        (json!({"type": "READY", "what": "Gone"}), "no place here"),
        (json!({"type": "PROCESS", "body": 1}), "no place here"),
        (
            json!({"type": "BEAT", "role": "king"}),
            "role is client or worker",
        ),
        (
            json!({"type": "READY", "operations": []}),
            "a name that no other has",
        ),
        (
            json!({"type": "READY", "name": "a"}),
            "missing field `operations`",
        ),
        (
            json!({"type": "RESULT", "id": "x", "ok": true, "body": 1}),
            "no id of a task",
        ),
        (
            json!({"type": "RESULT", "id": "1.2", "ok": true}),
            "needs a body",
        ),
        (
            json!({"type": "RESULT", "id": "1.2", "ok": false}),
            "needs an error",
        ),
        (
            json!({"type": "RESULT", "id": "1.2+2", "ok": true, "body": 1}),
            "as many results",
        ),
        (
            json!({"type": "RESULT", "id": "1.2", "ok": true, "retry": true, "body": 1}),
            RETRY,
        ),
        (
            json!({"type": "PROCESS", "role": "client", "job": "1", "first": 0, "tasks": []}),
            "no task",
        ),
        (
            json!({"type": "BEAT", "role": "client", "what": "Job", "job": 7}),
            "expected a string",
        ),
    ] {
        let error = at_broker(&json).expect_err(part).to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
    let deep = format!("{{\"type\":{}", "[".repeat(100_000));
    assert!(read(End::Broker, deep.as_bytes()).is_err());
    let noisy = format!(
        "{{\"type\":\"BEAT\",\"what\":\"\u{1b}[31m{}\"}}",
        "x".repeat(9999)
    );
    let error = read(End::Broker, noisy.as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 400 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn what_mutiraos_own_programs_hand_in_is_flat() {
    let task = b"\x94\x94\xa5a.txt\x00\x00\xc3\xa9uppercase\xc4\x04ol\xc3\xa1\xc0";
    let header = Writer::new(Kind::Leased).uint(7).uint(42);
    let header = header
        .span(Span { first: 3, count: 1 })
        .uint(1)
        .uint(3)
        .uint(0);
    let frame = header.text("uppercase").records(task).finish();
    let json = String::from_utf8(write(End::Worker, &frame).unwrap()).unwrap();
    assert_eq!(
        json,
        r#"{"type":"PROCESS","id":"0000000000000007.3.000000000000002a","operation":"uppercase","attempt":1,"attempts":3,"time_limit_ms":0,"place":{"name":"a.txt","input":0,"piece":0,"last":true},"op":"uppercase","body":"olá"}"#
    );
}

const TEXT: &str = include_str!("../../../../docs/protocol.md");

/// The section about JSON.
fn section() -> &'static str {
    TEXT.split("\n## JSON\n").nth(1).expect("the section")
}

#[test]
fn the_examples_of_the_description_are_read_and_written_as_they_stand_there() {
    let blocks = section().split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("\n```").next().expect("its end"));
    let mut count = 0;
    for example in blocks.flat_map(str::lines) {
        count += 1;
        let object: Value = serde_json::from_str(example).expect(example);
        let to = match (object["type"].as_str(), &object["role"], &object["id"]) {
            (Some("PROCESS"), Value::Null, _) => End::Worker,
            (Some("RESULT"), _, Value::Null) => End::Client,
            _ => End::Broker,
        };
        let frame =
            read(to, example.as_bytes()).unwrap_or_else(|error| panic!("{example}: {error}"));
        let written = write(to, &frame).expect(example);
        assert_eq!(read(to, &written), Ok(frame), "{example}");
    }
    assert_eq!(count, 11, "examples");
}

#[test]
fn outcomes_and_tasks_of_the_description_are_those_in_messagepack() {
    // The examples of frames that stand further up.
    let tasks = r#"{"type":"PROCESS","role":"client","job":"2a","first":0,"tasks":[{"body":"a"},{"body":"b"}]}"#;
    let outcomes = r#"{"type":"RESULT","id":"7.0+2","busy_us":250,"results":[{"ok":true,"body":"A"},{"ok":false,"error":"no"}]}"#;
    for (json, bytes) in [
        (tasks, "4d 55 54 31  05  2a 00 02  a1 61  a1 62"),
        (
            outcomes,
            "4d 55 54 31  07  07 00 02 cc fa  c3 a1 41  c2 92 a2 6e 6f c4 00",
        ),
    ] {
        assert!(section().contains(json) && TEXT.contains(bytes), "{json}");
        let frame = read(End::Broker, json.as_bytes()).unwrap();
        let frame: Vec<_> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes: Vec<_> = bytes.split_whitespace().collect();
        assert_eq!(frame, bytes);
    }
}

/// The types of the messages of one column, and those that need no name, as they are described.
fn described(column: usize) -> BTreeMap<String, (Type, bool)> {
    let rows = section().split("| `type` |").nth(1).expect("the table");
    let rows = rows
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut messages = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let of = Type::find(cells[1].trim_matches('`')).expect("a type");
        for name in cells[column + 2].split_whitespace() {
            let plain = name.trim_matches('*');
            messages.insert(plain.to_string(), (of, plain != name));
        }
    }
    messages
}

/// The same in the code.
fn coded<T: Control>() -> BTreeMap<String, (Type, bool)> {
    let error = serde_json::from_str::<T>(r#"{"?":{}}"#)
        .err()
        .expect("no such message");
    let names = error.to_string();
    let names = names.split("expected one of").nth(1).expect("the names");
    let names = names.split('`').skip(1).step_by(2);
    let each = |name: &str| {
        let of = T::type_of(name);
        (name.to_string(), (of, T::plain(of) == Some(name)))
    };
    names.map(each).collect()
}

#[test]
fn every_control_message_has_the_type_that_is_described() {
    assert_eq!(described(0), coded::<ClientSays>());
    assert_eq!(described(1), coded::<BrokerSays>());
    assert_eq!(described(2), coded::<WorkerTells>());
    assert_eq!(described(3), coded::<BrokerTells>());
}
