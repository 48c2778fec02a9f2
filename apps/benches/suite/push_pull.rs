//! PUSH/PULL of 100-byte records over tcp, sender and receiver in a process each.

use std::time::{Duration, Instant};

use mutirao::pushpull::{PullerConfig, PusherConfig};
use mutirao::{Endpoint, Puller, Pusher};
use serde_bytes::{ByteBuf, Bytes};

use crate::process::{self, Player};
use crate::report::{Row, Target, Unit};
use crate::rounds::interleave;
use crate::{Effort, Result};

pub(crate) const RECORD: [u8; 100] = [7; 100];

/// ZeroMQ's default, on both sides of every contender that sends one record per frame.
pub(crate) const QUEUE_MESSAGES: i32 = 1000;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let records = effort.pick(1_000_000, 8_000_000);
    let [bare, batched, unbatched] = interleave(
        effort.rounds(),
        [
            &mut || pair("bare", "-", records),
            &mut || pair("typed", "batched", records),
            &mut || pair("typed", "unbatched", records),
        ],
    )?;
    let row = |what: &str, ours, target| Row {
        what: format!("PUSH/PULL 100 B tcp, {what}"),
        unit: Unit::PerSecond,
        reference: Some(bare.clone()),
        ours,
        target: Target::RatioAtLeast(target),
    };
    Ok(vec![
        row("many records per frame", batched, 3.0),
        row("one record per frame", unbatched, 0.9),
    ])
}

/// Records a second from a pusher process to a puller process, as the puller sees it.
fn pair(kind: &str, batching: &str, records: u64) -> Result<f64> {
    let mut puller = Player::start(&format!("{kind}-pull"), &[&records, &batching])?;
    let endpoint: String = puller.hear()?;
    let args: [&dyn std::fmt::Display; 3] = [&endpoint, &records, &batching];
    let _pusher = Player::start(&format!("{kind}-push"), &args)?;
    puller.hear()
}

pub(crate) fn bare_pull(args: &[String]) -> Result<()> {
    let records: u64 = process::arg(args, 0)?;
    let socket = zmq::Context::new().socket(zmq::PULL)?;
    socket.set_rcvhwm(QUEUE_MESSAGES)?;
    socket.bind("tcp://127.0.0.1:*")?;
    println!(
        "{}",
        socket.get_last_endpoint()?.map_err(|_| "no endpoint")?
    );
    let mut message = zmq::Message::new();
    clock(records, || {
        socket.recv(&mut message, 0)?;
        Ok(message.len())
    })
}

pub(crate) fn bare_push(args: &[String]) -> Result<()> {
    let (endpoint, records): (String, u64) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let socket = zmq::Context::new().socket(zmq::PUSH)?;
    socket.set_sndhwm(QUEUE_MESSAGES)?;
    socket.connect(&endpoint)?;
    for _ in 0..records {
        socket.send(&RECORD[..], 0)?;
    }
    Ok(())
}

pub(crate) fn typed_pull(args: &[String]) -> Result<()> {
    let records: u64 = process::arg(args, 0)?;
    let mut config = PullerConfig::default();
    if process::arg::<String>(args, 1)? == "unbatched" {
        config.socket.queue_messages = QUEUE_MESSAGES;
    }
    let mut puller = Puller::<ByteBuf>::bind(&"tcp://127.0.0.1:*".parse()?, config)?;
    println!("{}", puller.endpoint());
    clock(records, || Ok(puller.recv()?.len()))
}

pub(crate) fn typed_push(args: &[String]) -> Result<()> {
    let (endpoint, records): (Endpoint, u64) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let mut config = match process::arg::<String>(args, 2)?.as_str() {
        "unbatched" => PusherConfig::unbatched(),
        _ => PusherConfig::default(),
    };
    config.socket.linger = Duration::from_secs(30);
    let pusher = Pusher::<Bytes>::connect(&endpoint, config)?;
    for _ in 0..records {
        pusher.send(Bytes::new(&RECORD))?;
    }
    Ok(())
}

/// Receives `records` records and says how many came in a second from the first on.
pub(crate) fn clock(records: u64, mut receive: impl FnMut() -> Result<usize>) -> Result<()> {
    let mut bytes = receive()?;
    let begun = Instant::now();
    for _ in 1..records {
        bytes += receive()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    if bytes as u64 != records * RECORD.len() as u64 {
        return Err("bytes are missing".into());
    }
    println!("{}", (records - 1) as f64 / seconds);
    Ok(())
}
