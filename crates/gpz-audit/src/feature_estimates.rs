//! Estimates of features in a file that want rows side by side, and what a declared channel lets through of them.
//!
//! Class geometry streams; these do not. They are taken from evenly spaced rows, as many as [`Limits`] allow, and whoever reads them is
//! told how many. An estimator is one entry of `table`.

mod table;

use std::fmt;

use gpz_estimators::channel::{
    Cast, Channel, Spread, code_entropy_nats, code_entropy_sum_nats, lattice_entropy_upper_nats,
    noise_information_classes_nats, noise_information_full_nats,
};
use gpz_estimators::{ClassGeometry, Error, Estimate, Estimated, Kind, NotIdentifiable, RowReport};
use ndarray::{Array2, ArrayView2};
use serde::Serialize;

use crate::declared::{Declared, Sweep};
use crate::feature_statistics::{Quantity, Real, Value, estimated};
use table::{Answer, Rows};

/// Operations from which on an estimator is left out: some minutes of two cores.
const MOST_OPERATIONS: f64 = 1e12;

/// How much may be spent on what does not stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows taken at most, evenly spaced.
    pub rows: usize,
    /// Bytes held at most, the rows among them with a quarter at most.
    pub bytes: u64,
    /// Whether what streams, the moments of the classes, must fit as well; otherwise it may take what the machine has.
    pub strict: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 5000, bytes: 2 << 30, strict: false }
    }
}

/// What is asked of features.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// What stands between the feature and the wire.
    pub channel: Declared,
    /// Channels to compare beside it.
    pub sweep: Sweep,
    /// What may be spent.
    pub limits: Limits,
}

/// What one of several channels lets through.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The channel.
    pub channel: Declared,
    /// The figures.
    pub estimates: Vec<Quantity>,
    /// What is not given, and why.
    pub not_estimated: Vec<NotEstimated>,
}

/// A quantity that is not given, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotEstimated {
    /// Its name.
    pub quantity: &'static str,
    /// Why.
    pub reason: String,
}

/// What was found and what was not.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// The file's label of each class, where classes are counted.
    pub(crate) classes: Vec<usize>,
    pub(crate) found: Vec<Quantity>,
    pub(crate) not: Vec<NotEstimated>,
}

impl Findings {
    pub(crate) fn skip(&mut self, quantity: &'static str, reason: impl fmt::Display) {
        self.not.push(NotEstimated { quantity, reason: reason.to_string() });
    }

    pub(crate) fn add(
        &mut self,
        quantity: &'static str,
        care: &[String],
        answer: Result<Estimated, Error>,
    ) {
        match answer {
            Ok(Ok(estimate)) => {
                let mut found = estimated(quantity, &estimate);
                found.flags.extend_from_slice(care);
                self.found.push(found);
            }
            Ok(Err(reason)) => self.skip(quantity, reason.with_labels(&self.classes)),
            Err(error) => self.skip(quantity, error),
        }
    }

    /// By how much one bound lies above a closer one, in nats; of infinities there is none.
    pub(crate) fn gap(&mut self, quantity: &'static str, bound: &Estimate, closer: &Estimate) {
        let gap = bound.value - closer.value;
        if gap.is_nan() {
            return self.skip(quantity, "both bounds are infinite");
        }
        let value = Value::Number(Real(gap));
        self.found.push(Quantity::new(quantity, value, Kind::Heuristic));
    }

    /// What one estimator says of its quantities.
    fn extend(
        &mut self,
        quantities: &[&'static str],
        care: &[String],
        answers: Result<Vec<Answer>, String>,
    ) {
        match answers {
            Ok(answers) => {
                for (quantity, answer) in quantities.iter().zip(answers) {
                    match answer {
                        Answer::Estimated(estimated) => self.add(quantity, care, Ok(estimated)),
                        Answer::Exact(value) => self.exact(quantity, care, value),
                    }
                }
            }
            Err(reason) => quantities.iter().for_each(|quantity| self.skip(quantity, &reason)),
        }
    }

    fn exact(&mut self, quantity: &'static str, care: &[String], value: f64) {
        self.found.push(Quantity { flags: care.to_vec(), ..Quantity::exact(quantity, value) });
    }
}

/// Evenly spaced rows of a file, gathered while it is read, and the range of all its elements.
pub(crate) struct Sample {
    values: Vec<f64>,
    width: usize,
    labels: Vec<usize>,
    /// Rows to take, of how many.
    take: usize,
    of: usize,
    range: (f64, f64),
}

impl Sample {
    pub(crate) fn new(of: usize, width: usize, limits: Limits) -> Self {
        let take = Self::rows_of(of, width, limits);
        let (values, labels) = (Vec::new(), Vec::new());
        Self { values, width, labels, take, of, range: (f64::INFINITY, f64::NEG_INFINITY) }
    }

    /// How many of the rows are taken.
    pub(crate) fn rows_of(of: usize, width: usize, limits: Limits) -> usize {
        let row = (width as u64).saturating_mul(8);
        let fit = usize::try_from(limits.bytes / 4 / row).unwrap_or(usize::MAX);
        of.min(limits.rows).min(fit)
    }

    /// Takes its share of the rows that begin with row `first` of the file.
    pub(crate) fn see<T: Copy + Into<f64>>(
        &mut self,
        first: usize,
        rows: ArrayView2<'_, T>,
        labels: &[usize],
    ) {
        let before = |row: usize| (row as u128 * self.take as u128 / self.of as u128) as usize;
        for (offset, row) in rows.rows().into_iter().enumerate() {
            for value in row {
                let value: f64 = (*value).into();
                self.range = (self.range.0.min(value), self.range.1.max(value));
            }
            if before(first + offset) < before(first + offset + 1) {
                self.values.extend(row.iter().map(|&value| -> f64 { value.into() }));
                self.labels.push(labels[offset]);
            }
        }
    }

    fn rows(&self) -> Result<ArrayView2<'_, f64>, Error> {
        let shape = (self.labels.len(), self.width);
        ArrayView2::from_shape(shape, &self.values).map_err(|_| Error::Shape {
            what: "sampled rows",
            found: vec![self.values.len()],
            expected: vec![shape.0, shape.1],
        })
    }

    /// What a reader must know of the rows an estimate rests on.
    fn care(&self) -> Vec<String> {
        if self.take == self.of {
            return Vec::new();
        }
        vec![format!("rows:{}-of-{}", self.take, self.of)]
    }
}

/// Bytes and operations of the full covariance bound under noise.
fn full_cost(n: f64, d: f64) -> (f64, f64) {
    let side = n.min(d);
    (8.0 * (n * d + 2.0 * side * side), 2.0 * n * d * side + side * side * side)
}

/// Every estimate of the table on the sampled rows, and what a channel lets through of all rows; then what each channel of a sweep does.
///
/// - `geometry`: of all rows; `classes`: of the sample's labels, none without labels
pub(crate) fn estimate(
    findings: &mut Findings,
    sample: &Sample,
    geometry: &ClassGeometry,
    classes: Option<usize>,
    request: &Request,
) -> Result<Vec<SweepPoint>, Error> {
    let (declared, limits) = (request.channel, request.limits);
    let (care, affordable) = (sample.care(), |cost: fn(f64, f64) -> (f64, f64)| {
        let (bytes, operations) = cost(sample.take as f64, sample.width as f64);
        let held = bytes + 8.0 * sample.take as f64 * sample.width as f64;
        if held > limits.bytes as f64 {
            return Err(format!(
                "it would hold {} MiB of the {} allowed; allow more, or pool the features",
                (held / 1_048_576.0).ceil(),
                limits.bytes >> 20
            ));
        }
        if operations > MOST_OPERATIONS {
            return Err(format!("{operations:.0e} operations are too many; pool the features"));
        }
        Ok(())
    });
    if sample.take == 0 {
        let reason = match limits.rows {
            0 => "no rows were asked for",
            _ => "not one row fits into a quarter of the memory allowed; allow more",
        };
        findings.skip("rows", reason);
    } else {
        let rows = sample.rows()?;
        let report = RowReport::of(rows)?;
        findings.exact("duplicate_rows", &care, report.duplicate_rows as f64);
        findings.exact("zero_fraction", &care, report.zero_fraction);
        findings.exact("dead_units", &care, report.dead_units.len() as f64);
        let labels = classes.map(|classes| (&sample.labels[..], classes));
        let given = Rows { rows, labels, report: &report };
        for estimator in table::estimators().filter(|estimator| (estimator.applies)(&given)) {
            let answers = affordable(estimator.cost)
                .and_then(|()| (estimator.estimate)(&given).map_err(|error| error.to_string()));
            findings.extend(estimator.quantities, &care, answers);
        }
    }
    let afford = affordable(full_cost);
    let labelled = classes.is_some();
    let names = findings.classes.clone();
    through(findings, sample, geometry, labelled, declared, afford.clone());
    let point = |&channel: &Declared| {
        let mut findings = Findings { classes: names.clone(), ..Findings::default() };
        through(&mut findings, sample, geometry, labelled, channel, afford.clone());
        let Findings { found: estimates, not: not_estimated, .. } = findings;
        SweepPoint { channel, estimates, not_estimated }
    };
    Ok(request.sweep.channels().iter().map(point).collect())
}

/// What the channel lets through at most.
fn through(
    findings: &mut Findings,
    sample: &Sample,
    geometry: &ClassGeometry,
    labelled: bool,
    declared: Declared,
    afford_full: Result<(), String>,
) {
    const INFORMATION: &str = "information_upper_nats";
    let channel = match declared.channel(sample.range) {
        Ok(channel) => channel,
        Err(error) => return findings.skip(INFORMATION, error),
    };
    let care = sample.care();
    match channel {
        Channel::None => findings.skip(INFORMATION, NotIdentifiable::NoChannel),
        Channel::Noise { sigma } => {
            match Spread::of(geometry) {
                Err(reason) => findings.skip(INFORMATION, reason),
                Ok(spread) => {
                    let diagonal = spread.information_nats(sigma);
                    findings.add(INFORMATION, &[], diagonal.map(Ok));
                    let isotropic = spread.isotropic_information_nats(sigma);
                    findings.add("information_upper_iso_nats", &[], isotropic.map(Ok));
                }
            }
            if labelled {
                let classes = noise_information_classes_nats(geometry, sigma);
                findings.add("information_upper_mixture_nats", &[], classes);
            }
            let full = |rows| noise_information_full_nats(rows, sigma);
            let (rows, width) = (sample.take, sample.width);
            match afford_full {
                // Directions that no row shows would count as if nothing went through them.
                Ok(()) if rows <= width => findings.skip(
                    "information_upper_full_nats",
                    format!("{rows} rows do not show a covariance of {width} dimensions"),
                ),
                Ok(()) => {
                    findings.add(
                        "information_upper_full_nats",
                        &care,
                        sample.rows().and_then(full),
                    );
                }
                Err(reason) => findings.skip("information_upper_full_nats", reason),
            }
        }
        channel => {
            // A range that follows from what is sent would have to be sent as well: the bound is for other rows over this one.
            let range = ["range-of-these-rows".to_owned()];
            let ranged = matches!(channel, Channel::Bits(_) | Channel::Cast(Cast::Int8 { .. }));
            let flags = if ranged { &range[..] } else { &[] };
            findings.add(INFORMATION, flags, channel.limit_nats(sample.width));
            if let Channel::Bits(quantiser) = channel {
                findings.exact("channel_low", &range, quantiser.range().0);
                findings.exact("channel_high", &range, quantiser.range().1);
                findings.exact("channel_step", &range, quantiser.step());
            }
            if let Channel::Cast(Cast::Int8 { scale }) = channel {
                findings.exact("channel_step", &range, scale);
            }
            let codes = sample.rows().and_then(|rows| channel.codes(rows));
            let Ok(Some(codes)) = codes else {
                return findings.skip("plugin_entropy_joint", "there are no rows to look at");
            };
            code_lines(
                findings,
                &codes,
                &care,
                !matches!(channel, Channel::Cast(Cast::Bf16 | Cast::F16)),
            );
        }
    }
}

fn code_lines(findings: &mut Findings, codes: &Array2<i64>, care: &[String], lattice: bool) {
    let just = |estimate: Result<Estimate, Error>| estimate.map(Ok);
    findings.add("plugin_entropy_joint", care, just(code_entropy_nats(codes.view())));
    findings.add("plugin_entropy_sum", care, just(code_entropy_sum_nats(codes.view())));
    if lattice {
        let upper = lattice_entropy_upper_nats(codes.view());
        findings.add("lattice_entropy_upper_nats", care, upper);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_evenly_and_no_more_than_allowed() {
        let rows = Array2::from_shape_fn((10, 2), |(i, j)| (10 * i + j) as f32);
        let take = |limits| {
            let mut sample = Sample::new(10, 2, limits);
            sample.see(0, rows.view().split_at(ndarray::Axis(0), 7).0, &[0; 7]);
            sample.see(7, rows.view().split_at(ndarray::Axis(0), 7).1, &[1; 3]);
            assert_eq!(sample.range, (0.0, 91.0));
            sample
        };
        let some = take(Limits { rows: 4, bytes: 1 << 20, ..Limits::default() });
        assert_eq!(
            some.rows().map(|rows| rows.column(0).to_vec()),
            Ok(vec![20.0, 40.0, 70.0, 90.0])
        );
        assert_eq!(
            (some.labels.as_slice(), some.care()),
            (&[0, 0, 1, 1][..], vec!["rows:4-of-10".to_owned()])
        );
        let all = take(Limits { rows: 40, bytes: 1 << 20, ..Limits::default() });
        assert_eq!((all.labels.len(), all.care().len()), (10, 0));
        // Sixteen bytes a row, of which a quarter of the memory holds three.
        assert_eq!(take(Limits { rows: 40, bytes: 3 * 64, ..Limits::default() }).labels.len(), 3);
        assert_eq!(take(Limits { rows: 40, bytes: 1, ..Limits::default() }).labels.len(), 0);
    }
}
