//! How figures and findings are put into words, the same in the terminal and in the report.

use gpz_estimators::Kind;

use crate::intervals::Interval;
use crate::splits::{LeakageBound, SplitRecord, SplitsFile};
use crate::zone::Verdict;

/// SSIM from which on a reconstruction counts as such, best first, and what it is called.
///
/// Below 0.3 nobody recognises the picture (Liu et al., arXiv 2506.15412). The other marks are this program's own reading
/// of SSIM on small pictures; they put a number into words and decide nothing.
pub const ATTACKER_GETS: [(f64, &str); 4] = [
    (0.9, "the picture"),
    (0.75, "a blurred picture"),
    (0.5, "shape, not detail"),
    (0.3, "traces of the shape"),
];

/// SSIM from which on a picture counts as recognisable.
pub const RECOGNISABLE: f64 = 0.3;

/// What an attacker gets who reaches this SSIM: the effective one, the best on a split or any deeper one, where words are of a split; that of one attack
/// where they are of its pictures.
#[must_use]
pub fn what_an_attacker_gets(ssim: f64) -> &'static str {
    if ssim.is_nan() {
        return "not known";
    }
    ATTACKER_GETS
        .iter()
        .find(|(from, _)| ssim >= *from)
        .map_or("nothing recognisable", |(_, words)| words)
}

/// The word for a kind of estimate, as files have it.
#[must_use]
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Exact => "exact",
        Kind::Upper => "upper",
        Kind::Lower => "lower",
        Kind::Heuristic => "heuristic",
    }
}

/// What the lower ends of the attackers' error are, the weakest of their kinds; none where no split has one.
#[must_use]
pub fn floor_kind(file: &SplitsFile) -> Option<Kind> {
    let bounds = file.splits.iter().filter_map(|s| s.leakage_bound.as_ref());
    let kinds: Vec<Kind> = bounds.filter_map(|bound| bound.mse_floor_kind).collect();
    let proven = kinds.iter().all(|kind| *kind == Kind::Lower);
    (!kinds.is_empty()).then_some(if proven { Kind::Lower } else { Kind::Heuristic })
}

/// Name of a lower end of the attackers' error.
#[must_use]
pub fn lower_end(kind: Kind) -> &'static str {
    if kind == Kind::Lower { "no attacker below" } else { "lower end (estimate)" }
}

/// Share of τ² below which a lower end says nothing that anybody could use.
const OF_USE: f64 = 1e-6;

/// The lower end of an attacker's mean error at a split, where it says anything of use: at least a millionth of the prior's own τ².
#[must_use]
pub fn useful_floor(bound: &LeakageBound) -> Option<f64> {
    let (floor, tau) = (bound.mse_floor?, bound.prior_tau?);
    (floor >= OF_USE * tau * tau).then_some(floor)
}

/// The lower end as a cell shows it, to so many digits.
#[must_use]
pub fn floor(bound: Option<&LeakageBound>, digits: usize) -> String {
    match bound.filter(|bound| bound.mse_floor.is_some()).map(useful_floor) {
        None => "none".to_owned(),
        Some(None) => "nothing of use".to_owned(),
        Some(Some(floor)) => significant(floor, digits),
    }
}

/// Reads a number of bytes as people write it: `4GiB`, `512 MiB`, `1.5GB`; without a unit, MiB.
///
/// # Errors
/// What is possible, in words.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let rule = || format!("{text:?} is no amount of memory; 4GiB, 512MiB or a number of MiB is");
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let value: f64 = number.parse().map_err(|_| rule())?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "mib" | "m" => 2f64.powi(20),
        "b" => 1.0,
        "kib" | "k" => 2f64.powi(10),
        "gib" | "g" => 2f64.powi(30),
        "tib" | "t" => 2f64.powi(40),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(rule()),
    };
    let bytes = value * factor;
    if bytes >= 1.0 && bytes < 2f64.powi(62) { Ok(bytes as u64) } else { Err(rule()) }
}

/// A number of bytes in the unit people read, B to TiB.
#[must_use]
pub fn bytes(n: impl Into<u128>) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let n = n.into();
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A shape as `[64, 8, 8]` reads in running text: `64×8×8`.
#[must_use]
pub fn shape(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// A count with its noun, which takes an s unless it is one: `1 thread`, `2 threads`.
#[must_use]
pub fn counted(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n as u64), if n == 1 { "" } else { "s" })
}

/// A fraction in per cent with one decimal, two below 1 %.
#[must_use]
pub fn percent(fraction: f64) -> String {
    let percent = 100.0 * fraction;
    if percent.abs() < 1.0 && percent != 0.0 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// A count with a narrow gap between its thousands.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A number with `digits` significant digits, without an exponent from 1e-6 to 1e7.
#[must_use]
pub fn significant(value: f64, digits: usize) -> String {
    if let Some(name) = crate::number::non_finite_name(value) {
        return name.to_string();
    }
    if value == 0.0 {
        return "0".to_string();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-6..7).contains(&exponent) {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    format!("{value:.*}", usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0))
}

/// Decimals at which an error and the half width of its interval read well: one significant digit of the half width, two to
/// four of the error.
#[must_use]
pub fn spread_decimals(value: f64, ci: &Interval) -> usize {
    let decimals =
        |v: f64, digits: i32| (digits - 1 - v.log10().floor() as i32).clamp(0, 12) as usize;
    let positive = |v: f64| v.is_finite() && v > 0.0;
    match (positive(value), positive(ci.half_width())) {
        (false, _) => 0,
        (true, false) => decimals(value, 2),
        (true, true) => decimals(ci.half_width(), 1).clamp(decimals(value, 2), decimals(value, 4)),
    }
}

/// An error with the half width of its interval, both to `decimals`: `0.0019 ±0.0001`.
#[must_use]
pub fn with_spread(value: f64, ci: &Interval, decimals: usize) -> String {
    let half = ci.half_width();
    if !(value.is_finite() && half.is_finite()) {
        return significant(value, 3);
    }
    format!("{value:.decimals$} ±{half:.decimals$}")
}

/// Small counts as words.
#[must_use]
pub fn count(n: usize) -> String {
    const WORDS: [&str; 13] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    WORDS.get(n).map_or_else(|| n.to_string(), |w| w.to_string())
}

/// `n` taps in words, with the noun.
#[must_use]
pub fn taps(n: usize) -> String {
    format!("{} {}", count(n), if n == 1 { "tap" } else { "taps" })
}

/// The verdict without its prefix: `no zone — block4 leaks least, but four taps are a demonstration, not an audit`.
#[must_use]
pub fn verdict(file: &SplitsFile) -> String {
    let zone = &file.zone;
    let n = zone.evidence.taps;
    let few = |joint: &str| match (zone.evidence.few_taps, n) {
        (false, _) => String::new(),
        (true, 1) => format!("{joint} one tap is a demonstration, not an audit"),
        (true, n) => format!("{joint} {} are a demonstration, not an audit", taps(n)),
    };
    match (&zone.verdict, &zone.first_split, &zone.last_split) {
        (Verdict::Zone, Some(first), Some(last)) => {
            let at = if first == last {
                format!("at {first}")
            } else {
                format!("from {first} to {last}")
            };
            let (ratio, ssim) = zone_figures(file).unwrap_or((f64::NAN, f64::NAN));
            let left = if ssim < RECOGNISABLE {
                "and an attacker gets"
            } else {
                "yet an attacker still gets"
            };
            format!(
                "zone {at} — {} times the error of any earlier cut, {left} {}{}",
                significant(ratio, 3),
                what_an_attacker_gets(ssim),
                few("; and")
            )
        }
        _ => match most_resistant(file) {
            Some(name) => format!("no zone — {name} leaks least{}", few(", but")),
            None => format!("no zone — all splits leak alike{}", few(", but")),
        },
    }
}

/// What holds in all of the zone: how many times the effective error of any earlier split at least, and the best SSIM of an attacker.
/// Where deeper features follow from shallower ones, both are those of its first split.
pub(crate) fn zone_figures(file: &SplitsFile) -> Option<(f64, f64)> {
    let position = |name: &Option<String>| {
        let name = name.as_deref()?;
        file.splits.iter().position(|s| s.name == name)
    };
    let (first, last) = (position(&file.zone.first_split)?, position(&file.zone.last_split)?);
    let error = |s: &SplitRecord| s.attack.mse_effective;
    let before = file.splits[..first].iter().map(error).fold(0.0, f64::max);
    let zone = file.splits.get(first..=last)?;
    let least = zone.iter().map(error).fold(f64::INFINITY, f64::min);
    let ssim = zone.iter().map(|s| s.attack.ssim_effective).fold(f64::NAN, f64::max);
    Some((least / before, ssim))
}

/// The split with the largest effective error, if its interval lies above the smallest one's.
fn most_resistant(file: &SplitsFile) -> Option<&str> {
    let error = |k: usize| file.splits[k].attack.mse_effective;
    let best =
        (0..file.splits.len()).max_by(|&a, &b| error(a).total_cmp(&error(b)).then(b.cmp(&a)))?;
    let least = (0..file.splits.len()).min_by(|&a, &b| error(a).total_cmp(&error(b)))?;
    let interval = |k: usize| &file.splits[k].attack.ci.mse_effective;
    let told_apart = interval(best).is_above(interval(least));
    told_apart.then_some(file.splits[best].name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read() {
        for (text, bytes) in
            [("4GiB", 4 << 30), ("512", 512 << 20), ("1.5 gib", 3 << 29), ("2GB", 2_000_000_000)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "GiB", "-1", "0", "1e99", "4 parsecs", "nan", "inf", "1..2", "9999999999TiB"]
        {
            assert!(parse_bytes(text).is_err_and(|rule| rule.contains("4GiB")), "{text}");
        }
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [
                bytes(0u64),
                bytes(1023u64),
                bytes(65_536u64),
                bytes(3u64 << 19),
                bytes(3u64 << 30),
                bytes(1u128 << 60)
            ],
            ["0 B", "1023 B", "64.0 KiB", "1.5 MiB", "3.0 GiB", "1048576.0 TiB"]
        );
        assert_eq!(shape(&[64, 8, 8]), "64×8×8");
        assert_eq!([counted(1, "thread"), counted(2000, "image")], ["1 thread", "2,000 images"]);
        assert_eq!(percent(0.0589), "5.9 %");
        assert_eq!(percent(0.00058), "0.06 %");
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(significant(0.20649, 3), "0.206");
        assert_eq!(significant(41.26, 3), "41.3");
        assert_eq!(significant(1234.6, 3), "1235");
        assert_eq!(significant(1.5e-9, 3), "1.50e-9");
        assert_eq!(significant(f64::NEG_INFINITY, 3), "-inf");
        assert_eq!(significant(0.0, 3), "0");
    }

    #[test]
    fn errors_show_as_many_digits_as_their_spread_allows() {
        let spread = |value: f64, half: f64| {
            let ci = Interval { lo: value - half, hi: value + half };
            with_spread(value, &ci, spread_decimals(value, &ci))
        };
        assert_eq!(spread(0.001934, 0.00012), "0.0019 ±0.0001");
        assert_eq!(spread(0.01134, 0.00038), "0.0113 ±0.0004");
        assert_eq!(spread(0.004, 0.02), "0.0040 ±0.0200");
        assert_eq!(spread(0.0, 0.0), "0 ±0");
        assert_eq!(spread(f64::NAN, 0.1), "nan");
    }

    /// What has underflowed, or nearly so, is no certainty worth a word.
    #[test]
    fn lower_ends_of_no_use_are_called_so() {
        use crate::testing::bound;
        for (value, want) in
            [(Some(0.0), "nothing of use"), (Some(9e-9), "nothing of use"), (Some(2e-8), "2.0e-8")]
        {
            let bound = bound(value, Kind::Lower);
            assert_eq!(floor(Some(&bound), 2), want);
            let said = bound.in_words();
            assert_eq!(
                said.contains("no attacker's mean error is below 2.00e-8"),
                value == Some(2e-8)
            );
            assert_eq!(said.contains("nothing of use is proven"), value != Some(2e-8), "{said}");
        }
        assert_eq!(floor(None, 2), "none");
        assert!(
            bound(Some(0.0), Kind::Heuristic).in_words().contains("nothing of use is estimated")
        );
    }

    #[test]
    fn ssim_is_put_into_words() {
        let words: Vec<&str> = [1.0, 0.9, 0.89, 0.71, 0.4, 0.29, -0.2]
            .into_iter()
            .map(what_an_attacker_gets)
            .collect();
        let nothing = "nothing recognisable";
        let want = [
            "the picture",
            "the picture",
            "a blurred picture",
            "shape, not detail",
            "traces of the shape",
            nothing,
            nothing,
        ];
        assert_eq!(words, want);
        assert_eq!(what_an_attacker_gets(f64::NAN), "not known");
    }
}
