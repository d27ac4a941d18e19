//! The two passes over the features of one split, where the features lie: the estimators on the processor, kernels on a CUDA device.

use gpz_estimators::{ClassMoments, DeviationPass, Deviations};
use gpz_tensor::cuda::{ClassMeans, ClassSums};
use gpz_tensor::{Device, Tensor, UnaryOp};
use ndarray::ArrayView2;

/// Why features could not be taken in.
#[derive(Debug)]
pub(super) enum Failure {
    Estimator(gpz_estimators::Error),
    Tensor(gpz_tensor::Error),
}

impl From<gpz_estimators::Error> for Failure {
    fn from(error: gpz_estimators::Error) -> Self {
        Failure::Estimator(error)
    }
}

impl From<gpz_tensor::Error> for Failure {
    fn from(error: gpz_tensor::Error) -> Self {
        Failure::Tensor(error)
    }
}

type Outcome<T = ()> = Result<T, Failure>;

/// The range of no element.
const NOTHING: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);

/// The first pass: moments of each class, and the range of all elements.
pub(super) enum Gathering {
    Cpu {
        moments: ClassMoments,
        range: (f64, f64),
    },
    /// With the largest element of each row, and of its negative: nobody waits for them before the end.
    Cuda {
        sums: ClassSums,
        extremes: Vec<[Tensor; 2]>,
    },
}

impl Gathering {
    pub(super) fn new(device: &Device, classes: usize, width: usize) -> Outcome<Self> {
        Ok(match device {
            Device::Cpu => {
                Gathering::Cpu { moments: ClassMoments::new(classes, width)?, range: NOTHING }
            }
            Device::Cuda(device) => Gathering::Cuda {
                sums: ClassSums::new(device, classes, width)?,
                extremes: Vec::new(),
            },
        })
    }

    /// Takes features `[n, ...]` in, one label for each image.
    pub(super) fn add(&mut self, z: &Tensor, labels: &[usize]) -> Outcome {
        let rows = z.flatten_from(1)?;
        match self {
            Gathering::Cpu { moments, range } => with_rows(&rows, |rows| {
                *range = extended(*range, rows);
                Ok(moments.update(rows, labels)?)
            }),
            Gathering::Cuda { sums, extremes } => {
                sums.update(&rows, labels)?;
                extremes.push([rows.max(&[1])?, rows.unary(UnaryOp::Neg)?.max(&[1])?]);
                Ok(())
            }
        }
    }

    /// The moments, and the smallest and largest element.
    pub(super) fn finish(self) -> Outcome<(ClassMoments, (f64, f64))> {
        match self {
            Gathering::Cpu { moments, range } => Ok((moments, range)),
            Gathering::Cuda { sums, extremes } => {
                let read = sums.read()?;
                let width = read.pivot.len() / read.counts.len();
                let moments = ClassMoments::from_pivoted(
                    &read.counts,
                    width,
                    &read.pivot,
                    &read.sums,
                    &read.squares,
                )?;
                let mut range = NOTHING;
                for [largest, negative] in extremes {
                    let most = |t: &Tensor| -> Outcome<f64> {
                        Ok(t.to_vec::<f64>()?.into_iter().fold(f64::NEG_INFINITY, f64::max))
                    };
                    range = (range.0.min(-most(&negative)?), range.1.max(most(&largest)?));
                }
                Ok((moments, range))
            }
        }
    }
}

fn extended((low, high): (f64, f64), z: ArrayView2<'_, f32>) -> (f64, f64) {
    let lowest = z.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (low.min(lowest.into()), high.max(highest.into()))
}

/// The second pass: each image's distance to the mean of its class and to that of all.
pub(super) struct Distances<'a> {
    pass: DeviationPass<'a>,
    /// The means, where the distances are computed on a CUDA device.
    means: Option<ClassMeans>,
}

impl<'a> Distances<'a> {
    pub(super) fn new(device: &Device, moments: &'a ClassMoments) -> Outcome<Self> {
        let pass = DeviationPass::new(moments)?;
        let means = match device {
            Device::Cpu => None,
            Device::Cuda(device) => {
                let mut means = Vec::with_capacity(moments.classes() * moments.width());
                for class in 0..moments.classes() {
                    match moments.class_mean(class) {
                        Some(mean) => means.extend(mean),
                        // Of a class without rows no distance is asked for.
                        None => means.resize(means.len() + moments.width(), 0.0),
                    }
                }
                Some(ClassMeans::new(device, &means, pass.global_mean())?)
            }
        };
        Ok(Distances { pass, means })
    }

    /// Takes features `[n, ...]` in, one label for each image.
    pub(super) fn add(&mut self, z: &Tensor, labels: &[usize]) -> Outcome {
        let rows = z.flatten_from(1)?;
        match &self.means {
            None => with_rows(&rows, |rows| Ok(self.pass.update(rows, labels)?)),
            Some(means) => {
                let distances = means.distances(&rows, labels)?;
                Ok(self.pass.update_distances(&distances, labels)?)
            }
        }
    }

    pub(super) fn finish(self) -> Outcome<Deviations> {
        Ok(self.pass.finish()?)
    }
}

/// Neural collapse of a split, in a second pass; on a CUDA device its features are brought to the processor. Without the feature `lapack`
/// nothing inverts the scatter between classes, and it remains unknown.
pub(super) struct Collapsing<'a> {
    #[cfg(feature = "lapack")]
    pass: gpz_estimators::collapse::CollapsePass<'a>,
    #[cfg(not(feature = "lapack"))]
    moments: std::marker::PhantomData<&'a ClassMoments>,
}

#[cfg(feature = "lapack")]
impl<'a> Collapsing<'a> {
    pub(super) fn new(moments: &'a ClassMoments) -> Outcome<Self> {
        Ok(Collapsing { pass: gpz_estimators::collapse::CollapsePass::new(moments, None)? })
    }

    /// Takes features `[n, ...]` in, one label for each image.
    pub(super) fn add(&mut self, z: &Tensor, labels: &[usize]) -> Outcome {
        with_rows(&z.flatten_from(1)?, |rows| Ok(self.pass.update(rows, labels)?))
    }

    /// NC1, where it is identifiable.
    pub(super) fn nc1(self) -> Outcome<Option<f64>> {
        Ok(self.pass.finish()?.nc1_trace.ok().map(|nc1| nc1.value))
    }
}

#[cfg(not(feature = "lapack"))]
impl<'a> Collapsing<'a> {
    pub(super) fn new(_: &'a ClassMoments) -> Outcome<Self> {
        Ok(Collapsing { moments: std::marker::PhantomData })
    }

    pub(super) fn add(&mut self, _: &Tensor, _: &[usize]) -> Outcome {
        Ok(())
    }

    pub(super) fn nc1(self) -> Outcome<Option<f64>> {
        let std::marker::PhantomData = self.moments;
        Ok(None)
    }
}

/// Calls `f` with the rows of a matrix on the processor.
fn with_rows(z: &Tensor, f: impl FnOnce(ArrayView2<'_, f32>) -> Outcome) -> Outcome {
    let shape = (z.shape()[0], z.shape()[1]);
    if let Some(rows) =
        z.as_row_major_slice::<f32>().and_then(|rows| ArrayView2::from_shape(shape, rows).ok())
    {
        return f(rows);
    }
    let rows = z.to_vec::<f32>()?;
    let rows = ArrayView2::from_shape(shape, &rows).map_err(|_| gpz_tensor::Error::Shape {
        op: "features",
        shape: z.shape().into(),
        rule: "one row per image is needed",
    })?;
    f(rows)
}
