//! `mutirao compare`: what it prints and writes, over real sockets and through its own proxy.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Ended, Place, mutirao};

/// As quick as it goes.
const QUICK: [&str; 4] = ["--seconds", "0.2", "--rounds", "1"];

fn compare(arguments: &[&str]) -> Ended {
    mutirao(["compare"]).args(QUICK).args(arguments).run()
}

fn json(place: &Place) -> Value {
    serde_json::from_slice(&place.read("report/results.json")).expect("JSON")
}

/// The measurements of one question about one transport.
fn of<'a>(json: &'a Value, question: &str, transport: &str) -> Vec<&'a Value> {
    let all = json["measurements"].as_array().expect("a list");
    let wanted = |row: &&Value| row["question"] == question && row["transport"] == transport;
    all.iter().filter(wanted).collect()
}

#[test]
fn a_quick_comparison_fills_the_tables_and_the_report() {
    let place = Place::new();
    let report = place.arg("report");
    let three = [
        "--transports",
        "tcp,zmq-tcp,zmq-inproc",
        "--sizes",
        "16",
        "--loss",
        "0",
        "--seed",
        "5",
    ];
    let ended = compare(&[&three[..], &["--report", &report]].concat()).expect_code(0);
    check_text(&ended);
    assert_eq!(
        place.files("report"),
        ["report.html", "results.csv", "results.json", "summary.svg"]
    );
    let json = json(&place);
    check_json(&json);
    check_csv(&place, json["measurements"].as_array().unwrap().len());
    check_html(&place);
}

fn check_text(ended: &Ended) {
    let text = ended.stdout_text();
    for title in [
        "Throughput\n",
        "Round trip\n",
        "Cost\n",
        "Delivery over a bad path\n",
        "Connecting and recovering\n",
    ] {
        assert!(text.contains(title), "{title}:\n{text}");
    }
    for line in text.lines() {
        let width = line.chars().count();
        assert!(width <= 100, "{width} columns: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
    assert!(text.contains("seed 5"), "{text}");
    assert!(text.contains("zmq-inproc  does not apply: "), "{text}");
}

fn check_json(json: &Value) {
    assert_eq!(json["partial"], false);
    assert_eq!(json["seed"], 5);
    assert!(json["machine"]["cores"].as_u64().unwrap() > 0);
    for transport in ["tcp", "zmq-tcp", "zmq-inproc"] {
        let [throughput, ..] = of(json, "throughput", transport)[..] else {
            panic!("no throughput of {transport}");
        };
        assert_eq!(throughput["status"], "measured", "{throughput}");
        assert!(throughput["delivered_per_second"].as_f64().unwrap() > 0.0);
        assert!(throughput["cpu_seconds_per_million"].as_f64().unwrap() > 0.0);
        assert_eq!(throughput["received"], throughput["sent"]);
        for nothing in ["lost", "duplicated", "reordered"] {
            assert_eq!(throughput[nothing], 0, "{nothing} by {transport}");
        }
        assert!(
            of(json, "round-trip", transport)[0]["p50_us"]
                .as_f64()
                .unwrap()
                > 0.0
        );
        assert!(
            of(json, "connect", transport)[0]["connect_ms"]
                .as_f64()
                .unwrap()
                > 0.0
        );
    }
    for transport in ["tcp", "zmq-tcp"] {
        assert!(
            of(json, "recover", transport)[0]["recover_ms"]
                .as_f64()
                .unwrap()
                > 0.0
        );
    }
    assert_eq!(
        of(json, "recover", "zmq-inproc")[0]["status"],
        "does-not-apply"
    );
}

fn check_csv(place: &Place, rows: usize) {
    let bytes = place.read("report/results.csv");
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let heads = reader.headers().unwrap().clone();
    for head in [
        "round",
        "question",
        "transport",
        "delivered_per_second",
        "p99_us",
        "recover_ms",
    ] {
        assert!(heads.iter().any(|other| other == head), "{head}");
    }
    let records: Vec<_> = reader
        .records()
        .map(|record| record.expect("CSV"))
        .collect();
    assert_eq!(records.len(), rows);
    assert!(records.iter().all(|record| &record[0] == "1"));
}

fn check_html(place: &Place) {
    let html = String::from_utf8(place.read("report/report.html")).unwrap();
    check_tags(html.strip_prefix("<!DOCTYPE html>").expect("a type"));
    let svg = String::from_utf8(place.read("report/summary.svg")).unwrap();
    check_tags(&svg);
    for text in [&html, &svg] {
        let elsewhere = text.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for reference in [
            "http:", "https:", "src=", "href=", "url(", "@import", "<script",
        ] {
            assert!(!elsewhere.contains(reference), "{reference}");
        }
    }
    for part in [
        "name=\"viewport\"",
        "<svg ",
        "<title>",
        "<table>",
        "--seed 5",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

/// Whether every tag that is opened is closed, in the right order.
#[track_caller]
fn check_tags(text: &str) {
    let mut open = Vec::new();
    for part in text.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.split([' ', '\n', '/']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "closed");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "never closed");
}

#[test]
fn over_a_bad_path_streams_are_late_and_complete() {
    let place = Place::new();
    let report = place.arg("report");
    let bad = [
        "--transports",
        "tcp,zmq-tcp,zmq-inproc",
        "--sizes",
        "100",
        "--loss",
        "5",
        "--delay",
        "5",
    ];
    let ended = compare(&[&bad[..], &["--report", &report]].concat()).expect_code(0);
    assert!(
        ended.stdout_text().contains("At 5 % loss "),
        "{}",
        ended.stdout_text()
    );
    assert!(ended.stdout_text().contains("5.00 ms delay each way"));
    let json = json(&place);
    for transport in ["tcp", "zmq-tcp"] {
        let delivery = of(&json, "delivery", transport)[0];
        // Not told where the rest was still on its way at the end.
        assert_eq!(delivery["lost"].as_u64().unwrap_or(0), 0, "{delivery}");
        assert!(delivery["received"].as_u64().unwrap() > 0, "{delivery}");
        assert_eq!(delivery["duplicated"], 0, "{delivery}");
        assert!(delivery["path_arrived"].as_u64().unwrap() > 0, "{delivery}");
        // The path's own delay, there and back: nothing can be faster.
        let trips = of(&json, "round-trip", transport);
        let over_path = trips
            .iter()
            .find(|row| row["delay_ms"] == 5.0)
            .expect("over the path");
        assert!(
            over_path["p50_us"].as_f64().unwrap() >= 10_000.0,
            "{over_path}"
        );
    }
    let inproc = of(&json, "delivery", "zmq-inproc")[0];
    assert_eq!(inproc["status"], "does-not-apply");
}

#[test]
fn over_a_bad_path_datagrams_are_lost_and_reliable_ones_are_not() {
    let place = Place::new();
    let report = place.arg("report");
    let bad = [
        "--transports",
        "udp,udp-reliable,zmq-ipc",
        "--sizes",
        "100",
        "--loss",
        "5",
        "--reorder",
        "5",
        "--duplicate",
        "5",
        "--report",
        &report,
    ];
    // Long enough for losses of some per cent to show in each count.
    let second = ["compare", "--rounds", "1", "--seconds", "1"];
    let ended = mutirao(second).args(bad).run().expect_code(0);
    let said = ended.stdout_text();
    assert!(said.contains("At 5 % loss plain UDP lost "), "{said}");
    let json = json(&place);
    check_plain(of(&json, "delivery", "udp")[0]);
    check_reliable(of(&json, "delivery", "udp-reliable")[0]);
    let ipc = of(&json, "delivery", "zmq-ipc")[0];
    assert_eq!(ipc["status"], "does-not-apply");
    for transport in ["udp", "udp-reliable", "zmq-ipc"] {
        let recover = of(&json, "recover", transport)[0];
        assert!(recover["recover_ms"].as_f64().unwrap() > 0.0, "{recover}");
    }
}

/// A message a datagram, so the path's chances are those of the messages.
fn check_plain(delivery: &Value) {
    let count = |name: &str| delivery[name].as_u64().expect(name) as f64;
    let share = |name| count(name) / count("sent");
    // Of some thousand messages; more may be lost where the machine is busy.
    assert!(count("sent") > 1000.0, "{delivery}");
    assert!((0.025..0.5).contains(&share("lost")), "{delivery}");
    assert!((0.01..0.1).contains(&share("duplicated")), "{delivery}");
    assert!((0.01..0.5).contains(&share("reordered")), "{delivery}");
    assert_eq!(count("received") + count("lost"), count("sent"));
}

/// Nothing lost, nothing twice, nothing late, although the path did its worst.
fn check_reliable(delivery: &Value) {
    // Not told where the rest was still on its way at the end.
    assert_eq!(delivery["lost"].as_u64().unwrap_or(0), 0, "{delivery}");
    for nothing in ["duplicated", "reordered"] {
        assert_eq!(delivery[nothing], 0, "{delivery}");
    }
    for done in ["received", "path_lost", "path_held_back", "path_duplicated"] {
        assert!(delivery[done].as_u64().unwrap() > 0, "{done}: {delivery}");
    }
}

#[test]
fn a_lost_packet_costs_all_about_as_many_bytes() {
    let place = Place::new();
    let report = place.arg("report");
    let lossy = [
        "--transports",
        "tcp,udp,udp-reliable,zmq-tcp",
        "--sizes",
        "16384",
        "--loss",
        "1",
        "--report",
        &report,
    ];
    compare(&lossy);
    let json = json(&place);
    for transport in ["tcp", "udp", "udp-reliable", "zmq-tcp"] {
        let rows = of(&json, "throughput", transport);
        let row = rows.iter().find(|row| row["loss_percent"] == 1.0);
        let row = row.expect("over the path");
        let number = |name: &str| row[name].as_f64().expect(name);
        // Of what entered the path; acknowledgements are packets as well, and some are sent twice.
        let arrived = number("received") / (1.0 - number("path_lost") / number("path_arrived"));
        let bytes = arrived * 16_384.0 / number("path_arrived");
        assert!((200.0..1600.0).contains(&bytes), "{bytes}: {row}");
    }
}

#[test]
fn the_report_is_written_although_nobody_reads_what_is_printed() {
    let place = Place::new();
    let report = place.arg("report");
    let command = mutirao(["compare", "--transports", "zmq-inproc", "--loss", "0"])
        .args(QUICK)
        .args(["--sizes", "16", "--report", &report])
        .into_command();
    let (read, write) = std::io::pipe().expect("a pipe");
    drop(read);
    let mut copy = std::process::Command::new(command.get_program());
    let status = copy
        .args(command.get_args())
        .stdout(write)
        .stderr(std::process::Stdio::null())
        .status();
    assert_eq!(status.unwrap().code(), Some(141), "as after SIGPIPE");
    assert_eq!(json(&place)["partial"], false);
    assert!(place.files("report").contains(&"report.html".to_string()));
}

#[test]
fn what_does_not_fit_into_a_datagram_is_said_to_be_too_large() {
    let udp = ["--transports", "udp", "--sizes", "65536", "--loss", "0"];
    let ended = compare(&udp);
    let expected = "too large: a datagram carries at most 65479 bytes";
    assert!(
        ended.stdout_text().contains(expected),
        "{}",
        ended.stdout_text()
    );
}

#[test]
fn wrong_arguments_get_one_sentence() {
    for (arguments, parts) in [
        (["--transports", "pigeon"], ["pigeon", "--transports"]),
        (["--transports", ""], ["--transports", "value"]),
        (["--sizes", "8"], ["16 bytes", "--sizes"]),
        (["--sizes", "0"], ["16 bytes", "--sizes"]),
        (["--sizes", "16,x"], ["\"x\"", "--sizes"]),
        (["--loss", "80"], ["from 0 to 50", "--loss"]),
        (["--loss", "-1"], ["-1", "--"]),
        (["--delay", "2h"], ["milliseconds", "--delay"]),
        (["--seconds", "0"], ["seconds", "--seconds"]),
        (["--rounds", "0"], ["0", "--rounds"]),
        (["--seed", "x"], ["x", "--seed"]),
    ] {
        let ended = mutirao(["compare"]).args(arguments).run().expect_code(2);
        ended.expect_sentence(&parts);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_said_before_anything_is_measured() {
    let place = Place::new();
    place.write("file", "");
    let report = place.arg("file/report");
    let ended = mutirao(["compare", "--report", &report]).run();
    let ended = ended
        .expect_code(3)
        .expect_sentence(&["cannot be written", "choose another folder"]);
    assert_eq!(ended.stdout, b"");
}

#[test]
fn ctrl_c_ends_it_with_what_is_there() {
    let place = Place::new();
    let report = place.arg("report");
    let arguments = [
        "--transports",
        "zmq-inproc",
        "--rounds",
        "1000",
        "--report",
        &report,
    ];
    let process = mutirao(["compare"]).args(arguments).start();
    process.wait_for("measurements, which take about");
    process.signal(Signal::INT);
    let ended = process.wait().expect_code(130);
    let ended = ended.expect_said(&["interrupted after ", "partial"]);
    assert!(ended.stdout_text().contains("Partial ("));
    assert_eq!(json(&place)["partial"], true);
    let html = String::from_utf8(place.read("report/report.html")).unwrap();
    assert!(html.contains("what follows is partial"));
}

#[test]
fn a_complete_report_is_not_replaced_by_a_partial_one_and_leaves_nothing_of_an_older() {
    let place = Place::new();
    let report = place.arg("report");
    // Of which there is no plot.
    let too_large = ["--transports", "udp", "--sizes", "65536", "--loss", "0"];
    let arguments = [&too_large[..], &["--report", &report]].concat();
    place.write("report/summary.svg", "old");
    compare(&arguments).expect_code(0);
    let complete = ["report.html", "results.csv", "results.json"];
    assert_eq!(place.files("report"), complete);
    let process = mutirao(["compare", "--rounds", "1000"])
        .args(arguments)
        .start();
    process.wait_for("measurements, which take about");
    process.signal(Signal::INT);
    let ended = process.wait().expect_code(130);
    ended.expect_said(&["partial/report.html"]);
    assert_eq!(json(&place)["partial"], false);
    assert_eq!(place.files("report/partial"), complete);
}

#[test]
fn a_terminal_that_closes_leaves_no_folder_behind() {
    // The tests themselves may run where that signal is ignored.
    let place = Place::new();
    let folder = place.arg("tmp");
    std::fs::create_dir_all(&folder).unwrap();
    let process = mutirao(["compare", "--transports", "zmq-ipc", "--rounds", "1000"])
        .env("TMPDIR", &folder)
        .through(["env", "--default-signal=HUP"])
        .start();
    process.wait_for("measurements, which take about");
    let left = || std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(left(), 1);
    process.signal(Signal::HUP);
    process.wait().expect_code(130);
    assert_eq!(left(), 0);
}

#[test]
fn the_parts_are_not_for_people() {
    let help = mutirao(["--help"]).run();
    assert!(!help.stdout_text().contains("compare-peer"));
    let ended = mutirao(["compare-peer", "{}"]).run().expect_code(2);
    ended.expect_sentence(&["compare-peer", "mutirao compare"]);
}
