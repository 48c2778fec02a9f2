//! Carries byte streams along a bad path.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;

use mutirao::machine::Clock;
use mutirao::sim::Rng;
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::set_socket_recv_buffer_size;

use super::stream::StreamPath;
use super::udp::{pause, timeout};
use super::{Conditions, Injected};
use crate::compare::control::{Control, Order};

/// Connections through one proxy; more are closed at once.
const MAX_CONNECTIONS: usize = 64;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

pub(super) fn run(
    target: SocketAddr,
    conditions: Conditions,
    seed: u64,
    control: &Control,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<Injected> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    // What waits in the system instead of at its sender would have to come through before the end.
    set_socket_recv_buffer_size(&listener, CHUNK)?;
    ready(listener.local_addr()?);
    let mut seeds = Rng::new(seed);
    let (mut lanes, mut injected) = (Vec::new(), Injected::default());
    let mut buffer = vec![0; CHUNK];
    let clock = Clock::start();
    while control.order() != Some(Order::End) {
        if let Ok((client, _)) = listener.accept()
            && lanes.len() < 2 * MAX_CONNECTIONS
        {
            // Nobody there: the client's connection ends, as it would without us.
            if let Ok(pair) = lay(client, target, conditions, &mut seeds) {
                lanes.extend(pair);
            }
        }
        for lane in &mut lanes {
            lane.turn(&clock, &mut buffer);
        }
        lanes.retain(|lane: &Lane| {
            let over = lane.is_over();
            if over {
                injected += lane.path.injected();
            }
            !over
        });
        wait(&listener, &lanes, &clock)?;
    }
    for lane in &lanes {
        injected += lane.path.injected();
    }
    Ok(injected)
}

/// Both directions of a new connection.
fn lay(
    client: TcpStream,
    target: SocketAddr,
    conditions: Conditions,
    seeds: &mut Rng,
) -> io::Result<[Lane; 2]> {
    let server = TcpStream::connect(target)?;
    for stream in [&client, &server] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    let mut lane = |from: &TcpStream, to: &TcpStream| {
        Ok::<_, io::Error>(Lane {
            from: from.try_clone()?,
            to: to.try_clone()?,
            path: StreamPath::new(conditions, seeds.bits()),
            leaving: Vec::new(),
            written: 0,
            ended: false,
            broken: false,
        })
    };
    Ok([lane(&client, &server)?, lane(&server, &client)?])
}

/// One direction of a connection.
struct Lane {
    from: TcpStream,
    to: TcpStream,
    path: StreamPath,
    /// What has come out of the path and is being written.
    leaving: Vec<u8>,
    written: usize,
    /// Nothing more comes in.
    ended: bool,
    broken: bool,
}

impl Lane {
    fn turn(&mut self, clock: &Clock, buffer: &mut [u8]) {
        self.take_in(clock, buffer);
        while !self.broken && self.write(clock) {}
        if self.ended && self.path.is_empty() && self.leaving.is_empty() && !self.broken {
            let _ = self.to.shutdown(Shutdown::Write);
            self.broken = true;
        }
    }

    fn take_in(&mut self, clock: &Clock, buffer: &mut [u8]) {
        if self.ended || !self.path.has_room() {
            return;
        }
        match self.from.read(buffer) {
            Ok(0) => self.ended = true,
            Ok(bytes) => self.path.handle(clock.now(), &buffer[..bytes]),
            Err(error) if is_passing(&error) => {}
            Err(_) => self.give_up(),
        }
    }

    /// Whether there may be more to write at once.
    fn write(&mut self, clock: &Clock) -> bool {
        if self.leaving.is_empty() {
            let Some(bytes) = self.path.poll(clock.now()) else {
                return false;
            };
            (self.leaving, self.written) = (bytes, 0);
        }
        match self.to.write(&self.leaving[self.written..]) {
            Ok(bytes) => self.written += bytes,
            Err(error) if is_passing(&error) => return false,
            Err(_) => self.give_up(),
        }
        if self.written == self.leaving.len() {
            self.leaving = Vec::new();
        }
        true
    }

    /// The connection is gone, hence both directions.
    fn give_up(&mut self) {
        (self.broken, self.ended) = (true, true);
        let _ = self.from.shutdown(Shutdown::Both);
        let _ = self.to.shutdown(Shutdown::Both);
    }

    fn is_over(&self) -> bool {
        self.broken
    }

    fn reads(&self) -> bool {
        !self.ended && self.path.has_room()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn wait(listener: &TcpListener, lanes: &[Lane], clock: &Clock) -> io::Result<()> {
    let due = lanes.iter().filter(|lane| lane.leaving.is_empty());
    let timeout = timeout(due.filter_map(|lane| lane.path.deadline()).min(), clock);
    let mut fds = vec![PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    for lane in lanes {
        if lane.reads() {
            fds.push(PollFd::from_borrowed_fd(lane.from.as_fd(), PollFlags::IN));
        }
        if !lane.leaving.is_empty() {
            fds.push(PollFd::from_borrowed_fd(lane.to.as_fd(), PollFlags::OUT));
        }
    }
    pause(&mut fds, timeout)
}
