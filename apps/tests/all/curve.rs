//! Encryption: the right keys open, all others get a sentence within seconds.

use std::time::Duration;

use crate::harness::{Ended, Place, Process, mutirao};
use crate::trio::{PATTERNS, Trio, Wire, dismiss};

/// A wrong key is a matter of seconds, not of waiting for something to change.
const SECONDS: Duration = Duration::from_secs(10);

struct Keys {
    key: String,
    server: String,
    allow: String,
}

fn keys(place: &Place, name: &str) -> Keys {
    mutirao(["keygen", &place.arg(name)]).run().expect_code(0);
    Keys {
        key: place.arg(&format!("{name}/server.key")),
        server: place.arg(&format!("{name}/server.pub")),
        allow: place.arg(&format!("{name}/allow")),
    }
}

/// A sink and a ventilator with keys, and a job that waits for a worker.
fn encrypted(pattern: &'static str) -> (Trio, Process, Process) {
    let mut trio = Trio::new(pattern, Wire::Tcp);
    for number in 0..20 {
        trio.place
            .write(&format!("in/{number}"), format!("ÁÉÍ {number}\n"));
    }
    let keys = keys(&trio.place, "keys");
    let flags = ["--curve-key", &keys.key, "--curve-allow", &keys.allow];
    trio = trio.with_sink_flags(&flags);
    let sink = trio.sink();
    let input = trio.place.arg("in");
    let launch = trio.ventilator_launch(&[&input, "--op", "lowercase"]);
    let ventilator = trio.start(launch.args(flags).args(["--curve-server", &keys.server]));
    (trio, sink, ventilator)
}

fn worker(trio: &Trio, flags: &[&str]) -> Process {
    trio.worker_launch().args(flags).start()
}

fn refused(trio: &Trio, flags: &[&str]) -> Ended {
    worker(trio, flags).wait_within(SECONDS).expect_code(3)
}

#[test]
fn the_right_keys_do_the_job() {
    for pattern in PATTERNS {
        let (trio, sink, ventilator) = encrypted(pattern);
        let key = trio.place.arg("keys/client.key");
        let server = trio.place.arg("keys/server.pub");
        let worker = worker(&trio, &["--curve-key", &key, "--curve-server", &server]);
        ventilator.wait().expect_code(0);
        for number in 0..20 {
            let result = trio.place.read(&format!("out/{number}.out"));
            assert_eq!(result, format!("áéí {number}\n").as_bytes());
        }
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn the_wrong_worker_gets_a_sentence_and_the_right_one_the_job() {
    for pattern in PATTERNS {
        let (trio, sink, ventilator) = encrypted(pattern);
        let key = trio.place.arg("keys/client.key");
        let server = trio.place.arg("keys/server.pub");
        let other = keys(&trio.place, "other");
        let stranger = trio.place.arg("other/client.key");
        refused(&trio, &[]).expect_said(&["mutirao: the ", "CURVE"]);
        refused(
            &trio,
            &["--curve-key", &key, "--curve-server", &other.server],
        )
        .expect_said(&["mutirao: the ", "server key that we expect"]);
        refused(
            &trio,
            &["--curve-key", &stranger, "--curve-server", &server],
        )
        .expect_said(&["mutirao: the ", "does not allow our public key"]);
        let worker = worker(&trio, &["--curve-key", &key, "--curve-server", &server]);
        let ended = ventilator.wait().expect_code(0);
        // Those who hold the doors are told as well.
        assert!(ended.stderr.contains("WARN"), "{}", ended.stderr);
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn the_wrong_ventilator_gets_a_sentence() {
    let place = Place::new();
    place.write("in/a", "A");
    let ours = keys(&place, "keys");
    let other = keys(&place, "other");
    let sink = mutirao([
        "sink",
        "--bind",
        &place.ipc("r"),
        "--out",
        &place.arg("out"),
    ])
    .args(["--curve-key", &ours.key, "--curve-allow", &ours.allow])
    .start();
    sink.wait_for("results at ");
    let ventilator = |flags: &[&str]| {
        mutirao(["ventilator", &place.arg("in"), "--op", "lowercase"])
            .args(["--bind", &place.ipc("t"), "--sink", &place.ipc("r")])
            .args(flags)
            .start()
            .wait_within(SECONDS)
            .expect_code(3)
    };
    ventilator(&[]).expect_said(&["mutirao: the sink: ", "CURVE"]);
    let allow = ["--curve-allow", &*ours.allow];
    ventilator(
        &[
            &["--curve-key", &*ours.key, "--curve-server", &*other.server],
            &allow[..],
        ]
        .concat(),
    )
    .expect_said(&["mutirao: the sink: ", "server key that we expect"]);
    ventilator(
        &[
            &["--curve-key", &*other.key, "--curve-server", &*ours.server],
            &allow[..],
        ]
        .concat(),
    )
    .expect_said(&["mutirao: the sink: ", "does not allow our public key"]);
    dismiss(sink);
}

#[test]
fn a_worker_with_keys_is_told_that_the_others_have_none() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    keys(&trio.place, "keys");
    let sink = trio.sink();
    trio.place.write("in/a", "A");
    let input = trio.place.arg("in");
    let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
    let key = trio.place.arg("keys/client.key");
    let server = trio.place.arg("keys/server.pub");
    refused(&trio, &["--curve-key", &key, "--curve-server", &server])
        .expect_said(&["does not use CURVE"]);
    let worker = trio.worker();
    ventilator.wait().expect_code(0);
    dismiss(worker);
    dismiss(sink);
}

#[test]
fn a_key_file_that_is_none_is_named() {
    let place = Place::new();
    let keys = keys(&place, "keys");
    place.write("nonsense", "this is no key\n");
    let nonsense = place.arg("nonsense");
    let missing = place.arg("missing");
    let worker = |key: &str, server: &str| {
        mutirao(["worker", "--curve-key", key, "--curve-server", server])
            .run()
            .expect_code(3)
    };
    worker(&missing, &keys.server).expect_sentence(&[&missing]);
    worker(&nonsense, &keys.server).expect_sentence(&[&nonsense]);
    worker(&keys.key, &missing).expect_sentence(&[&missing]);
    worker(&keys.key, &nonsense).expect_sentence(&[&nonsense]);
    // The two kinds of files are not mixed up.
    worker(&keys.server, &keys.server).expect_sentence(&[&keys.server]);
    let sink = |allow: &str| {
        mutirao(["sink", "--out", &place.arg("out"), "--curve-key", &keys.key])
            .args(["--bind", &place.ipc("r"), "--curve-allow", allow])
            .run()
            .expect_code(3)
    };
    sink(&missing).expect_sentence(&[&missing, "is not a folder"]);
    sink(&nonsense).expect_sentence(&[&nonsense, "is not a folder"]);
}

#[test]
fn with_keys_one_may_listen_beyond_this_machine() {
    let place = Place::new();
    let keys = keys(&place, "keys");
    let sink = mutirao([
        "sink",
        "--bind",
        "tcp://0.0.0.0:*",
        "--out",
        &place.arg("out"),
    ])
    .args(["--curve-key", &keys.key, "--curve-allow", &keys.allow])
    .start();
    sink.wait_for("results at tcp://0.0.0.0:");
    dismiss(sink);
}
