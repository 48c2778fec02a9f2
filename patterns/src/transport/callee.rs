//! Whom a socket of our own calls, and how long it waits between two tries.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use rand::RngExt as _;

use super::{SocketOptions, TransportError};
use crate::complaints::Complaints;
use crate::endpoint::Endpoint;

/// How soon to look whether a name has been resolved.
pub(super) const RESOLVED: Duration = Duration::from_millis(5);

/// Between two tries, whatever is asked for: nobody is called without end.
pub(super) const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// A host, by address or by name, and a port.
#[derive(Debug)]
pub(super) struct Callee {
    host: String,
    port: u16,
    unresolved: Complaints,
}

impl Callee {
    /// Whoever listens at `endpoint`.
    ///
    /// # Errors
    ///
    /// It names no host or no port.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Callee, TransportError> {
        let unusable = |reason: &str| TransportError::Unusable {
            endpoint: endpoint.clone(),
            reason: reason.into(),
        };
        let host = endpoint.host().filter(|host| *host != "*");
        let host =
            host.ok_or_else(|| unusable("a connection needs a host; `*` is only for listening"))?;
        let port = endpoint.port().filter(|port| *port != 0);
        Ok(Callee {
            host: host.into(),
            port: port.ok_or_else(|| unusable("a connection needs a port number"))?,
            unresolved: Complaints::default(),
        })
    }

    /// Its address, where no name stands for it.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }

    /// Says now and then why the name leads nowhere: somebody has to do something, as a rule.
    pub(super) fn complain(&mut self, reason: &str) {
        let place = self.to_string();
        let what = format!("{reason}: check the name; it is tried again");
        self.unresolved.add(&place, &what);
    }

    /// Lets another thread ask what addresses the host has: that may take seconds.
    pub(super) fn look_up(&self) -> io::Result<Lookup> {
        let (tell, answer) = channel();
        let (host, port) = (self.host.clone(), self.port);
        let ask = move || {
            let addresses = (host.as_str(), port).to_socket_addrs();
            let _ = tell.send(addresses.map(Iterator::collect));
        };
        let thread = std::thread::Builder::new().name("resolve".into());
        thread.spawn(ask)?;
        Ok(Lookup(answer))
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Addresses that are being asked for.
#[derive(Debug)]
pub(super) struct Lookup(Receiver<io::Result<Vec<SocketAddr>>>);

impl Lookup {
    /// The addresses, at least one, or why there is none; `None` until that is known.
    pub(super) fn poll(&self) -> Option<Result<Vec<SocketAddr>, String>> {
        Some(match self.0.try_recv() {
            Ok(Ok(addresses)) if addresses.is_empty() => Err("the host has no address".into()),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(format!("the host does not resolve: {error}")),
            Err(TryRecvError::Disconnected) => Err("the host does not resolve".into()),
            Err(TryRecvError::Empty) => return None,
        })
    }
}

/// Pauses between tries, which double until one succeeds.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(options: &SocketOptions) -> Backoff {
        let min = options.reconnect_min.max(LEAST_PAUSE);
        Backoff {
            next: min,
            min,
            max: options.reconnect_max.max(min),
        }
    }

    /// A try has succeeded.
    pub(super) fn succeed(&mut self) {
        self.next = self.min;
    }

    /// The next pause; somewhat random, so that a thousand clients do not come back at once.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.max);
        pause.mul_f64(rand::rng().random_range(0.75..1.25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(&SocketOptions {
            reconnect_min: ms(10),
            reconnect_max: ms(35),
            ..SocketOptions::default()
        });
        for expected in [10, 20, 35, 35] {
            let pause = backoff.pause();
            assert!((ms(expected * 3 / 4)..ms(expected * 5 / 4 + 1)).contains(&pause));
        }
        backoff.succeed();
        assert!(backoff.pause() < ms(13));
    }

    #[test]
    fn nobody_is_called_without_end() {
        let mut backoff = Backoff::new(&SocketOptions {
            reconnect_min: Duration::ZERO,
            reconnect_max: Duration::ZERO,
            ..SocketOptions::default()
        });
        for _ in 0..10 {
            assert!(backoff.pause() >= LEAST_PAUSE / 2);
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_a_reason() {
        let endpoint = "raw+tcp://no-such-host.invalid:9".parse().unwrap();
        let callee = Callee::new(&endpoint).unwrap();
        assert_eq!(callee.address(), None);
        let lookup = callee.look_up().unwrap();
        let answer = std::iter::from_fn(|| {
            std::thread::yield_now();
            Some(lookup.poll())
        });
        let reason = answer.flatten().next().unwrap().unwrap_err();
        assert!(reason.contains("does not resolve"), "{reason}");
    }
}
