//! Nothing is lost and nothing comes twice, whoever dies, leaves or sleeps.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use crate::harness::{Ended, Place, Process, mutirao, wait_until};
use crate::trio::{PATTERNS, Trio, Wire, dismiss, had_finished};

/// Small tasks that take a while without taking the processor.
const SLOW_COPY: &str = "exec:sh -c 'sleep 0.02; cat'";

const FILES: usize = 1000;
const KILLS: usize = 24;

/// Who may die.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Worker(usize),
    Sink,
    Ventilator,
}

const ALL: [Victim; 4] = [
    Victim::Worker(0),
    Victim::Worker(1),
    Victim::Sink,
    Victim::Ventilator,
];
/// Lines that were read cannot be read again, so their ventilator has to live.
const ALL_BUT_THE_VENTILATOR: [Victim; 3] = [Victim::Worker(0), Victim::Worker(1), Victim::Sink];

/// Chance with a seed that a failing test prints.
pub(crate) fn chance(name: &str) -> StdRng {
    let seed = std::env::var("KILLS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    eprintln!("{name}: repeat with KILLS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub(crate) fn pause(chance: &mut StdRng, milliseconds: Range<u64>) {
    std::thread::sleep(Duration::from_millis(chance.random_range(milliseconds)));
}

/// Kills and restarts until the ventilator has ended well by itself; how it ended, and how many
/// were killed before it had.
fn kill_on(trio: &mut Trio, job: Job, victims: &[Victim], chance: &mut StdRng) -> (Ended, usize) {
    let mut sink = trio.sink();
    let mut ventilator = job.start(trio);
    let mut workers = [trio.worker(), trio.worker()];
    let mut kills = 0;
    while kills < KILLS && ventilator.try_wait().is_none() {
        pause(chance, 10..150);
        let gap = chance.random_bool(0.3);
        match victims[chance.random_range(0..victims.len())] {
            Victim::Worker(number) => {
                let dead = std::mem::replace(&mut workers[number], trio.worker());
                dead.kill();
            }
            Victim::Sink => {
                sink.kill();
                if gap {
                    pause(chance, 0..300);
                }
                sink = trio.sink();
            }
            Victim::Ventilator => {
                if ventilator.try_wait().is_some() || had_finished(ventilator.kill()) {
                    panic!("the job was done after {kills} kills: give it more tasks");
                }
                if gap {
                    pause(chance, 0..300);
                }
                ventilator = job.start(trio);
            }
        }
        kills += 1;
    }
    let ended = ventilator.wait().expect_code(0);
    workers.into_iter().for_each(dismiss);
    dismiss(sink);
    (ended, kills)
}

enum Job {
    Files,
    Lines(String),
}

impl Job {
    fn start(&self, trio: &mut Trio) -> Process {
        let input = trio.place.arg("in");
        match self {
            Job::Files => trio.ventilator(&[&input, "--op", SLOW_COPY]),
            Job::Lines(lines) => {
                let launch = trio.ventilator_launch(&["-", "--op", SLOW_COPY]);
                trio.start(launch.stdin(lines.clone()))
            }
        }
    }
}

fn text_of(number: usize) -> String {
    format!("file {number}\n").repeat(1 + number % 5)
}

fn write_inputs(place: &Place, files: usize) {
    for number in 0..files {
        place.write(&format!("in/f{number}"), text_of(number));
    }
}

#[track_caller]
fn check_copies(place: &Place, files: usize) {
    let mut names: Vec<_> = (0..files).map(|number| format!("f{number}.out")).collect();
    names.sort();
    assert_eq!(place.files("out"), names, "{}", place.tree("out"));
    for number in 0..files {
        let copy = place.read(&format!("out/f{number}.out"));
        assert!(copy == text_of(number).as_bytes(), "f{number}.out is wrong");
    }
    assert!(!place.path("out/.mutirao").exists(), "the journal is left");
}

fn everybody_dies(pattern: &'static str, wire: Wire) {
    let mut chance = chance(&format!("everybody dies, {pattern}, {wire:?}"));
    let mut trio = Trio::new(pattern, wire);
    write_inputs(&trio.place, FILES);
    let (ended, kills) = kill_on(&mut trio, Job::Files, &ALL, &mut chance);
    assert!(kills >= 20, "the job was done after {kills} kills");
    assert_eq!(ended.summary()["ok"], FILES, "{}", ended.summary());
    check_copies(&trio.place, FILES);
}

#[test]
fn everybody_dies_push_pull() {
    everybody_dies("push-pull", Wire::Ipc);
}

#[test]
fn everybody_dies_req_rep() {
    everybody_dies("req-rep", Wire::Ipc);
}

#[test]
fn everybody_dies_pub_sub() {
    everybody_dies("pub-sub", Wire::Ipc);
}

#[test]
fn everybody_dies_over_tcp() {
    everybody_dies("push-pull", Wire::Tcp);
}

#[test]
fn everybody_dies_over_raw_tcp() {
    everybody_dies("push-pull", Wire::By("raw+tcp"));
}

fn lines_survive(pattern: &'static str) {
    let mut chance = chance(&format!("lines survive, {pattern}"));
    let mut trio = Trio::new(pattern, Wire::Ipc);
    let lines: String = (0..FILES)
        .map(|number| format!("line {number}\n"))
        .collect();
    let job = Job::Lines(lines.clone());
    let (ended, kills) = kill_on(&mut trio, job, &ALL_BUT_THE_VENTILATOR, &mut chance);
    assert!(kills >= 20, "the job was done after {kills} kills");
    assert_eq!(ended.summary()["ok"], FILES, "{}", ended.summary());
    assert_eq!(trio.place.files("out"), ["stdin.out"]);
    assert_eq!(
        String::from_utf8(trio.place.read("out/stdin.out")).unwrap(),
        lines
    );
}

#[test]
fn lines_survive_push_pull() {
    lines_survive("push-pull");
}

#[test]
fn lines_survive_req_rep() {
    lines_survive("req-rep");
}

#[test]
fn lines_survive_pub_sub() {
    lines_survive("pub-sub");
}

/// The ventilator dies while a large file is under way; the sink must not mix two goes.
#[test]
fn a_large_file_survives() {
    let mut chance = chance("a large file survives");
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    let text: String = (0..400_000).map(|n| format!("Linha Nº {n}\n")).collect();
    trio.place.write("in/large", &text);
    let input = trio.place.arg("in");
    let job = [&*input, "--op", "uppercase", "--chunk-bytes", "4096"];
    let mut sink = trio.sink();
    let mut ventilator = trio.ventilator(&job);
    let worker = trio.worker();
    while ventilator.try_wait().is_none() {
        pause(&mut chance, 5..60);
        if chance.random_bool(0.5) {
            sink.kill();
            sink = trio.sink();
        } else if had_finished(ventilator.kill()) {
            ventilator = trio.ventilator(&job);
            break;
        } else {
            ventilator = trio.ventilator(&job);
        }
        // A new start reads from the beginning; give it the time to get further than the last.
        pause(&mut chance, 0..400);
    }
    ventilator.wait().expect_code(0);
    assert_eq!(trio.place.files("out"), ["large.out"]);
    assert!(trio.place.read("out/large.out") == text.to_uppercase().as_bytes());
    dismiss(worker);
    dismiss(sink);
}

/// A worker that sleeps longer than anyone waits comes back with results that others have done.
#[test]
fn a_worker_that_wakes_up_too_late_spoils_nothing() {
    const FILES: usize = 200;
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        write_inputs(&trio.place, FILES);
        let sink = trio.sink();
        let input = trio.place.arg("in");
        let sleeper = trio.worker();
        let ventilator = trio.ventilator(&[&input, "--op", SLOW_COPY]);
        wait_until_results(&trio.place, 10);
        sleeper.signal(Signal::STOP);
        ventilator.wait_for("has been silent for too long");
        let other = trio.worker();
        wait_until_results(&trio.place, 50);
        sleeper.signal(Signal::CONT);
        let ended = ventilator.wait().expect_code(0);
        assert_eq!(ended.summary()["ok"], FILES, "{pattern}");
        check_copies(&trio.place, FILES);
        dismiss(sleeper);
        dismiss(other);
        dismiss(sink);
    }
}

fn wait_until_results(place: &Place, count: usize) {
    let what = format!("{count} results");
    wait_until(Duration::from_secs(30), &what, || {
        let out = place.files("out");
        out.iter().filter(|name| name.ends_with(".out")).count() >= count
    });
}

#[test]
fn a_worker_that_is_asked_to_leave_finishes_what_it_has_begun() {
    const FILES: usize = 200;
    for pattern in PATTERNS {
        let mut trio = Trio::patient(pattern, Wire::Ipc);
        write_inputs(&trio.place, FILES);
        let sink = trio.sink();
        let input = trio.place.arg("in");
        let runs = trio.place.arg("runs");
        let op = format!("exec:sh -c 'echo >> {runs}; sleep 0.02; cat'");
        let leaver = trio.worker();
        let ventilator = trio.ventilator(&[&input, "--op", &op]);
        wait_until_results(&trio.place, 10);
        let stayer = trio.worker();
        dismiss(leaver);
        let ended = ventilator.wait().expect_code(0);
        check_copies(&trio.place, FILES);
        // What was on its way to the leaver is sent again; what it had begun is not done twice.
        let summary = ended.summary();
        assert!(
            summary["retried"].as_u64().unwrap() <= 8,
            "{pattern}: {summary}"
        );
        assert_eq!(summary["duplicates"], 0, "{pattern}: {summary}");
        assert_eq!(trio.place.read("runs").len(), FILES, "{pattern}: runs");
        dismiss(stayer);
        dismiss(sink);
    }
}

#[test]
fn a_slow_sink_slows_everyone_and_nobody_hoards() {
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        let text = "Uma linha de texto que se repete sem parar.\n".repeat(20_000);
        for number in 0..220 {
            trio.place.write(&format!("in/f{number}"), &text);
        }
        let mut sink = trio.sink();
        let input = trio.place.arg("in");
        let mut ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
        let mut worker = trio.worker();
        wait_until_results(&trio.place, 5);
        sink.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(2));
        let peaks = [ventilator.peak_mib(), worker.peak_mib()];
        sink.signal(Signal::CONT);
        let sink_peak = sink.peak_mib();
        let ended = ventilator.wait().expect_code(0);
        eprintln!(
            "{pattern}: MiB of ventilator and worker at the pause {peaks:?}, ventilator {}, sink {sink_peak}",
            ended.peak_mib
        );
        assert!(ended.peak_mib < 150, "{pattern}: {} MiB", ended.peak_mib);
        assert!(
            worker.peak_mib() < 200,
            "{pattern}: {} MiB",
            worker.peak_mib()
        );
        assert!(sink.peak_mib() < 200, "{pattern}: {} MiB", sink.peak_mib());
        assert_eq!(ended.summary()["ok"], 220);
        let result = text.to_lowercase();
        for number in 0..220 {
            assert!(trio.place.read(&format!("out/f{number}.out")) == result.as_bytes());
        }
        dismiss(worker);
        dismiss(sink);
    }
}

/// The same command goes on: what is safe is not done again.
#[test]
fn a_killed_run_goes_on_where_it_stopped() {
    const FILES: usize = 100;
    let place = Place::new();
    write_inputs(&place, FILES);
    let runs = place.arg("runs");
    let op = format!("exec:sh -c 'echo >> {runs}; sleep 0.02; cat'");
    let run = || {
        mutirao(["run", &place.arg("in"), "--op", &op]).args([
            "--out",
            &place.arg("out"),
            "--workers",
            "2",
        ])
    };
    let first = run().start();
    wait_until_results(&place, 20);
    first.kill();
    let done = place
        .files("out")
        .iter()
        .filter(|name| name.ends_with(".out"))
        .count();
    run().run().expect_code(0);
    check_copies(&place, FILES);
    let again = place.read("runs").len() - FILES;
    // Two were running and a few more may have been finished and not confirmed.
    assert!(
        again <= FILES - done && again <= 10,
        "{again} tasks were done again"
    );
}
