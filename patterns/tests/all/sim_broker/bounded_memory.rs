//! When everything is fetched nothing is held any more, and queues keep to their bounds before.

use std::time::Duration;

use mutirao::broker::store::Write;
use mutirao::broker::{
    BrokerInput, BrokerLimits, BrokerMachine, BrokerOutput, BrokerSays, ClientSays, JobSettings,
    Slice,
};
use mutirao::machine::{Machine, Time};
use mutirao::pipeline::{Incarnation, JobId, RangeSet, Span};
use mutirao::sim::run_seeds;

use super::hand_fed::HandFed;
use super::work::Pace;
use super::world::{Setup, World, errand};

#[test]
fn a_broker_whose_jobs_were_fetched_and_whose_peers_are_gone_holds_nothing() {
    run_seeds(0..200, |seed| {
        let mut setup = Setup::random(seed);
        // Two that are one job's may leave a job that nobody fetches.
        setup
            .clients
            .retain(|client| client.submits && client.fetches);
        let mut world = World::new(setup);
        world.trouble(Duration::from_secs(10));
        world.finish_within(Duration::from_secs(1200));
        for id in world.sim.ids().skip(1) {
            world.crash(id);
        }
        // Tasks that failed may wait for two minutes.
        world.run_for(Duration::from_secs(200));
        let broker = world.broker();
        let services = broker.machine.status(world.sim.now()).services.len();
        assert!(
            broker.machine.footprint() <= services,
            "{:?}",
            broker.machine
        );
        assert!(broker.is_clean(), "the disk");
        assert_eq!(broker.peers(), 0);
    });
}

#[test]
fn a_queue_that_is_full_refuses_tasks_and_takes_them_later() {
    run_seeds(0..100, |seed| {
        let mut setup = Setup::calm(seed);
        match seed % 2 {
            0 => setup.limits.queue_tasks = 1 + seed % 30,
            _ => setup.limits.queue_bytes = 1 + seed as usize % 100,
        }
        // Faster handed in than done.
        setup.work.pace = Pace::Exactly(Duration::from_millis(50));
        let chunk = setup.clients[0].chunk;
        // Each task takes five bytes; one chunk may come into an empty queue.
        let most = match seed % 2 {
            0 => setup.limits.queue_tasks.max(chunk),
            _ => (setup.limits.queue_bytes as u64 / 5).max(chunk),
        };
        let mut world = World::new(setup);
        world.run_for(Duration::ZERO);
        while !world.is_done() {
            world.run_for(Duration::from_millis(5));
            assert!(world.sim.now().since(Default::default()) < Duration::from_secs(60));
            let status = world.broker().machine.status(world.sim.now());
            if let Some(service) = status.services.get("a") {
                assert!(service.queued <= most, "{service:?}, not {most}");
            }
        }
        world.check_results();
        assert!(world.clients().all(|client| client.fulls > 0));
    });
}

#[test]
fn results_that_nobody_makes_safe_hold_up_the_tasks_behind_them() {
    run_seeds(0..50, |seed| {
        let mut setup = Setup::calm(seed);
        setup.limits.kept_bytes = 1000;
        setup.clients[0].tasks = 1000;
        setup.clients[0].safe_delay = Duration::from_secs(1);
        let mut world = World::new(setup);
        world.run_for(Duration::ZERO);
        while !world.is_done() {
            world.run_for(Duration::from_millis(20));
            assert!(world.sim.now().since(Default::default()) < Duration::from_secs(300));
            let status = world.broker().machine.status(world.sim.now());
            let queued = status.services.get("a").map_or(0, |service| service.queued);
            // What was given out before may come on top: two leases at each slot.
            let results_bytes = status.kept_bytes - 5 * queued;
            assert!(results_bytes < 1000 + 8 * 300, "{results_bytes}");
        }
        world.check_results();
    });
}

#[test]
fn what_was_fetched_leaves_the_disk_though_its_job_goes_on() {
    let mut broker = HandFed::new();
    broker.ready(1);
    let mut safe = 0;
    for first in (0..200).step_by(20) {
        broker.submit(first, 20);
        loop {
            let grants = broker.granted();
            if grants.is_empty() {
                break;
            }
            grants.iter().for_each(|grant| broker.work(grant));
        }
        assert!(!broker.disk.has_no_bodies(), "nobody has them yet");
        safe += broker.save();
        assert!(broker.disk.has_no_bodies(), "after {safe} results");
    }
    assert_eq!(safe, 200);
}

#[test]
fn results_that_nobody_fetches_do_not_hold_up_other_jobs() {
    run_seeds(0..50, |seed| {
        let mut setup = Setup::calm(seed);
        setup.limits.kept_bytes = 4000;
        let mut abandoned = errand(2, "a", 300);
        abandoned.fetches = false;
        setup.clients = vec![errand(1, "a", 300), abandoned];
        let mut world = World::new(setup);
        world.finish_within(Duration::from_secs(300));
        world.check_results();
        world.run_for(Duration::from_secs(60));
        let status = world.broker().machine.status(world.sim.now());
        assert!(status.services["a"].queued > 0, "nothing was held back");
        assert_eq!(status.services["a"].leased, 0);
    });
}

/// A broker of which every output is read.
struct Alone(BrokerMachine);

impl Alone {
    fn new(limits: BrokerLimits, durable: bool) -> Alone {
        Alone(BrokerMachine::new(limits, Incarnation(1), 0, durable))
    }

    fn input(&mut self, input: BrokerInput) -> Vec<BrokerOutput> {
        self.0.handle(Time::START, input);
        std::iter::from_fn(|| self.0.poll()).collect()
    }

    fn say(&mut self, says: ClientSays) -> Vec<BrokerOutput> {
        self.input(BrokerInput::Client(1, says))
    }

    fn open(&mut self, job: JobId) -> Vec<BrokerOutput> {
        let settings = JobSettings::new("a");
        self.say(ClientSays::Open { job, settings })
    }

    fn submit(&mut self, job: JobId, first: u64) -> Vec<BrokerOutput> {
        self.input(BrokerInput::Submit {
            peer: 1,
            job,
            span: Span { first, count: 1 },
            records: Slice::from([1][..].into(), 0),
        })
    }
}

#[test]
fn tasks_that_come_one_by_one_take_few_records_in_memory_and_in_the_store() {
    const TASKS: u64 = 200_000;
    let mut broker = Alone::new(BrokerLimits::default(), true);
    let mut outputs = broker.open(JobId(1));
    for first in 0..TASKS {
        outputs.extend(broker.submit(JobId(1), first));
    }
    assert!(broker.0.footprint() < 40, "{}", broker.0.footprint());
    let mut written = 0;
    let (mut records, mut stored) = (RangeSet::default(), RangeSet::default());
    // A disk that is done with what was written, again and again, until there is no more.
    for _ in 0..5 {
        for output in std::mem::take(&mut outputs) {
            match output {
                BrokerOutput::Keep(write) => {
                    written += 1;
                    if let Write::Tasks { span, .. } = write {
                        records.insert(span.range());
                    }
                }
                BrokerOutput::ToClient(_, BrokerSays::Accepted { tasks, .. }) => {
                    for range in tasks {
                        stored.insert(range);
                    }
                    assert!(stored.iter().all(|range| records.contains_all(range)));
                }
                _ => {}
            }
        }
        outputs = broker.input(BrokerInput::Stored(written));
    }
    assert_eq!((records.len(), stored.len()), (TASKS, TASKS));
    assert!(written < 20, "{written} records");
    assert!(broker.0.footprint() < 40, "{}", broker.0.footprint());
}

#[test]
fn more_jobs_than_may_be_are_refused_until_some_are_over() {
    let limits = BrokerLimits {
        jobs: 2,
        ..BrokerLimits::default()
    };
    let mut broker = Alone::new(limits, false);
    let refusal = |outputs: Vec<BrokerOutput>| match &outputs[..] {
        [BrokerOutput::ToClient(_, BrokerSays::Opened { .. })] => None,
        [BrokerOutput::ToClient(_, BrokerSays::Refused { reason, .. })] => Some(reason.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(broker.open(JobId(1))), None);
    assert_eq!(refusal(broker.open(JobId(2))), None);
    let reason = refusal(broker.open(JobId(3))).expect("a refusal");
    assert!(reason.contains("has 2 jobs, the most it takes"), "{reason}");
    assert_eq!(refusal(broker.open(JobId(2))), None, "it is there already");
    broker.say(ClientSays::Cancel { job: JobId(1) });
    assert_eq!(refusal(broker.open(JobId(3))), None);
}
