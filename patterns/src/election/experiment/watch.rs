//! Looks at all members after everything that happens: who believes to lead?

use std::time::Duration;

use crate::election::{Algorithm, Epoch, MemberId};
use crate::machine::Time;
use crate::sim::{NodeId, Sim};

use super::member::{Member, member_of};
use super::report::Report;

/// A leadership that somebody believed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reign {
    leader: MemberId,
    epoch: Epoch,
}

#[derive(Debug)]
pub(super) struct Watch {
    algorithm: Algorithm,
    last: Time,
    /// Who believed to lead at the last look.
    now: Vec<Reign>,
    /// The leadership with the highest epoch so far.
    highest: Option<Reign>,
    struck: Option<Struck>,
    pub(super) report: Report,
}

/// A leader, or none as yet, from whom a fault has taken the members.
#[derive(Clone, Copy, Debug)]
struct Struck {
    leader: Option<MemberId>,
    since: Time,
}

impl Watch {
    pub(super) fn new(algorithm: Algorithm) -> Watch {
        let report = Report {
            runs: 1,
            ..Report::default()
        };
        let struck = Struck {
            leader: None,
            since: Time::START,
        };
        Watch {
            algorithm,
            last: Time::START,
            now: Vec::new(),
            highest: None,
            struck: Some(struck),
            report,
        }
    }

    pub(super) fn look(&mut self, sim: &Sim<Member>) {
        let now = sim.now();
        if self.now.len() > 1 {
            self.report.double_time += now.since(self.last);
        }
        self.last = now;
        let mut reigns = Vec::new();
        for id in sim.ids() {
            let Some(member) = sim.node(id) else { continue };
            let tenure = member.machine.tenure(member.clock.read(now));
            reigns.extend(tenure.map(|tenure| Reign {
                leader: member_of(id),
                epoch: tenure.epoch,
            }));
        }
        for &reign in &reigns {
            if !self.now.contains(&reign) {
                self.begin(now, reign);
            }
        }
        if reigns.len() > 1 && reigns.len() > self.now.len() {
            self.report.double_leaders += 1;
        }
        self.now = reigns;
    }

    fn begin(&mut self, now: Time, reign: Reign) {
        self.report.elections += 1;
        if let Some(struck) = self.struck
            && struck.leader != Some(reign.leader)
        {
            self.struck = None;
            self.report.times_to_elect.push(now.since(struck.since));
        }
        if self.algorithm == Algorithm::Bully || self.highest == Some(reign) {
            return;
        }
        match self.highest {
            Some(highest) if highest.epoch == reign.epoch => self.report.shared_epochs += 1,
            Some(highest) if highest.epoch > reign.epoch => self.report.epochs_backwards += 1,
            _ => self.highest = Some(reign),
        }
    }

    /// Who leads, unless nobody or several believe so.
    pub(super) fn leader(&self) -> Option<MemberId> {
        match self.now[..] {
            [Reign { leader, .. }] => Some(leader),
            _ => None,
        }
    }

    /// The leader, if there was one, is cut off from the others, who could elect another.
    pub(super) fn strike(&mut self, now: Time, node: NodeId) {
        let leader = Some(member_of(node));
        self.struck = Some(Struck { leader, since: now });
    }

    /// Something else went wrong, or right: an election that goes on has new conditions.
    pub(super) fn disturb(&mut self, now: Time) {
        if let Some(struck) = &mut self.struck {
            struck.since = now;
        }
    }

    /// Something has ended; a leader that still leads need not be replaced any more.
    pub(super) fn relieve(&mut self, now: Time) {
        let still_leads = |struck: Struck| {
            self.now
                .iter()
                .any(|reign| Some(reign.leader) == struck.leader)
        };
        if self.struck.is_some_and(still_leads) {
            self.struck = None;
        }
        self.disturb(now);
    }

    /// No election is to be expected any more.
    pub(super) fn let_go(&mut self) {
        self.struck = None;
    }

    pub(super) fn rested(&mut self, messages: u64, time: Duration) {
        self.report.calm_messages += messages;
        self.report.calm_time += time;
    }
}
