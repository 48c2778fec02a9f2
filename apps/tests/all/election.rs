//! Elections among real processes: killed, stopped, cut off, started wrongly.

use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::harness::{DEADLINE, Launch, Place, Process, mutirao, wait_until};
use crate::netns::Networks;

/// Members that share a machine with other tests: everything takes five times longer.
const SLOW: [&str; 8] = [
    "--beat",
    "150ms",
    "--timeout-min",
    "750ms",
    "--timeout-max",
    "1500ms",
    "--lease",
    "700ms",
];

/// Members of an election, some of them running.
struct Cluster {
    place: Place,
    peers: String,
    flags: Vec<String>,
    times: Vec<String>,
    nodes: BTreeMap<u64, Process>,
    /// What those have said that were killed.
    gone: String,
}

impl Cluster {
    fn new(ids: impl IntoIterator<Item = u64>, flags: &[&str]) -> Cluster {
        Cluster {
            place: Place::new(),
            peers: peers(ids),
            flags: flags.iter().map(|flag| flag.to_string()).collect(),
            times: SLOW.map(String::from).into(),
            nodes: BTreeMap::new(),
            gone: String::new(),
        }
    }

    /// Five that run.
    fn five(flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::new(1..=5, flags);
        (1..=5).for_each(|id| cluster.start(id));
        cluster
    }

    /// A member, as it would be started.
    fn launch(&self, id: u64) -> Launch {
        self.launch_with("ballots", id)
    }

    /// The same with its ballot in some folder.
    fn launch_with(&self, ballots: &str, id: u64) -> Launch {
        let (id, data) = (id.to_string(), self.place.arg(ballots));
        mutirao([
            "election",
            "node",
            "--id",
            &id,
            "--peers",
            &self.peers,
            "--data",
            &data,
        ])
        .args(&self.flags)
        .args(&self.times)
    }

    fn start(&mut self, id: u64) {
        self.nodes.insert(id, self.launch(id).start());
    }

    /// The same on a machine of its own.
    fn start_on(&mut self, networks: &Networks, id: u64) {
        let process = networks.start(node_of(id), self.launch(id));
        self.nodes.insert(id, process);
    }

    /// `kill -9`.
    fn kill(&mut self, id: u64) {
        let mut killed = self.nodes.remove(&id).expect("it runs");
        killed.kill_now();
        self.gone += &killed.said();
    }

    /// Everything that members have logged, those that were killed included.
    fn said(&self) -> String {
        let nodes = self.nodes.values().map(Process::said);
        [self.gone.clone()].into_iter().chain(nodes).collect()
    }

    fn watch(&self) -> Process {
        let watch = mutirao([
            "election",
            "watch",
            "--format",
            "json",
            "--peers",
            &self.peers,
        ]);
        let with_transport = self.flags.iter().position(|flag| flag == "--transport");
        let transport = with_transport.map_or(&[][..], |at| &self.flags[at..at + 2]);
        watch.args(transport).start()
    }

    /// Waits until one leads, other than `before` and in a higher epoch, and all that run follow it; it and its epoch.
    fn agreed(&self, before: Option<(u64, u64)>) -> (u64, u64) {
        let mut agreed = None;
        wait_until(DEADLINE, "a leader whom all follow", || {
            agreed = self.leader().filter(|(id, epoch)| {
                let others = self.nodes.iter().filter(|(other, _)| *other != id);
                let follow = format!("follows member {id}, epoch {epoch}");
                before.is_none_or(|before| before.0 != *id && before.1 < *epoch)
                    && others
                        .clone()
                        .all(|(_, node)| last_said(node).ends_with(&follow))
            });
            agreed.is_some()
        });
        agreed.expect("it was waited for")
    }

    /// Waits until this one leads and all others follow it, in whatever epoch: with bully each counts its own.
    fn all_follow(&self, id: u64) {
        let (lead, follow) = (
            format!("member {id} leads, "),
            format!("follows member {id},"),
        );
        wait_until(DEADLINE, &format!("all to follow member {id}"), || {
            self.nodes.iter().all(|(&other, node)| match other == id {
                true => last_said(node).contains(&lead),
                false => last_said(node).contains(&follow),
            })
        });
    }

    /// The one whose last word was that it leads.
    fn leader(&self) -> Option<(u64, u64)> {
        let mut reigns = self.nodes.iter().filter_map(|(&id, node)| {
            let last = last_said(node);
            let epoch = last.rsplit_once(&format!("member {id} leads, epoch "))?.1;
            Some((id, epoch.parse().expect("an epoch")))
        });
        reigns.next().filter(|_| reigns.next().is_none())
    }

    fn signal(&self, id: u64, signal: Signal) {
        self.nodes[&id].signal(signal);
    }
}

/// A list of peers at ports that are free.
fn peers(ids: impl IntoIterator<Item = u64>) -> String {
    // All are held until all are known, so that none comes twice.
    let taken = ids
        .into_iter()
        .map(|id| (id, TcpListener::bind("127.0.0.1:0").unwrap()));
    let taken: Vec<_> = taken.collect();
    let peer = |(id, listener): &(u64, TcpListener)| {
        format!("{id}=tcp://{}", listener.local_addr().unwrap())
    };
    taken.iter().map(peer).collect::<Vec<_>>().join(",")
}

/// The last line of a member's log that says how it stands.
fn last_said(node: &Process) -> String {
    let said = node.said();
    let standing = |line: &&str| {
        ["leads", "follows member", "knows no leader"]
            .iter()
            .any(|part| line.contains(part))
    };
    said.lines().rfind(standing).unwrap_or_default().to_owned()
}

/// Every leadership that stands in a log, in its order: id and epoch.
fn reigns(said: &str) -> Vec<(u64, u64)> {
    let reign = |line: &str| {
        let (before, epoch) = line.split_once(" leads, epoch ")?;
        let id = before.rsplit_once("member ")?.1;
        Some((id.parse().ok()?, epoch.parse().ok()?))
    };
    said.lines().filter_map(reign).collect()
}

/// The epochs in which a member has led, by its own log.
fn reigns_of(id: u64, said: &str) -> Vec<u64> {
    let reigns = reigns(said).into_iter().filter(|reign| reign.0 == id);
    reigns.map(|reign| reign.1).collect()
}

/// Checks that no epoch has two leaders, in the logs of all; how many epochs had one.
#[track_caller]
fn one_leader_in_an_epoch(said: &str) -> usize {
    let mut leaders = BTreeMap::new();
    for (id, epoch) in reigns(said) {
        let leader = leaders.entry(epoch).or_insert(id);
        assert_eq!(*leader, id, "two led in epoch {epoch}:\n{said}");
    }
    leaders.len()
}

/// Every look of a watcher so far.
fn looks(watch: &Process) -> Vec<Value> {
    let said = watch.said_on_stdout();
    let whole = &said[..said.rfind('\n').map_or(0, |at| at + 1)];
    let looks = whole.lines().map(serde_json::from_str);
    looks
        .collect::<Result<_, _>>()
        .expect("a line of JSON for each look")
}

fn leaders(look: &Value) -> Vec<(u64, u64)> {
    let leaders = look["leaders"].as_array().expect("leaders");
    let leader = |leader: &Value| {
        (
            leader["id"].as_u64().unwrap(),
            leader["epoch"].as_u64().unwrap(),
        )
    };
    leaders.iter().map(leader).collect()
}

/// Waits until the watcher has seen it lead, and nobody else at the time.
fn wait_for_leader(watch: &Process, leader: (u64, u64)) {
    wait_until(
        DEADLINE,
        &format!("the watcher to see that {leader:?} leads"),
        || looks(watch).iter().any(|look| leaders(look) == [leader]),
    );
}

const TRANSPORTS: [&[&str]; 2] = [&["--transport", "zmq"], &["--transport", "tcp"]];

#[test]
fn the_highest_leads_and_when_it_is_killed_another_does_in_a_higher_epoch() {
    for transport in TRANSPORTS {
        let mut cluster = Cluster::five(transport);
        let watch = cluster.watch();
        let mut leader = cluster.agreed(None);
        wait_for_leader(&watch, leader);
        for _ in 0..2 {
            cluster.kill(leader.0);
            leader = cluster.agreed(Some(leader));
            wait_for_leader(&watch, leader);
        }
        // With three of five gone there is no majority.
        cluster.kill(leader.0);
        wait_until(DEADLINE, "the watcher to see that nobody leads", || {
            looks(&watch)
                .last()
                .is_some_and(|look| leaders(look).is_empty())
        });
        let gone: Vec<u64> = (1..=5)
            .filter(|id| !cluster.nodes.contains_key(id))
            .collect();
        gone.iter().for_each(|&id| cluster.start(id));
        let again = cluster.agreed(None);
        assert!(
            again.1 > leader.1,
            "{again:?} after {leader:?}: epochs outlive a restart"
        );
        wait_for_leader(&watch, again);
        one_leader_in_an_epoch(&cluster.said());
    }
}

#[test]
fn of_those_that_begin_together_the_highest_leads() {
    // A second between the turns of two members, which nobody oversleeps.
    let times = ["--timeout-min", "1s", "--timeout-max", "6s"];
    let start = |algorithm| {
        let mut cluster = Cluster::new(1..=5, &["--algorithm", algorithm]);
        cluster.times = times.map(String::from).into();
        (1..=5).rev().for_each(|id| cluster.start(id));
        cluster
    };
    assert_eq!(start("quorum").agreed(None).0, 5);
    start("bully").all_follow(5);
}

#[test]
fn a_leader_that_stood_still_never_says_that_it_leads_when_another_does() {
    let cluster = Cluster::five(&[]);
    let watch = cluster.watch();
    let old = cluster.agreed(None);
    wait_for_leader(&watch, old);
    cluster.signal(old.0, Signal::STOP);
    let new = {
        let mut new = None;
        wait_until(DEADLINE, "another leader", || {
            let last = looks(&watch).pop();
            new = last.and_then(|look| leaders(&look).first().copied());
            new.is_some_and(|new| new.0 != old.0)
        });
        new.expect("it was waited for")
    };
    assert!(new.1 > old.1, "{new:?} after {old:?}");
    let before = cluster.nodes[&old.0].said().len();
    cluster.signal(old.0, Signal::CONT);
    let stopped = &cluster.nodes[&old.0];
    stopped.wait_for(&format!("member {} leads no more, epoch {}", old.0, old.1));
    wait_until(DEADLINE, "it to find its place", || {
        let last = last_said(stopped);
        last.contains(" follows ") || last.contains(" leads, ")
    });
    let said = stopped.said().split_off(before);
    assert!(!reigns(&said).contains(&old), "it led again:\n{said}");
    // And no look that has seen a leader is followed by one with an older.
    wait_until(DEADLINE, "the watcher to see it follow", || {
        let last = looks(&watch).pop().expect("a look");
        let members = last["members"].as_array().expect("members");
        members.iter().all(|member| member["role"] != "silent")
    });
    let epochs: Vec<u64> = looks(&watch)
        .iter()
        .flat_map(leaders)
        .map(|(_, epoch)| epoch)
        .collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
    assert!(looks(&watch).iter().all(|look| leaders(look).len() <= 1));
    one_leader_in_an_epoch(&cluster.said());
}

#[test]
fn no_epoch_has_two_leaders_whoever_is_killed() {
    let mut cluster = Cluster::five(&[]);
    let mut leader = cluster.agreed(None);
    for _ in 0..3 {
        cluster.kill(leader.0);
        let back = leader.0;
        leader = cluster.agreed(Some(leader));
        cluster.start(back);
    }
    let epochs = one_leader_in_an_epoch(&cluster.said());
    assert!(epochs >= 4, "only {epochs} led:\n{}", cluster.said());
}

#[test]
fn a_leader_that_is_stopped_says_so_and_the_others_need_not_miss_it() {
    for transport in TRANSPORTS {
        let mut cluster = Cluster::five(transport);
        let old = cluster.agreed(None);
        cluster.signal(old.0, Signal::TERM);
        let stopped = cluster.nodes.remove(&old.0).expect("it runs");
        let ended = stopped.wait().expect_code(0);
        let no_more = format!("member {} leads no more, epoch {}", old.0, old.1);
        ended.expect_said(&[&no_more]);
        let heard = format!("member {} has given up the lead, epoch {}", old.0, old.1);
        cluster
            .nodes
            .values()
            .for_each(|node| drop(node.wait_for(&heard)));
        cluster.agreed(Some(old));
        one_leader_in_an_epoch(&cluster.said());
    }
}

#[test]
fn two_processes_with_one_id_are_named() {
    let mut cluster = Cluster::new(1..=3, &[]);
    (1..=3).for_each(|id| cluster.start(id));
    let leader = cluster.agreed(None);
    // On another machine it could listen at the port in the list as well.
    let twin = cluster.launch_with("other-ballots", 3);
    let twin = twin.args(["--bind", "tcp://127.0.0.1:*"]).start();
    twin.wait_for("member 3 of 3 at ");
    for id in 1..=2 {
        cluster.nodes[&id].wait_for("two processes speak as member 3: stop one of them");
    }
    assert_eq!(reigns(&twin.said()), []);
    drop(twin);
    assert!(cluster.agreed(None).1 >= leader.1);
}

#[test]
fn bully_prefers_the_highest_even_when_it_comes_back() {
    let mut cluster = Cluster::five(&["--algorithm", "bully"]);
    cluster.all_follow(5);
    cluster.nodes.remove(&5).expect("it runs").kill();
    cluster.all_follow(4);
    cluster.start(5);
    cluster.all_follow(5);
}

#[test]
fn a_signal_ends_a_member_and_its_lead() {
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let mut cluster = Cluster::new([7], &[]);
        cluster.start(7);
        cluster.agreed(None);
        let node = cluster.nodes.remove(&7).expect("it runs");
        node.signal(signal);
        let ended = node.wait().expect_code(code);
        let (_, epoch) = reigns(&ended.stderr).pop().expect("it has led");
        let no_more = format!("member 7 leads no more, epoch {epoch}");
        let ended = ended.expect_said(&[&no_more, "member 7 takes part no more: it was stopped"]);
        assert!(ended.stdout.is_empty());
    }
}

#[test]
fn a_ballot_that_is_damaged_in_use_or_anothers_is_refused() {
    let mut cluster = Cluster::new(1..=2, &[]);
    cluster
        .place
        .write("ballots/ballot-1.txt", "mutirao-ballot 1 member=1 epo");
    let refused = cluster.launch(1).run().expect_code(3);
    refused.expect_sentence(&["ballot-1.txt", "damaged", "restore it"]);
    assert_eq!(
        cluster.place.read("ballots/ballot-1.txt"),
        b"mutirao-ballot 1 member=1 epo"
    );
    cluster.start(2);
    cluster.nodes[&2].wait_for("member 2 of 2 at ");
    let twice = cluster.launch(2).run().expect_code(3);
    twice.expect_sentence(&["ballot-2.txt", "in use by another process"]);
    let ballot = cluster.place.read("ballots/ballot-2.txt");
    cluster.place.write("ballots/ballot-1.txt", ballot);
    let anothers = cluster.launch(1).run().expect_code(3);
    anothers.expect_sentence(&["belongs to member 2"]);
}

#[test]
fn what_is_wrong_is_a_sentence() {
    let cluster = Cluster::new(1..=3, &[]);
    let node = |id: &str, peers: &str, flags: &[&str]| {
        let data = cluster.place.arg("ballots");
        let node = mutirao([
            "election", "node", "--id", id, "--peers", peers, "--data", &data,
        ]);
        node.args(flags).run()
    };
    let peers = cluster.peers.as_str();
    node("9", peers, &[])
        .expect_code(2)
        .expect_sentence(&["member 9 is not in --peers"]);
    node("x", peers, &[])
        .expect_code(2)
        .expect_sentence(&["--id"]);
    for (wrong, part) in [
        ("1=tcp://127.0.0.1:1,1=tcp://127.0.0.1:2", "named twice"),
        ("1=tcp://127.0.0.1:1,2=tcp://127.0.0.1:1", "same endpoint"),
        ("127.0.0.1:1", "is not a member"),
    ] {
        node("1", wrong, &[])
            .expect_code(2)
            .expect_sentence(&["--peers", part]);
        let watch = mutirao(["election", "watch", "--peers", wrong]).run();
        watch.expect_code(2).expect_sentence(&["--peers", part]);
    }
    node("1", peers, &["--lease", "150ms"])
        .expect_code(2)
        .expect_sentence(&["--lease"]);
    node("1", peers, &["--timeout-max", "150ms"])
        .expect_code(2)
        .expect_sentence(&["--timeout-max"]);
    node("1", peers, &["--bind", "tcp://0.0.0.0:*"])
        .expect_code(2)
        .expect_sentence(&["--insecure"]);
    let nowhere = mutirao([
        "election",
        "node",
        "--id",
        "1",
        "--peers",
        peers,
        "--data",
        "/dev/null/x",
    ]);
    nowhere.run().expect_code(3).expect_sentence(&["--data"]);
    for transport in TRANSPORTS {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let peers = format!("1=tcp://{}", taken.local_addr().unwrap());
        node("1", &peers, transport)
            .expect_code(3)
            .expect_sentence(&["in use"]);
    }
}

#[test]
fn members_that_were_started_with_unequal_lists_refuse_each_other() {
    let mut cluster = Cluster::new(1..=3, &[]);
    cluster.start(1);
    cluster.start(2);
    let leader = cluster.agreed(None);
    let listed = cluster.peers.clone();
    cluster.peers = format!("{listed},4=tcp://127.0.0.1:9");
    cluster.start(3);
    let refusal = "member 3 was started with other peers";
    cluster.nodes[&1].wait_for(refusal);
    cluster.nodes[&2].wait_for(refusal);
    cluster.nodes[&3].wait_for("was started with other peers, another algorithm or other times");
    let odd = cluster.nodes.remove(&3).expect("it runs");
    assert!(reigns(&odd.said()).is_empty(), "{}", odd.said());
    assert!(cluster.agreed(None).1 >= leader.1);
}

#[test]
fn members_with_keys_elect_and_one_without_is_not_heard() {
    let keys = Place::new();
    mutirao(["keygen", &keys.arg("keys")]).run().expect_code(0);
    let (key, server) = (keys.arg("keys/server.key"), keys.arg("keys/server.pub"));
    let (allow, client) = (keys.arg("keys/allow"), keys.arg("keys/client.key"));
    let flags = [
        "--curve-key",
        &key,
        "--curve-server",
        &server,
        "--curve-allow",
        &allow,
    ];
    let mut cluster = Cluster::new(1..=3, &flags);
    (1..=2).for_each(|id| cluster.start(id));
    let leader = cluster.agreed(None);
    let watch = mutirao([
        "election",
        "watch",
        "--format",
        "json",
        "--peers",
        &cluster.peers,
    ])
    .args(["--curve-key", &client, "--curve-server", &server])
    .start();
    wait_for_leader(&watch, leader);
    cluster.flags.clear();
    cluster.start(3);
    let stranger = mutirao([
        "election",
        "watch",
        "--format",
        "json",
        "--peers",
        &cluster.peers,
    ]);
    let stranger = stranger.start();
    wait_until(DEADLINE, "a look without a key", || {
        !looks(&stranger).is_empty()
    });
    let seen = looks(&stranger).pop().expect("a look");
    let roles = seen["members"].as_array().unwrap().iter();
    assert!(
        roles.take(2).all(|member| member["role"] == "silent"),
        "{seen}"
    );
    drop(cluster.nodes.remove(&3));
    assert!(cluster.agreed(None).1 >= leader.1);
}

#[test]
fn a_watcher_tells_people_what_changes_in_lines() {
    let mut cluster = Cluster::new(1..=2, &[]);
    let watch = mutirao(["election", "watch", "--peers", &cluster.peers]).start();
    watch.wait_for_output("member 1 is silent");
    (1..=2).for_each(|id| cluster.start(id));
    let (id, epoch) = cluster.agreed(None);
    let other = 3 - id;
    watch.wait_for_output(&format!("member {id} leads, epoch {epoch}"));
    watch.wait_for_output(&format!(
        "member {other} follows member {id}, epoch {epoch}"
    ));
}

#[test]
fn the_experiment_finds_bully_with_two_leaders_and_quorum_never() {
    let place = Place::new();
    let report = place.arg("report");
    let flags = [
        "--loss",
        "0,20",
        "--time",
        "5s",
        "--seeds",
        "20",
        "--first-seed",
        "7",
    ];
    let experiment = || mutirao(["election", "experiment"]).args(flags);
    let ended = experiment()
        .args(["--report", &report])
        .run()
        .expect_code(0);
    let text = ended.stdout_text();
    for part in [
        "quorum: two never led at once",
        "bully: two or more led at once",
        "seeds 7 to 26",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let json: Value = serde_json::from_slice(&place.read("report/results.json")).unwrap();
    let outcomes = json["outcomes"].as_array().expect("outcomes");
    assert_eq!(outcomes.len(), 4);
    for outcome in outcomes {
        let two = outcome["two_leaders"].as_u64().unwrap();
        assert_eq!(outcome["algorithm"] == "bully", two > 0, "{outcome}");
        assert_eq!(outcome["runs"], 20);
    }
    let csv = String::from_utf8(place.read("report/results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    let page = String::from_utf8(place.read("report/report.html")).unwrap();
    assert_eq!(page.matches("<svg ").count(), 3);
    assert!(page.contains("--first-seed 7") && !page.contains("http://localhost"));
    // The same seeds find the same, on however many cores.
    assert_eq!(experiment().run().expect_code(0).stdout_text(), text);
}

#[test]
fn an_experiment_that_is_interrupted_says_what_it_has() {
    let place = Place::new();
    let report = place.arg("report");
    let process = mutirao([
        "election",
        "experiment",
        "--seeds",
        "1000000",
        "--report",
        &report,
    ])
    .start();
    wait_until(DEADLINE, "the report's folder", || {
        place.path("report").is_dir()
    });
    process.signal(Signal::INT);
    let ended = process.wait().expect_code(130);
    ended.expect_said(&["interrupted after ", "the results are partial"]);
    let json: Value = serde_json::from_slice(&place.read("report/results.json")).unwrap();
    assert_eq!(json["partial"], true);
    mutirao(["election", "experiment", "--report", "/dev/null/x"])
        .run()
        .expect_code(3)
        .expect_sentence(&["another folder"]);
    mutirao(["election", "experiment", "--nodes", "0"])
        .run()
        .expect_code(2)
        .expect_sentence(&["--nodes"]);
}

/// A cluster whose members are on machines of their own: member 1 on node 0, and so on.
fn on_machines(networks: &Networks, transport: &[&str]) -> Cluster {
    let mut cluster = Cluster::new([], &["--insecure"]);
    cluster
        .flags
        .extend(transport.iter().map(|flag| flag.to_string()));
    let peer = |id: u64| format!("{id}=tcp://{}:5580", networks.address(node_of(id)));
    cluster.peers = (1..=5).map(peer).collect::<Vec<_>>().join(",");
    (1..=5).for_each(|id| cluster.start_on(networks, id));
    cluster
}

/// Where a member lives.
fn node_of(id: u64) -> usize {
    id as usize - 1
}

#[test]
fn of_a_network_that_falls_apart_the_larger_part_has_the_leader() {
    let Some(networks) = Networks::new(5) else {
        return;
    };
    for transport in TRANSPORTS {
        let mut cluster = on_machines(&networks, transport);
        // Whoever leads, a leader on the smaller side is what is wanted.
        let mut leader = cluster.agreed(None);
        while leader.0 < 4 {
            cluster.kill(leader.0);
            let next = cluster.agreed(Some(leader));
            cluster.start_on(&networks, leader.0);
            leader = next;
        }
        networks.part(&[4, 5].map(node_of));
        let no_more = format!("member {} leads no more, epoch {}", leader.0, leader.1);
        cluster.nodes[&leader.0].wait_for(&no_more);
        let smaller = [4, 5].map(|id| (id, cluster.nodes.remove(&id).expect("it runs")));
        let new = cluster.agreed(Some(leader));
        for (id, node) in smaller {
            let said = node.said();
            let later = reigns(&said).into_iter().filter(|reign| reign.1 > leader.1);
            assert_eq!(later.count(), 0, "a minority has led:\n{said}");
            cluster.nodes.insert(id, node);
        }
        networks.heal_all();
        assert!(cluster.agreed(None).1 >= new.1);
        one_leader_in_an_epoch(&cluster.said());
    }
}

#[test]
fn a_leader_that_is_cut_off_steps_down_and_follows_when_it_is_back() {
    let Some(networks) = Networks::new(5) else {
        return;
    };
    let mut cluster = on_machines(&networks, &[]);
    let old = cluster.agreed(None);
    networks.isolate(node_of(old.0));
    let no_more = format!("member {} leads no more, epoch {}", old.0, old.1);
    cluster.nodes[&old.0].wait_for(&no_more);
    let alone = cluster.nodes.remove(&old.0).expect("it runs");
    let new = cluster.agreed(Some(old));
    assert_eq!(reigns_of(old.0, &alone.said()).last(), Some(&old.1));
    cluster.nodes.insert(old.0, alone);
    networks.heal(node_of(old.0));
    assert!(cluster.agreed(None).1 >= new.1);
    one_leader_in_an_epoch(&cluster.said());
}
