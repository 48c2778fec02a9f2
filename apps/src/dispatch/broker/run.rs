//! `mutirao run --pattern broker`: broker, workers and client in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mutirao::broker::{Broker, BrokerConfig, BrokerLimits, ClientConfig, Console, JobSettings};
use mutirao::pipeline::JobId;
use mutirao::security::Security;
use mutirao::trio::BrokerWorkerConfig;
use mutirao::{Endpoint, Worker};

use super::super::collect::Target;
use super::super::feed::Feed;
use super::super::run::{DRAIN_PATIENCE, Report, RunArgs, say, show_failures, worker_count};
use super::super::work::{Commands, Workshop};
use super::accept::Handing;
use super::connection::ended;
use super::serve::cannot_start;
use super::stay::{Awaited, Stay};
use super::tally::Tally;
use super::wait::Ending;
use super::worker::handle;
use crate::exit::{self, Exit};
use crate::signals::Caught;

/// Does a whole job in this process, through a broker.
pub(crate) fn run(args: &RunArgs, feed: &Feed, target: Target) -> Result<(), Exit> {
    let caught = Caught::begin()?;
    let broker = broker(args, &args.transport.at_home("broker")?)?;
    let at = broker.endpoint().clone();
    let worker = Arc::new(worker(args, feed, &at)?);
    let config = client(args, at);
    let tally = Arc::new(Tally::default());
    let mut handing = hand_in(args, feed, &config, &tally)?;
    let awaited = Awaited {
        config: config.clone(),
        job: feed.job,
        operation: feed.operation(),
        only: feed.only_name(),
        bytes: feed.bytes(),
        target,
        format: args.summary.summary,
    };
    let stay = Stay::begin(awaited, tally)?;
    let interruption = Interruption {
        job: feed.job,
        is_stdin: feed.is_stdin(),
        config,
        worker,
        ending: stay.ending(),
        report: stay.report.clone(),
        tally: stay.tally.clone(),
    };
    caught.then(move |_| interruption.leave());
    handing.pass_over(stay.tally.safe_before());
    feed.submit_all(&mut handing, &stay.report.meter)
        .and_then(|()| handing.finish(None))
        .map_err(ended)?;
    stay.end()
}

fn hand_in(
    args: &RunArgs,
    feed: &Feed,
    config: &ClientConfig,
    tally: &Arc<Tally>,
) -> Result<Handing, Exit> {
    let settings = JobSettings {
        attempts: args.job.attempts,
        ..JobSettings::new(feed.operation())
    };
    let (config, tally) = (config.clone(), tally.clone());
    Handing::begin(config, feed.job, settings, Some(DRAIN_PATIENCE), tally).map_err(ended)
}

fn broker(args: &RunArgs, at: &Endpoint) -> Result<Broker, Exit> {
    let config = BrokerConfig {
        codec: args.codec.codec(),
        limits: BrokerLimits {
            heartbeat: args.limits.limits().heartbeat,
            ..BrokerLimits::default()
        },
        socket: args.limits.socket(Security::None),
        ..BrokerConfig::new(at.clone())
    };
    Broker::start(config, None).map_err(cannot_start)
}

fn worker(args: &RunArgs, feed: &Feed, at: &Endpoint) -> Result<Worker, Exit> {
    let config = BrokerWorkerConfig {
        codec: args.codec.codec(),
        slots: worker_count(args.workers),
        heartbeat: args.limits.limits().heartbeat,
        socket: args.limits.socket(Security::None),
        ..BrokerWorkerConfig::new(at.clone(), vec![feed.operation().to_owned()])
    };
    let workshop = Workshop {
        commands: Commands::Allowed,
        limit_bytes: args.limits.max_payload_bytes,
    };
    Ok(Worker::start_at_broker(config, move |task, info| {
        handle(workshop, task, info)
    })?)
}

fn client(args: &RunArgs, at: Endpoint) -> ClientConfig {
    let mut config = ClientConfig::new(at);
    config.codec = args.codec.codec();
    config.limits.heartbeat = args.limits.limits().heartbeat;
    config.socket = args.limits.socket(Security::None);
    config
}

/// What happens at Ctrl-C.
struct Interruption {
    job: JobId,
    is_stdin: bool,
    config: ClientConfig,
    worker: Arc<Worker>,
    ending: Ending,
    report: Report,
    tally: Arc<Tally>,
}

impl Interruption {
    /// Lets the job finish what it has begun, says what is done, and ends the program.
    fn leave(&self) -> ! {
        say("mutirao: interrupted; finishing what has begun (once more ends at once)");
        self.worker.stop_handle().stop();
        self.worker.wait(Some(DRAIN_PATIENCE));
        self.wait_until_safe();
        self.ending.end(DRAIN_PATIENCE);
        let summary = self.tally.summary();
        show_failures(&summary);
        self.report.print(&summary);
        let next = match self.is_stdin {
            true => "",
            false => "; the same command goes on from there",
        };
        exit::leave(&Exit::Interrupted(format!(
            "interrupted: {} results are safe{next}",
            summary.progress.safe
        )))
    }

    /// Waits until all that is done has been made safe.
    fn wait_until_safe(&self) {
        let asked = Instant::now();
        let Ok(mut console) = Console::connect(&self.config, DRAIN_PATIENCE) else {
            return;
        };
        while asked.elapsed() < DRAIN_PATIENCE {
            match console.job(self.job) {
                Ok(Some(job)) if job.counts.fetched < job.counts.done => {}
                _ => return,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
