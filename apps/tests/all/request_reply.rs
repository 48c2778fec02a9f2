//! A broker that works by request and reply: clients wait, and nothing is kept.

use crate::broker::{Office, SLOW_COPY};
use crate::harness::{DEADLINE, mutirao, wait_until};

fn jobs(office: &Office) -> serde_json::Value {
    let jobs = office.ask(&["jobs", "--format", "json"]).run();
    jobs.expect_code(0).summary()
}

#[test]
fn a_client_that_waits_gets_its_results_though_workers_die() {
    const FILES: usize = 120;
    let office = Office::synchronous();
    office.write_inputs(FILES);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let submit = office.submit(&[&input, "--op", SLOW_COPY, "--out", &out]);
    let submit = submit.start();
    let mut workers = [office.worker(), office.worker()];
    for (kill, worker) in workers.iter_mut().enumerate() {
        office.wait_for_results("out", 10 + 30 * kill);
        std::mem::replace(worker, office.worker()).kill();
    }
    submit.wait().expect_code(0).expect_said(&["120 ok"]);
    office.check_copies("out", FILES);
    let lines = office.submit(&["-", "--op", "uppercase", "--out", "-"]);
    let lines = lines.stdin("a\nb\n").run().expect_code(0);
    assert_eq!(lines.stdout_text(), "A\nB\n");
    assert_eq!(jobs(&office), serde_json::json!([]));
}

#[test]
fn a_client_that_dies_takes_its_job_along() {
    let office = Office::synchronous();
    office.write_inputs(50);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let submit = office.submit(&[&input, "--op", SLOW_COPY, "--out", &out]);
    let submit = submit.start();
    wait_until(DEADLINE, "the job", || jobs(&office)[0]["tasks"] == 50);
    submit.kill();
    wait_until(DEADLINE, "its end", || {
        jobs(&office) == serde_json::json!([])
    });
    let _worker = office.worker();
    let again = office.submit(&[&input, "--op", SLOW_COPY, "--out", &out]);
    again.run().expect_code(0);
    office.check_copies("out", 50);
}

#[test]
fn what_outlives_its_client_is_refused_with_a_way_out() {
    let office = Office::synchronous();
    office.write_inputs(1);
    let (input, out) = (office.place.arg("in"), office.place.arg("out"));
    let refused = [
        office.submit(&[&input, "--op", "noop"]),
        office.submit(&["--watch", &input, "--out", &out, "--op", "noop"]),
        office.ask(&["results", "0123456789abcdef", "--out", &out]),
        office
            .ask(&["ventilator", &input, "--op", "noop"])
            .env("RUST_LOG", "warn"),
        office.ask(&["sink", "--out", &out]).env("RUST_LOG", "warn"),
    ];
    for launch in refused {
        let ended = launch.run().expect_code(3);
        ended.expect_sentence(&["keeps nothing", "submit --wait", "--mode load-balancing"]);
    }
    let status = mutirao(["status", "--broker", &office.at, "--format", "json"]);
    assert_eq!(status.run().summary()["keeps"], "nothing");
}
