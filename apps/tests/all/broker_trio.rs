//! Ventilator, worker and sink with a broker between them.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::broker::{Office, SLOW_COPY};
use crate::expect::{check_results, files, write_files};
use crate::harness::{Launch, Process, mutirao};
use crate::trio::dismiss;

impl Office {
    pub(crate) fn sink(&self, out: &str) -> Process {
        let sink = self.ask(&["sink", "--out", &self.place.arg(out)]);
        let sink = sink.args(["--heartbeat", "100ms"]).start();
        sink.wait_for("results from the broker at");
        sink
    }

    pub(crate) fn ventilator(&self, input: &str, op: &str) -> Launch {
        self.ask(&["ventilator", &self.place.arg(input), "--op", op])
            .args(["--heartbeat", "100ms"])
    }
}

#[test]
fn it_gives_what_run_gives_job_after_job_whoever_comes_first() {
    let mut office = Office::closed();
    let files = files();
    write_files(&office.place, "in", &files);
    let first = office.ventilator("in", "wordcount");
    let first = first.args(["--chunk-bytes", "4096"]).start();
    let sink = office.sink("out");
    first.wait_for("no word from the broker");
    office.start_broker();
    let _worker = office.worker();
    first.wait().expect_code(0).expect_said(&[" 0 failed"]);
    check_results(&office.place, "out", "wordcount", &files);
    office.ventilator("in", "sha256").run().expect_code(0);
    check_results(&office.place, "out", "sha256", &files);
    dismiss(sink);
}

#[test]
fn each_of_them_may_be_killed() {
    each_may_be_killed(Office::with_store());
}

#[test]
fn each_of_them_may_be_killed_on_raw_tcp() {
    each_may_be_killed(Office::with_store_at_port("raw+tcp"));
}

fn each_may_be_killed(mut office: Office) {
    const FILES: usize = 200;
    office.write_inputs(FILES);
    let mut sink = office.sink("out");
    let mut worker = office.worker();
    let _other = office.worker();
    let mut ventilator = office.ventilator("in", SLOW_COPY).start();
    for round in 0..5 {
        office.wait_for_results("out", 10 + 30 * round);
        match round {
            0 => std::mem::replace(&mut sink, office.sink("out")).kill(),
            1 => {
                office.crash_broker();
                continue;
            }
            2 => std::mem::replace(&mut worker, office.worker()).kill(),
            3 => {
                let again = office.ventilator("in", SLOW_COPY).start();
                std::mem::replace(&mut ventilator, again).kill()
            }
            _ => {
                sink.kill();
                office.crash_broker();
                sink = office.sink("out");
                continue;
            }
        };
    }
    ventilator.wait().expect_code(0).expect_said(&["200 ok"]);
    office.check_copies("out", FILES);
    dismiss(sink);
}

#[test]
fn several_sinks_share_the_jobs_and_leave_the_others_alone() {
    const JOBS: usize = 6;
    let office = Office::open();
    for job in 0..JOBS {
        for file in 0..20 {
            let name = format!("in{job}/j{job}-{file}");
            office.place.write(&name, format!("{job} {file}"));
        }
    }
    let sinks = [office.sink("a"), office.sink("b")];
    let _worker = office.worker();
    let ventilators: Vec<_> = (0..JOBS)
        .map(|job| office.ventilator(&format!("in{job}"), SLOW_COPY).start())
        .collect();
    // The same inputs, by somebody who waits for them.
    let (input, out) = (office.place.arg("in0"), office.place.arg("c"));
    let submit = office.submit(&[&input, "--op", SLOW_COPY, "--out", &out]);
    let submit = submit.start();
    for ventilator in ventilators {
        ventilator.wait().expect_code(0).expect_said(&["20 ok"]);
    }
    submit.wait().expect_code(0).expect_said(&["20 ok"]);
    sinks.into_iter().for_each(dismiss);
    let jobs_in = |folder: &str| -> BTreeSet<String> {
        let files = office.place.files(folder).into_iter();
        let results = files.filter(|name| name.ends_with(".out"));
        let jobs: Vec<_> = results.map(|name| name[..2].to_string()).collect();
        let whole = jobs.iter().collect::<BTreeSet<_>>().len() * 20;
        assert_eq!(jobs.len(), whole, "a job is split: {jobs:?}");
        jobs.into_iter().collect()
    };
    let (a, b) = (jobs_in("a"), jobs_in("b"));
    assert!(a.is_disjoint(&b), "{a:?} {b:?}");
    assert_eq!(a.len() + b.len(), JOBS);
    assert_eq!(jobs_in("c"), BTreeSet::from(["j0".to_string()]));
}

#[test]
fn a_task_that_fails_is_told_by_the_sink() {
    let office = Office::open();
    office.place.write("in/good", "ok");
    office.place.write("in/bad", b"\xff");
    let sink = office.sink("out");
    let _worker = office.worker();
    let ended = office.ventilator("in", "lowercase").run().expect_code(1);
    ended.expect_said(&[
        "2 tasks: 1 ok, 1 failed",
        "1 of 2 tasks failed",
        "sink's log",
    ]);
    sink.wait_for("failed: bad: the text is not UTF-8");
    assert_eq!(office.place.read("out/good.out"), b"ok");
}

#[test]
fn a_ventilator_that_is_interrupted_leaves_its_job_at_the_broker() {
    let office = Office::open();
    office.write_inputs(40);
    let ventilator = office.ventilator("in", SLOW_COPY).start();
    ventilator.wait_for("no worker offers this operation");
    ventilator.signal(Signal::INT);
    let ended = ventilator.wait().expect_code(130);
    ended.expect_said(&["goes on at the broker", "`mutirao cancel "]);
    let _worker = office.worker();
    let sink = mutirao(["sink", "--broker", &office.at, "--once", "--out"]);
    let sink = sink.args([office.place.arg("out")]).run();
    sink.expect_code(0).expect_said(&["1 job complete"]);
    office.check_copies("out", 40);
}

#[test]
fn nothing_to_do_is_soon_done() {
    let office = Office::open();
    let ventilator = office.ask(&["ventilator", "-", "--op", "lowercase"]);
    let ended = ventilator.stdin("").run().expect_code(0);
    ended.expect_said(&["0 tasks: 0 ok"]);
}
