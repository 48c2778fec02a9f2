//! A broker with two workers: a job that is handed in and collected later, and a single call.

use std::error::Error;

use mutirao::broker::{
    Broker, BrokerConfig, Caller, CallerConfig, ClientConfig, FetchEvent, Fetcher, JobSettings,
    Submitter,
};
use mutirao::pipeline::JobId;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Failure, Worker};

const WORDS: [&str; 4] = ["muitas", "mãos", "trabalho", "leve"];

fn main() -> Result<(), Box<dyn Error>> {
    // With `Some(DiskStore)` in place of `None` it would survive its own end.
    let broker = Broker::start(BrokerConfig::new("tcp://127.0.0.1:*".parse()?), None)?;
    let at = broker.endpoint().clone();

    let job = JobId(rand::random());
    hand_in(&at, job)?;
    println!("handed in, with nobody there to work on it");

    let _workers = [worker(&at)?, worker(&at)?];
    collect(&at, job)?;

    let mut caller = Caller::<str, usize>::connect(CallerConfig::new(at, "length"))?;
    println!("mutirão has {} letters", caller.call("mutirão")?);
    Ok(())
}

/// Workers offer operations; several of them may do so in one process or on many machines.
fn worker(broker: &Endpoint) -> Result<Worker, Box<dyn Error>> {
    let config = BrokerWorkerConfig::new(broker.clone(), vec!["length".into()]);
    let count = |word: String, _: &_| Ok::<usize, Failure>(word.chars().count());
    Ok(Worker::start_at_broker(config, count)?)
}

fn hand_in(broker: &Endpoint, job: JobId) -> Result<(), Box<dyn Error>> {
    let config = ClientConfig::new(broker.clone());
    let mut submitter = Submitter::<str>::open(config, job, JobSettings::new("length"))?;
    for word in WORDS {
        submitter.submit(word)?;
    }
    // Waits until the broker has all of them.
    submitter.finish(None)?;
    Ok(())
}

fn collect(broker: &Endpoint, job: JobId) -> Result<(), Box<dyn Error>> {
    let mut fetcher = Fetcher::<usize>::connect(ClientConfig::new(broker.clone()))?;
    fetcher.fetch(job, Vec::new());
    loop {
        match fetcher.recv()? {
            FetchEvent::Result { task, outcome, .. } => {
                match outcome {
                    Ok(letters) => println!("{} has {letters} letters", WORDS[task as usize]),
                    Err(failure) => println!("{}: {}", WORDS[task as usize], failure.reason),
                }
                // A program would make the result safe first: the broker forgets it now.
                fetcher.confirm(job, task..task + 1);
            }
            FetchEvent::Complete { counts, .. } => {
                println!("{} results are safe", counts.fetched);
                return Ok(());
            }
            FetchEvent::Refused { reason, .. } => return Err(reason.into()),
        }
    }
}
