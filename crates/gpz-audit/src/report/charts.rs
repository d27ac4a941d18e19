//! The charts of the report.

use super::svg::{Anchor, Canvas, Mark, Scale, text_width, tick_label};
use crate::intervals::Interval;

/// One line of a chart over splits.
pub(super) struct Series<'a> {
    /// Name in the legend.
    pub(super) name: &'a str,
    /// One value per split; what is not finite leaves a gap.
    pub(super) values: Vec<f64>,
    /// Intervals of the values.
    pub(super) intervals: Option<Vec<Interval>>,
    /// Shape of its marks.
    pub(super) mark: Mark,
    /// Class of its line and marks.
    pub(super) class: &'a str,
    /// Whether values far below those of the other lines leave the axis alone: they are drawn at its lower edge, with an arrow and the
    /// value.
    pub(super) to_edge: bool,
}

/// How far below every other value one may lie and still stretch the axis.
const IN_SIGHT: f64 = 100.0;

/// A chart over the splits, shallow to deep.
pub(super) struct SplitChart<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What the vertical axis shows, with its unit.
    pub(super) axis: &'a str,
    pub(super) splits: &'a [&'a str],
    pub(super) series: Vec<Series<'a>>,
    /// A level to compare with, and its name.
    pub(super) floor: Option<(&'a str, f64)>,
    /// First and last split of the zone, 0-based.
    pub(super) zone: Option<(usize, usize)>,
    /// The recommended split, 0-based.
    pub(super) recommended: Option<usize>,
    pub(super) log: bool,
    pub(super) size: (f64, f64),
    /// Whether splits are named below the axis and lines in a legend.
    pub(super) full: bool,
}

impl SplitChart<'_> {
    /// The chart as SVG.
    pub(super) fn draw(&self) -> String {
        let (width, height) = self.size;
        let mut canvas = Canvas::new(width, height);
        let (left, right) = (58.0, width - 14.0);
        let (top, bottom) =
            (if self.full { 54.0 } else { 26.0 }, height - if self.full { 40.0 } else { 24.0 });
        let n = self.splits.len();
        let x = |k: usize| left + (k as f64 + 0.5) * (right - left) / n.max(1) as f64;
        let y = self.scale(bottom, top);

        if let Some((first, last)) = self.zone {
            let half = 0.5 * (right - left) / n.max(1) as f64;
            canvas.rect(
                "zone",
                x(first) - half,
                top,
                x(last) - x(first) + 2.0 * half,
                bottom - top,
            );
            if self.full {
                // Above the field: within it lie lines and their names.
                canvas.text("note", (x(first) - half + 2.0, top - 4.0), Anchor::Start, "zone");
            }
        }
        for tick in y.ticks(if self.full { 6 } else { 4 }) {
            if let Some(at) = y.at(tick) {
                canvas.line("grid", (left, at), (right, at));
                canvas.text("tick", (left - 7.0, at + 4.0), Anchor::End, &tick_label(tick));
            }
        }
        canvas.line("axis", (left, bottom), (right, bottom));
        canvas.text("axis-title", (4.0, 14.0), Anchor::Start, self.axis);
        self.name_splits(&mut canvas, &x, bottom);
        if let Some(k) = self.recommended {
            canvas.line("recommended", (x(k), top), (x(k), bottom));
            if self.full {
                let (at, anchor) = if k + 1 == n {
                    (x(k) - 6.0, Anchor::End)
                } else {
                    (x(k) + 6.0, Anchor::Start)
                };
                canvas.text("note", (at, bottom - 8.0), anchor, "recommended cut");
            }
        }
        if let Some((name, level)) = self.floor
            && let Some(at) = y.at(level)
        {
            canvas.line("floor", (left, at), (right, at));
            canvas.text("note", (left + 6.0, at - 5.0), Anchor::Start, name);
        }
        for series in &self.series {
            draw_series(&mut canvas, series, &x, &y, bottom);
        }
        if self.full {
            let entries: Vec<(&str, Mark, &str)> =
                self.series.iter().map(|s| (s.name, s.mark, s.class)).collect();
            legend(&mut canvas, left, 36.0, &entries, true);
        }
        canvas.finish(self.id, self.title, &self.description())
    }

    fn scale(&self, bottom: f64, top: f64) -> Scale {
        let values = |series: &Series<'_>| -> Vec<f64> {
            let ends = series.intervals.iter().flatten().flat_map(|i| [i.lo, i.hi]);
            series.values.iter().copied().chain(ends).collect()
        };
        let (edge, plain): (Vec<_>, Vec<_>) = self.series.iter().partition(|s| s.to_edge);
        let mut shown: Vec<f64> = plain.into_iter().flat_map(values).collect();
        shown.extend(self.floor.map(|(_, level)| level));
        let positive = shown.iter().copied().filter(|v| v.is_finite() && *v > 0.0);
        let least = positive.fold(f64::INFINITY, f64::min);
        let near = |v: &f64| *v >= least / IN_SIGHT || least.is_infinite();
        shown.extend(edge.into_iter().flat_map(values).filter(near));
        Scale::fit(shown, self.log, bottom, top)
    }

    /// Writes as many names of splits as fit side by side, always the first.
    fn name_splits(&self, canvas: &mut Canvas, x: &impl Fn(usize) -> f64, bottom: f64) {
        let widest = self.splits.iter().map(|s| text_width(s)).fold(0.0, f64::max) + 10.0;
        let step = if self.splits.len() > 1 { x(1) - x(0) } else { widest };
        let every = (widest / step).ceil().max(1.0) as usize;
        for (k, name) in self.splits.iter().enumerate() {
            canvas.line("axis", (x(k), bottom), (x(k), bottom + 4.0));
            if k % every == 0 {
                canvas.text("tick", (x(k), bottom + 17.0), Anchor::Middle, name);
            }
        }
        if self.full {
            canvas.text(
                "note",
                (self.size.0 - 14.0, self.size.1 - 4.0),
                Anchor::End,
                "shallow → deep",
            );
        }
    }

    /// The figures in words, for those who cannot see the chart.
    fn description(&self) -> String {
        let line = |s: &Series<'_>| {
            let values: Vec<String> = self
                .splits
                .iter()
                .zip(&s.values)
                .map(|(name, v)| format!("{name} {}", crate::words::significant(*v, 3)))
                .collect();
            format!("{}: {}.", s.name, values.join(", "))
        };
        let lines: Vec<String> = self.series.iter().map(line).collect();
        lines.join(" ")
    }
}

fn draw_series(
    canvas: &mut Canvas,
    series: &Series<'_>,
    x: &impl Fn(usize) -> f64,
    y: &Scale,
    bottom: f64,
) {
    let place = |v: f64| y.at(v).filter(|py| !series.to_edge || *py <= bottom);
    let at = |k: usize| series.values.get(k).and_then(|v| place(*v)).map(|py| (x(k), py));
    let points: Vec<Option<(f64, f64)>> = (0..series.values.len()).map(at).collect();
    for run in points.split(Option::is_none) {
        let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
        if run.len() > 1 {
            canvas.polyline(&format!("line {}", series.class), &run);
        }
    }
    for (k, interval) in series.intervals.iter().flatten().enumerate() {
        if let (Some(lo), Some(hi)) = (y.at(interval.lo), y.at(interval.hi)) {
            canvas.whisker(&format!("whisker {}", series.class), x(k), lo, hi);
        }
    }
    let size = if points.len() > 20 { 3.0 } else { 4.5 };
    for (k, point) in points.into_iter().enumerate() {
        match point {
            Some(point) => canvas.mark(&format!("mark {}", series.class), series.mark, point, size),
            None if series.to_edge && series.values[k].is_finite() => {
                below(canvas, series, x(k), bottom, series.values.len() <= 8, series.values[k]);
            }
            None => {}
        }
    }
}

/// An arrow to the lower edge, with the value where there is room for it.
fn below(canvas: &mut Canvas, series: &Series<'_>, x: f64, bottom: f64, named: bool, value: f64) {
    let class = format!("whisker {}", series.class);
    let tip = (x, bottom - 2.0);
    for from in [(x, bottom - 16.0), (x - 4.0, bottom - 8.0), (x + 4.0, bottom - 8.0)] {
        canvas.line(&class, from, tip);
    }
    if named {
        let text = crate::words::significant(value, 2);
        canvas.text("tick", (x, bottom - 20.0), Anchor::Middle, &text);
    }
}

/// One row of marks with names; `lines` draws the line through each mark.
fn legend(canvas: &mut Canvas, left: f64, y: f64, entries: &[(&str, Mark, &str)], lines: bool) {
    let mut x = left;
    for (name, mark, class) in entries {
        if lines {
            canvas.line(&format!("line {class}"), (x, y - 4.0), (x + 24.0, y - 4.0));
        }
        canvas.mark(&format!("mark {class}"), *mark, (x + 12.0, y - 4.0), 4.5);
        canvas.text("legend", (x + 31.0, y), Anchor::Start, name);
        x += 31.0 + text_width(name) + 22.0;
    }
}

/// One split in a chart of protection against price.
pub(super) struct Offer<'a> {
    pub(super) name: &'a str,
    /// What it costs.
    pub(super) cost: f64,
    /// The effective error it leaves.
    pub(super) error: f64,
    /// Interval of that.
    pub(super) interval: Interval,
    pub(super) recommended: bool,
}

/// Protection against price: up is safer, left is cheaper.
pub(super) struct ParetoChart<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) cost_axis: &'a str,
    /// What the error is.
    pub(super) error_axis: &'a str,
    pub(super) log_cost: bool,
    pub(super) offers: Vec<Offer<'a>>,
    pub(super) size: (f64, f64),
}

impl ParetoChart<'_> {
    /// Whether no other split is at least as cheap and leaves a larger error.
    fn is_efficient(&self, k: usize) -> bool {
        let me = &self.offers[k];
        let beats = |o: &Offer<'_>| {
            (o.cost <= me.cost && o.error > me.error) || (o.cost < me.cost && o.error >= me.error)
        };
        !self.offers.iter().any(beats)
    }

    /// The chart as SVG.
    pub(super) fn draw(&self) -> String {
        let (width, height) = self.size;
        let mut canvas = Canvas::new(width, height);
        let (left, right, top, bottom) = (58.0, width - 16.0, 50.0, height - 42.0);
        let x = Scale::fit(self.offers.iter().map(|o| o.cost), self.log_cost, left, right);
        let y = Scale::fit(
            self.offers.iter().flat_map(|o| [o.error, o.interval.lo, o.interval.hi]),
            true,
            bottom,
            top,
        );
        for (tick, at) in y.ticks(6).into_iter().filter_map(|t| Some((t, y.at(t)?))) {
            canvas.line("grid", (left, at), (right, at));
            canvas.text("tick", (left - 7.0, at + 4.0), Anchor::End, &tick_label(tick));
        }
        for (tick, at) in x.ticks(5).into_iter().filter_map(|t| Some((t, x.at(t)?))) {
            canvas.line("axis", (at, bottom), (at, bottom + 4.0));
            canvas.text("tick", (at, bottom + 17.0), Anchor::Middle, &tick_label(tick));
        }
        canvas.line("axis", (left, bottom), (right, bottom));
        canvas.text("axis-title", (4.0, 14.0), Anchor::Start, self.error_axis);
        canvas.text("axis-title", (right, height - 6.0), Anchor::End, self.cost_axis);
        legend(
            &mut canvas,
            left,
            34.0,
            &[
                ("no cheaper cut is as safe", Mark::Square, "effective"),
                ("beaten by another cut", Mark::Circle, "measured"),
            ],
            false,
        );

        let place = |o: &Offer<'_>| Some((x.at(o.cost)?, y.at(o.error)?));
        let mut front: Vec<(f64, f64)> = (0..self.offers.len())
            .filter(|&k| self.is_efficient(k))
            .filter_map(|k| place(&self.offers[k]))
            .collect();
        front.sort_by(|a, b| a.0.total_cmp(&b.0));
        let steps: Vec<(f64, f64)> =
            front
                .iter()
                .enumerate()
                .flat_map(|(i, &(px, py))| {
                    if i == 0 { vec![(px, py)] } else { vec![(px, front[i - 1].1), (px, py)] }
                })
                .collect();
        if steps.len() > 1 {
            canvas.polyline("line effective", &steps);
        }
        let mut labels = Labels::default();
        for offer in &self.offers {
            if let (Some((px, py)), Some(lo), Some(hi)) =
                (place(offer), y.at(offer.interval.lo), y.at(offer.interval.hi))
            {
                labels.block(px, py.min(hi), py.max(lo));
            }
        }
        for (k, offer) in self.offers.iter().enumerate() {
            let Some((px, py)) = place(offer) else {
                continue;
            };
            let efficient = self.is_efficient(k);
            let (mark, class) =
                if efficient { (Mark::Square, "effective") } else { (Mark::Circle, "measured") };
            if let (Some(lo), Some(hi)) = (y.at(offer.interval.lo), y.at(offer.interval.hi)) {
                canvas.whisker(&format!("whisker {class}"), px, lo, hi);
            }
            canvas.mark(&format!("mark {class}"), mark, (px, py), 4.5);
            if offer.recommended {
                canvas.mark("halo", Mark::Circle, (px, py), 10.0);
            }
            // With many splits only those worth taking are named.
            if efficient || offer.recommended || self.offers.len() <= 12 {
                let ends =
                    (y.at(offer.interval.hi).unwrap_or(py), y.at(offer.interval.lo).unwrap_or(py));
                labels.write(&mut canvas, (px, py), ends, offer.name, (left, right));
            }
        }
        canvas.finish(self.id, self.title, &self.description())
    }

    fn description(&self) -> String {
        let line = |(k, o): (usize, &Offer<'_>)| {
            let note = if self.is_efficient(k) { "" } else { ", beaten" };
            format!(
                "{} costs {} and leaves {}{note}",
                o.name,
                tick_label(o.cost),
                crate::words::significant(o.error, 3)
            )
        };
        let lines: Vec<String> = self.offers.iter().enumerate().map(line).collect();
        format!("{}. {}.", self.cost_axis, lines.join("; "))
    }
}

/// Places labels beside points so that they cover neither points nor each other.
#[derive(Default)]
struct Labels {
    /// Occupied boxes: left, top, right, bottom.
    taken: Vec<[f64; 4]>,
}

impl Labels {
    /// Keeps the box of a point with its interval free.
    fn block(&mut self, x: f64, top: f64, bottom: f64) {
        self.taken.push([x - 5.0, top - 5.0, x + 5.0, bottom + 5.0]);
    }

    /// Writes the label above, right of, left of or below the point and its interval, in the first place that is free, else
    /// nowhere.
    fn write(
        &mut self,
        canvas: &mut Canvas,
        (x, y): (f64, f64),
        (top, bottom): (f64, f64),
        text: &str,
        (left, right): (f64, f64),
    ) {
        let width = text_width(text);
        let places = [
            (x, top - 10.0, Anchor::Middle, x - width / 2.0),
            (x - 5.0, top - 10.0, Anchor::Start, x - 5.0),
            (x + 5.0, top - 10.0, Anchor::End, x + 5.0 - width),
            (x + 13.0, y + 4.0, Anchor::Start, x + 13.0),
            (x - 13.0, y + 4.0, Anchor::End, x - 13.0 - width),
            (x, bottom + 19.0, Anchor::Middle, x - width / 2.0),
        ];
        for (at, base, anchor, start) in places {
            let own = [start, base - 11.0, start + width, base + 3.0];
            let clash =
                |b: &[f64; 4]| own[0] < b[2] && b[0] < own[2] && own[1] < b[3] && b[1] < own[3];
            if start >= left && start + width <= right && !self.taken.iter().any(clash) {
                canvas.text("label", (at, base), anchor, text);
                self.taken.push(own);
                return;
            }
        }
    }
}

/// A line of a chart over epochs.
pub(super) struct Curve<'a> {
    /// Name at its right end.
    pub(super) name: &'a str,
    /// Epoch and value, by epoch; what cannot be shown leaves a gap.
    pub(super) points: Vec<(usize, f64)>,
}

/// Values over epochs, one line per split.
pub(super) struct EpochChart<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What the vertical axis shows, with its unit.
    pub(super) axis: &'a str,
    pub(super) size: (f64, f64),
    pub(super) log: bool,
}

/// Marks on a line of a chart over epochs, beyond which they run into each other.
const MARKS: usize = 24;

impl EpochChart<'_> {
    /// The chart as SVG.
    pub(super) fn draw(&self, curves: &[Curve<'_>]) -> String {
        let (width, height) = self.size;
        let mut canvas = Canvas::new(width, height);
        let epochs = || curves.iter().flat_map(|c| c.points.iter().map(|(epoch, _)| *epoch));
        let (first, last) = (epochs().min().unwrap_or(0), epochs().max().unwrap_or(0));
        let longest = curves.iter().map(|c| text_width(c.name)).fold(0.0, f64::max);
        let (left, right) = (58.0, width - 16.0 - longest.clamp(40.0, 0.3 * width));
        let (top, bottom) = (28.0, height - 40.0);
        let x =
            |e: usize| left + (e - first) as f64 * (right - left) / (last - first).max(1) as f64;
        let values = curves.iter().flat_map(|c| c.points.iter().map(|(_, value)| *value));
        let y = Scale::fit(values, self.log, bottom, top);
        for (tick, at) in y.ticks(6).into_iter().filter_map(|t| Some((t, y.at(t)?))) {
            canvas.line("grid", (left, at), (right, at));
            canvas.text("tick", (left - 7.0, at + 4.0), Anchor::End, &tick_label(tick));
        }
        canvas.line("axis", (left, bottom), (right, bottom));
        let every = (last - first + 1).div_ceil(10).max(1);
        for e in (first..=last).filter(|e| e % every == 0 || *e == first) {
            canvas.text("tick", (x(e), bottom + 17.0), Anchor::Middle, &e.to_string());
        }
        canvas.text("axis-title", (4.0, 14.0), Anchor::Start, self.axis);
        canvas.text("axis-title", (right, height - 6.0), Anchor::End, "epoch");
        let styles = [
            (Mark::Circle, "measured"),
            (Mark::Square, "effective"),
            (Mark::Diamond, "third"),
            (Mark::Triangle, "fourth"),
        ];
        let mut ends = Vec::new();
        for (k, curve) in curves.iter().enumerate() {
            let (mark, class) = styles[k % styles.len()];
            let points: Vec<Option<(f64, f64)>> =
                curve.points.iter().map(|(e, v)| Some((x(*e), y.at(*v)?))).collect();
            for run in points.split(Option::is_none) {
                let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
                if run.len() > 1 {
                    canvas.polyline(&format!("line {class}"), &run);
                }
            }
            let between = points.len().div_ceil(MARKS).max(1);
            // Marks of neighbouring lines stand at different epochs, or lines that run together could not be told apart.
            let offset = k % between;
            for point in points.iter().skip(offset).step_by(between).flatten() {
                canvas.mark(&format!("mark {class}"), mark, *point, 3.0);
            }
            if let Some((px, py)) = points.iter().rev().flatten().next() {
                ends.push((*py, *px, curve.name));
            }
        }
        // From the top down, each name at its line's end or as far below as the one above it makes necessary.
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut above = f64::NEG_INFINITY;
        for (py, px, name) in ends {
            above = (py + 4.0).max(above + 13.0);
            canvas.text("label", (px + 10.0, above), Anchor::Start, name);
        }
        let lines = if curves.len() == 1 { "line" } else { "lines" };
        let said: Vec<String> = curves.iter().map(|c| ends_in_words(c)).collect();
        let description = format!("{} {lines} over epochs. {}", curves.len(), said.join(" "));
        canvas.finish(self.id, self.title, &description)
    }
}

fn ends_in_words(curve: &Curve<'_>) -> String {
    match curve.points[..] {
        [(_, from), .., (epoch, to)] => format!(
            "{}: from {} to {} in epoch {epoch}.",
            curve.name,
            crate::words::significant(from, 3),
            crate::words::significant(to, 3)
        ),
        _ => String::new(),
    }
}
