//! Raw TCP beside the loop that one would write by hand: length-prefixed records, buffered writes and reads.

use std::fmt::Display;
use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mutirao::machine::Clock;
use mutirao::transport::{
    Frame, Message, Role, SendError, Side, Socket, SocketOptions, WhenFull, open,
};
use mutirao::wait::{Interest, Sleeper, wait};

use crate::process::{self, Player};
use crate::report::{Row, Samples, Target, Unit};
use crate::req_rep::{self, Latencies};
use crate::rounds::interleave;
use crate::{Effort, Result};

/// The sizes, in bytes, and how many records a measurement sends.
const SIZES: [(usize, u64); 4] = [(16, 20), (100, 20), (1024, 4), (65536, 0)];

/// What the buffers of the hand-written loop hold: what the standard library gives by default, and more.
const BUFFERS: [(usize, &str); 2] = [(8 << 10, "buffers of 8 KiB"), (64 << 10, "of 64 KiB")];

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (bytes, millions) in SIZES {
        let records = (millions * effort.pick(100_000, 1_000_000)).max(20_000);
        let [small, large, ours] = interleave(
            effort.rounds(),
            [
                &mut || pair("hand", bytes, records, BUFFERS[0].0),
                &mut || pair("hand", bytes, records, BUFFERS[1].0),
                &mut || pair("raw-tcp", bytes, records, 0),
            ],
        )?;
        for (reference, (_, buffers)) in [small, large].into_iter().zip(BUFFERS) {
            rows.push(Row {
                what: format!("raw TCP {bytes} B, beside {buffers}"),
                unit: Unit::PerSecond,
                reference: Some(reference),
                ours: ours.clone(),
                target: Target::RatioAtLeast(0.9),
            });
        }
    }
    rows.extend(round_trips(effort)?);
    Ok(rows)
}

/// Records a second from one process to another, as the receiver sees it.
fn pair(kind: &str, bytes: usize, records: u64, buffer: usize) -> Result<f64> {
    let mut receiver = Player::start(&format!("{kind}-receive"), &[&records, &buffer])?;
    let place: String = receiver.hear()?;
    let args: [&dyn Display; 4] = [&place, &records, &bytes, &buffer];
    let _sender = Player::start(&format!("{kind}-send"), &args)?;
    receiver.hear()
}

fn round_trips(effort: Effort) -> Result<Vec<Row>> {
    let trips = effort.pick(5_000, 30_000);
    let [mut hand, mut ours] = [const { Latencies::new() }; 2];
    for _ in 0..effort.rounds() + 4 {
        hand.measure("hand", 0, trips)?;
        ours.measure("raw-tcp", 0, trips)?;
    }
    let row = |what: &str, hand: &[f64], ours: &[f64], target| Row {
        what: format!("raw TCP 100 B round trip, {what}"),
        unit: Unit::Microseconds,
        reference: Some(Samples::new(hand.to_vec())),
        ours: Samples::new(ours.to_vec()),
        target,
    };
    Ok(vec![
        row("p50", &hand.p50_us, &ours.p50_us, Target::RatioAtMost(1.1)),
        row("p99", &hand.p99_us, &ours.p99_us, Target::None),
    ])
}

pub(crate) fn hand_receive(args: &[String]) -> Result<()> {
    let (records, buffer): (u64, usize) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let stream = welcome()?;
    let mut stream = BufReader::with_capacity(buffer, stream);
    let mut record = Vec::new();
    clock(records, || read_record(&mut stream, &mut record))
}

/// Listens, says where, and takes the first connection.
fn welcome() -> Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn read_record(stream: &mut impl Read, record: &mut Vec<u8>) -> Result<()> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    record.resize(u32::from_be_bytes(header) as usize, 0);
    Ok(stream.read_exact(record)?)
}

fn write_record(stream: &mut impl Write, record: &[u8]) -> Result<()> {
    stream.write_all(&(record.len() as u32).to_be_bytes())?;
    Ok(stream.write_all(record)?)
}

pub(crate) fn hand_send(args: &[String]) -> Result<()> {
    let stream = TcpStream::connect(process::arg::<String>(args, 0)?)?;
    stream.set_nodelay(true)?;
    let mut stream = BufWriter::with_capacity(process::arg(args, 3)?, stream);
    let record = vec![7; process::arg(args, 2)?];
    for _ in 0..process::arg(args, 1)? {
        write_record(&mut stream, &record)?;
    }
    Ok(stream.flush()?)
}

pub(crate) fn hand_reply() -> Result<()> {
    let mut writer = welcome()?;
    let mut reader = BufReader::new(writer.try_clone()?);
    let mut record = Vec::new();
    // Until the other end is gone.
    while read_record(&mut reader, &mut record).is_ok() {
        let mut gathered = Vec::with_capacity(4 + record.len());
        write_record(&mut gathered, &record)?;
        writer.write_all(&gathered)?;
    }
    Ok(())
}

pub(crate) fn hand_request(args: &[String]) -> Result<()> {
    let mut writer = TcpStream::connect(process::arg::<String>(args, 0)?)?;
    writer.set_nodelay(true)?;
    let mut reader = BufReader::new(writer.try_clone()?);
    let (mut gathered, mut record) = (Vec::new(), Vec::new());
    req_rep::clock(process::arg(args, 1)?, || {
        gathered.clear();
        write_record(&mut gathered, &[7; 100])?;
        writer.write_all(&gathered)?;
        read_record(&mut reader, &mut record)?;
        Ok(record.len())
    })
}

/// A socket and what it takes to wait for it.
struct Station {
    socket: Box<dyn Socket>,
    sleeper: Sleeper,
    clock: Clock,
}

impl Station {
    fn open(role: Role, side: Side, endpoint: &str) -> Result<Station> {
        let options = SocketOptions {
            linger: Duration::from_secs(30),
            when_full: WhenFull::Refuse,
            ..SocketOptions::default()
        };
        Ok(Station {
            socket: open(role, side, &endpoint.parse()?, &options)?,
            sleeper: Sleeper::new()?.0,
            clock: Clock::start(),
        })
    }

    fn wait(&self, interest: Interest) {
        let sources = [(self.socket.source(), interest)];
        wait(&sources, &self.sleeper, &self.clock, None);
    }

    fn receive(&mut self, message: &mut Message) -> Result<()> {
        while !self.socket.receive_into(message)? {
            self.wait(Interest::Readable);
        }
        Ok(())
    }

    fn send(&mut self, message: &[Frame]) -> Result<()> {
        loop {
            match self.socket.send(message) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => self.wait(Interest::ReadableOrWritable),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub(crate) fn receive(args: &[String]) -> Result<()> {
    let mut station = Station::open(Role::Pull, Side::Bind, "raw+tcp://127.0.0.1:*")?;
    println!("{}", station.socket.endpoint());
    let mut message = Message::new();
    clock(process::arg(args, 0)?, || station.receive(&mut message))
}

pub(crate) fn send(args: &[String]) -> Result<()> {
    let endpoint = process::arg::<String>(args, 0)?;
    let mut station = Station::open(Role::Push, Side::Connect, &endpoint)?;
    let message = [Frame::from(vec![7; process::arg(args, 2)?])];
    for _ in 0..process::arg(args, 1)? {
        station.send(&message)?;
    }
    Ok(())
}

pub(crate) fn reply() -> Result<()> {
    let mut station = Station::open(Role::Router, Side::Bind, "raw+tcp://127.0.0.1:*")?;
    println!("{}", station.socket.endpoint());
    let mut message = Message::new();
    loop {
        station.receive(&mut message)?;
        station.send(&message)?;
    }
}

pub(crate) fn request(args: &[String]) -> Result<()> {
    let endpoint = process::arg::<String>(args, 0)?;
    let mut station = Station::open(Role::Dealer, Side::Connect, &endpoint)?;
    let (request, mut message) = ([Frame::from(vec![7; 100])], Message::new());
    req_rep::clock(process::arg(args, 1)?, || {
        station.send(&request)?;
        station.receive(&mut message)?;
        Ok(message.iter().map(|frame| frame.len()).sum())
    })
}

/// Receives `records` records and says how many came in a second from the first on.
fn clock(records: u64, mut receive: impl FnMut() -> Result<()>) -> Result<()> {
    receive()?;
    let begun = Instant::now();
    for _ in 1..records {
        receive()?;
    }
    println!("{}", (records - 1) as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}
