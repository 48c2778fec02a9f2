//! Carries datagrams along a bad path.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use mutirao::machine::{Clock, Time};
use mutirao::sim::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

use super::datagrams::DatagramPath;
use super::{Conditions, Injected};
use crate::compare::control::{Control, Order};

/// Who may talk through one proxy; the datagrams of others are not carried.
const MAX_CLIENTS: usize = 64;

/// Datagrams taken from one socket before the others have their turn.
const TURN: usize = 64;

/// Bytes that may wait in the system for a socket; it may give less.
const ROOM: usize = 4 << 20;

/// How soon to look for orders although nothing arrives.
pub(super) const GLANCE: Duration = Duration::from_millis(20);

/// A client's way to the target and back.
struct Lane {
    client: SocketAddr,
    socket: UdpSocket,
    there: DatagramPath,
    back: DatagramPath,
}

struct Proxy {
    front: UdpSocket,
    target: SocketAddr,
    conditions: Conditions,
    seeds: Rng,
    lanes: Vec<Lane>,
    known: BTreeMap<SocketAddr, usize>,
    buffer: Vec<u8>,
}

pub(super) fn run(
    target: SocketAddr,
    conditions: Conditions,
    seed: u64,
    control: &Control,
    ready: impl FnOnce(SocketAddr),
) -> io::Result<Injected> {
    let front = UdpSocket::bind("127.0.0.1:0")?;
    make_room(&front)?;
    ready(front.local_addr()?);
    let mut proxy = Proxy {
        front,
        target,
        conditions,
        seeds: Rng::new(seed),
        lanes: Vec::new(),
        known: BTreeMap::new(),
        buffer: vec![0; 1 << 16],
    };
    let clock = Clock::start();
    while control.order() != Some(Order::End) {
        proxy.take_from_clients(&clock)?;
        proxy.take_from_target(&clock);
        proxy.let_out(&clock);
        proxy.wait(&clock)?;
    }
    Ok(proxy.injected())
}

impl Proxy {
    fn take_from_clients(&mut self, clock: &Clock) -> io::Result<()> {
        for _ in 0..TURN {
            // Errors are those of datagrams sent earlier to somebody who is gone.
            let Ok((bytes, client)) = self.front.recv_from(&mut self.buffer) else {
                return Ok(());
            };
            if let Some(lane) = self.lane_of(client)? {
                self.lanes[lane]
                    .there
                    .handle(clock.now(), &self.buffer[..bytes]);
            }
        }
        Ok(())
    }

    fn lane_of(&mut self, client: SocketAddr) -> io::Result<Option<usize>> {
        if let Some(&lane) = self.known.get(&client) {
            return Ok(Some(lane));
        }
        if self.lanes.len() == MAX_CLIENTS {
            return Ok(None);
        }
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.target)?;
        make_room(&socket)?;
        self.lanes.push(Lane {
            client,
            socket,
            there: DatagramPath::new(self.conditions, self.seeds.bits()),
            back: DatagramPath::new(self.conditions, self.seeds.bits()),
        });
        self.known.insert(client, self.lanes.len() - 1);
        Ok(Some(self.lanes.len() - 1))
    }

    fn take_from_target(&mut self, clock: &Clock) {
        for lane in &mut self.lanes {
            for _ in 0..TURN {
                let Ok(bytes) = lane.socket.recv(&mut self.buffer) else {
                    break;
                };
                lane.back.handle(clock.now(), &self.buffer[..bytes]);
            }
        }
    }

    /// What finds no room in the system's buffers is lost, as on any path.
    fn let_out(&mut self, clock: &Clock) {
        for lane in &mut self.lanes {
            while let Some(datagram) = lane.there.poll(clock.now()) {
                let _ = lane.socket.send(&datagram);
            }
            while let Some(datagram) = lane.back.poll(clock.now()) {
                let _ = self.front.send_to(&datagram, lane.client);
            }
        }
    }

    fn wait(&self, clock: &Clock) -> io::Result<()> {
        let deadlines = self
            .lanes
            .iter()
            .flat_map(|lane| [lane.there.deadline(), lane.back.deadline()]);
        let timeout = timeout(deadlines.flatten().min(), clock);
        let sockets = self.lanes.iter().map(|lane| lane.socket.as_fd());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.front.as_fd())
            .chain(sockets)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        pause(&mut fds, timeout)
    }

    fn injected(&self) -> Injected {
        let mut injected = Injected::default();
        for lane in &self.lanes {
            injected += lane.there.injected();
            injected += lane.back.injected();
        }
        injected
    }
}

/// As much room as the system gives, so that little is lost but on purpose.
fn make_room(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    set_socket_recv_buffer_size(socket, ROOM)?;
    Ok(set_socket_send_buffer_size(socket, ROOM)?)
}

/// How long to wait for what is due then.
pub(super) fn timeout(due: Option<Time>, clock: &Clock) -> Duration {
    let left = due.map(|due| due.since(clock.now()));
    left.unwrap_or(GLANCE).min(GLANCE)
}

/// Waits for a descriptor, or for so long.
pub(super) fn pause(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(timeout.min(GLANCE).subsec_nanos()),
    };
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
