//! The way to one peer: datagrams gathered, so that one call sends many.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::transport::sys::datagrams::{self, BATCH};

use super::rooms::{self, LINES};
use super::tally::Tally;

/// Bytes that are sent without waiting for more.
const GATHERED_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Line {
    socket: Arc<UdpSocket>,
    /// Where to, unless the socket is connected.
    to: Option<SocketAddr>,
    tally: Arc<Tally>,
    bytes: Vec<u8>,
    /// Where each datagram ends, and how many of them have been sent.
    ends: Vec<usize>,
    sent: usize,
    /// The peer's machine says that nobody listens.
    refused: bool,
    /// Datagrams of one size go as one.
    together: bool,
}

impl Line {
    pub(super) fn new(socket: Arc<UdpSocket>, to: Option<SocketAddr>, tally: Arc<Tally>) -> Line {
        Line {
            together: datagrams::can_cut(&*socket),
            socket,
            to,
            tally,
            bytes: Vec::new(),
            ends: Vec::new(),
            sent: 0,
            refused: false,
        }
    }

    /// Where they go.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.to.or_else(|| self.socket.peer_addr().ok())
    }

    /// Datagrams that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.ends.len() - self.sent
    }

    /// Whether it is time to [`write`](Line::write).
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= BATCH || self.bytes.len() >= GATHERED_BYTES
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Adds what `fill` appends as a datagram, if that says so.
    pub(super) fn add(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.make_room();
        let before = self.bytes.len();
        let filled = fill(&mut self.bytes);
        match filled {
            true => self.ends.push(self.bytes.len()),
            false => self.bytes.truncate(before),
        }
        filled
    }

    /// Adds a datagram.
    pub(super) fn put(&mut self, datagram: &[u8]) {
        self.make_room();
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    /// Forgets what waits to be sent.
    pub(super) fn clear(&mut self) {
        rooms::give_back(&LINES, std::mem::take(&mut self.bytes));
        self.ends.clear();
        self.ends.shrink_to(BATCH);
        self.sent = 0;
    }

    fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = rooms::borrow(&LINES);
        }
    }

    /// Sends what waits, as far as the system takes it.
    pub(super) fn write(&mut self) {
        while self.waiting() > 0 {
            let bytes = &self.bytes;
            let starts = [0].into_iter().chain(self.ends.iter().copied());
            let spans = starts.zip(&self.ends).skip(self.sent);
            let slices = spans.map(|(start, &end)| &bytes[start..end]);
            match datagrams::send(&self.socket, self.to, slices, &mut self.together) {
                Ok(count) => {
                    self.sent += count;
                    self.tally.sent.add(count as u64);
                }
                Err(error) if is_busy(&error) => {
                    self.tally.blocked.store(true, Ordering::Relaxed);
                    return;
                }
                // Said of an earlier datagram; this one was not sent.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && !self.refused => {
                    self.refused = true;
                }
                Err(error) => {
                    log::debug!("a datagram cannot be sent: {error}");
                    self.tally.dropped.add(1);
                    self.sent += 1;
                }
            }
        }
        self.clear();
    }
}

fn is_busy(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}
