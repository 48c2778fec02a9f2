//! There are as many copies as were asked for, and they are good; or there soon are again.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use super::cluster::{Cluster, held, names};
use super::files::{lines, sound_lines};

const NODES: [&str; 3] = ["norte", "sur", "este"];

/// Heads that take a node for dead after two seconds.
const SOON: [&str; 2] = ["--interval", "200ms"];

/// Lines, each on two disks; their ids.
fn filled(cluster: &Cluster, count: usize) -> Vec<String> {
    let mut stream = cluster.stream();
    stream.write(count);
    let ids = stream.end();
    cluster.wait_for_copies(count, 2);
    ids
}

/// Flips a bit of a record's bytes where they lie, while the node runs.
fn flip(cluster: &Cluster, name: &str, record: &str) {
    let path = cluster.place.path(&format!("{name}/data.txt"));
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text
        .find(&format!("record {record} "))
        .expect("it is there");
    let end = at + text[at..].find(" #").expect("the end of the line");
    let byte = text.as_bytes()[end - 1] ^ 1;
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[byte], end as u64 - 1).unwrap();
}

/// The data nodes whose file has a sound line of this record.
fn holders(cluster: &Cluster, record: &str) -> Vec<&'static str> {
    let has = |name: &&str| {
        let path = cluster.place.path(&format!("{name}/data.txt"));
        lines(&path).iter().any(|line| line.contains(record))
    };
    NODES.into_iter().filter(has).collect()
}

#[test]
fn the_records_of_a_dead_node_are_copied_and_too_many_copies_go_when_it_returns() {
    let mut cluster = Cluster::with(&NODES, &SOON);
    let ids = filled(&cluster, 300);
    cluster.kill_node("sur");
    cluster.heads[&1].wait_for("data node sur is stale");
    cluster.heads[&1].wait_for("data node sur is dead");
    let status = cluster.wait_for("the copies of the dead node", |status| {
        let alive = status["nodes"].as_array().unwrap().iter();
        let alive = alive.filter(|node| node["health"] == "alive");
        status["lacking"] == 0 && alive.clone().all(|node| node["records"] == 300)
    });
    assert_eq!(names(&status, "dead"), ["sur"]);
    cluster.check_lines(&ids);
    // One of the two that are left suffices to read them all.
    cluster.kill_node("norte");
    cluster.check_lines(&ids);
    cluster.start_node("norte");
    cluster.start_node("sur");
    cluster.heads[&1].wait_for("data node sur is alive again");
    cluster.wait_for_nodes(3);
    cluster.wait_for_copies(300, 2);
    cluster.check_lines(&ids);
    let verified = cluster.client(&["verify"]).run().expect_code(0);
    assert_eq!(verified.stdout_text(), "600 copies read, 0 damaged\n");
    // Who is where now is on disk, too.
    let all = cluster.kill_all();
    cluster.start_all(all);
    cluster.wait_for_nodes(3);
    cluster.wait_for_copies(300, 2);
    cluster.check_lines(&ids);
}

#[test]
fn a_node_that_comes_back_empty_is_filled_again() {
    let mut cluster = Cluster::with(&["norte", "sur"], &SOON);
    let ids = filled(&cluster, 100);
    cluster.kill_node("sur");
    std::fs::remove_dir_all(cluster.place.path("sur")).unwrap();
    cluster.heads[&1].wait_for("data node sur is dead");
    cluster.start_node("sur");
    cluster.wait_for("the copies of the disk that is lost", |status| {
        let nodes = status["nodes"].as_array().unwrap().iter();
        let alive = nodes.filter(|node| node["health"] == "alive");
        status["lacking"] == 0 && alive.filter(|node| node["records"] == 100).count() == 2
    });
    cluster.kill_node("norte");
    cluster.check_lines(&ids);
}

#[test]
fn a_head_that_lost_its_register_finds_the_records_again() {
    let mut cluster = Cluster::new(&NODES);
    let ids = filled(&cluster, 100);
    cluster.kill_head(1);
    std::fs::remove_dir_all(cluster.place.path("head-1")).unwrap();
    cluster.start_head(1);
    cluster.wait_for_copies(100, 2);
    cluster.check_lines(&ids);
    let another = cluster.put(b"another");
    assert_eq!(cluster.get(&another), b"another");
}

#[test]
fn a_head_with_a_damaged_register_says_so_and_loses_nothing() {
    let mut cluster = Cluster::new(&NODES);
    let ids = filled(&cluster, 100);
    for round in [5, 3] {
        cluster.kill_head(1);
        let mut register = cluster.place.read("head-1/registro_server.txt");
        let at = register.len() * round / 7;
        register[at] ^= 1;
        cluster.place.write("head-1/registro_server.txt", register);
        cluster.start_head(1);
        let said = cluster.heads[&1].wait_for("what is missing is asked of the data nodes");
        assert!(said.contains("WARN") && said.contains("line "), "{said}");
        cluster.wait_for_copies(100, 2);
        cluster.check_lines(&ids);
    }
}

#[test]
fn a_flipped_bit_is_found_by_verify_and_replaced() {
    let cluster = Cluster::new(&NODES);
    let ids = filled(&cluster, 100);
    let bad: Vec<&String> = ids[..3].iter().collect();
    for id in &bad {
        flip(&cluster, holders(&cluster, id)[0], id);
    }
    let found = cluster.client(&["verify"]).run().expect_code(1);
    assert_eq!(found.stdout_text(), "200 copies read, 3 damaged\n");
    found.expect_sentence(&[
        "3 copies were damaged and are being replaced",
        "verify again",
    ]);
    cluster.wait_for_copies(100, 2);
    let found = cluster.client(&["verify"]).run().expect_code(0);
    assert_eq!(found.stdout_text(), "200 copies read, 0 damaged\n");
    cluster.check_lines(&ids);
}

#[test]
fn a_flipped_bit_is_never_read_and_reading_finds_it() {
    let cluster = Cluster::new(&NODES);
    let id = cluster.put(b"the only bytes that count");
    cluster.wait_for_copies(1, 2);
    let damaged = holders(&cluster, &id)[0];
    flip(&cluster, damaged, &id);
    let path = cluster.place.path(&format!("{damaged}/data.txt"));
    // Which copy is read is a matter of chance, so it takes some reads.
    crate::harness::wait_until(crate::harness::DEADLINE, "the damage to be found", || {
        assert_eq!(cluster.get(&id), b"the only bytes that count");
        let found = lines(&path);
        found.iter().any(|line| line.starts_with("damaged"))
    });
    cluster.wait_for_copies(1, 2);
    cluster.client(&["verify"]).run().expect_code(0);
}

#[test]
fn damage_while_a_node_is_down_is_found_at_its_start() {
    let mut cluster = Cluster::new(&["norte", "sur"]);
    let ids = filled(&cluster, 50);
    cluster.kill_node("norte");
    flip(&cluster, "norte", &ids[7]);
    cluster.start_node("norte");
    let said = cluster.nodes["norte"].wait_for("are damaged and were passed over");
    assert!(
        said.contains("WARN  1 lines") || said.contains(" 1 lines of "),
        "{said}"
    );
    cluster.wait_for_copies(50, 2);
    cluster.check_lines(&ids);
    cluster.client(&["verify"]).run().expect_code(0);
}

#[test]
fn a_check_says_whom_it_could_not_ask() {
    let mut cluster = Cluster::with(&NODES, &SOON);
    filled(&cluster, 10);
    cluster.kill_node("este");
    cluster.heads[&1].wait_for("data node este is stale");
    let verified = cluster.client(&["verify"]).run().expect_code(1);
    verified.expect_sentence(&["este could not be asked"]);
}

#[test]
fn three_copies_are_three_copies() {
    let mut cluster = Cluster::with(&NODES, &["--replicas", "3"]);
    let id = cluster.put(b"three");
    let status = cluster.wait_for_copies(1, 3);
    assert_eq!(held(&status), 3);
    assert_eq!(holders(&cluster, &id).len(), 3);
    let noted = sound_lines(&cluster.place.path("registro_cliente.txt"));
    assert_eq!(noted[0].len(), 6 + 3);
    cluster.kill_node("norte");
    cluster.kill_node("sur");
    assert_eq!(cluster.get(&id), b"three");
}
