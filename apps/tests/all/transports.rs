//! The same work over every transport that does for it, and the reason why another does not.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::broker::{Office, SLOW_COPY};
use crate::expect::{check_results, files, write_files};
use crate::harness::{Place, mutirao};
use crate::trio::{PATTERNS, Trio, Wire, dismiss};

/// What carries messages between processes and loses none: the scheme, and the flags that ask for it.
const TRANSPORTS: [(&str, &[&str]); 3] = [
    ("tcp", &["--transport", "zmq"]),
    ("raw+tcp", &["--transport", "tcp"]),
    ("reliable+udp", &["--transport", "udp", "--reliable"]),
];

/// Pieces that have to be put together again.
const OP: &str = "wordcount";
const PIECES: [&str; 2] = ["--chunk-bytes", "4096"];

fn inputs() -> (Place, Vec<(String, Vec<u8>)>) {
    let (place, files) = (Place::new(), files());
    write_files(&place, "in", &files);
    (place, files)
}

/// Every file below `folder` with what is in it.
fn contents(place: &Place, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let bytes = place.read(&format!("{folder}/{name}"));
        (name, bytes)
    };
    place.files(folder).into_iter().map(read).collect()
}

#[test]
fn a_job_in_one_process_gives_the_same_over_every_transport() {
    let (place, files) = inputs();
    for pattern in PATTERNS.into_iter().chain(["broker"]) {
        let mut results = Vec::new();
        for (scheme, flags) in TRANSPORTS {
            let out = format!("{pattern} {scheme}");
            mutirao(["run", &place.arg("in"), "--op", OP, "--pattern", pattern])
                .args(["--out", &place.arg(&out), "--workers", "3"])
                .args(PIECES)
                .args(flags)
                .run()
                .expect_code(0);
            check_results(&place, &out, OP, &files);
            results.push(contents(&place, &out));
        }
        assert!(
            results.iter().all(|other| *other == results[0]),
            "{pattern}"
        );
    }
}

/// More under way than a connection keeps ready, whoever has to wait for whom.
#[test]
fn a_broker_loses_nothing_of_what_is_large() {
    let place = Place::new();
    let files: Vec<(String, Vec<u8>)> = (0..48_u8)
        .map(|i| (format!("{i}"), vec![b'a' + i % 26; 1 << 20]))
        .collect();
    write_files(&place, "in", &files);
    for (scheme, flags) in TRANSPORTS {
        mutirao([
            "run",
            &place.arg("in"),
            "--op",
            "uppercase",
            "--pattern",
            "broker",
        ])
        .args(["--out", &place.arg(scheme), "--workers", "4"])
        .args(flags)
        .run()
        .expect_code(0);
        check_results(&place, scheme, "uppercase", &files);
    }
}

#[test]
fn three_processes_give_the_same_over_every_transport() {
    for pattern in PATTERNS {
        let mut results = Vec::new();
        for (scheme, flags) in TRANSPORTS {
            let files = files();
            let mut trio = Trio::new(pattern, Wire::Tcp).with(flags);
            write_files(&trio.place, "in", &files);
            let input = trio.place.arg("in");
            let sink = trio.sink();
            let ventilator = trio.ventilator(&[&[&*input, "--op", OP], &PIECES[..]].concat());
            let (tasks, results_at) = trio.endpoints();
            for endpoint in [tasks, results_at] {
                assert!(endpoint.starts_with(&format!("{scheme}://")), "{endpoint}");
            }
            let workers = [trio.worker(), trio.worker()];
            ventilator.wait().expect_code(0);
            check_results(&trio.place, "out", OP, &files);
            results.push(contents(&trio.place, "out"));
            workers.into_iter().for_each(dismiss);
            dismiss(sink);
        }
        assert!(
            results.iter().all(|other| *other == results[0]),
            "{pattern}"
        );
    }
}

#[test]
fn whoever_talks_to_a_broker_does_so_over_every_transport() {
    for (scheme, flags) in TRANSPORTS {
        // Named by the flag alone.
        let mut office = Office::at_port("tcp", flags);
        assert!(office.at.starts_with(&format!("{scheme}://")));
        let files = files();
        write_files(&office.place, "in", &files);
        let input = office.place.arg("in");
        let out = |name: &str| office.place.arg(name);
        let worker = office.worker();
        let submit = office.submit(&[&input, "--op", OP, "--out", &out("waited")]);
        submit.args(PIECES).args(flags).run().expect_code(0);
        check_results(&office.place, "waited", OP, &files);

        let id = office.detach(&[&input, "--op", "sha256"]);
        let fetched = office.results(&id, "fetched").expect_code(0);
        assert_eq!(fetched.summary()["ok"], files.len(), "{scheme}");
        check_results(&office.place, "fetched", "sha256", &files);

        let sink = office.sink("collected");
        let ventilator = office.ventilator("in", "uppercase").args(flags);
        ventilator.run().expect_code(0);
        dismiss(sink);
        check_results(&office.place, "collected", "uppercase", &files);

        let waiting = office.detach(&[&input, "--op", "noop"]);
        let jobs = office.ask(&["jobs"]).args(flags).run().expect_code(0);
        let jobs = jobs.stdout_text();
        assert!(jobs.contains(&waiting), "{jobs}");
        for question in [&["job", &waiting][..], &["status"], &["cancel", &waiting]] {
            office.ask(question).args(flags).run().expect_code(0);
        }
        dismiss(worker);
        dismiss(office.broker.take().expect("it runs"));
    }
}

#[test]
fn a_watched_folder_is_worked_on_over_every_transport() {
    for (scheme, flags) in TRANSPORTS {
        let office = Office::at_port("tcp", flags);
        let _worker = office.worker();
        office.place.write("entrada/a.txt", "ÁÉÍ\n");
        let (folder, out) = (office.place.arg("entrada"), office.place.arg("out"));
        let watch = office
            .submit(&["--watch", &folder, "--out", &out, "--op", "lowercase"])
            .args(flags)
            .start();
        watch.wait_for("a.txt is done");
        assert_eq!(office.place.read("out/a.txt.out"), "áéí\n".as_bytes());
        let line = watch.wait_for("watching ");
        assert!(!line.is_empty(), "{scheme}");
        dismiss(watch);
    }
}

#[test]
fn what_needs_every_message_refuses_plain_udp_with_the_reason() {
    let place = Place::new();
    place.write("in/a", "a\n");
    let (input, out) = (place.arg("in"), place.arg("out"));
    let roles: [&[&str]; 12] = [
        &["run", &input, "--op", OP, "--out", &out],
        &[
            "run",
            &input,
            "--op",
            OP,
            "--out",
            &out,
            "--pattern",
            "req-rep",
        ],
        &[
            "run",
            &input,
            "--op",
            OP,
            "--out",
            &out,
            "--pattern",
            "broker",
        ],
        &["ventilator", &input, "--op", OP],
        &["worker"],
        &["worker", "--pattern", "broker"],
        &["sink", "--out", &out],
        &["broker"],
        &["submit", &input, "--op", OP],
        &["jobs"],
        &["status"],
        &["results", "12", "--out", &out],
    ];
    for role in roles {
        mutirao(role)
            .args(["--transport", "udp"])
            .run()
            .expect_code(2)
            .expect_said(&["raw+udp:// loses messages", "--reliable", "raw+tcp://"]);
    }
    mutirao(["broker", "--bind", "raw+udp://127.0.0.1:*"])
        .run()
        .expect_code(2)
        .expect_sentence(&["raw+udp:// loses messages", "--reliable"]);
}

#[test]
fn transports_that_contradict_the_endpoint_or_have_no_keys_are_refused() {
    let place = Place::new();
    let broker = |args: &[&str]| mutirao(["broker"]).args(args).run();
    broker(&["--bind", &place.ipc("b"), "--transport", "tcp"])
        .expect_code(2)
        .expect_sentence(&["ipc://", "--transport contradict each other"]);
    broker(&["--bind", "raw+tcp://127.0.0.1:*", "--transport", "zmq"])
        .expect_code(2)
        .expect_sentence(&["contradict each other"]);
    broker(&["--reliable", "--transport", "tcp"])
        .expect_code(2)
        .expect_sentence(&["--reliable goes with --transport udp"]);
    broker(&["--bind", "raw+tcp://0.0.0.0:*"])
        .expect_code(2)
        .expect_sentence(&["no encryption", "--insecure"]);
    mutirao(["keygen", &place.arg("keys")]).run().expect_code(0);
    let (key, allow) = (place.arg("keys/server.key"), place.arg("keys/allow"));
    let with_keys = ["--curve-key", &key, "--curve-allow", &allow];
    broker(&[&["--bind", "raw+tcp://127.0.0.1:*"][..], &with_keys].concat())
        .expect_code(2)
        .expect_sentence(&["has no encryption", "tcp://"]);
}

/// What a socket would still send must not keep anybody who leaves.
#[test]
fn whoever_leaves_does_not_wait_for_a_broker_that_is_gone() {
    for (_, flags) in TRANSPORTS {
        let mut office = Office::at_port("tcp", flags);
        office.write_inputs(200);
        let worker = office.worker();
        let (input, out) = (office.place.arg("in"), office.place.arg("out"));
        let submit = office.submit(&[&input, "--op", SLOW_COPY, "--out", &out]);
        let submit = submit.start();
        office.wait_for_results("out", 5);
        office.broker.take().expect("it runs").kill();
        submit.signal(Signal::INT);
        submit.wait().expect_code(130);
        let idle = office.ask(&["worker"]).start();
        idle.wait_for("from the broker at");
        dismiss(idle);
        worker.kill();
    }
}
