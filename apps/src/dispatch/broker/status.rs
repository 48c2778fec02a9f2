//! `mutirao status`: how the broker fares.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use mutirao::broker::{Console, StatusView, WorkerView};
use serde_json::{Value, json};

use super::connection::{Connection, ended};
use super::table;
use crate::exit::Exit;
use crate::ops::printable;

/// Between the two looks from which the throughput is told.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const NEXT_LOOK: Duration = Duration::from_secs(1);

/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the broker's workers, queues and throughput.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mutirao status --broker tcp://127.0.0.1:5555 --follow")]
pub(crate) struct StatusArgs {
    /// Look again every second, until stopped
    #[arg(long, env = "MUTIRAO_FOLLOW", value_parser = FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    follow: bool,

    #[command(flatten)]
    format: FormatFlag,

    #[command(flatten)]
    connection: Connection,
}

/// For whom something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person
    Text,
    /// For a program: JSON, one value to a line
    Json,
}

/// For whom something is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct FormatFlag {
    /// For a person or for a program: text or json
    #[arg(
        long,
        env = "MUTIRAO_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    format: Format,
}

impl FormatFlag {
    /// Prints in the form that was asked for.
    pub(crate) fn write(
        &self,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Exit> {
        let out = &mut io::stdout().lock();
        let written = match self.format {
            Format::Text => text(out),
            Format::Json => writeln!(out, "{}", json()),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Exit::ReaderGone,
                _ => Exit::Environment(format!("standard output cannot be written: {error}")),
            })
    }
}

pub(crate) fn run(args: StatusArgs) -> Result<(), Exit> {
    let mut console = args.connection.console()?;
    let mut last = Look::take(&mut console)?;
    let mut pause = FIRST_LOOK;
    let in_place = args.follow && args.format.format == Format::Text && io::stdout().is_terminal();
    loop {
        std::thread::sleep(pause);
        let look = Look::take(&mut console)?;
        let per_second = look.tasks_since(&last);
        let status = &look.status;
        args.format.write(
            |out| {
                if in_place {
                    write!(out, "{CLEAR}")?;
                }
                write_text(out, status, per_second)?;
                if args.follow && !in_place {
                    writeln!(out)?;
                }
                Ok(())
            },
            || as_json(status, per_second),
        )?;
        if !args.follow {
            return Ok(());
        }
        (last, pause) = (look, NEXT_LOOK);
    }
}

/// The status at a moment.
struct Look {
    at: Instant,
    status: StatusView,
}

impl Look {
    fn take(console: &mut Console) -> Result<Look, Exit> {
        let status = console.status().map_err(ended)?;
        Ok(Look {
            at: Instant::now(),
            status,
        })
    }

    /// Tasks done in a second since another look.
    fn tasks_since(&self, before: &Look) -> u64 {
        let done = self.status.done.saturating_sub(before.status.done);
        (done as f64 / (self.at - before.at).as_secs_f64().max(1e-3)).round() as u64
    }
}

fn as_json(status: &StatusView, per_second: u64) -> Value {
    let mut value = json!(status);
    value["done_per_second"] = json!(per_second);
    for (worker, view) in status.workers.iter().enumerate() {
        value["workers"][worker]["state"] = json!(state(view));
    }
    value
}

fn state(worker: &WorkerView) -> &'static str {
    match worker.leased {
        0 => "idle",
        _ => "busy",
    }
}

fn write_text(out: &mut dyn Write, status: &StatusView, per_second: u64) -> io::Result<()> {
    write_workers(out, &status.workers)?;
    writeln!(out)?;
    write_services(out, status)?;
    writeln!(out)?;
    writeln!(
        out,
        "up {}; {} jobs, {} clients; {} done ({} failed, {} tried again), {per_second} tasks/s; {} kept, {} malformed messages",
        table::age(status.up_seconds),
        status.jobs,
        status.clients,
        status.done,
        status.failed,
        status.retried,
        indicatif::BinaryBytes(status.kept_bytes),
        status.malformed
    )?;
    match &status.trouble {
        Some(trouble) => writeln!(out, "takes no tasks: {trouble}"),
        None => Ok(()),
    }
}

fn write_workers(out: &mut dyn Write, workers: &[WorkerView]) -> io::Result<()> {
    if workers.is_empty() {
        return writeln!(
            out,
            "no worker is there: start one with `mutirao worker --broker`"
        );
    }
    let heads = table::heads([
        "WORKER",
        "STATE",
        "SLOTS",
        "HOLDS",
        "DONE",
        "SEEN",
        "SPEAKS",
        "OPERATIONS",
    ]);
    let rows = workers.iter().map(|worker| {
        [
            printable(&worker.worker, 20),
            state(worker).to_owned(),
            worker.slots.to_string(),
            worker.leased.to_string(),
            worker.done.to_string(),
            format!("{} ms ago", worker.seen_ms),
            printable(&worker.protocol, 20),
            printable(&worker.operations.join(" "), 100),
        ]
    });
    let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
    table::write(out, &rows)
}

fn write_services(out: &mut dyn Write, status: &StatusView) -> io::Result<()> {
    let heads = table::heads(["OPERATION", "WAIT", "WITH WORKERS", "DONE", "WORKERS"]);
    let rows = status.services.iter().map(|(name, service)| {
        [
            printable(name, 40),
            service.queued.to_string(),
            service.leased.to_string(),
            service.done.to_string(),
            service.workers.to_string(),
        ]
    });
    let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
    table::write(out, &rows)
}
