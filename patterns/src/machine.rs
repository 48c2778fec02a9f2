//! The contract of every protocol machine: messages and time go in, actions come out.
//!
//! A machine never opens a socket, reads a clock, starts a thread or draws from a global random
//! number generator. It can therefore run in the [simulator](crate::sim) as well as behind a driver.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// A moment on the monotonic clock, counted from a start that only its [`Clock`] knows.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The moment at which the clock started.
    pub const START: Time = Time(Duration::ZERO);

    /// The time that passed since `earlier`; zero when `earlier` lies in the future.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, delay: Duration) -> Time {
        Time(self.0.saturating_add(delay))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;

    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{:?}", self.0)
    }
}

/// Turns the system's monotonic clock into [`Time`].
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts a clock; its [`Time::START`] is now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        Time(self.0.elapsed())
    }
}

/// A protocol as a pure state machine.
///
/// The caller's loop is always the same: feed what arrived with [`handle`](Machine::handle), drain
/// [`poll`](Machine::poll) until it returns `None`, sleep until the next message or
/// [`deadline`](Machine::deadline), and call [`wake`](Machine::wake) when the deadline has come.
pub trait Machine {
    /// What happens to the machine: a message, an order of the application.
    type Input;
    /// What the machine wants done: a message sent, the application told.
    type Output;

    /// Takes one input at the moment `now`.
    fn handle(&mut self, now: Time, input: Self::Input);

    /// Takes note that time has passed; harmless when nothing was due.
    fn wake(&mut self, now: Time);

    /// The next thing to do, or `None` when there is nothing left for now.
    fn poll(&mut self) -> Option<Self::Output>;

    /// When [`wake`](Machine::wake) must be called at the latest; `None` while nothing is due.
    fn deadline(&self) -> Option<Time>;
}
