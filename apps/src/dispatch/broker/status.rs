//! `mutirao status`: how the broker fares.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::FalseyValueParser;
use mutirao::broker::{ClientError, Console, Keeps, StatusView, WorkerView};
use serde_json::{Value, json};

use super::connection::{Connection, ended};
use crate::columns;
use crate::count::counted;
use crate::exit::Exit;
use crate::flags::FormatFlag;
use crate::ops::printable;
use crate::screen::Screen;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

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

pub(crate) fn run(args: StatusArgs) -> Result<(), Exit> {
    let mut console = args.connection.console()?;
    let screen = Screen::new(args.follow);
    show(&args, &screen, &console.status().map_err(ended)?)?;
    match args.follow {
        true => follow(&args, &screen, args.connection.console_within(INTERVAL)?),
        false => Ok(()),
    }
}

/// Looks again and again; ends when nobody reads it, or the broker does not let us in.
fn follow(args: &StatusArgs, screen: &Screen, mut console: Console) -> Result<(), Exit> {
    let mut heard = Instant::now();
    loop {
        std::thread::sleep(INTERVAL);
        match console.status() {
            Ok(status) => {
                heard = Instant::now();
                show(args, screen, &status)?;
            }
            // It may come back.
            Err(ClientError::TimedOut(at)) => {
                let silent = heard.elapsed().as_secs();
                say_silent(
                    args,
                    screen,
                    &format!("no word from the broker at {at} for {silent} s"),
                )?;
            }
            Err(error) => return Err(ended(error)),
        }
    }
}

/// In the place of what is not true any more; below it where it stays.
fn say_silent(args: &StatusArgs, screen: &Screen, sentence: &str) -> Result<(), Exit> {
    if *screen != Screen::InPlace || !args.format.is_text() {
        log::warn!("{sentence}; asking again");
        return Ok(());
    }
    let text = |out: &mut dyn Write| screen.write(out, &format!("{sentence}; asking again\n"));
    args.format.write(text, || Value::Null)
}

fn show(args: &StatusArgs, screen: &Screen, status: &StatusView) -> Result<(), Exit> {
    args.format.write(
        |out| {
            let mut text = Vec::new();
            write_text(&mut text, status)?;
            screen.write(out, &String::from_utf8_lossy(&text))
        },
        || as_json(status),
    )
}

fn as_json(status: &StatusView) -> Value {
    let mut value = json!(status);
    for (worker, view) in status.workers.iter().enumerate() {
        value["workers"][worker]["state"] = json!(state(view));
    }
    value
}

fn state(worker: &WorkerView) -> &'static str {
    match worker.leased {
        _ if worker.suspect => "suspect",
        0 => "idle",
        _ => "busy",
    }
}

fn write_text(out: &mut dyn Write, status: &StatusView) -> io::Result<()> {
    write_summary(out, status)?;
    if !status.services.is_empty() {
        writeln!(out)?;
        write_services(out, status)?;
    }
    writeln!(out)?;
    write_workers(out, &status.workers)
}

fn write_summary(out: &mut dyn Write, status: &StatusView) -> io::Result<()> {
    let keeps = match status.keeps {
        Keeps::Disk => "keeps tasks and results on disk",
        Keeps::Memory => "keeps tasks and results in memory",
        Keeps::Nothing => "request-reply: keeps nothing for clients that leave",
    };
    let kept = indicatif::BinaryBytes(status.kept_bytes);
    writeln!(
        out,
        "broker  up {}; {keeps}, {kept} now",
        columns::age(status.up_seconds)
    )?;
    writeln!(
        out,
        "there   {}, {}, {}",
        counted(status.jobs, "job"),
        counted(status.clients, "client"),
        counted(status.workers.len() as u64, "worker")
    )?;
    writeln!(
        out,
        "tasks   {} done, {} of them failed, {} tried again; {} a second",
        status.done, status.failed, status.retried, status.done_per_second
    )?;
    if status.malformed > 0 {
        let messages = counted(status.malformed, "message");
        writeln!(out, "dropped {messages} that made no sense")?;
    }
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
    let heads = columns::heads([
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
            format!("{:.1} s ago", worker.seen_ms as f64 / 1e3),
            printable(&worker.protocol, 20),
            printable(&worker.operations.join(" "), 100),
        ]
    });
    let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
    columns::write(out, &rows)
}

fn write_services(out: &mut dyn Write, status: &StatusView) -> io::Result<()> {
    let heads = columns::heads([
        "OPERATION",
        "WAITING",
        "AT WORK",
        "DONE",
        "A SECOND",
        "WORKERS",
    ]);
    let rows = status.services.iter().map(|(name, service)| {
        [
            printable(name, 40),
            service.queued.to_string(),
            service.leased.to_string(),
            service.done.to_string(),
            service.done_per_second.to_string(),
            match (service.workers, service.queued) {
                (0, 1..) => "none offers it".into(),
                (workers, _) => workers.to_string(),
            },
        ]
    });
    let rows: Vec<_> = [heads].into_iter().chain(rows).collect();
    columns::write(out, &rows)
}
