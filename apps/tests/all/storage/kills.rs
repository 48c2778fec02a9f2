//! Whoever is killed or stands still: what was confirmed is there.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::harness::{DEADLINE, wait_until};

use super::cluster::{Cluster, Stream, line, names};
use super::files::{check_obedience, lines, sound_lines};

const NODES: [&str; 3] = ["norte", "sur", "este"];

/// Lines that are under way, some of them confirmed.
fn stream(cluster: &Cluster) -> Stream {
    let mut stream = cluster.stream();
    stream.write(1_500);
    stream.wait_for(100);
    stream
}

/// Checks that every id that was printed has its bytes, each on two disks, also after everybody was killed.
#[track_caller]
fn check(cluster: &mut Cluster, ids: &[String]) {
    cluster.check_lines(ids);
    cluster.wait_for("all copies", |status| status["lacking"] == 0);
    let all = cluster.kill_all();
    cluster.start_all(all);
    cluster.wait_for_nodes(NODES.len());
    cluster.check_lines(ids);
    let status = cluster.wait_for("all copies again", |status| status["lacking"] == 0);
    cluster.wait_for_copies(status["records"].as_u64().unwrap() as usize, 2);
    for name in NODES {
        check_obedience(&cluster.place.path(&format!("{name}/data.txt")));
    }
}

#[test]
fn a_data_node_that_is_killed_takes_nothing_with_it() {
    let mut cluster = Cluster::new(&NODES);
    let mut stream = stream(&cluster);
    cluster.kill_node("sur");
    // The two that are left have room for two copies.
    stream.write(500);
    stream.wait_for_more(200);
    cluster.start_node("sur");
    stream.write(500);
    check(&mut cluster, &stream.end());
}

#[test]
fn a_head_that_is_killed_goes_on_where_it_was() {
    let mut cluster = Cluster::new(&NODES);
    let mut stream = stream(&cluster);
    for _ in 0..2 {
        let epoch = cluster.status()["epoch"].as_u64();
        cluster.kill_head(1);
        cluster.start_head(1);
        stream.write(500);
        stream.wait_for_more(100);
        assert!(cluster.status()["epoch"].as_u64() > epoch);
    }
    check(&mut cluster, &stream.end());
}

#[test]
fn a_head_and_a_data_node_may_die_together() {
    let mut cluster = Cluster::new(&NODES);
    let mut stream = stream(&cluster);
    cluster.kill_head(1);
    cluster.kill_node("norte");
    cluster.start_head(1);
    stream.write(500);
    cluster.start_node("norte");
    stream.wait_for_more(100);
    check(&mut cluster, &stream.end());
}

#[test]
fn everybody_may_die_at_once_the_client_too() {
    let mut cluster = Cluster::new(&NODES);
    let stream = stream(&cluster);
    let all = cluster.kill_all();
    let printed = stream.kill();
    assert!(printed.len() >= 100);
    cluster.start_all(all);
    cluster.wait_for_nodes(NODES.len());
    // What is noted was confirmed, whether it was printed or not.
    let register = cluster.place.path("registro_cliente.txt");
    let noted: BTreeMap<String, String> = sound_lines(&register)
        .into_iter()
        .map(|words| (words[1].clone(), words[4].clone()))
        .collect();
    assert!(printed.iter().all(|id| noted.contains_key(id)));
    let ids: Vec<String> = noted.keys().cloned().collect();
    for (id, found) in ids.iter().zip(cluster.read(&ids)) {
        let bytes = found.unwrap_or_else(|| panic!("{id} was confirmed and is lost"));
        let sum = format!("{:08x}", crc32fast::hash(&bytes));
        assert_eq!(noted[id], sum, "{id}");
    }
    check(&mut cluster, &printed);
}

#[test]
fn a_head_that_stands_still_confirms_nothing_and_then_goes_on() {
    let mut cluster = Cluster::new(&NODES);
    let mut stream = stream(&cluster);
    cluster.heads[&1].signal(Signal::STOP);
    let asked = cluster.client(&["put", "a", "--timeout", "1s"]).run();
    asked.expect_code(3).expect_sentence(&[
        "was not confirmed within 1 s",
        "is a head running at tcp://",
    ]);
    cluster.heads[&1].signal(Signal::CONT);
    stream.write(500);
    check(&mut cluster, &stream.end());
}

#[test]
fn a_data_node_that_stands_still_is_done_without() {
    let mut cluster = Cluster::with(&NODES, &["--interval", "200ms"]);
    let mut stream = stream(&cluster);
    cluster.nodes["sur"].signal(Signal::STOP);
    stream.write(500);
    stream.wait_for_more(300);
    cluster.wait_for("the node to be missed", |status| {
        !names(status, "alive").contains(&"sur".to_owned())
    });
    cluster.nodes["sur"].signal(Signal::CONT);
    cluster.wait_for_nodes(3);
    check(&mut cluster, &stream.end());
}

#[test]
fn with_too_few_data_nodes_nothing_is_confirmed_until_there_are_enough() {
    let mut cluster = Cluster::with(&["norte", "sur"], &["--interval", "200ms"]);
    let before = cluster.put(b"before");
    cluster.kill_node("sur");
    let refused = cluster.client(&["put", "a", "--timeout", "4s"]).run();
    let refused = refused.expect_code(3);
    let refused = refused.expect_sentence(&["was not confirmed within 4 s", "copies asked for: 2"]);
    assert!(refused.stdout.is_empty());
    let mut stream = cluster.stream();
    stream.write(10);
    // One copy can still be read.
    assert_eq!(cluster.get(&before), b"before");
    assert!(stream.ids().is_empty(), "nothing can be confirmed");
    cluster.start_node("sur");
    let ids = stream.end();
    cluster.check_lines(&ids);
    let register = lines(&cluster.place.path("registro_cliente.txt"));
    assert_eq!(register.len(), 11, "what was refused is not noted");
}

#[test]
fn one_node_with_one_copy_each_loses_nothing_either() {
    let mut cluster = Cluster::with(&["solo"], &["--replicas", "1"]);
    let mut stream = stream(&cluster);
    for _ in 0..3 {
        cluster.kill_node("solo");
        cluster.start_node("solo");
        stream.wait_for_more(100);
    }
    stream.write(500);
    let ids = stream.end();
    let all = cluster.kill_all();
    cluster.start_all(all);
    cluster.check_lines(&ids);
    cluster.wait_for_copies(ids.len(), 1);
}

#[test]
fn a_line_that_was_being_written_is_no_harm() {
    let mut cluster = Cluster::new(&["norte", "sur"]);
    let ids = [0, 1, 2].map(|number| cluster.put(&line(number)));
    let all = cluster.kill_all();
    let torn: [(&str, &str); 3] = [
        ("norte/data.txt", "record 00000000000000"),
        ("sur/data.txt", "epo"),
        ("head-1/registro_server.txt", "entry 99 1 rec"),
    ];
    for (file, end) in torn {
        let mut bytes = cluster.place.read(file);
        bytes.extend(end.as_bytes());
        cluster.place.write(file, bytes);
    }
    cluster.start_all(all);
    cluster.wait_for_copies(3, 2);
    cluster.check_lines(&ids);
    let another = cluster.put(b"another");
    assert_eq!(cluster.get(&another), b"another");
    for (file, _) in torn {
        sound_lines(&cluster.place.path(file));
    }
}

#[test]
fn a_signal_ends_everybody_in_good_order() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let mut cluster = Cluster::new(&["norte"]);
        let node = cluster.nodes.remove("norte").expect("it runs");
        node.signal(signal);
        node.wait()
            .expect_code(code)
            .expect_said(&["data node norte was stopped"]);
        let register = cluster.place.arg("own");
        let client = cluster
            .client(&["put", "a", "--register", &register])
            .start();
        wait_until(DEADLINE, "the client to catch signals", || {
            cluster.place.path("own").exists()
        });
        client.signal(signal);
        let stopped = client.wait().expect_code(130);
        stopped.expect_sentence(&["stopped before there was an answer"]);
        let head = cluster.heads.remove(&1).expect("it runs");
        head.signal(signal);
        head.wait()
            .expect_code(code)
            .expect_said(&["head was stopped"]);
    }
}
