//! Class geometry, the bounds that need no factorisation, and counts of zeros and repeats: streamed block by block.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use gpz_estimators::plan::Plan;
use gpz_estimators::{
    ClassGeometry, ClassMoments, Element, Error, Flag, Normalisation, RowReport, entropy,
};
use ndarray::{Array2, s};

use super::answers::{Answers, Finding};
use super::case::Case;
use super::store::Tensor;

/// Most classes that are taken to be counted from zero where their number is not declared.
const COUNTED: i64 = 1 << 20;
/// Bytes for the moments of all classes; where they take more, columns are taken in blocks and rows are read once for each.
const BUDGET: u128 = 2 << 30;

/// Labels as indices of the classes that have rows, and the labels of those that have none.
struct Classes {
    indices: Vec<usize>,
    labels: Vec<i64>,
    /// None where the number of classes is not known.
    empty: Option<Vec<i64>>,
}

impl Classes {
    fn new(case: &Case, rows: usize) -> Option<Self> {
        let Some((indices, labels)) = case.class_indices() else {
            return Some(Self { indices: vec![0; rows], labels: vec![0], empty: Some(Vec::new()) });
        };
        let declared = case.scalar("num_classes").or_else(|| case.scalar("classes"));
        let most = labels.last().map_or(0, |last| last.saturating_add(1));
        let counted = declared.map_or(0, |k| k as i64).max(most);
        let from_zero = labels.first().is_none_or(|&first| first >= 0);
        let empty = (from_zero && (counted <= COUNTED || declared.is_some())).then(|| {
            let seen: BTreeSet<i64> = labels.iter().copied().collect();
            (0..counted).filter(|label| !seen.contains(label)).collect()
        });
        (indices.len() == rows).then_some(Self { indices, labels, empty })
    }
}

/// Moments of some columns of all rows.
fn block_of_columns(
    case: &Case,
    classes: &Classes,
    columns: Range<usize>,
) -> Option<Result<ClassGeometry, Error>> {
    fn add<T: Element>(
        moments: &mut ClassMoments,
        rows: &Array2<T>,
        columns: &Range<usize>,
        labels: &[usize],
    ) -> Result<(), Error> {
        moments.update(rows.slice(s![.., columns.clone()]), labels)
    }
    let mut moments = match ClassMoments::new(classes.labels.len().max(1), columns.len()) {
        Ok(moments) => moments,
        Err(error) => return Some(Err(error)),
    };
    let mut result = Ok(());
    let read = case.stream("z", |first, rows| {
        let taken = |n: usize| &classes.indices[first..first + n];
        if result.is_ok() {
            result = match &rows {
                Tensor::F32(rows) => add(&mut moments, rows, &columns, taken(rows.nrows())),
                Tensor::F64(rows) => add(&mut moments, rows, &columns, taken(rows.nrows())),
                Tensor::Integers(rows) => {
                    let rows = rows.mapv(|value| value as f64);
                    add(&mut moments, &rows, &columns, taken(rows.nrows()))
                }
            };
        }
    });
    read.then(|| result.and_then(|()| moments.geometry()))
}

fn geometry(case: &Case, classes: &Classes, width: usize) -> Option<Result<ClassGeometry, Error>> {
    let plan = Plan::of(classes.labels.len().max(1), width, 1);
    let plan = match plan.and_then(|plan| plan.within(BUDGET)) {
        Ok(plan) => plan,
        Err(error) => return Some(Err(error)),
    };
    let mut whole: Option<ClassGeometry> = None;
    for columns in plan.column_blocks() {
        let part = match block_of_columns(case, classes, columns)? {
            Ok(part) => part,
            Err(error) => return Some(Err(error)),
        };
        whole = Some(match whole {
            None => part,
            Some(whole) => match whole.join(&part) {
                Ok(whole) => whole,
                Err(error) => return Some(Err(error)),
            },
        });
    }
    whole.map(Ok)
}

const GEOMETRY: [&str; 13] = [
    "class_counts",
    "radius2",
    "radius2_population_unbiased",
    "within",
    "between",
    "global_trace_var",
    "global_sigma2",
    "variance_per_dim",
    "entropy_upper_iso",
    "class_entropy_upper_iso",
    "empty_classes",
    "singleton_classes",
    "constant_columns",
];

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    let Some((rows, width)) = case.dims("z") else { return };
    report(case, answers, width);
    let about_classes = matches!(case.group.as_str(), "labels" | "streaming" | "conditioning")
        && case.labels().is_some()
        && answers.wants_behaviour();
    if !about_classes && !GEOMETRY.iter().any(|name| answers.wants(name)) {
        return;
    }
    let Some(classes) = Classes::new(case, rows) else { return };
    let geometry = match geometry(case, &classes, width) {
        Some(Ok(geometry)) => geometry,
        Some(Err(_)) => return answers.behave(Finding::Error),
        None => return,
    };
    let all = 0..geometry.classes();
    answers.put_all("class_counts", || geometry.counts().iter().map(|&n| n as f64).collect());
    answers.put_all("radius2", || {
        let radius = |class: usize| {
            geometry.sum_of_squares(class).unwrap_or(f64::NAN) / geometry.counts()[class] as f64
        };
        all.clone().map(radius).collect()
    });
    if let Some(radius) = geometry.mean_radius_sq(Normalisation::Unbiased) {
        answers.put_all("radius2_population_unbiased", || vec![radius]);
    }
    answers.put_all("within", || vec![geometry.within()]);
    answers.put_all("between", || vec![geometry.between()]);
    answers.put_all("global_trace_var", || vec![geometry.total()]);
    answers.put_all("global_sigma2", || vec![geometry.mean_variance()]);
    answers.put_all("variance_per_dim", || {
        case.mean_or_each("variance_per_dim", geometry.variance_per_dim().to_vec())
    });
    answers.put("entropy_upper_iso", || entropy::isotropic_bound_nats(&geometry));
    let bounds: Vec<_> = all.map(|class| entropy::class_bound_nats(&geometry, class)).collect();
    answers.put_all("class_entropy_upper_iso", || {
        let value = |bound: &Result<_, _>| match bound {
            Ok(gpz_estimators::Estimate { value, .. }) => *value,
            Err(_) => f64::NAN,
        };
        bounds.iter().map(value).collect()
    });
    if let Some(empty) = &classes.empty {
        answers.put_all("empty_classes", || empty.iter().map(|&label| label as f64).collect());
    }
    answers.put_all("singleton_classes", || {
        geometry.singleton_classes().iter().map(|&class| classes.labels[class] as f64).collect()
    });
    answers.put_all("constant_columns", || {
        geometry.constant_dimensions().iter().map(|&column| column as f64).collect()
    });
    if about_classes {
        let odd = bounds.iter().any(|bound| match bound {
            Ok(bound) => bound.flags.contains(&Flag::SingletonClass) || !bound.value.is_finite(),
            Err(_) => true,
        });
        let odd = odd || classes.empty.is_some_and(|empty| !empty.is_empty());
        answers.behave(if odd { Finding::Flag } else { Finding::Value });
    }
}

/// What a look at the rows shows.
fn report(case: &Case, answers: &mut Answers<'_>, width: usize) {
    if answers.wants("first_values") {
        let (mut first, mut last) = (Vec::new(), None);
        let read = case.stream("z", |_, block| {
            let block = block.widened();
            if first.is_empty() {
                first.extend(block.iter().take(width.min(3)).copied());
            }
            last = block.last().copied().or(last);
        });
        if read {
            // The first three values of the first row, and the last of the last.
            answers.put_all("first_values", || first.into_iter().chain(last).collect());
        }
    }
    let about_rows = case.group == "degenerate" && answers.wants_behaviour();
    if !about_rows
        && !["dead_units", "duplicate_rows", "zero_fraction"].iter().any(|name| answers.wants(name))
    {
        return;
    }
    let (mut dead, mut constant) = (Repeated::default(), Repeated::default());
    let (mut keys, mut zeros, mut rows) = (BTreeMap::<u128, u64>::new(), 0.0, 0.0);
    let mut result = Ok(());
    let read = case.stream("z", |_, block| {
        let block = block.widened();
        match RowReport::of(block.view()) {
            Ok(report) => {
                dead.keep(&report.dead_units);
                constant.keep(&report.constant_columns);
                constant.compare(&block);
                zeros += report.zero_fraction * block.nrows() as f64;
                rows += block.nrows() as f64;
                block.rows().into_iter().for_each(|row| *keys.entry(key(row)).or_default() += 1);
            }
            Err(error) => result = Err(error),
        }
    });
    if !read || rows == 0.0 || result.is_err() {
        return answers.behave(Finding::Error);
    }
    let duplicates = keys.values().map(|count| count - 1).sum::<u64>();
    answers.put_all("dead_units", || dead.columns());
    answers.put_all("duplicate_rows", || vec![duplicates as f64]);
    answers.put_all("zero_fraction", || vec![zeros / rows]);
    if about_rows && (duplicates > 0 || !constant.columns().is_empty()) {
        answers.behave(Finding::Flag);
    }
}

/// Columns of which every block so far says the same.
#[derive(Default)]
struct Repeated {
    left: Option<BTreeSet<usize>>,
    first: Vec<f64>,
}

impl Repeated {
    fn keep(&mut self, columns: &[usize]) {
        let found = columns.iter().copied().collect();
        self.left = Some(match self.left.take() {
            None => found,
            Some(left) => left.intersection(&found).copied().collect(),
        });
    }

    /// Drops the columns that are constant in each block, and not the same in all.
    fn compare(&mut self, block: &Array2<f64>) {
        let own: Vec<f64> = block.row(0).to_vec();
        if self.first.is_empty() {
            self.first = own;
        } else if let Some(left) = &mut self.left {
            left.retain(|&column| self.first[column] == own[column]);
        }
    }

    fn columns(&self) -> Vec<f64> {
        self.left.iter().flatten().map(|&column| column as f64).collect()
    }
}

/// 128 mixed bits of a row, in which `0` and `-0` are the same: two different rows of a billion share them with a chance of 1e-21.
fn key(row: ndarray::ArrayView1<'_, f64>) -> u128 {
    let mix = |state: u64, bits: u64, by: u64| {
        let s = (state.rotate_left(29) ^ bits).wrapping_mul(by);
        (s ^ (s >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ (s >> 29)
    };
    let (mut a, mut b) = (1, 2);
    for value in row {
        let bits = (value + 0.0).to_bits();
        a = mix(a, bits, 0x9E37_79B9_7F4A_7C15);
        b = mix(b, bits, 0xBF58_476D_1CE4_E5B9);
    }
    (u128::from(a) << 64) | u128::from(b)
}
