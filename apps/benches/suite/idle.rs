//! Processor time of three processes that have nothing to do, or only wait for slow tasks.

use std::time::Duration;

use mutirao::Pattern;

use crate::process::processor_time;
use crate::report::{Row, Samples, Target, Unit};
use crate::trio::Processes;
use crate::{Effort, Result};

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pattern in Pattern::ALL {
        for (what, tasks, pause_ms) in [
            ("nothing to do", 0, 0),
            // More than the window holds, so that submitting waits as well.
            ("window full of 100 ms tasks", 1_000_000, 100),
        ] {
            let processes = Processes::start(pattern, tasks, Duration::from_millis(pause_ms))?;
            let used = share_of_a_core(&processes, Duration::from_secs(effort.pick(2, 5)))?;
            rows.push(Row {
                what: format!("processor use of all three, {pattern}, {what}"),
                unit: Unit::Percent,
                reference: None,
                ours: Samples::new(vec![used]),
                target: Target::AtMost(2.0),
            });
        }
    }
    Ok(rows)
}

fn share_of_a_core(processes: &Processes, time: Duration) -> Result<f64> {
    std::thread::sleep(Duration::from_secs(2));
    let before = used(processes)?;
    std::thread::sleep(time);
    let used = used(processes)? - before;
    Ok(100.0 * used.as_secs_f64() / time.as_secs_f64())
}

fn used(processes: &Processes) -> Result<Duration> {
    let Processes {
        ventilator,
        worker,
        sink,
    } = processes;
    [ventilator, worker, sink]
        .iter()
        .map(|player| processor_time(player.id()))
        .sum()
}
