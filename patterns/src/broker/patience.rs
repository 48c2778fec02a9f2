//! How long the broker waits for whom.

use std::time::Duration;

use crate::detector::{Rules, Strategy};

use super::hands;
use super::machine::{BrokerLimits, Client, Worker};

/// How the broker tells that a worker or a client is late, and that it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detection {
    /// By fixed times: late after 1.75 heartbeats, gone after as many as [`BrokerLimits::liveness`] says.
    #[default]
    Fixed,
    /// φ accrual, by how regularly it was heard: late when φ reaches 8, gone when it has been so for `liveness` - 2
    /// heartbeats more, at least one. A peer whose heartbeats come regularly is given up a little sooner than by fixed
    /// times, one whose do not up to 2 heartbeats later.
    PhiAccrual,
}

impl Detection {
    fn strategy(self, interval: Duration, liveness: u32) -> Strategy {
        match self {
            Detection::Fixed => Strategy::fixed(liveness),
            Detection::PhiAccrual => {
                let pause = interval.saturating_mul(liveness.saturating_sub(2).max(1));
                Strategy::phi_accrual(interval, pause)
            }
        }
    }
}

/// How long the broker waits for each kind of peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) workers: Rules,
    /// Workers that speak Majordomo, whose heartbeats are their own.
    pub(super) hands: Rules,
    pub(super) clients: Rules,
    /// Clients that wait for a reply and need not say so.
    askers: Rules,
}

impl Patience {
    pub(super) fn of(limits: &BrokerLimits) -> Patience {
        let rules = |interval, liveness| {
            let strategy = limits.detection.strategy(interval, liveness);
            Rules::new(interval, strategy)
        };
        let ours = rules(limits.heartbeat, limits.liveness);
        Patience {
            workers: ours,
            hands: rules(hands::HEARTBEAT, hands::LIVENESS),
            clients: ours,
            askers: Rules::fixed(hands::REQUEST_PATIENCE, hands::REQUEST_PATIENCE),
        }
    }

    pub(super) fn with_worker(&self, worker: &Worker) -> &Rules {
        match worker.majordomo {
            Some(_) => &self.hands,
            None => &self.workers,
        }
    }

    pub(super) fn with_client(&self, client: &Client) -> &Rules {
        match client.asking {
            0 => &self.clients,
            _ => &self.askers,
        }
    }
}
