//! What a bad path does to datagrams: it loses, delays, overtakes and doubles them.
//!
//! What is lost is packets, and a datagram with any of its own: one that is longer than a packet travels as
//! several (RFC 791's fragments), so that a byte is lost as easily in a long datagram as in short ones, or in a
//! segment of a stream.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use mutirao::machine::Time;
use mutirao::sim::Rng;

use super::{Conditions, HELD_BACK, Injected};

/// Bytes that may be on their way; what comes beyond is dropped and counted.
const MAX_BYTES: usize = 64 << 20;

/// What an Ethernet frame leaves for a datagram or a part of one, without the header of IP; that of UDP is carried
/// with the bytes.
const PACKET_BYTES: usize = 1480;

/// The header of UDP.
const UDP_BYTES: usize = 8;

/// The second copy of a datagram comes so much later.
const ECHO: Duration = Duration::from_micros(100);

/// One direction of a path; all its chance follows from the seed.
pub(crate) struct DatagramPath {
    conditions: Conditions,
    rng: Rng,
    /// Those that come out first are on top: by time, then in the order in which they came.
    on_the_way: BinaryHeap<Reverse<Parcel>>,
    bytes: usize,
    serial: u64,
    injected: Injected,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    due: Time,
    serial: u64,
    datagram: Vec<u8>,
}

impl DatagramPath {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> DatagramPath {
        DatagramPath {
            conditions,
            rng: Rng::new(seed),
            on_the_way: BinaryHeap::new(),
            bytes: 0,
            serial: 0,
            injected: Injected::default(),
        }
    }

    /// A datagram enters.
    pub(crate) fn handle(&mut self, now: Time, datagram: &[u8]) {
        let packets = (datagram.len() + UDP_BYTES).div_ceil(PACKET_BYTES);
        // All draws are made each time, so that one condition does not change the luck of the others.
        let lost = (0..packets)
            .filter(|_| self.happens(self.conditions.loss_percent))
            .count();
        let held_back = self.happens(self.conditions.reorder_percent);
        let duplicated = self.happens(self.conditions.duplicate_percent);
        self.injected.arrived += packets as u64;
        self.injected.lost += lost as u64;
        if lost > 0 {
            return;
        }
        let mut due = now + self.conditions.delay();
        if held_back {
            self.injected.held_back += 1;
            due = due + HELD_BACK;
        }
        self.carry(due, datagram);
        if duplicated {
            self.injected.duplicated += 1;
            self.carry(due + ECHO, datagram);
        }
    }

    fn happens(&mut self, percent: f64) -> bool {
        let chance = self.rng.below(1 << 53) as f64 / (1u64 << 53) as f64;
        chance * 100.0 < percent
    }

    fn carry(&mut self, due: Time, datagram: &[u8]) {
        if self.bytes + datagram.len() > MAX_BYTES {
            self.injected.overrun += 1;
            return;
        }
        self.bytes += datagram.len();
        self.serial += 1;
        self.on_the_way.push(Reverse(Parcel {
            due,
            serial: self.serial,
            datagram: datagram.to_vec(),
        }));
    }

    /// The next datagram that comes out.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Vec<u8>> {
        self.on_the_way.peek().filter(|next| next.0.due <= now)?;
        let Reverse(parcel) = self.on_the_way.pop()?;
        self.bytes -= parcel.datagram.len();
        Some(parcel.datagram)
    }

    /// When the next one comes out.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.on_the_way.peek().map(|next| next.0.due)
    }

    /// What was done so far.
    pub(crate) fn injected(&self) -> Injected {
        self.injected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 100_000;

    const BAD: Conditions = Conditions {
        loss_percent: 1.0,
        reorder_percent: 5.0,
        duplicate_percent: 0.5,
        delay_ms: 2.0,
    };

    fn at(microseconds: u64) -> Time {
        Time::START + Duration::from_micros(microseconds)
    }

    /// Sends `MANY` numbered datagrams, one each 100 µs; what comes out and when.
    fn pass(conditions: Conditions, seed: u64) -> (Vec<(Time, u64)>, Injected) {
        let mut path = DatagramPath::new(conditions, seed);
        let mut out = Vec::new();
        for number in 0..MANY {
            path.handle(at(number * 100), &number.to_le_bytes());
            collect(&mut path, at(number * 100), &mut out);
        }
        while let Some(due) = path.deadline() {
            collect(&mut path, due, &mut out);
        }
        (out, path.injected())
    }

    fn collect(path: &mut DatagramPath, now: Time, out: &mut Vec<(Time, u64)>) {
        while let Some(datagram) = path.poll(now) {
            out.push((now, u64::from_le_bytes(datagram.try_into().unwrap())));
        }
    }

    fn is_about(count: u64, percent: f64) -> bool {
        let expected = MANY as f64 * percent / 100.0;
        // Five standard deviations of a binomial distribution.
        (count as f64 - expected).abs() < 5.0 * expected.sqrt()
    }

    #[test]
    fn a_good_path_changes_nothing() {
        let (out, injected) = pass(Conditions::default(), 1);
        let numbers = out.iter().map(|&(_, number)| number);
        assert!(numbers.eq(0..MANY));
        assert!(out.iter().all(|&(when, number)| when == at(number * 100)));
        let arrived = MANY;
        let nothing = Injected {
            arrived,
            ..Injected::default()
        };
        assert_eq!(injected, nothing);
    }

    #[test]
    fn a_bad_path_is_as_bad_as_was_asked_for() {
        let (out, injected) = pass(BAD, 7);
        assert!(is_about(injected.lost, 1.0), "{injected:?}");
        assert!(is_about(injected.held_back, 5.0), "{injected:?}");
        assert!(is_about(injected.duplicated, 0.5), "{injected:?}");
        assert_eq!(injected.overrun, 0);
        let expected = MANY - injected.lost + injected.duplicated;
        assert_eq!(out.len() as u64, expected);
    }

    #[test]
    fn those_that_come_late_are_those_that_were_held_back() {
        let conditions = Conditions {
            reorder_percent: 5.0,
            ..Conditions::default()
        };
        let (out, injected) = pass(conditions, 3);
        let mut arrivals = crate::compare::arrivals::Arrivals::default();
        out.iter().for_each(|&(_, number)| arrivals.note(number));
        assert_eq!(arrivals.distinct(), MANY);
        // Held back by 50 intervals: all but those at the very end are overtaken.
        let overtaken = injected.held_back - arrivals.reordered();
        assert!(overtaken < 10, "{overtaken}");
    }

    #[test]
    fn everything_takes_the_delay() {
        let conditions = Conditions {
            delay_ms: 2.5,
            ..Conditions::default()
        };
        let mut path = DatagramPath::new(conditions, 1);
        path.handle(at(100), b"x");
        assert_eq!(path.deadline(), Some(at(2600)));
        assert_eq!(path.poll(at(2599)), None);
        assert_eq!(path.poll(at(2600)).as_deref(), Some(&b"x"[..]));
        assert_eq!(path.deadline(), None);
    }

    #[test]
    fn a_long_datagram_is_lost_with_any_of_its_packets() {
        let conditions = Conditions {
            loss_percent: 1.0,
            ..Conditions::default()
        };
        let mut path = DatagramPath::new(conditions, 5);
        let (datagrams, packets) = (2000, 10);
        let datagram = vec![0; packets * PACKET_BYTES - UDP_BYTES];
        let mut passed = |number| {
            path.handle(at(number), &datagram);
            path.poll(at(number)).is_some()
        };
        let passed = (0..datagrams).filter(|&number| passed(number)).count() as f64;
        let injected = path.injected();
        assert_eq!(injected.arrived, datagrams * packets as u64);
        // About 200 of 20,000 packets; 0.99 to the power of ten of the datagrams.
        assert!((130..270).contains(&injected.lost), "{injected:?}");
        let share = passed / datagrams as f64;
        assert!((0.87..0.94).contains(&share), "{share}");
    }

    #[test]
    fn a_packet_more_is_drawn_for_a_byte_more_than_it_holds() {
        let packets = |bytes: usize| {
            let mut path = DatagramPath::new(Conditions::default(), 1);
            path.handle(at(0), &vec![0; bytes]);
            path.injected().arrived
        };
        assert_eq!([0, 1, 1472, 1473].map(packets), [1, 1, 1, 2]);
        assert_eq!(packets(65_507), 45);
    }

    #[test]
    fn the_same_seed_is_the_same_path_and_another_is_another() {
        assert!(pass(BAD, 7) == pass(BAD, 7));
        assert!(pass(BAD, 7) != pass(BAD, 8));
    }

    #[test]
    fn a_full_path_drops_and_says_so() {
        let conditions = Conditions {
            delay_ms: 1000.0,
            ..Conditions::default()
        };
        let mut path = DatagramPath::new(conditions, 1);
        let datagram = vec![0; 1 << 20];
        (0..65).for_each(|_| path.handle(Time::START, &datagram));
        assert_eq!(path.injected().overrun, 1);
    }
}
