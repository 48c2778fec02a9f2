//! Outputs that cannot be written, have no room, or are read by nobody.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Place, mutirao};
use crate::trio::{Trio, Wire, dismiss};

#[test]
fn an_output_folder_that_is_a_file_is_named() {
    let place = Place::new();
    place.write("in/a", "x");
    place.write("file", "precious");
    for out in ["file", "file/below"] {
        let out = place.arg(out);
        mutirao(["run", &place.arg("in"), "--op", "lowercase", "--out", &out])
            .run()
            .expect_code(3)
            .expect_sentence(&[&out, "another --out"]);
        mutirao(["sink", "--bind", &place.ipc("r"), "--out", &out])
            .run()
            .expect_code(3)
            .expect_sentence(&[&out, "another --out"]);
    }
    assert_eq!(place.read("file"), b"precious");
}

#[test]
fn an_output_that_no_one_may_write_is_named() {
    let place = Place::new();
    place.write("in/a", "x");
    let out = "/proc/mutirao";
    mutirao(["run", &place.arg("in"), "--op", "lowercase", "--out", out])
        .run()
        .expect_code(3)
        .expect_sentence(&[out, "another --out"]);
}

#[test]
fn something_in_the_way_of_one_result_fails_that_one() {
    let place = Place::new();
    place.write("in/a", "A");
    place.write("in/b/c", "C");
    place.write("in/d", "D");
    fs::create_dir_all(place.path("out/a.out/full")).unwrap();
    place.write("out/b", "a file");
    mutirao([
        "run",
        &place.arg("in"),
        "--op",
        "lowercase",
        "--out",
        &place.arg("out"),
    ])
    .run()
    .expect_code(1)
    .expect_said(&[
        "/out/a.out is a folder, not a place for a result",
        "/out/b is a file where a folder has to be",
        "2 of 3 tasks failed",
    ]);
    assert_eq!(place.read("out/d.out"), b"d");
    assert_eq!(place.files("out"), ["b", "d.out"]);
}

#[test]
fn a_link_in_the_output_folder_is_not_followed() {
    let place = Place::new();
    place.write("in/sub/a", "A");
    place.write("elsewhere/a", "precious");
    fs::create_dir(place.path("out")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("out/sub")).unwrap();
    mutirao([
        "run",
        &place.arg("in"),
        "--op",
        "lowercase",
        "--out",
        &place.arg("out"),
    ])
    .run()
    .expect_code(1)
    .expect_said(&["is a link; results follow none"]);
    assert_eq!(place.files("elsewhere"), ["a"]);
}

/// Results among the inputs would be inputs of the next run.
#[test]
fn results_do_not_become_inputs() {
    let place = Place::new();
    place.write("in/a", "A");
    place.write("in/b/c", "C");
    for out in ["in", "in/results", "in/b"] {
        let out = place.arg(out);
        mutirao(["run", &place.arg("in"), "--op", "lowercase", "--out", &out])
            .run()
            .expect_code(2)
            .expect_sentence(&[&out, "would be read as inputs"]);
    }
    assert_eq!(place.files("in"), ["a", "b/c"]);
    // A single file next to its result is fine, twice.
    for _ in 0..2 {
        mutirao([
            "run",
            &place.arg("in/a"),
            "--op",
            "lowercase",
            "--out",
            &place.arg("in"),
        ])
        .run()
        .expect_code(0);
    }
    assert_eq!(place.files("in"), ["a", "a.out", "b/c"]);
    // So is a folder next to the one of the results.
    mutirao([
        "run",
        &place.arg("in"),
        "--op",
        "lowercase",
        "--out",
        &place.arg("in-results"),
    ])
    .run()
    .expect_code(0);
}

#[test]
fn a_full_disk_behind_standard_output_is_told() {
    let command = mutirao(["run", "-", "--op", "lowercase", "--out", "-"]).into_command();
    let full = match File::options().write(true).open("/dev/full") {
        Ok(full) => full,
        Err(error) => return eprintln!("SKIPPED: /dev/full: {error}"),
    };
    let mut child = rebuilt(&command)
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    child.stdin.take().unwrap().write_all(b"A\nB\n").unwrap();
    let output = output_of(child);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("standard output: No space left"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// What a child says and how it ends, with a deadline.
fn output_of(mut child: std::process::Child) -> std::process::Output {
    let pid = rustix::process::Pid::from_child(&child);
    let over = std::time::Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if std::time::Instant::now() > over {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn rebuilt(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

/// `mutirao … | head -1`: the reader has seen enough, and wants no complaint.
#[test]
fn a_reader_that_has_seen_enough_ends_the_job_without_a_word() {
    let place = Place::new();
    place.write("lines", "LINE\n".repeat(1_000_000));
    let command = mutirao(["run", "-", "--op", "lowercase", "--out", "-"]).into_command();
    let begun = std::time::Instant::now();
    let mut child = rebuilt(&command)
        .stdin(File::open(place.path("lines")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    read_a_line(child.stdout.take().unwrap());
    let output = output_of(child);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "", "{:?}", output.status.signal());
    assert_eq!(output.status.code(), Some(141), "as after SIGPIPE");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// The same while standard input is silent: nobody must press a key first.
#[test]
fn a_reader_that_is_gone_ends_the_job_although_nothing_more_comes_in() {
    let command = mutirao(["run", "-", "--op", "lowercase", "--out", "-"]).into_command();
    let mut child = rebuilt(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    use std::io::Write as _;
    stdin.write_all(b"A\n").unwrap();
    crate::harness::wait_until(Duration::from_secs(20), "its end", || {
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(141));
    drop(stdin);
}

fn read_a_line(from: impl std::io::Read) {
    use std::io::BufRead as _;
    let mut line = String::new();
    std::io::BufReader::new(from).read_line(&mut line).unwrap();
    assert_eq!(line, "line\n");
}

#[test]
fn lists_end_quietly_when_their_reader_is_gone() {
    for args in [&["ops"][..], &["--help"], &["run", "--help"]] {
        let mut child = rebuilt(&mutirao(args).into_command())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = output_of(child);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
    }
}

/// A file system of so many bytes, as long as it lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<SmallDisk<'a>> {
        fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let mounted = mount.arg(at).stderr(Stdio::null()).status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(SmallDisk(at))
    }

    fn grow(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]);
        assert!(mount.arg(self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_the_job_goes_on_when_there_is_room() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    let out = trio.place.path("out");
    let Some(disk) = SmallDisk::mount(&out, "1m") else {
        return eprintln!("SKIPPED: no right to mount a small file system");
    };
    for number in 0..20 {
        trio.place
            .write(&format!("in/{number}"), "X\n".repeat(50_000));
    }
    let input = trio.place.arg("in");
    let run =
        || mutirao(["run", &input, "--op", "lowercase"]).args(["--out", out.to_str().unwrap()]);
    run()
        .run()
        .expect_code(3)
        .expect_sentence(&["no space left", "free some and start again"]);
    let sink = trio.sink();
    let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
    let worker = trio.worker();
    sink.wait().expect_code(3).expect_said(&["no space left"]);
    disk.grow("10m");
    let sink = trio.sink();
    ventilator.wait().expect_code(0);
    for number in 0..20 {
        assert!(trio.place.read(&format!("out/{number}.out")) == "x\n".repeat(50_000).as_bytes());
    }
    assert_eq!(trio.place.files("out").len(), 20);
    dismiss(worker);
    dismiss(sink);
    drop(disk);
}

#[test]
fn two_sinks_do_not_write_one_job() {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    trio.place.write("in/a", "A");
    let input = trio.place.arg("in");
    let op = ["--op", "exec:sh -c 'sleep 5'"];
    let run = || mutirao(["run", &input, "--out", &trio.place.arg("out")]).args(op);
    let first = run().start();
    crate::harness::wait_until(Duration::from_secs(20), "the journal", || {
        trio.place
            .files("out")
            .iter()
            .any(|name| name.ends_with("journal"))
    });
    let second = run().run().expect_code(3);
    second.expect_sentence(&["another sink is writing this job"]);
    first.kill();
    let sink = trio.sink();
    dismiss(sink);
}
