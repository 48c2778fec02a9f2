//! The four files say what was done, in lines that a person can read and a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::harness::{DEADLINE, wait_until};

use super::cluster::Cluster;

/// The words of every whole line, each of which must be sound.
#[track_caller]
pub(super) fn sound_lines(path: &Path) -> Vec<Vec<String>> {
    let lines = lines(path);
    let sound = lines.into_iter().map(|line| match words(&line) {
        Some(words) => words,
        None => panic!("{}: not a sound line: {line}", path.display()),
    });
    sound.collect()
}

/// Every whole line.
#[track_caller]
pub(super) fn lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&text);
    // The last one may just be written.
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(str::to_owned).collect()
}

/// The words of a line, if its checksum fits.
fn words(line: &str) -> Option<Vec<String>> {
    let (words, sum) = line.rsplit_once(" #")?;
    let fits = format!("{:08x}", crc32fast::hash(words.as_bytes())) == sum;
    fits.then(|| words.split(' ').map(str::to_owned).collect())
}

/// Checks that orders came only from the head that was obeyed at the time, and each head was later than the one before.
#[track_caller]
pub(super) fn check_obedience(data: &Path) {
    let mut reign = 0;
    for words in sound_lines(data) {
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match &words[0][..] {
            "epoch" => {
                assert!(number(1) > reign, "{words:?} after epoch {reign}");
                reign = number(1);
            }
            "record" | "dropped" => {
                assert_eq!(number(2), reign, "{words:?} in epoch {reign}");
            }
            _ => {}
        }
    }
    assert!(reign > 0, "{} obeys nobody", data.display());
}

#[test]
fn the_files_say_who_has_what() {
    let cluster = Cluster::new(&["norte", "sur", "este"]);
    let text = cluster.put("olá\tmundo \\ 1\n".as_bytes());
    let bytes = cluster.put(b"\xff\0");
    let empty = cluster.put(b"");
    let epoch = cluster.status()["epoch"].to_string();
    let mut instances = BTreeMap::new();
    let mut holders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in ["norte", "sur", "este"] {
        let lines = sound_lines(&cluster.place.path(&format!("{name}/data.txt")));
        let [node, instance, theirs] = &lines[0][..] else {
            panic!("{:?}", lines[0]);
        };
        assert_eq!((&node[..], &theirs[..]), ("node", name));
        instances.insert(instance.clone(), name);
        assert_eq!(lines[1][..2], ["epoch".to_owned(), epoch.clone()]);
        for words in &lines[2..] {
            let id = &words[1];
            let line = words.join(" ");
            let bytes_say = match id {
                id if *id == text => {
                    said("olá\tmundo \\ 1\n".as_bytes(), "text olá\\tmundo \\\\ 1\\n")
                }
                id if *id == bytes => said(b"\xff\0", "base64 /wA="),
                id if *id == empty => said(b"", "text "),
                _ => panic!("nobody has put {line}"),
            };
            assert!(line.ends_with(&bytes_say), "{line} for {bytes_say}");
            assert_eq!((&words[0][..], &words[2]), ("record", &epoch));
            holders.entry(id.clone()).or_default().insert(name.into());
        }
    }
    let register = sound_lines(&cluster.place.path("head-1/registro_server.txt"));
    assert_eq!(register[0][..2], ["promise".to_owned(), epoch.clone()]);
    assert_eq!(register[1][..4], words_of(&format!("entry 1 {epoch} lead")));
    let facts = register[2..].iter().zip(2..);
    for (words, index) in facts {
        assert_eq!(words[..3], words_of(&format!("entry {index} {epoch}")));
        match &words[3][..] {
            "node" => assert_eq!(instances[&words[4]], words[5]),
            "record" => {
                let at = words.iter().position(|word| word == "at").expect("places");
                let places = &words[at + 1..];
                let names = places.iter().map(|at| instances[at].to_owned());
                assert_eq!(names.collect::<BTreeSet<_>>(), holders[&words[4]]);
            }
            other => panic!("{other} in {words:?}"),
        }
    }
    assert_eq!(register.len(), 2 + 3 + 3);
    let noted = sound_lines(&cluster.place.path("registro_cliente.txt"));
    for (words, id) in noted.iter().zip([&text, &bytes, &empty]) {
        assert_eq!(words[..3], words_of(&format!("stored {id} {epoch}")));
        assert_eq!(words[5], "at");
        let places: BTreeSet<String> = words[6..].iter().cloned().collect();
        assert_eq!((places.len(), &places), (2, &holders[id]));
    }
    assert_eq!(noted.len(), 3);
    cluster.check_rounds(&epoch);
}

/// A text as words.
fn words_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The end of a record's line.
fn said(bytes: &[u8], words: &str) -> String {
    let sum = crc32fast::hash(bytes);
    format!(" {} {sum:08x} {words}", bytes.len())
}

impl Cluster {
    /// Waits for a round of heartbeats that all have answered with what they hold.
    fn check_rounds(&self, epoch: &str) {
        let path = self.place.path("head-1/hearbeat_server.txt");
        wait_until(DEADLINE, "a round that all three have answered", || {
            let rounds = sound_lines(&path);
            let Some(words) = rounds.last() else {
                return false;
            };
            assert!(words[0].parse::<jiff::Timestamp>().is_ok(), "{words:?}");
            assert_eq!((&words[1][..], &words[3][..]), ("round", epoch));
            let records: Vec<u64> = words[4..]
                .chunks(5)
                .filter(|node| node[1] == "up")
                .map(|node| node[2].parse().expect("a number of records"))
                .collect();
            records.len() == 3 && records.iter().sum::<u64>() == 6
        });
        let rounds = sound_lines(&path);
        let numbers: Vec<u64> = rounds
            .iter()
            .map(|words| words[2].parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

#[test]
fn a_silent_data_node_is_silent_in_the_log_of_heartbeats() {
    let log = ["--heartbeat-log", ""];
    let mut cluster = Cluster::idle(
        [(
            1,
            format!("tcp://127.0.0.1:{}", super::cluster::free_ports()),
        )],
        &log,
    );
    cluster.head_flags[1] = cluster.place.arg("beats.log");
    cluster
        .head_flags
        .extend(["--interval".into(), "100ms".into()]);
    let mut cluster = cluster.up(&["norte", "sur"]);
    cluster.kill_node("sur");
    cluster.heads[&1].wait_for("data node sur is stale");
    let path = cluster.place.path("beats.log");
    let says = |text: &str| {
        let last = lines(&path).pop().unwrap_or_default();
        last.contains(text)
    };
    wait_until(DEADLINE, "a silent node", || says(" sur silent "));
    assert!(!cluster.place.path("head-1/hearbeat_server.txt").exists());
    cluster.start_node("sur");
    wait_until(DEADLINE, "the node to be up again", || says(" sur up "));
    cluster.heads[&1].wait_for("data node sur is alive again");
}
