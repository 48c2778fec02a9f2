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

/// Width and height of a panel.
const PANEL: (u32, u32) = (480, 360);

/// Room for the names of the transports above the panels.
const LEGEND: u32 = 30;

/// Height of a line that says who is missing, and width of one of its letters, roughly.
const LINE: u32 = 18;
const LETTER: u32 = 7;

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

/// Throughput and round trips side by side.
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
    lines.extend(over_sizes(&outcomes, |outcome| outcome.median(|v| v.p99_us), true).1);
    let panel = Panel::new(
        "Round trip by size: p50, and p99 fainter",
        places,
        lines,
        microseconds,
        true,
    )?;
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
    let (places, mut lines) = over_losses(&outcomes, |outcome| outcome.median(|v| v.p50_us), true);
    lines.extend(over_losses(&outcomes, |outcome| outcome.median(|v| v.p99_us), false).1);
    let panel = Panel::new(
        "Round trip over a bad path: p99, and p50 fainter",
        places,
        lines,
        microseconds,
        true,
    )?;
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
    let columns = (width - 16) / LETTER;
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
    let width = PANEL.0 * panels.len() as u32;
    let missing = missing(panels, width);
    let top = LEGEND + LINE * missing.len() as u32;
    let size = (width, PANEL.1 + top);
    let drawn = {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw_all(&root, panels, &missing).and_then(|()| Ok(root.present()?))
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

fn draw_all(root: &Area<'_>, panels: &[Panel], missing: &[String]) -> Drawn {
    let (top, rest) = root.split_vertically(LEGEND + LINE * missing.len() as u32);
    draw_legend(&top, panels)?;
    for (line, text) in missing.iter().enumerate() {
        let style = (FONT, 12).into_font().color(&INK);
        let below = (LEGEND + LINE * line as u32) as i32;
        top.draw(&Text::new(text.as_str(), (8, below), style))?;
    }
    let areas = rest.split_evenly((1, panels.len()));
    for (panel, area) in panels.iter().zip(&areas) {
        match panel.logarithmic {
            true => draw_logarithmic(area, panel)?,
            false => draw_linear(area, panel)?,
        }
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>, panels: &[Panel]) -> Drawn {
    let mut contenders: Vec<Contender> = panels
        .iter()
        .flat_map(|panel| panel.lines.iter().map(|line| line.contender))
        .collect();
    contenders.sort_unstable();
    contenders.dedup();
    let mut left = 8;
    for contender in contenders {
        let colour = colour(contender);
        area.draw(&Circle::new((left, 15), 5, colour.filled()))?;
        let style = (FONT, 13).into_font().color(&INK);
        area.draw(&Text::new(contender.name(), (left + 9, 9), style))?;
        left += 24 + 7 * contender.name().len() as i32;
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
        .caption(&panel.title, (FONT, 15).into_font().color(&INK))
        .margin(6)
        .x_label_area_size(30)
        .y_label_area_size(62)
        .build_cartesian_2d(Places(panel.places.clone()), range)?;
    // The marks are round numbers: digits behind the point say nothing.
    let value = |y: &f64| (panel.show)(*y).replace(".00 ", " ").replace(".0 ", " ");
    let text = (FONT, 13).into_font().color(&INK);
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
    for line in &panel.lines {
        let (colour, radius) = match line.faint {
            true => (colour(line.contender).mix(0.4), 2),
            false => (colour(line.contender).mix(1.0), 4),
        };
        let points = || line.points.iter().map(|&(at, value)| (at as f64, value));
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
        (0..self.0.len()).map(|at| at as f64).collect()
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
            "viewBox=\"0 0 480 390\"",
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
