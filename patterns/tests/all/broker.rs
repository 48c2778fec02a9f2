//! Broker, workers and clients over real sockets.

use std::collections::BTreeSet;
use std::time::Duration;

use mutirao::broker::{
    Broker, BrokerConfig, ClientConfig, Console, FetchEvent, Fetcher, JobSettings, Keeps, Mode,
    ResultsTo, Submitter,
};
use mutirao::pipeline::JobId;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Failure, Worker};

use crate::bare::until;
use crate::support::{PATIENCE, broker_config, broker_in, fresh_endpoint};

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

/// A program that writes results in order confirms none behind a gap, whatever has come.
#[test]
fn results_that_wait_for_the_one_before_them_do_not_keep_it_away() {
    const TASKS: u64 = 12;
    let broker = broker("tcp");
    let (release, held) = std::sync::mpsc::channel();
    let held = std::sync::Mutex::new(held);
    let config = BrokerWorkerConfig {
        slots: 2,
        ..BrokerWorkerConfig::new(broker.endpoint().clone(), vec!["double".into()])
    };
    let _worker = Worker::start_at_broker(config, move |number: u64, _| {
        if number == 0 {
            let _ = held.lock().unwrap().recv_timeout(PATIENCE);
        }
        Ok::<_, Failure>(vec![number; 10_000])
    })
    .expect("a worker");
    submit(broker.endpoint(), JOB, 0..TASKS);
    let mut config = ClientConfig::new(broker.endpoint().clone());
    config.limits.window_bytes = 30_000;
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    while console.job(JOB).unwrap().unwrap().counts.done < TASKS - 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut fetcher = Fetcher::<Vec<u64>>::connect(config).unwrap();
    fetcher.fetch(JOB, Vec::new());
    let (mut here, mut next) = (BTreeSet::new(), 0);
    loop {
        match fetcher.recv_within(PATIENCE).unwrap() {
            Some(FetchEvent::Result { task, .. }) => {
                here.insert(task);
                let _ = release.send(());
                while here.remove(&next) {
                    fetcher.confirm(JOB, next..next + 1);
                    next += 1;
                }
            }
            Some(FetchEvent::Complete { .. }) => return assert_eq!(next, TASKS),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_submitter_knows_when_the_broker_has_taken_its_job() {
    let endpoint = fresh_endpoint("ipc");
    let config = ClientConfig::new(endpoint.clone());
    let submitter = Submitter::<u64>::open(config.clone(), JOB, JobSettings::new("x")).unwrap();
    let soon = Some(Duration::from_millis(20));
    submitter.opened(soon).expect_err("nobody is there");
    let _broker = Broker::start(BrokerConfig::new(endpoint), None).expect("a broker");
    submitter.opened(Some(PATIENCE)).expect("it is taken");
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    assert!(console.job(JOB).unwrap().is_some());
}

#[test]
fn a_submitter_hears_that_a_broker_without_a_store_has_lost_its_tasks() {
    let endpoint = fresh_endpoint("ipc");
    let config = ClientConfig::new(endpoint.clone());
    let broker = Broker::start(BrokerConfig::new(endpoint.clone()), None).expect("a broker");
    let mut submitter = Submitter::open(config.clone(), JOB, JobSettings::new("double")).unwrap();
    submitter.submit(&1u64).unwrap();
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    let accepted = |console: &mut Console| console.job(JOB).unwrap().map(|job| job.counts.accepted);
    while accepted(&mut console) != Some(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(broker);
    let _broker = Broker::start(BrokerConfig::new(endpoint), None).expect("another");
    let error = submitter.finish(Some(PATIENCE)).expect_err("it is lost");
    assert!(error.to_string().contains("has lost tasks"), "{error}");
}

/// Whether somebody fetches the job.
fn is_fetched(console: &mut Console) -> bool {
    console.job(JOB).unwrap().expect("the job").fetching
}

/// What a fetcher hears when it does not get a job.
fn refusal(broker: &Endpoint, job: JobId) -> String {
    let mut fetcher = Fetcher::<u64>::connect(ClientConfig::new(broker.clone())).unwrap();
    fetcher.fetch(job, Vec::new());
    match fetcher.recv_within(PATIENCE).unwrap() {
        Some(FetchEvent::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn by_request_and_reply_a_client_gets_its_results_and_nobody_else_does() {
    let broker = broker_in(Mode::RequestReply);
    let at = broker.endpoint().clone();
    let config = ClientConfig::new(at.clone());
    let settings = JobSettings::new("double");
    let mut submitter = Submitter::open(config.clone(), JOB, settings).unwrap();
    assert_eq!(submitter.opened(Some(PATIENCE)), Ok(Keeps::Nothing));
    let mut fetcher = Fetcher::<u64>::connect(config.clone()).unwrap();
    fetcher.fetch(JOB, Vec::new());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    until("a fetcher", || is_fetched(&mut console).then_some(()));
    assert!(refusal(&at, JOB).contains("nobody else"));
    submitter.submit(&21).unwrap();
    submitter.finish(Some(PATIENCE)).unwrap();
    let _worker = doubler(&at);
    match fetcher.recv_within(PATIENCE).unwrap() {
        Some(FetchEvent::Result {
            outcome: Ok(42), ..
        }) => fetcher.confirm(JOB, 0..1),
        other => panic!("{other:?}"),
    }
    match fetcher.recv_within(PATIENCE).unwrap() {
        Some(FetchEvent::Complete { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn by_request_and_reply_a_job_ends_with_its_client() {
    let broker = broker_in(Mode::RequestReply);
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    // It has handed in everything and left.
    submit(broker.endpoint(), JOB, 0..10);
    until("its end", || {
        (console.status().unwrap().jobs == 0).then_some(())
    });
    assert_eq!(console.status().unwrap().kept_bytes, 0);
    assert!(refusal(broker.endpoint(), JOB).contains("no such job"));
}

#[test]
fn by_request_and_reply_there_is_no_store() {
    let store = mutirao::broker::store::MemoryStore;
    let config = broker_config(Mode::RequestReply);
    let error = Broker::start(config, Some(Box::new(store))).expect_err("a store");
    assert!(error.to_string().contains("keeps nothing"), "{error}");
}

#[test]
fn a_job_for_a_sink_goes_to_one_at_a_time() {
    let broker = broker("tcp");
    let at = broker.endpoint().clone();
    let config = ClientConfig::new(at.clone());
    let settings = JobSettings {
        results_to: ResultsTo::Sink,
        ..JobSettings::new("double")
    };
    let mut submitter = Submitter::open(config.clone(), JOB, settings).unwrap();
    submitter.submit(&0).unwrap();
    submitter.finish(Some(PATIENCE)).unwrap();
    let mut sink = Fetcher::<u64>::connect(config.clone()).unwrap();
    sink.fetch(JOB, Vec::new());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    until("a fetcher", || is_fetched(&mut console).then_some(()));
    assert!(refusal(&at, JOB).contains("a sink collects its results"));
    drop(sink);
    until("its end", || (!is_fetched(&mut console)).then_some(()));
    let _worker = doubler(&at);
    assert_eq!(fetch(&at, JOB).0.len(), 1);
}
