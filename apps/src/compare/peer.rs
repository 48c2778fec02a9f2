//! The parts of a measurement: processes of this program that it starts itself, hidden from `--help`.
//!
//! What a part shall do comes as one JSON argument; it says what it has to say line by line on standard
//! output, takes [orders](super::control::Order) from standard input, and ends when that does.

mod ask;
mod flow;
mod ping;
mod way;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc;

use clap::Args;
use mutirao::Endpoint;
use mutirao::endpoint::Scheme;
use serde::{Deserialize, Serialize};

use super::control::{Control, Order, Teller};
use super::proxy::{self, Conditions, Injected};
use super::usage::Usage;
use crate::exit::Exit;

pub(super) use flow::{Flow, LEAST_BYTES, Received, Sent};
pub(super) use ping::{Pinged, Pings};
pub(super) use way::Way;

/// What a part shall do; endpoints are texts as everywhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Part {
    /// Receive a flow of messages and count them.
    Receive { at: String, flow: Flow },
    /// Send that flow.
    Send { at: String, flow: Flow },
    /// Answer every message with itself, with a mark of who answered if there is one.
    Echo {
        at: String,
        mark: Option<u64>,
        way: Way,
    },
    /// Ask and wait for the answer, again and again.
    Ping { at: String, pings: Pings },
    /// Connect and ask once, so many times.
    Connect { at: String, times: u32 },
    /// Ask all the time, and tell when another peer answers than before.
    Watch { at: String },
    /// Stand in the path and make it bad.
    Proxy {
        datagrams: bool,
        target: SocketAddr,
        conditions: Conditions,
        seed: u64,
    },
}

/// What a part says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// It listens here.
    Ready(String),
    /// The flow has been handed over.
    Sent(Sent),
    /// What came of it.
    Received(Received),
    /// How long answers took.
    Pinged(Pinged),
    /// How long connecting took each time, in milliseconds.
    Connected(Vec<f64>),
    /// Somebody answers.
    Up,
    /// Somebody else answers, since this moment of the system's monotonic clock.
    Back { at_ns: u64 },
    /// What the proxy did.
    Passed(Injected),
    /// It cannot do its part, for this reason.
    Failed(String),
}

/// One part of a measurement; started by `mutirao compare`, not by people.
#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    /// What to do, as JSON
    part: String,
}

pub(crate) fn run(args: &PeerArgs) -> Result<(), Exit> {
    let part: Part = serde_json::from_str(&args.part).map_err(|_| {
        Exit::Usage("compare-peer is a part of `mutirao compare`: start that instead".into())
    })?;
    let control = Control::stdin().map_err(|error| Exit::Environment(error.to_string()))?;
    if let Err(reason) = play(part, &control) {
        say(&Said::Failed(reason));
    }
    Ok(())
}

fn say(said: &Said) {
    let line = serde_json::to_string(said).unwrap_or_default();
    // Nobody to tell: the end of standard input tells us.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn ready(endpoint: &Endpoint) {
    say(&Said::Ready(endpoint.to_string()));
}

fn play(part: Part, control: &Control) -> Result<(), String> {
    match part {
        Part::Receive { at, flow } => {
            say(&Said::Received(flow::receive(
                &parse(&at)?,
                &flow,
                control,
                ready,
            )?));
        }
        Part::Send { at, flow } => send(&parse(&at)?, flow, control)?,
        Part::Echo { at, mark, way } => ask::answer(&parse(&at)?, mark, &way, control, ready)?,
        Part::Ping { at, pings } => {
            let ask = |at: &Endpoint| ping::ping(at, &pings, control).map(Said::Pinged);
            say(&beside_echo(&parse(&at)?, ask)?);
        }
        Part::Connect { at, times } => {
            let connect = |at: &Endpoint| ask::connect(at, times, control).map(Said::Connected);
            say(&beside_echo(&parse(&at)?, connect)?);
        }
        Part::Watch { at } => {
            let at_ns = ask::watch(&parse(&at)?, control, || say(&Said::Up))?;
            say(&Said::Back { at_ns });
        }
        Part::Proxy {
            datagrams,
            target,
            conditions,
            seed,
        } => {
            let ready = |address: SocketAddr| say(&Said::Ready(address.to_string()));
            let passed = proxy::run(datagrams, target, conditions, seed, control, ready);
            say(&Said::Passed(passed.map_err(|error| error.to_string())?));
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Endpoint, String> {
    text.parse()
        .map_err(|error: mutirao::endpoint::EndpointError| error.to_string())
}

/// Sends, with the receiver in a thread where both have to be in one process.
fn send(at: &Endpoint, flow: Flow, control: &Control) -> Result<(), String> {
    let told = |sent| say(&Said::Sent(sent));
    if at.scheme() != Scheme::Inproc {
        return flow::send(at, &flow, control, told);
    }
    let work = flow.clone();
    let receiver = OtherEnd::start(at, move |at, control, ready| {
        flow::receive(at, &work, control, ready)
    })?;
    let orders = receiver.teller.clone();
    flow::send(at, &flow, control, |sent| {
        orders.tell(Order::Sent(sent.messages));
        told(sent);
        if let Ok(received) = receiver.join() {
            // The processor time and the memory are those of the process, which the sender has told.
            let usage = Usage::default();
            say(&Said::Received(Received { usage, ..received }));
        }
    })
}

/// Does something with an echo at the other end, which is a thread where both have to be in one process.
fn beside_echo(
    at: &Endpoint,
    ours: impl FnOnce(&Endpoint) -> Result<Said, String>,
) -> Result<Said, String> {
    if at.scheme() != Scheme::Inproc {
        return ours(at);
    }
    let echo = OtherEnd::start(at, |at, control, ready| {
        ask::answer(at, None, &Way::default(), control, ready)
    })?;
    let said = ours(at);
    echo.teller.tell(Order::End);
    echo.join()?;
    said
}

/// The other end of a measurement within one process.
struct OtherEnd<T> {
    thread: std::thread::JoinHandle<Result<T, String>>,
    teller: Teller,
}

impl<T: Send + 'static> OtherEnd<T> {
    /// Starts it, and waits until it listens.
    fn start(
        at: &Endpoint,
        work: impl FnOnce(&Endpoint, &Control, &dyn Fn(&Endpoint)) -> Result<T, String> + Send + 'static,
    ) -> Result<OtherEnd<T>, String> {
        let (teller, control) = Control::pair().map_err(|error| error.to_string())?;
        let (listens, heard) = mpsc::channel();
        let at = at.clone();
        let thread = std::thread::spawn(move || {
            work(&at, &control, &|_: &Endpoint| {
                let _ = listens.send(());
            })
        });
        let other = OtherEnd { thread, teller };
        match heard.recv() {
            Ok(()) => Ok(other),
            Err(_) => Err(other.join().err().unwrap_or_default()),
        }
    }

    fn join(self) -> Result<T, String> {
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err("its other end panicked, which is a bug".into()))
    }
}
