//! The last screen of an audit: a table of the splits and the verdict.

use gpz_estimators::Kind;

use crate::splits::{SplitRecord, SplitsFile};
use crate::words;

/// Gap between two columns.
const GAP: &str = "  ";

#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

/// What the cells of a column have in common.
struct Shared {
    error_decimals: usize,
}

type Column = (&'static str, Align, fn(&SplitRecord, &Shared) -> String);

fn columns(file: &SplitsFile) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![
        ("split", Align::Left, |s, _| s.name.clone()),
        ("wire", Align::Right, |s, _| words::bytes(s.wire_bytes)),
        ("edge MACs", Align::Right, |s, _| words::percent(s.edge_macs_fraction)),
        ("R_c²/D", Align::Right, |s, _| words::significant(s.radius_sq.per_dim, 3)),
        ("within/total", Align::Right, |s, _| format!("{:.2}", s.variance.within_over_total())),
    ];
    // Behind a channel the effective figures are the measured ones.
    let [mse, ssim] = match file.channel().is_none() {
        true => ["MSE (effective)", "SSIM (effective)"],
        false => ["MSE", "SSIM"],
    };
    columns.push((mse, Align::Right, error_cell));
    if let Some(kind) = words::floor_kind(file) {
        columns.push((words::lower_end(kind), Align::Right, floor_cell));
    }
    columns.push((ssim, Align::Right, ssim_cell));
    columns.push(("what an attacker gets", Align::Left, |s, _| {
        words::what_an_attacker_gets(s.attack.ssim_effective).to_string()
    }));
    columns
}

/// The mean error below which no attacker comes.
fn floor_cell(split: &SplitRecord, _: &Shared) -> String {
    words::floor(split.leakage_bound.as_ref(), 2)
}

/// The effective error with its spread; `*` where the attack on this very split lags behind a deeper one.
fn error_cell(split: &SplitRecord, shared: &Shared) -> String {
    let attack = &split.attack;
    let mark = if attack.attack_limited { '*' } else { ' ' };
    format!(
        "{}{mark}",
        words::with_spread(attack.mse_effective, &attack.ci.mse_effective, shared.error_decimals)
    )
}

/// The effective SSIM; `*` where the attack on a deeper split reaches more than the one on this.
fn ssim_cell(split: &SplitRecord, _: &Shared) -> String {
    let attack = &split.attack;
    let mark = if attack.ssim_effective > attack.ssim { '*' } else { ' ' };
    format!("{:.2}{mark}", attack.ssim_effective)
}

/// The table of the splits, one line each below a heading, every line ended. Error and SSIM are the effective ones: the
/// best an attacker reaches on the split or on any deeper one, whose feature follows from it.
///
/// ```text
/// split       wire  edge MACs  R_c²/D  within/total   MSE (effective)  SSIM (effective)  what an attacker gets
/// block1  64.0 KiB      5.9 %   0.206          0.69   0.0019 ±0.0001*             0.97*  the picture
/// ```
#[must_use]
pub fn table(file: &SplitsFile) -> String {
    let decimals = |s: &SplitRecord| {
        words::spread_decimals(s.attack.mse_effective, &s.attack.ci.mse_effective)
    };
    let shared = Shared { error_decimals: file.splits.iter().map(decimals).max().unwrap_or(0) };
    let columns = columns(file);
    let mut rows: Vec<Vec<String>> =
        vec![columns.iter().map(|(title, ..)| title.to_string()).collect()];
    rows.extend(
        file.splits.iter().map(|s| columns.iter().map(|(.., cell)| cell(s, &shared)).collect()),
    );
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&columns)
            .zip(&widths)
            .map(|((cell, (_, align, _)), &width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        out.push_str(cells.join(GAP).trim_end());
        out.push('\n');
    }
    if out.contains('*') {
        out.push_str("* the attack on this split lags; the figure is what a deeper split's attack shows to be possible\n");
    }
    out
}

/// One line: `verdict: no zone — block4 leaks least, but four taps are a demonstration, not an audit`.
#[must_use]
pub fn verdict_line(file: &SplitsFile) -> String {
    format!("verdict: {}", words::verdict(file))
}

/// One line on what a declared channel and a declared prior bound; none where neither is declared.
#[must_use]
pub fn channel_line(file: &SplitsFile) -> Option<String> {
    let tau = file.prior_tau.map_or_else(String::new, |tau| format!(", prior τ = {tau}"));
    let Some(bound) = file.splits.iter().find_map(|s| s.leakage_bound.as_ref()) else {
        file.prior_tau?;
        return Some(format!("channel: none{tau} — no error is bounded: no channel is declared"));
    };
    let says = match words::floor_kind(file) {
        Some(Kind::Lower) => {
            "the lower ends hold for the mean error of any attacker whatever".to_owned()
        }
        Some(_) => {
            "the lower ends are estimates, not bounds: they rest on estimated variances".to_owned()
        }
        None => format!("no error is bounded: {}", bound.reason.as_deref().unwrap_or("no prior")),
    };
    Some(format!("channel: {}{tau} — {says}", bound.channel))
}

/// One line on which picture the figures are against under a declared prior; none without one.
#[must_use]
pub fn prior_line(file: &SplitsFile) -> Option<String> {
    file.prior_tau.map(|_| {
        "prior: errors are in the picture with its noise; SSIM is with the picture with or without it, whichever is closer".to_owned()
    })
}

/// One line on the recommended split, or on why there is none.
#[must_use]
pub fn choice_line(file: &SplitsFile) -> String {
    let chosen = file.choice.as_ref().and_then(|choice| choice.split.as_deref());
    format!("choice: {} — {}", chosen.unwrap_or("none"), file.choice_reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::assemble;
    use crate::choice::Limits;
    use crate::intervals::Resampling;
    use crate::testing::{bound, four_splits, spread};

    fn audited(splits: &[crate::assemble::SplitInput]) -> SplitsFile {
        assemble(
            "cnn4",
            (1, splits.iter().find_map(|s| s.leakage_bound.as_ref()?.prior_tau)),
            splits,
            &Limits::default(),
            &Resampling { resamples: 200, ..Resampling::default() },
        )
        .unwrap()
        .0
    }

    #[test]
    fn the_table_lines_up() {
        let text = table(&audited(&four_splits()));
        let want = "\
split       wire  edge MACs   R_c²/D  within/total    MSE (effective)  SSIM (effective)  what an attacker gets
block1  64.0 KiB      5.9 %  0.00195          0.80  0.00200 ±0.00003*             0.96*  the picture
block2  32.0 KiB     42.1 %  0.00361          0.74  0.00200 ±0.00003              0.96   the picture
block3  16.0 KiB     78.3 %  0.00703          0.72  0.00450 ±0.00007              0.86   a blurred picture
block4   8.0 KiB     99.1 %  0.00879          0.45  0.01200 ±0.00020              0.66   shape, not detail
* the attack on this split lags; the figure is what a deeper split's attack shows to be possible
";
        assert_eq!(text, want, "\n{text}");
    }

    /// Behind a channel nothing is effective, and what is bounded stands beside what was measured.
    #[test]
    fn a_channel_is_said_in_the_table_and_below() {
        let mut splits = four_splits();
        for (k, split) in splits.iter_mut().enumerate() {
            split.leakage_bound = Some(bound(Some(1e-9 * 10f64.powi(2 * k as i32)), Kind::Lower));
        }
        let text = table(&audited(&splits));
        let head = text.lines().next().unwrap();
        assert!(head.contains("  MSE  no attacker below   SSIM  what"), "{text}");
        assert!(
            text.contains("0.00600 ±0.00010      nothing of use  0.93   the picture"),
            "{text}"
        );
        assert!(
            text.contains("  1.0e-7  0.96")
                && text.contains("  0.0010  0.66")
                && !text.contains('*'),
            "{text}"
        );
        assert_eq!(
            channel_line(&audited(&splits)).as_deref(),
            Some(
                "channel: bits:1, prior τ = 0.1 — the lower ends hold for the mean error of any attacker whatever"
            )
        );
        splits[0].leakage_bound = Some(bound(Some(1e-9), Kind::Heuristic));
        assert!(table(&audited(&splits)).contains("lower end (estimate)"));
        assert!(channel_line(&audited(&splits)).is_some_and(|line| line.contains("estimates")));
        for split in &mut splits {
            split.leakage_bound = Some(bound(None, Kind::Lower));
        }
        let none = audited(&splits);
        assert!(!table(&none).contains("below"));
        assert!(channel_line(&none).is_some_and(|line| line.ends_with("bounded: why")));
        let mut neither = audited(&four_splits());
        assert_eq!((channel_line(&neither), prior_line(&neither)), (None, None));
        neither.prior_tau = Some(0.2);
        assert_eq!(
            channel_line(&neither).as_deref(),
            Some("channel: none, prior τ = 0.2 — no error is bounded: no channel is declared")
        );
        assert!(prior_line(&neither).is_some_and(|line| line.contains("with its noise")));
    }

    #[test]
    fn the_verdict_is_said_in_words() {
        let mut splits = four_splits();
        let found = audited(&splits);
        assert_eq!(
            verdict_line(&found),
            "verdict: zone at block4 — 2.67 times the error of any earlier cut, yet an attacker still gets shape, not detail; and four \
             taps are a demonstration, not an audit"
        );
        assert!(
            choice_line(&found).starts_with("choice: block4 — no limits were set and block4 is"),
            "{}",
            choice_line(&found)
        );

        splits[3].within_i = spread(300, 28.0);
        assert_eq!(
            verdict_line(&audited(&splits)),
            "verdict: no zone — block4 leaks least, but four taps are a demonstration, not an audit"
        );
        for s in &mut splits {
            s.mse_i = spread(200, 0.002);
        }
        let alike = audited(&splits);
        assert_eq!(
            verdict_line(&alike),
            "verdict: no zone — all splits leak alike, but four taps are a demonstration, not an audit"
        );
        assert!(
            choice_line(&alike).starts_with("choice: none — no limits were set and there is no"),
            "{}",
            choice_line(&alike)
        );
    }
}
