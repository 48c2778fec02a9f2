//! The plots, as SVG: one panel for each question, lines for the transports.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

use super::contender::Contender;
use super::plan::Question;
use super::results::{Outcome, Results};
use super::show::{count, microseconds, per_cent, size};
use super::tables::{in_words, wrap};

/// Width and height of a panel: about as wide as the screen of a phone, so that its texts are not made smaller there.
const PANEL: (u32, u32) = (360, 290);

/// Room for a line of names of transports above the panels.
const LEGEND: u32 = 26;

/// Sizes of texts and titles; plotters writes them 1.24 times smaller.
const TEXT: u32 = 17;
const TITLE: u32 = 18;

/// Width of one letter of a text, roughly.
const LETTER: i32 = 8;

/// How many places an axis can name.
const NAMES: usize = 6;

/// How far lines that may lie on each other are moved apart, as a part of the way from one place to the next.
const STEP: f64 = 0.05;

/// Height of a line that says who is missing.
const LINE: u32 = 22;

const FONT: &str = "sans-serif";

/// What stands for the colour of texts until the SVG is finished; see [`finish`].
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_AS_WRITTEN: &str = "#010203";

/// Okabe and Ito's colours, which the colour-blind tell apart, and which show on black and white.
fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Tcp => RGBColor(0x00, 0x72, 0xb2),
        Contender::Udp => RGBColor(0xd5, 0x5e, 0x00),
        Contender::UdpReliable => RGBColor(0xe6, 0x9f, 0x00),
        Contender::ZmqTcp => RGBColor(0x00, 0x9e, 0x73),
        Contender::ZmqIpc => RGBColor(0x56, 0xb4, 0xe9),
        Contender::ZmqInproc => RGBColor(0xcc, 0x79, 0xa7),
    }
}

/// A plot: what it shows, in words for those who do not see it, and as SVG.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) svg: String,
}

/// One panel: lines over a few named places.
struct Panel {
    title: String,
    places: Vec<String>,
    lines: Vec<Stroke>,
    show: fn(f64) -> String,
    logarithmic: bool,
    /// Who has no value somewhere, and why.
    absences: Vec<String>,
    /// Whether lines may lie exactly on each other, and are drawn beside each other.
    apart: bool,
}

/// The line of one transport: values at some of the places.
struct Stroke {
    contender: Contender,
    points: Vec<(usize, f64)>,
    /// A second value at a place is drawn fainter.
    faint: bool,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// The plots of the report; those without any point are left out.
pub(super) fn plots(results: &Results) -> Vec<Plot> {
    let panels = [
        throughput(results),
        round_trip(results),
        losses(results),
        throughput_over_path(results),
        waits(results),
    ];
    let drawn = panels
        .into_iter()
        .flatten()
        .map(|panel| draw(&panel.title.clone(), &[panel]));
    drawn.flatten().collect()
}

/// Throughput, and round trips below.
pub(super) fn summary(results: &Results) -> Option<Plot> {
    let panels: Vec<Panel> = [throughput(results), round_trip(results)]
        .into_iter()
        .flatten()
        .collect();
    draw(
        "Throughput and round trip by transport and size of message",
        &panels,
    )
}

fn throughput(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::Throughput, false).collect();
    let value = |outcome: &Outcome| outcome.median(|v| v.delivered_per_second);
    let (places, lines) = over_sizes(&outcomes, value, false);
    let panel = Panel::new("Messages a second, by size", places, lines, count, true)?;
    Some(panel.without(absences(&outcomes, by_size)))
}

fn round_trip(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::RoundTrip, false).collect();
    let (places, mut lines) = over_sizes(&outcomes, |outcome| outcome.median(|v| v.p50_us), false);
    let p99 = over_sizes(&outcomes, |outcome| outcome.median(|v| v.p99_us), true).1;
    let title = match p99.is_empty() {
        true => "Round trip by size: p50",
        false => "Round trip by size: p50 (p99 faint)",
    };
    lines.extend(p99);
    let panel = Panel::new(title, places, lines, microseconds, true)?;
    Some(panel.without(absences(&outcomes, by_size)))
}

fn losses(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::Delivery, true).collect();
    let value = |outcome: &Outcome| outcome.percent(|v| v.lost, |v| v.sent);
    let (places, lines) = over_losses(&outcomes, value, false);
    let panel = Panel::new(
        "Messages lost, by what the path loses",
        places,
        lines,
        per_cent,
        false,
    )?;
    // Nothing lost is the same for several.
    let panel = Panel {
        apart: true,
        ..panel
    };
    Some(panel.without(absences(&outcomes, by_loss)))
}

fn throughput_over_path(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::Throughput, true).collect();
    let value = |outcome: &Outcome| outcome.median(|v| v.delivered_per_second);
    let (places, lines) = over_losses(&outcomes, value, false);
    let panel = Panel::new(
        "Messages a second over a bad path",
        places,
        lines,
        count,
        true,
    )?;
    Some(panel.without(absences(&outcomes, by_loss)))
}

fn waits(results: &Results) -> Option<Panel> {
    let outcomes: Vec<&Outcome> = results.of(Question::RoundTrip, true).collect();
    let p99 = over_losses(&outcomes, |outcome| outcome.median(|v| v.p99_us), false).1;
    // Too few round trips for it leave the median alone.
    let title = match p99.is_empty() {
        true => "Round trip over a bad path: p50",
        false => "Round trip, bad path: p99 (p50 faint)",
    };
    let p50 = |outcome: &Outcome| outcome.median(|v| v.p50_us);
    let (places, mut lines) = over_losses(&outcomes, p50, !p99.is_empty());
    lines.extend(p99);
    let panel = Panel::new(title, places, lines, microseconds, true)?;
    Some(panel.without(absences(&outcomes, by_loss)))
}

/// The place of an outcome where sizes are compared.
fn by_size(outcome: &Outcome) -> String {
    size(outcome.cell.size_bytes)
}

/// The same for losses.
fn by_loss(outcome: &Outcome) -> String {
    per_cent(outcome.cell.path.map_or(0.0, |path| path.loss_percent))
}

fn over_sizes(
    outcomes: &[&Outcome],
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> (Vec<String>, Vec<Stroke>) {
    strokes(outcomes, by_size, value, faint)
}

fn over_losses(
    outcomes: &[&Outcome],
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> (Vec<String>, Vec<Stroke>) {
    strokes(outcomes, by_loss, value, faint)
}

/// The places in the order of the plan, and a line for each transport.
fn strokes(
    outcomes: &[&Outcome],
    place: impl Fn(&Outcome) -> String,
    value: impl Fn(&Outcome) -> Option<f64>,
    faint: bool,
) -> (Vec<String>, Vec<Stroke>) {
    let (mut places, mut strokes) = (Vec::<String>::new(), Vec::<Stroke>::new());
    for outcome in outcomes {
        let name = place(outcome);
        let at = places
            .iter()
            .position(|known| *known == name)
            .unwrap_or_else(|| {
                places.push(name);
                places.len() - 1
            });
        let Some(value) = value(outcome) else {
            continue;
        };
        let contender = outcome.cell.transport;
        match strokes
            .iter_mut()
            .find(|stroke| stroke.contender == contender)
        {
            Some(stroke) => stroke.points.push((at, value)),
            None => strokes.push(Stroke {
                contender,
                points: vec![(at, value)],
                faint,
            }),
        }
    }
    (places, strokes)
}

/// Who has no value somewhere, and why; without places where it has none at all.
fn absences(outcomes: &[&Outcome], place: impl Fn(&Outcome) -> String) -> Vec<String> {
    let mut absences: Vec<(Contender, &str, Vec<String>)> = Vec::new();
    for outcome in outcomes {
        let Some((status, _)) = outcome.excuse() else {
            continue;
        };
        let (contender, why) = (outcome.cell.transport, in_words(status));
        let mut known = absences.iter_mut();
        match known.find(|known| (known.0, known.1) == (contender, why)) {
            Some((.., places)) => places.push(place(outcome)),
            None => absences.push((contender, why, vec![place(outcome)])),
        }
    }
    let asked = |contender| {
        let of = outcomes.iter();
        of.filter(|outcome| outcome.cell.transport == contender)
            .count()
    };
    let words = |(contender, why, places): (Contender, &str, Vec<String>)| {
        let name = contender.name();
        match places.len() == asked(contender) {
            true => format!("{name} ({why})"),
            false => format!("{name} at {} ({why})", places.join(", ")),
        }
    };
    absences.into_iter().map(words).collect()
}

/// Who is missing in the panels, in lines of at most so many pixels.
fn missing(panels: &[Panel], width: u32) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for absence in panels.iter().flat_map(|panel| &panel.absences) {
        if !names.contains(&absence.as_str()) {
            names.push(absence);
        }
    }
    if names.is_empty() {
        return Vec::new();
    }
    let text = format!("not shown: {}", names.join(", "));
    let columns = (width - 16) / LETTER as u32;
    wrap(&text, columns as usize)
        .lines()
        .map(String::from)
        .collect()
}

impl Panel {
    fn new(
        title: &str,
        places: Vec<String>,
        lines: Vec<Stroke>,
        show: fn(f64) -> String,
        logarithmic: bool,
    ) -> Option<Panel> {
        let any = lines.iter().any(|line| !line.points.is_empty());
        any.then(|| Panel {
            title: title.to_string(),
            places,
            lines,
            show,
            logarithmic,
            absences: Vec::new(),
            apart: false,
        })
    }

    /// The same, and who is missing in it.
    fn without(mut self, absences: Vec<String>) -> Panel {
        self.absences = absences;
        self
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.lines
            .iter()
            .flat_map(|line| line.points.iter().map(|point| point.1))
    }

    /// The values at the lower and upper end.
    fn range(&self) -> (f64, f64) {
        let most = self.values().fold(f64::MIN, f64::max);
        let least = self.values().fold(f64::MAX, f64::min);
        match self.logarithmic {
            // Whole decades, so that there are marks to read the values by.
            true => (
                10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor()),
                10f64.powf((most * 1.01).log10().ceil()),
            ),
            false => (0.0, (most * 1.1).max(1.0)),
        }
    }
}

fn draw(title: &str, panels: &[Panel]) -> Option<Plot> {
    if panels.is_empty() {
        return None;
    }
    let mut svg = String::new();
    let legend = legend(panels);
    let missing = missing(panels, PANEL.0);
    let top = LEGEND * legend.len() as u32 + LINE * missing.len() as u32;
    let size = (PANEL.0, PANEL.1 * panels.len() as u32 + top);
    let drawn = {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw_all(&root, panels, &legend, &missing).and_then(|()| Ok(root.present()?))
    };
    if let Err(error) = drawn {
        log::warn!("{title}: the plot could not be drawn: {error}");
        return None;
    }
    Some(Plot {
        title: title.to_string(),
        svg: finish(&svg, title, size),
    })
}

fn draw_all(root: &Area<'_>, panels: &[Panel], legend: &[Vec<Name>], missing: &[String]) -> Drawn {
    let names = LEGEND * legend.len() as u32;
    let (top, rest) = root.split_vertically(names + LINE * missing.len() as u32);
    draw_legend(&top, legend)?;
    for (line, text) in missing.iter().enumerate() {
        let style = (FONT, TEXT).into_font().color(&INK);
        let below = (names + LINE * line as u32) as i32;
        top.draw(&Text::new(text.as_str(), (8, below), style))?;
    }
    let areas = rest.split_evenly((panels.len(), 1));
    for (panel, area) in panels.iter().zip(&areas) {
        match panel.logarithmic {
            true => draw_logarithmic(area, panel)?,
            false => draw_linear(area, panel)?,
        }
    }
    Ok(())
}

/// A transport in the legend, and how far to the right.
type Name = (Contender, i32);

/// The transports of the panels, in lines that are no wider than a panel.
fn legend(panels: &[Panel]) -> Vec<Vec<Name>> {
    let mut contenders: Vec<Contender> = panels
        .iter()
        .flat_map(|panel| panel.lines.iter().map(|line| line.contender))
        .collect();
    contenders.sort_unstable();
    contenders.dedup();
    let (mut lines, mut left) = (vec![Vec::new()], 8);
    for contender in contenders {
        let width = 24 + LETTER * contender.name().len() as i32;
        if left + width > PANEL.0 as i32 {
            lines.push(Vec::new());
            left = 8;
        }
        if let Some(line) = lines.last_mut() {
            line.push((contender, left));
        }
        left += width;
    }
    lines
}

fn draw_legend(area: &Area<'_>, legend: &[Vec<Name>]) -> Drawn {
    for (line, names) in legend.iter().enumerate() {
        let top = line as i32 * LEGEND as i32;
        for &(contender, left) in names {
            area.draw(&Circle::new(
                (left, top + 15),
                5,
                colour(contender).filled(),
            ))?;
            let style = (FONT, TEXT).into_font().color(&INK);
            area.draw(&Text::new(contender.name(), (left + 10, top + 8), style))?;
        }
    }
    Ok(())
}

fn draw_logarithmic(area: &Area<'_>, panel: &Panel) -> Drawn {
    let (low, high) = panel.range();
    draw_panel(area, panel, (low..high).log_scale())
}

fn draw_linear(area: &Area<'_>, panel: &Panel) -> Drawn {
    let (low, high) = panel.range();
    draw_panel::<plotters::coord::types::RangedCoordf64>(area, panel, low..high)
}

fn draw_panel<Y>(
    area: &Area<'_>,
    panel: &Panel,
    range: impl AsRangedCoord<CoordDescType = Y, Value = f64>,
) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, TITLE).into_font().color(&INK))
        .margin(6)
        .x_label_area_size(32)
        .y_label_area_size(60)
        .build_cartesian_2d(Places(panel.places.clone()), range)?;
    // The marks are round numbers: digits behind the point say nothing.
    let value = |y: &f64| (panel.show)(*y).replace(".00 ", " ").replace(".0 ", " ");
    let text = (FONT, TEXT).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.15))
        .axis_style(INK.mix(0.5))
        .label_style(text)
        .y_labels(6)
        .y_label_formatter(&value)
        .draw()?;
    let middle = (panel.lines.len().saturating_sub(1)) as f64 / 2.0;
    for (number, line) in panel.lines.iter().enumerate() {
        let aside = match panel.apart {
            true => (number as f64 - middle) * STEP,
            false => 0.0,
        };
        let (colour, radius) = match line.faint {
            true => (colour(line.contender).mix(0.4), 2),
            false => (colour(line.contender).mix(1.0), 4),
        };
        let points = || {
            let points = line.points.iter();
            points.map(|&(at, value)| (at as f64 + aside, value))
        };
        chart.draw_series(LineSeries::new(points(), colour.stroke_width(2)))?;
        chart.draw_series(points().map(|point| Circle::new(point, radius, colour.filled())))?;
    }
    Ok(())
}

/// The axis of named places: 0, 1, 2 …, with a little air on both sides.
struct Places(Vec<String>);

impl Places {
    const AIR: f64 = 0.3;

    fn last(&self) -> f64 {
        self.0.len().saturating_sub(1) as f64
    }
}

impl Ranged for Places {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (left, right): (i32, i32)) -> i32 {
        let share = (value + Places::AIR) / (self.last() + 2.0 * Places::AIR);
        left + (f64::from(right - left) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        let step = self.0.len().div_ceil(NAMES).max(1);
        (0..self.0.len())
            .step_by(step)
            .map(|at| at as f64)
            .collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        -Places::AIR..self.last() + Places::AIR
    }
}

impl ValueFormatter<f64> for Places {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        self.0.get(*value as usize).cloned().unwrap_or_default()
    }
}

/// Texts take the colour of their surroundings; words for those who do not see it.
fn finish(svg: &str, title: &str, size: (u32, u32)) -> String {
    let body = svg.split_once('>').map_or(svg, |(_, body)| body);
    let body = body.replace(INK_AS_WRITTEN, "currentColor");
    let (width, height) = size;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\"><title>{title}</title>{body}"
    )
}

/// The same as a file of its own, which has no surroundings: dark on light and light on dark.
pub(super) fn alone(plot: &Plot) -> String {
    const STYLE: &str =
        "<style>:root{color:#333}@media(prefers-color-scheme:dark){:root{color:#ccc}}</style>";
    plot.svg
        .replacen("</title>", &format!("</title>{STYLE}"), 1)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Cell, Passed};
    use super::super::results::{Row, Values};
    use super::*;

    #[test]
    fn places_stand_apart_and_one_alone_in_the_middle() {
        let places = |names: &[&str]| Places(names.iter().map(|name| name.to_string()).collect());
        assert_eq!(places(&["a"]).map(&0.0, (0, 100)), 50);
        let three = places(&["a", "b", "c"]);
        let at = [0.0, 1.0, 2.0].map(|place| three.map(&place, (10, 270)));
        assert_eq!(at, [40, 140, 240]);
        assert_eq!(three.format_ext(&2.0), "c");
        assert_eq!(three.format_ext(&3.0), "");
    }

    #[test]
    fn nothing_makes_no_plot() {
        let results = Results::new(&[]);
        assert!(plots(&results).is_empty() && summary(&results).is_none());
    }

    fn panel(contenders: &[Contender]) -> Panel {
        let stroke = |&contender: &Contender| Stroke {
            contender,
            points: vec![(0, 0.0), (1, 1.0)],
            faint: false,
        };
        let places = vec!["16 B".to_string(), "1 KiB".to_string()];
        let lines = contenders.iter().map(stroke).collect();
        Panel::new("Title", places, lines, count, false).unwrap()
    }

    #[test]
    fn the_legend_is_no_wider_than_a_panel_and_panels_stand_below_each_other() {
        use clap::ValueEnum as _;
        let all = panel(Contender::value_variants());
        let lines = legend(&[all]);
        assert_eq!(lines.len(), 2);
        let names = lines.concat().into_iter().map(|(contender, _)| contender);
        assert!(names.eq(Contender::value_variants().iter().copied()));
        let two = [&Contender::Tcp, &Contender::Udp].map(|one| panel(&[*one]));
        let plot = draw("Two", &two).unwrap();
        assert!(plot.svg.contains("viewBox=\"0 0 360 606\""), "{}", plot.svg);
    }

    #[test]
    fn lines_that_lie_on_each_other_are_drawn_apart() {
        let circles = |apart| {
            let two = panel(&[Contender::Tcp, Contender::Udp]);
            let plot = draw("Two", &[Panel { apart, ..two }]).unwrap();
            let circles = plot.svg.matches("<circle cx=").count();
            let mut at: Vec<&str> = plot
                .svg
                .split("<circle ")
                .skip(1)
                .filter_map(|circle| circle.split(" r=").next())
                .collect();
            at.sort_unstable();
            at.dedup();
            (circles, at.len())
        };
        // Two in the legend, two for each line.
        assert_eq!(circles(true), (6, 6));
        assert_eq!(circles(false), (6, 4));
    }

    #[test]
    fn many_places_are_not_all_named() {
        let places = |count: usize| {
            Places(vec!["x".into(); count]).key_points(plotters::coord::ranged1d::BoldPoints(9))
        };
        assert_eq!(places(6).len(), 6);
        assert_eq!(places(7), [0.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn whoever_is_missing_is_named_with_the_reason() {
        let cell = |transport, size_bytes| Cell {
            question: Question::Throughput,
            transport,
            size_bytes,
            path: None,
        };
        let outcome = |cell: Cell, row: fn(&Cell) -> Row| Outcome {
            rows: vec![row(&cell)],
            cell,
        };
        let measured = |cell: &Cell| {
            let values = Values {
                delivered_per_second: Some(1000.0),
                ..Values::default()
            };
            Row::measured(1, cell, values)
        };
        let failed = |cell: &Cell| Row::failed(1, cell, "no room".into());
        let too_large = |cell: &Cell| Row::passed(1, cell, Passed::TooLarge("so it is".into()));
        let results = Results {
            outcomes: vec![
                outcome(cell(Contender::Tcp, 16), measured),
                outcome(cell(Contender::Udp, 16), measured),
                outcome(cell(Contender::ZmqIpc, 16), failed),
                outcome(cell(Contender::Tcp, 65_536), measured),
                outcome(cell(Contender::Udp, 65_536), too_large),
                outcome(cell(Contender::ZmqIpc, 65_536), failed),
            ],
        };
        let plot = plots(&results).remove(0);
        let words = "not shown: udp at 64 KiB (too large), zmq-ipc (failed)";
        assert!(plot.svg.contains(words), "{}", plot.svg);
    }

    #[test]
    fn a_plot_has_words_a_view_box_and_takes_the_colour_of_its_surroundings() {
        let stroke = Stroke {
            contender: Contender::Tcp,
            points: vec![(0, 10.0), (1, 1000.0)],
            faint: false,
        };
        let places = vec!["16 B".to_string(), "1 KiB".to_string()];
        let panel = Panel::new("Title", places, vec![stroke], count, true).unwrap();
        let plot = draw("In words", &[panel]).unwrap();
        for part in [
            "<title>In words</title>",
            "viewBox=\"0 0 360 316\"",
            "currentColor",
            "16 B",
            "1 KiB",
            "tcp",
        ] {
            assert!(plot.svg.contains(part), "{part}:\n{}", plot.svg);
        }
        assert!(!plot.svg.contains(INK_AS_WRITTEN) && !plot.svg.contains("not shown"));
        assert!(alone(&plot).contains("prefers-color-scheme"));
    }
}
