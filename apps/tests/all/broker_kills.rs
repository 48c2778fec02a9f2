//! A hundred thousand tasks while broker, workers and clients are killed and started again: every
//! result comes once, and is right.

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::harness::{Launch, Place, Process, mutirao};
use crate::kills::{chance, pause};
use crate::trio::{dismiss, endpoint_in, had_finished};

const TASKS: usize = 100_000;
const KILLS: usize = 24;

/// Bytes of every line, its end included.
const LINE_BYTES: usize = 16;

fn lines() -> String {
    let line = |number| format!("linha {number:>9}\n");
    (0..TASKS).map(line).collect()
}

/// A broker with a store and two workers, whoever of them is alive.
struct Office {
    place: Place,
    at: String,
    broker: Process,
    workers: Vec<Process>,
    chance: StdRng,
}

impl Office {
    fn open(name: &str, scheme: &str) -> Office {
        let (place, chance) = (Place::new(), chance(name));
        let broker = broker(&place, &format!("{scheme}://127.0.0.1:*")).start();
        let at = endpoint_in(&broker.wait_for("broker at "), "broker at ");
        let mut office = Office {
            place,
            at,
            broker,
            workers: Vec::new(),
            chance,
        };
        office.workers = vec![office.worker(), office.worker()];
        office
    }

    fn worker(&self) -> Process {
        let worker = mutirao(["worker", "--broker", &self.at]);
        worker
            .args(["--heartbeat", "100ms", "--slots", "2"])
            .start()
    }

    fn command(&self, args: &[&str]) -> Launch {
        let launch = mutirao(args).args(["--broker", &self.at]);
        launch.args(["--heartbeat", "100ms", "--timeout", "30s"])
    }

    fn pause(&mut self, most_ms: u64) {
        pause(&mut self.chance, 0..most_ms);
    }

    fn kill_the_broker(&mut self) {
        self.broker.kill_now();
        if self.chance.random_bool(0.3) {
            self.pause(600);
        }
        self.broker = broker(&self.place, &self.at).start();
        self.broker.wait_for("broker at ");
    }

    fn kill_a_worker(&mut self) {
        let number = self.chance.random_range(0..self.workers.len());
        self.workers.swap_remove(number).kill();
        if self.chance.random_bool(0.3) {
            self.pause(600);
        }
        let worker = self.worker();
        self.workers.push(worker);
    }

    fn kill_somebody(&mut self) {
        match self.chance.random_bool(0.4) {
            true => self.kill_the_broker(),
            false => self.kill_a_worker(),
        }
    }

    fn close(self) {
        self.workers.into_iter().for_each(dismiss);
        dismiss(self.broker);
    }
}

fn broker(place: &Place, at: &str) -> Launch {
    let store = place.arg("store");
    mutirao([
        "broker",
        "--bind",
        at,
        "--store",
        &store,
        "--heartbeat",
        "100ms",
    ])
}

#[track_caller]
fn check(place: &Place, name: &str, lines: &str) {
    let read = String::from_utf8(place.read(name)).expect("text");
    let expected = lines.to_uppercase();
    for (number, (read, expected)) in read.lines().zip(expected.lines()).enumerate() {
        assert_eq!(read, expected, "line {number}");
    }
    assert_eq!(read.len(), expected.len(), "all of them, and none twice");
}

/// Lines come in as long as somebody is still to be killed, so that every kill hits a running job.
#[test]
fn every_result_comes_once_while_broker_and_workers_die() {
    broker_and_workers_die("tcp");
}

#[test]
fn every_result_comes_once_while_broker_and_workers_die_on_raw_tcp() {
    broker_and_workers_die("raw+tcp");
}

fn broker_and_workers_die(scheme: &str) {
    let mut office = Office::open(&format!("broker and workers die, {scheme}"), scheme);
    let (lines, out) = (lines(), office.place.arg("out"));
    let submit = office.command(&["submit", "-", "--op", "uppercase", "--out", &out]);
    let submit = submit.args(["--attempts", "1000", "--summary", "json"]);
    let mut submit = submit.stdin_open().start();
    for lines in lines.as_bytes().chunks(lines.len().div_ceil(KILLS)) {
        submit.write_stdin(lines);
        office.pause(100);
        assert!(submit.try_wait().is_none(), "the job has ended");
        office.kill_somebody();
    }
    submit.close_stdin();
    let ended = submit.wait().expect_code(0);
    assert_eq!(ended.summary()["ok"], TASKS, "{}", ended.summary());
    check(&office.place, "out/stdin.out", &lines);
    office.close();
}

/// One that hands in and one that fetches die as well, in the middle of it.
#[test]
fn every_result_comes_once_while_clients_die() {
    let mut office = Office::open("clients die", "tcp");
    let lines = lines();
    office.place.write("in/lines", &lines);
    let (input, out) = (office.place.arg("in/lines"), office.place.arg("out"));
    office.workers.clear();
    let bytes = LINE_BYTES.to_string();
    let submit = |office: &Office| {
        let submit = office.command(&["submit", &input, "--op", "uppercase", "--attempts", "1000"]);
        submit.args(["--chunk-bytes", &bytes]).start()
    };
    let mut kills = 0;
    while kills < 8 {
        let submitting = submit(&office);
        office.pause(60);
        if kills == 4 {
            office.kill_the_broker();
        }
        kills += usize::from(!had_finished(submitting.kill()));
    }
    let submitted = submit(&office).wait().expect_code(0);
    let id = submitted.stdout_text().trim().to_owned();
    let results = |office: &Office| {
        let results = office.command(&["results", &id, "--out", &out]);
        results.args(["--summary", "json"]).start()
    };
    let mut kills = 0;
    while kills < 8 {
        let fetching = results(&office);
        // It works only while it is about to be killed, so that there is something left.
        let worker = office.worker();
        office.pause(60);
        if kills % 3 == 2 {
            office.kill_the_broker();
        }
        worker.kill();
        assert!(
            !had_finished(fetching.kill()),
            "the job was done after {kills} kills"
        );
        kills += 1;
    }
    office.workers.push(office.worker());
    let ended = results(&office).wait().expect_code(0);
    assert_eq!(ended.summary()["ok"], TASKS, "{}", ended.summary());
    check(&office.place, "out/lines.out", &lines);
    office.close();
}
