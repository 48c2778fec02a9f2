//! A ventilator at a broker: hands a job in, and waits until a sink has its results safe.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mutirao::broker::{
    ClientConfig, ClientError, Console, JobCounts, JobSettings, Keeps, ResultsTo,
};
use mutirao::pipeline::{JobId, Progress};
use mutirao::trio::Summary;

use super::super::feed::Feed;
use super::super::progress::{Meter, Watch, Watched};
use super::super::run::{DRAIN_PATIENCE, Report, Results, say};
use super::accept::Handing;
use super::connection::{ended, need_keeping};
use super::results::Standing as _;
use super::tally::Tally;
use crate::count::counted;
use crate::exit::{self, Exit};
use crate::flags::SummaryFormat;
use crate::signals::Caught;

/// How often the broker is asked how the job stands, and how long its answer may take.
const INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is asked for the workers.
const WORKERS_INTERVAL: Duration = Duration::from_secs(1);

/// What a ventilator of a broker is told.
pub(crate) struct BrokerVentilator {
    pub(crate) config: ClientConfig,
    pub(crate) feed: Feed,
    pub(crate) settings: JobSettings,
    pub(crate) format: SummaryFormat,
}

/// Hands the job in and waits for its end.
pub(crate) fn run(ventilator: BrokerVentilator) -> Result<(), Exit> {
    let BrokerVentilator {
        config,
        feed,
        settings,
        format,
    } = ventilator;
    let caught = Caught::begin()?;
    // Not the one that `mutirao submit` has for the same inputs: that is not for a sink.
    let job = JobId(!feed.job.0);
    let (tally, meter) = (
        Arc::new(Tally::default()),
        Arc::new(Meter::new(feed.bytes())),
    );
    let report = Report {
        begun: Instant::now(),
        format,
        results: Results::Elsewhere,
        meter: meter.clone(),
    };
    log::info!("job {job}: tasks at {}, by broker", config.broker);
    let outlook = Outlook::new(&config, job, feed.operation(), tally.clone())?;
    let bar = Watch::start(outlook.clone(), meter.clone(), feed.bytes());
    let interruption = Interruption {
        job,
        handing: Arc::default(),
        is_stdin: feed.is_stdin(),
        outlook: outlook.clone(),
        report: report.clone(),
    };
    let begun = interruption.handing.clone();
    caught.then(move |_| interruption.leave());
    let settings = JobSettings {
        results_to: ResultsTo::Sink,
        ..settings
    };
    let mut handing = Handing::begin(config.clone(), job, settings, None, tally).map_err(ended)?;
    *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(handing.clone());
    outlook.check_keeping(handing.keeps, &config)?;
    feed.submit_all(&mut handing, &meter)
        .and_then(|()| handing.finish(None))
        .map_err(ended)?;
    let finished = outlook.wait(handing.keeps);
    drop(bar);
    finished?;
    outlook.report(&report)
}

/// How the job stands, as the broker says.
#[derive(Clone)]
struct Outlook(Arc<Shared>);

struct Shared {
    job: JobId,
    operation: String,
    tally: Arc<Tally>,
    state: Mutex<State>,
}

struct State {
    console: Console,
    asked: Option<Instant>,
    /// When it was asked for the workers, and how many there were.
    workers: Option<(Instant, u64)>,
    /// The last answers; `Err` when there was none in time.
    news: Result<News, ClientError>,
}

/// What the broker says.
#[derive(Debug, Clone, Copy, Default)]
struct News {
    counts: JobCounts,
    standing: Standing,
    /// For the job's operation.
    workers: u64,
    has_sink: bool,
}

/// What has become of the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// Not there yet, or not any more.
    #[default]
    Unknown,
    Open,
    Fetched,
    Dropped,
}

impl Outlook {
    fn new(
        config: &ClientConfig,
        job: JobId,
        operation: &str,
        tally: Arc<Tally>,
    ) -> Result<Outlook, Exit> {
        Ok(Outlook(Arc::new(Shared {
            job,
            operation: operation.to_owned(),
            tally,
            state: Mutex::new(State {
                console: Console::connect(config, PATIENCE)?,
                asked: None,
                workers: None,
                news: Ok(News::default()),
            }),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest news.
    fn look(&self) -> Result<News, ClientError> {
        let mut state = self.state();
        if state.asked.is_none_or(|asked| asked.elapsed() >= INTERVAL) {
            let asked = self.ask(&mut state);
            state.news = match (asked, &state.news) {
                // The counts of a job that is over and forgotten are those that were told last.
                (Ok(news), Ok(before)) if news.standing == Standing::Unknown => Ok(News {
                    counts: before.counts,
                    ..news
                }),
                (asked, _) => asked,
            };
            state.asked = Some(Instant::now());
        }
        state.news.clone()
    }

    fn ask(&self, state: &mut State) -> Result<News, ClientError> {
        let view = state.console.job(self.0.job)?;
        let workers = self.workers(state)?;
        Ok(News {
            counts: view.as_ref().map(|view| view.counts).unwrap_or_default(),
            standing: match &view {
                None => Standing::Unknown,
                Some(view) if view.is_fetched() => Standing::Fetched,
                Some(view) if view.over && view.tasks == Some(0) => Standing::Fetched,
                Some(view) if view.over => Standing::Dropped,
                Some(_) => Standing::Open,
            },
            workers,
            has_sink: view.is_some_and(|view| view.fetching),
        })
    }

    /// Workers for the operation, as they were lately: the status of a large broker is long.
    fn workers(&self, state: &mut State) -> Result<u64, ClientError> {
        if let Some((asked, workers)) = state.workers
            && asked.elapsed() < WORKERS_INTERVAL
        {
            return Ok(workers);
        }
        let status = state.console.status()?;
        let service = status.services.get(&self.0.operation);
        let workers = service.map_or(0, |service| service.workers);
        state.workers = Some((Instant::now(), workers));
        Ok(workers)
    }

    fn check_keeping(&self, keeps: Keeps, config: &ClientConfig) -> Result<(), Exit> {
        match keeps {
            Keeps::Disk | Keeps::Memory => Ok(()),
            Keeps::Nothing => {
                let status = self.state().console.status().map_err(ended)?;
                need_keeping(&status, &config.broker)
            }
        }
    }

    /// Waits until all results are safe.
    fn wait(&self, keeps: Keeps) -> Result<(), Exit> {
        let job = self.0.job;
        // What was told before the job was handed in says nothing.
        self.state().asked = None;
        loop {
            match self.look().map(|news| news.standing) {
                Ok(Standing::Fetched) => return Ok(()),
                Ok(Standing::Dropped) => {
                    return Err(Exit::Environment(format!(
                        "job {job} was cancelled, or nobody fetched its results in time"
                    )));
                }
                Ok(Standing::Unknown) if keeps == Keeps::Disk => {
                    log::warn!(
                        "the broker was started again and has no job {job} any more: its results were all fetched, unless somebody cancelled it"
                    );
                    return Ok(());
                }
                Ok(Standing::Unknown) => {
                    return Err(Exit::Environment(format!(
                        "the broker was started again and has lost job {job}, as it keeps everything in memory: hand it in again, with the same command"
                    )));
                }
                // Without an answer the progress bar says so.
                Ok(Standing::Open) | Err(_) => std::thread::sleep(INTERVAL),
            }
        }
    }

    /// Prints the summary and turns failed tasks into an exit code.
    fn report(&self, report: &Report) -> Result<(), Exit> {
        let progress = self.progress();
        report.print(&Summary {
            progress,
            failures: Vec::new(),
        });
        match progress.failed {
            0 => Ok(()),
            failed => Err(Exit::SomeFailed(format!(
                "{failed} of {} failed, for reasons that the sink's log tells; the other results stand",
                counted(progress.submitted, "task")
            ))),
        }
    }
}

impl Watched for Outlook {
    fn progress(&self) -> Progress {
        let news = match self.look() {
            Ok(news) => news,
            Err(_) => return self.0.tally.progress(),
        };
        let submitted = self.0.tally.progress().submitted;
        let is_over = news.standing == Standing::Unknown && self.0.tally.is_handed_in();
        Progress {
            submitted,
            safe: if is_over {
                submitted
            } else {
                news.counts.fetched
            },
            failed: news.counts.failed,
            retried: news.counts.retried,
            workers: news.workers as usize,
            ..self.0.tally.progress()
        }
    }

    fn missing(&self) -> Option<&'static str> {
        let Ok(news) = self.look() else {
            return Some(
                "no word from the broker: is it running, at the endpoint given with --broker?",
            );
        };
        let waiting = news.counts.done > news.counts.fetched;
        match news.standing {
            Standing::Open if waiting && !news.has_sink => Some(
                "nobody takes the results: start a sink with `mutirao sink --out DIR --broker`",
            ),
            Standing::Open if news.workers == 0 && news.counts.queued > 0 => {
                Some("no worker offers this operation: start one with `mutirao worker --broker`")
            }
            _ => None,
        }
    }
}

/// What happens at Ctrl-C.
struct Interruption {
    job: JobId,
    handing: Arc<Mutex<Option<Handing>>>,
    is_stdin: bool,
    outlook: Outlook,
    report: Report,
}

impl Interruption {
    /// Lines that were read cannot be read again, so what there is of them becomes the job; files
    /// can, by the same command. What the broker has goes on.
    fn leave(&self) -> ! {
        let job = self.job;
        let handing = self.handing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(handing) = &*handing else {
            exit::leave(&Exit::Interrupted(
                "interrupted before the broker was there; nothing was handed in".into(),
            ));
        };
        if self.is_stdin && !self.outlook.0.tally.is_handed_in() {
            say("mutirao: interrupted; handing in what was read (once more ends at once)");
            // Whether it works is told below.
            let _ = handing.finish(Some(DRAIN_PATIENCE));
        }
        let whole = self.outlook.0.tally.is_handed_in();
        let _ = self.outlook.report(&self.report);
        exit::leave(&Exit::Interrupted(match whole {
            true => format!(
                "interrupted: job {job} goes on at the broker, and a sink collects the rest; `mutirao cancel {job}` ends it"
            ),
            false => format!(
                "interrupted before the broker had all of job {job}: the same command goes on with it, `mutirao cancel {job}` ends it"
            ),
        }))
    }
}
