//! What is full, wrong, foreign or not there: a sentence, the right exit code, and nothing lost.

use std::fs;
use std::time::SystemTime;

use crate::harness::{DEADLINE, Place, mutirao, wait_until};

use super::cluster::{Cluster, free_ports, names};

#[test]
fn a_full_disk_is_a_sentence_and_loses_nothing() {
    let mut cluster = Cluster::idle([(1, format!("tcp://127.0.0.1:{}", free_ports()))], &[]);
    cluster.start_head(1);
    for name in ["norte", "sur"] {
        let node = cluster
            .node_launch(name)
            .args(["--capacity", "16KiB", "--reserve", "0"]);
        cluster.nodes.insert(name.into(), node.start());
    }
    cluster.wait_for_nodes(2);
    let mut stored = Vec::new();
    let full = loop {
        let bytes = vec![b'0' + stored.len() as u8; 2_000];
        let put = cluster
            .client(&["put", "-", "--timeout", "3s"])
            .stdin(bytes.clone())
            .run();
        if put.status.code() != Some(0) {
            break put;
        }
        stored.push((put.stdout_text().trim_end().to_owned(), bytes));
        assert!(stored.len() < 8, "more than there is room for");
    };
    assert!(
        stored.len() >= 6,
        "there is room for more than {}",
        stored.len()
    );
    full.expect_code(3)
        .expect_sentence(&["copies asked for: 2", "with room for it: 0"]);
    // What is small still fits.
    let small = cluster.put(b"small");
    assert_eq!(cluster.get(&small), b"small");
    for (id, bytes) in &stored {
        assert!(cluster.get(id) == *bytes, "{id}");
    }
    // A node with room takes what the full ones do not; one copy more is needed.
    for name in ["este", "oeste"] {
        cluster.start_node(name);
    }
    cluster.wait_for_nodes(4);
    let large = vec![b'x'; 100_000];
    let id = cluster.put(&large);
    assert!(cluster.get(&id) == large);
    for name in ["norte", "sur"] {
        let length = fs::metadata(cluster.place.path(&format!("{name}/data.txt")))
            .unwrap()
            .len();
        assert!(length <= 16 << 10, "{name} has {length} bytes");
    }
    cluster.client(&["verify"]).run().expect_code(0);
}

#[test]
fn a_disk_below_its_reserve_takes_nothing() {
    let mut cluster = Cluster::idle(
        [(1, format!("tcp://127.0.0.1:{}", free_ports()))],
        &["--replicas", "1"],
    );
    cluster.start_head(1);
    let node = cluster
        .node_launch("norte")
        .args(["--capacity", "1MiB", "--reserve", "1MiB"]);
    cluster.nodes.insert("norte".into(), node.start());
    cluster.wait_for_nodes(1);
    assert_eq!(cluster.status()["nodes"][0]["free"], 0);
    let put = cluster.client(&["put", "a", "--timeout", "2s"]).run();
    put.expect_code(3).expect_sentence(&["with room for it: 0"]);
}

#[test]
fn a_wrong_name_is_told_before_anything_is_made() {
    let place = Place::new();
    for name in ["", "dos palabras", "a/b", "ação", &"x".repeat(65)] {
        let data = place.arg("data");
        let node = mutirao(["storage", "data", "--name", name, "--data", &data]).run();
        node.expect_code(2)
            .expect_sentence(&["is no name for a data node", "1 to 64 letters"]);
        assert!(!place.path("data").exists());
    }
}

#[test]
fn a_second_node_with_a_name_is_turned_away_and_the_first_goes_on() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let id = cluster.put(b"a");
    let data = cluster.place.arg("another");
    let second = cluster.node_launch("norte").env("MUTIRAO_DATA", &data);
    let second = mutirao(["storage", "data", "--name", "norte", "--data", &data])
        .args(["--head", &cluster.list()])
        .named(second.name())
        .run();
    second
        .expect_code(3)
        .expect_said(&["another data node has the name \"norte\"", "--name"]);
    let status = cluster.status();
    assert_eq!(names(&status, "alive").len(), 2, "{status}");
    assert_eq!(cluster.get(&id), b"a");
    // With a name of its own it is welcome.
    let _third = mutirao(["storage", "data", "--name", "este", "--data", &data])
        .args(["--head", &cluster.list()])
        .start();
    cluster.wait_for_nodes(3);
}

#[test]
fn ids_that_are_unknown_or_none_are_told_apart() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let unknown = cluster
        .client(&["get", "0123456789abcdef"])
        .run()
        .expect_code(1);
    let unknown = unknown.expect_sentence(&["there is no record 0123456789abcdef", "list"]);
    assert!(unknown.stdout.is_empty());
    let out = cluster.place.arg("out");
    cluster
        .client(&["get", "1", "--out", &out])
        .run()
        .expect_code(1);
    assert!(!cluster.place.path("out").exists());
    for id in ["", "xyz", "-1", "+1", "0123456789abcdef0", "hola"] {
        let wrong = cluster.client(&["get"]).args(["--", id]).run();
        wrong
            .expect_code(2)
            .expect_sentence(&["is not the id of a record"]);
    }
    // However it is written.
    let id = cluster.put(b"a");
    assert_eq!(cluster.get(&id.to_uppercase()), b"a");
}

#[test]
fn a_record_that_is_too_long_is_refused_by_whoever_sees_it_first() {
    let cluster = Cluster::with(&["norte", "sur"], &["--max-record-bytes", "1KiB"]);
    let long = vec![b'x'; 1_025];
    let refused = cluster.client(&["put", "-"]).stdin(long.clone()).run();
    refused
        .expect_code(3)
        .expect_sentence(&["the record has 1025 bytes and at most 1024 are taken"]);
    let limit = ["--max-record-bytes", "1KiB"];
    let refused = cluster
        .client(&["put", "-"])
        .args(limit)
        .stdin(long.clone())
        .run();
    refused
        .expect_code(2)
        .expect_sentence(&["more than 1024 bytes", "--max-record-bytes"]);
    let mut lines = b"one\ntwo\n".to_vec();
    lines.extend(&long);
    let refused = cluster
        .client(&["put", "-", "--lines"])
        .args(limit)
        .stdin(lines.clone())
        .run();
    refused
        .expect_code(2)
        .expect_said(&["more than 1024 bytes"]);
    let refused = cluster
        .client(&["put", "-", "--lines"])
        .stdin(lines)
        .run()
        .expect_code(3);
    let refused = refused.expect_said(&["at most 1024", "of 3 lines that were read are stored"]);
    for id in refused.stdout_text().lines() {
        assert!([b"one".to_vec(), b"two".to_vec()].contains(&cluster.get(id)));
    }
    let fits = cluster.put(&long[1..]);
    assert!(cluster.get(&fits) == long[1..]);
}

#[test]
fn a_head_that_is_not_there_is_a_matter_of_the_timeout() {
    let place = Place::new();
    let head = format!("tcp://127.0.0.1:{}", free_ports());
    for request in [
        &["put", "a"][..],
        &["get", "1"],
        &["list"],
        &["status"],
        &["verify"],
    ] {
        let asked =
            mutirao(["storage"])
                .args(request)
                .args(["--head", &head, "--timeout", "300ms"]);
        let asked = asked.env("MUTIRAO_REGISTER", place.arg("register")).run();
        let asked = asked.expect_code(3);
        let asked =
            asked.expect_sentence(&["within 0.3 s", "is a head running at tcp://127.0.0.1:"]);
        assert!(asked.stdout.is_empty());
    }
    for (head, part) in [
        ("nonsense", "nonsense"),
        ("1=", "--head"),
        ("tcp://", "--head"),
    ] {
        let asked = mutirao(["storage", "status", "--head", head]).run();
        asked.expect_code(2).expect_sentence(&[part]);
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let place = Place::new();
    for foreign in [
        "a letter\nto somebody\n",
        "without an end",
        "\u{0}\u{1}binary",
    ] {
        place.write("node/data.txt", foreign);
        let node = mutirao([
            "storage",
            "data",
            "--name",
            "norte",
            "--data",
            &place.arg("node"),
        ]);
        let node = node.args(["--head", "tcp://127.0.0.1:9"]).run();
        node.expect_code(3)
            .expect_sentence(&["data.txt", "move it away"]);
        assert_eq!(place.read("node/data.txt"), foreign.as_bytes());
        place.write("head/registro_server.txt", foreign);
        let bind = format!("tcp://127.0.0.1:{}", free_ports());
        let head = mutirao([
            "storage",
            "head",
            "--bind",
            &bind,
            "--data",
            &place.arg("head"),
        ]);
        head.run()
            .expect_code(3)
            .expect_sentence(&["registro_server.txt", "move it away"]);
        assert_eq!(place.read("head/registro_server.txt"), foreign.as_bytes());
    }
    let put = mutirao(["storage", "put", "--file", &place.arg("nothing")]);
    let put = put.env("MUTIRAO_REGISTER", place.arg("register")).run();
    put.expect_code(3)
        .expect_sentence(&["nothing", "cannot be read"]);
}

#[test]
fn what_makes_no_sense_is_told() {
    let place = Place::new();
    let storage = |args: &[&str]| {
        let storage = mutirao(["storage"]).args(args);
        let storage = storage.env("MUTIRAO_DATA", place.arg("data"));
        storage.env("MUTIRAO_REGISTER", place.arg("register")).run()
    };
    for (args, part) in [
        (&["head", "--replicas", "0"][..], "--replicas"),
        (&["head", "--interval", "0s"], "--interval"),
        (&["head", "--repair-bytes", "0"], "--repair-bytes"),
        (&["head", "--bind", "nonsense"], "--bind"),
        (&["data", "--capacity", "much"], "--capacity"),
        (&["data", "--head", "nonsense"], "--head"),
        (&["put"], "<TEXT>"),
        (&["put", "a", "--file", "b"], "--file"),
        (&["get"], "<ID>"),
        (&["status", "--format", "poem"], "--format"),
        (&["put", "a", "--timeout", "soon"], "--timeout"),
        (
            &["put", "a", "--max-record-bytes", "0"],
            "--max-record-bytes",
        ),
        (&["list", "everything"], "everything"),
        (&["pull"], "pull"),
    ] {
        storage(args).expect_code(2).expect_sentence(&[part]);
    }
}

#[test]
fn of_two_heads_that_know_nothing_of_each_other_the_older_one_ends() {
    let mut cluster = Cluster::new(&[]);
    let mut other = Cluster::idle([(1, format!("tcp://127.0.0.1:{}", free_ports()))], &[]);
    let both = format!("{},{}", cluster.list(), other.list());
    for name in ["norte", "sur"] {
        let data = cluster.place.arg(name);
        let node = mutirao(["storage", "data", "--name", name, "--data", &data]);
        let node = node.named(name).args(["--head", &both]).start();
        cluster.nodes.insert(name.into(), node);
    }
    cluster.wait_for_nodes(2);
    let id = cluster.put(b"a");
    // Of two that begin in one second either may be the later one.
    let epoch = cluster.leader().1;
    let second = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    wait_until(DEADLINE, "the next second", || second() > epoch);
    other.start_head(1);
    let older = cluster
        .heads
        .remove(&1)
        .expect("it runs")
        .wait()
        .expect_code(3);
    older.expect_said(&[
        "the data nodes obeyed another head",
        "mutirao: ",
        "stop one of the two, or start both with --peers",
    ]);
    // The other has the nodes, and finds their records.
    other.wait_for_nodes(2);
    other.wait_for("the record", |status| {
        status["records"] == 1 && status["lacking"] == 0
    });
    assert_eq!(other.get(&id), b"a");
    let another = other.put(b"b");
    assert_eq!(other.get(&another), b"b");
    for name in ["norte", "sur"] {
        super::files::check_obedience(&cluster.place.path(&format!("{name}/data.txt")));
    }
}
