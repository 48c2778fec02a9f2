//! What a bad path does to a byte stream: it delays it, and treats it as TCP's sender would where segments
//! are lost, since the real connections on both sides of the proxy lose none.
//!
//! The model: bytes leave in segments of [`SEGMENT_BYTES`] at most, as many in a round trip as the
//! [`Window`] allows. What the window holds back fills its segments, as in Linux's send queue; what it does not leaves
//! at once, however short (`TCP_NODELAY`). A segment is lost with the given probability; nothing behind it comes
//! out until it has been repeated. When [`DUPLICATE_ACKS`] more segments follow, the receiver's acknowledgements
//! tell the sender, and it is there one round trip later (fast retransmit, RFC 5681). When nothing follows,
//! only the timer helps: [`TIMEOUT`] and the round trip, doubled each time that the timer helped in vain (RFC 6298,
//! with Linux's minimum). Further losses behind one that is being repaired are repaired along with it, as with
//! selective acknowledgements.

use std::collections::VecDeque;
use std::time::Duration;

use mutirao::machine::Time;
use mutirao::sim::Rng;

use super::window::Window;
use super::{Conditions, Injected};

/// What an Ethernet frame leaves for TCP.
pub(crate) const SEGMENT_BYTES: usize = 1448;

/// Segments behind a lost one that make its sender repeat it.
const DUPLICATE_ACKS: u64 = 3;

/// Linux's shortest retransmission timeout.
const TIMEOUT: Duration = Duration::from_millis(200);

/// What a round trip takes at least, although nothing is delayed.
pub(crate) const LEAST_ROUND_TRIP: Duration = Duration::from_micros(200);

/// Repetitions that may be lost in a row.
const MAX_REPEATS: u32 = 6;

/// Bytes that wait for the window, beyond which no more are taken for now. What is on its way is bounded by
/// the window itself.
const MAX_WAITING_BYTES: usize = 256 << 10;

/// One direction of a connection; all its chance follows from the seed.
pub(crate) struct StreamPath {
    conditions: Conditions,
    rng: Rng,
    /// Segments that the window does not let go yet.
    waiting: VecDeque<Vec<u8>>,
    window: Window,
    /// What comes out when its time has come.
    flowing: VecDeque<(Time, Vec<u8>)>,
    /// What waits behind a lost segment.
    held: VecDeque<(Time, Vec<u8>)>,
    stall: Option<Stall>,
    bytes: usize,
    injected: Injected,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    until: Time,
    /// Segments that have left since.
    behind: u64,
    /// Whether the sender has noticed before its timer.
    noticed: bool,
    /// How often the timer ran out in vain.
    doublings: u32,
    /// How often the repetition was lost.
    repeats: u32,
}

impl StreamPath {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> StreamPath {
        let round_trip = (conditions.delay() * 2).max(LEAST_ROUND_TRIP);
        StreamPath {
            conditions,
            rng: Rng::new(seed),
            waiting: VecDeque::new(),
            window: Window::new(round_trip),
            flowing: VecDeque::new(),
            held: VecDeque::new(),
            stall: None,
            bytes: 0,
            injected: Injected::default(),
        }
    }

    /// Whether there is room for more; the others wait in their sockets.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() * SEGMENT_BYTES < MAX_WAITING_BYTES
    }

    /// Bytes enter.
    pub(crate) fn handle(&mut self, now: Time, bytes: &[u8]) {
        self.bytes += bytes.len();
        let room = self
            .waiting
            .back()
            .map_or(0, |last| SEGMENT_BYTES - last.len());
        let (joins, rest) = bytes.split_at(room.min(bytes.len()));
        if let Some(last) = self.waiting.back_mut() {
            last.extend_from_slice(joins);
        }
        self.waiting
            .extend(rest.chunks(SEGMENT_BYTES).map(<[u8]>::to_vec));
        self.advance(now);
    }

    /// Brings everything up to date.
    fn advance(&mut self, now: Time) {
        self.recover(now);
        self.window.advance(now);
        while !self.waiting.is_empty() && self.window.has_room() {
            self.depart(now);
        }
        self.notice(now);
    }

    /// The next segment leaves.
    fn depart(&mut self, now: Time) {
        let Some(segment) = self.waiting.pop_front() else {
            return;
        };
        self.window.depart(now);
        self.injected.arrived += 1;
        let lost = self.is_lost();
        self.injected.lost += u64::from(lost);
        match &mut self.stall {
            Some(stall) => stall.behind += 1,
            None if lost => self.stall = Some(self.begin_stall(now)),
            None => {}
        }
        self.carry(now + self.conditions.delay(), segment);
    }

    fn is_lost(&mut self) -> bool {
        let chance = self.rng.below(1 << 53) as f64 / (1u64 << 53) as f64;
        chance * 100.0 < self.conditions.loss_percent
    }

    fn begin_stall(&mut self, now: Time) -> Stall {
        self.injected.stalls += 1;
        Stall {
            until: now + self.conditions.delay() + self.window.round_trip() + TIMEOUT,
            behind: 0,
            noticed: false,
            doublings: 0,
            repeats: 0,
        }
    }

    /// Segments behind the lost one tell its sender.
    fn notice(&mut self, now: Time) {
        let arrival = now + self.conditions.delay() + self.window.round_trip();
        if let Some(stall) = &mut self.stall
            && stall.behind >= DUPLICATE_ACKS
            && !stall.noticed
        {
            stall.noticed = true;
            stall.until = stall.until.min(arrival);
            self.window.shrink();
        }
    }

    /// Joins what has the same time, so that a stream is not carried in crumbs.
    fn carry(&mut self, due: Time, segment: Vec<u8>) {
        let queue = match self.stall {
            Some(_) => &mut self.held,
            None => &mut self.flowing,
        };
        match queue.back_mut() {
            Some((last, bytes)) if *last == due => bytes.extend_from_slice(&segment),
            _ => queue.push_back((due, segment)),
        }
    }

    /// Lets go of what waits when the lost segment has been repeated.
    fn recover(&mut self, now: Time) {
        while let Some(stall) = self.stall.filter(|stall| stall.until <= now) {
            if !stall.noticed {
                self.window.collapse();
            }
            if stall.repeats < MAX_REPEATS && self.is_lost() {
                self.stall = Some(self.repeat(stall));
                continue;
            }
            self.stall = None;
            self.flowing.append(&mut self.held);
        }
    }

    /// The repetition is lost as well: again segments behind it may tell, or the timer, which doubles
    /// each time that it was what helped.
    fn repeat(&self, stall: Stall) -> Stall {
        let doublings = stall.doublings + u32::from(!stall.noticed);
        Stall {
            until: stall.until + self.window.round_trip() + TIMEOUT * (1 << doublings),
            behind: 0,
            noticed: false,
            doublings,
            repeats: stall.repeats + 1,
        }
    }

    /// The next bytes that come out.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Vec<u8>> {
        self.advance(now);
        self.flowing.front().filter(|(due, _)| *due <= now)?;
        let (_, bytes) = self.flowing.pop_front()?;
        self.bytes -= bytes.len();
        Some(bytes)
    }

    /// When there is something to be done.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let flowing = self.flowing.front().map(|&(due, _)| due);
        let stall = self.stall.map(|stall| stall.until);
        let room = self.waiting.front().and_then(|_| self.window.deadline());
        flowing.into_iter().chain(stall).chain(room).min()
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What was done so far.
    pub(crate) fn injected(&self) -> Injected {
        self.injected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 20_000;

    fn lossy(loss_percent: f64, delay_ms: f64) -> Conditions {
        Conditions {
            loss_percent,
            delay_ms,
            ..Conditions::default()
        }
    }

    fn at(microseconds: u64) -> Time {
        Time::START + Duration::from_micros(microseconds)
    }

    /// Sends `MANY` segments, one each `every` microseconds; the bytes that come out, and when.
    fn pass(conditions: Conditions, seed: u64, every: u64) -> (Vec<(Time, Vec<u8>)>, Injected) {
        let mut path = StreamPath::new(conditions, seed);
        let mut out = Vec::new();
        for number in 0..MANY {
            collect(&mut path, at(number * every), &mut out);
            path.handle(at(number * every), &segment(number));
        }
        let mut due = path.deadline();
        while let Some(now) = due {
            collect(&mut path, now, &mut out);
            due = path.deadline();
        }
        assert!(path.is_empty());
        (out, path.injected())
    }

    fn segment(number: u64) -> Vec<u8> {
        number.to_le_bytes().repeat(SEGMENT_BYTES / 8)
    }

    fn collect(path: &mut StreamPath, now: Time, out: &mut Vec<(Time, Vec<u8>)>) {
        while let Some(bytes) = path.poll(now) {
            out.push((now, bytes));
        }
    }

    #[test]
    fn all_bytes_come_out_in_order_whatever_happens() {
        let (out, injected) = pass(lossy(5.0, 1.0), 11, 50);
        let bytes: Vec<u8> = out.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let sent: Vec<u8> = (0..MANY).flat_map(segment).collect();
        assert!(bytes == sent);
        assert!(injected.stalls > 100, "{injected:?}");
    }

    #[test]
    fn segments_are_lost_as_often_as_was_asked_for() {
        for percent in [0.0, 0.1, 1.0, 5.0] {
            let (_, injected) = pass(lossy(percent, 0.0), 5, 100);
            let expected = MANY as f64 * percent / 100.0;
            let off = (injected.lost as f64 - expected).abs();
            assert!(off <= 5.0 * expected.sqrt(), "{percent}: {injected:?}");
            assert_eq!(injected.stalls == 0, percent == 0.0);
        }
    }

    /// The time at which the first of two segments comes out when it is lost, with `behind` others at its heels.
    fn repair(behind: u64, delay_ms: f64) -> Time {
        let mut path = StreamPath::new(lossy(100.0, delay_ms), 1);
        path.handle(at(0), &segment(0));
        path.conditions.loss_percent = 0.0;
        (0..behind).for_each(|number| path.handle(at(0), &segment(number)));
        let out = path.deadline().unwrap();
        assert_eq!(path.poll(at(0)), None);
        assert!(path.poll(out).is_some());
        out
    }

    #[test]
    fn a_lost_segment_takes_a_round_trip_when_others_follow_and_the_timer_when_not() {
        assert_eq!(repair(0, 0.0), at(200_200));
        assert_eq!(repair(2, 0.0), at(200_200));
        assert_eq!(repair(3, 0.0), at(200));
        // The delay on the way itself, then a round trip of twice as much.
        assert_eq!(repair(3, 10.0), at(30_000));
        assert_eq!(repair(0, 10.0), at(230_000));
    }

    #[test]
    fn a_repetition_that_is_lost_doubles_the_wait() {
        let mut path = StreamPath::new(lossy(100.0, 0.0), 1);
        path.handle(at(0), b"x");
        let first = path.deadline().unwrap();
        assert_eq!(path.poll(first), None);
        assert_eq!(
            path.deadline(),
            Some(first + LEAST_ROUND_TRIP + TIMEOUT * 2)
        );
    }

    #[test]
    fn a_repetition_that_is_lost_is_repeated_a_round_trip_later_when_others_follow() {
        let mut path = StreamPath::new(lossy(100.0, 0.0), 1);
        (0..4).for_each(|number| path.handle(at(0), &segment(number)));
        assert_eq!(path.deadline(), Some(at(200)));
        assert_eq!(path.poll(at(200)), None);
        path.conditions.loss_percent = 0.0;
        assert_eq!(path.deadline(), Some(at(200 + 200) + TIMEOUT));
        (4..7).for_each(|number| path.handle(at(300), &segment(number)));
        assert_eq!(path.deadline(), Some(at(500)));
        assert!(path.poll(at(500)).is_some());
    }

    #[test]
    fn the_same_seed_is_the_same_path_and_another_is_another() {
        let bad = lossy(1.0, 2.0);
        assert!(pass(bad, 7, 100) == pass(bad, 7, 100));
        assert!(pass(bad, 7, 100) != pass(bad, 8, 100));
    }

    #[test]
    fn losses_make_the_window_small_and_the_stream_slow() {
        // Bytes a second over round trips of 20 ms, when there is always more to send.
        let rate = |loss_percent, seconds: u64| {
            let mut path = StreamPath::new(lossy(loss_percent, 10.0), 9);
            let (mut now, end, mut out) = (Time::START, at(seconds * 1_000_000), 0);
            while now < end {
                while path.has_room() {
                    path.handle(now, &[0; 64 << 10]);
                }
                while let Some(bytes) = path.poll(now) {
                    out += bytes.len();
                }
                now = path
                    .deadline()
                    .unwrap()
                    .max(now + Duration::from_micros(10));
            }
            out as f64 / seconds as f64
        };
        let (good, fair, bad) = (rate(0.0, 1), rate(0.1, 20), rate(1.0, 20));
        assert!(
            good > 10.0 * fair && fair > 2.0 * bad,
            "{good} {fair} {bad}"
        );
        // Mathis, Semke, Mahdavi, Ott (1997): the rate of a Reno sender, of which Linux's is no worse.
        let mathis = 1.22 * SEGMENT_BYTES as f64 / (0.020 * 0.01f64.sqrt());
        assert!((0.3..3.0).contains(&(bad / mathis)), "{bad} and {mathis}");
    }

    #[test]
    fn small_messages_that_the_window_holds_back_share_their_segments() {
        // 500 messages of 100 bytes a second, a round trip of 200 ms: a new connection's window holds ten.
        let (delay, size, every) = (Duration::from_millis(100), 100, Duration::from_millis(2));
        let mut path = StreamPath::new(lossy(0.0, 100.0), 1);
        let (mut entered, mut out, mut waits) = (0, 0, Vec::new());
        let entry = |number: usize| Time::START + every * number as u32;
        while waits.len() < 2000 {
            let due = path
                .deadline()
                .unwrap_or(entry(entered))
                .min(entry(entered));
            while let Some(bytes) = path.poll(due) {
                out += bytes.len();
                while (waits.len() + 1) * size <= out {
                    waits.push(due.since(entry(waits.len())));
                }
            }
            if due == entry(entered) {
                path.handle(due, &vec![7; size]);
                entered += 1;
            }
        }
        // At first up to one round trip more, while the window grows; then nothing but the path's own delay.
        let most = waits.iter().max().unwrap();
        assert!(*most <= delay * 3, "{most:?}");
        assert!(waits[1000..].iter().all(|wait| *wait == delay));
        waits.sort_unstable();
        assert_eq!(waits[1000], delay);
    }

    #[test]
    fn what_the_window_lets_go_leaves_at_once() {
        let mut path = StreamPath::new(lossy(0.0, 1.0), 1);
        (0..3).for_each(|number| path.handle(at(number * 10), b"x"));
        assert_eq!(path.injected().arrived, 3);
        assert_eq!(path.poll(at(1000)).as_deref(), Some(&b"x"[..]));
        assert_eq!(path.deadline(), Some(at(1010)));
    }

    #[test]
    fn a_full_path_takes_no_more() {
        let mut path = StreamPath::new(lossy(0.0, 1000.0), 1);
        let chunk = vec![0; SEGMENT_BYTES * 10];
        while path.has_room() {
            path.handle(Time::START, &chunk);
        }
        // Ten have left; no more may until they are acknowledged.
        assert!(
            path.bytes <= MAX_WAITING_BYTES + 3 * chunk.len(),
            "{}",
            path.bytes
        );
    }
}
