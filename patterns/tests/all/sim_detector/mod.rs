//! The failure detector in the simulator: one invariant per file.

mod adapts_to_the_network;
mod detection_time;
mod no_false_death;

use std::time::Duration;

use mutirao::detector::{Change, Detector, DetectorConfig};
use mutirao::machine::{Machine, Time};
use mutirao::sim::{Link, Node, NodeId, Sim};

const SECOND: Duration = Duration::from_secs(1);

const PEER: NodeId = NodeId(0);
const WATCHER: NodeId = NodeId(1);

/// Heartbeats every second are sent by one and watched by the other.
enum Program {
    Peer {
        next: Time,
        is_due: bool,
    },
    Watcher {
        detector: Detector<NodeId>,
        changes: Vec<(Time, Change<NodeId>)>,
    },
}

impl Node for Program {
    type Message = ();

    fn handle(&mut self, now: Time, from: NodeId, (): ()) {
        if let Program::Watcher { detector, .. } = self {
            detector.heartbeat(now, from).expect("room");
        }
        self.note(now);
    }

    fn wake(&mut self, now: Time) {
        match self {
            Program::Peer { next, is_due } => (*next, *is_due) = (now + SECOND, true),
            Program::Watcher { detector, .. } => detector.wake(now),
        }
        self.note(now);
    }

    fn poll(&mut self) -> Option<(NodeId, ())> {
        match self {
            Program::Peer { is_due, .. } => std::mem::take(is_due).then_some((WATCHER, ())),
            Program::Watcher { .. } => None,
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self {
            Program::Peer { next, .. } => Some(*next),
            Program::Watcher { detector, .. } => detector.deadline(),
        }
    }
}

impl Program {
    fn note(&mut self, now: Time) {
        if let Program::Watcher { detector, changes } = self {
            changes.extend(std::iter::from_fn(|| detector.poll()).map(|change| (now, change)));
        }
    }
}

/// What is tried: both strategies with their defaults.
fn configs() -> [(&'static str, DetectorConfig); 2] {
    [
        ("fixed", DetectorConfig::fixed(SECOND)),
        ("φ accrual", DetectorConfig::phi_accrual(SECOND)),
    ]
}

/// A peer and its watcher, over a network that delays up to 50 ms and loses so much.
fn world(config: DetectorConfig, loss: f64, seed: u64) -> Sim<Program> {
    let delay = Duration::from_millis(1)..Duration::from_millis(50);
    let link = Link {
        loss,
        delay,
        ..Link::default()
    };
    world_over(link, config, seed)
}

fn world_over(link: Link, config: DetectorConfig, seed: u64) -> Sim<Program> {
    let mut sim = Sim::new(seed, link);
    let next = Time::START;
    sim.add(Program::Peer {
        next,
        is_due: false,
    });
    sim.add(Program::Watcher {
        detector: Detector::new(config),
        changes: Vec::new(),
    });
    sim
}

fn run_for(sim: &mut Sim<Program>, time: Duration) {
    let end = sim.now() + time;
    sim.run_until(end)
        .unwrap_or_else(|livelock| panic!("{livelock}"));
}

/// What the watcher has noticed since it was last asked.
fn noticed(sim: &mut Sim<Program>) -> Vec<(Time, Change<NodeId>)> {
    let take = |node: &mut Program, _| match node {
        Program::Watcher { changes, .. } => std::mem::take(changes),
        Program::Peer { .. } => Vec::new(),
    };
    sim.with(WATCHER, take).unwrap_or_default()
}
