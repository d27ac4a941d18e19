//! Class geometry and the bounds that need no factorisation: streamed shard by shard and merged.

use std::collections::BTreeMap;

use gpz_estimators::{
    ClassGeometry, ClassMoments, Element, Error, Flag, Normalisation, RowReport, entropy,
};
use ndarray::{Array2, ArrayD, ArrayView2, Axis};

use crate::answers::{Answers, Finding};
use crate::case::{Case, Tensor};

/// Most classes that are taken to be counted from zero where their number is not declared.
const COUNTED: i64 = 1 << 20;
/// Elements of a batch.
const BATCH: usize = 1 << 22;

/// Labels as indices of classes, with the label that each index stands for.
struct Classes {
    indices: Vec<usize>,
    labels: Vec<i64>,
}

impl Classes {
    fn new(case: &Case, rows: usize) -> Option<Self> {
        let Some(labels) = case.labels() else {
            return Some(Self { indices: vec![0; rows], labels: vec![0] });
        };
        let declared = case.scalar("num_classes").or(case.scalar("classes")).map(|k| k as i64);
        let most = labels.iter().copied().max().unwrap_or(0);
        let least = labels.iter().copied().min().unwrap_or(0);
        let counted = declared.unwrap_or(0).max(most.saturating_add(1)).max(1);
        let labels_of: Vec<i64> = if least >= 0 && counted <= COUNTED {
            (0..counted).collect()
        } else {
            let seen: std::collections::BTreeSet<i64> = labels.iter().copied().collect();
            seen.into_iter().collect()
        };
        let index: BTreeMap<i64, usize> =
            labels_of.iter().enumerate().map(|(index, &label)| (label, index)).collect();
        let indices =
            labels.iter().map(|label| index.get(label).copied()).collect::<Option<_>>()?;
        Some(Self { indices, labels: labels_of })
    }
}

/// One shard's moments, batch by batch.
fn moments<T: Element>(
    shard: &ArrayD<T>,
    labels: &[usize],
    classes: usize,
) -> Result<ClassMoments, Error> {
    let rows: ArrayView2<'_, T> = match shard.view().into_dimensionality() {
        Ok(rows) => rows,
        Err(_) => return Err(Error::EmptyShape { classes, width: 0 }),
    };
    let mut moments = ClassMoments::new(classes, rows.ncols())?;
    let batch = (BATCH / rows.ncols()).max(1);
    for (rows, labels) in rows.axis_chunks_iter(Axis(0), batch).zip(labels.chunks(batch)) {
        moments.update(rows, labels)?;
    }
    Ok(moments)
}

fn geometry(case: &Case, classes: &Classes) -> Option<Result<ClassGeometry, Error>> {
    let mut merged: Option<ClassMoments> = None;
    let mut from = 0;
    let count = classes.labels.len();
    for shard in case.shards("z") {
        let rows = shard.shape().first().copied().unwrap_or(0);
        let labels = classes.indices.get(from..from + rows)?;
        from += rows;
        let part = match shard {
            Tensor::F32(rows) => moments(rows, labels, count),
            Tensor::F64(rows) => moments(rows, labels, count),
            Tensor::Integers(rows) => moments(&rows.mapv(|value| value as f64), labels, count),
        };
        merged = match (merged, part) {
            (_, Err(error)) => return Some(Err(error)),
            (None, Ok(part)) => Some(part),
            (Some(mut all), Ok(part)) => match all.merge(&part) {
                Ok(()) => Some(all),
                Err(error) => return Some(Err(error)),
            },
        };
    }
    merged.map(|moments| moments.geometry())
}

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    let rows: usize =
        case.shards("z").iter().map(|shard| shard.shape().first().copied().unwrap_or(0)).sum();
    if case.shards("z").is_empty() {
        return;
    }
    let Some(classes) = Classes::new(case, rows) else { return };
    let Some(geometry) = geometry(case, &classes) else { return };
    let about_classes = matches!(case.group.as_str(), "labels" | "streaming" | "conditioning");
    let about_classes = about_classes && !case.shards("labels").is_empty();
    let geometry = match geometry {
        Ok(geometry) => geometry,
        Err(_) => {
            answers.behave(Finding::Error);
            return;
        }
    };
    let present: Vec<usize> =
        (0..geometry.classes()).filter(|&c| geometry.counts()[c] > 0).collect();
    let named =
        |indices: Vec<usize>| indices.iter().map(|&index| classes.labels[index] as f64).collect();
    let plain = |indices: &[usize]| indices.iter().map(|&index| index as f64).collect();
    answers.put_all("class_counts", || {
        present.iter().map(|&class| geometry.counts()[class] as f64).collect()
    });
    answers.put_all("radius2", || {
        let radius = |&class: &usize| {
            geometry.sum_of_squares(class).unwrap_or(f64::NAN) / geometry.counts()[class] as f64
        };
        present.iter().map(radius).collect()
    });
    if let Some(radius) = geometry.mean_radius_sq(Normalisation::Unbiased) {
        answers.put_all("radius2_population_unbiased", || vec![radius]);
    }
    answers.put_all("within", || vec![geometry.within()]);
    answers.put_all("between", || vec![geometry.between()]);
    answers.put_all("global_trace_var", || vec![geometry.total()]);
    answers.put_all("global_sigma2", || vec![geometry.mean_variance()]);
    answers.put_all("variance_per_dim", || vec![geometry.mean_variance()]);
    answers.put("entropy_upper_iso", || entropy::isotropic_bound_nats(&geometry));
    answers.put_all("class_entropy_upper_iso", || {
        let bound = |&class: &usize| entropy::class_bound_nats(&geometry, class);
        present.iter().map(|class| bound(class).map_or(f64::NAN, |bound| bound.value)).collect()
    });
    answers.put_all("empty_classes", || named(geometry.empty_classes()));
    answers.put_all("singleton_classes", || named(geometry.singleton_classes()));
    answers.put_all("constant_columns", || plain(&geometry.constant_dimensions()));
    if ["dead_units", "duplicate_rows", "zero_fraction"].iter().any(|name| answers.wants(name))
        && let Some(rows) = case.matrix("z")
        && let Ok(report) = RowReport::of(rows.view())
    {
        answers.put_all("dead_units", || plain(&report.dead_units));
        answers.put_all("duplicate_rows", || vec![report.duplicate_rows as f64]);
        answers.put_all("zero_fraction", || vec![report.zero_fraction]);
    }
    if answers.wants("first_values")
        && let Some(rows) = case.matrix("z")
    {
        answers.put_all("first_values", || corners(&rows));
    }
    if about_classes && answers.wants_behaviour() {
        let bounds =
            (0..geometry.classes()).map(|class| entropy::class_bound_nats(&geometry, class));
        let odd = bounds.into_iter().any(|bound| match bound {
            Ok(bound) => bound.flags.contains(&Flag::SingletonClass) || !bound.value.is_finite(),
            Err(_) => true,
        });
        answers.behave(if odd { Finding::Flag } else { Finding::Value });
    }
}

/// The first three values of the first row, and the last of the last.
fn corners(rows: &Array2<f64>) -> Vec<f64> {
    let first = rows.rows().into_iter().next().map(|row| row.iter().take(3).copied().collect());
    let mut values: Vec<f64> = first.unwrap_or_default();
    values.extend(rows.last());
    values
}
