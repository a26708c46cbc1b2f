//! Curves to an SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::run::Curve;
use crate::error::{Error, Result};

/// Size of a chart in pixels.
const SIZE: (u32, u32) = (760, 400);

/// Okabe and Ito's colours, which remain distinct without red-green vision ("Color Universal Design",
/// 2008); yellow is left out, being too pale for lines on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// A line; many points also get a smoothed one on top.
    Line,
    /// A line with a dot at every point.
    Dots,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points.
    pub curve: Curve,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Which colour.
    pub colour: usize,
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Left of it.
    pub y: String,
    /// Logarithmic values.
    pub log: bool,
    /// A line across, with its name.
    pub reference: Option<(f64, String)>,
    /// The curves.
    pub series: Vec<Series>,
}

impl Chart {
    /// A chart without curves.
    pub fn new(title: &str, y: &str) -> Self {
        let (title, y) = (title.to_string(), y.to_string());
        Chart { title, y, log: false, reference: None, series: Vec::new() }
    }

    /// With logarithmic values.
    pub fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// Adds a curve, if it has points that can be drawn.
    pub fn add(&mut self, name: &str, curve: Curve, stroke: Stroke, colour: usize) {
        let drawn = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!self.log || *y > 0.0);
        let curve: Curve = curve.into_iter().filter(drawn).collect();
        if !curve.is_empty() {
            self.series.push(Series { name: name.into(), curve, stroke, colour });
        }
    }

    /// Whether there is anything to see.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Ranges of steps and values, with room around them.
    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let points = || self.series.iter().flat_map(|s| &s.curve);
        let bounds = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)))
        };
        let (left, right) = bounds(&mut points().map(|p| p.0));
        let reference = self.reference.iter().map(|(y, _)| *y);
        let (mut low, mut high) = bounds(&mut points().map(|p| p.1).chain(reference));
        if self.log {
            let room = (high / low).max(1.01).powf(0.05);
            (low, high) = (low / room, high * room);
        } else {
            // Values that are never negative start at zero when they come near it.
            let room = 0.05 * (high - low).max(1e-9 + 0.01 * high.abs());
            let floor = if low >= 0.0 && low < 0.4 * high { 0.0 } else { low - room };
            (low, high) = (floor, high + room);
        }
        let left = if left < 0.05 * right { 0.0 } else { left };
        ((left, right.max(left + 1.0)), (low, high))
    }

    /// The SVG, as text that may stand in a page.
    pub fn svg(&self) -> Result<String> {
        self.settled().drawn()
    }

    fn drawn(&self) -> Result<String> {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            let ((left, right), (low, high)) = self.ranges();
            let drawn = area.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
                if self.log {
                    self.draw(&area, left..right, (low..high).log_scale())
                } else {
                    self.draw(&area, left..right, low..high)
                }
            });
            let drawn = drawn.and_then(|()| area.present().map_err(|e| e.to_string()));
            drawn.map_err(|e| Error::data("a chart", e))?;
        }
        Ok(text)
    }

    fn draw<Y>(
        &self,
        area: &DrawingArea<SVGBackend, plotters::coord::Shift>,
        x: std::ops::Range<f64>,
        y: Y,
    ) -> std::result::Result<(), String>
    where
        Y: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Y::CoordDescType: plotters::coord::ranged1d::Ranged<ValueType = f64>
            + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let text = |e: DrawingAreaErrorKind<_>| e.to_string();
        let right = x.end;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(x.clone(), y)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc(&self.y)
            .x_labels(8)
            .y_labels(8)
            .x_label_formatter(&|x| format!("{x}"))
            .y_label_formatter(&|y| label(*y))
            .label_style(("sans-serif", 12))
            .axis_desc_style(("sans-serif", 13))
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(BLACK.mix(0.04))
            .axis_style(BLACK.mix(0.5))
            .draw()
            .map_err(text)?;
        if let Some((y, name)) = &self.reference {
            let line =
                DashedLineSeries::new([(x.start, *y), (right, *y)], 5, 4, BLACK.mix(0.5).into());
            chart.draw_series(line).map_err(text)?;
            let style = ("sans-serif", 11).into_font().color(&BLACK.mix(0.6));
            let style = style.pos(Pos::new(HPos::Right, VPos::Bottom));
            let note = Text::new(name.clone(), (right, *y), style);
            chart.draw_series([note]).map_err(text)?;
        }
        for s in &self.series {
            let colour = COLOURS[s.colour % COLOURS.len()];
            let smooth = smoothed(&s.curve);
            let many = s.stroke == Stroke::Line && smooth.is_some();
            let raw = if many { colour.mix(0.25) } else { colour.mix(1.0) };
            let line = LineSeries::new(
                s.curve.iter().copied(),
                raw.stroke_width(if many { 1 } else { 2 }),
            );
            chart.draw_series(line).map_err(text)?;
            if let (true, Some(smooth)) = (many, smooth) {
                let line = LineSeries::new(smooth, colour.stroke_width(2));
                chart.draw_series(line).map_err(text)?;
            }
            if s.stroke == Stroke::Dots || s.curve.len() == 1 {
                let dots = s.curve.iter().map(|p| Circle::new(*p, 3, colour.filled()));
                chart.draw_series(dots).map_err(text)?;
            }
            let mark =
                move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3));
            let empty = std::iter::empty::<Circle<(f64, f64), i32>>();
            chart.draw_series(empty).map_err(text)?.label(&s.name).legend(mark);
        }
        if self.series.len() > 1 || self.series[0].name != self.y {
            chart
                .configure_series_labels()
                .position(self.legend_place())
                .label_font(("sans-serif", 12))
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.2))
                .draw()
                .map_err(text)?;
        }
        Ok(())
    }

    /// The place at the edge where the fewest points are.
    fn legend_place(&self) -> SeriesLabelPosition {
        let ((left, right), (low, high)) = self.ranges();
        let height = |y: f64| match self.log {
            true => (y / low).ln() / (high / low).ln(),
            false => (y - low) / (high - low),
        };
        // Left edge and lower edge of a box that a legend would take, in shares of the chart.
        let taken = (0.06 * self.series.len() as f64).clamp(0.1, 0.5);
        let places = [
            (SeriesLabelPosition::UpperRight, 0.75, 1.0 - taken),
            (SeriesLabelPosition::LowerRight, 0.75, 0.0),
            (SeriesLabelPosition::UpperLeft, 0.0, 1.0 - taken),
            (SeriesLabelPosition::LowerLeft, 0.0, 0.0),
            (SeriesLabelPosition::MiddleRight, 0.75, 0.5 - taken / 2.0),
        ];
        let crowd = |x0: f64, y0: f64| {
            let inside = |p: &&(f64, f64)| {
                let (x, y) = ((p.0 - left) / (right - left), height(p.1));
                (x0..x0 + 0.25).contains(&x) && (y0 - 0.03..y0 + taken + 0.03).contains(&y)
            };
            self.series.iter().map(|s| s.curve.iter().filter(inside).count()).sum::<usize>()
        };
        let best = places.into_iter().min_by_key(|(_, x, y)| crowd(*x, *y));
        best.expect("there are places").0
    }

    /// Logarithmic values that stay within a decade are drawn plainly: they would have one tick.
    fn settled(&self) -> Chart {
        let ys = || self.series.iter().flat_map(|s| &s.curve).map(|p| p.1);
        let (low, high) = (ys().fold(f64::INFINITY, f64::min), ys().fold(0.0, f64::max));
        Chart { log: self.log && high > 20.0 * low, ..self.clone() }
    }
}

/// A moving mean over a fortieth of the points to both sides; `None` for few points.
fn smoothed(curve: &[(f64, f64)]) -> Option<Curve> {
    if curve.len() < 120 {
        return None;
    }
    let reach = curve.len() / 40;
    let mean = |i: usize| {
        let reach = reach.min(i).min(curve.len() - 1 - i);
        let part = &curve[i - reach..=i + reach];
        part.iter().map(|p| p.1).sum::<f64>() / part.len() as f64
    };
    Some((0..curve.len()).map(|i| (curve[i].0, mean(i))).collect())
}

/// A tick label: plain where that is short.
fn label(y: f64) -> String {
    match y.abs() {
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{y:.1e}"),
        a if a >= 1e4 => format!("{:.0}k", y / 1e3),
        _ => {
            let text = format!("{y:.4}");
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_an_svg_with_title_and_legend() {
        let mut c = Chart::new("Loss <train>", "loss").log();
        let curve: Curve = (0..300).map(|i| (i as f64, 5.0 / (1.0 + i as f64))).collect();
        c.add("a & b", curve, Stroke::Line, 0);
        c.add("nothing", vec![(1.0, f64::NAN), (2.0, -1.0)], Stroke::Line, 1);
        c.add("one", vec![(10.0, 2.0)], Stroke::Dots, 1);
        assert_eq!(c.series.len(), 2, "what cannot be drawn is left out");
        c.reference = Some((0.5, "half".into()));
        let svg = c.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("Loss &lt;train&gt;") && svg.contains("a &amp; b"), "escaped");
        assert!(svg.contains("half") && svg.matches("<polyline").count() >= 3);
    }

    #[test]
    fn flat_curves_and_single_points_can_be_drawn() {
        for log in [false, true] {
            for curve in [vec![(5.0, 2.0)], vec![(0.0, 1.0), (9.0, 1.0)], vec![(1.0, 1e-12)]] {
                let mut c = Chart { log, ..Chart::new("flat", "y") };
                c.add("y", curve, Stroke::Line, 0);
                assert!(c.svg().unwrap().contains("</svg>"));
            }
        }
    }

    #[test]
    fn labels_are_short() {
        let text: Vec<String> =
            [0.0, 0.25, 12.5, 250.0, 25_000.0, 1e-5].iter().map(|y| label(*y)).collect();
        assert_eq!(text, ["0", "0.25", "12.5", "250", "25k", "1.0e-5"]);
    }
}
