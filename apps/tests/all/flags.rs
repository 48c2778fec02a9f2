//! The command line: help for a person, one sentence for a mistake.

use crate::harness::{Launch, Place, mutirao};

const COMMANDS: [&str; 14] = [
    "run",
    "ventilator",
    "worker",
    "sink",
    "broker",
    "submit",
    "results",
    "jobs",
    "job",
    "cancel",
    "status",
    "compare",
    "keygen",
    "ops",
];

#[test]
fn help_explains_every_command_with_an_example() {
    for command in COMMANDS {
        let ended = mutirao([command, "--help"]).run().expect_code(0);
        let help = ended.stdout_text();
        assert!(help.contains("Example"), "{command}:\n{help}");
        assert!(help.contains(&format!("mutirao {command}")), "{command}");
        assert!(mutirao(["help", command]).run().stdout == ended.stdout);
    }
    let ended = mutirao(["--help"]).run().expect_code(0);
    for command in COMMANDS {
        assert!(ended.stdout_text().contains(command));
    }
    let version = mutirao(["--version"]).run().expect_code(0);
    assert!(version.stdout_text().starts_with("mutirao "));
}

#[test]
fn every_flag_names_its_variable() {
    for command in COMMANDS.into_iter().filter(|command| *command != "ops") {
        let ended = mutirao([command, "--help"]).run();
        let help = ended.stdout_text();
        // Long lines are wrapped anywhere.
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let flags = help
            .lines()
            .filter(|line| line.trim_start().starts_with("--"));
        let variables = words.matches("[env: MUTIRAO_").count();
        assert!(variables >= flags.count(), "{command}: {variables}\n{help}");
    }
}

#[test]
fn the_list_of_operations_fits_a_page() {
    let ended = mutirao(["ops"]).run().expect_code(0);
    let list = ended.stdout_text();
    for op in [
        "lowercase",
        "uppercase",
        "wordcount",
        "linecount",
        "sha256",
        "gzip",
        "sleep",
        "noop",
        "exec",
    ] {
        assert!(
            list.lines().any(|line| line.starts_with(op)),
            "{op}:\n{list}"
        );
    }
    for line in list.lines() {
        let width = line.chars().count();
        assert!(width <= 100, "{width} columns: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
}

#[test]
fn keygen_makes_keys_once() {
    let place = Place::new();
    let keys = place.arg("keys");
    let first = mutirao(["keygen", &keys]).run().expect_code(0);
    assert_eq!(
        place.files("keys"),
        [
            "allow/client.pub",
            "allow/server.pub",
            "client.key",
            "client.pub",
            "server.key",
            "server.pub"
        ]
    );
    assert!(first.stdout_text().contains("server.key (made)"));
    let secret = place.read("keys/server.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(place.path("keys/server.key"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "others may read the secret key");
    let again = mutirao(["keygen", &keys]).run().expect_code(0);
    assert!(
        again
            .stdout_text()
            .contains("server.key (kept, it was there)")
    );
    assert_eq!(place.read("keys/server.key"), secret);

    place.write("file", "x");
    mutirao(["keygen", &place.arg("file")])
        .run()
        .expect_code(3)
        .expect_sentence(&["file", "another folder"]);
}

#[test]
fn a_command_line_that_makes_no_sense_gets_one_sentence() {
    let place = Place::new();
    place.write("in/a", "x");
    let input = place.arg("in");
    let keys = place.arg("keys");
    mutirao(["keygen", &keys]).run().expect_code(0);
    let key = place.arg("keys/server.key");
    let public = place.arg("keys/server.pub");
    let run = |flags: &[&str]| mutirao(["run", &input, "--op", "lowercase"]).args(flags);
    let worker = |flags: &[&str]| mutirao(["worker"]).args(flags);
    let wrong = [
        (
            run(&["--pattern", "push-pop"]),
            "choose push-pull, req-rep, pub-sub or broker",
        ),
        (run(&["--patern", "push-pull"]), "'--pattern'"),
        (run(&["--out", "-"]), "--out - goes only with INPUT `-`"),
        (run(&["-"]), "goes with no other INPUT"),
        (run(&["--attempts", "0"]), "1..=1000"),
        (run(&["--attempts", "many"]), "--attempts"),
        (run(&["--workers", "0"]), "1..=1024"),
        (run(&["--chunk-bytes", "0"]), "at least 1 byte"),
        (run(&["--chunk-bytes", "1 MB"]), "write it like"),
        (run(&["--heartbeat", "0.5s"]), "write it like"),
        (run(&["--heartbeat", "1ms"]), "shorter than 10 ms"),
        (run(&["--summary", "xml"]), "text, json, none"),
        (run(&["--op", "lowercase"]), "cannot be used multiple times"),
        (mutirao(["run", &input]), "--op"),
        (mutirao(["run", "--op", "lowercase"]), "INPUT"),
        (
            mutirao(["run", &input, "--op", "lowrcase"]),
            "unknown operation “lowrcase”",
        ),
        (
            mutirao(["run", &input, "--op", "noop:3"]),
            "it takes no argument",
        ),
        (
            mutirao(["run", &input, "--op", "exec:echo 'a"]),
            "every quote closed",
        ),
        (
            mutirao(["ventilator", &input, "--op", "nop"]),
            "unknown operation “nop”",
        ),
        (mutirao(["wroker"]), "'worker'"),
        (mutirao(["sink"]), "--out"),
        (mutirao(["keygen"]), "DIR"),
        (mutirao(["ops", "--all"]), "--all"),
        (worker(&["--slots", "0"]), "1..=1024"),
        (
            mutirao(["sink", "--out", "x", "--insecure", "--curve-key", &key]),
            "--insecure contradicts --curve-key",
        ),
        (
            worker(&["--curve-server", &public]),
            "--curve-server FILE needs --curve-key",
        ),
        // What means nothing to a role, it does not take.
        (worker(&["--insecure"]), "unexpected argument '--insecure'"),
        (worker(&["--curve-allow", &keys]), "'--curve-allow'"),
        (
            mutirao(["sink", "--out", "x", "--curve-server", &public]),
            "--curve-server needs --broker",
        ),
        (
            worker(&["--curve-key", &key]),
            "--curve-key needs --curve-server FILE as well",
        ),
        (
            mutirao(["sink", "--out", "x", "--curve-key", &key]),
            "--curve-allow DIR",
        ),
        (
            mutirao(["sink", "--out", &keys, "--bind", "tcp://0.0.0.0:*"]),
            "add --curve-key and --curve-allow (see `mutirao keygen --help`), or --insecure",
        ),
        (
            mutirao(["ventilator", &input, "--op", "noop", "--bind", "tcp://*:*"]),
            "or --insecure",
        ),
    ];
    for (launch, part) in wrong {
        let ended = launch.run().expect_code(2).expect_sentence(&[part]);
        assert!(ended.stdout.is_empty());
    }
}

#[test]
fn a_wrong_variable_is_named_like_a_wrong_flag() {
    let place = Place::new();
    place.write("in/a", "x");
    mutirao(["run", &place.arg("in"), "--op", "noop"])
        .env("MUTIRAO_PATTERN", "none")
        .run()
        .expect_code(2)
        .expect_sentence(&["--pattern", "choose push-pull, req-rep, pub-sub or broker"]);
}

#[test]
fn variables_that_mean_nothing_to_a_role_are_passed_over() {
    let place = Place::new();
    let all = |launch: Launch| {
        launch
            .env("MUTIRAO_INSECURE", "true")
            .env("MUTIRAO_CURVE_ALLOW", place.arg("nowhere"))
    };
    let nobody = place.ipc("nobody");
    let worker = mutirao(["worker", "--ventilator", &nobody, "--sink", &nobody]);
    let worker = all(worker).start();
    worker.wait_for("slot");
    crate::trio::dismiss(worker);
    let sink = mutirao(["sink", "--out", &place.arg("out"), "--bind", &nobody]);
    let sink = sink.env("MUTIRAO_CURVE_SERVER", "nowhere").start();
    sink.wait_for("results at ");
    crate::trio::dismiss(sink);
}

#[test]
fn an_empty_variable_counts_as_not_given() {
    let place = Place::new();
    place.write("in/a", "x");
    let all = |launch: Launch| {
        let help = mutirao(["help", launch.name()]).run();
        let help = help.stdout_text();
        let names = help.split("[env: ").skip(1);
        let names = names.filter_map(|rest| rest.split(['=', ']']).next());
        names.fold(launch, |launch, name| launch.env(name.trim(), ""))
    };
    let out = place.arg("out");
    all(mutirao([
        "run",
        &place.arg("in"),
        "--op",
        "noop",
        "--out",
        &out,
    ]))
    .run()
    .expect_code(0);
    assert_eq!(place.files("out"), ["a.out"]);
    all(mutirao(["run", "--op", "noop"]))
        .run()
        .expect_code(2)
        .expect_sentence(&["INPUT"]);
    all(mutirao(["sink"]))
        .run()
        .expect_code(2)
        .expect_sentence(&["--out"]);
    all(mutirao(["keygen"]))
        .run()
        .expect_code(2)
        .expect_sentence(&["DIR"]);
    let nobody = place.ipc("nobody");
    let worker = all(mutirao(["worker"]).args(["--ventilator", &nobody])).start();
    worker.wait_for("to tcp://127.0.0.1:5559");
    crate::trio::dismiss(worker);
}

#[test]
fn without_a_command_the_help_is_shown() {
    let ended = mutirao([""; 0]).run().expect_code(2);
    assert!(ended.stderr.contains("Usage: mutirao"), "{}", ended.stderr);
}

#[test]
fn insecure_is_what_it_takes_to_listen_beyond_this_machine() {
    let place = Place::new();
    let sink = mutirao([
        "sink",
        "--out",
        &place.arg("out"),
        "--bind",
        "tcp://0.0.0.0:*",
    ])
    .args(["--insecure"])
    .start();
    sink.wait_for("results at tcp://0.0.0.0:");
    crate::trio::dismiss(sink);
}
