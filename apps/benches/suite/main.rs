//! What the library and the binary do in a second, beside plain loops over bare sockets.
//!
//! ```text
//! cargo bench -p mutirao-apps --bench suite -- [FILTER] [--quick]
//! ```
//!
//! Reference and ours take turns within one run, because a machine is rarely the same twice.
//! Nothing fails for being slow: the table says what was reached.

mod bare_broker;
mod broker;
mod broker_scaling;
mod exec;
mod files;
mod idle;
mod latency;
mod process;
mod pub_sub;
mod push_pull;
mod raw_tcp;
mod report;
mod req_rep;
mod rounds;
mod scaling;
mod stage;
mod trio;
mod udp;

use report::Row;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long a measurement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// Seconds each: to see that it works.
    Quick,
    /// Enough to publish.
    Full,
}

impl Effort {
    /// How often each contender is measured.
    fn rounds(self) -> usize {
        match self {
            Effort::Quick => 3,
            Effort::Full => 5,
        }
    }

    fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Effort::Quick => quick,
            Effort::Full => full,
        }
    }
}

type Measure = fn(Effort) -> Result<Vec<Row>>;

const MEASUREMENTS: &[(&str, Measure)] = &[
    ("push-pull", push_pull::measure),
    ("pub-sub", pub_sub::measure),
    ("req-rep", req_rep::measure),
    ("raw-tcp", raw_tcp::measure),
    ("trio", trio::measure),
    ("scaling", scaling::measure),
    ("latency", latency::measure),
    ("idle", idle::measure),
    ("exec", exec::measure),
    ("files", files::measure),
    ("broker-rate", broker::measure),
    ("broker-request", broker::measure_requests),
    ("broker-workers", broker_scaling::measure_workers),
    ("broker-tasks", broker_scaling::measure_tasks),
    ("udp-rate", udp::measure),
    ("udp-loss", udp::measure_loss),
];

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == process::ROLE) {
        let played = play(&args[1], &args[2..]);
        return played.map_err(|error| format!("{}: {error}", args[1]).into());
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    // Cargo says `--bench`.
    args.retain(|arg| !arg.starts_with("--"));
    let wanted = |name: &str| args.is_empty() || args.iter().any(|filter| name.contains(filter));
    let effort = if quick { Effort::Quick } else { Effort::Full };
    let mut rows = Vec::new();
    for (name, measure) in MEASUREMENTS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("measuring {name} …");
        match measure(effort) {
            Ok(measured) => rows.extend(measured),
            Err(error) => eprintln!("{name} could not be measured: {error}"),
        }
    }
    report::print(&rows);
    Ok(())
}

/// What this program does when it has started itself as a part of a measurement.
fn play(role: &str, args: &[String]) -> Result<()> {
    match role {
        "bare-pull" => push_pull::bare_pull(args),
        "bare-push" => push_pull::bare_push(args),
        "typed-pull" => push_pull::typed_pull(args),
        "typed-push" => push_pull::typed_push(args),
        "bare-publish" => pub_sub::bare_publish(args),
        "bare-subscribe" => pub_sub::bare_subscribe(args),
        "typed-publish" => pub_sub::typed_publish(args),
        "typed-subscribe" => pub_sub::typed_subscribe(args),
        "bare-reply" => req_rep::bare_reply(args),
        "bare-request" => req_rep::bare_request(args),
        "typed-reply" => req_rep::typed_reply(),
        "typed-request" => req_rep::typed_request(args),
        "hand-receive" => raw_tcp::hand_receive(args),
        "hand-send" => raw_tcp::hand_send(args),
        "hand-reply" => raw_tcp::hand_reply(),
        "hand-request" => raw_tcp::hand_request(args),
        "raw-tcp-receive" => raw_tcp::receive(args),
        "raw-tcp-send" => raw_tcp::send(args),
        "raw-tcp-reply" => raw_tcp::reply(),
        "raw-tcp-request" => raw_tcp::request(args),
        "trio" => trio::whole(args),
        "sink" => trio::sink(args),
        "ventilator" => trio::ventilator(args),
        "worker" => trio::worker(args),
        "decade" => scaling::decade(args),
        "bare-broker" => bare_broker::broker(),
        "bare-broker-worker" => bare_broker::worker(args),
        "bare-broker-client" => bare_broker::client(args),
        "bare-broker-request" => bare_broker::request(args),
        "broker" => broker::broker(args),
        "broker-worker" => broker::worker(args),
        "broker-client" => broker::client(args),
        "broker-request" => broker::request(args),
        "broker-crowd" => broker_scaling::crowd(args),
        "udp-pull" => udp::pull(args),
        "udp-push" => udp::push(args),
        "udp-relay" => udp::relay(args),
        "single-tasks" => latency::single_tasks(args),
        _ => Err(format!("no such role: {role}").into()),
    }
}
