//! A single task through an idle trio: from `submit` until its result is in the program's hands.

use std::fmt::Display;
use std::time::{Duration, Instant};

use mutirao::Pattern;

use crate::process::{self, Player};
use crate::report::{Row, Samples, Target, Unit};
use crate::rounds::percentile;
use crate::stage::{Trio, payload};
use crate::{Effort, Result};

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for scheme in ["inproc", "tcp"] {
        let (mut half, mut most) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds() {
            let args: [&dyn Display; 2] = [&scheme, &effort.pick(200, 1000)];
            let mut player = Player::start("single-tasks", &args)?;
            half.push(player.hear()?);
            most.push(player.hear()?);
        }
        rows.extend([("p50", half), ("p99", most)].map(|(what, samples)| Row {
            what: format!("one task through an idle trio, {scheme}, {what}"),
            unit: Unit::Microseconds,
            reference: None,
            ours: Samples::new(samples),
            target: Target::None,
        }));
    }
    Ok(rows)
}

pub(crate) fn single_tasks(args: &[String]) -> Result<()> {
    let mut trio = Trio::start(Pattern::PushPull, &process::arg::<String>(args, 0)?, 1)?;
    let tasks: u64 = process::arg(args, 1)?;
    let payload = payload();
    let mut latencies_us = Vec::new();
    for task in 1..=tasks {
        trio.counter.watch_for(task);
        // Until confirmations are through and everybody sleeps.
        std::thread::sleep(Duration::from_millis(1));
        let begun = Instant::now();
        trio.ventilator.submit(&payload)?;
        let latency = trio.counter.moment()? - begun;
        latencies_us.push(latency.as_secs_f64() * 1e6);
    }
    latencies_us.sort_by(f64::total_cmp);
    println!("{}", percentile(&latencies_us, 50));
    println!("{}", percentile(&latencies_us, 99));
    trio.end()
}
