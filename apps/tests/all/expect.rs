//! What must come out, computed a second time and in the plainest way.

use std::collections::BTreeMap;
use std::io::Read as _;

use sha2::Digest as _;

use crate::harness::Place;

/// The operations of the tests, with a command that turns a file around.
pub(crate) const OPS: [&str; 7] = [
    "lowercase",
    "uppercase",
    "wordcount",
    "linecount",
    "sha256",
    "gzip",
    "exec:tr a-z b-za",
];

/// Files of every kind that is allowed: the name and what is in it.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    let long: String = (0..3000)
        .map(|n| format!("Linha {n}: Ação, CORAÇÃO e pão — ÁÉÍ ÖÜ ΑΣ {}\n", n % 7))
        .collect();
    let files: [(&str, &[u8]); 8] = [
        ("exemplo1.txt", "ÁÉÍ olá Mundo\nOlá, mundo\n".as_bytes()),
        ("empty.txt", b""),
        ("no-final-newline", "Última linha sem FIM".as_bytes()),
        (
            "nested/deep/er/a b.txt",
            "Guarda-chuva D'água\r\n\r\n".as_bytes(),
        ),
        ("nested/long.txt", long.as_bytes()),
        ("newlines", b"\n\n\n\n"),
        (".hidden", b"h"),
        ("nome com acentuação ✓.md", "ß ŉ İ ǅ\n".as_bytes()),
    ];
    files
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .into()
}

/// Writes the files under `name`.
pub(crate) fn write_files(place: &Place, name: &str, files: &[(String, Vec<u8>)]) {
    for (file, bytes) in files {
        place.write(&format!("{name}/{file}"), bytes);
    }
}

/// The result of an operation on a whole file.
pub(crate) fn result(op: &str, input: &[u8]) -> Vec<u8> {
    let text = || std::str::from_utf8(input).expect("the tests' files are text");
    match op {
        "lowercase" => text().to_lowercase().into_bytes(),
        "uppercase" => text().to_uppercase().into_bytes(),
        "wordcount" => wordcount(text()),
        "linecount" => format!("{}\n", text().lines().count()).into_bytes(),
        "sha256" => sha256(input),
        "gzip" => input.to_vec(), // Compared unpacked.
        "exec:tr a-z b-za" => input.iter().map(|&byte| next_letter(byte)).collect(),
        other => panic!("nobody knows what {other} gives"),
    }
}

/// A result as it is compared: what is packed gets unpacked.
pub(crate) fn readable(op: &str, result: Vec<u8>) -> Vec<u8> {
    if op != "gzip" {
        return result;
    }
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(&result[..]);
    reader.read_to_end(&mut unpacked).expect("a gzip file");
    unpacked
}

fn wordcount(text: &str) -> Vec<u8> {
    let mut counts = BTreeMap::new();
    let is_part = |c: char| c.is_alphanumeric() || "'-".contains(c);
    for word in text.split(|c| !is_part(c)) {
        let word = word.trim_matches(['\'', '-']).to_lowercase();
        if !word.is_empty() {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    let rows = counts
        .iter()
        .map(|(word, count)| format!("{word}\t{count}\n"));
    rows.collect::<String>().into_bytes()
}

fn sha256(input: &[u8]) -> Vec<u8> {
    let digest = sha2::Sha256::digest(input);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}\n").into_bytes()
}

fn next_letter(byte: u8) -> u8 {
    match byte {
        b'z' => b'a',
        b'a'..b'z' => byte + 1,
        _ => byte,
    }
}

/// Checks that under `out` there is the result of each file, and nothing else.
#[track_caller]
pub(crate) fn check_results(place: &Place, out: &str, op: &str, files: &[(String, Vec<u8>)]) {
    let mut names: Vec<_> = files
        .iter()
        .map(|(name, _)| format!("{name}.out"))
        .collect();
    names.sort();
    assert_eq!(place.files(out), names, "{op}: the files of the results");
    for (name, input) in files {
        let got = readable(op, place.read(&format!("{out}/{name}.out")));
        assert!(
            got == result(op, input),
            "{op}: {name} differs: {:?}…",
            String::from_utf8_lossy(&got[..got.len().min(200)])
        );
    }
    assert!(
        !place.path(out).join(".mutirao").exists(),
        "the journal is left"
    );
}
