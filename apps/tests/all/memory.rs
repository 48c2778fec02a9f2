//! A large file takes no more memory than a small one.
//!
//! `cargo test --release -p mutirao-apps --test all memory -- --ignored --nocapture` for 4 GiB.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::harness::{Ended, mutirao};
use crate::trio::{Trio, Wire, dismiss};

/// Of each process, whatever the size of the file.
const MOST_MIB: u64 = 200;

const LINE: &str = "Linha de um arquivo muito grande, com ÁÉÍ e outras LETRAS\n";
const BLOCK_LINES: usize = 16_384;
const PATIENCE: Duration = Duration::from_secs(600);

fn write_large(path: &Path, mib: usize) -> usize {
    let block = LINE.repeat(BLOCK_LINES);
    let blocks = (mib << 20) / block.len() + 1;
    let mut file = BufWriter::new(File::create(path).unwrap());
    for _ in 0..blocks {
        file.write_all(block.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    blocks
}

/// Compares block by block: the test's memory is nobody's concern, but its time is.
fn check_lowercase(path: &Path, blocks: usize) {
    let expected = LINE.to_lowercase().repeat(BLOCK_LINES);
    let mut file = File::open(path).unwrap();
    let mut block = vec![0; expected.len()];
    for number in 0..blocks {
        file.read_exact(&mut block).unwrap();
        assert!(block == expected.as_bytes(), "block {number} differs");
    }
    assert_eq!(file.read(&mut block).unwrap(), 0, "it is longer");
}

#[track_caller]
fn check_peak(what: &str, mib: u64) {
    eprintln!("{what}: {mib} MiB at most");
    assert!((1..MOST_MIB).contains(&mib), "{what} took {mib} MiB");
}

fn large_file(mib: usize) {
    let mut trio = Trio::new("push-pull", Wire::Ipc);
    trio.place.write("in/large", "");
    let blocks = write_large(&trio.place.path("in/large"), mib);
    let input = trio.place.arg("in");
    let report = |what: &str, ended: Ended| {
        let ended = ended.expect_code(0);
        check_peak(what, ended.peak_mib);
        eprintln!("  {}", ended.summary());
    };
    for op in ["lowercase", "linecount"] {
        let out = trio.place.arg("run");
        let run = mutirao([
            "run",
            &input,
            "--op",
            op,
            "--out",
            &out,
            "--summary",
            "json",
        ])
        .start();
        report(&format!("run {op}, {mib} MiB"), run.wait_within(PATIENCE));
        let result = trio.place.path("run/large.out");
        if op == "lowercase" {
            check_lowercase(&result, blocks);
        } else {
            let count = format!("{}\n", blocks * BLOCK_LINES);
            assert_eq!(std::fs::read_to_string(&result).unwrap(), count);
        }
        std::fs::remove_file(result).unwrap();
    }
    let mut sink = trio.sink();
    let ventilator = trio.ventilator(&[&input, "--op", "lowercase"]);
    let mut worker = trio.worker();
    report(
        &format!("ventilator, {mib} MiB"),
        ventilator.wait_within(PATIENCE),
    );
    check_peak("worker", worker.peak_mib());
    check_peak("sink", sink.peak_mib());
    check_lowercase(&trio.place.path("out/large.out"), blocks);
    dismiss(worker);
    dismiss(sink);
}

#[test]
fn a_large_file_takes_little_memory() {
    large_file(300);
}

#[test]
#[ignore = "writes 8 GiB"]
fn a_file_of_4_gib_takes_little_memory() {
    large_file(4096);
}
