//! The broker in JSON on bare TCP: a worker in plain Python, and all of ours, with somebody who reads along.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::broker::Office;
use crate::expect::{check_results, files, write_files};
use crate::harness::{DEADLINE, Place, Process, mutirao, python, wait_until};
use crate::trio::dismiss;

const JSON: [&str; 2] = ["--codec", "json"];

/// What the worker in Python can do.
const PYTHON_OPS: [&str; 5] = ["uppercase", "lowercase", "wordcount", "linecount", "sha256"];

/// A broker on bare TCP that speaks nothing but JSON.
fn office() -> Office {
    Office::at_port("raw+tcp", &JSON)
}

impl Office {
    /// Host and port of the broker.
    fn address(&self) -> &str {
        self.at.split("://").nth(1).expect("an address")
    }

    /// A worker in Python that the broker knows.
    fn python_worker(&self, name: &str) -> Process {
        let args = [self.address(), "--name", name, "--heartbeat", "0.1"];
        let worker = python("worker_tcp_json", args).start();
        worker.wait_for_output("ready");
        worker
    }

    fn status(&self) -> Value {
        let status = self.ask(&["status", "--format", "json"]).args(JSON).run();
        status.expect_code(0).summary()
    }
}

#[test]
fn a_worker_in_python_works_on_files_that_appear_in_a_folder() {
    let office = office();
    let worker = office.python_worker("ana");
    let files = files();
    for op in PYTHON_OPS {
        let (folder, out) = (format!("in {op}"), format!("out {op}"));
        std::fs::create_dir_all(office.place.path(&folder)).unwrap();
        let (watched, results) = (office.place.arg(&folder), office.place.arg(&out));
        let watch = office
            .submit(&["--watch", &watched, "--out", &results, "--op", op])
            .args(["--chunk-bytes", "4096"])
            .args(JSON)
            .start();
        watch.wait_for("watching ");
        // Hidden files are none of a watcher's business.
        let seen = files.iter().filter(|(name, _)| !name.starts_with('.'));
        let seen: Vec<_> = seen.cloned().collect();
        write_files(&office.place, &folder, &seen);
        for (name, _) in &seen {
            watch.wait_for(&format!("{name} is done"));
        }
        dismiss(watch);
        std::fs::remove_dir_all(office.place.path(&format!("{out}/.mutirao"))).unwrap();
        check_results(&office.place, &out, op, &seen);
    }
    dismiss(worker);
}

#[test]
fn what_a_killed_worker_in_python_was_at_goes_to_another() {
    let office = office();
    let first = office.python_worker("first");
    // It takes the task, and does not get on with it.
    first.signal(Signal::STOP);
    office.write_inputs(20);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let submit = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
    let submit = submit.args(["--summary", "json"]).args(JSON).start();
    wait_until(DEADLINE, "the first worker to have a task", || {
        office.status()["services"]["lowercase"]["leased"] == 1
    });
    assert_eq!(office.status()["workers"][0]["worker"], "first");
    first.kill();
    let second = office.python_worker("second");
    let ended = submit.wait().expect_code(0);
    assert_eq!(ended.summary()["ok"], 20, "{}", ended.summary());
    office.check_copies("out", 20);
    dismiss(second);
}

#[test]
fn a_worker_in_python_finds_a_broker_that_was_killed() {
    let mut office = Office::with_store_at_port("raw+tcp");
    let worker = office.python_worker("faithful");
    office.write_inputs(20);
    let input = office.place.arg("in");
    office.crash_broker();
    let id = office.detach(&[&input, "--op", "lowercase"]);
    office.crash_broker();
    office.results(&id, "out").expect_code(0);
    office.check_copies("out", 20);
    dismiss(worker);
}

#[test]
fn a_task_that_a_worker_in_python_cannot_do_fails_with_its_sentence() {
    let office = office();
    let _worker = office.python_worker("ana");
    office.place.write("in/good", "OK");
    office.place.write("in/bad", b"\xff\xfe");
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let submit = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
    let ended = submit.args(JSON).run().expect_code(1);
    ended.expect_said(&["failed: bad: ", "codec can't decode", "1 ok, 1 failed"]);
    assert_eq!(office.place.read("out/good.out"), b"ok");
}

/// Somebody in the middle who reads along: the frames of both directions.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Vec<Vec<u8>>>>);

impl Tap {
    /// Listens in front of a broker; where.
    fn open(broker: &str) -> (Tap, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("raw+tcp://{}", listener.local_addr().unwrap());
        let (tap, broker) = (Tap::default(), broker.to_owned());
        let ours = tap.clone();
        std::thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                let Ok(broker) = TcpStream::connect(&broker) else {
                    continue;
                };
                for (from, to) in [(&peer, &broker), (&broker, &peer)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let tap = ours.clone();
                    std::thread::spawn(move || tap.pass_on(from, to));
                }
            }
        });
        (tap, at)
    }

    /// One direction of a connection.
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) -> Option<()> {
        let mut read = |length: usize| {
            let mut bytes = vec![0; length];
            let heard = from
                .read_exact(&mut bytes)
                .and_then(|()| to.write_all(&bytes));
            if heard.is_err() {
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            }
            heard.ok().map(|()| bytes)
        };
        read(8)?;
        loop {
            let header = read(4)?;
            let header = u32::from_be_bytes(header.try_into().unwrap());
            let frame = read((header & 0x3fff_ffff) as usize)?;
            if header & 0x4000_0000 == 0 {
                assert_eq!(header & 0x8000_0000, 0, "one frame is one message");
                self.0.lock().unwrap().push(frame);
            }
        }
    }

    /// How many messages of each type have passed; every one is an object of one of the four.
    #[track_caller]
    fn types(&self) -> [usize; 4] {
        let frames = self.0.lock().unwrap();
        let mut counts = [0; 4];
        for frame in frames.iter() {
            let text = std::str::from_utf8(frame).expect("text");
            let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
            let types = ["BEAT", "READY", "PROCESS", "RESULT"];
            let of = types.iter().position(|of| object["type"] == **of);
            counts[of.unwrap_or_else(|| panic!("{text}"))] += 1;
        }
        counts
    }
}

#[test]
fn every_message_of_every_role_is_one_readable_object() {
    let mut office = office();
    let (tap, at) = Tap::open(office.address());
    let broker_at = std::mem::replace(&mut office.at, at);
    let files = files();
    write_files(&office.place, "in", &files);
    office.place.write("watched/a.txt", "ÁÉÍ\n");
    let input = office.place.arg("in");
    let worker = office
        .ask(&["worker", "--slots", "2", "--allow-exec"])
        .args(JSON)
        .start();
    for op in ["wordcount", "gzip", "exec:tr a-z b-za"] {
        let out = format!("out {op}");
        let submit = office.submit(&[&input, "--op", op, "--out", &office.place.arg(&out)]);
        let submit = submit.args(["--chunk-bytes", "4096"]).args(JSON);
        submit.run().expect_code(0);
        check_results(&office.place, &out, op, &files);
    }
    let id = office.submit(&[&input, "--op", "sha256"]).args(JSON).run();
    let id = id.expect_code(0).stdout_text().trim().to_owned();
    for question in [&["jobs"][..], &["job", &id], &["status"]] {
        office.ask(question).args(JSON).run().expect_code(0);
    }
    let results = office.ask(&["results", &id, "--out", &office.place.arg("fetched")]);
    results.args(JSON).run().expect_code(0);
    check_results(&office.place, "fetched", "sha256", &files);
    let sink = office.ask(&["sink", "--out", &office.place.arg("collected")]);
    let sink = sink.args(JSON).start();
    let ventilator = office.ventilator("in", "uppercase").args(JSON);
    ventilator.run().expect_code(0);
    dismiss(sink);
    check_results(&office.place, "collected", "uppercase", &files);
    let (watched, out) = (office.place.arg("watched"), office.place.arg("watch out"));
    let watch = office.submit(&["--watch", &watched, "--out", &out, "--op", "lowercase"]);
    let watch = watch.args(JSON).start();
    watch.wait_for("a.txt is done");
    let lost = office
        .submit(&[&input, "--op", "sleep:500"])
        .args(JSON)
        .run();
    let lost = lost.expect_code(0).stdout_text().trim().to_owned();
    office
        .ask(&["cancel", &lost])
        .args(JSON)
        .run()
        .expect_code(0);
    for process in [watch, worker] {
        dismiss(process);
    }
    let types = tap.types();
    assert!(types.iter().all(|&count| count > 0), "{types:?}");
    office.at = broker_at;
    assert_eq!(office.status()["malformed"], 0);
}

#[test]
fn a_job_in_one_process_may_be_done_in_json() {
    let place = Place::new();
    let files = files();
    write_files(&place, "in", &files);
    for transport in [&[][..], &["--transport", "tcp"]] {
        let out = format!("out{}", transport.len());
        mutirao([
            "run",
            &place.arg("in"),
            "--op",
            "gzip",
            "--out",
            &place.arg(&out),
        ])
        .args(["--pattern", "broker", "--chunk-bytes", "4096"])
        .args(JSON)
        .args(transport)
        .run()
        .expect_code(0);
        check_results(&place, &out, "gzip", &files);
    }
    mutirao(["run", &place.arg("in"), "--op", "noop"])
        .args(JSON)
        .run()
        .expect_code(2)
        .expect_sentence(&["--codec goes with --pattern broker"]);
}

#[test]
fn a_broker_of_all_codecs_serves_both_and_one_of_json_says_what_to_do() {
    let office = Office::at_port("tcp", &[]);
    office.write_inputs(20);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let _worker = office.ask(&["worker"]).args(JSON).start();
    let submit = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
    submit.run().expect_code(0);
    office.check_copies("out", 20);

    let strict = Office::at_port("tcp", &JSON);
    let only_json = ["the broker: ", "JSON only", "--codec json"];
    let other = strict.place.arg("out");
    for role in [
        &["submit", &input, "--op", "lowercase", "--out", &other][..],
        &["submit", &input, "--op", "lowercase"],
        &["status"],
    ] {
        strict
            .ask(role)
            .run()
            .expect_code(3)
            .expect_said(&only_json);
    }
    strict
        .ask(&["worker"])
        .run()
        .expect_code(3)
        .expect_said(&only_json);
}

#[test]
fn rubbish_in_json_is_counted_and_harms_nobody() {
    let office = office();
    let worker = office.python_worker("ana");
    let mut stream = TcpStream::connect(office.address()).unwrap();
    stream.write_all(b"MUTR1\x04\0\0").unwrap();
    let deep = format!("{{\"type\":{}", "[".repeat(1 << 20));
    let messages = [
        "{",
        "{}",
        "{\"type\":\"HELLO\"}",
        "{\"type\":\"READY\"}",
        "{\"type\":\"RESULT\",\"id\":\"nonsense\",\"ok\":true,\"body\":1}",
        "{\"type\":\"BEAT\",\"what\":\"\\u001b[2J\"}",
        "MUT1 but this broker speaks JSON only",
        &deep,
    ];
    for message in messages {
        let length = (message.len() as u32).to_be_bytes();
        stream.write_all(&length).unwrap();
        stream.write_all(message.as_bytes()).unwrap();
    }
    wait_until(DEADLINE, "all of it to be counted", || {
        office.status()["malformed"] == json!(messages.len())
    });
    office.write_inputs(5);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let submit = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
    submit.args(JSON).run().expect_code(0);
    office.check_copies("out", 5);
    dismiss(worker);
}

/// A worker that takes a task, closes its connection and knocks again under the same name; so often.
fn take_and_run(address: &str, is_over: &AtomicBool) -> usize {
    let ready = json!({"type": "READY", "name": "ana", "operations": ["lowercase"]}).to_string();
    let mut taken = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"MUTR1\x04\0\0").unwrap();
        let length = (ready.len() as u32).to_be_bytes();
        stream.write_all(&length).unwrap();
        stream.write_all(ready.as_bytes()).unwrap();
        let mut heard = Vec::new();
        let mut some = [0; 4096];
        // Heartbeats come in between.
        while !is_over.load(Ordering::Relaxed) {
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "the broker closed the connection");
            heard.extend_from_slice(&some[..count]);
            if heard.windows(9).any(|part| part == b"\"PROCESS\"") {
                taken += 1;
                break;
            }
        }
    }
    taken
}

#[test]
fn a_task_that_makes_its_worker_reconnect_fails_and_the_job_ends() {
    let office = office();
    office.write_inputs(1);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let (address, is_over) = (office.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| take_and_run(address, &is_over));
        let submit = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
        let ended = submit.args(JSON).run();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(worker.join().unwrap(), 3);
        let ended = ended.expect_code(1);
        ended.expect_said(&[
            "failed: f0",
            "3 workers died, or came back without it",
            "1 failed",
        ]);
    });
    assert_eq!(office.status()["retried"], 2);
}

#[test]
fn a_worker_in_python_does_large_pieces() {
    let office = office();
    let worker = office.python_worker("ana");
    // One line, and one word, in two bytes each; and many short lines.
    let line = "я".repeat(12 << 20);
    office.place.write("in/line", &line);
    office
        .place
        .write("in/words", "the quick brown fox\n".repeat(1 << 20));
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let submit = office.submit(&[&input, "--op", "wordcount", "--out", &out]);
    let submit = submit.args(["--chunk-bytes", "31MiB"]).args(JSON);
    let patience = 5 * DEADLINE;
    submit.start().wait_within(patience).expect_code(0);
    assert_eq!(
        office.place.read("out/line.out"),
        format!("{line}\t1\n").as_bytes()
    );
    let counts = "brown\t1048576\nfox\t1048576\nquick\t1048576\nthe\t1048576\n";
    assert_eq!(office.place.read("out/words.out"), counts.as_bytes());
    dismiss(worker);
}
