//! Class geometry of features that stand in a file: what the sweep measures at a split, on anybody's features.

mod memory_plan;
mod quantity;

use gpz_data::{ArrayFile, ArrayInfo, Block};
use gpz_estimators::{
    ClassGeometry, ClassMoments, DeviationPass, Deviations, Estimate, Flag, Interval, Kind,
    Normalisation, NotIdentifiable, Uncertainty, entropy, gaussian,
};
use gpz_inversion::Observer;
use ndarray::ArrayView2;
use serde::Serialize;

use crate::declared::Declared;
use crate::error::{Error, Result};
use crate::feature_estimates::{Findings, NotEstimated, Request, Sample, SweepPoint};
use crate::{feature_estimates, memory};

pub use memory_plan::MemoryPlan;
pub(crate) use quantity::estimated;
use quantity::word;
pub use quantity::{Quantity, Real, Value};

/// Confidence level behind each standard error; the error itself does not depend on it.
const LEVEL: f64 = 0.95;
/// Bytes of a block of rows.
const BLOCK_BYTES: usize = 64 << 20;
/// A label from here on is a mistake: each class costs memory of its own.
const MOST_CLASSES: i64 = 1 << 20;

/// Statistics of features, as they are printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureStatistics {
    /// Rows.
    pub n: u64,
    /// Width of a row.
    pub d: usize,
    /// Declared classes: one more than the largest label; none without labels.
    pub classes: Option<usize>,
    /// What stands between the feature and the wire.
    pub channel: Declared,
    /// The figures.
    pub estimates: Vec<Quantity>,
    /// What is not given, and why.
    pub not_estimated: Vec<NotEstimated>,
    /// What other channels would let through.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweep: Vec<SweepPoint>,
}

/// Statistics of the rows of an array, with the classes of another: two passes, memory of one block and of the moments, and of what
/// limits allow for [estimates that do not stream](crate::feature_estimates). `announce` hears of it before anything is read; the rows of
/// both passes are the steps that `observer` sees.
///
/// Rows are flattened in their stored order. Without labels, only what needs none is given.
///
/// # Errors
/// What [`ArrayFile`] says of a damaged file; [`Error::FeatureRows`], [`Error::FeatureLabel`], [`Error::Feature`] name the file, the row
/// and the mend; [`Error::Memory`] for more classes and dimensions than this machine holds; [`gpz_inversion::Error::Stopped`] after a
/// stop was asked for.
pub fn describe(
    file: &ArrayFile,
    features: &ArrayInfo,
    labels: Option<&ArrayInfo>,
    request: &Request,
    announce: &mut dyn FnMut(&MemoryPlan),
    observer: &mut dyn Observer,
) -> Result<FeatureStatistics> {
    let limits = request.limits;
    let place = format!("{}:{}", file.file(), features.name);
    let (rows, width) = (features.rows(), features.row_len().unwrap_or(usize::MAX));
    if features.shape.is_empty() || rows == 0 || width == 0 {
        return Err(Error::FeatureRows { file: place, shape: features.shape.clone() });
    }
    let classes = labels.map(|labels| Classes::read(file, labels, rows)).transpose()?;
    let wrong = |source| Error::Feature { file: place.clone(), source };
    let block = (BLOCK_BYTES / width.saturating_mul(8)).max(1);
    let present = classes.as_ref().map_or(1, |classes| classes.present.len());
    let plan = MemoryPlan::of(present, (rows, width), block.min(rows), limits).map_err(wrong)?;
    let what = format!("{place}: moments of {present} classes of width {width}");
    memory::check(
        &what,
        ClassMoments::memory_bytes(present, width),
        "pool the features or take the classes in parts",
    )?;
    if limits.strict && plan.streamed() > u128::from(limits.bytes) {
        return Err(Error::Memory {
            what,
            needed: plan.streamed(),
            available: limits.bytes.into(),
            mend: "allow more with --memory, pool the features or take the classes in parts",
        });
    }
    announce(&plan);
    observer.begin("statistics", 2 * rows as u64);
    let mut seen = |rows: usize| {
        observer.advance(rows as u64, "");
        if observer.stop_requested() { Err(gpz_inversion::Error::Stopped.into()) } else { Ok(()) }
    };

    // Made when the first rows are there: a header's word is not enough to set memory aside for its width.
    let mut moments = None;
    file.each_block(features, block, |first, block| -> Result<()> {
        let rows = Rows::of(&block, width).map_err(wrong)?;
        let labels = labels_of(classes.as_ref(), first, rows.len());
        let moments = match &mut moments {
            Some(moments) => moments,
            none => none.insert(ClassMoments::new(present, width).map_err(wrong)?),
        };
        match rows {
            Rows::F32(rows) => moments.update(rows, &labels),
            Rows::F64(rows) => moments.update(rows, &labels),
        }
        .map_err(|source| in_file(&place, source, first))?;
        seen(labels.len())
    })?;
    let moments = moments.ok_or(gpz_estimators::Error::NoRows).map_err(wrong)?;
    let mut pass = DeviationPass::new(&moments).map_err(wrong)?;
    let limits = plan.limits(limits);
    let mut sample = Sample::new(rows, width, limits);
    file.each_block(features, block, |first, block| -> Result<()> {
        let rows = Rows::of(&block, width).map_err(wrong)?;
        let labels = labels_of(classes.as_ref(), first, rows.len());
        match rows {
            Rows::F32(rows) => pass.update(rows, &labels),
            Rows::F64(rows) => pass.update(rows, &labels),
        }
        .map_err(|source| in_file(&place, source, first))?;
        match rows {
            Rows::F32(rows) => sample.see(first, rows, &labels),
            Rows::F64(rows) => sample.see(first, rows, &labels),
        }
        seen(labels.len())
    })?;
    let deviations = pass.finish().map_err(wrong)?;
    observer.end("");
    let geometry = deviations.geometry();
    let request = Request { limits, ..request.clone() };
    let names = classes.as_ref().map_or_else(Vec::new, |classes| classes.present.clone());
    let mut findings = Findings { classes: names, ..Findings::default() };
    whole(&deviations, &mut findings).map_err(wrong)?;
    if let Some(classes) = &classes {
        by_class(&deviations, &moments, classes, &mut findings).map_err(wrong)?;
    }
    let labelled = classes.as_ref().map(|_| present);
    let sweep = feature_estimates::estimate(&mut findings, &sample, geometry, labelled, &request)
        .map_err(wrong)?;
    let (n, classes) = (geometry.rows(), classes.map(|classes| classes.declared));
    let Findings { found: estimates, not: not_estimated, .. } = findings;
    let channel = request.channel;
    Ok(FeatureStatistics { n, d: width, classes, channel, estimates, not_estimated, sweep })
}

/// The classes of the rows. Moments are kept of those that occur; a gap between labels costs one number in the list of empty classes.
struct Classes {
    /// One more than the largest label.
    declared: usize,
    /// Labels that occur, ascending.
    present: Vec<usize>,
    /// For each row, the position of its label in `present`.
    rows: Vec<usize>,
}

impl Classes {
    fn read(file: &ArrayFile, array: &ArrayInfo, rows: usize) -> Result<Self> {
        let labels = read_labels(file, array, rows)?;
        let mut present = labels.clone();
        present.sort_unstable();
        present.dedup();
        let declared = present.last().map_or(0, |most| most + 1);
        // Every label occurs, so the search finds it.
        let rows = labels.iter().map(|label| present.binary_search(label).unwrap_or(0)).collect();
        Ok(Classes { declared, present, rows })
    }

    /// Declared labels that no row has.
    fn empty(&self) -> Vec<usize> {
        (0..self.declared).filter(|label| self.present.binary_search(label).is_err()).collect()
    }
}

/// Class indices of as many rows of features.
///
/// # Errors
/// [`Error::FeatureLabels`], [`Error::FeatureLabel`]; those of [`ArrayFile::integers`].
pub(crate) fn read_labels(file: &ArrayFile, array: &ArrayInfo, rows: usize) -> Result<Vec<usize>> {
    let labels = file.integers(array)?;
    let place = || format!("{}:{}", file.file(), array.name);
    if labels.len() != rows {
        return Err(Error::FeatureLabels { file: place(), labels: labels.len(), rows });
    }
    let index = |(row, &label): (usize, &i64)| match usize::try_from(label) {
        Ok(index) if label < MOST_CLASSES => Ok(index),
        _ => Err(Error::FeatureLabel { file: place(), row, label, most: MOST_CLASSES - 1 }),
    };
    labels.iter().enumerate().map(index).collect()
}

/// Classes of `n` rows from `first` on; without labels, all rows are of one.
fn labels_of(classes: Option<&Classes>, first: usize, n: usize) -> Vec<usize> {
    classes.map_or_else(|| vec![0; n], |classes| classes.rows[first..first + n].to_vec())
}

/// What is wrong with a block, its rows counted from the file's beginning.
fn in_file(place: &str, source: gpz_estimators::Error, first: usize) -> Error {
    use gpz_estimators::Error as E;
    let file = place.to_owned();
    match source {
        E::NonFinite { row, column, value } | E::Magnitude { row, column, value } => {
            Error::FeatureValue { file, row: first + row, column, value }
        }
        source => Error::Feature { file, source },
    }
}

#[derive(Clone, Copy)]
enum Rows<'a> {
    F32(ArrayView2<'a, f32>),
    F64(ArrayView2<'a, f64>),
}

impl<'a> Rows<'a> {
    fn of(block: &'a Block, width: usize) -> Result<Self, gpz_estimators::Error> {
        fn view<T>(values: &[T], width: usize) -> Result<ArrayView2<'_, T>, gpz_estimators::Error> {
            let shape = (values.len() / width, width);
            ArrayView2::from_shape(shape, values).map_err(|_| gpz_estimators::Error::Width {
                expected: width,
                found: values.len() % width,
            })
        }
        Ok(match block {
            Block::F32(values) => Rows::F32(view(values, width)?),
            Block::F64(values) => Rows::F64(view(values, width)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Rows::F32(rows) => rows.nrows(),
            Rows::F64(rows) => rows.nrows(),
        }
    }
}

type Jackknifed = Result<Result<Interval, NotIdentifiable>, gpz_estimators::Error>;

fn number_of(
    quantity: &'static str,
    value: f64,
    interval: Option<Jackknifed>,
) -> Result<Quantity, gpz_estimators::Error> {
    let std_err = match interval.transpose()? {
        Some(Ok(interval)) => Some(Value::Number(Real(interval.std_err))),
        Some(Err(_)) | None => None,
    };
    let quantity = Quantity::new(quantity, Value::Number(Real(value)), Kind::Heuristic);
    Ok(quantity.with_std_err(std_err, Uncertainty::Jackknife))
}

fn indices(quantity: &'static str, values: impl IntoIterator<Item = u64>) -> Quantity {
    Quantity::new(quantity, Value::Indices(values.into_iter().collect()), Kind::Exact)
}

/// What needs no labels. Divisor N, as the conventions of the method have it.
fn whole(deviations: &Deviations, findings: &mut Findings) -> Result<(), gpz_estimators::Error> {
    let geometry = deviations.geometry();
    let total = || deviations.total(Normalisation::PlugIn, LEVEL);
    let width = geometry.width() as f64;
    let per_dim = total().map(|interval| interval.map(|interval| interval.per(width)));
    let (isotropic, diagonal) =
        (deviations.isotropic_bound_nats(), gaussian::diagonal_bound_nats(geometry));
    findings.found.extend([
        number_of("global_trace_var", geometry.total(), Some(total()))?,
        number_of("global_sigma2", geometry.mean_variance(), Some(per_dim))?,
        estimated("entropy_upper_iso", &isotropic),
        estimated("entropy_upper_diag", &diagonal),
        indices("constant_columns", geometry.constant_dimensions().into_iter().map(|c| c as u64)),
    ]);
    findings.gap("gap_iso_over_diag", &isotropic, &diagonal);
    Ok(())
}

/// What needs labels.
fn by_class(
    deviations: &Deviations,
    moments: &ClassMoments,
    classes: &Classes,
    findings: &mut Findings,
) -> Result<(), gpz_estimators::Error> {
    let geometry = deviations.geometry();
    let labels = |positions: Vec<usize>| positions.into_iter().map(|at| classes.present[at] as u64);
    let as_u64 = |labels: &[usize]| labels.iter().map(|label| *label as u64).collect::<Vec<_>>();
    let (empty, singletons) = (classes.empty(), geometry.singleton_classes());
    let mut care = Vec::new();
    if !singletons.is_empty() {
        care.push(word(&Flag::SingletonClass).0);
    }
    if !empty.is_empty() {
        care.push(word(&Flag::EmptyClasses(empty.len())).0);
    }
    let mut quantities = vec![
        indices("class_labels", as_u64(&classes.present)),
        indices("class_counts", geometry.counts().iter().copied()),
        indices("empty_classes", as_u64(&empty)),
        indices("singleton_classes", labels(singletons)),
        radii(deviations, Normalisation::PlugIn, "radius2", &care)?,
        radii(deviations, Normalisation::Unbiased, "radius2_unbiased", &care)?,
    ];
    let width = geometry.width() as f64;
    let averaged = geometry.counts().iter().copied().enumerate().filter(|(_, count)| *count >= 2);
    let smallest = averaged.min_by_key(|(_, count)| *count);
    for (divisor, name, per_dim_name) in [
        (Normalisation::PlugIn, "radius2_mean", "radius2_mean_per_dim"),
        (Normalisation::Unbiased, "radius2_mean_unbiased", "radius2_mean_unbiased_per_dim"),
    ] {
        // Without a class of two rows there is no mean, and no line for it.
        if let Some(value) = geometry.mean_radius_sq(divisor) {
            let interval = || -> Jackknifed {
                let interval = deviations.mean_radius_sq(divisor, LEVEL)?;
                // A class of two rows is in the value and has no error: then the value has none either.
                Ok(interval.and_then(|interval| match smallest {
                    Some((class, 2)) => {
                        Err(NotIdentifiable::TooFewRows { class: Some(class), have: 2, need: 3 })
                    }
                    _ => Ok(interval),
                }))
            };
            let per_dim = interval().map(|interval| interval.map(|interval| interval.per(width)));
            quantities.push(Quantity {
                flags: care.clone(),
                ..number_of(name, value, Some(interval()))?
            });
            let value = value / width;
            quantities.push(Quantity {
                flags: care.clone(),
                ..number_of(per_dim_name, value, Some(per_dim))?
            });
        }
    }
    let divisor = Normalisation::PlugIn;
    quantities.push(number_of(
        "within",
        geometry.within(),
        Some(deviations.within(divisor, LEVEL)),
    )?);
    quantities.push(number_of(
        "between",
        geometry.between(),
        Some(deviations.between(divisor, LEVEL)),
    )?);
    match geometry.within_over_total() {
        Some(share) => {
            let interval = deviations.within_over_total(divisor, LEVEL);
            quantities.push(number_of("within_over_total", share, Some(interval))?);
        }
        None => findings.skip("within_over_total", NotIdentifiable::NoVariance),
    }
    quantities.push(class_bounds(geometry));
    quantities.push(estimated("label_entropy_nats", &entropy::label_entropy_nats(geometry)));
    findings.found.append(&mut quantities);
    let mixture = deviations.mixture_bound_nats();
    if let Ok(mixture) = &mixture {
        findings.gap("gap_iso_over_mixture", &entropy::isotropic_bound_nats(geometry), mixture);
    }
    findings.add("mixture_entropy_upper_iso", &care, Ok(mixture));
    let diagonal = gaussian::mixture_diagonal_bound_nats(moments);
    findings.add("mixture_entropy_upper_diag", &care, diagonal);
    Ok(())
}

/// R_c² of each class that occurs. A class of one row stands with 0 and its flag under the divisor N, and with null under N − 1.
fn radii(
    deviations: &Deviations,
    divisor: Normalisation,
    quantity: &'static str,
    care: &[String],
) -> Result<Quantity, gpz_estimators::Error> {
    let geometry = deviations.geometry();
    let value = |class| match divisor {
        Normalisation::PlugIn => {
            geometry.radius_sq(class, divisor).or_else(|| geometry.sum_of_squares(class))
        }
        Normalisation::Unbiased => geometry.radius_sq(class, divisor),
    };
    let values = (0..geometry.classes()).map(|class| value(class).map(Real)).collect();
    let intervals = deviations.radii_sq(divisor, LEVEL)?.into_iter();
    let errors = intervals.map(|interval| Some(Real(interval.ok()?.std_err))).collect();
    let quantity = Quantity::new(quantity, Value::List(values), Kind::Heuristic);
    let std_err = Some(Value::List(errors));
    let flags = care.to_vec();
    Ok(Quantity { flags, ..quantity.with_std_err(std_err, Uncertainty::Jackknife) })
}

fn class_bounds(geometry: &ClassGeometry) -> Quantity {
    let bounds: Vec<Estimate> = (0..geometry.classes())
        .filter_map(|class| entropy::class_bound_nats(geometry, class).ok())
        .collect();
    let mut flags: Vec<String> =
        bounds.iter().flat_map(|bound| bound.flags.iter().map(|flag| word(flag).0)).collect();
    flags.sort_unstable();
    flags.dedup();
    let values = Value::List(bounds.iter().map(|bound| Some(Real(bound.value))).collect());
    Quantity { flags, ..Quantity::new("class_entropy_upper_iso", values, Kind::Heuristic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts steps, and asks for a stop after the first of them if told to.
    #[derive(Default)]
    struct Watcher {
        announced: u64,
        seen: u64,
        impatient: bool,
    }

    impl Observer for Watcher {
        fn begin(&mut self, _: &str, steps: u64) {
            self.announced += steps;
        }
        fn advance(&mut self, steps: u64, _: &str) {
            self.seen += steps;
        }
        fn end(&mut self, _: &str) {}
        fn stop_requested(&self) -> bool {
            self.impatient && self.seen > 0
        }
    }

    #[test]
    fn both_passes_are_shown_and_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("z.npy");
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend((0..8u8).flat_map(|v| f32::from(v).to_le_bytes()));
        std::fs::write(&path, bytes).unwrap();
        let file = ArrayFile::open(&path).unwrap();
        let mut patient = Watcher::default();
        assert_eq!(
            describe(
                &file,
                &file.arrays()[0],
                None,
                &Request::default(),
                &mut |plan| assert!(plan.to_string().contains("4 rows side by side")),
                &mut patient
            )
            .unwrap()
            .n,
            4
        );
        assert_eq!((patient.announced, patient.seen), (8, 8));
        let mut impatient = Watcher { impatient: true, ..Watcher::default() };
        let stopped = describe(
            &file,
            &file.arrays()[0],
            None,
            &Request::default(),
            &mut |_| {},
            &mut impatient,
        );
        assert!(stopped.is_err_and(|error| error.is_stop()));
        assert_eq!(impatient.seen, 4);
    }
}
