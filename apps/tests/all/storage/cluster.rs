//! A storage cluster of real processes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use mutirao::storage::{ClientSetup, Done, HeadId, RecordId, Request, StorageClient};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Launch, Place, Process, mutirao, wait_until};

/// What a test of many records may take.
pub(super) const LONG: Duration = Duration::from_secs(120);

/// How long clients ask; below [`DEADLINE`], so that they say what is wrong.
const PATIENCE: Duration = Duration::from_secs(50);

/// Heads, data nodes and clients of one cluster.
pub(super) struct Cluster {
    pub(super) place: Place,
    /// Where each head is reached.
    at: BTreeMap<u32, String>,
    has_peers: bool,
    /// Given to the heads.
    pub(super) head_flags: Vec<String>,
    /// Given to whoever connects to a head.
    pub(super) flags: Vec<String>,
    pub(super) heads: BTreeMap<u32, Process>,
    pub(super) nodes: BTreeMap<String, Process>,
    /// Those that were killed, for what they said.
    gone: Vec<Process>,
}

impl Cluster {
    /// A head that is alone, with two copies of each record, and data nodes with these names; all are up.
    pub(super) fn new(names: &[&str]) -> Cluster {
        Cluster::with(names, &[])
    }

    /// The same with flags for the head.
    pub(super) fn with(names: &[&str], head_flags: &[&str]) -> Cluster {
        let at = format!("tcp://127.0.0.1:{}", free_ports());
        Cluster::idle([(1, at)], head_flags).up(names)
    }

    /// Three heads, likewise.
    pub(super) fn of_three_heads(names: &[&str], head_flags: &[&str]) -> Cluster {
        let at = [1, 2, 3].map(|id| (id, format!("tcp://127.0.0.1:{}", free_ports())));
        Cluster::idle(at, head_flags).up(names)
    }

    /// Nobody runs yet.
    pub(super) fn idle(
        heads: impl IntoIterator<Item = (u32, String)>,
        head_flags: &[&str],
    ) -> Cluster {
        let at: BTreeMap<u32, String> = heads.into_iter().collect();
        Cluster {
            place: Place::new(),
            has_peers: at.len() > 1,
            at,
            head_flags: head_flags.iter().map(|flag| flag.to_string()).collect(),
            flags: Vec::new(),
            heads: BTreeMap::new(),
            nodes: BTreeMap::new(),
            gone: Vec::new(),
        }
    }

    /// Starts everybody, and waits until the nodes are known.
    pub(super) fn up(mut self, names: &[&str]) -> Cluster {
        let ids: Vec<u32> = self.at.keys().copied().collect();
        ids.into_iter().for_each(|id| self.start_head(id));
        names.iter().for_each(|name| self.start_node(name));
        self.wait_for_nodes(names.len());
        self
    }

    /// The heads, as those that connect name them.
    pub(super) fn list(&self) -> String {
        let one = |(id, at): (&u32, &String)| match self.has_peers {
            true => format!("{id}={at}"),
            false => at.clone(),
        };
        self.at.iter().map(one).collect::<Vec<_>>().join(",")
    }

    pub(super) fn head_launch(&self, id: u32) -> Launch {
        let data = self.place.arg(&format!("head-{id}"));
        let head = mutirao(["storage", "head", "--data", &data]).named(&format!("head {id}"));
        let head = match self.has_peers {
            true => head.args(["--id", &id.to_string(), "--peers", &self.list()]),
            false => head.args(["--bind", &self.at[&id]]),
        };
        // A flag of the test's own comes in its place.
        let own_interval = self.head_flags.iter().any(|flag| flag == "--interval");
        let interval = ["--interval", "1s"];
        head.args(interval.iter().filter(|_| !own_interval))
            .args(&self.head_flags)
    }

    pub(super) fn start_head(&mut self, id: u32) {
        let head = self.head_launch(id).start();
        head.wait_for("copies of each record");
        self.heads.insert(id, head);
    }

    pub(super) fn node_launch(&self, name: &str) -> Launch {
        let data = self.place.arg(name);
        mutirao(["storage", "data", "--name", name, "--data", &data])
            .named(&format!("data node {name}"))
            .args(["--head", &self.list()])
            .args(&self.flags)
    }

    pub(super) fn start_node(&mut self, name: &str) {
        let node = self.node_launch(name).start();
        self.nodes.insert(name.to_owned(), node);
    }

    /// `mutirao storage COMMAND …` with the heads.
    pub(super) fn client(&self, args: &[&str]) -> Launch {
        let register = self.place.arg("registro_cliente.txt");
        mutirao(["storage"])
            .named(&format!("storage {}", args[0]))
            .args(args)
            .args(["--head", &self.list()])
            .args(&self.flags)
            .env("MUTIRAO_REGISTER", register)
            .env("MUTIRAO_TIMEOUT", format!("{}s", PATIENCE.as_secs()))
    }

    /// Stores bytes; the id.
    #[track_caller]
    pub(super) fn put(&self, bytes: &[u8]) -> String {
        let put = self.client(&["put", "-"]).stdin(bytes).run();
        put.expect_code(0).stdout_text().trim_end().to_owned()
    }

    #[track_caller]
    pub(super) fn get(&self, id: &str) -> Vec<u8> {
        self.client(&["get", id]).run().expect_code(0).stdout
    }

    #[track_caller]
    pub(super) fn status(&self) -> Value {
        let status = self.client(&["status", "--format", "json"]).run();
        status.expect_code(0).summary()
    }

    /// Waits until the cluster fares so.
    #[track_caller]
    pub(super) fn wait_for(&self, what: &str, fares: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.status();
            if fares(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}: {status}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(super) fn wait_for_nodes(&self, alive: usize) {
        self.wait_for(&format!("{alive} data nodes"), |status| {
            names(status, "alive").len() == alive
        });
    }

    /// Waits until each of so many records has exactly so many copies.
    #[track_caller]
    pub(super) fn wait_for_copies(&self, records: usize, copies: usize) -> Value {
        let what = format!("{copies} copies of each of {records} records");
        self.wait_for(&what, |status| {
            status["records"] == records
                && status["lacking"] == 0
                && held(status) == (records * copies) as u64
        })
    }

    pub(super) fn kill_head(&mut self, id: u32) {
        let mut head = self.heads.remove(&id).expect("it runs");
        head.kill_now();
        self.gone.push(head);
    }

    pub(super) fn kill_node(&mut self, name: &str) {
        let mut node = self.nodes.remove(name).expect("it runs");
        node.kill_now();
        self.gone.push(node);
    }

    /// Kills everybody before any of them can notice; who it was.
    pub(super) fn kill_all(&mut self) -> (Vec<u32>, Vec<String>) {
        let all = self.heads.values().chain(self.nodes.values());
        all.for_each(|process| process.signal(Signal::KILL));
        let heads: Vec<u32> = self.heads.keys().copied().collect();
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        heads.iter().for_each(|id| self.kill_head(*id));
        nodes.iter().for_each(|name| self.kill_node(name));
        (heads, nodes)
    }

    pub(super) fn start_all(&mut self, (heads, nodes): (Vec<u32>, Vec<String>)) {
        heads.into_iter().for_each(|id| self.start_head(id));
        nodes.iter().for_each(|name| self.start_node(name));
    }

    /// The head that serves, and its epoch.
    #[track_caller]
    pub(super) fn leader(&self) -> (u32, u64) {
        let epoch = self.status()["epoch"].as_u64().expect("an epoch");
        let mut reigns = self.heads.values().flat_map(|head| reigns(&head.said()));
        let reign = reigns.find(|reign| reign.1 == epoch);
        reign.unwrap_or_else(|| panic!("nobody has said that it leads, epoch {epoch}"))
    }

    /// Checks that no epoch had two leaders, those that are gone included.
    #[track_caller]
    pub(super) fn check_reigns(&self) {
        let all = self.heads.values().chain(&self.gone);
        let said: String = all.map(Process::said).collect();
        let mut by_epoch = BTreeMap::new();
        for (id, epoch) in reigns(&said) {
            let leader = by_epoch.entry(epoch).or_insert(id);
            assert_eq!(*leader, id, "two led in epoch {epoch}:\n{said}");
        }
    }

    /// A client for lines; on a busy machine heads may need more than a minute to agree who leads.
    pub(super) fn stream_launch(&self) -> Launch {
        let put = self.client(&["put", "-", "--lines"]).stdin_open();
        put.env("MUTIRAO_TIMEOUT", format!("{}s", LONG.as_secs()))
    }

    /// Lines that are put as they are written.
    pub(super) fn stream(&self) -> Stream {
        Stream::of(self.stream_launch().start())
    }

    /// Checks that these are the ids of the lines from the first on, and that each is there with its bytes.
    #[track_caller]
    pub(super) fn check_lines(&self, ids: &[String]) {
        let found = self.read(ids);
        let mut wrong = String::new();
        for (number, (id, found)) in ids.iter().zip(&found).enumerate() {
            match found {
                Some(bytes) if *bytes == line(number) => {}
                Some(bytes) => {
                    let _ = writeln!(wrong, "{id}, line {number}, is {bytes:?}");
                }
                None => {
                    let _ = writeln!(wrong, "{id}, line {number}, is lost");
                }
            }
        }
        assert!(wrong.is_empty(), "was confirmed, but:\n{wrong}");
    }

    /// Reads many records, as a program with the library does it.
    #[track_caller]
    pub(super) fn read(&self, ids: &[String]) -> Vec<Option<Vec<u8>>> {
        let heads = self.at.iter();
        let heads = heads.map(|(id, at)| {
            (
                self.has_peers.then_some(HeadId(*id)),
                at.parse().expect("an endpoint"),
            )
        });
        let setup = ClientSetup {
            heads: heads.collect(),
            patience: DEADLINE,
            ..ClientSetup::new("tcp://127.0.0.1:9".parse().unwrap())
        };
        let mut client = StorageClient::open(setup).expect("sockets");
        let mut found = BTreeMap::new();
        for some in ids.chunks(200) {
            for id in some {
                client.start(Request::Get(record_id(id)));
            }
            while let Some(done) = client.wait_next().expect("an answer") {
                match done {
                    Done::Found(id, bytes) => found.insert(id, Some(bytes.to_vec())),
                    Done::Unknown(id) => found.insert(id, None),
                    other => panic!("{}", client.failure(other)),
                };
            }
        }
        ids.iter().map(|id| found[&record_id(id)].clone()).collect()
    }
}

/// A line of a stream.
pub(super) fn line(number: usize) -> Vec<u8> {
    format!("a linha número {number}").into_bytes()
}

/// Lines on their way into the cluster, each a record.
pub(super) struct Stream {
    process: Process,
    written: usize,
}

impl Stream {
    /// Into the standard input of this client.
    pub(super) fn of(process: Process) -> Stream {
        Stream {
            process,
            written: 0,
        }
    }

    /// Writes so many more. No more than 2,000 at once: what is not taken at once waits in the pipe.
    pub(super) fn write(&mut self, count: usize) {
        let mut text = Vec::new();
        for number in self.written..self.written + count {
            text.extend(line(number));
            text.push(b'\n');
        }
        self.written += count;
        self.process.write_stdin(&text);
    }

    /// What was printed so far.
    pub(super) fn ids(&self) -> Vec<String> {
        let said = self.process.said_on_stdout();
        let whole = &said[..said.rfind('\n').map_or(0, |at| at + 1)];
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits until so many are confirmed.
    #[track_caller]
    pub(super) fn wait_for(&self, confirmed: usize) {
        wait_until(DEADLINE, &format!("{confirmed} confirmed lines"), || {
            self.ids().len() >= confirmed
        });
    }

    /// Waits until so many more are confirmed than now.
    #[track_caller]
    pub(super) fn wait_for_more(&self, confirmed: usize) {
        self.wait_for(self.ids().len() + confirmed);
    }

    /// Ends it well; all the ids.
    #[track_caller]
    pub(super) fn end(mut self) -> Vec<String> {
        self.process.close_stdin();
        let ended = self.process.wait_within(LONG + DEADLINE).expect_code(0);
        let ids: Vec<String> = ended.stdout_text().lines().map(str::to_owned).collect();
        assert_eq!(ids.len(), self.written, "one id for each line");
        ids
    }

    /// `kill -9`; what it had printed.
    pub(super) fn kill(mut self) -> Vec<String> {
        self.process.kill_now();
        self.ids()
    }
}

fn record_id(text: &str) -> RecordId {
    RecordId(u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text:?} is no id")))
}

/// Copies at all data nodes together.
pub(super) fn held(status: &Value) -> u64 {
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    nodes
        .map(|node| node["records"].as_u64().expect("a number"))
        .sum()
}

/// The data nodes that fare so.
pub(super) fn names(status: &Value, health: &str) -> Vec<String> {
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    let nodes = nodes.filter(|node| node["health"] == health);
    nodes
        .map(|node| node["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Every reign that stands in the log of heads: id and epoch.
fn reigns(said: &str) -> Vec<(u32, u64)> {
    let reign = |line: &str| {
        let (before, epoch) = line.split_once(" leads, epoch ")?;
        let id = match before.ends_with(" the head") {
            true => 1,
            false => before.rsplit_once("head ")?.1.parse().ok()?,
        };
        Some((id, epoch.parse().ok()?))
    };
    said.lines().filter_map(reign).collect()
}

/// The first of three neighbouring ports: a head's own, its elections' and its heartbeats'. They lie below those that
/// the system gives to others.
pub(super) fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ours = std::process::id() % 2_000;
    for _ in 0..2_000 {
        let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let first = 12_000 + ((ours * 7 + turn) % 6_000) as u16 * 3;
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + 3).all(is_free) {
            return first;
        }
    }
    panic!("there are no free ports");
}
