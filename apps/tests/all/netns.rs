//! Machines that are network namespaces, with a switch between them that can be parted. Needs root.
//!
//! ```text
//! let Some(networks) = Networks::new(5) else { return };          // it has said why it skips
//! let endpoint = format!("tcp://{}:5580", networks.address(0));   // where node 0 is reached
//! let process = networks.start(0, mutirao(["storage", "head"]));  // runs as if it were on that machine
//! networks.isolate(0);        // no frame to it or from it; the cable stays plugged, nobody gets an error
//! networks.part(&[3, 4]);     // these two hear each other, and nobody else
//! networks.heal(0);           // one is back with the rest
//! networks.heal_all();        // all are
//! ```
//!
//! Nodes count from 0. Multicast works. Nothing is changed outside: the switch is a namespace too, and none has
//! a name. Each lives in a process that reads from a pipe of ours, so that all end with the test, even if it is killed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::harness::{DEADLINE, Launch, Process, wait_until};

/// How long a namespace may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bridge of all, and the one of those that are parted from them.
const WHOLE: &str = "whole";
const APART: &str = "apart";

/// Machines of a test.
pub(crate) struct Networks {
    switch: Namespace,
    nodes: Vec<Namespace>,
}

impl Networks {
    /// So many machines that all hear each other; `None`, after a line that says why, where the system does not allow it.
    pub(crate) fn new(nodes: usize) -> Option<Networks> {
        match Networks::try_new(nodes) {
            Ok(networks) => Some(networks),
            Err(why) => {
                eprintln!(
                    "skipped: no network namespaces here (unshare, nsenter, ip; as root): {why}"
                );
                None
            }
        }
    }

    fn try_new(nodes: usize) -> Result<Networks, String> {
        let switch = Namespace::new()?;
        let nodes = (0..nodes).map(|_| Namespace::new());
        let nodes: Vec<Namespace> = nodes.collect::<Result<_, _>>()?;
        let mut bridges = String::new();
        for bridge in [WHOLE, APART] {
            // Frames pass at once, and multicast to everybody.
            let _ = writeln!(
                bridges,
                "link add {bridge} type bridge forward_delay 0 mcast_snooping 0\nlink set {bridge} up"
            );
        }
        switch.ip(&bridges)?;
        let networks = Networks { switch, nodes };
        for (node, namespace) in networks.nodes.iter().enumerate() {
            networks.plug(node, namespace)?;
        }
        Ok(networks)
    }

    /// A cable from the node to the switch.
    fn plug(&self, node: usize, namespace: &Namespace) -> Result<(), String> {
        let (port, far, address) = (port(node), namespace.pid(), self.address(node));
        self.switch.ip(&format!(
            "link add {port} type veth peer name cable netns {far}\n\
             link set {port} master {WHOLE}\n\
             link set {port} up\n"
        ))?;
        namespace.ip(&format!(
            "link set lo up\n\
             address add {address}/16 dev cable\n\
             link set cable up\n\
             route add 224.0.0.0/4 dev cable\n"
        ))
    }

    /// Where the others reach a node.
    pub(crate) fn address(&self, node: usize) -> Ipv4Addr {
        let [high, low] = u16::try_from(node + 1).expect("fewer").to_be_bytes();
        Ipv4Addr::new(10, 99, high, low)
    }

    /// Starts a process on a node.
    pub(crate) fn start(&self, node: usize, launch: Launch) -> Process {
        let target = self.nodes[node].pid().to_string();
        launch
            .through(["nsenter", "--net", "--target", &target])
            .start()
    }

    /// No frame reaches this node, and none from it arrives, until it is healed.
    pub(crate) fn isolate(&self, node: usize) {
        self.switch_to(node, "nomaster");
    }

    /// These nodes hear each other, and nobody else, until they are healed.
    pub(crate) fn part(&self, nodes: &[usize]) {
        for &node in nodes {
            self.switch_to(node, &format!("master {APART}"));
        }
    }

    /// This node is with the others again.
    pub(crate) fn heal(&self, node: usize) {
        self.switch_to(node, &format!("master {WHOLE}"));
    }

    /// All are.
    pub(crate) fn heal_all(&self) {
        (0..self.nodes.len()).for_each(|node| self.heal(node));
    }

    fn switch_to(&self, node: usize, bridge: &str) {
        let port = port(node);
        let switched = self.switch.ip(&format!("link set {port} {bridge}\n"));
        switched.expect("the switch is ours");
    }
}

/// The node's place at the switch.
fn port(node: usize) -> String {
    format!("port{node}")
}

/// A network namespace, for as long as a process lives that does nothing.
struct Namespace(Child);

impl Namespace {
    fn new() -> Result<Namespace, String> {
        let mut holder = Command::new("unshare");
        // It ends at the end of its input, and so with us.
        holder.args(["--net", "cat"]).stdin(Stdio::piped());
        holder.stdout(Stdio::null()).stderr(Stdio::null());
        let holder = holder
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut namespace = Namespace(holder);
        namespace.wait_until_apart()?;
        Ok(namespace)
    }

    fn wait_until_apart(&mut self) -> Result<(), String> {
        let network = |path: String| fs::read_link(path).ok();
        let ours: Option<PathBuf> = network("/proc/self/ns/net".into());
        let begun = Instant::now();
        loop {
            let theirs = network(format!("/proc/{}/ns/net", self.pid()));
            if theirs.is_some() && theirs != ours {
                return Ok(());
            }
            let has_ended = self.0.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || begun.elapsed() > PATIENCE {
                return Err("unshare is refused".into());
            }
            std::thread::yield_now();
        }
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lines of `ip`, done in this namespace up to the first that fails.
    fn ip(&self, lines: &str) -> Result<(), String> {
        let mut ip = Command::new("nsenter");
        ip.args([
            "--net",
            "--target",
            &self.pid().to_string(),
            "ip",
            "-batch",
            "-",
        ]);
        ip.stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut ip = ip.spawn().map_err(|error| format!("nsenter: {error}"))?;
        let mut stdin = ip.stdin.take().expect("a pipe");
        // One that has failed already reads no more, and says why.
        let _ = stdin.write_all(lines.as_bytes());
        drop(stdin);
        let ended = ip.wait_with_output();
        let ended = ended.map_err(|error| format!("ip: {error}"))?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned()),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A socket on a node, whichever thread uses it.
fn socket_on(networks: &Networks, node: usize) -> UdpSocket {
    let address = networks.address(node);
    let namespace = fs::File::open(format!("/proc/{}/ns/net", networks.nodes[node].pid()));
    let open = move || {
        // Only this thread is moved, and it ends here.
        move_into_link_name_space(namespace.unwrap().as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap();
        UdpSocket::bind((address, 9)).unwrap()
    };
    let socket = std::thread::spawn(open).join().expect("a socket");
    let glance = Duration::from_millis(100);
    socket.set_read_timeout(Some(glance)).unwrap();
    socket
}

#[test]
fn nodes_that_are_parted_do_not_hear_each_other_until_they_are_healed() {
    let Some(networks) = Networks::new(3) else {
        return;
    };
    let sockets = [0, 1, 2].map(|node| socket_on(&networks, node));
    let mut said = 0u32;
    let mut hears = |node: usize, other: usize| {
        said += 1;
        // Refused when nobody answers at that address.
        let _ = sockets[other].send_to(&said.to_be_bytes(), (networks.address(node), 9));
        let mut heard = [0; 4];
        while sockets[node].recv(&mut heard).is_ok() {
            if heard == said.to_be_bytes() {
                return true;
            }
        }
        false
    };
    let mut all_hear = |pairs: &[(usize, usize)], whether: bool| {
        for &(a, b) in pairs {
            for (node, other) in [(a, b), (b, a)] {
                let what = format!("{node} and {other}, whether they hear each other: {whether}");
                wait_until(DEADLINE, &what, || hears(node, other) == whether);
            }
        }
    };
    all_hear(&[(0, 1), (1, 2), (2, 0)], true);
    networks.isolate(1);
    all_hear(&[(0, 1), (1, 2)], false);
    all_hear(&[(2, 0)], true);
    networks.part(&[1, 2]);
    all_hear(&[(1, 2)], true);
    all_hear(&[(0, 1), (2, 0)], false);
    networks.heal(1);
    all_hear(&[(0, 1)], true);
    all_hear(&[(1, 2), (2, 0)], false);
    networks.heal_all();
    all_hear(&[(0, 1), (1, 2), (2, 0)], true);
}
