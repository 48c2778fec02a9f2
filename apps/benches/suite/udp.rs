//! UDP: reliable beside plain, and what reliable makes of a network that loses one datagram in a hundred.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use mutirao::Endpoint;
use mutirao::machine::Clock;
use mutirao::sim::Rng;
use mutirao::transport::{Counters, Frame, Role, SendError, Side, Socket, SocketOptions, open};
use mutirao::wait::{Interest, Sleeper, wait};

use crate::process::{self, Player};
use crate::report::{Row, Samples, Target, Unit};
use crate::{Effort, Result};

const SIZES: [usize; 3] = [16, 100, 1024];

/// Of a thousand datagrams.
const LOST: u64 = 10;

/// A receiver that hears nothing for so long takes the rest for lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// This machine, and how it is called: by an address between machines, too, where it has one, as datagrams are
/// shorter there.
fn hosts() -> Vec<(IpAddr, &'static str)> {
    let loopback = (IpAddr::from(Ipv4Addr::LOCALHOST), "loopback");
    let other = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        // Sends nothing, only asks which address would.
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let other = other().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    let other = other.map(|ip| (ip, "1,232 B datagrams"));
    [loopback].into_iter().chain(other).collect()
}

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (host, path) in hosts() {
        for bytes in SIZES {
            rows.extend(compare(effort, host, path, bytes)?);
        }
    }
    Ok(rows)
}

fn compare(effort: Effort, host: IpAddr, path: &str, bytes: usize) -> Result<[Row; 2]> {
    let messages = effort.pick(200_000, 1_000_000);
    let [plain, reliable] = interleave_seen(effort, || {
        let plain = pair("raw+udp", host, bytes, messages)?;
        let reliable = pair("reliable+udp", host, bytes, messages)?;
        match reliable.in_order == messages {
            true => Ok([plain, reliable]),
            false => Err("reliable UDP did not deliver everything".into()),
        }
    })?;
    let ours: Vec<f64> = reliable.iter().map(|seen| seen.received).collect();
    let row = |what: &str, reference: Vec<f64>| Row {
        what: format!("reliable UDP {bytes} B, {path}, over plain UDP as {what}"),
        unit: Unit::PerSecond,
        reference: Some(Samples::new(reference)),
        ours: Samples::new(ours.clone()),
        target: Target::RatioAtLeast(0.5),
    };
    Ok([
        row("sent", plain.iter().map(|seen| seen.sent).collect()),
        row("received", plain.iter().map(|seen| seen.received).collect()),
    ])
}

/// Both, round by round.
fn interleave_seen(
    effort: Effort,
    mut round: impl FnMut() -> Result<[Seen; 2]>,
) -> Result<[Vec<Seen>; 2]> {
    let (mut plain, mut reliable) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds() {
        let [a, b] = round()?;
        plain.push(a);
        reliable.push(b);
    }
    Ok([plain, reliable])
}

pub(crate) fn measure_loss(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (host, path) in hosts() {
        for bytes in SIZES {
            let messages = effort.pick(100_000, 500_000);
            let mut shares = Vec::new();
            let mut speeds = Vec::new();
            for round in 0..effort.rounds() {
                let seen = through_loss(host, bytes, messages, round as u64)?;
                shares.push(100.0 * seen.in_order as f64 / messages as f64);
                speeds.push(seen.received);
            }
            let row = |what: &str, unit, ours, target| Row {
                what: format!("reliable UDP {bytes} B, {path}, at 1 % loss, {what}"),
                unit,
                reference: None,
                ours: Samples::new(ours),
                target,
            };
            let whole = Target::AtLeast(100.0);
            rows.push(row("delivered in order", Unit::Percent, shares, whole));
            rows.push(row("received", Unit::PerSecond, speeds, Target::None));
        }
    }
    Ok(rows)
}

/// What a pair of processes did.
struct Seen {
    /// Messages a second, as the sender and as the receiver saw it.
    sent: f64,
    received: f64,
    /// Messages that arrived where they should in the order.
    in_order: u64,
}

fn pair(scheme: &str, host: IpAddr, bytes: usize, messages: u64) -> Result<Seen> {
    let mut pull = Player::start("udp-pull", &[&scheme, &host, &bytes, &messages])?;
    let endpoint: String = pull.hear()?;
    finish(pull, &endpoint, bytes, messages)
}

fn through_loss(host: IpAddr, bytes: usize, messages: u64, seed: u64) -> Result<Seen> {
    let mut pull = Player::start("udp-pull", &[&"reliable+udp", &host, &bytes, &messages])?;
    let endpoint: Endpoint = pull.hear()?;
    let port = endpoint.port().ok_or("no port")?;
    let mut relay = Player::start("udp-relay", &[&host, &port, &seed])?;
    let port: u16 = relay.hear()?;
    finish(pull, &endpoint.with_port(port).to_string(), bytes, messages)
}

fn finish(mut pull: Player, endpoint: &str, bytes: usize, messages: u64) -> Result<Seen> {
    let mut push = Player::start("udp-push", &[&endpoint, &bytes, &messages])?;
    let sent = push.hear()?;
    let (received, in_order) = (pull.hear()?, pull.hear()?);
    Ok(Seen {
        sent,
        received,
        in_order,
    })
}

fn options() -> SocketOptions {
    SocketOptions {
        linger: Duration::from_secs(60),
        // What the system keeps is the limit, not we.
        queue_messages: 100_000,
        security: mutirao::security::Security::Insecure,
        ..SocketOptions::default()
    }
}

/// Waits for the socket, at most so long.
struct Waiter {
    sleeper: Sleeper,
    clock: Clock,
}

impl Waiter {
    fn new() -> Result<Waiter> {
        let (sleeper, _) = Sleeper::new()?;
        let clock = Clock::start();
        Ok(Waiter { sleeper, clock })
    }

    fn wait(&self, socket: &dyn Socket, interest: Interest, time: Duration) {
        let deadline = self.clock.now() + time;
        wait(
            &[(socket.source(), interest)],
            &self.sleeper,
            &self.clock,
            Some(deadline),
        );
    }
}

pub(crate) fn pull(args: &[String]) -> Result<()> {
    let (scheme, host): (String, IpAddr) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let (bytes, messages): (usize, u64) = (process::arg(args, 2)?, process::arg(args, 3)?);
    let endpoint = format!("{scheme}://{host}:*").parse()?;
    let mut socket = open(Role::Pull, Side::Bind, &endpoint, &options())?;
    println!("{}", socket.endpoint());
    let waiter = Waiter::new()?;
    let (mut message, mut count, mut in_order) = (Vec::new(), 0, 0);
    let (mut begun, mut last) = (None, Instant::now());
    while count < messages {
        if socket.receive_into(&mut message)? {
            begun.get_or_insert_with(Instant::now);
            let number = message.first().and_then(|frame| frame.first_chunk());
            let number = number.map(|bytes| u64::from_le_bytes(*bytes));
            in_order += u64::from(number == Some(count) && message[0].len() == bytes);
            count += 1;
            continue;
        }
        if count > 0 && scheme == "raw+udp" && last.elapsed() > PATIENCE {
            break;
        }
        let looked = Instant::now();
        waiter.wait(&*socket, Interest::Readable, PATIENCE);
        if count == 0 || looked.elapsed() < PATIENCE {
            last = Instant::now();
        }
    }
    let idle = if count < messages {
        PATIENCE
    } else {
        Duration::ZERO
    };
    let seconds = begun.map_or(f64::NAN, |begun| {
        begun.elapsed().saturating_sub(idle).as_secs_f64()
    });
    println!("{}", count as f64 / seconds);
    println!("{in_order}");
    tell(&*socket);
    Ok(())
}

pub(crate) fn push(args: &[String]) -> Result<()> {
    let (endpoint, bytes, messages): (Endpoint, usize, u64) = (
        process::arg(args, 0)?,
        process::arg(args, 1)?,
        process::arg(args, 2)?,
    );
    let mut socket = open(Role::Push, Side::Connect, &endpoint, &options())?;
    let waiter = Waiter::new()?;
    let mut load = vec![7; bytes];
    let mut begun = None;
    for number in 0..messages {
        load[..8].copy_from_slice(&number.to_le_bytes());
        let frame = [Frame::from(&load[..])];
        loop {
            match socket.send(&frame) {
                Ok(()) => break,
                Err(SendError::Full) => {
                    waiter.wait(&*socket, Interest::ReadableOrWritable, PATIENCE);
                }
                Err(error) => return Err(error.into()),
            }
        }
        begun.get_or_insert_with(Instant::now);
    }
    socket.flush();
    let seconds = begun.map_or(f64::NAN, |begun| begun.elapsed().as_secs_f64());
    println!("{}", messages as f64 / seconds);
    tell(&*socket);
    Ok(())
}

/// For who wants to know: `RUST_LOG` is not heard here.
fn tell(socket: &dyn Socket) {
    let counters: Option<Counters> = socket.counters();
    if let (Some(counters), Ok(_)) = (counters, std::env::var("UDP_COUNTERS")) {
        eprintln!("{}: {counters}", socket.endpoint());
    }
}

/// Stands between one sender and a receiver and loses datagrams, both ways.
pub(crate) fn relay(args: &[String]) -> Result<()> {
    let host: IpAddr = process::arg(args, 0)?;
    let (port, seed): (u16, u64) = (process::arg(args, 1)?, process::arg(args, 2)?);
    let front = UdpSocket::bind((host, 0))?;
    let back = UdpSocket::bind((host, 0))?;
    for socket in [&front, &back] {
        // Its own losses would count as well.
        let _ = socket2::SockRef::from(socket).set_recv_buffer_size(8 << 20);
    }
    back.connect((host, port))?;
    println!("{}", front.local_addr()?.port());
    let mut bytes = vec![0; 65_536];
    let (len, sender) = front.recv_from(&mut bytes)?;
    front.connect(sender)?;
    back.send(&bytes[..len])?;
    let ways = [
        (front.try_clone()?, back.try_clone()?, seed),
        (back, front, !seed),
    ];
    std::thread::scope(|scope| {
        for (from, to, seed) in ways {
            scope.spawn(move || carry(&from, &to, seed));
        }
    });
    Ok(())
}

fn carry(from: &UdpSocket, to: &UdpSocket, seed: u64) {
    let (mut bytes, mut rng) = (vec![0; 65_536], Rng::new(seed));
    loop {
        // One end may be gone already; whoever started us ends us.
        let Ok(len) = from.recv(&mut bytes) else {
            continue;
        };
        if rng.below(1000) >= LOST {
            let _ = to.send(&bytes[..len]);
        }
    }
}
