//! A failure detector: heartbeats in, suspicions out.
//!
//! ```text
//!            silence                silence
//!   Alive ───────────▶ Suspect ───────────────▶ Dead
//!     ▲                 │   ▲                    │
//!     └── a heartbeat ──┘   └───── a heartbeat ──┘   and enough of them in a row make it Alive
//! ```
//!
//! *Suspect* means: something is late, so choose another for what is new. It costs nothing to be wrong, and
//! one heartbeat takes it back. *Dead* means: act as if it will not come back. Being wrong is dear, so it
//! takes several lost heartbeats in a row.
//!
//! Both strategies have the same two questions to answer, how much silence makes a peer suspect and how much
//! dead: [`Strategy::Fixed`] from the interval alone, [`Strategy::PhiAccrual`] from how regularly the peer
//! was heard. `docs/detector.md` has the arithmetic and what was measured.
//!
//! ```
//! use std::time::Duration;
//! use mutirao::detector::{Change, Detector, DetectorConfig, State};
//! use mutirao::machine::{Machine, Time};
//!
//! let mut detector = Detector::new(DetectorConfig::default());
//! detector.heartbeat(Time::START, "data-1").expect("room for one more");
//! let change: Change<_> = loop {
//!     let due = detector.deadline().expect("it is watched");
//!     detector.wake(due);
//!     if let Some(change) = detector.poll() {
//!         break change;
//!     }
//! };
//! assert_eq!((change.peer, change.state), ("data-1", State::Suspect));
//! ```
//!
//! [`Detector`] keeps a record of each peer, and the timers. Who has such records anyhow, as the
//! [broker](crate::broker) has, puts a [`Heard`] and a [`Trust`] into each and asks those.

mod heard;
mod phi;
mod record;
mod rules;
mod trust;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::machine::{Machine, Time};

pub use heard::Heard;
pub use phi::phi;
use record::Record;
pub use rules::Rules;
pub use trust::Trust;

/// What is thought of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is heard as often as it should be.
    Alive,
    /// It is late, or has come back and is not trusted yet.
    Suspect,
    /// It has been silent for so long that it is to be taken for gone.
    Dead,
}

/// A peer has become something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<P> {
    /// Who.
    pub peer: P,
    /// What it was.
    pub before: State,
    /// What it is now.
    pub state: State,
}

/// How silence becomes suspicion. All durations are counted from the last heartbeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// A peer is suspect after so many intervals, and dead after so many.
    Fixed {
        /// In intervals. Below 2, the first lost heartbeat makes it suspect; above 1 by as much as
        /// heartbeats may be late.
        suspect: f64,
        /// In intervals: heartbeats that may be missed.
        liveness: u32,
    },
    /// A peer is suspect when heartbeats that came as regularly as its last ones would be so late only with
    /// a probability of 10^-threshold, and dead when it has been so for `pause` more.
    ///
    /// The φ accrual failure detector of Hayashibara, Défago, Yared and Katayama (2004). It differs in one
    /// thing: a gap of about two, three or more intervals counts as that many, with heartbeats lost in
    /// between. A normal distribution says how late heartbeats come, not how many get lost; for
    /// those there is the pause, as in Akka.
    PhiAccrual {
        /// φ above which it is suspect.
        threshold: f64,
        /// Gaps that are remembered of each peer, at most [`MAX_WINDOW`].
        window: usize,
        /// The least standard deviation that is believed, so that a peer which was punctual to the
        /// microsecond is not suspect after two.
        min_deviation: Duration,
        /// How much longer than suspicion takes a peer must be silent to be dead: heartbeats in a row that may be
        /// lost.
        pause: Duration,
    },
}

impl Strategy {
    /// Suspect after 1.75 intervals, when one heartbeat has not come; dead after `liveness` intervals.
    pub fn fixed(liveness: u32) -> Strategy {
        let suspect = 1.75;
        Strategy::Fixed { suspect, liveness }
    }

    /// Suspect at φ = 8 over the last 200 gaps, with a deviation of at least a tenth of the interval; dead
    /// `pause` later.
    pub fn phi_accrual(interval: Duration, pause: Duration) -> Strategy {
        Strategy::PhiAccrual {
            threshold: 8.0,
            window: 200,
            min_deviation: interval / 10,
            pause,
        }
    }
}

/// Most gaps that are remembered of a peer.
pub const MAX_WINDOW: usize = 1_000;

/// Most heartbeats in a row that a peer which keeps dying must send before it is trusted again.
pub const MAX_PROBATION: u32 = 16;

/// Intervals without a death after which one return is forgotten.
pub const CALM_INTERVALS: u32 = 64;

/// What a detector goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorConfig {
    /// How often peers say that they are alive.
    pub interval: Duration,
    /// How silence becomes suspicion.
    pub strategy: Strategy,
    /// Peers that are watched at once; more are refused.
    pub peers: usize,
}

impl Default for DetectorConfig {
    /// φ accrual for heartbeats every second, and 1,000 peers.
    fn default() -> DetectorConfig {
        DetectorConfig::phi_accrual(Duration::from_secs(1))
    }
}

impl DetectorConfig {
    /// Suspect after 1.75 intervals, dead after 7.
    pub fn fixed(interval: Duration) -> DetectorConfig {
        DetectorConfig {
            interval,
            strategy: Strategy::fixed(7),
            peers: 1_000,
        }
    }

    /// Suspect at φ = 8, dead five intervals later.
    pub fn phi_accrual(interval: Duration) -> DetectorConfig {
        DetectorConfig {
            interval,
            strategy: Strategy::phi_accrual(interval, interval.saturating_mul(5)),
            peers: 1_000,
        }
    }

    /// Checks that the values fit together.
    ///
    /// # Errors
    ///
    /// A sentence that names the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.interval < Duration::from_millis(1) || self.interval > Duration::from_secs(86_400) {
            return Err("interval is below 1 ms or over a day: give something in between".into());
        }
        if self.peers == 0 {
            return Err("peers is 0: nobody could be watched".into());
        }
        match self.strategy {
            Strategy::Fixed { suspect, liveness } => {
                if liveness < 2 {
                    return Err("liveness is below 2: one late heartbeat would be a death".into());
                }
                if !(suspect > 1.0 && suspect <= f64::from(liveness)) {
                    return Err("suspect is not between 1 and liveness".into());
                }
            }
            Strategy::PhiAccrual {
                threshold,
                window,
                min_deviation,
                ..
            } => {
                if !(threshold > 0.3 && threshold <= 300.0) {
                    return Err("threshold is not between 0.3 and 300: 8 is a good start".into());
                }
                if !(2..=MAX_WINDOW).contains(&window) {
                    return Err(format!("window is not between 2 and {MAX_WINDOW}"));
                }
                if min_deviation.is_zero() || min_deviation > self.interval {
                    return Err(
                        "min_deviation is 0 or over interval: a tenth of it is a good start".into(),
                    );
                }
            }
        }
        Ok(())
    }
}

/// There is no room to watch one more peer; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} peers are watched already: raise the limit, or forget some that are dead")]
pub struct TooManyPeers {
    /// How many may be.
    pub limit: usize,
}

/// Watches peers by their heartbeats.
///
/// A heartbeat costs a look into a map and, with φ accrual, a few additions; timers are moved only when
/// they ring. Memory: about 200 bytes for a peer, and 4 for each gap that is remembered.
///
/// A peer that returns from the dead `n` times must send 2^(n-1) heartbeats in a row before it is alive
/// again, at most [`MAX_PROBATION`]; after [`CALM_INTERVALS`] intervals without a death one return is
/// forgotten.
///
/// A detector that stood still itself, for more than two intervals, blames nobody: silence counts from then on. To
/// know of it, it wants to be woken at every interval while anybody is watched who is not dead.
#[derive(Clone, Debug)]
pub struct Detector<P> {
    rules: Rules,
    limit: usize,
    records: BTreeMap<P, Record>,
    /// When to look at whom; a peer may have been heard since.
    timers: BTreeSet<(Time, P)>,
    changes: VecDeque<Change<P>>,
    /// When it was last called.
    woken: Time,
}

impl<P: Copy + Ord> Detector<P> {
    /// A detector that watches nobody yet; `config` must be [valid](DetectorConfig::validate).
    pub fn new(config: DetectorConfig) -> Detector<P> {
        Detector {
            rules: Rules::new(config.interval, config.strategy),
            limit: config.peers,
            records: BTreeMap::new(),
            timers: BTreeSet::new(),
            changes: VecDeque::new(),
            woken: Time::START,
        }
    }

    /// Watches a peer from now on, as if it had just been heard. Harmless when it is watched.
    ///
    /// # Errors
    ///
    /// [`TooManyPeers`].
    pub fn watch(&mut self, now: Time, peer: P) -> Result<(), TooManyPeers> {
        self.stand_up(now);
        if self.records.contains_key(&peer) {
            return Ok(());
        }
        if self.records.len() >= self.limit {
            let limit = self.limit;
            return Err(TooManyPeers { limit });
        }
        let record = Record::new(&self.rules, now);
        self.timers.insert((record.timer, peer));
        self.records.insert(peer, record);
        Ok(())
    }

    /// A heartbeat of a peer, which is watched from then on.
    ///
    /// # Errors
    ///
    /// [`TooManyPeers`], when it was not.
    pub fn heartbeat(&mut self, now: Time, peer: P) -> Result<(), TooManyPeers> {
        self.stand_up(now);
        let Some(record) = self.records.get_mut(&peer) else {
            return self.watch(now, peer);
        };
        let before = record.state(now, &self.rules);
        if before != record.told {
            // What had become of it in the meantime is told first.
            tell(&mut self.changes, peer, record, before);
        }
        let state = record.heartbeat(now, &self.rules);
        if state != before {
            tell(&mut self.changes, peer, record, state);
        }
        let due = record.due(&self.rules);
        if due.is_some_and(|due| due < record.timer || record.is_idle) {
            set_timer(&mut self.timers, peer, record, due);
        }
        Ok(())
    }

    /// Watches a peer no more, as when it has said goodbye.
    pub fn forget(&mut self, peer: P) {
        if let Some(record) = self.records.remove(&peer) {
            self.timers.remove(&(record.timer, peer));
        }
    }

    /// What is thought of a peer now; `None` when it is not watched.
    pub fn state(&self, now: Time, peer: P) -> Option<State> {
        Some(self.records.get(&peer)?.state(now, &self.rules))
    }

    /// How suspicious its silence is by now: -log10 of the probability that a heartbeat comes even later.
    /// With [`Strategy::Fixed`], and before the first gaps, it is reckoned from the expected interval.
    pub fn phi(&self, now: Time, peer: P) -> Option<f64> {
        Some(self.records.get(&peer)?.heard.phi(now, &self.rules))
    }

    /// All that are watched, with what is thought of them now.
    pub fn peers(&self, now: Time) -> impl Iterator<Item = (P, State)> {
        let records = self.records.iter();
        records.map(move |(&peer, record)| (peer, record.state(now, &self.rules)))
    }

    /// Whoever stood still has not heard what was said meanwhile.
    fn stand_up(&mut self, now: Time) {
        let since = now.since(self.woken);
        let stood_still = since > self.rules.interval.saturating_mul(2);
        self.woken = self.woken.max(now);
        // Without a timer nobody has promised to wake it.
        if stood_still && !self.timers.is_empty() {
            for record in self.records.values_mut() {
                record.heard.excuse(now);
            }
        }
    }

    fn look(&mut self, now: Time, peer: P) {
        let Some(record) = self.records.get_mut(&peer) else {
            return;
        };
        let state = record.state(now, &self.rules);
        if state != record.told {
            tell(&mut self.changes, peer, record, state);
        }
        let due = record.due(&self.rules);
        set_timer(&mut self.timers, peer, record, due);
    }
}

fn tell<P>(changes: &mut VecDeque<Change<P>>, peer: P, record: &mut Record, state: State) {
    let before = record.become_state(state);
    changes.push_back(Change {
        peer,
        before,
        state,
    });
}

fn set_timer<P: Copy + Ord>(
    timers: &mut BTreeSet<(Time, P)>,
    peer: P,
    record: &mut Record,
    due: Option<Time>,
) {
    timers.remove(&(record.timer, peer));
    record.is_idle = due.is_none();
    if let Some(due) = due {
        record.timer = due;
        timers.insert((due, peer));
    }
}

impl<P: Copy + Ord> Machine for Detector<P> {
    /// A heartbeat of a peer; where there is no room, [`heartbeat`](Detector::heartbeat) says so.
    type Input = P;
    type Output = Change<P>;

    fn handle(&mut self, now: Time, peer: P) {
        let _ = self.heartbeat(now, peer);
    }

    fn wake(&mut self, now: Time) {
        self.stand_up(now);
        while let Some(&(due, peer)) = self.timers.first()
            && due <= now
        {
            self.look(now, peer);
        }
    }

    fn poll(&mut self) -> Option<Change<P>> {
        self.changes.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        let &(due, _) = self.timers.first()?;
        Some(due.min(self.woken + self.rules.interval))
    }
}
