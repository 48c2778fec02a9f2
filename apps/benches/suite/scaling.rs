//! What a task costs in jobs of ten thousand to ten million tasks.

use std::fmt::Display;
use std::time::Instant;

use mutirao::Pattern;

use crate::process;
use crate::report::{Row, Target, Unit};
use crate::rounds::repeat;
use crate::stage::{Trio, payload};
use crate::{Effort, Result};

/// Tasks before the clock starts, so that the ventilator has learnt how long one takes.
const WARM_UP: u64 = 100_000;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let most = effort.pick(6, 7);
    (4..=most).map(|decade| row(effort, decade)).collect()
}

fn row(effort: Effort, decade: u32) -> Result<Row> {
    let tasks = 10_u64.pow(decade);
    let args: [&dyn Display; 1] = [&tasks];
    let ours = repeat(effort.rounds(), || process::number("decade", &args))?;
    Ok(Row {
        what: format!("cost per task, job of {}", grouped(tasks)),
        unit: Unit::Nanoseconds,
        reference: None,
        ours,
        target: Target::None,
    })
}

pub(crate) fn grouped(tasks: u64) -> String {
    match tasks {
        0..1_000_000 => format!("{} thousand", tasks / 1000),
        _ => format!("{} million", tasks / 1_000_000),
    }
}

pub(crate) fn decade(args: &[String]) -> Result<()> {
    let tasks: u64 = process::arg(args, 0)?;
    let mut trio = Trio::start(Pattern::PushPull, "inproc", 2)?;
    work_off(&mut trio, WARM_UP, WARM_UP)?;
    let seconds = work_off(&mut trio, tasks, WARM_UP + tasks)?;
    println!("{}", seconds * 1e9 / tasks as f64);
    trio.end()
}

/// Hands in `tasks` tasks and returns the seconds until result number `last` is there.
fn work_off(trio: &mut Trio, tasks: u64, last: u64) -> Result<f64> {
    trio.counter.watch_for(last);
    let payload = payload();
    let begun = Instant::now();
    for _ in 0..tasks {
        trio.ventilator.submit(&payload)?;
    }
    Ok((trio.counter.moment()? - begun).as_secs_f64())
}
