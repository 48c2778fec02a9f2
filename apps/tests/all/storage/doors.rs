//! Where a cluster's programs meet: transports, heartbeats, keys, ports and files that are taken.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

use crate::harness::{DEADLINE, Place, Process, mutirao, wait_until};

use super::cluster::{Cluster, free_ports};

/// Checks that a cluster works: what was put is found, also when the head and a data node were started again.
#[track_caller]
fn check(mut cluster: Cluster) {
    let mut stream = cluster.stream();
    stream.write(100);
    let ids = stream.end();
    let large = vec![b'x'; 2 << 20];
    let id = cluster.put(&large);
    assert!(cluster.get(&id) == large);
    let (heads, nodes) = (cluster.heads.len() as u32, cluster.nodes.len());
    cluster.kill_head(heads);
    cluster.start_head(heads);
    cluster.kill_node("sur");
    cluster.start_node("sur");
    cluster.wait_for_nodes(nodes);
    assert!(cluster.get(&id) == large);
    for id in &ids[..3] {
        cluster.get(id);
    }
}

#[test]
fn a_cluster_works_over_every_transport() {
    let place = Place::new();
    let port = || free_ports();
    for at in [
        format!("raw+tcp://127.0.0.1:{}", port()),
        format!("reliable+udp://127.0.0.1:{}", port()),
        place.ipc("head"),
        format!("tcp://[::1]:{}", port()),
    ] {
        if at.contains("::1") && TcpListener::bind("[::1]:0").is_err() {
            eprintln!("skipped: no IPv6 here");
            continue;
        }
        eprintln!("at {at}");
        check(Cluster::idle([(1, at)], &[]).up(&["norte", "sur"]));
    }
}

#[test]
fn three_heads_work_over_raw_tcp_and_ipc() {
    let place = Place::new();
    let raw = [1, 2, 3].map(|id| (id, format!("raw+tcp://127.0.0.1:{}", free_ports())));
    let ipc = [1, 2, 3].map(|id| (id, place.ipc(&format!("head{id}"))));
    for heads in [raw, ipc] {
        check(Cluster::idle(heads, &[]).up(&["norte", "sur"]));
    }
}

#[test]
fn the_transport_can_be_named_apart_from_the_endpoint() {
    let at = format!("tcp://127.0.0.1:{}", free_ports());
    let mut cluster = Cluster::idle([(1, at)], &["--transport", "tcp"]);
    cluster.flags = vec!["--transport".into(), "tcp".into()];
    check(cluster.up(&["norte", "sur"]));
}

/// A group of its own, at a port of its own.
fn group() -> (Ipv4Addr, u16) {
    let [.., a, b] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(239, 255, a, b), free_ports())
}

/// Whether a datagram to a group comes back, or why not.
fn try_multicast() -> Result<(), String> {
    let (group, port) = group();
    let tried = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(b"?", (group, port))?;
        socket.recv(&mut [0; 8])
    };
    tried()
        .map(drop)
        .map_err(|error: std::io::Error| error.to_string())
}

#[test]
fn data_nodes_are_asked_by_multicast() {
    if let Err(why) = try_multicast() {
        eprintln!("skipped: no multicast here: {why}");
        return;
    }
    let (group, port) = group();
    let group = format!("raw+udp://{group}:{port}");
    let at = format!("tcp://127.0.0.1:{}", free_ports());
    let flags = [
        "--heartbeat",
        "multicast",
        "--group",
        &group,
        "--interval",
        "200ms",
    ];
    let cluster = Cluster::idle([(1, at)], &flags).up(&["norte", "sur"]);
    cluster.nodes["norte"].wait_for(&format!("beats at {group}"));
    let rounds = cluster.place.path("head-1/hearbeat_server.txt");
    // The first question goes to each node directly; it is the later ones that only the group carries.
    wait_until(DEADLINE, "both to be up round after round", || {
        let lines = super::files::lines(&rounds);
        let both = |line: &&String| line.contains(" norte up ") && line.contains(" sur up ");
        lines.iter().filter(both).count() >= 5
    });
    check(cluster);
}

#[test]
fn multicast_is_refused_where_it_makes_no_sense() {
    let place = Place::new();
    let keys = keys(&place, "keys");
    let data = place.arg("head");
    let head = |flags: &[&str]| {
        let bind = format!("tcp://127.0.0.1:{}", free_ports());
        let head = mutirao(["storage", "head", "--bind", &bind, "--data", &data]);
        head.args(["--heartbeat", "multicast"]).args(flags).run()
    };
    head(&["--curve-key", &keys.key, "--curve-allow", &keys.allow])
        .expect_code(2)
        .expect_sentence(&["--heartbeat multicast cannot be encrypted"]);
    head(&["--group", "tcp://127.0.0.1:9"])
        .expect_code(2)
        .expect_sentence(&["tcp://127.0.0.1:9 is no group", "raw+udp://239."]);
    head(&["--heartbeat", "pigeon"])
        .expect_code(2)
        .expect_sentence(&["--heartbeat"]);
}

struct Keys {
    key: String,
    server: String,
    allow: String,
    client: String,
}

fn keys(place: &Place, name: &str) -> Keys {
    mutirao(["keygen", &place.arg(name)]).run().expect_code(0);
    Keys {
        key: place.arg(&format!("{name}/server.key")),
        server: place.arg(&format!("{name}/server.pub")),
        allow: place.arg(&format!("{name}/allow")),
        client: place.arg(&format!("{name}/client.key")),
    }
}

/// A cluster with keys: nobody runs yet.
fn encrypted(keys: &Keys, heads: usize) -> Cluster {
    let ids = 1..=heads as u32;
    let at = ids.map(|id| (id, format!("tcp://127.0.0.1:{}", free_ports())));
    let flags = ["--curve-key", &keys.key, "--curve-allow", &keys.allow];
    let mut cluster = Cluster::idle(at, &flags);
    if heads > 1 {
        let server = ["--curve-server".to_owned(), keys.server.clone()];
        cluster.head_flags.extend(server);
    }
    cluster.flags = ["--curve-key", &keys.client, "--curve-server", &keys.server]
        .map(String::from)
        .into();
    cluster
}

#[test]
fn with_the_right_keys_a_cluster_works_and_with_wrong_ones_there_is_a_sentence() {
    let place = Place::new();
    let (ours, other) = (keys(&place, "keys"), keys(&place, "other"));
    let mut cluster = encrypted(&ours, 1).up(&["norte", "sur"]);
    let id = cluster.put(b"a secret");
    assert_eq!(cluster.get(&id), b"a secret");
    let right = std::mem::take(&mut cluster.flags);
    let wrong: [(Vec<&str>, &str); 3] = [
        (vec![], "CURVE"),
        (
            vec!["--curve-key", &ours.client, "--curve-server", &other.server],
            "server key that we expect",
        ),
        (
            vec!["--curve-key", &other.client, "--curve-server", &ours.server],
            "does not allow our public key",
        ),
    ];
    for (flags, part) in wrong {
        cluster.flags = flags.into_iter().map(String::from).collect();
        for request in [&["put", "b"][..], &["get", &id], &["status"], &["verify"]] {
            let ended = cluster.client(request).run().expect_code(3);
            let ended = ended.expect_sentence(&["does not let us in", part]);
            assert!(ended.stdout.is_empty());
        }
        cluster.start_node("este");
        cluster.nodes["este"].wait_for("does not let us in");
        cluster.nodes["este"].wait_for(part);
        cluster.kill_node("este");
    }
    cluster.flags = right;
    let status = cluster.status();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2, "{status}");
    check(cluster);
}

#[test]
fn three_heads_with_keys_share_one() {
    let place = Place::new();
    check(encrypted(&keys(&place, "keys"), 3).up(&["norte", "sur"]));
}

#[test]
fn nobody_listens_beyond_this_machine_without_keys() {
    let place = Place::new();
    let head = |bind: &str| {
        mutirao([
            "storage",
            "head",
            "--bind",
            bind,
            "--data",
            &place.arg("head"),
        ])
        .run()
    };
    for scheme in ["tcp", "raw+tcp"] {
        head(&format!("{scheme}://0.0.0.0:{}", free_ports()))
            .expect_code(2)
            .expect_sentence(&["would listen beyond this machine", "--insecure"]);
    }
    head(&format!("raw+udp://127.0.0.1:{}", free_ports()))
        .expect_code(2)
        .expect_sentence(&["records do not fit into datagrams"]);
    head("inproc://here")
        .expect_code(2)
        .expect_sentence(&["inproc"]);
    for who in [&["data"][..], &["put", "a"], &["status"]] {
        let data = place.arg("data");
        let ended = mutirao(["storage"])
            .args(who)
            .args(["--head", "raw+udp://127.0.0.1:9"])
            .env("MUTIRAO_DATA", &data)
            .env("MUTIRAO_REGISTER", place.arg("register"))
            .run();
        ended
            .expect_code(2)
            .expect_sentence(&["records do not fit into datagrams"]);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let place = Place::new();
    let data = place.arg("head");
    let first = free_ports();
    // Its own, and that of its heartbeats.
    for port in [first, first + 2] {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let bind = format!("tcp://127.0.0.1:{first}");
        let head = mutirao(["storage", "head", "--bind", &bind, "--data", &data]).run();
        head.expect_code(3)
            .expect_sentence(&["in use", &format!(":{port}")]);
    }
    // That of the elections.
    let _taken = TcpListener::bind(("127.0.0.1", first + 1)).unwrap();
    let peers = format!("1=tcp://127.0.0.1:{first}");
    let head = mutirao([
        "storage", "head", "--id", "1", "--peers", &peers, "--data", &data,
    ])
    .run();
    head.expect_code(3)
        .expect_sentence(&["in use", &format!(":{}", first + 1)]);
}

#[test]
fn a_register_that_is_taken_is_named_and_left_alone() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let id = cluster.put(b"a");
    let data = cluster.place.arg("head-1");
    let bind = format!("tcp://127.0.0.1:{}", free_ports());
    let second = mutirao(["storage", "head", "--bind", &bind, "--data", &data]).run();
    second
        .expect_code(3)
        .expect_sentence(&["registro_server.txt is in use by another program"]);
    let second = cluster.node_launch("norte").run().expect_code(3);
    second.expect_sentence(&["data.txt is in use by another program"]);
    cluster.wait_for_nodes(2);
    assert_eq!(cluster.get(&id), b"a");
    let heads = super::files::sound_lines(&cluster.place.path("head-1/registro_server.txt"));
    assert_eq!(
        heads.iter().filter(|words| words[0] == "promise").count(),
        1
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    for (role, file) in [("head", "registro_server.txt"), ("data", "data.txt")] {
        let ended = mutirao(["storage", role, "--data", "/dev/null/x"]).run();
        ended
            .expect_code(3)
            .expect_sentence(&["/dev/null/x", "--data"]);
        // A folder where the file should be.
        let place = Place::new();
        place.write(&format!("x/{file}/something"), "");
        let ended = mutirao(["storage", role, "--data", &place.arg("x")])
            .env("MUTIRAO_BIND", format!("tcp://127.0.0.1:{}", free_ports()))
            .run();
        ended.expect_code(3).expect_sentence(&[file]);
    }
    let log = ["storage", "head", "--heartbeat-log", "/dev/null/x"];
    let place = Place::new();
    let ended = mutirao(log).args(["--data", &place.arg("head")]).run();
    ended.expect_code(3).expect_sentence(&["--heartbeat-log"]);
    let put = ["storage", "put", "a", "--register", "/dev/null/x"];
    let ended = mutirao(put).run();
    ended.expect_code(3).expect_sentence(&["/dev/null/x"]);
}

/// The sockets at which a process listens, of those of the whole system.
fn listening(process: &Process) -> usize {
    let pid = process.pid().as_raw_nonzero();
    let own: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let tables: String = tables.into_iter().flatten().collect();
    let listens = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_listening = words.get(3) == Some(&"0A");
        is_listening && own.contains(&format!("socket:[{}]", words[9]))
    };
    tables.lines().filter(|line| listens(line)).count()
}

#[test]
fn a_client_can_know_only_the_head_as_data_nodes_listen_nowhere() {
    let cluster = Cluster::new(&["norte", "sur"]);
    let id = cluster.put(b"a");
    assert_eq!(cluster.get(&id), b"a");
    assert_eq!(
        listening(&cluster.heads[&1]),
        2,
        "its own port and that of heartbeats"
    );
    for node in cluster.nodes.values() {
        assert_eq!(listening(node), 0);
    }
}
