//! All members of an election in the simulator.

use std::time::Duration;

use crate::election::{Ballot, ElectionMachine, MemberId, Members};
use crate::machine::Time;
use crate::sim::{Link, Livelock, NodeId, Sim};

use super::Experiment;
use super::faults::{Agenda, Deed, Fault, Kind, duration};
use super::member::{Disk, LocalClock, Member, member_of};
use super::report::Report;
use super::watch::Watch;

/// A cluster that holds elections; the tests strike it with faults of their choice.
#[derive(Debug)]
pub struct Cluster {
    experiment: Experiment,
    sim: Sim<Member>,
    watch: Watch,
    agenda: Agenda,
    /// What the members that are down have on their disks.
    disks: Vec<Ballot>,
    paused: Vec<bool>,
}

impl Cluster {
    /// Starts all members; whatever chance there is follows from `seed`.
    pub fn new(experiment: &Experiment, seed: u64) -> Cluster {
        let nodes = experiment.nodes;
        let mut cluster = Cluster {
            sim: Sim::new(seed, experiment.link()),
            watch: Watch::new(experiment.algorithm),
            agenda: Agenda::default(),
            disks: vec![Ballot::default(); nodes],
            paused: vec![false; nodes],
            experiment: experiment.clone(),
        };
        for node in 0..nodes {
            let member = cluster.member(NodeId(node));
            cluster.sim.add(member);
        }
        cluster
    }

    fn member(&mut self, node: NodeId) -> Member {
        let experiment = &self.experiment;
        let stored = self.disks[node.0];
        let (now, rng) = (self.sim.now(), self.sim.rng());
        let clock = LocalClock::random(rng, experiment.drift_ppm);
        let seed = rng.bits();
        let disk = Disk::new(stored, experiment.disk.clone(), crate::sim::Rng::new(!seed));
        let all = (0..experiment.nodes).map(|node| member_of(NodeId(node)));
        let machine = ElectionMachine::new(
            experiment.algorithm,
            Members::new(member_of(node), all).expect("it is one of them"),
            experiment.timing.clone(),
            stored,
            clock.read(now),
            seed,
        );
        Member::new(machine, clock, disk)
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.sim.now()
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        Report {
            messages: self.sim.stats().sent,
            time: self.sim.now().since(Time::START),
            ..self.watch.report.clone()
        }
    }

    /// The one that believes that it leads; `None` when nobody does, or several.
    pub fn leader(&self) -> Option<MemberId> {
        self.watch.leader()
    }

    /// The leader whom all members that are up follow.
    pub fn agreed(&self) -> Option<MemberId> {
        let leader = self.leader()?;
        let mut up = self.sim.ids().filter_map(|id| self.sim.node(id));
        up.all(|member| member.machine.view().leader == Some(leader))
            .then_some(leader)
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// [`Livelock`], which is a defect of the algorithm.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Livelock> {
        self.run_while(self.sim.now() + time, |_| true).map(|_| ())
    }

    /// Lets time pass until `end`, or until `go_on` says no; whether it said no.
    fn run_while(
        &mut self,
        end: Time,
        mut go_on: impl FnMut(&Watch) -> bool,
    ) -> Result<bool, Livelock> {
        let Cluster { sim, watch, .. } = self;
        let stopped = sim.run_while(end, |sim| {
            watch.look(sim);
            go_on(watch)
        })?;
        watch.look(sim);
        Ok(stopped)
    }

    /// Lets time pass with faults as the experiment has it, and ends them all.
    ///
    /// # Errors
    ///
    /// [`Livelock`], which is a defect of the algorithm.
    pub fn trouble(&mut self, time: Duration) -> Result<(), Livelock> {
        let (now, end) = (self.sim.now(), self.sim.now() + time);
        self.agenda.plan(&self.experiment, self.sim.rng(), now, end);
        while let Some(at) = self.agenda.next_time().filter(|&at| at <= end) {
            self.run_while(at, |_| true)?;
            match self.agenda.next() {
                Some(Deed::Begin(kind)) => self.begin_random(kind),
                Some(Deed::End(fault)) => self.end(&fault),
                None => {}
            }
        }
        self.run_while(end, |_| true)?;
        self.end_all();
        Ok(())
    }

    fn begin_random(&mut self, kind: Kind) {
        let fault = self.draw(kind);
        let time = duration(self.sim.rng(), &self.experiment);
        self.agenda
            .add(self.sim.now() + time, Deed::End(fault.clone()));
        self.begin(&fault);
    }

    /// A victim for a fault: half of the time the leader, who has most to lose.
    fn draw(&mut self, kind: Kind) -> Fault {
        let nodes = self.experiment.nodes as u64;
        let leader = self.leader().map(|leader| NodeId(leader.0 as usize - 1));
        let rng = self.sim.rng();
        let anybody = NodeId(rng.below(nodes) as usize);
        let victim = leader.filter(|_| rng.chance(0.5)).unwrap_or(anybody);
        let all = (0..nodes as usize).map(NodeId);
        match kind {
            Kind::Crash => Fault::Crash(victim),
            Kind::Stop => Fault::Stop(victim),
            Kind::Pause => Fault::Pause(victim),
            Kind::Partition => {
                Fault::Partition(all.filter(|&id| id == victim || rng.chance(0.3)).collect())
            }
            Kind::OneWay => {
                let hears = rng.chance(0.5);
                let to_all = rng.chance(0.5);
                let others = all.filter(|&id| id != victim && (to_all || rng.chance(0.5)));
                let pair = |other| {
                    if hears {
                        (victim, other)
                    } else {
                        (other, victim)
                    }
                };
                Fault::OneWay(others.map(pair).collect())
            }
        }
    }

    /// Lets something go wrong.
    pub fn begin(&mut self, fault: &Fault) {
        let now = self.sim.now();
        let leader = self.leader().map(|leader| NodeId(leader.0 as usize - 1));
        match fault {
            Fault::Crash(id) => self.crash(*id),
            Fault::Stop(id) => self.stop(*id),
            Fault::Pause(id) => {
                self.sim.pause(*id);
                self.paused[id.0] = true;
            }
            Fault::Partition(side) => self.each_pair(side, |sim, a, b| sim.partition(a, b)),
            Fault::OneWay(pairs) => {
                let deaf = Link {
                    loss: 1.0,
                    ..self.experiment.link()
                };
                for &(from, to) in pairs {
                    self.sim.set_link(from, to, deaf.clone());
                }
            }
        }
        match leader {
            Some(leader) if self.is_cut_off(leader, fault) => self.watch.strike(now, leader),
            _ => self.watch.disturb(now),
        }
        if !self.can_elect() {
            self.watch.let_go();
        }
        self.watch.look(&self.sim);
    }

    /// Ends what goes wrong.
    pub fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Crash(id) | Fault::Stop(id) => self.restart(*id),
            Fault::Pause(id) => {
                self.paused[id.0] = false;
                self.sim.resume(*id);
            }
            Fault::Partition(side) => self.each_pair(side, |sim, a, b| sim.heal(a, b)),
            Fault::OneWay(pairs) => {
                for &(from, to) in pairs {
                    self.sim.set_link(from, to, self.experiment.link());
                }
            }
        }
        self.watch.look(&self.sim);
        self.watch.relieve(self.sim.now());
    }

    /// Ends all that goes wrong, loss and duplication included.
    pub fn end_all(&mut self) {
        self.agenda = Agenda::default();
        let all: Vec<NodeId> = self.sim.ids().collect();
        for &a in &all {
            self.restart(a);
            self.paused[a.0] = false;
            self.sim.resume(a);
            for &b in &all {
                self.sim.heal(a, b);
            }
        }
        self.sim.set_links(self.experiment.clone().calm().link());
        self.watch.look(&self.sim);
        self.watch.relieve(self.sim.now());
    }

    fn each_pair(&mut self, side: &[NodeId], act: impl Fn(&mut Sim<Member>, NodeId, NodeId)) {
        let others: Vec<NodeId> = self.sim.ids().filter(|id| !side.contains(id)).collect();
        for &a in side {
            for &b in &others {
                act(&mut self.sim, a, b);
            }
        }
    }

    fn crash(&mut self, id: NodeId) {
        if let Some(member) = self.sim.crash(id) {
            self.paused[id.0] = false;
            self.disks[id.0] = match self.experiment.durable {
                true => member.disk.after_crash(),
                false => Ballot::default(),
            };
        }
    }

    /// One that stands still does not hear that it is to stop.
    fn stop(&mut self, id: NodeId) {
        if !self.paused[id.0] {
            self.sim.with(id, Member::resign);
            self.watch.look(&self.sim);
        }
        self.crash(id);
    }

    fn restart(&mut self, id: NodeId) {
        if self.sim.node(id).is_none() {
            let member = self.member(id);
            self.sim.restart(id, member);
        }
    }

    /// Whether a fault takes the leader from the members.
    fn is_cut_off(&self, leader: NodeId, fault: &Fault) -> bool {
        let most = self.experiment.nodes / 2;
        match fault {
            Fault::Crash(id) | Fault::Stop(id) | Fault::Pause(id) => *id == leader,
            Fault::Partition(side) if side.contains(&leader) => side.len() <= most,
            Fault::Partition(side) => self.experiment.nodes - side.len() <= most,
            Fault::OneWay(pairs) => {
                let at_leader = pairs.iter().filter(|(a, b)| *a == leader || *b == leader);
                at_leader.count() > most
            }
        }
    }

    /// Whether most members run.
    fn can_elect(&self) -> bool {
        let runs = |id: &NodeId| self.sim.node(*id).is_some() && !self.paused[id.0];
        self.sim.ids().filter(runs).count() > self.experiment.nodes / 2
    }

    /// Lets time pass until all members follow one leader, and have for as long as a lease or a timeout
    /// of before may last; how long it took them is in the report.
    ///
    /// # Errors
    ///
    /// [`Livelock`], which is a defect of the algorithm.
    pub fn settle(&mut self, patience: Duration) -> Result<(), Livelock> {
        let start = self.sim.now();
        let mut agreed = (self.agreed(), start);
        while agreed.0.is_none()
            || self.sim.now().since(agreed.1) < self.experiment.timing.timeout_max
        {
            if self.sim.now().since(start) >= patience {
                self.watch.report.unsettled += 1;
                return Ok(());
            }
            self.run_for(Duration::from_millis(1))?;
            if self.agreed() != agreed.0 {
                agreed = (self.agreed(), self.sim.now());
            }
        }
        let took = agreed.1.since(start);
        self.watch.report.times_to_settle.push(took);
        Ok(())
    }

    /// Lets time pass in peace: nobody should be elected.
    ///
    /// # Errors
    ///
    /// [`Livelock`], which is a defect of the algorithm.
    pub fn rest(&mut self, time: Duration) -> Result<(), Livelock> {
        let (sent, elections) = (self.sim.stats().sent, self.watch.report.elections);
        self.run_for(time)?;
        self.watch.rested(self.sim.stats().sent - sent, time);
        if self.watch.report.elections != elections && self.watch.report.unsettled == 0 {
            self.watch.report.unsettled += 1;
        }
        Ok(())
    }
}
