//! The round trip of a 100-byte request and its reply over tcp, in a process each.

use std::fmt::Display;
use std::time::Instant;

use mutirao::reqrep::{ReplierConfig, RequesterConfig};
use mutirao::{Endpoint, Replier, Requester};
use serde_bytes::{ByteBuf, Bytes};

use crate::process::{self, Player};
use crate::push_pull::RECORD;
use crate::report::{Row, Samples, Target, Unit};
use crate::rounds::percentile;
use crate::{Effort, Result};

/// Round trips before the clock starts.
const WARM_UP: usize = 1000;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let trips = effort.pick(5_000, 30_000);
    // Scheduling moves single rounds a lot, and a round is short.
    let rounds = effort.rounds() + 4;
    let [mut bare, mut watched, mut ours] = [const { Latencies::new() }; 3];
    for _ in 0..rounds {
        bare.measure("bare", BARE, trips)?;
        ours.measure("typed", BARE, trips)?;
        watched.measure("bare", WATCHED, trips)?;
    }
    let row = |what: &str, reference: &[f64], ours: &[f64], target| Row {
        what: format!("REQ/REP 100 B tcp, {what}"),
        unit: Unit::Microseconds,
        reference: Some(Samples::new(reference.to_vec())),
        ours: Samples::new(ours.to_vec()),
        target,
    };
    let most = Target::RatioAtMost(1.15);
    Ok(vec![
        row("p50", &bare.p50_us, &ours.p50_us, most),
        row("p99", &bare.p99_us, &ours.p99_us, Target::None),
        row(
            "p50, bare sockets with heartbeats too",
            &watched.p50_us,
            &ours.p50_us,
            most,
        ),
        row(
            "p99, bare sockets with heartbeats too",
            &watched.p99_us,
            &ours.p99_us,
            Target::None,
        ),
    ])
}

/// Whether the bare sockets send the heartbeats that ours send by default, every so many ms.
const BARE: i32 = 0;
const WATCHED: i32 = 2000;

pub(crate) struct Latencies {
    pub(crate) p50_us: Vec<f64>,
    pub(crate) p99_us: Vec<f64>,
}

impl Latencies {
    pub(crate) const fn new() -> Latencies {
        Latencies {
            p50_us: Vec::new(),
            p99_us: Vec::new(),
        }
    }

    pub(crate) fn measure(&mut self, kind: &str, heartbeat_ms: i32, trips: usize) -> Result<()> {
        let mut replier = Player::start(&format!("{kind}-reply"), &[&heartbeat_ms])?;
        let endpoint: String = replier.hear()?;
        let args: [&dyn Display; 3] = [&endpoint, &trips, &heartbeat_ms];
        let mut requester = Player::start(&format!("{kind}-request"), &args)?;
        self.p50_us.push(requester.hear()?);
        self.p99_us.push(requester.hear()?);
        Ok(())
    }
}

/// A bare socket with heartbeats, 0 for none, as ours has them by default.
fn socket(kind: zmq::SocketType, heartbeat_ms: i32) -> Result<zmq::Socket> {
    let socket = zmq::Context::new().socket(kind)?;
    if heartbeat_ms > 0 {
        socket.set_heartbeat_ivl(heartbeat_ms)?;
        socket.set_heartbeat_timeout(3 * heartbeat_ms)?;
    }
    Ok(socket)
}

pub(crate) fn bare_reply(args: &[String]) -> Result<()> {
    let socket = socket(zmq::REP, process::arg(args, 0)?)?;
    socket.bind("tcp://127.0.0.1:*")?;
    println!(
        "{}",
        socket.get_last_endpoint()?.map_err(|_| "no endpoint")?
    );
    let mut message = zmq::Message::new();
    loop {
        socket.recv(&mut message, 0)?;
        socket.send(&message[..], 0)?;
    }
}

pub(crate) fn bare_request(args: &[String]) -> Result<()> {
    let socket = socket(zmq::REQ, process::arg(args, 2)?)?;
    socket.connect(&process::arg::<String>(args, 0)?)?;
    let mut message = zmq::Message::new();
    clock(process::arg(args, 1)?, || {
        socket.send(&RECORD[..], 0)?;
        socket.recv(&mut message, 0)?;
        Ok(message.len())
    })
}

pub(crate) fn typed_reply() -> Result<()> {
    let endpoint = "tcp://127.0.0.1:*".parse()?;
    let mut replier = Replier::<ByteBuf, ByteBuf>::bind(&endpoint, ReplierConfig::default())?;
    println!("{}", replier.endpoint());
    Ok(replier.serve(Ok::<_, String>)?)
}

pub(crate) fn typed_request(args: &[String]) -> Result<()> {
    let endpoint: Endpoint = process::arg(args, 0)?;
    let config = RequesterConfig::default();
    let mut requester = Requester::<Bytes, ByteBuf>::connect(&endpoint, config)?;
    clock(process::arg(args, 1)?, || {
        Ok(requester.call(Bytes::new(&RECORD))?.len())
    })
}

/// Makes `trips` round trips and says their p50 and p99 in µs.
pub(crate) fn clock(trips: usize, mut trip: impl FnMut() -> Result<usize>) -> Result<()> {
    let mut latencies_us = Vec::with_capacity(trips);
    for number in 0..WARM_UP + trips {
        let begun = Instant::now();
        if trip()? != RECORD.len() {
            return Err("the reply is not the request".into());
        }
        if number >= WARM_UP {
            latencies_us.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    latencies_us.sort_by(f64::total_cmp);
    println!("{}", percentile(&latencies_us, 50));
    println!("{}", percentile(&latencies_us, 99));
    Ok(())
}
