//! A small writer of SVG: escaped text, rounded coordinates, scales with round ticks, marks that differ in shape.

use std::fmt::Write;

/// An SVG picture under construction. Colours and fonts come from the page's style sheet by class.
pub(super) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text is anchored.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Shape of a mark.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mark {
    Circle,
    Square,
    Diamond,
    Triangle,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = write!(
            self.body,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    pub(super) fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let _ = write!(
            self.body,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        );
    }

    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let list: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(self.body, r#"<polyline class="{class}" points="{}"/>"#, list.join(" "));
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = write!(
            self.body,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    pub(super) fn mark(&mut self, class: &str, mark: Mark, (x, y): (f64, f64), r: f64) {
        let path = match mark {
            Mark::Circle => {
                let _ = write!(
                    self.body,
                    r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r:.1}"/>"#
                );
                return;
            }
            Mark::Square => [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)].as_slice(),
            Mark::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            Mark::Triangle => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        };
        let points: Vec<String> =
            path.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + r * dx, y + r * dy)).collect();
        let _ = write!(self.body, r#"<polygon class="{class}" points="{}"/>"#, points.join(" "));
    }

    /// A vertical interval with short ends.
    pub(super) fn whisker(&mut self, class: &str, x: f64, y1: f64, y2: f64) {
        self.line(class, (x, y1), (x, y2));
        for y in [y1, y2] {
            self.line(class, (x - 4.0, y), (x + 4.0, y));
        }
    }

    /// The finished picture. `id` must be unique on the page; `title` and `description` are read to those who cannot see it.
    pub(super) fn finish(self, id: &str, title: &str, description: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            r#"<svg class="chart" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-labelledby="{id}-t {id}-d" xmlns="http://www.w3.org/2000/svg"><title id="{id}-t">{}</title><desc id="{id}-d">{}</desc>{body}</svg>"#,
            escape(title),
            escape(description)
        )
    }
}

/// Text as it may stand between tags or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Maps values to pixels, evenly or by their logarithm.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    log: bool,
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale that shows all finite `values` with some room around them, drawn from pixel `from` to pixel `to`. A logarithmic one
    /// passes over values that are not positive; without any value left the scale is linear from 0 to 1.
    pub(super) fn fit(
        values: impl IntoIterator<Item = f64>,
        log: bool,
        from: f64,
        to: f64,
    ) -> Self {
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.into_iter().filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        if lo > hi {
            return Self { log: false, lo: 0.0, hi: 1.0, from, to };
        }
        if log {
            let room = (hi / lo).powf(0.06).max(1.15);
            return Self { log, lo: lo / room, hi: hi * room, from, to };
        }
        // A scale of counts or shares starts at zero; differences are judged against the whole.
        let (lo, hi) = (lo.min(0.0), hi.max(0.0));
        let room = if hi > lo { 0.08 * (hi - lo) } else { 1.0 };
        Self { log, lo: if lo < 0.0 { lo - room } else { 0.0 }, hi: hi + room, from, to }
    }

    /// The pixel of a value; `None` if it cannot be shown.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        let share = if self.log {
            (value / self.lo).ln() / (self.hi / self.lo).ln()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        };
        let pixel = self.from + share * (self.to - self.from);
        (pixel.is_finite() && (!self.log || value > 0.0)).then_some(pixel)
    }

    /// Round values inside the scale, about `wanted` of them.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        if !self.log {
            return even_ticks(self.lo, self.hi, wanted);
        }
        let decades = (self.lo.log10().floor() as i32)..=(self.hi.log10().ceil() as i32);
        let all = |steps: &[f64]| -> Vec<f64> {
            let each = |d: i32| steps.iter().map(move |s| s * 10f64.powi(d));
            decades.clone().flat_map(each).filter(|v| (self.lo..=self.hi).contains(v)).collect()
        };
        // From coarse to fine, the finest that is not too dense; less than a third of a decade is nearly even.
        let sets: [&[f64]; 3] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
        let mut best: Vec<f64> = Vec::new();
        for ticks in sets.iter().map(|s| all(s)).filter(|t| t.len() >= 2) {
            if best.is_empty() || ticks.len() <= wanted {
                best = ticks;
            }
        }
        if best.is_empty() { even_ticks(self.lo, self.hi, wanted) } else { best }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten between `lo` and `hi`, about `wanted` of them.
fn even_ticks(lo: f64, hi: f64, wanted: usize) -> Vec<f64> {
    let raw = (hi - lo) / wanted.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|s| s * power).find(|s| *s >= raw).unwrap_or(raw);
    let (first, last) = ((lo / step).ceil() as i64, (hi / step).floor() as i64);
    (first..=last).map(|k| k as f64 * step).collect()
}

/// A tick's label: as few digits as the value needs.
pub(super) fn tick_label(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..6).contains(&magnitude) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.*}", usize::try_from(3 - magnitude).unwrap_or(0));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// Rough width of a text in pixels, at the charts' font size.
pub(super) fn text_width(text: &str) -> f64 {
    6.7 * text.chars().count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.text("t", (1.0, 2.0), Anchor::Start, "<a href='x'>&\"");
        let svg = canvas.finish("id", "<b>", "\"d\"");
        assert!(svg.contains("&lt;a href=&#39;x&#39;&gt;&amp;&quot;</text>"), "{svg}");
        assert!(
            svg.contains(
                r#"<title id="id-t">&lt;b&gt;</title><desc id="id-d">&quot;d&quot;</desc>"#
            ),
            "{svg}"
        );
    }

    #[test]
    fn scales_map_their_ends_and_refuse_what_they_cannot_show() {
        let linear = Scale::fit([2.0, 10.0, f64::NAN], false, 100.0, 0.0);
        assert_eq!(linear.at(0.0), Some(100.0));
        assert!(linear.at(10.0).is_some_and(|y| y > 0.0 && y < 15.0));
        assert_eq!(linear.at(f64::INFINITY), None);
        let log = Scale::fit([0.001, 0.1, 0.0, -1.0], true, 100.0, 0.0);
        let (a, b, c) = (log.at(0.001).unwrap(), log.at(0.01).unwrap(), log.at(0.1).unwrap());
        assert!((a - 2.0 * b + c).abs() < 1e-9 && a > b && b > c);
        assert_eq!((log.at(0.0), log.at(-1.0)), (None, None));
        let empty = Scale::fit([f64::NAN], true, 0.0, 1.0);
        assert_eq!(empty.at(0.5), Some(0.5));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::fit([0.0, 1.0], false, 0.0, 1.0).ticks(5), [0.0, 0.5, 1.0]);
        assert_eq!(
            Scale::fit([0.0019, 0.09], true, 0.0, 1.0).ticks(6),
            [0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
        );
        assert_eq!(Scale::fit([1e-6, 1e3], true, 0.0, 1.0).ticks(6).len(), 10);
        let narrow = Scale::fit([0.0101, 0.0102], true, 0.0, 1.0).ticks(6);
        assert!(!narrow.is_empty() && narrow.len() <= 8, "{narrow:?}");
        let labels: Vec<String> =
            [0.0, 0.002, 0.5, 15.0, 1e-7, 2e6].into_iter().map(tick_label).collect();
        assert_eq!(labels, ["0", "0.002", "0.5", "15", "1e-7", "2e6"]);
    }
}
