//! Inputs that are not there, not readable or too large; endpoints that are none or taken.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Launch, Place, mutirao};
use crate::trio::{Trio, Wire, dismiss};

fn run(place: &Place, input: &str) -> Launch {
    mutirao([
        "run",
        input,
        "--op",
        "lowercase",
        "--out",
        &place.arg("out"),
    ])
}

#[test]
fn an_input_that_is_missing_or_unreadable_is_named() {
    let place = Place::new();
    place.write("file", "x");
    place.write("also/x", "x");
    place.write("again/x", "x");
    fs::create_dir_all(place.path("empty/of/files")).unwrap();
    for (input, why) in [
        ("missing", "no such file or folder"),
        ("file/below", "cannot be read (Not a directory"),
        ("empty", "the folder holds no file"),
    ] {
        let path = place.arg(input);
        let ended = run(&place, &path).run().expect_code(3);
        ended.expect_sentence(&[&path, why]);
    }
    let ended = run(&place, "/dev/null").run().expect_code(3);
    ended.expect_sentence(&["/dev/null: not a regular file"]);
    let two = run(&place, &place.arg("also")).args([place.arg("again")]);
    two.run()
        .expect_code(3)
        .expect_sentence(&["would both become x.out"]);
    assert!(!place.path("out").exists(), "nothing was begun");
}

#[test]
fn the_ventilator_says_the_same_before_it_listens() {
    let place = Place::new();
    mutirao(["ventilator", &place.arg("missing"), "--op", "lowercase"])
        .args(["--bind", &place.ipc("t"), "--sink", &place.ipc("r")])
        .run()
        .expect_code(3)
        .expect_sentence(&["no such file or folder"]);
}

/// Root may read everything, so the binary is started as nobody.
#[test]
fn an_input_without_the_right_to_read_it_is_named() {
    let place = Place::new();
    place.write("in/secret", "x");
    let secret = place.path("in/secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = run(&place, &place.arg("in")).into_command();
    if rustix::process::geteuid().is_root() {
        let binary = place.path("mutirao");
        fs::copy(env!("CARGO_BIN_EXE_mutirao"), &binary).unwrap();
        let mut as_nobody = std::process::Command::new("setpriv");
        as_nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(binary)
            .args(command.get_args());
        command = as_nobody;
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: setpriv cannot be started ({error})");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cannot be read (Permission denied"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn empty_inputs_are_no_mistake() {
    let place = Place::new();
    place.write("in/empty", "");
    run(&place, &place.arg("in")).run().expect_code(0);
    assert_eq!(place.read("out/empty.out"), b"");

    let ended = mutirao(["run", "-", "--op", "lowercase", "--out", "-"]).run();
    assert_eq!(ended.expect_code(0).stdout, b"");
}

#[test]
fn a_closed_standard_input_is_an_empty_one() {
    let command = mutirao(["run", "-", "--op", "lowercase", "--out", "-"]).into_command();
    let output = std::process::Command::new("sh")
        .args(["-c", "exec \"$@\" <&-", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("0 tasks"), "{said}");
}

#[test]
fn a_line_over_the_payload_limit_is_named_and_the_others_are_done() {
    let lines = format!("A\n{}\nB\n", "x".repeat(5000));
    let ended = mutirao(["run", "-", "--op", "lowercase", "--out", "-"])
        .args(["--max-payload-bytes", "4096"])
        .stdin(lines)
        .run()
        .expect_code(1)
        .expect_said(&["failed: standard input: the line that starts at line 2 is over the limit"]);
    assert_eq!(ended.stdout_text(), "a\nb\n");

    let place = Place::new();
    place.write("in/long", format!("A\n{}\nB\n", "x".repeat(5000)));
    place.write("in/short", "A\n");
    run(&place, &place.arg("in"))
        .args(["--max-payload-bytes", "4096", "--chunk-bytes", "1000"])
        .run()
        .expect_code(1)
        .expect_said(&["/in/long: the line that starts at byte 2 is over the limit of 4096 bytes"]);
    assert_eq!(place.files("out"), ["short.out"]);
}

#[test]
fn a_whole_file_over_the_payload_limit_is_named_and_the_others_are_done() {
    let place = Place::new();
    place.write("in/large", "x".repeat(5000));
    place.write("in/small", "x");
    mutirao([
        "run",
        &place.arg("in"),
        "--op",
        "sha256",
        "--out",
        &place.arg("out"),
    ])
    .args(["--max-payload-bytes", "4096"])
    .run()
    .expect_code(1)
    .expect_said(&["/in/large: 5000 bytes are over the limit of 4096"]);
    assert_eq!(place.files("out"), ["small.out"]);
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_alone() {
    let place = Place::new();
    place.write("in/a", "AAAA\n".repeat(100_000));
    place.write("in/b", "B\n");
    // The job stands still until the sink comes, and the ventilator's window is not the whole job.
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    for number in 0..120 {
        trio.place
            .write(&format!("in/{number:03}"), "x\n".repeat(200_000));
    }
    trio.place.write("in/zzz", "Z\n");
    let input = trio.place.arg("in");
    let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
    trio.place.write("in/zzz", "changed\n");
    let sink = trio.sink();
    let worker = trio.worker();
    ventilator
        .wait()
        .expect_code(1)
        .expect_said(&["/in/zzz: changed while it was read"]);
    assert_eq!(trio.place.files("out").len(), 120);
    dismiss(worker);
    dismiss(sink);
}

#[test]
fn a_port_in_use_is_named() {
    let place = Place::new();
    place.write("in/a", "x");
    // Two neighbours, of which the second is taken, and then the first.
    let (first, second) = neighbours();
    let port = first.local_addr().unwrap().port();
    let at = format!("tcp://127.0.0.1:{port}");
    let ventilator = |bind: &str| {
        mutirao([
            "ventilator",
            &place.arg("in"),
            "--op",
            "lowercase",
            "--bind",
            bind,
        ])
        .run()
        .expect_code(3)
    };
    let sink = |bind: &str| {
        mutirao(["sink", "--out", &place.arg("out"), "--bind", bind])
            .run()
            .expect_code(3)
    };
    ventilator(&at).expect_sentence(&[&at, "in use"]);
    sink(&at).expect_sentence(&[&at, "in use"]);
    drop(first);
    let next = format!("tcp://127.0.0.1:{}", port + 1);
    ventilator(&at).expect_sentence(&[&next, "in use"]);
    sink(&at).expect_sentence(&[&next, "in use"]);
    drop(second);
}

fn neighbours() -> (TcpListener, TcpListener) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if let Some(next) = port.checked_add(1)
            && let Ok(second) = TcpListener::bind(("127.0.0.1", next))
        {
            return (first, second);
        }
    }
}

#[test]
fn a_socket_file_in_use_is_named_and_one_of_the_dead_is_not_in_the_way() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    let sink = trio.sink();
    trio.sink_launch()
        .run()
        .expect_code(3)
        .expect_sentence(&["in use"]);
    sink.kill();
    let sink = trio.sink();
    dismiss(sink);
    trio.place.write("file", "x");
    for (bind, why) in [
        (trio.place.ipc("file"), "something that is not a socket"),
        (trio.place.ipc("file/below"), "not a folder"),
        (
            trio.place.ipc("missing/socket"),
            "the folder does not exist",
        ),
    ] {
        mutirao(["sink", "--out", &trio.place.arg("out"), "--bind", &bind])
            .run()
            .expect_code(3)
            .expect_sentence(&[&bind, why]);
    }
    assert_eq!(trio.place.read("file"), b"x");
}

#[test]
fn a_bad_endpoint_gets_its_sentence() {
    let place = Place::new();
    place.write("in/a", "x");
    let long = format!("ipc://{}", "x".repeat(120));
    for endpoint in [
        "",
        "tcp",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://:5557",
        "tcp://127.0.0.1:99999",
        "udp://127.0.0.1:5557",
        "127.0.0.1:5557",
        "tcp://::1:5557",
        "ipc://",
        "inproc://x",
        "memory://x",
        "tcp://a;b:1",
        "tcp://127.0.0.1:65535",
        "tcp://a b:1",
        "tcp://127.0.0.1:1\n",
        &long,
    ] {
        mutirao(["sink", "--out", &place.arg("out"), "--bind", endpoint])
            .run()
            .expect_code(2)
            .expect_sentence(&["tcp://"]);
        mutirao(["worker", "--ventilator", endpoint, "--sink", "ipc://r"])
            .run()
            .expect_code(2)
            .expect_sentence(&["tcp://"]);
    }
    for endpoint in ["tcp://*:5557", "tcp://127.0.0.1:0", "tcp://127.0.0.1:*"] {
        mutirao(["worker", "--ventilator", endpoint, "--sink", "ipc://r"])
            .run()
            .expect_code(3)
            .expect_sentence(&[endpoint, "a connection needs"]);
    }
    // Addresses that no machine here has.
    for endpoint in ["tcp://192.0.2.1:5557", "tcp://no-such-interface:5557"] {
        mutirao([
            "sink",
            "--out",
            &place.arg("out"),
            "--bind",
            endpoint,
            "--insecure",
        ])
        .run()
        .expect_code(3)
        .expect_sentence(&[endpoint]);
    }
}

/// No command line and no environment can carry a NUL, so the library is asked.
#[test]
fn a_nul_in_an_endpoint_is_refused() {
    for text in ["tcp://127.0.0.1:5557\0", "ipc://a\0b", "\0", "tcp://a\0:1"] {
        let error = text.parse::<mutirao::Endpoint>().unwrap_err().to_string();
        assert!(error.contains("NUL"), "{error}");
    }
}
