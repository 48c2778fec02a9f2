//! Tasks that fail: as often as said, with their reason, and without harm to the others.

use serde::Serialize;

use mutirao::{Ventilator, VentilatorConfig};

use crate::harness::{Place, mutirao};
use crate::trio::{PATTERNS, Trio, Wire, dismiss};

/// Fails for a task that says `bad`; leaves a line in `tries` each time.
fn picky(tries: &str) -> String {
    format!(
        "exec:sh -c 'read word; echo $word >> {tries}; \
         test $word != bad || {{ echo no luck >&2; exit 3; }}; echo done $word'"
    )
}

fn count(place: &Place, word: &str) -> usize {
    let tries = String::from_utf8(place.read("tries")).unwrap();
    tries.lines().filter(|line| *line == word).count()
}

#[test]
fn a_worker_says_that_its_sink_is_missing_and_that_it_has_come() {
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        let worker = trio.worker();
        worker.wait_for("the sink does not answer at ipc://");
        let sink = trio.sink();
        worker.wait_for("the sink is there");
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn a_ventilator_says_that_a_worker_follows_another_pattern() {
    for (pattern, other) in PATTERNS.iter().zip(PATTERNS.iter().cycle().skip(1)) {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        trio.place.write("in/a", "A");
        let sink = trio.sink();
        let input = trio.place.arg("in");
        let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
        let (tasks, results) = trio.endpoints();
        mutirao(["worker", "--ventilator", tasks, "--sink", results])
            .args(["--pattern", other])
            .run()
            .expect_code(3)
            .expect_said(&["pattern"]);
        let told = ventilator.wait_for("somebody does not get in");
        assert!(told.contains("another pattern"), "{told}");
        let worker = trio.worker();
        ventilator.wait().expect_code(0);
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn one_task_is_not_called_many() {
    let place = Place::new();
    place.write("in/a", [0xff]);
    mutirao(["run", &place.arg("in"), "--op", "lowercase"])
        .args(["--out", &place.arg("out")])
        .run()
        .expect_code(1)
        .expect_said(&["1 task: 0 ok, 1 failed;", "mutirao: 1 of 1 task failed;"]);
}

#[test]
fn a_task_that_always_fails_is_tried_as_often_as_said() {
    for pattern in PATTERNS {
        let mut trio = Trio::patient(pattern, Wire::Ipc);
        for word in ["bad", "good", "better"] {
            trio.place
                .write(&format!("in/{word}.txt"), format!("{word}\n"));
        }
        let op = picky(&trio.place.arg("tries"));
        let input = trio.place.arg("in");
        let sink = trio.sink();
        let ventilator = trio.ventilator(&[&input, "--op", &op, "--attempts", "4"]);
        let worker = trio.worker();
        let ended = ventilator.wait().expect_code(1).expect_said(&[
            "failed: bad.txt: “sh” exited with status 3: no luck\n",
            "mutirao: 1 of 3 tasks failed; the other results stand\n",
        ]);
        let summary = ended.summary();
        assert_eq!((&summary["ok"], &summary["failed"]), (&2.into(), &1.into()));
        assert_eq!(summary["retried"], 3, "{pattern}: {summary}");
        assert_eq!(count(&trio.place, "bad"), 4, "{pattern}");
        assert_eq!(count(&trio.place, "good"), 1, "{pattern}");
        assert_eq!(trio.place.files("out"), ["better.txt.out", "good.txt.out"]);
        assert_eq!(trio.place.read("out/good.txt.out"), b"done good\n");
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn a_task_that_fails_at_first_is_done_in_the_end() {
    let place = Place::new();
    place.write("in/a", "text\n");
    let mark = place.arg("mark");
    let op = format!("exec:sh -c 'test -e {mark} || {{ touch {mark}; exit 1; }}; cat'");
    let ended = mutirao(["run", &place.arg("in"), "--op", &op, "--summary", "json"])
        .args(["--out", &place.arg("out")])
        .run()
        .expect_code(0);
    assert_eq!(ended.summary()["retried"], 1);
    assert_eq!(place.read("out/a.out"), b"text\n");
}

#[test]
fn a_failing_line_is_named_and_the_others_come_out() {
    let ended = mutirao(["run", "-", "--op", "exec:grep -v b", "--out", "-"])
        .args(["--attempts", "1"])
        .stdin("a\nb\nc\n")
        .run()
        .expect_code(1)
        .expect_said(&["failed: line 2: “grep” exited with status 1\n"]);
    assert_eq!(ended.stdout_text(), "a\nc\n");
}

#[test]
fn text_that_is_not_utf8_fails_once_and_says_where() {
    let place = Place::new();
    place.write("in/good", "Á\n");
    place.write("in/latin1", b"caf\xe9\n");
    let mut late = "uma linha\n".repeat(1000).into_bytes();
    late.extend_from_slice(b"\xff\n");
    place.write("in/late", late);
    for op in ["lowercase", "uppercase", "wordcount"] {
        let ended = mutirao(["run", &place.arg("in"), "--op", op, "--summary", "json"])
            .args(["--out", &place.arg("out"), "--chunk-bytes", "4096"])
            .run()
            .expect_code(1)
            .expect_said(&[
                "failed: latin1: the text is not UTF-8: the byte at offset 3 ",
                "failed: late (piece 3): the text is not UTF-8",
            ]);
        assert_eq!(ended.summary()["retried"], 0);
        assert_eq!(place.files("out"), ["good.out"], "{op}");
    }
}

#[test]
fn many_failures_are_shown_in_part_and_counted_in_full() {
    let lines = "x\n".repeat(100);
    let ended = mutirao(["run", "-", "--op", "exec:false", "--out", "-"])
        .args(["--attempts", "1"])
        .stdin(lines)
        .run()
        .expect_code(1)
        .expect_said(&["and 80 more", "mutirao: 100 of 100 tasks failed"]);
    assert!(ended.stderr.lines().count() < 30, "{}", ended.stderr);
}

#[test]
fn a_worker_without_permission_runs_no_commands() {
    let mut trio = Trio::new("push-pull", Wire::Ipc).with_worker_flags(&[]);
    let proof = trio.place.arg("proof");
    trio.place.write("in/a", "x");
    let input = trio.place.arg("in");
    let sink = trio.sink();
    let op = format!("exec:touch {proof}");
    let ventilator = trio.ventilator(&[&input, "--op", &op]);
    let worker = trio.worker();
    ventilator
        .wait()
        .expect_code(1)
        .expect_said(&["failed: a: this worker runs no commands: start it with --allow-exec\n"]);
    assert!(!trio.place.path("proof").exists());
    dismiss(worker);
    dismiss(sink);
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let place = Place::new();
    place.write("in/a", "x");
    mutirao([
        "run",
        &place.arg("in"),
        "--op",
        "exec:no-such-command --now",
    ])
    .args(["--out", &place.arg("out")])
    .run()
    .expect_code(1)
    .expect_said(&["failed: a: cannot start “no-such-command”"]);
}

/// A task as it travels, for a ventilator that checks nothing.
#[derive(Serialize)]
struct RawTask {
    place: (String, u32, u64, bool),
    op: String,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
    problem: Option<String>,
}

fn raw_task(op: &str, name: &str, input: u32) -> RawTask {
    RawTask {
        place: (name.to_owned(), input, 0, true),
        op: op.to_owned(),
        data: b"DATA".to_vec(),
        problem: None,
    }
}

/// Sends tasks through a real worker and sink; the summary.
fn send<T: Serialize>(trio: &Trio, tasks: &[T]) -> mutirao::trio::Summary {
    let (tasks_at, results_at) = trio.endpoints();
    let config = VentilatorConfig {
        pattern: trio.pattern.parse().unwrap(),
        ..VentilatorConfig::new(tasks_at.parse().unwrap(), results_at.parse().unwrap())
    };
    let mut ventilator = Ventilator::start(config).unwrap();
    for task in tasks {
        ventilator.submit(task).unwrap();
    }
    ventilator.finish(Some(crate::harness::DEADLINE)).unwrap()
}

#[test]
fn an_operation_that_the_worker_does_not_know_fails_and_the_worker_lives() {
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        let sink = trio.sink();
        let worker = trio.worker();
        let tasks = [
            raw_task("frobnicate", "a", 0),
            raw_task("lowercase", "b", 1),
            raw_task("gzip:99", "c", 2),
        ];
        let summary = send(&trio, &tasks);
        assert_eq!((summary.progress.safe, summary.progress.failed), (3, 2));
        let reasons: Vec<_> = summary
            .failures
            .iter()
            .map(|(_, why)| why.as_str())
            .collect();
        let of = |task: &str| reasons.iter().find(|why| why.starts_with(task)).copied();
        assert_eq!(
            of("a: "),
            Some("a: unknown operation “frobnicate”; `mutirao ops` lists the ones there are")
        );
        assert!(of("c: ").unwrap().contains("a level from 0 to 9"));
        assert_eq!(trio.place.read("out/b.out"), b"data");
        assert_eq!(trio.place.files("out"), ["b.out"], "{pattern}");
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn tasks_of_another_program_fail_and_worker_and_sink_live() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    let sink = trio.sink();
    let worker = trio.worker();
    let summary = send(&trio, &[12345u64, 7]);
    assert_eq!((summary.progress.safe, summary.progress.failed), (2, 2));
    assert!(summary.failures[0].1.contains("the worker cannot read it"));
    let summary = send(&trio, &[raw_task("lowercase", "b", 0)]);
    assert_eq!(summary.progress.failed, 0);
    assert_eq!(trio.place.read("out/b.out"), b"data");
    dismiss(worker);
    dismiss(sink);
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_refused() {
    let mut trio = Trio::new("req-rep", Wire::Ipc);
    let sink = trio.sink();
    let worker = trio.worker();
    let names = [
        "../evil",
        "/etc/evil",
        "a/../../evil",
        ".mutirao/evil",
        "a\0b",
    ];
    let tasks: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, i)| raw_task("lowercase", name, i))
        .collect();
    let summary = send(&trio, &tasks);
    assert_eq!(summary.progress.failed, names.len() as u64);
    assert_eq!(trio.place.files("out"), [""; 0]);
    assert!(!trio.place.path("evil.out").exists());
    dismiss(worker);
    dismiss(sink);
}

#[test]
fn a_result_over_the_payload_limit_fails_its_task() {
    let mut trio = Trio::new("push-pull", Wire::Ipc).with(&["--max-payload-bytes", "1MiB"]);
    trio.place.write("in/grows", "ΐ".repeat(400_000));
    trio.place.write("in/stays", "a");
    let input = trio.place.arg("in");
    let sink = trio.sink();
    let worker = trio.worker();
    // In upper case, this letter takes three times the bytes.
    let ventilator = trio.ventilator(&[&input, "--op", "uppercase"]);
    ventilator.wait().expect_code(1).expect_said(&[
        "failed: grows: the result takes 2400000 bytes and may take 1048576: raise",
    ]);
    assert_eq!(trio.place.files("out"), ["stays.out"]);

    let ventilator = trio.ventilator(&[&input, "--op", "exec:head -c 3000000 /dev/zero"]);
    ventilator
        .wait()
        .expect_code(1)
        .expect_said(&["failed: grows: ", "more than 1048576 bytes"]);
    dismiss(worker);
    dismiss(sink);
}
