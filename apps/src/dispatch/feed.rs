//! From inputs to whoever takes tasks: what is read, cut into pieces and handed in.

use std::io::BufReader;
use std::path::PathBuf;

use clap::Args;
use mutirao::Ventilator;
use mutirao::pipeline::{JobId, TaskId};
use mutirao::trio::SubmitError;

use super::input::{self, InputFile, Lines, PieceError, Pieces};
use super::progress::Meter;
use super::task::{Place, Task};
use crate::exit::Exit;
use crate::ops::{self, Split};

/// What a job is made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobFlags {
    /// Files or folders, or `-` for standard input: each line a task
    #[arg(value_name = "INPUT", env = "MUTIRAO_INPUT", required = true)]
    pub(crate) input: Vec<PathBuf>,

    /// The operation, as NAME or NAME:ARGUMENT; `mutirao ops` lists them
    #[arg(long, env = "MUTIRAO_OP", value_name = "OP")]
    pub(crate) op: String,

    /// Files larger than this are split at line ends, where the operation allows
    #[arg(long, env = "MUTIRAO_CHUNK_BYTES", default_value = "1MiB", value_name = "BYTES", value_parser = crate::flags::bytes)]
    pub(crate) chunk_bytes: usize,

    /// How often a failing task is tried in all
    #[arg(long, env = "MUTIRAO_ATTEMPTS", default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) attempts: u32,
}

/// Whoever takes the tasks of a job.
pub(crate) trait TakesTasks {
    /// Why it takes no more.
    type Error;

    /// Hands in a task and returns its number; blocks while there is no room.
    fn take(&mut self, task: &Task) -> Result<TaskId, Self::Error>;
}

impl TakesTasks for Ventilator<Task> {
    type Error = SubmitError;

    fn take(&mut self, task: &Task) -> Result<TaskId, SubmitError> {
        self.submit(task)
    }
}

/// A job that is ready to be fed.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) job: JobId,
    source: Source,
    op: String,
    split: Split,
    chunk_bytes: usize,
    limit_bytes: usize,
}

/// How a file becomes tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileLimits {
    pub(crate) split: Split,
    pub(crate) chunk_bytes: usize,
    pub(crate) limit_bytes: usize,
}

#[derive(Debug)]
enum Source {
    Files(Vec<InputFile>),
    Lines,
}

impl Feed {
    /// Checks the operation and lists the inputs.
    pub(crate) fn plan(flags: &JobFlags, limit_bytes: usize) -> Result<Feed, Exit> {
        let op = ops::find(&flags.op).map_err(|error| Exit::Usage(error.to_string()))?;
        let from_stdin = flags.input.iter().any(|path| path.as_os_str() == "-");
        if from_stdin && flags.input.len() > 1 {
            return Err(Exit::Usage(
                "`-` reads standard input and goes with no other INPUT: run them apart".into(),
            ));
        }
        let (source, job) = if from_stdin {
            (Source::Lines, rand::random())
        } else {
            let files =
                input::plan(&flags.input).map_err(|error| Exit::Environment(error.to_string()))?;
            let job = input::job_id(&flags.op, flags.chunk_bytes, &files);
            (Source::Files(files), job)
        };
        let (op, split, chunk_bytes) = (flags.op.clone(), op.split(), flags.chunk_bytes);
        Ok(Feed {
            job: JobId(job),
            source,
            op,
            split,
            chunk_bytes,
            limit_bytes,
        })
    }

    /// A job of one file.
    pub(crate) fn of_file(job: JobId, file: InputFile, op: &str, limits: FileLimits) -> Feed {
        Feed {
            job,
            source: Source::Files(vec![file]),
            op: op.to_owned(),
            split: limits.split,
            chunk_bytes: limits.chunk_bytes,
            limit_bytes: limits.limit_bytes,
        }
    }

    /// The operation without its argument.
    pub(crate) fn operation(&self) -> &str {
        ops::name(&self.op)
    }

    /// What a failure is about that does not say it: the only input there is.
    pub(crate) fn only_name(&self) -> Option<&str> {
        match &self.source {
            Source::Lines => Some(""),
            Source::Files(files) => match files.as_slice() {
                [file] => Some(&file.name),
                _ => None,
            },
        }
    }

    /// Whether the tasks are the lines of standard input.
    pub(crate) fn is_stdin(&self) -> bool {
        matches!(self.source, Source::Lines)
    }

    /// The bytes of all inputs, where they are known beforehand.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match &self.source {
            Source::Files(files) => Some(files.iter().map(|file| file.bytes).sum()),
            Source::Lines => None,
        }
    }

    /// Hands in every task.
    pub(crate) fn submit_all<T: TakesTasks>(
        &self,
        to: &mut T,
        meter: &Meter,
    ) -> Result<(), T::Error> {
        match &self.source {
            Source::Lines => {
                let lines = Lines::new(
                    BufReader::with_capacity(256 << 10, std::io::stdin().lock()),
                    self.limit_bytes,
                );
                self.submit(to, meter, lines)
            }
            Source::Files(files) => files.iter().zip(0..).try_for_each(|(file, number)| {
                let pieces =
                    Pieces::new(file, number, self.split, self.chunk_bytes, self.limit_bytes);
                self.submit(to, meter, pieces)
            }),
        }
    }

    fn submit<T: TakesTasks>(
        &self,
        to: &mut T,
        meter: &Meter,
        pieces: impl Iterator<Item = Result<(Place, Vec<u8>), PieceError>>,
    ) -> Result<(), T::Error> {
        let mut task = Task {
            op: self.op.clone(),
            ..Task::default()
        };
        for piece in pieces {
            (task.place, task.data, task.problem) = match piece {
                Ok((place, data)) => (place, data, None),
                // A piece that cannot be read travels as its own failure, so that the sink learns of it.
                Err(PieceError { place, reason }) => (place, Vec::new(), Some(reason.to_string())),
            };
            let id = to.take(&task)?;
            meter.submitted(id, task.data.len() as u64);
        }
        Ok(())
    }
}
