//! A network that falls apart: only the side with most heads confirms anything. Needs root.

use crate::harness::{DEADLINE, Ended, wait_until};
use crate::netns::Networks;

use super::cluster::{Cluster, Stream, line, names};
use super::files::check_obedience;

const NODES: [&str; 4] = ["norte", "sur", "este", "oeste"];

/// Three heads and four data nodes, each on a machine of its own.
struct Machines {
    networks: Networks,
    cluster: Cluster,
}

impl Machines {
    fn new() -> Option<Machines> {
        let networks = Networks::new(3 + NODES.len())?;
        let at = (0..3).map(|node| {
            (
                node as u32 + 1,
                format!("tcp://{}:5590", networks.address(node)),
            )
        });
        let flags = ["--insecure", "--interval", "300ms"];
        let mut machines = Machines {
            cluster: Cluster::idle(at, &flags),
            networks,
        };
        for id in 1..=3 {
            let head = machines.cluster.head_launch(id);
            let head = machines.networks.start(id as usize - 1, head);
            machines.cluster.heads.insert(id, head);
        }
        for (node, name) in (3..).zip(NODES) {
            let data = machines.cluster.node_launch(name);
            let data = machines.networks.start(node, data);
            machines.cluster.nodes.insert(name.into(), data);
        }
        Some(machines)
    }

    /// A client on the machine of this head.
    fn ask(&self, head: u32, args: &[&str]) -> Ended {
        let client = self.cluster.client(args);
        self.networks.start(head as usize - 1, client).wait()
    }

    fn stream(&self, head: u32) -> Stream {
        let put = self.cluster.stream_launch();
        Stream::of(self.networks.start(head as usize - 1, put))
    }

    #[track_caller]
    fn wait_for_nodes(&self, head: u32) {
        wait_until(DEADLINE, "all data nodes", || {
            let status = self.ask(head, &["status", "--format", "json"]);
            let status = status.expect_code(0).summary();
            names(&status, "alive").len() == NODES.len()
        });
    }

    /// The head that leads.
    #[track_caller]
    fn leader(&self, asked: u32) -> u32 {
        let status = self.ask(asked, &["status", "--format", "json"]);
        let epoch = status.expect_code(0).summary()["epoch"].to_string();
        let says = |id: &u32| {
            let leads = format!("head {id} leads, epoch {epoch}");
            self.cluster.heads[id].said().contains(&leads)
        };
        (1..=3).find(says).expect("one says that it leads")
    }

    #[track_caller]
    fn check_lines(&self, ids: &[String]) {
        for (number, id) in ids.iter().enumerate() {
            let asked = number as u32 % 3 + 1;
            let found = self.ask(asked, &["get", id]).expect_code(0);
            assert_eq!(found.stdout, line(number), "{id}");
        }
    }
}

#[test]
fn a_head_on_the_smaller_side_confirms_nothing() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.wait_for_nodes(1);
    let mut before = machines.stream(1);
    before.write(30);
    let before = before.end();
    let old = machines.leader(1);
    let other = (1..=3).find(|id| *id != old).expect("there are three");
    // The leader has two data nodes on its side, so that only the lack of heads stops it.
    machines.networks.part(&[old as usize - 1, 3, 4]);
    let (mut smaller, mut larger) = (machines.stream(old), machines.stream(other));
    smaller.write(30);
    larger.write(30);
    let confirmed = larger.end();
    assert!(smaller.ids().is_empty(), "confirmed on the smaller side");
    machines.cluster.heads[&old].wait_for(&format!("head {old} leads no more"));
    let asked = machines.ask(old, &["get", &before[0], "--timeout", "1s"]);
    asked
        .expect_code(3)
        .expect_said(&["was not found within 1 s"]);
    assert_ne!(machines.leader(other), old);
    machines.networks.heal_all();
    // Whoever waited on the smaller side is served now.
    let smaller = smaller.end();
    for ids in [&before, &confirmed, &smaller] {
        machines.check_lines(ids);
    }
    machines.wait_for_nodes(old);
    machines.cluster.check_reigns();
    for name in NODES {
        check_obedience(&machines.cluster.place.path(&format!("{name}/data.txt")));
    }
}
