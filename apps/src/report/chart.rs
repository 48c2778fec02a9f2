//! Plots as SVG: panels with lines over a few named places, as wide as a phone.

use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;

use super::table::wrap;

/// Width and height of a panel: about as wide as the screen of a phone, so that its texts are not made smaller there.
const PANEL: (u32, u32) = (360, 290);

/// Room for a line of names of series above the panels.
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

/// How far a logarithmic axis reaches down from the largest value.
const DECADES: f64 = 1e6;

/// Height of a line that says who is missing.
const LINE: u32 = 22;

const FONT: &str = "sans-serif";

/// What stands for the colour of texts until the SVG is finished; see [`finish`].
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_AS_WRITTEN: &str = "#010203";

/// Okabe and Ito's colours, which the colour-blind tell apart, and which show on black and white.
pub(crate) const OKABE_ITO: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xcc, 0x79, 0xa7),
];

/// A plot: what it shows, in words for those who do not see it, and as SVG.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) svg: String,
}

/// One panel: lines over a few named places.
pub(crate) struct Panel {
    pub(crate) title: String,
    places: Vec<String>,
    lines: Vec<Stroke>,
    show: fn(f64) -> String,
    logarithmic: bool,
    /// Who has no value somewhere, and why.
    absences: Vec<String>,
    /// Whether lines may lie exactly on each other, and are drawn beside each other.
    apart: bool,
}

/// What a line stands for, the same in every panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    /// Its place in the legend.
    pub(crate) rank: usize,
    pub(crate) name: &'static str,
    pub(crate) colour: RGBColor,
}

/// The line of one series: values at some of the places.
pub(crate) struct Stroke {
    pub(crate) series: Series,
    pub(crate) points: Vec<(usize, f64)>,
    /// A second value at a place is drawn fainter.
    pub(crate) faint: bool,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

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
    /// A panel, unless there is nothing to draw.
    pub(crate) fn new(
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
    pub(crate) fn without(mut self, absences: Vec<String>) -> Panel {
        self.absences = absences;
        self
    }

    /// The same, for lines that may lie exactly on each other.
    pub(crate) fn apart(mut self) -> Panel {
        self.apart = true;
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
        let positive = self.values().filter(|value| *value > 0.0);
        // What is nothing lies at the lower end, as far down as it can be shown.
        let least = positive.fold(most.max(1.0), f64::min).max(most / DECADES);
        match self.logarithmic {
            // Whole decades, so that there are marks to read the values by.
            true => (
                10f64.powf(least.log10().floor()),
                10f64.powf((most.max(least) * 1.01).log10().ceil()),
            ),
            false => (0.0, (most * 1.1).max(1.0)),
        }
    }
}

/// The panels below each other.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> Option<Plot> {
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

/// A series in the legend, and how far to the right.
type Name = (Series, i32);

/// The series of the panels, in lines that are no wider than a panel.
fn legend(panels: &[Panel]) -> Vec<Vec<Name>> {
    let mut series: Vec<Series> = panels
        .iter()
        .flat_map(|panel| panel.lines.iter().map(|line| line.series))
        .collect();
    series.sort_by_key(|series| series.rank);
    series.dedup();
    let (mut lines, mut left) = (vec![Vec::new()], 8);
    for series in series {
        let width = 24 + LETTER * series.name.len() as i32;
        if left + width > PANEL.0 as i32 {
            lines.push(Vec::new());
            left = 8;
        }
        if let Some(line) = lines.last_mut() {
            line.push((series, left));
        }
        left += width;
    }
    lines
}

fn draw_legend(area: &Area<'_>, legend: &[Vec<Name>]) -> Drawn {
    for (line, names) in legend.iter().enumerate() {
        let top = line as i32 * LEGEND as i32;
        for &(series, left) in names {
            area.draw(&Circle::new((left, top + 15), 5, series.colour.filled()))?;
            let style = (FONT, TEXT).into_font().color(&INK);
            area.draw(&Text::new(series.name, (left + 10, top + 8), style))?;
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
    let lowest = panel.range().0;
    let middle = (panel.lines.len().saturating_sub(1)) as f64 / 2.0;
    for (number, line) in panel.lines.iter().enumerate() {
        let aside = match panel.apart {
            true => (number as f64 - middle) * STEP,
            false => 0.0,
        };
        let (colour, radius) = match line.faint {
            true => (line.series.colour.mix(0.4), 2),
            false => (line.series.colour.mix(1.0), 4),
        };
        let points = || {
            let points = line.points.iter();
            points.map(|&(at, value)| (at as f64 + aside, value.max(lowest)))
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
pub(crate) fn alone(plot: &Plot) -> String {
    const STYLE: &str =
        "<style>:root{color:#333}@media(prefers-color-scheme:dark){:root{color:#ccc}}</style>";
    plot.svg
        .replacen("</title>", &format!("</title>{STYLE}"), 1)
}

#[cfg(test)]
mod tests {
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

    fn series(rank: usize, name: &'static str) -> Series {
        let colour = OKABE_ITO[rank];
        Series { rank, name, colour }
    }

    fn panel(series: &[Series]) -> Panel {
        let stroke = |&series: &Series| Stroke {
            series,
            points: vec![(0, 0.0), (1, 1.0)],
            faint: false,
        };
        let places = vec!["16 B".to_string(), "1 KiB".to_string()];
        let lines = series.iter().map(stroke).collect();
        Panel::new("Title", places, lines, |value| value.to_string(), false).unwrap()
    }

    #[test]
    fn the_legend_is_no_wider_than_a_panel_and_panels_stand_below_each_other() {
        let names = [
            "tcp",
            "udp",
            "udp-reliable",
            "zmq-tcp",
            "zmq-ipc",
            "zmq-inproc",
        ];
        let all: Vec<Series> = (0..)
            .zip(names)
            .map(|(rank, name)| series(rank, name))
            .collect();
        let backwards: Vec<Series> = all.iter().rev().copied().collect();
        let lines = legend(&[panel(&backwards)]);
        assert_eq!(lines.len(), 2);
        assert!(lines.concat().into_iter().map(|(series, _)| series).eq(all));
        let two = [series(0, "tcp"), series(1, "udp")].map(|one| panel(&[one]));
        let plot = draw("Two", &two).unwrap();
        assert!(plot.svg.contains("viewBox=\"0 0 360 606\""), "{}", plot.svg);
    }

    #[test]
    fn lines_that_lie_on_each_other_are_drawn_apart() {
        let circles = |apart| {
            let two = panel(&[series(0, "tcp"), series(1, "udp")]);
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
    fn nothing_has_a_place_on_a_logarithmic_axis() {
        for values in [[0.0, 0.0], [0.0, 200.0], [1e-300, 1e6]] {
            let stroke = Stroke {
                series: series(0, "tcp"),
                points: values.into_iter().enumerate().collect(),
                faint: false,
            };
            let places = vec!["a".to_string(), "b".to_string()];
            let panel = Panel::new("T", places, vec![stroke], |value| value.to_string(), true);
            let panel = panel.unwrap();
            let (low, high) = panel.range();
            assert!(0.0 < low && low < high && high / low <= 1e8, "{low} {high}");
            assert!(draw("T", &[panel]).unwrap().svg.contains("<circle"));
        }
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
    fn a_plot_has_words_a_view_box_and_takes_the_colour_of_its_surroundings() {
        let stroke = Stroke {
            series: series(0, "tcp"),
            points: vec![(0, 10.0), (1, 1000.0)],
            faint: false,
        };
        let places = vec!["16 B".to_string(), "1 KiB".to_string()];
        let panel = Panel::new(
            "Title",
            places,
            vec![stroke],
            |value| value.to_string(),
            true,
        )
        .unwrap();
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
