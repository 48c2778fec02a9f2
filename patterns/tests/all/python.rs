//! The examples in Python: programs in another language against the broker.

use std::process::{Child, Command, Output, Stdio};

use mutirao::broker::{Broker, ClientConfig, Console, Mode};

use crate::support::{PATIENCE, broker_in};

/// A Python that has what the examples need.
fn python() -> &'static str {
    let has_all = |python: &&str| {
        let tried = Command::new(python)
            .args(["-c", "import msgpack, zmq"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    };
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(has_all)
        .expect("Python with pyzmq and msgpack: `make test` installs them")
}

fn script(name: &str, args: &[&str]) -> Command {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python");
    let mut command = Command::new(python());
    command.arg(format!("{folder}/{name}.py")).args(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A worker that ends with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn broker() -> Broker {
    broker_in(Mode::LoadBalancing)
}

/// A worker in Python that the broker knows.
fn worker(broker: &Broker, name: &str) -> Started {
    let at = broker.endpoint().to_string();
    let worker = Started(script(name, &[&at, "upper"]).spawn().unwrap());
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    while console.status().unwrap().workers.is_empty() {}
    worker
}

fn ask(broker: &Broker, name: &str, words: &[&str]) -> Vec<String> {
    let at = broker.endpoint().to_string();
    let args: Vec<&str> = [&at[..], "upper"].iter().chain(words).copied().collect();
    let Output {
        status,
        stdout,
        stderr,
    } = script(name, &args).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).unwrap();
    text.lines().map(str::to_string).collect()
}

#[test]
fn clients_and_workers_in_python_speak_our_protocol() {
    for mode in [Mode::LoadBalancing, Mode::RequestReply] {
        let broker = broker_in(mode);
        let _worker = worker(&broker, "mutirao_worker");
        let words = ask(&broker, "mutirao_client", &["muitas", "maos"]);
        assert_eq!(words, ["MUITAS", "MAOS"]);
    }
}

#[test]
fn clients_and_workers_in_python_speak_majordomo() {
    let broker = broker();
    let _worker = worker(&broker, "majordomo_worker");
    assert_eq!(
        ask(&broker, "majordomo_client", &["muitas maos"]),
        ["MUITAS MAOS"]
    );
}

#[test]
fn either_kind_of_client_is_served_by_either_kind_of_worker() {
    for worker_name in ["mutirao_worker", "majordomo_worker"] {
        let broker = broker();
        let _worker = worker(&broker, worker_name);
        assert_eq!(ask(&broker, "mutirao_client", &["maos"]), ["MAOS"]);
        assert_eq!(ask(&broker, "majordomo_client", &["maos"]), ["MAOS"]);
    }
}
