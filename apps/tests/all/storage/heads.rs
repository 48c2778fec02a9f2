//! Several heads: whichever of them leads, nothing that was confirmed is lost.

use rustix::process::Signal;

use crate::harness::{DEADLINE, wait_until};

use super::cluster::{Cluster, free_ports};
use super::files::{check_obedience, sound_lines};

const NODES: [&str; 3] = ["norte", "sur", "este"];

/// Checks what is there now, and again when everybody was killed at once.
#[track_caller]
fn check(cluster: &mut Cluster, ids: &[String]) {
    check_among(cluster, ids);
    let all = cluster.kill_all();
    cluster.start_all(all);
    cluster.wait_for_nodes(NODES.len());
    check_among(cluster, ids);
    for name in NODES {
        check_obedience(&cluster.place.path(&format!("{name}/data.txt")));
    }
}

#[test]
fn when_the_leader_is_killed_all_find_the_next_one() {
    let mut cluster = Cluster::of_three_heads(&NODES, &[]);
    let mut stream = cluster.stream();
    stream.write(1_000);
    stream.wait_for(100);
    let mut reign = cluster.leader();
    for _ in 0..3 {
        cluster.kill_head(reign.0);
        stream.write(300);
        stream.wait_for_more(200);
        let next = cluster.leader();
        assert!(
            next.0 != reign.0 && next.1 > reign.1,
            "{next:?} after {reign:?}"
        );
        cluster.start_head(reign.0);
        reign = next;
    }
    let ids = stream.end();
    check(&mut cluster, &ids);
    // In the end every head has every record in its register.
    for id in 1..=3 {
        let path = cluster
            .place
            .path(&format!("head-{id}/registro_server.txt"));
        wait_until(
            DEADLINE,
            &format!("the whole register at head {id}"),
            || {
                let lines = sound_lines(&path);
                ids.iter().all(|id| {
                    let names_it = |words: &Vec<String>| words.get(4) == Some(id);
                    lines.iter().any(names_it)
                })
            },
        );
    }
}

#[test]
fn a_leader_that_stood_still_beyond_its_lease_does_no_harm() {
    let mut cluster = Cluster::of_three_heads(&NODES, &[]);
    let mut stream = cluster.stream();
    stream.write(1_000);
    stream.wait_for(100);
    let old = cluster.leader();
    cluster.heads[&old.0].signal(Signal::STOP);
    stream.write(300);
    stream.wait_for_more(200);
    let new = cluster.leader();
    assert!(new.0 != old.0 && new.1 > old.1, "{new:?} after {old:?}");
    cluster.heads[&old.0].signal(Signal::CONT);
    cluster.heads[&old.0].wait_for(&format!("head {} leads no more", old.0));
    stream.write(300);
    let ids = stream.end();
    cluster.check_lines(&ids);
    // It can follow and lead again.
    cluster.kill_head(new.0);
    wait_until(DEADLINE, "a leader of the two that are left", || {
        cluster.leader().0 != new.0
    });
    cluster.check_lines(&ids);
    cluster.start_head(new.0);
    check(&mut cluster, &ids);
}

#[test]
fn a_client_is_served_although_a_head_does_not_finish_the_handshake() {
    let mut cluster = Cluster::of_three_heads(&NODES, &[]);
    let (leader, _) = cluster.leader();
    let still = (1..=3).find(|id| *id != leader).expect("there are three");
    cluster.heads[&still].signal(Signal::STOP);
    let mut stream = cluster.stream();
    stream.write(1);
    stream.wait_for(1);
    // It connects at the same time as the client, and says what it has found.
    cluster.start_node("oeste");
    cluster.nodes["oeste"].wait_for("does not let us in");
    stream.write(1);
    stream.wait_for(2);
    cluster.heads[&still].signal(Signal::CONT);
    let ids = stream.end();
    check_among(&cluster, &ids);
}

/// Checks the lines, and that no epoch had two leaders.
#[track_caller]
fn check_among(cluster: &Cluster, ids: &[String]) {
    cluster.check_lines(ids);
    cluster.check_reigns();
}

#[test]
fn a_head_without_a_majority_confirms_nothing() {
    let mut cluster = Cluster::of_three_heads(&NODES, &[]);
    let before = cluster.put(b"before");
    let (leader, _) = cluster.leader();
    let others: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.kill_head(*id));
    cluster.heads[&leader].wait_for(&format!("head {leader} leads no more"));
    let mut stream = cluster.stream();
    stream.write(50);
    for request in [&["put", "a"][..], &["get", &before], &["status"], &["list"]] {
        let ended = cluster.client(request).args(["--timeout", "1s"]).run();
        ended.expect_code(3).expect_said(&["within 1 s"]);
    }
    assert!(stream.ids().is_empty(), "confirmed by one of three");
    cluster.start_head(others[0]);
    let ids = stream.end();
    assert_eq!(cluster.get(&before), b"before");
    cluster.start_head(others[1]);
    check(&mut cluster, &ids);
}

#[test]
fn a_head_whose_register_is_damaged_says_what_to_do_and_gets_it_back() {
    let mut cluster = Cluster::of_three_heads(&["norte", "sur"], &[]);
    let ids: Vec<String> = (0..20)
        .map(|number| cluster.put(&super::cluster::line(number)))
        .collect();
    let (leader, _) = cluster.leader();
    cluster.kill_head(leader);
    let file = format!("head-{leader}/registro_server.txt");
    let mut bytes = cluster.place.read(&file);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    cluster.place.write(&file, &bytes);
    let refused = cluster.head_launch(leader).run().expect_code(3);
    refused.expect_sentence(&["registro_server.txt: line ", "of another head"]);
    assert!(cluster.place.read(&file) == bytes, "it is left alone");
    std::fs::remove_file(cluster.place.path(&file)).unwrap();
    cluster.start_head(leader);
    let other = cluster.leader().0;
    cluster.kill_head(other);
    cluster.check_lines(&ids);
}

#[test]
fn heads_with_peers_that_make_no_sense_are_told_so() {
    let place = crate::harness::Place::new();
    let head = |flags: &[&str]| {
        let data = place.arg("head");
        let head = crate::harness::mutirao(["storage", "head", "--data", &data]);
        head.args(flags).run()
    };
    let port = free_ports();
    let (one, two) = (
        format!("1=tcp://127.0.0.1:{port}"),
        format!("2=tcp://127.0.0.1:{}", free_ports()),
    );
    let both = format!("{one},{two}");
    let twice = format!("{one},{one}");
    let bare = format!("tcp://127.0.0.1:{port}");
    for (flags, part) in [
        (&["--id", "1"][..], "--peers"),
        (&["--peers", &both], "--id"),
        (&["--id", "3", "--peers", &both], "head 3 is not in --peers"),
        (&["--id", "1", "--peers", &twice], "named twice"),
        (&["--id", "1", "--peers", &bare], "write it like 1="),
        (&["--id", "x", "--peers", &both], "--id"),
        (&["--id", "1", "--peers", "1=nonsense"], "nonsense"),
    ] {
        head(flags).expect_code(2).expect_sentence(&[part]);
    }
}
