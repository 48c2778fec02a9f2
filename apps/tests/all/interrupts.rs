//! Ctrl-C and SIGTERM: what has begun is finished, what is done is told, nothing is lost.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Launch, Place, mutirao, wait_until};
use crate::trio::{PATTERNS, Trio, Wire, dismiss};

const FILES: usize = 160;

fn write_inputs(place: &Place) {
    for number in 0..FILES {
        place.write(&format!("in/f{number}"), format!("{number}\n"));
    }
}

fn counting_copy(place: &Place) -> String {
    format!(
        "exec:sh -c 'echo >> {}; sleep 0.05; cat'",
        place.arg("runs")
    )
}

fn wait_for_results(place: &Place, count: usize) {
    wait_until(Duration::from_secs(30), "some results", || {
        let files = place.files("out");
        files.iter().filter(|name| name.ends_with(".out")).count() >= count
    });
}

#[track_caller]
fn check_copies(place: &Place) {
    assert_eq!(place.files("out").len(), FILES);
    for number in 0..FILES {
        let copy = place.read(&format!("out/f{number}.out"));
        assert_eq!(copy, format!("{number}\n").as_bytes());
    }
}

/// The number before ` safe results`.
fn safe_in(said: &str) -> usize {
    let sentence = said.lines().find(|line| line.contains(" safe result"));
    let words: Vec<_> = sentence
        .unwrap_or_else(|| panic!("{said}"))
        .split(' ')
        .collect();
    let at = words.iter().position(|word| *word == "safe").unwrap();
    words[at - 1].parse().unwrap()
}

#[test]
fn a_run_that_is_interrupted_ends_soon_and_goes_on_later() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        write_inputs(&place);
        let op = counting_copy(&place);
        let run = || -> Launch {
            mutirao(["run", &place.arg("in"), "--op", &op, "--workers", "4"])
                .args(["--out", &place.arg("out")])
        };
        let process = run().start();
        wait_for_results(&place, 20);
        let asked = Instant::now();
        process.signal(signal);
        process.wait_for("finishing what has begun");
        let ended = process.wait().expect_code(130).expect_said(&[
            " tasks: ",
            "mutirao: interrupted: ",
            " safe results; the same command goes on from there",
        ]);
        let took = asked.elapsed();
        assert!(
            took < Duration::from_secs(3),
            "tasks of 50 ms took {took:?} to drain"
        );
        let safe = safe_in(&ended.stderr);
        assert!((20..FILES).contains(&safe), "{}", ended.stderr);
        run().run().expect_code(0);
        check_copies(&place);
        assert_eq!(place.read("runs").len(), FILES, "a task was done twice");
    }
}

#[test]
fn a_ventilator_that_is_interrupted_ends_soon_and_goes_on_later() {
    for pattern in PATTERNS {
        let mut trio = Trio::patient(pattern, Wire::Ipc);
        write_inputs(&trio.place);
        let (input, op) = (trio.place.arg("in"), counting_copy(&trio.place));
        let sink = trio.sink();
        let worker = trio.worker();
        let ventilator = trio.ventilator(&[&input, "--op", &op]);
        wait_for_results(&trio.place, 20);
        ventilator.signal(Signal::INT);
        let asked = Instant::now();
        let ended = ventilator.wait().expect_code(130);
        assert!(asked.elapsed() < Duration::from_secs(3), "{pattern}");
        assert!(safe_in(&ended.stderr) < FILES, "{}", ended.stderr);
        let ventilator = trio.ventilator(&[&input, "--op", &op]);
        ventilator.wait().expect_code(0);
        check_copies(&trio.place);
        assert_eq!(trio.place.read("runs").len(), FILES, "{pattern}");
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn an_interrupt_before_anything_has_begun_ends_at_once() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    trio.place.write("in/a", "A");
    let input = trio.place.arg("in");
    let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
    let asked = Instant::now();
    ventilator.signal(Signal::INT);
    let ended = ventilator.wait().expect_code(130);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(safe_in(&ended.stderr), 0);
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let place = Place::new();
    place.write("in/a", "A");
    let process = mutirao(["run", &place.arg("in"), "--op", "sleep:30000"])
        .args(["--out", &place.arg("out")])
        .start();
    wait_until(Duration::from_secs(20), "the journal", || {
        place
            .files("out")
            .iter()
            .any(|name| name.ends_with("journal"))
    });
    process.signal(Signal::INT);
    process.wait_for("once more ends at once");
    std::thread::sleep(Duration::from_millis(200));
    process.signal(Signal::INT);
    let ended = process.wait_within(Duration::from_secs(2));
    ended.expect_code(130);
}

#[test]
fn a_signal_that_comes_twice_at_once_counts_as_one() {
    let place = Place::new();
    place.write("in/a", "A");
    let process = mutirao(["run", &place.arg("in"), "--op", "sleep:2000"])
        .args(["--out", &place.arg("out")])
        .start();
    wait_until(Duration::from_secs(20), "the journal", || {
        place
            .files("out")
            .iter()
            .any(|name| name.ends_with("journal"))
    });
    process.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(5));
    process.signal(Signal::TERM);
    let ended = process.wait().expect_code(130);
    ended.expect_said(&["mutirao: interrupted: "]);
}

#[test]
fn lines_that_were_read_come_out_before_an_interrupted_run_ends() {
    let mut process = mutirao(["run", "-", "--op", "exec:sh -c 'sleep 0.1; cat'"])
        .args(["--out", "-"])
        .stdin_open()
        .start();
    process.write_stdin(b"a\nb\nc\nd\n");
    process.wait_for_output("a");
    process.signal(Signal::INT);
    let ended = process.wait().expect_code(130);
    assert_eq!(ended.stdout_text(), "a\nb\nc\nd\n");
    assert_eq!(safe_in(&ended.stderr), 4);
}

#[test]
fn a_worker_that_is_interrupted_says_so_and_leaves() {
    let mut trio = Trio::patient("push-pull", Wire::Ipc);
    let idle = trio.worker();
    idle.wait_for("slots");
    idle.signal(Signal::INT);
    idle.wait_within(Duration::from_secs(5))
        .expect_code(130)
        .expect_said(&["mutirao: left on request; nothing is lost\n"]);

    trio.place.write("in/a", "A");
    let input = trio.place.arg("in");
    let sink = trio.sink();
    let ventilator = trio.ventilator(&[&input, "--op", "exec:sh -c 'sleep 1; cat'"]);
    let busy = trio.worker();
    busy.wait_for("the ventilator is there");
    std::thread::sleep(Duration::from_millis(300));
    busy.signal(Signal::INT);
    busy.wait().expect_code(130);
    let ended = ventilator.wait().expect_code(0);
    assert_eq!(
        ended.summary()["retried"],
        0,
        "it finished what it had begun"
    );
    assert_eq!(trio.place.read("out/a.out"), b"A");
    dismiss(sink);
}

#[test]
fn a_sink_that_is_interrupted_says_so_and_another_goes_on() {
    let mut trio = Trio::new("req-rep", Wire::Ipc);
    let idle = trio.sink();
    idle.signal(Signal::INT);
    idle.wait_within(Duration::from_secs(5))
        .expect_code(130)
        .expect_said(&["mutirao: stopped after "]);

    write_inputs(&trio.place);
    let (input, op) = (trio.place.arg("in"), counting_copy(&trio.place));
    let sink = trio.sink();
    let ventilator = trio.ventilator(&[&input, "--op", &op]);
    let workers = [trio.worker(), trio.worker()];
    wait_for_results(&trio.place, 20);
    sink.signal(Signal::INT);
    sink.wait().expect_code(130);
    let sink = trio.sink();
    ventilator.wait().expect_code(0);
    check_copies(&trio.place);
    workers.into_iter().for_each(dismiss);
    dismiss(sink);
}
