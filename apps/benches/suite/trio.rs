//! No-op tasks through ventilator, workers and sink: in one process, and in three over tcp.

use std::fmt::Display;
use std::time::Duration;

use mutirao::{Endpoint, Pattern};

use crate::process::{self, Player};
use crate::report::{Row, Target, Unit};
use crate::rounds::interleave;
use crate::stage::{self, Counter, Trio};
use crate::{Effort, Result};

/// As many as there are cores where this is meant to run.
const WORKERS: usize = 2;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let tasks = effort.pick(1_000_000, 8_000_000);
    for pattern in Pattern::ALL {
        let args: [&dyn Display; 3] = [&pattern, &"inproc", &tasks];
        let [one, three] = interleave(
            effort.rounds(),
            [&mut || process::number("trio", &args), &mut || {
                three_processes(pattern, tasks)
            }],
        )?;
        let row = |what: &str, ours, target| Row {
            what: format!("trio {pattern}, no-op tasks, {what}"),
            unit: Unit::PerSecond,
            reference: None,
            ours,
            target: Target::AtLeast(target),
        };
        rows.push(row("one process", one, 2e6));
        rows.push(row("three processes, tcp", three, 1e6));
    }
    Ok(rows)
}

/// Tasks a second through a ventilator, a worker with two slots and a sink, in a process each.
fn three_processes(pattern: Pattern, tasks: u64) -> Result<f64> {
    Processes::start(pattern, tasks, Duration::ZERO)?
        .ventilator
        .hear()
}

/// A ventilator, a worker and a sink in a process each, connected over tcp.
pub(crate) struct Processes {
    pub(crate) ventilator: Player,
    pub(crate) worker: Player,
    pub(crate) sink: Player,
}

impl Processes {
    /// Starts them with `tasks` tasks that take `pause` each.
    pub(crate) fn start(pattern: Pattern, tasks: u64, pause: Duration) -> Result<Processes> {
        let mut sink = Player::start("sink", &[&pattern])?;
        let sink_at: String = sink.hear()?;
        let mut ventilator = Player::start("ventilator", &[&pattern, &sink_at, &tasks])?;
        let tasks_at: String = ventilator.hear()?;
        let args: [&dyn Display; 4] = [&pattern, &tasks_at, &sink_at, &pause.as_millis()];
        let worker = Player::start("worker", &args)?;
        Ok(Processes {
            ventilator,
            worker,
            sink,
        })
    }
}

pub(crate) fn whole(args: &[String]) -> Result<()> {
    let (pattern, scheme): (Pattern, String) = (process::arg(args, 0)?, process::arg(args, 1)?);
    let mut trio = Trio::start(pattern, &scheme, WORKERS)?;
    let rate = stage::rate(&mut trio.ventilator, process::arg(args, 2)?)?;
    println!("{rate}");
    trio.end()
}

pub(crate) fn sink(args: &[String]) -> Result<()> {
    let sink = stage::start_sink(process::arg(args, 0)?, "tcp://127.0.0.1:*".parse()?)?;
    println!("{}", sink.endpoint());
    Counter::start(sink).run();
    Ok(())
}

pub(crate) fn ventilator(args: &[String]) -> Result<()> {
    let sink: Endpoint = process::arg(args, 1)?;
    let bind = "tcp://127.0.0.1:*".parse()?;
    let mut ventilator = stage::start_ventilator(process::arg(args, 0)?, bind, sink)?;
    println!("{}", ventilator.endpoint());
    stage::wait_for_workers(&ventilator.handle(), 1)?;
    let tasks: u64 = process::arg(args, 2)?;
    if tasks == 0 {
        std::thread::park();
    }
    println!("{}", stage::rate(&mut ventilator, tasks)?);
    Ok(())
}

pub(crate) fn worker(args: &[String]) -> Result<()> {
    let pause = Duration::from_millis(process::arg(args, 3)?);
    let (tasks_at, sink_at) = (process::arg(args, 1)?, process::arg(args, 2)?);
    let worker = stage::start_worker(process::arg(args, 0)?, tasks_at, sink_at, WORKERS, pause)?;
    worker.wait(None);
    Ok(())
}
