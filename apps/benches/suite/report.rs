//! The table.

use std::fmt;

/// What the numbers of a row mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    MegabytesPerSecond,
    Megabytes,
    Microseconds,
    Nanoseconds,
    Percent,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Unit::PerSecond => format!("{value:.0} /s"),
            Unit::MegabytesPerSecond => format!("{value:.0} MB/s"),
            Unit::Megabytes => format!("{value:.0} MB"),
            Unit::Microseconds => format!("{value:.1} µs"),
            Unit::Nanoseconds => format!("{value:.0} ns"),
            Unit::Percent => format!("{value:.2} %"),
        }
    }
}

/// What a row should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At least so many times the reference.
    RatioAtLeast(f64),
    /// At most so many times the reference.
    RatioAtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// For information.
    None,
}

/// The same thing measured several times.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(samples: Vec<f64>) -> Samples {
        Samples(samples)
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
        }
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Round by round, as multiples of the reference.
    fn over(&self, reference: &Samples) -> Samples {
        let pairs = self.0.iter().zip(&reference.0);
        Samples(pairs.map(|(ours, reference)| ours / reference).collect())
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) reference: Option<Samples>,
    pub(crate) ours: Samples,
    pub(crate) target: Target,
}

impl Row {
    fn ratio(&self) -> Option<Samples> {
        self.reference
            .as_ref()
            .map(|reference| self.ours.over(reference))
    }

    /// The median, with the least and the most of what it is the median of.
    fn spread(&self) -> String {
        match self.ratio() {
            Some(ratio) => format!(
                "{:.2} ({:.2}–{:.2})",
                ratio.median(),
                ratio.least(),
                ratio.most()
            ),
            None if self.ours.0.len() == 1 => String::new(),
            None => format!(
                "({}–{})",
                self.unit.show(self.ours.least()),
                self.unit.show(self.ours.most())
            ),
        }
    }

    fn target(&self) -> String {
        match self.target {
            Target::RatioAtLeast(ratio) => format!("≥ {ratio} ×"),
            Target::RatioAtMost(ratio) => format!("≤ {ratio} ×"),
            Target::AtLeast(value) => format!("≥ {}", self.unit.show(value)),
            Target::AtMost(value) => format!("≤ {}", self.unit.show(value)),
            Target::None => String::new(),
        }
    }

    fn reached(&self) -> &'static str {
        let ratio = self.ratio().map_or(f64::NAN, |ratio| ratio.median());
        let reached = match self.target {
            Target::RatioAtLeast(least) => ratio >= least,
            Target::RatioAtMost(most) => ratio <= most,
            Target::AtLeast(least) => self.ours.median() >= least,
            Target::AtMost(most) => self.ours.median() <= most,
            Target::None => return "",
        };
        if reached { "yes" } else { "no" }
    }

    fn cells(&self) -> [String; 6] {
        let reference = self.reference.as_ref();
        [
            self.what.clone(),
            reference.map_or(String::new(), |samples| self.unit.show(samples.median())),
            self.unit.show(self.ours.median()),
            self.spread(),
            self.target(),
            self.reached().to_string(),
        ]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [what, reference, ours, spread, ..] = self.cells();
        write!(f, "{what}: {ours} {spread}")?;
        if reference.is_empty() {
            return Ok(());
        }
        write!(f, ", reference {reference}")
    }
}

const HEADINGS: [&str; 6] = [
    "measurement",
    "reference",
    "ours",
    "ratio or range (min–max)",
    "target",
    "reached",
];

/// Prints all rows as a Markdown table; medians, with the least and the most behind them.
pub(crate) fn print(rows: &[Row]) {
    let mut lines = vec![HEADINGS.map(String::from)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        let widths = lines.iter().map(|cells| cells[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    println!();
    for cells in lines {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("| {} |", padded.join(" | "));
    }
}
