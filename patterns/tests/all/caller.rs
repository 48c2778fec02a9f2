//! Requests through a broker whose replies come straight back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use mutirao::broker::{
    Broker, BrokerConfig, CallError, Caller, CallerConfig, ClientConfig, Console, FetchEvent,
    Fetcher, JobSettings, Submitter,
};
use mutirao::pipeline::JobId;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Failure, Worker};

use crate::bare::{SCHEMES, until};
use crate::support::{PATIENCE, fresh_endpoint};

fn broker(scheme: &str) -> Broker {
    Broker::start(BrokerConfig::new(fresh_endpoint(scheme)), None).expect("a broker")
}

fn worker<F>(broker: &Endpoint, slots: usize, handler: F) -> Worker
where
    F: Fn(u64) -> Result<u64, Failure> + Send + Sync + 'static,
{
    let mut config = BrokerWorkerConfig::new(broker.clone(), vec!["double".into()]);
    config.slots = slots;
    Worker::start_at_broker(config, move |number: u64, _| handler(number)).expect("a worker")
}

fn caller(broker: &Endpoint) -> Caller<u64, u64> {
    let config = CallerConfig {
        within: PATIENCE,
        heartbeat: Duration::from_millis(50),
        ..CallerConfig::new(broker.clone(), "double")
    };
    Caller::connect(config).expect("a caller")
}

#[test]
fn calls_are_answered_in_turn_over_every_transport() {
    for scheme in SCHEMES {
        let broker = broker(scheme);
        let mut caller = caller(broker.endpoint());
        let _workers = [1, 3].map(|slots| worker(broker.endpoint(), slots, |x| Ok(2 * x)));
        for number in 0..1_000 {
            assert_eq!(caller.call(&number).unwrap(), 2 * number, "{scheme}");
        }
        let config = ClientConfig::new(broker.endpoint().clone());
        let mut console = Console::connect(&config, PATIENCE).unwrap();
        let status = console.status().unwrap();
        assert_eq!((status.done, status.jobs), (1_000, 0));
    }
}

#[test]
fn a_call_that_fails_says_why_after_its_attempts() {
    let broker = broker("tcp");
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let _worker = worker(broker.endpoint(), 1, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Err(Failure::new("on purpose"))
    });
    let error = caller(broker.endpoint()).call(&1).unwrap_err();
    assert!(matches!(&error, CallError::Failed(failure) if failure.reason == "on purpose"));
    assert_eq!(error.to_string(), "the call failed: on purpose");
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_call_that_nobody_answers_ends_and_leaves_nothing_behind() {
    let broker = broker("tcp");
    let mut caller = caller(broker.endpoint());
    let error = caller
        .call_within(&1, Duration::from_millis(300))
        .unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    until("end of the request", || {
        let status = console.status().unwrap();
        status.services.is_empty().then_some(())
    });
}

#[test]
fn a_request_whose_caller_is_gone_is_dropped() {
    let broker = broker("tcp");
    let mut caller = caller(broker.endpoint());
    let stop = caller.stop_handle();
    let calling = thread::spawn(move || caller.call(&1));
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    until("request", || {
        (console.status().unwrap().jobs == 1).then_some(())
    });
    stop.stop();
    assert!(matches!(calling.join().unwrap(), Err(CallError::Stopped)));
    until("end of the request", || {
        (console.status().unwrap().jobs == 0).then_some(())
    });
}

#[test]
fn a_call_outlives_its_broker_and_its_worker() {
    let endpoint = fresh_endpoint("ipc");
    let start = || Broker::start(BrokerConfig::new(endpoint.clone()), None);
    let first = start().expect("a broker");
    let mut caller = caller(&endpoint);
    let config = ClientConfig::new(endpoint.clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    let calling = thread::spawn(move || caller.call(&4));
    until("request", || {
        (console.status().unwrap().jobs == 1).then_some(())
    });
    drop(first);
    let _second = until("free endpoint", || start().ok());
    let _worker = worker(&endpoint, 1, |x| Ok(2 * x));
    assert_eq!(calling.join().unwrap().unwrap(), 8);
}

#[test]
fn a_worker_whose_short_tasks_turn_long_is_believed_alive_all_the_while() {
    let broker = broker("tcp");
    let (begun, goes_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let barriers = (begun.clone(), goes_on.clone());
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let _worker = worker(broker.endpoint(), 1, move |number| {
        if number == 1_000 {
            counted.fetch_add(1, Ordering::SeqCst);
            barriers.0.wait();
            barriers.1.wait();
        }
        Ok(2 * number)
    });
    let mut caller = caller(broker.endpoint());
    for number in 0..100 {
        assert_eq!(caller.call(&number).unwrap(), 2 * number);
    }
    let calling = thread::spawn(move || caller.call(&1_000));
    begun.wait();
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut console = Console::connect(&config, PATIENCE).unwrap();
    // Its heartbeats go on: it is heard again and again while it is at its task.
    let mut last_ms = u64::MAX;
    let mut beats = 0;
    until("three heartbeats", || {
        let status = console.status().unwrap();
        let seen_ms = status.workers.first().expect("the worker").seen_ms;
        beats += u32::from(seen_ms < last_ms);
        last_ms = seen_ms;
        thread::yield_now();
        (beats > 3).then_some(())
    });
    goes_on.wait();
    assert_eq!(calling.join().unwrap().unwrap(), 2_000);
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_sent() {
    let mut config = CallerConfig::new(fresh_endpoint("tcp"), "double");
    config.broker = "tcp://127.0.0.1:9".parse().unwrap();
    config.socket.max_message_bytes = 1_000;
    let mut caller = Caller::<str, u64>::connect(config).unwrap();
    let error = caller.call(&"x".repeat(1_000)).unwrap_err();
    assert!(matches!(error, CallError::Unsendable(_)), "{error}");
}

#[test]
fn names_that_no_service_has_are_refused() {
    let broker = broker("tcp");
    let config = CallerConfig::new(broker.endpoint().clone(), "");
    let mut caller = Caller::<u64, u64>::connect(config).unwrap();
    let error = caller.call(&1).unwrap_err().to_string();
    assert!(error.contains("1 to 255 bytes"), "{error}");
}

/// Its handler is at tasks above a million until `goes_on` is dropped.
fn stubborn_worker(broker: &Endpoint, goes_on: Arc<Mutex<()>>) -> Worker {
    worker(broker, 1, move |number| {
        if number > 1_000_000 {
            drop(goes_on.lock());
        }
        Ok(2 * number)
    })
}

fn hasty_caller(broker: &Endpoint) -> Caller<u64, u64> {
    let config = CallerConfig {
        within: PATIENCE,
        attempts: 1,
        time_limit: Duration::from_millis(20),
        ..CallerConfig::new(broker.clone(), "double")
    };
    Caller::connect(config).expect("a caller")
}

#[test]
fn a_task_that_cannot_be_stopped_is_given_up_and_its_slot_replaced() {
    let broker = broker("tcp");
    let goes_on = Arc::new(Mutex::new(()));
    let held = goes_on.lock().unwrap();
    let _worker = stubborn_worker(broker.endpoint(), goes_on.clone());
    let mut caller = hasty_caller(broker.endpoint());
    for number in 0..20 {
        assert_eq!(caller.call(&number).unwrap(), 2 * number);
    }
    let error = caller.call(&2_000_000).unwrap_err().to_string();
    assert!(
        error.contains("went on after its time limit of 20ms"),
        "{error}"
    );
    assert_eq!(caller.call(&4).unwrap(), 8, "another thread does it");
    drop(held);
}

#[test]
fn a_worker_that_loses_too_many_threads_leaves_and_says_why() {
    let broker = broker("tcp");
    let goes_on = Arc::new(Mutex::new(()));
    let held = goes_on.lock().unwrap();
    let worker = stubborn_worker(broker.endpoint(), goes_on.clone());
    let mut caller = hasty_caller(broker.endpoint());
    for _ in 0..4 {
        assert!(matches!(caller.call(&2_000_000), Err(CallError::Failed(_))));
    }
    let exit = worker.wait(Some(PATIENCE)).expect("an end").to_string();
    assert!(exit.contains("4 tasks go on"), "{exit}");
    drop(held);
}

#[test]
fn tasks_of_a_lease_whose_first_turns_out_long_go_to_whoever_has_time() {
    let broker = broker("tcp");
    let goes_on = Arc::new(Mutex::new(()));
    let held = goes_on.lock().unwrap();
    let _slow = stubborn_worker(broker.endpoint(), goes_on.clone());
    let config = ClientConfig::new(broker.endpoint().clone());
    let mut fetcher = Fetcher::<u64>::connect(config.clone()).unwrap();
    let submit = |job, numbers: &mut dyn Iterator<Item = u64>| {
        let settings = JobSettings::new("double");
        let mut submitter = Submitter::<u64>::open(config.clone(), job, settings).unwrap();
        for number in numbers {
            submitter.submit(&number).unwrap();
        }
        submitter.finish(Some(PATIENCE)).unwrap();
    };
    let mut take = |job, count| {
        fetcher.fetch(job, Vec::new());
        for _ in 0..count {
            match fetcher.recv_within(PATIENCE).unwrap() {
                Some(FetchEvent::Result { task, .. }) => fetcher.confirm(job, task..task + 1),
                other => panic!("{other:?}"),
            }
        }
    };
    // So that the broker knows them as short, and gives out many at once.
    submit(JobId(1), &mut (0..5_000));
    take(JobId(1), 5_000);
    submit(JobId(2), &mut std::iter::once(2_000_000).chain(1..1_000));
    let _quick = worker(broker.endpoint(), 1, |number| Ok(2 * number));
    // All but the one that is held, although they were given out together with it.
    let mut last = Fetcher::<u64>::connect(config.clone()).unwrap();
    last.fetch(JobId(2), Vec::new());
    for _ in 1..1_000 {
        match last.recv_within(PATIENCE).unwrap() {
            Some(FetchEvent::Result { task, .. }) if task > 0 => {
                last.confirm(JobId(2), task..task + 1);
            }
            Some(FetchEvent::Complete { job: JobId(1), .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    drop(held);
    assert!(matches!(
        last.recv_within(PATIENCE).unwrap(),
        Some(FetchEvent::Result { task: 0, .. })
    ));
}
