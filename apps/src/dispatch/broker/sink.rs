//! A sink at a broker: collects the results of the jobs that ventilators hand in.
//!
//! Jobs are marked as a sink's when they are handed in, so that it takes nothing that somebody else
//! waits for. Several sinks share the jobs: a job goes whole to the one that begins with it, which is
//! found again by its journal after a restart.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mutirao::broker::{ClientConfig, ClientError, Console, JobCounts, JobView, ResultsTo};
use mutirao::pipeline::{JobId, TaskId};

use super::super::collect::{Collector, Target, Until};
use super::super::output::{JOURNAL_FOLDER, Writer};
use super::super::run::SHOWN_FAILURES;
use super::super::sink::end;
use super::connection::{job_id, need_keeping};
use super::fetch::{After, Fetch, Lost, Observer, Wanted};
use super::results::Standing as _;
use crate::exit::{self, Exit};
use crate::signals::Caught;

/// How often the broker is asked for jobs.
const INTERVAL: Duration = Duration::from_millis(250);

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Jobs that are collected at once.
const AT_ONCE: usize = 64;

/// What a sink of a broker is told.
pub(crate) struct BrokerSink {
    pub(crate) config: ClientConfig,
    pub(crate) out: PathBuf,
    pub(crate) until: Until,
}

/// Collects until stopped.
pub(crate) fn run(sink: BrokerSink) -> Result<(), Exit> {
    let caught = Caught::begin()?;
    let (wanted, desk) = (Wanted::default(), Arc::new(Desk::default()));
    let fetch = Fetch::connect(sink.config.clone(), wanted.clone(), desk.clone())?;
    let console = Console::connect(&sink.config, PATIENCE)?;
    let stop = fetch.stop_handle();
    let (tell, told) = std::sync::mpsc::channel();
    caught.then(move |signal| {
        let _ = tell.send(signal);
        stop.stop();
    });
    log::info!(
        "results from the broker at {} into {}",
        sink.config.broker,
        sink.out.display()
    );
    let looker = Looker {
        config: sink.config,
        out: sink.out.clone(),
        console,
        wanted,
        desk,
        is_answered: true,
        is_new: true,
    };
    // It ends with the process.
    std::thread::spawn(move || looker.look_on());
    let mut collector = Collector::new(fetch, Target::Folder(sink.out));
    collector.collect(sink.until)?;
    end(&collector, told.try_recv().ok())
}

/// Looks for jobs to collect.
struct Looker {
    config: ClientConfig,
    out: PathBuf,
    console: Console,
    wanted: Wanted,
    desk: Arc<Desk>,
    /// The broker has answered the last question.
    is_answered: bool,
    /// Nothing was looked at yet.
    is_new: bool,
}

impl Looker {
    fn look_on(mut self) {
        loop {
            let looked = self.look();
            if self.is_answered != looked.is_ok() {
                self.is_answered = looked.is_ok();
                match looked {
                    Ok(()) => log::info!("the broker is there again"),
                    Err(error) => log::warn!("{error}; asking again"),
                }
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn look(&mut self) -> Result<(), ClientError> {
        if self.is_new {
            let status = self.console.status()?;
            if let Err(error) = need_keeping(&status, &self.config.broker) {
                exit::leave(&error);
            }
            self.tidy()?;
            self.is_new = false;
        }
        self.clear();
        let mut jobs = self.console.jobs()?;
        let ids: HashSet<JobId> = jobs.iter().map(|job| job.job).collect();
        self.desk.state().left.retain(|job| ids.contains(job));
        jobs.retain(|job| job.settings.results_to == ResultsTo::Sink);
        // The oldest first.
        for job in jobs.iter().rev() {
            if self.desk.has_room() && self.desk.may_take(job) && self.is_ours(job) {
                self.take(job.job);
            }
        }
        Ok(())
    }

    /// A job that another sink has begun with is theirs: their journal knows what is safe.
    fn is_ours(&self, job: &JobView) -> bool {
        let fetched = job.counts.fetched;
        if job.fetching || self.desk.state().left.contains(&job.job) {
            return false;
        }
        let ours = fetched == 0 || fetched <= self.safe_here(job.job);
        if !ours {
            let id = job.job;
            log::info!(
                "job {id}: left to the sink that has begun with it: {fetched} of its results are there"
            );
            self.desk.state().left.insert(id);
        }
        ours
    }

    /// How many results of a job are safe in our folder.
    fn safe_here(&self, job: JobId) -> u64 {
        if !self.journal(job).exists() {
            return 0;
        }
        // What is wrong with the journal is told when its job is collected.
        let opened = Writer::open(&self.out, job.0);
        let ids = opened.map(|(_, done)| done.ids).unwrap_or_default();
        ids.iter().map(|range| range.end - range.start).sum()
    }

    fn take(&self, job: JobId) {
        self.desk.state().coming.insert(job);
        self.wanted.add(job, None);
    }

    /// Takes up what a former start had safe without hearing that it was all.
    fn tidy(&mut self) -> Result<(), ClientError> {
        for job in journals(&self.out) {
            let view = self.console.job(job)?;
            let all = view.filter(|view| view.over && view.is_fetched());
            if all.is_some_and(|view| self.safe_here(job) >= view.counts.accepted) {
                self.take(job);
            }
        }
        Ok(())
    }

    /// Removes the journals of jobs that other sinks were faster to begin with.
    fn clear(&self) {
        let lost = std::mem::take(&mut self.desk.state().lost);
        for job in lost {
            if self.safe_here(job) == 0 {
                // What cannot be removed does no harm.
                let _ = std::fs::remove_dir_all(self.journal(job));
            }
        }
    }

    fn journal(&self, job: JobId) -> PathBuf {
        self.out.join(JOURNAL_FOLDER).join(job.to_string())
    }
}

/// The jobs that have a journal in a results folder.
fn journals(out: &Path) -> Vec<JobId> {
    let entries = std::fs::read_dir(out.join(JOURNAL_FOLDER));
    let names = entries.into_iter().flatten().flatten();
    names
        .filter_map(|entry| job_id(entry.file_name().to_str()?).ok())
        .collect()
}

/// What the looker and the collector tell each other.
#[derive(Debug, Default)]
struct Desk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Jobs whose results are coming.
    coming: HashSet<JobId>,
    /// How many tasks of them failed.
    failed: HashMap<JobId, u64>,
    /// Jobs whose results cannot be written, until the next start.
    given_up: HashSet<JobId>,
    /// Jobs that others have begun with.
    left: HashSet<JobId>,
    /// Jobs that there is no more to come of.
    lost: Vec<JobId>,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        self.state().coming.len() < AT_ONCE
    }

    fn may_take(&self, job: &JobView) -> bool {
        let state = self.state();
        !state.coming.contains(&job.job) && !state.given_up.contains(&job.job)
    }
}

impl Observer for Desk {
    fn resumed(&self, job: JobId, safe: &[Range<TaskId>]) {
        let safe: u64 = safe.iter().map(|range| range.end - range.start).sum();
        match safe {
            0 => log::info!("job {job}: collecting"),
            safe => log::info!("job {job}: collecting; results safe from before: {safe}"),
        }
    }

    fn confirmed(&self, _: JobId, _: u64) {}

    fn failed(&self, job: JobId, _: TaskId, reason: String) {
        let mut state = self.state();
        let failed = state.failed.entry(job).or_default();
        *failed += 1;
        if *failed <= SHOWN_FAILURES {
            log::error!("job {job}: failed: {reason}");
        }
    }

    fn complete(&self, _: JobId, _: JobCounts) {}

    fn closed(&self, job: JobId, _: u64) {
        let mut state = self.state();
        state.coming.remove(&job);
        let failed = state.failed.remove(&job).unwrap_or_default();
        if failed > SHOWN_FAILURES {
            log::error!("job {job}: failed: and {} more", failed - SHOWN_FAILURES);
        }
    }

    fn lost(&self, job: JobId, why: Lost) -> After {
        let mut state = self.state();
        state.coming.remove(&job);
        state.failed.remove(&job);
        match why {
            Lost::Refused(reason) => {
                log::warn!("job {job}: {reason}");
                state.lost.push(job);
            }
            Lost::Unwritable(reason) => {
                log::error!("job {job}: {reason}");
                state.given_up.insert(job);
            }
        }
        After::GoOn
    }
}
