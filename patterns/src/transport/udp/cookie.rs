//! Proof that somebody receives what is sent to the address that he gives, without memory for him.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use crate::machine::Time;

/// A cookie is good for so long, and at most twice as long.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// Makes and knows cookies: a keyed hash (SipHash) over address, session and time, whose key no other process
/// has.
#[derive(Debug, Default)]
pub(super) struct Cookies(RandomState);

impl Cookies {
    /// The cookie for this session at this address.
    pub(super) fn make(&self, now: Time, from: SocketAddr, session: u64) -> u64 {
        self.of(slot(now), from, session)
    }

    /// Whether this is one that was made for the same.
    pub(super) fn is_good(&self, now: Time, from: SocketAddr, session: u64, cookie: u64) -> bool {
        let slot = slot(now);
        let slots = [Some(slot), slot.checked_sub(1)];
        let mut slots = slots.into_iter().flatten();
        slots.any(|slot| self.of(slot, from, session) == cookie)
    }

    fn of(&self, slot: u128, from: SocketAddr, session: u64) -> u64 {
        // 0 stands for none.
        self.0.hash_one((slot, from, session)).max(1)
    }
}

fn slot(now: Time) -> u128 {
    now.since(Time::START).as_nanos() / GOOD_FOR.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_one_address_one_session_and_some_seconds() {
        let cookies = Cookies::default();
        let at = |seconds| Time::START + Duration::from_secs(seconds);
        let from = |text: &str| text.parse().unwrap();
        let here = from("127.0.0.1:1");
        let cookie = cookies.make(at(5), here, 7);
        assert!(cookies.is_good(at(5), here, 7, cookie));
        assert!(cookies.is_good(at(19), here, 7, cookie));
        assert!(!cookies.is_good(at(20), here, 7, cookie));
        assert!(!cookies.is_good(at(5), here, 8, cookie));
        assert!(!cookies.is_good(at(5), from("127.0.0.1:2"), 7, cookie));
        assert!(!cookies.is_good(at(5), from("127.0.0.2:1"), 7, cookie));
        assert!(!cookies.is_good(at(5), here, 7, 0));
        assert!(!Cookies::default().is_good(at(5), here, 7, cookie));
    }
}
