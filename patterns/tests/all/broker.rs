//! Broker, workers and clients over real sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use mutirao::broker::{
    Broker, BrokerConfig, ClientConfig, Console, FetchEvent, Fetcher, JobSettings, Submitter,
};
use mutirao::pipeline::JobId;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Failure, Worker};

use crate::support::{PATIENCE, fresh_endpoint};

const JOB: JobId = JobId(7);

fn broker(scheme: &str) -> Broker {
    Broker::start(BrokerConfig::new(fresh_endpoint(scheme)), None).expect("a broker")
}

/// Doubles numbers; fails those above a million.
fn doubler(broker: &Endpoint) -> Worker {
    let config = BrokerWorkerConfig::new(broker.clone(), vec!["double".into()]);
    Worker::start_at_broker(config, |number: u64, _| match number {
        0..=1_000_000 => Ok(2 * number),
        _ => Err(Failure::permanent("too large")),
    })
    .expect("a worker")
}

fn submit(broker: &Endpoint, job: JobId, numbers: impl Iterator<Item = u64>) -> u64 {
    let config = ClientConfig::new(broker.clone());
    let mut submitter = Submitter::open(config, job, JobSettings::new("double")).unwrap();
    for number in numbers {
        submitter.submit(&number).unwrap();
    }
    submitter.finish(Some(PATIENCE)).unwrap()
}

/// All results of the job, each checked; returns how many failed.
fn fetch(broker: &Endpoint, job: JobId) -> (BTreeSet<u64>, u64) {
    let mut fetcher = Fetcher::<u64>::connect(ClientConfig::new(broker.clone())).unwrap();
    fetcher.fetch(job, Vec::new());
    let (mut tasks, mut failed) = (BTreeSet::new(), 0);
    loop {
        match fetcher.recv_within(PATIENCE).unwrap() {
            Some(FetchEvent::Result { task, outcome, .. }) => {
                match outcome {
                    Ok(value) => assert_eq!(value, 2 * task),
                    Err(_) => failed += 1,
                }
                assert!(tasks.insert(task), "task {task} came twice");
                fetcher.confirm(job, task..task + 1);
            }
            Some(FetchEvent::Complete { counts, .. }) => {
                assert_eq!(counts.fetched, tasks.len() as u64);
                return (tasks, failed);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_task_of_a_job_is_done_once_over_every_transport() {
    for scheme in ["tcp", "ipc", "inproc", "memory"] {
        let broker = broker(scheme);
        let _workers = [doubler(broker.endpoint()), doubler(broker.endpoint())];
        assert_eq!(submit(broker.endpoint(), JOB, 0..20_000), 20_000);
        let (tasks, failed) = fetch(broker.endpoint(), JOB);
        assert_eq!((tasks.len(), failed), (20_000, 0), "{scheme}");
    }
}

#[test]
fn a_task_that_fails_is_reported_with_its_reason() {
    let broker = broker("tcp");
    let _worker = doubler(broker.endpoint());
    submit(broker.endpoint(), JOB, [1_000_001].into_iter());
    let (tasks, failed) = fetch(broker.endpoint(), JOB);
    assert_eq!((tasks.len(), failed), (1, 1));
}

#[test]
fn tasks_wait_for_the_first_worker_and_results_for_whoever_fetches_them() {
    let broker = broker("tcp");
    submit(broker.endpoint(), JOB, 0..1_000);
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    let job = console.job(JOB).unwrap().expect("the job");
    assert_eq!((job.tasks, job.counts.queued), (Some(1_000), 1_000));
    let _worker = doubler(broker.endpoint());
    let (tasks, _) = fetch(broker.endpoint(), JOB);
    assert_eq!(tasks.len(), 1_000);
    assert_eq!(console.status().unwrap().done, 1_000);
    assert!(!console.cancel(JOB).unwrap(), "it is over");
}

#[test]
fn what_was_submitted_twice_is_done_once() {
    let broker = broker("tcp");
    submit(broker.endpoint(), JOB, 0..5_000);
    submit(broker.endpoint(), JOB, 0..5_000);
    let _worker = doubler(broker.endpoint());
    assert_eq!(fetch(broker.endpoint(), JOB).0.len(), 5_000);
}

#[test]
fn a_job_that_is_cancelled_ends_for_everybody() {
    let broker = broker("tcp");
    submit(broker.endpoint(), JOB, 0..100);
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut fetcher = Fetcher::<u64>::connect(config.clone()).unwrap();
    fetcher.fetch(JOB, Vec::new());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    // The fetcher's wish may arrive after the cancellation, and is refused then as well.
    assert!(console.cancel(JOB).unwrap());
    match fetcher.recv_within(PATIENCE).unwrap() {
        Some(FetchEvent::Refused { job: JOB, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn workers_that_leave_give_back_what_they_have_not_begun() {
    let broker = broker("tcp");
    submit(broker.endpoint(), JOB, 0..10_000);
    for _ in 0..5 {
        let worker = doubler(broker.endpoint());
        worker.wait(Some(Duration::from_millis(5)));
        drop(worker);
    }
    let _worker = doubler(broker.endpoint());
    assert_eq!(fetch(broker.endpoint(), JOB).0.len(), 10_000);
}
