//! Elections by the thousand in the simulator: how fast, with how many messages, and how often two led.
//!
//! ```
//! use mutirao::election::experiment::Experiment;
//!
//! let experiment = Experiment { loss: 0.01, ..Experiment::default() };
//! let mut report = experiment.run(1).expect("no livelock");
//! report.add(&experiment.run(2).expect("no livelock"));
//! assert_eq!(report.double_leaders, 0);
//! println!("{:?} to elect a leader", report.time_to_elect(0.5));
//! ```

mod cluster;
mod faults;
mod member;
mod report;
mod watch;

use std::ops::Range;
use std::time::Duration;

use crate::sim::{Link, Livelock};

use super::{Algorithm, Timing};

pub use cluster::Cluster;
pub use faults::Fault;
pub use report::Report;

/// What is tried: members, network and faults. Everything else follows from the seed.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// By which algorithm they elect.
    pub algorithm: Algorithm,
    /// How many members; their ids are 1 to this.
    pub nodes: usize,
    /// Their times.
    pub timing: Timing,
    /// How long faults go on.
    pub time: Duration,
    /// The probability that a message is lost, from 0 to 1.
    pub loss: f64,
    /// The probability that a message arrives twice.
    pub duplication: f64,
    /// How long a message travels; wide enough, and messages overtake each other.
    pub delay: Range<Duration>,
    /// Members that are killed and started again, on average, in that time.
    pub crashes: f64,
    /// Members that are stopped, say so, and are started again, on average.
    pub stops: f64,
    /// Times that the members are parted in two sides, on average.
    pub partitions: f64,
    /// Times that one member hears another no more, or all others, but is heard, on average.
    pub one_way_cuts: f64,
    /// Times that a member stands still and goes on, on average.
    pub pauses: f64,
    /// How much faster or slower than real time the members' clocks run at most, in millionths.
    pub drift_ppm: u32,
    /// How long the disk takes to write a ballot.
    pub disk: Range<Duration>,
    /// Whether a restarted member still has its ballot. Without, no algorithm can keep its word: it is
    /// there to show that the experiment would notice.
    pub durable: bool,
}

impl Default for Experiment {
    /// Five members for ten seconds on a network that delays up to 10 ms and loses nothing, with two
    /// crashes, partitions, one-way cuts and pauses each.
    fn default() -> Experiment {
        Experiment {
            algorithm: Algorithm::default(),
            nodes: 5,
            timing: Timing::default(),
            time: Duration::from_secs(10),
            loss: 0.0,
            duplication: 0.0,
            delay: Duration::from_micros(100)..Duration::from_millis(10),
            crashes: 2.0,
            stops: 0.0,
            partitions: 2.0,
            one_way_cuts: 2.0,
            pauses: 2.0,
            drift_ppm: 500,
            disk: Duration::from_micros(100)..Duration::from_millis(20),
            durable: true,
        }
    }
}

impl Experiment {
    /// The same without faults, loss and duplication.
    #[must_use]
    pub fn calm(self) -> Experiment {
        Experiment {
            loss: 0.0,
            duplication: 0.0,
            crashes: 0.0,
            stops: 0.0,
            partitions: 0.0,
            one_way_cuts: 0.0,
            pauses: 0.0,
            ..self
        }
    }

    /// Runs it with one seed: faults for [`time`](Experiment::time), then none until the members agree or
    /// ten seconds have passed, then two seconds in peace.
    ///
    /// # Errors
    ///
    /// [`Livelock`], which is a defect of the algorithm.
    pub fn run(&self, seed: u64) -> Result<Report, Livelock> {
        let mut cluster = Cluster::new(self, seed);
        cluster.trouble(self.time)?;
        cluster.settle(Duration::from_secs(10))?;
        cluster.rest(Duration::from_secs(2))?;
        Ok(cluster.report())
    }

    fn link(&self) -> Link {
        Link {
            delay: self.delay.clone(),
            loss: self.loss,
            duplication: self.duplication,
            fifo: false,
        }
    }
}
