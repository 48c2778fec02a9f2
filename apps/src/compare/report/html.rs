//! What the page of the report says.

use super::{Facts, Report};
use crate::compare::show::digits;
use crate::report::page::Page;

/// The whole page.
pub(super) fn page(report: &Report<'_>) -> String {
    let facts = report.facts;
    let partial = facts.is_partial().then(|| {
        format!(
            "It was ended after {} of {} measurements: what follows is partial.",
            facts.done, facts.planned
        )
    });
    let page = Page {
        title: "TCP, UDP and ZeroMQ compared",
        partial,
        sentences: report.sentences,
        plots: report.plots,
        tables: report.tables,
        facts: how(facts),
        facts_title: "How it was measured",
    };
    page.html()
}

fn how(facts: &Facts) -> Vec<(&'static str, String)> {
    let machine = &facts.machine;
    vec![
        ("command", facts.command.clone()),
        ("seed", facts.seed.to_string()),
        (
            "rounds",
            format!(
                "{} of {} s for each measurement{}; medians, with the range over the rounds",
                facts.rounds,
                facts.seconds,
                facts.over_path()
            ),
        ),
        ("mutirao", facts.version.to_string()),
        (
            "processor",
            format!("{}, {} cores", machine.processor, machine.cores),
        ),
        (
            "memory",
            format!("{} GB", digits(machine.memory_bytes as f64 / 1e9)),
        ),
        ("system", machine.system.clone()),
    ]
}
