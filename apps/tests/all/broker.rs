//! The broker and those around it, as processes of their own.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::expect::{check_results, files, write_files};
use crate::harness::{DEADLINE, Ended, Launch, Place, Process, mutirao, wait_until};
use crate::trio::{dismiss, endpoint_in};

pub(crate) const SLOW_COPY: &str = "exec:sh -c 'sleep 0.02; cat'";

/// A broker, and where its users work.
pub(crate) struct Office {
    pub(crate) place: Place,
    pub(crate) at: String,
    pub(crate) broker: Option<Process>,
    /// What its broker is told beyond where it is.
    flags: Vec<String>,
}

impl Office {
    pub(crate) fn open() -> Office {
        let mut office = Office::closed();
        office.start_broker();
        office
    }

    /// An office whose broker is not there yet.
    pub(crate) fn closed() -> Office {
        let place = Place::new();
        let at = place.ipc("broker");
        Office {
            place,
            at,
            broker: None,
            flags: Vec::new(),
        }
    }

    /// One whose broker listens at a port and is told this as well.
    pub(crate) fn at_port(scheme: &str, flags: &[&str]) -> Office {
        let mut office = Office::closed();
        office.at = format!("{scheme}://127.0.0.1:*");
        office.flags = flags.iter().map(ToString::to_string).collect();
        office.start_broker();
        office
    }

    /// One whose broker keeps everything on disk.
    pub(crate) fn with_store() -> Office {
        Office::closed().keeping()
    }

    /// One whose broker listens at a port, and keeps everything on disk.
    pub(crate) fn with_store_at_port(scheme: &str) -> Office {
        let mut office = Office::closed();
        office.at = format!("{scheme}://127.0.0.1:*");
        office.keeping()
    }

    fn keeping(self) -> Office {
        let mut office = self;
        office.flags = vec!["--store".into(), office.place.arg("store")];
        office.start_broker();
        office
    }

    /// One whose broker works by request and reply.
    pub(crate) fn synchronous() -> Office {
        let mut office = Office::closed();
        office.flags = vec!["--mode".into(), "request-reply".into()];
        office.start_broker();
        office
    }

    pub(crate) fn start_broker(&mut self) {
        let broker = mutirao(["broker", "--bind", &self.at, "--heartbeat", "100ms"])
            .args(&self.flags)
            .start();
        // The same port again when it is started again.
        self.at = endpoint_in(&broker.wait_for("broker at "), "broker at ");
        self.broker = Some(broker);
    }

    /// `kill -9`, and up again.
    pub(crate) fn crash_broker(&mut self) {
        self.broker.take().expect("it runs").kill();
        self.start_broker();
    }

    pub(crate) fn worker(&self) -> Process {
        let worker = mutirao(["worker", "--broker", &self.at, "--heartbeat", "100ms"])
            .args(["--slots", "2", "--allow-exec"])
            .start();
        worker.wait_for("the broker is there");
        worker
    }

    /// A command that asks the broker.
    pub(crate) fn ask(&self, args: &[&str]) -> Launch {
        mutirao(args).args(["--broker", &self.at])
    }

    pub(crate) fn submit(&self, args: &[&str]) -> Launch {
        self.ask(&["submit"]).args(args)
    }

    pub(crate) fn detach(&self, args: &[&str]) -> String {
        let ended = self.submit(args).run().expect_code(0);
        ended.stdout_text().trim().to_owned()
    }

    fn job(&self, id: &str) -> Value {
        let job = self.ask(&["job", id, "--format", "json"]).run();
        job.expect_code(0).summary()
    }

    pub(crate) fn results(&self, id: &str, out: &str) -> Ended {
        self.ask(&["results", id, "--out", &self.place.arg(out)])
            .args(["--summary", "json"])
            .run()
    }

    pub(crate) fn write_inputs(&self, count: usize) {
        for number in 0..count {
            self.place
                .write(&format!("in/f{number}"), format!("file {number}\n"));
        }
    }

    #[track_caller]
    pub(crate) fn check_copies(&self, out: &str, count: usize) {
        assert_eq!(self.place.files(out).len(), count);
        for number in 0..count {
            let copy = self.place.read(&format!("{out}/f{number}.out"));
            assert_eq!(copy, format!("file {number}\n").as_bytes());
        }
    }

    pub(crate) fn wait_for_results(&self, out: &str, count: usize) {
        wait_until(DEADLINE, "some results", || {
            let files = self.place.files(out);
            files.iter().filter(|name| name.ends_with(".out")).count() >= count
        });
    }

    fn wait_until_read(&self, name: &str, text: &str) {
        let path = self.place.path(name);
        wait_until(DEADLINE, name, || {
            std::fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes())
        });
    }
}

#[test]
fn a_job_through_the_broker_gives_what_run_gives() {
    let office = Office::open();
    let files = files();
    write_files(&office.place, "in", &files);
    let _worker = office.worker();
    let input = office.place.arg("in");
    for op in ["wordcount", "uppercase", "gzip", "exec:tr a-z b-za"] {
        let out = format!("out {op}");
        office
            .submit(&[&input, "--op", op, "--out", &office.place.arg(&out)])
            .args(["--chunk-bytes", "4096"])
            .run()
            .expect_code(0);
        check_results(&office.place, &out, op, &files);
    }
    let run = mutirao(["run", &input, "--op", "linecount", "--pattern", "broker"])
        .args(["--out", &office.place.arg("run")]);
    run.run().expect_code(0);
    check_results(&office.place, "run", "linecount", &files);
}

#[test]
fn lines_come_out_in_order() {
    let office = Office::open();
    let _worker = office.worker();
    let lines: String = (0..5000).map(|number| format!("L{number}\n")).collect();
    let submit = office.submit(&["-", "--op", "lowercase", "--out", "-"]);
    let ended = submit.stdin(lines.clone()).run().expect_code(0);
    assert_eq!(ended.stdout_text(), lines.to_lowercase());
    let run = mutirao(["run", "-", "--op", "lowercase", "--out", "-"]);
    let run = run.args(["--pattern", "broker"]).stdin(lines.clone()).run();
    assert_eq!(run.expect_code(0).stdout_text(), lines.to_lowercase());
}

#[test]
fn a_job_is_handed_in_by_one_and_fetched_by_another() {
    let office = Office::open();
    office.write_inputs(20);
    let input = office.place.arg("in");
    let submit = office.submit(&[&input, "--op", "lowercase"]).run();
    let submit = submit.expect_code(0).expect_said(&["accepted: 20 tasks"]);
    let id = submit.stdout_text().trim();
    assert_eq!(office.job(id)["state"], "waiting");
    let list = office.ask(&["jobs"]).run().expect_code(0);
    assert!(list.stdout_text().contains(id), "{}", list.stdout_text());
    let _worker = office.worker();
    let summary = office.results(id, "out").expect_code(0).summary();
    assert_eq!(
        (&summary["ok"], &summary["tasks"]),
        (&20.into(), &20.into())
    );
    office.check_copies("out", 20);
    office
        .results(id, "other")
        .expect_code(3)
        .expect_sentence(&["were fetched before"]);
}

#[test]
fn workers_that_are_killed_lose_and_double_nothing() {
    kill_workers(&Office::open());
}

#[test]
fn neither_do_they_at_a_broker_that_goes_by_phi_accrual() {
    kill_workers(&Office::at_port("tcp", &["--detector", "phi"]));
}

fn kill_workers(office: &Office) {
    const FILES: usize = 300;
    office.write_inputs(FILES);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let mut submit = office
        .submit(&[&input, "--op", SLOW_COPY, "--out", &out])
        .start();
    let mut workers = [office.worker(), office.worker()];
    for kill in 0..6 {
        office.wait_for_results("out", 10 + 30 * kill);
        if submit.try_wait().is_some() {
            break;
        }
        std::mem::replace(&mut workers[kill % 2], office.worker()).kill();
    }
    submit.wait().expect_code(0).expect_said(&["300 ok"]);
    office.check_copies("out", FILES);
}

#[test]
fn a_worker_that_is_asked_to_leave_finishes_what_it_has_begun() {
    const FILES: usize = 60;
    let office = Office::open();
    office.write_inputs(FILES);
    let runs = office.place.arg("runs");
    let op = format!("exec:sh -c 'echo >> {runs}; sleep 0.05; cat'");
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let leaver = office.worker();
    let submit = office.submit(&[&input, "--op", &op, "--out", &out]).start();
    office.wait_for_results("out", 5);
    let _stayer = office.worker();
    dismiss(leaver);
    submit.wait().expect_code(0);
    office.check_copies("out", FILES);
    assert_eq!(office.place.read("runs").len(), FILES, "done twice");
}

#[test]
fn a_client_that_is_interrupted_says_how_to_fetch_the_rest() {
    const FILES: usize = 60;
    let office = Office::open();
    office.write_inputs(FILES);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let _worker = office.worker();
    let submit = office
        .submit(&[&input, "--op", SLOW_COPY, "--out", &out])
        .start();
    office.wait_for_results("out", 5);
    submit.signal(Signal::INT);
    let ended = submit.wait().expect_code(130);
    let command = ended.stderr.split('`').nth(1).expect("a command");
    let words: Vec<_> = command.split(' ').skip(1).collect();
    assert_eq!((words[0], words[3]), ("results", &*out), "{command}");
    mutirao(words).run().expect_code(0);
    office.check_copies("out", FILES);
}

#[test]
fn results_go_on_where_they_were_killed() {
    const FILES: usize = 80;
    let office = Office::open();
    office.write_inputs(FILES);
    let id = office.detach(&[&office.place.arg("in"), "--op", SLOW_COPY]);
    let _worker = office.worker();
    let out = office.place.arg("out");
    let results = office.ask(&["results", &id, "--out", &out]).start();
    office.wait_for_results("out", 10);
    results.kill();
    let summary = office.results(&id, "out").expect_code(0).summary();
    assert_eq!(summary["ok"], FILES);
    office.check_copies("out", FILES);
}

#[test]
fn results_of_files_do_not_go_to_standard_output_and_are_not_lost_there() {
    let office = Office::open();
    office.write_inputs(3);
    let id = office.detach(&[&office.place.arg("in"), "--op", "lowercase"]);
    let _worker = office.worker();
    let refused = office.ask(&["results", &id, "--out", "-"]).run();
    refused
        .expect_code(3)
        .expect_said(&["results of files cannot go to standard output"]);
    let summary = office.results(&id, "out").expect_code(0).summary();
    assert_eq!(summary["ok"], 3);
}

#[test]
fn lines_go_on_at_standard_output_where_they_were_killed_and_nowhere_else() {
    const LINES: usize = 60;
    let office = Office::open();
    let lines: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
    let submit = office.submit(&["-", "--op", SLOW_COPY, "--detach"]);
    let submitted = submit.stdin(lines.as_bytes()).run().expect_code(0);
    let id = submitted.stdout_text().trim().to_owned();
    let worker = office.worker();
    let results = office.ask(&["results", &id, "--out", "-"]).start();
    results.wait_for_output("line 9");
    results.signal(Signal::KILL);
    let first = results.wait();
    dismiss(worker);
    let elsewhere = office.results(&id, "out").expect_code(3);
    elsewhere.expect_said(&["went elsewhere before", "the same --out"]);
    let _worker = office.worker();
    let rest = office.ask(&["results", &id, "--out", "-"]).run();
    let rest = rest.expect_code(0).stdout_text().to_owned();
    assert!(!rest.contains("line 0\n"), "it goes on: {rest}");
    let mut all: Vec<String> = first.stdout_text().lines().map(str::to_owned).collect();
    // What was printed and not confirmed comes again.
    let begin = rest.lines().next().expect("a line");
    all.truncate(
        all.iter()
            .position(|line| line == begin)
            .unwrap_or(all.len()),
    );
    all.extend(rest.lines().map(str::to_owned));
    let expected: Vec<&str> = lines.lines().collect();
    assert_eq!(all, expected);
}

#[test]
fn two_who_wait_for_the_same_work_in_two_folders_have_a_job_each() {
    let office = Office::open();
    office.write_inputs(10);
    let _worker = office.worker();
    let submit = |out: &str| {
        let (input, out) = (office.place.arg("in"), office.place.arg(out));
        let submit = office.submit(&[&input, "--op", SLOW_COPY, "--out", &out]);
        submit.start()
    };
    let both = [submit("one"), submit("other")];
    for waiting in both {
        waiting.wait().expect_code(0);
    }
    office.check_copies("one", 10);
    office.check_copies("other", 10);
}

#[test]
fn a_job_that_is_cancelled_is_gone() {
    let office = Office::open();
    office.write_inputs(3);
    let id = office.detach(&[&office.place.arg("in"), "--op", "lowercase"]);
    office.ask(&["cancel", &id]).run().expect_code(0);
    let again = office.ask(&["cancel", &id]).run().expect_code(3);
    again.expect_sentence(&["the broker has no job", &id]);
    let list = office.ask(&["jobs", "--format", "json"]).run();
    assert_eq!(list.expect_code(0).summary(), serde_json::json!([]));
}

#[test]
fn the_status_names_workers_queues_and_counts() {
    let office = Office::open();
    let status = office.ask(&["status"]).run().expect_code(0);
    assert!(status.stdout_text().contains("no worker is there"));
    office.write_inputs(4);
    let _worker = office.worker();
    let out = office.place.arg("out");
    office
        .submit(&[&office.place.arg("in"), "--op", "sha256", "--out", &out])
        .run()
        .expect_code(0);
    let status = office.ask(&["status", "--format", "json"]).run();
    let status = status.expect_code(0).summary();
    assert_eq!(status["done"], 4);
    assert_eq!(status["services"]["sha256"]["done"], 4);
    assert_eq!(status["workers"][0]["state"], "idle");
    assert_eq!(status["workers"][0]["slots"], 2);
    for key in ["done_per_second", "retried", "failed", "kept_bytes"] {
        assert!(status[key].is_u64(), "{key}");
    }
    let follow = office.ask(&["status", "--follow"]).start();
    follow.wait_for_output("sha256");
    follow.kill();
}

#[test]
fn a_task_that_takes_too_long_fails() {
    let office = Office::open();
    let _worker = office.worker();
    office
        .submit(&["-", "--op", "exec:sleep 60", "--out", "-"])
        .args(["--time-limit", "200ms", "--attempts", "1"])
        .stdin("a\n")
        .run()
        .expect_code(1)
        .expect_said(&["line 1: “sleep” took longer than 200 ms and was killed"]);
}

fn watch(office: &Office, op: &str) -> Process {
    let (folder, out) = (office.place.arg("in"), office.place.arg("out"));
    let watch = office
        .submit(&["--watch", &folder, "--out", &out, "--op", op])
        .start();
    watch.wait_for("watching ");
    watch
}

#[test]
fn every_file_that_appears_is_worked_on_once_over_restarts() {
    let office = Office::open();
    let _worker = office.worker();
    let runs = office.place.arg("runs");
    let op = format!("exec:sh -c 'echo >> {runs}; sleep 0.1; cat'");
    office.write_inputs(8);
    let first = watch(&office, &op);
    office.wait_for_results("out", 3);
    first.kill();
    let second = watch(&office, &op);
    for number in 0..8 {
        office.wait_until_read(&format!("out/f{number}.out"), &format!("file {number}\n"));
    }
    office.place.write("in/sub/late", "late\n");
    office.wait_until_read("out/sub/late.out", "late\n");
    office.place.write("in/f0", "changed\n");
    office.wait_until_read("out/f0.out", "changed\n");
    second.wait_for("f0 is done");
    dismiss(second);
    assert_eq!(office.place.read("runs").len(), 10, "each was done once");
    let third = watch(&office, &op);
    std::thread::sleep(Duration::from_millis(2500));
    third.signal(Signal::INT);
    third.wait().expect_code(130).expect_said(&["0 files done"]);
    assert_eq!(office.place.read("runs").len(), 10, "none was done again");
    let left = office.place.files("out/.mutirao");
    assert_eq!(left, ["watch"], "journals are left");
}

#[test]
fn a_file_that_is_still_being_written_is_left_alone() {
    let office = Office::open();
    let _worker = office.worker();
    office.place.write("in/ready", "READY");
    office.place.write("in/other.part", "X");
    office.place.write("in/.hidden", "X");
    let watch = watch(&office, "lowercase");
    let mut text = String::new();
    while !office.place.path("out/ready.out").exists() {
        text += "GROWS\n";
        office.place.write("in/slow", &text);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!office.place.path("out/slow.out").exists());
    office.wait_until_read("out/slow.out", &text.to_lowercase());
    watch.wait_for("slow is done");
    dismiss(watch);
    let out = office.place.files("out");
    assert_eq!(out, [".mutirao/watch", "ready.out", "slow.out"]);
}

#[test]
fn a_second_watcher_of_the_same_results_is_refused() {
    let office = Office::open();
    office.write_inputs(1);
    let first = watch(&office, "noop");
    let (folder, out) = (office.place.arg("in"), office.place.arg("out"));
    office
        .submit(&["--watch", &folder, "--out", &out, "--op", "noop"])
        .run()
        .expect_code(3)
        .expect_sentence(&["another `submit --watch`"]);
    dismiss(first);
}

#[test]
fn nobody_waits_long_for_a_broker_that_is_not_there() {
    let place = Place::new();
    place.write("in/a", "x");
    let (at, input) = (place.ipc("nobody"), place.arg("in"));
    let id = "0123456789abcdef";
    for args in [
        &["jobs"][..],
        &["job", id],
        &["cancel", id],
        &["status"],
        &["results", id, "--out", "x"],
        &["submit", &input, "--op", "noop"],
        &["submit", &input, "--op", "noop", "--wait"],
        &[
            "submit",
            "--watch",
            &input,
            "--op",
            "noop",
            "--out",
            &place.arg("out"),
        ],
    ] {
        mutirao(args)
            .args(["--broker", &at, "--timeout", "300ms"])
            .run()
            .expect_code(3)
            .expect_sentence(&[&at, "did not answer in time"]);
    }
}

#[test]
fn an_unknown_job_is_named() {
    let office = Office::open();
    for args in [&["job"][..], &["cancel"], &["results"]] {
        office
            .ask(args)
            .args(["0123456789abcdef"])
            .run()
            .expect_code(3)
            .expect_sentence(&["has no job 0123456789abcdef", "`mutirao jobs`"]);
    }
}

#[test]
fn what_contradicts_itself_gets_one_sentence() {
    let place = Place::new();
    place.write("in/a", "x");
    let input = place.arg("in");
    let submit = |flags: &[&str]| mutirao(["submit", "--op", "noop"]).args(flags);
    let worker = |flags: &[&str]| mutirao(["worker"]).args(flags);
    let at_broker = |flags: &[&str]| mutirao(["worker", "--broker", "ipc://b"]).args(flags);
    let inside = format!("{input}/out");
    let wrong = [
        (submit(&[]), "name an INPUT"),
        (submit(&["--watch", &input, "a"]), "leave the INPUT out"),
        (
            submit(&[&input, "--detach", "--wait"]),
            "--detach contradicts",
        ),
        (
            submit(&[&input, "--detach", "--out", "x"]),
            "--detach contradicts",
        ),
        (
            submit(&["--watch", &input, "--detach"]),
            "--detach contradicts --watch",
        ),
        (
            submit(&["--watch", &input, "--out", &inside]),
            "choose an --out elsewhere",
        ),
        (submit(&["--watch", &input, "--out", "-"]), "need a folder"),
        (submit(&[&input, "--out", "-"]), "only with INPUT `-`"),
        (submit(&[&input, "--priority", "256"]), "--priority"),
        (submit(&[&input, "--time-limit", "soon"]), "write it like"),
        (
            submit(&[&input, "--broker", "inproc://x"]),
            "reaches only this process",
        ),
        (worker(&["--ops", "noop"]), "--ops needs --broker"),
        (
            mutirao([
                "sink",
                "--out",
                "x",
                "--pattern",
                "broker",
                "--bind",
                "ipc://s",
            ]),
            "--pattern broker contradicts --bind",
        ),
        (
            mutirao(["ventilator", &input, "--op", "noop", "--broker", "ipc://b"])
                .args(["--sink", "ipc://s"]),
            "--broker contradicts --sink",
        ),
        (
            at_broker(&["--sink", "ipc://s"]),
            "--broker contradicts --sink",
        ),
        (at_broker(&["--once"]), "--broker contradicts --once"),
        (
            at_broker(&["--pattern", "req-rep"]),
            "--broker contradicts --pattern",
        ),
        (at_broker(&["--ops", "nop"]), "unknown operation “nop”"),
        (at_broker(&["--ops", "exec"]), "needs --allow-exec"),
        (mutirao(["job", "xyz"]), "not the id of a job"),
        (mutirao(["status", "--format", "xml"]), "text, json"),
        (mutirao(["broker", "--store", ""]), "--store"),
        (
            mutirao(["broker", "--store", "x", "--mode", "request-reply"]),
            "--store contradicts --mode request-reply",
        ),
        (
            mutirao(["broker", "--mode", "round-robin"]),
            "load-balancing, request-reply",
        ),
        (mutirao(["broker", "--detector", "gamma"]), "fixed, phi"),
        (mutirao(["broker", "--bind", "tcp://*:*"]), "or --insecure"),
    ];
    for (launch, part) in wrong {
        let ended = launch.run().expect_code(2).expect_sentence(&[part]);
        assert!(ended.stdout.is_empty());
    }
}

#[test]
fn what_the_environment_says_does_not_contradict_what_was_typed() {
    let office = Office::open();
    let worker = mutirao(["worker", "--broker", &office.at])
        .env("MUTIRAO_VENTILATOR", "ipc://v")
        .env("MUTIRAO_PATTERN", "req-rep")
        .start();
    worker.wait_for("from the broker at");
    dismiss(worker);
    let worker = mutirao(["worker", "--ventilator", "ipc://v", "--sink", "ipc://s"])
        .env("MUTIRAO_BROKER", &office.at)
        .start();
    worker.wait_for("from ipc://v to ipc://s");
    dismiss(worker);
    // Where the environment says both, the pattern tells which counts.
    for (pattern, hello) in [("req-rep", "by req-rep"), ("broker", "from the broker at")] {
        let worker = mutirao(["worker"])
            .env("MUTIRAO_BROKER", &office.at)
            .env("MUTIRAO_PATTERN", pattern)
            .start();
        worker.wait_for(hello);
        dismiss(worker);
    }
}

#[test]
fn a_job_that_no_worker_offers_to_do_waits_and_says_so() {
    let office = Office::open();
    office.write_inputs(2);
    let input = office.place.arg("in");
    let submit = office.submit(&[&input, "--op", "lowercase"]).run();
    submit
        .expect_code(0)
        .expect_said(&["accepted: 2 tasks", "no worker offers lowercase now"]);
    let status = office.ask(&["status"]).run().expect_code(0);
    assert!(status.stdout_text().contains("none offers it"));
}

#[test]
fn a_broker_that_is_interrupted_says_so() {
    let mut office = Office::open();
    let broker = office.broker.take().expect("it runs");
    broker.signal(Signal::INT);
    broker.wait().expect_code(130);
    office.start_broker();
    dismiss(office.broker.take().expect("it runs"));
}

#[test]
fn who_waits_hears_that_a_broker_took_its_jobs_along() {
    let mut office = Office::open();
    office.write_inputs(4);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let waiting = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
    let waiting = waiting.start();
    wait_until(DEADLINE, "the job", || {
        let list = office.ask(&["jobs", "--format", "json"]).run().summary();
        list[0]["tasks"] == 4
    });
    drop(office.broker.take());
    office.start_broker();
    waiting.wait().expect_code(3).expect_said(&["no such job"]);
    let _worker = office.worker();
    let again = office.submit(&[&input, "--op", "lowercase", "--out", &out]);
    again.run().expect_code(0);
    office.check_copies("out", 4);
}
