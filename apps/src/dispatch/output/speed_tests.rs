//! How fast results are written; run by hand, on the machine in question:
//! `cargo test --release -p mutirao-apps speed -- --ignored --nocapture --test-threads 1`

use std::time::Instant;

use super::*;
use crate::ops::Merge;

fn timed(what: &str, run: impl FnOnce(&mut Box<dyn Output>), mut output: Box<dyn Output>) {
    let start = Instant::now();
    run(&mut output);
    let counts = output.finish().unwrap();
    let ms = start.elapsed().as_millis();
    eprintln!(
        "{what}: {ms} ms for {} results, {} bytes",
        counts.written, counts.bytes_out
    );
}

fn outcome(
    name: String,
    input: u32,
    piece: u64,
    last: bool,
    merge: Merge,
    data: Vec<u8>,
) -> Outcome {
    Ok(Piece {
        place: Place {
            name,
            input,
            piece,
            last,
        },
        merge,
        data,
    })
}

fn million_lines(output: &mut Box<dyn Output>, swap: u64) {
    for id in 0..1_000_000u64 {
        // Neighbours in reverse, in groups of `swap`.
        let line = id / swap * swap + (swap - 1 - id % swap);
        let line = outcome(
            String::new(),
            0,
            line,
            false,
            Merge::Concatenate,
            vec![b'x'; 10],
        );
        output.accept(id, line).unwrap();
        if id % 20_000 == 19_999 {
            output.commit().unwrap();
        }
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_lines() {
    for swap in [1, 100] {
        let folder = tempfile::tempdir().unwrap();
        let writer = Box::new(Writer::open(folder.path(), 1).unwrap().0);
        timed(
            &format!("lines to a folder, groups of {swap}"),
            |o| million_lines(o, swap),
            writer,
        );
        let writer = Box::new(StdoutWriter::new(std::io::sink(), 0));
        timed(
            &format!("lines to stdout, groups of {swap}"),
            |o| million_lines(o, swap),
            writer,
        );
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_small_files() {
    for batch in [1, 8, 100, 1000] {
        let folder = tempfile::tempdir().unwrap();
        let writer = Box::new(Writer::open(folder.path(), 1).unwrap().0);
        let run = |output: &mut Box<dyn Output>| {
            for id in 0..10_000u32 {
                let name = format!("{}/{id}.txt", id % 50);
                let file = outcome(name, id, 0, true, Merge::Concatenate, vec![b'x'; 1000]);
                output.accept(id.into(), file).unwrap();
                if id % batch == batch - 1 {
                    output.commit().unwrap();
                }
            }
            output.commit().unwrap();
        };
        timed(&format!("small files, {batch} per commit"), run, writer);
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_word_counts() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Box::new(Writer::open(folder.path(), 1).unwrap().0);
    let tables: Vec<_> = (0..5).map(words).collect();
    let run = |output: &mut Box<dyn Output>| {
        let mut slowest = std::time::Duration::ZERO;
        for piece in 0..4096u64 {
            let table = tables[piece as usize % 5].clone();
            let start = Instant::now();
            let piece = outcome(
                "big".into(),
                0,
                piece,
                piece == 4095,
                Merge::SumCounts,
                table,
            );
            output.accept(0, piece).unwrap();
            output.commit().unwrap();
            slowest = slowest.max(start.elapsed());
        }
        eprintln!("slowest step: {} ms", slowest.as_millis());
    };
    timed("4096 tables of 20000 words, a commit each", run, writer);
}

/// 20,000 words of 100,000, sorted.
fn words(piece: u64) -> Vec<u8> {
    let mut table = String::new();
    for word in (piece..100_000).step_by(5) {
        table += &format!("word{word:07}\t3\n");
    }
    table.into_bytes()
}
