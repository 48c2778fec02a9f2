//! No-op tasks through a broker with two worker processes over tcp, beside a bare ROUTER–ROUTER one.

use std::path::PathBuf;
use std::time::Instant;

use mutirao::broker::store::{DiskStore, Store};
use mutirao::broker::{
    Broker, BrokerConfig, Caller, CallerConfig, ClientConfig, FetchEvent, Fetcher, JobSettings,
    Submitter,
};
use mutirao::pipeline::JobId;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Worker};
use serde_bytes::ByteBuf;

use crate::process::{self, Player};
use crate::report::{Row, Samples, Target, Unit};
use crate::rounds::interleave;
use crate::stage::payload;
use crate::{Effort, Result};

const WORKERS: usize = 2;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let tasks = effort.pick(500_000, 4_000_000);
    let bare_tasks = tasks / 4;
    let [bare, off, on] = interleave(
        effort.rounds(),
        [
            &mut || bare_rate(bare_tasks),
            &mut || rate(tasks, Keeping::Memory),
            &mut || rate(tasks, Keeping::Disk),
        ],
    )?;
    let row = |store: &str, ours, least| Row {
        what: format!("broker, no-op tasks, two workers, tcp, store {store}"),
        unit: Unit::PerSecond,
        reference: Some(bare.clone()),
        ours,
        target: Target::AtLeast(least),
    };
    Ok(vec![row("off", off, 1e6), row("on", on, 4e5)])
}

/// Round trips of a single request.
pub(crate) fn measure_requests(effort: Effort) -> Result<Vec<Row>> {
    let trips = effort.pick(2_000, 10_000);
    let [mut bare, mut ours] = [const { [Vec::new(), Vec::new()] }; 2];
    for _ in 0..effort.rounds() {
        let mut stage = Bare::start(1)?;
        let mut client = Player::start("bare-broker-request", &[&stage.clients_at, &trips])?;
        bare[0].push(client.hear()?);
        bare[1].push(client.hear()?);
        stage.workers.clear();
        let stage = Ours::start(1, Keeping::Memory)?;
        let mut client = Player::start("broker-request", &[&stage.at, &trips])?;
        ours[0].push(client.hear()?);
        ours[1].push(client.hear()?);
    }
    let targets = [Target::RatioAtMost(1.1), Target::None];
    let rows = ["p50", "p99"].iter().zip(bare.into_iter().zip(ours));
    let rows = rows.zip(targets).map(|((what, (bare, ours)), target)| Row {
        what: format!("broker, round trip of one request, tcp, {what}"),
        unit: Unit::Microseconds,
        reference: Some(Samples::new(bare)),
        ours: Samples::new(ours),
        target,
    });
    Ok(rows.collect())
}

/// A bare broker with its workers.
struct Bare {
    _broker: Player,
    workers: Vec<Player>,
    clients_at: String,
}

impl Bare {
    fn start(workers: usize) -> Result<Bare> {
        let mut broker = Player::start("bare-broker", &[])?;
        let clients_at: String = broker.hear()?;
        let workers_at: String = broker.hear()?;
        let workers = (0..workers)
            .map(|_| Player::start("bare-broker-worker", &[&workers_at]))
            .collect::<Result<_>>()?;
        Ok(Bare {
            _broker: broker,
            workers,
            clients_at,
        })
    }
}

/// Where the broker keeps what it has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeping {
    Memory,
    Disk,
}

/// Our broker with its workers.
pub(crate) struct Ours {
    _broker: Player,
    _workers: Vec<Player>,
    pub(crate) at: String,
    _folder: Option<tempfile::TempDir>,
}

impl Ours {
    pub(crate) fn start(workers: usize, keeping: Keeping) -> Result<Ours> {
        let folder = match keeping {
            Keeping::Memory => None,
            // Beside the build, which is on a real disk where the folder for temporary files may not be.
            Keeping::Disk => Some(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?),
        };
        let store = folder.as_ref().map(|folder| folder.path().display());
        let store = store.as_ref().map(|path| path as &dyn std::fmt::Display);
        let mut broker = Player::start("broker", store.as_slice())?;
        let at: String = broker.hear()?;
        let workers = (0..workers)
            .map(|_| Player::start("broker-worker", &[&at]))
            .collect::<Result<_>>()?;
        Ok(Ours {
            _broker: broker,
            _workers: workers,
            at,
            _folder: folder,
        })
    }
}

fn bare_rate(tasks: u64) -> Result<f64> {
    let stage = Bare::start(WORKERS)?;
    process::number("bare-broker-client", &[&stage.clients_at, &tasks])
}

fn rate(tasks: u64, keeping: Keeping) -> Result<f64> {
    let stage = Ours::start(WORKERS, keeping)?;
    process::number("broker-client", &[&stage.at, &tasks])
}

/// With a folder it keeps its state there.
pub(crate) fn broker(args: &[String]) -> Result<()> {
    let store = match args.first() {
        Some(folder) => Some(Box::new(DiskStore::open(&PathBuf::from(folder))?) as Box<dyn Store>),
        None => None,
    };
    let broker = Broker::start(BrokerConfig::new("tcp://127.0.0.1:*".parse()?), store)?;
    println!("{}", broker.endpoint());
    Ok(broker.wait()?)
}

pub(crate) fn worker(args: &[String]) -> Result<()> {
    let mut config = BrokerWorkerConfig::new(process::arg(args, 0)?, vec!["noop".into()]);
    config.slots = 1;
    let worker = Worker::start_at_broker(config, |task: ByteBuf, _| Ok(task.len() as u64))?;
    worker.wait(None);
    Ok(())
}

/// Says how many tasks come back in a second.
pub(crate) fn client(args: &[String]) -> Result<()> {
    let (at, tasks): (Endpoint, u64) = (process::arg(args, 0)?, process::arg(args, 1)?);
    run(&at, JobId(1), 1_000)?;
    let begun = Instant::now();
    run(&at, JobId(2), tasks)?;
    println!("{}", tasks as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

/// Submits a job and takes all its results.
fn run(at: &Endpoint, job: JobId, tasks: u64) -> Result<()> {
    let config = ClientConfig::new(at.clone());
    let mut fetcher = Fetcher::<u64>::connect(config.clone())?;
    let mut submitter = Submitter::<ByteBuf>::open(config, job, JobSettings::new("noop"))?;
    let payload = payload();
    submitter.opened(None)?;
    fetcher.fetch(job, Vec::new());
    let submitting = std::thread::spawn(move || {
        for _ in 0..tasks {
            submitter
                .submit(&payload)
                .map_err(|error| error.to_string())?;
        }
        submitter.finish(None).map_err(|error| error.to_string())
    });
    take_all(&mut fetcher, job, tasks)?;
    submitting.join().map_err(|_| "the submitter panicked")??;
    Ok(())
}

fn take_all(fetcher: &mut Fetcher<u64>, job: JobId, tasks: u64) -> Result<()> {
    let mut received = 0;
    loop {
        match fetcher.recv()? {
            FetchEvent::Result { task, .. } => {
                received += 1;
                fetcher.confirm(job, task..task + 1);
            }
            FetchEvent::Complete { .. } if received == tasks => return Ok(()),
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
}

/// Says the p50 and p99 of a round trip in µs.
pub(crate) fn request(args: &[String]) -> Result<()> {
    let (at, trips): (Endpoint, u64) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let config = CallerConfig::new(at, "noop");
    let mut caller = Caller::<ByteBuf, u64>::connect(config)?;
    let (payload, mut latencies_us) = (payload(), Vec::new());
    for trip in 0..trips + 1000 {
        let begun = Instant::now();
        caller.call(&payload)?;
        if trip >= 1000 {
            latencies_us.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    latencies_us.sort_by(f64::total_cmp);
    println!("{}", crate::rounds::percentile(&latencies_us, 50));
    println!("{}", crate::rounds::percentile(&latencies_us, 99));
    Ok(())
}
