//! What is put is got, byte for byte.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::Ended;

use super::cluster::{Cluster, held, line};

fn random_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|_| rand::random()).collect()
}

/// Checks that an id, and nothing else, was printed.
#[track_caller]
fn id(ended: Ended) -> String {
    let ended = ended.expect_code(0);
    let text = ended.stdout_text();
    let id = text.strip_suffix('\n').expect("a whole line");
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    assert!(id.len() == 16 && id.bytes().all(is_digit), "{text:?}");
    assert_eq!(ended.stderr, "", "it has nothing to say");
    id.to_owned()
}

#[test]
fn any_bytes_come_back_as_they_were_put() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let records: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\n",
        b"hola",
        "ação \\n \\ \t\r\n".as_bytes(),
        b"\xff\xfe\xc3\x28 no UTF-8",
        b"\x1b[2Jan escape sequence",
        &[0; 1000],
        &random_bytes(3 << 20),
    ];
    let mut stored = Vec::new();
    for (number, &bytes) in records.iter().enumerate() {
        let name = format!("file-{number}");
        cluster.place.write(&name, bytes);
        let file = cluster.place.arg(&name);
        stored.push((id(cluster.client(&["put", "--file", &file]).run()), bytes));
        let put = cluster.client(&["put", "-"]).stdin(bytes);
        stored.push((id(put.run()), bytes));
    }
    // A text may look like a flag.
    for text in ["olá", "", "--lines", "two words"] {
        let put = cluster.client(&["put"]).args(["--", text]);
        stored.push((id(put.run()), text.as_bytes()));
    }
    for (id, bytes) in &stored {
        assert!(cluster.get(id) == *bytes, "{id} is not {bytes:.20?}");
        let out = cluster.place.arg("out");
        let get = cluster.client(&["get", id, "--out", &out]).run();
        assert!(get.expect_code(0).stdout.is_empty());
        assert!(cluster.place.read("out") == *bytes, "{id} in a file");
    }
    let mut expected: Vec<String> = stored
        .iter()
        .map(|(id, bytes)| format!("{id}  {}", bytes.len()))
        .collect();
    expected.sort();
    let listed = cluster.client(&["list"]).run().expect_code(0);
    let lines: Vec<&str> = listed.stdout_text().lines().collect();
    assert_eq!(lines, expected);
}

#[test]
fn lines_are_records_and_their_ids_come_in_their_order() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let mut text = Vec::new();
    for number in 0..600 {
        text.extend(line(number));
        text.push(b'\n');
    }
    let put = cluster.client(&["put", "-", "--lines"]).stdin(text);
    let put = put.run().expect_code(0);
    let ids: Vec<String> = put.stdout_text().lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 600);
    cluster.check_lines(&ids);
    assert_eq!(
        fs::read_to_string(cluster.place.path("registro_cliente.txt"))
            .unwrap()
            .lines()
            .count(),
        600
    );
    // Of every kind, and the last one without an end.
    cluster
        .place
        .write("odd", b"\n\na\r\n\xff\0\n \nwithout an end");
    let file = cluster.place.arg("odd");
    let put = cluster
        .client(&["put", "--lines", "--file", &file])
        .run()
        .expect_code(0);
    let ids: Vec<String> = put.stdout_text().lines().map(str::to_owned).collect();
    let expected: [&[u8]; 6] = [b"", b"", b"a\r", b"\xff\0", b" ", b"without an end"];
    let found = cluster.read(&ids);
    assert_eq!(found, expected.map(|bytes| Some(bytes.to_vec())));
    let nothing = cluster.client(&["put", "-", "--lines"]).run();
    assert!(nothing.expect_code(0).stdout.is_empty());
}

#[test]
fn a_line_is_confirmed_although_no_other_follows() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let mut stream = cluster.stream();
    for count in 1..=3 {
        stream.write(1);
        stream.wait_for(count);
    }
    cluster.check_lines(&stream.end());
}

#[test]
fn status_list_and_verify_tell_people_and_programs() {
    let cluster = Cluster::new(&["norte", "sur", "este"]);
    let ids = ["a", "bb", "ccc"].map(|text| cluster.put(text.as_bytes()));
    cluster.wait_for_copies(3, 2);
    let listed = cluster.client(&["list", "--format", "json"]).run();
    let listed = listed.expect_code(0);
    let listed: Vec<Value> = listed
        .stdout_text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (id, bytes) in ids.iter().zip(1..) {
        let entry = listed.iter().find(|entry| entry["id"] == **id);
        assert_eq!(entry.expect("it is listed")["bytes"], bytes);
    }
    assert_eq!(listed.len(), 3);
    let verified = cluster.client(&["verify"]).run().expect_code(0);
    assert_eq!(verified.stdout_text(), "6 copies read, 0 damaged\n");
    let verified = cluster.client(&["verify", "--format", "json"]).run();
    let verified = verified.expect_code(0).summary();
    assert_eq!(verified["checked"], 6);
    assert_eq!(verified["damaged"], 0);
    assert_eq!(verified["missing"], Value::Array(Vec::new()));
    let status = cluster.status();
    assert_eq!(held(&status), 6);
    assert_eq!(status["unreachable"], 0);
    let text = cluster.client(&["status"]).run().expect_code(0);
    let text = text.stdout_text();
    for part in [
        "records      3\n",
        "lacking      0 ",
        "unreachable  0 ",
        "NODE ",
    ] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
    for name in ["norte", "sur", "este"] {
        let row = text.lines().find(|line| line.starts_with(name));
        assert!(row.is_some_and(|row| row.contains(" alive ")), "{text}");
    }
}

#[test]
fn what_many_clients_put_at_once_is_all_there() {
    let cluster = Cluster::new(&["norte", "sur", "este"]);
    let mut streams: Vec<_> = (0..8).map(|_| cluster.stream()).collect();
    streams.iter_mut().for_each(|stream| stream.write(200));
    let ids: Vec<Vec<String>> = streams.into_iter().map(|stream| stream.end()).collect();
    ids.iter().for_each(|ids| cluster.check_lines(ids));
    cluster.wait_for_copies(1_600, 2);
    // They share one register, in which no line is torn.
    let noted = super::files::sound_lines(&cluster.place.path("registro_cliente.txt"));
    let mut noted: Vec<&str> = noted.iter().map(|words| &words[1][..]).collect();
    let mut ids: Vec<&str> = ids.iter().flatten().map(String::as_str).collect();
    noted.sort_unstable();
    ids.sort_unstable();
    assert_eq!(noted, ids);
}

#[test]
fn whoever_reads_no_further_ends_the_client_quietly() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let id = cluster.put(&[b'x'; 1 << 20]);
    let mut get = cluster.client(&["get", &id]).into_command();
    get.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut get = get.spawn().expect("the binary starts");
    drop(get.stdout.take());
    let ended = get.wait_with_output().expect("our child");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(141), "{said}");
    assert_eq!(said, "");
}
