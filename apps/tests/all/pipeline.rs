//! The job itself: every operation, pattern and transport on real files and lines.

use rustix::process::Signal;

use crate::expect::{OPS, check_results, files, write_files};
use crate::harness::{Place, mutirao};
use crate::trio::{PATTERNS, Trio, Wire, dismiss};

fn three_processes(pattern: &'static str, wire: Wire) {
    let mut trio = Trio::new(pattern, wire);
    let files = files();
    write_files(&trio.place, "in", &files);
    let input = trio.place.arg("in");
    let sink = trio.sink();
    let mut workers = Vec::new();
    for op in OPS {
        // Small pieces, so that results have to be put together.
        let job = [&input, "--op", op, "--chunk-bytes", "4096"];
        let ventilator = trio.ventilator(&job);
        if workers.is_empty() {
            workers = vec![trio.worker(), trio.worker()];
        }
        let ended = ventilator.wait().expect_code(0);
        let summary = ended.summary();
        assert_eq!(summary["ok"], summary["tasks"], "{op}: {summary}");
        assert_eq!(summary["failed"], 0, "{op}: {summary}");
        check_results(&trio.place, "out", op, &files);
    }
    workers.into_iter().for_each(dismiss);
    dismiss(sink);
}

#[test]
fn three_processes_push_pull_over_ipc() {
    three_processes("push-pull", Wire::Ipc);
}

#[test]
fn three_processes_push_pull_over_tcp() {
    three_processes("push-pull", Wire::Tcp);
}

#[test]
fn three_processes_req_rep_over_ipc() {
    three_processes("req-rep", Wire::Ipc);
}

#[test]
fn three_processes_req_rep_over_tcp() {
    three_processes("req-rep", Wire::Tcp);
}

#[test]
fn three_processes_pub_sub_over_ipc() {
    three_processes("pub-sub", Wire::Ipc);
}

#[test]
fn three_processes_pub_sub_over_tcp() {
    three_processes("pub-sub", Wire::Tcp);
}

#[test]
fn one_process_does_every_operation_by_every_pattern() {
    let place = Place::new();
    let files = files();
    write_files(&place, "in", &files);
    for (op, pattern) in OPS.iter().zip(PATTERNS.iter().cycle()) {
        let out = format!("out-{}", &op[..4]);
        mutirao(["run", &place.arg("in"), "--op", op, "--pattern", pattern])
            .args(["--out", &place.arg(&out), "--chunk-bytes", "4096"])
            .args(["--workers", "3"])
            .run()
            .expect_code(0);
        check_results(&place, &out, op, &files);
    }
}

#[test]
fn operations_without_a_result_leave_empty_files() {
    let place = Place::new();
    place.write("in/a", "5\n");
    place.write("in/b", "0\n");
    for op in ["noop", "sleep", "sleep:1"] {
        mutirao([
            "run",
            &place.arg("in"),
            "--op",
            op,
            "--out",
            &place.arg("out"),
        ])
        .run()
        .expect_code(0);
        assert_eq!(place.read("out/a.out"), b"");
        assert_eq!(place.read("out/b.out"), b"");
    }
}

#[test]
fn a_file_may_be_named_alone_and_its_result_keeps_the_name() {
    let place = Place::new();
    place.write("entrada/exemplo1.txt", "ÁÉÍ\n");
    mutirao([
        "run",
        &place.arg("entrada/exemplo1.txt"),
        "--op",
        "lowercase",
    ])
    .args(["--out", &place.arg("resultados")])
    .run()
    .expect_code(0);
    assert_eq!(place.files("resultados"), ["exemplo1.txt.out"]);
    assert_eq!(
        place.read("resultados/exemplo1.txt.out"),
        "áéí\n".as_bytes()
    );
}

fn lines(count: usize) -> (String, String) {
    let input: String = (0..count).map(|n| format!("Linha Nº {n}\n")).collect();
    let output = input.to_lowercase();
    (input, output)
}

#[test]
fn lines_come_out_in_order_on_standard_output() {
    let (input, output) = lines(20_000);
    for pattern in PATTERNS {
        let ended = mutirao(["run", "-", "--op", "lowercase", "--out", "-"])
            .args(["--pattern", pattern, "--workers", "3", "--summary", "none"])
            .stdin(input.clone())
            .run()
            .expect_code(0);
        assert!(ended.stdout_text() == output, "{pattern}");
        assert_eq!(ended.stderr, "", "{pattern}");
    }
}

#[test]
fn a_line_comes_out_while_the_next_is_not_there_yet() {
    let mut process = mutirao(["run", "-", "--op", "uppercase", "--out", "-"])
        .stdin_open()
        .start();
    process.write_stdin(b"first\n");
    process.wait_for_output("FIRST");
    process.write_stdin(b"second without an end");
    process.close_stdin();
    let ended = process.wait().expect_code(0);
    assert_eq!(ended.stdout_text(), "FIRST\nSECOND WITHOUT AN END\n");
}

#[test]
fn lines_go_into_one_file_of_a_folder() {
    let place = Place::new();
    let (input, output) = lines(1000);
    mutirao(["run", "-", "--op", "lowercase", "--out", &place.arg("out")])
        .stdin(input)
        .run()
        .expect_code(0);
    assert_eq!(place.files("out"), ["stdin.out"]);
    assert!(place.read("out/stdin.out") == output.as_bytes());
}

#[test]
fn lines_go_through_three_processes() {
    let (input, output) = lines(5000);
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        let sink = trio.sink();
        let launch = trio.ventilator_launch(&["-", "--op", "lowercase"]);
        let ventilator = trio.start(launch.stdin(input.clone()));
        let worker = trio.worker();
        ventilator.wait().expect_code(0);
        assert_eq!(trio.place.files("out"), ["stdin.out"], "{pattern}");
        assert!(trio.place.read("out/stdin.out") == output.as_bytes());
        dismiss(worker);
        dismiss(sink);
    }
}

#[test]
fn every_flag_of_every_role_can_come_from_the_environment() {
    let place = Place::new();
    place.write("in/a", "ABC\nDEF\n");
    let common = |launch: crate::harness::Launch| {
        launch
            .env("MUTIRAO_PATTERN", "req-rep")
            .env("MUTIRAO_HEARTBEAT", "100ms")
            .env("MUTIRAO_MAX_PAYLOAD_BYTES", "1MiB")
            .env("MUTIRAO_ONCE", "1")
    };
    let sink = common(mutirao(["sink"]))
        .env("MUTIRAO_BIND", place.ipc("results"))
        .env("MUTIRAO_OUT", place.arg("out"))
        .start();
    let worker = common(mutirao(["worker"]))
        .env("MUTIRAO_VENTILATOR", place.ipc("tasks"))
        .env("MUTIRAO_SINK", place.ipc("results"))
        .env("MUTIRAO_SLOTS", "3")
        .env("MUTIRAO_ALLOW_EXEC", "true")
        .start();
    assert!(worker.wait_for("slots").contains("3 slots, by req-rep"));
    let ended = common(mutirao(["ventilator"]))
        .env("MUTIRAO_INPUT", place.arg("in"))
        .env("MUTIRAO_OP", "exec:tr A-Z a-z")
        .env("MUTIRAO_BIND", place.ipc("tasks"))
        .env("MUTIRAO_SINK", place.ipc("results"))
        .env("MUTIRAO_CHUNK_BYTES", "4")
        .env("MUTIRAO_ATTEMPTS", "1")
        .env("MUTIRAO_SUMMARY", "json")
        .run()
        .expect_code(0);
    assert_eq!(ended.summary()["tasks"], 1);
    assert_eq!(place.read("out/a.out"), b"abc\ndef\n");
    worker.wait().expect_code(0);
    sink.wait().expect_code(0);

    let ended = mutirao(["run"])
        .env("MUTIRAO_INPUT", place.arg("in"))
        .env("MUTIRAO_OP", "linecount")
        .env("MUTIRAO_OUT", place.arg("run"))
        .env("MUTIRAO_WORKERS", "2")
        .env("MUTIRAO_CHUNK_BYTES", "4")
        .env("MUTIRAO_SUMMARY", "json")
        .run()
        .expect_code(0);
    assert_eq!(ended.summary()["tasks"], 2);
    assert_eq!(place.read("run/a.out"), b"2\n");
}

#[test]
fn a_flag_beats_the_environment_and_a_false_variable_is_no_flag() {
    let place = Place::new();
    let worker = mutirao(["worker", "--slots", "2"])
        .args(["--ventilator", &place.ipc("t"), "--sink", &place.ipc("r")])
        .env("MUTIRAO_SLOTS", "7")
        .env("MUTIRAO_ONCE", "0")
        .env("MUTIRAO_ALLOW_EXEC", "false")
        .start();
    assert!(worker.wait_for("slots").contains("2 slots"));
    dismiss(worker);
}

#[test]
fn the_summary_counts_right() {
    let place = Place::new();
    place.write("in/a", "Um\nDois\n");
    place.write("in/b", "TRÊS");
    place.write("in/c", b"\xff\xfe");
    let run = |format| {
        mutirao(["run", &place.arg("in"), "--op", "lowercase"])
            .args(["--out", &place.arg("out"), "--chunk-bytes", "4"])
            .args(["--summary", format])
            .run()
            .expect_code(1)
    };
    let summary = run("json").summary();
    let number = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name}"));
    let fields = [
        ("tasks", 4.0),
        ("ok", 3.0),
        ("failed", 1.0),
        ("retried", 0.0),
        ("duplicates", 0.0),
        ("bytes_in", 15.0),
        ("bytes_out", 13.0),
    ];
    for (name, value) in fields {
        assert_eq!(number(name), value, "{name} in {summary}");
    }
    assert!(number("seconds") > 0.0 && number("tasks_per_second") > 0.0);
    assert_eq!(summary.as_object().unwrap().len(), 9, "{summary}");

    let text = run("text");
    assert_eq!(text.stdout_text(), "");
    assert!(
        text.stderr.contains("4 tasks: 3 ok, 1 failed"),
        "{}",
        text.stderr
    );
    let none = run("none");
    assert!(!none.stderr.contains("4 tasks: "), "{}", none.stderr);
}

#[test]
fn the_json_summary_keeps_off_standard_output_when_results_go_there() {
    let ended = mutirao([
        "run",
        "-",
        "--op",
        "lowercase",
        "--out",
        "-",
        "--summary",
        "json",
    ])
    .stdin("A\nB\n")
    .run()
    .expect_code(0);
    assert_eq!(ended.stdout_text(), "a\nb\n");
    let summary: serde_json::Value = serde_json::from_str(ended.stderr.trim()).unwrap();
    assert_eq!(summary["bytes_out"], 4);
}

#[test]
fn a_sink_takes_the_jobs_of_several_ventilators_at_once() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    let sink = trio.sink();
    let mut jobs = Vec::new();
    for number in 0..3 {
        let name = format!("in{number}/file{number}");
        trio.place
            .write(&name, format!("JOB {number}\n").repeat(5000));
        let tasks = trio.place.ipc(&format!("tasks{number}"));
        let ventilator = mutirao(["ventilator", &trio.place.arg(&format!("in{number}"))])
            .args([
                "--op",
                "lowercase",
                "--bind",
                &tasks,
                "--sink",
                trio.endpoints().1,
            ])
            .args(["--chunk-bytes", "1000"])
            .start();
        let worker = mutirao(["worker", "--ventilator", &tasks])
            .args(["--sink", trio.endpoints().1])
            .start();
        jobs.push((ventilator, worker));
    }
    for (number, (ventilator, worker)) in jobs.into_iter().enumerate() {
        ventilator.wait().expect_code(0);
        let result = trio.place.read(&format!("out/file{number}.out"));
        assert!(result == format!("job {number}\n").repeat(5000).as_bytes());
        dismiss(worker);
    }
    dismiss(sink);
}

#[test]
fn once_ends_worker_and_sink_with_the_job() {
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc)
            .with_worker_flags(&["--once"])
            .with_sink_flags(&["--once"]);
        trio.place.write("in/a", "A");
        let sink = trio.sink();
        let worker = trio.worker();
        let input = trio.place.arg("in");
        let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
        ventilator.wait().expect_code(0);
        worker.wait().expect_code(0);
        sink.wait().expect_code(0);
        assert_eq!(trio.place.read("out/a.out"), b"a");
    }
}

#[test]
fn roles_may_start_in_any_order() {
    for pattern in PATTERNS {
        let mut trio = Trio::new(pattern, Wire::Ipc);
        trio.place.write("in/a", "A");
        let worker = trio.worker();
        let input = trio.place.arg("in");
        let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
        let sink = trio.sink();
        ventilator.wait().expect_code(0);
        assert_eq!(trio.place.read("out/a.out"), b"a");
        worker.signal(Signal::TERM);
        worker.wait().expect_code(0);
        dismiss(sink);
    }
}
