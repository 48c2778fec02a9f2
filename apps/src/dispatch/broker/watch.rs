//! `mutirao submit --watch`: every file that appears in a folder is worked on, once.
//!
//! A file that has stopped changing becomes a job of its own, named after the file and its state, so
//! that the broker takes it once. The [ledger] in the results folder says which are done; the journal
//! of a job says what of it is safe. So the watcher may be killed at any moment.

mod board;
mod ledger;
mod look;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mutirao::broker::{ClientConfig, ClientError, Console};
use mutirao::pipeline::JobId;
use mutirao::{OpenError, StopHandle};
use sha2::{Digest as _, Sha256};

use super::super::collect::{Collector, Target, Until};
use super::super::feed::{Feed, FileLimits};
use super::super::input::{self, InputFile};
use super::super::output::{JOURNAL_FOLDER, Output as _, Writer};
use super::super::progress::Meter;
use super::super::run::{check_apart, whole_path};
use super::accept::Handing;
use super::connection::{ended, need_keeping};
use super::fetch::{Fetch, Wanted};
use super::submit::WhatFlags;
use super::tally::Tally;
use crate::count::counted;
use crate::exit::Exit;
use crate::ops;
use crate::signals::{Caught, Signal};
use board::Board;
use ledger::Ledger;
use look::{Sighting, Sightings, Then};

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Jobs that are with the broker at once.
const IN_FLIGHT: usize = 64;

/// How long the broker may take to accept a file before the next is tried.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(30);

/// What is watched, and what is to be done.
pub(crate) struct Plan {
    pub(crate) folder: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) what: WhatFlags,
    pub(crate) limit_bytes: usize,
    pub(crate) timeout: Duration,
    pub(crate) config: ClientConfig,
}

/// Watches until stopped.
pub(crate) fn run(plan: Plan) -> Result<(), Exit> {
    let op = ops::find(&plan.what.op).map_err(|error| Exit::Usage(error.to_string()))?;
    if plan.out.as_os_str() == "-" {
        return Err(Exit::Usage(
            "--out - does not go with --watch: results of files need a folder".into(),
        ));
    }
    if !plan.folder.is_dir() {
        return Err(Exit::Environment(format!(
            "{} is no folder: make it, or watch another",
            plan.folder.display()
        )));
    }
    check_apart(
        std::slice::from_ref(&plan.folder),
        &Target::Folder(plan.out.clone()),
    )?;
    let limits = FileLimits {
        split: op.split(),
        chunk_bytes: plan.what.chunk_bytes,
        limit_bytes: plan.limit_bytes,
    };
    let caught = Caught::begin()?;
    let mut console = Console::connect(&plan.config, plan.timeout)?;
    let status = console.status().map_err(ended)?;
    need_keeping(&status, &plan.config.broker)?;
    let board = Arc::new(Board::new(Ledger::open(&plan.out)?));
    let (collecting, wanted) = Collecting::begin(&plan, board.clone())?;
    let mut watcher = Watcher {
        folders: [whole_path(&plan.folder), whole_path(&plan.out)],
        plan,
        limits,
        board,
        wanted,
        console,
        stopping: Arc::default(),
    };
    watcher.watch(caught, collecting)
}

/// The thread that takes results.
struct Collecting {
    stop: StopHandle,
    thread: JoinHandle<Result<(), Exit>>,
}

impl Collecting {
    fn begin(plan: &Plan, board: Arc<Board>) -> Result<(Collecting, Wanted), OpenError> {
        let wanted = Wanted::default();
        let fetch = Fetch::connect(plan.config.clone(), wanted.clone(), board)?;
        let stop = fetch.stop_handle();
        let target = Target::Folder(plan.out.clone());
        let thread =
            std::thread::spawn(move || Collector::new(fetch, target).collect(Until::Stopped));
        Ok((Collecting { stop, thread }, wanted))
    }

    fn end(self) -> Result<(), Exit> {
        self.stop.stop();
        let bug = || Exit::Environment("collecting results panicked: this is a bug".into());
        self.thread.join().unwrap_or_else(|_| Err(bug()))
    }
}

struct Watcher {
    plan: Plan,
    /// Where files come from and where results go, without links: jobs are named after them.
    folders: [PathBuf; 2],
    limits: FileLimits,
    board: Arc<Board>,
    wanted: Wanted,
    console: Console,
    stopping: Arc<AtomicBool>,
}

impl Watcher {
    fn watch(&mut self, caught: Caught, collecting: Collecting) -> Result<(), Exit> {
        let stopping = self.stopping.clone();
        let board = self.board.clone();
        let (tell, told) = std::sync::mpsc::channel();
        caught.then(move |signal| {
            let _ = tell.send(signal);
            stopping.store(true, Ordering::SeqCst);
            board.wake();
        });
        log::info!(
            "watching {}: results into {}",
            self.plan.folder.display(),
            self.plan.out.display()
        );
        self.take_up()?;
        let mut sightings = Sightings::default();
        while !self.is_stopping() && !collecting.thread.is_finished() {
            self.look(&mut sightings);
            self.board.wait(INTERVAL);
        }
        collecting.end()?;
        let (done, failed) = self.board.counts();
        let sentence = format!(
            "stopped: {} done, {failed} failed; what is under way goes on at the broker, and the same command collects it",
            counted(done, "file")
        );
        match told.try_recv() {
            Ok(Signal::Interrupt) => Err(Exit::Interrupted(sentence)),
            _ => {
                log::info!("{sentence}");
                Ok(())
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Hands in what is new and has stopped changing.
    fn look(&mut self, sightings: &mut Sightings) {
        sightings.look(&self.plan.folder, INTERVAL);
        sightings.show(|sighting| match self.is_stopping() || self.is_full() {
            true => Then::Stop,
            false => self.look_at(sighting),
        });
    }

    /// Whether as many jobs are with the broker as may be.
    fn is_full(&self) -> bool {
        self.board.in_flight() >= IN_FLIGHT
    }

    fn look_at(&mut self, sighting: &mut Sighting) -> Then {
        let job = match sighting.job {
            Some(job) => job,
            None => *sighting.job.insert(self.job_of(&sighting.file)),
        };
        let name = sighting.file.name.clone();
        if self.board.is_settled(job) {
            return Then::Settled;
        }
        if self.board.is_busy_with(&name) {
            return Then::Again;
        }
        // It may have changed since the look into the folder.
        let now = look::file(&sighting.file.path, &name);
        let Some(file) = now.filter(|now| sighting.is_still(now)) else {
            return Then::NextLook;
        };
        match self.hand_in(job, file) {
            Ok(()) => Then::NextLook,
            Err(Trouble::Later(error)) => {
                log::warn!("{name}: {error}; trying again");
                Then::Stop
            }
            Err(Trouble::Never(error)) => {
                log::error!("{name}: {error}");
                self.board.give_up(job);
                Then::Settled
            }
        }
    }

    /// The same file in the same state is the same job, after a restart as well.
    fn job_of(&self, file: &InputFile) -> JobId {
        let file_id = input::job_id(
            &self.plan.what.op,
            self.limits.chunk_bytes,
            std::slice::from_ref(file),
        );
        let mut sha = Sha256::new();
        sha.update(file_id.to_le_bytes());
        for folder in &self.folders {
            sha.update(folder.as_os_str().as_encoded_bytes());
            sha.update([0]);
        }
        let digest = sha.finalize();
        JobId(u64::from_le_bytes(std::array::from_fn(|i| digest[i])))
    }

    fn hand_in(&mut self, job: JobId, file: InputFile) -> Result<(), Trouble> {
        let name = file.name.clone();
        let never = |error: Exit| Trouble::Never(error.to_string());
        if self.finish_if_written(job, &name).map_err(never)? {
            return Ok(());
        }
        self.board.begin(job, &name).map_err(never)?;
        let feed = Feed::of_file(job, file, &self.plan.what.op, self.limits);
        let settings = self.plan.what.settings(&name);
        let tally = Arc::new(Tally::default());
        let config = self.plan.config.clone();
        let mut handing = Handing::begin(config, job, settings, Some(self.plan.timeout), tally)?;
        feed.submit_all(&mut handing, &Meter::new(None))?;
        handing.finish(Some(ACCEPT_PATIENCE))?;
        self.board.fly(job, &name);
        self.wanted.add(job, Some(&name));
        Ok(())
    }

    /// Goes on with what a former start had begun.
    fn take_up(&mut self) -> Result<(), Exit> {
        for (job, name) in self.board.begun() {
            let path = self.plan.folder.join(&name);
            let now = look::file(&path, &name).map(|file| self.job_of(&file));
            // The same file in the same state is seen by the next look.
            if now == Some(job) || self.finish_if_written(job, &name)? {
                continue;
            }
            let there = self.console.job(job).map_err(ended)?;
            let whole = there.is_some_and(|view| view.tasks.is_some());
            if now.is_none() && whole {
                self.board.fly(job, &name);
                self.wanted.add(job, Some(&name));
                continue;
            }
            log::info!("{name}: it changed or went away, so its job {job} is cancelled");
            self.console.cancel(job).map_err(ended)?;
            self.board.drop_job(job, &name)?;
            let _ = fs::remove_dir_all(self.journal(job));
        }
        for job in self.board.done() {
            if self.journal(job).exists() {
                self.tidy(job)?;
            }
        }
        Ok(())
    }

    fn journal(&self, job: JobId) -> PathBuf {
        journal(&self.plan.out, job)
    }

    /// Whether the result is there already, from a start that died before it could say so.
    fn finish_if_written(&mut self, job: JobId, name: &str) -> Result<bool, Exit> {
        if !self.journal(job).exists() {
            return Ok(false);
        }
        let unwritable =
            |error: super::super::output::OutputError| Exit::Environment(error.to_string());
        let (writer, _) = Writer::open(&self.plan.out, job.0).map_err(unwritable)?;
        let counts = writer.counts();
        if counts.written + counts.failed == 0 {
            return Ok(false);
        }
        self.board.finish(job, name)?;
        Box::new(writer).finish().map_err(unwritable)?;
        // It may not have heard that everything is safe; that it has no such job is as good.
        let _ = self.console.cancel(job);
        Ok(true)
    }

    /// Removes the journal of a job that is done.
    fn tidy(&self, job: JobId) -> Result<(), Exit> {
        let opened = Writer::open(&self.plan.out, job.0);
        let (writer, _) = opened.map_err(|error| Exit::Environment(error.to_string()))?;
        let finished = Box::new(writer).finish();
        finished
            .map(|_| ())
            .map_err(|error| Exit::Environment(error.to_string()))
    }
}

/// Where a job keeps its journal.
fn journal(out: &Path, job: JobId) -> PathBuf {
    out.join(JOURNAL_FOLDER).join(job.to_string())
}

/// Why a file was not handed in.
enum Trouble {
    /// Another look may go better.
    Later(String),
    /// It will not.
    Never(String),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Trouble {
        match error {
            ClientError::Unsendable(_) => Trouble::Never(error.to_string()),
            error => Trouble::Later(error.to_string()),
        }
    }
}
