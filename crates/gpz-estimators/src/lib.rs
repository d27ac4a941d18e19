//! Statistics of features on plain arrays: class geometry, entropies, informations, dimensions, spectra, channels.
//!
//! Views of `ndarray` go in, numbers come out; the crate knows nothing of tensors, networks or GPUs.
//!
//! 1. [`ClassMoments`] reads the features once, in batches of any size, and merges shards in any grouping.
//! 2. [`ClassGeometry`] is what follows from finished moments: R_c², within, between and total variance.
//! 3. [`DeviationPass`] reads the same features again and keeps two numbers per image, from which [`Deviations`]
//!    gives exact jackknife intervals and the contributions a paired resampling over images needs.
//! 4. [`entropy`] turns moments into maximum-entropy bounds; [`Estimate`] says what a number is and which way it errs.
//! 5. [`gaussian`] has the bounds by covariances, corrected for the sample's size and shrunk; `spectrum` and `collapse` look at
//!    eigenvalues and at class means (feature `lapack`); [`plan`] says what memory class statistics take before they start.
//! 6. [`channel`] says what a declared channel lets through, and below which error no attacker behind it can come.
//! 7. From the rows themselves: [`information`], [`dependence`], [`dimension`], and the other modules of [`entropy`].
//!
//! ```
//! use gpz_estimators::{ClassMoments, Normalisation};
//! use ndarray::array;
//!
//! let features = array![[1.0_f32, 2.0], [3.0, 2.0], [9.0, 9.0], [9.0, 5.0]];
//! let mut moments = ClassMoments::new(3, 2)?;
//! moments.update(features.view(), &[0, 0, 2, 2])?;
//! let geometry = moments.geometry()?;
//! assert_eq!(geometry.radius_sq(0, Normalisation::PlugIn), Some(1.0));
//! assert_eq!(geometry.radius_sq(1, Normalisation::PlugIn), None); // no member, so no radius
//! assert_eq!(geometry.radius_sq(2, Normalisation::Unbiased), Some(8.0));
//! # Ok::<(), gpz_estimators::Error>(())
//! ```
//!
//! # Features
//! Nothing here needs a system library, but for what factorises a covariance. That is behind the feature `lapack`, which selects
//! ndarray-linalg's `openblas-system` (`libopenblas-dev` on Debian). Any other of its back ends is chosen **instead of** `lapack`:
//!
//! | feature | what is linked |
//! |---|---|
//! | `lapack`, `lapack-openblas-system` | OpenBLAS as installed |
//! | `lapack-openblas-static` | OpenBLAS, built from source |
//! | `lapack-netlib-system`, `lapack-netlib-static` | the reference LAPACK as installed, or built from source |
//! | `lapack-intel-mkl-system`, `lapack-intel-mkl-static` | Intel's MKL as installed, or downloaded |
//! | `lapack-base` | nothing: for libraries, which leave the choice to the program that depends on them |
//!
//! Each gives the same functions. One is enough, and with two of them both libraries are linked.
//!
//! All sums are `f64`, whatever the input; work is cut by problem size, so that no bit depends on the number of threads,
//! except for those that a LAPACK library starts of its own (`OPENBLAS_NUM_THREADS=1` keeps OpenBLAS to one).
#![deny(unsafe_code)]

mod batch;
pub mod channel;
mod cholesky;
#[cfg(feature = "lapack-base")]
pub mod collapse;
pub mod dependence;
mod deviations;
mod digamma;
pub mod dimension;
pub mod entropy;
mod error;
mod estimate;
pub mod gaussian;
mod geometry;
#[cfg(feature = "lapack-base")]
mod gram;
pub mod information;
mod jackknife;
mod jobs;
#[cfg(feature = "lapack-base")]
mod lapack;
mod measure;
mod moments;
mod neighbours;
mod oddities;
mod parts;
pub mod plan;
mod projection;
mod repeats;
mod rows;
#[allow(unsafe_code)]
mod simd;
#[cfg(feature = "lapack-base")]
pub mod spectrum;

pub use deviations::{DeviationPass, Deviations, ImageContribution, ImageContributions};
pub use error::Error;
pub use estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, SATURATION, Uncertainty};
pub use geometry::{ClassGeometry, Normalisation};
pub use jackknife::{Interval, grouped_jackknife};
pub use measure::Measure;
pub use moments::ClassMoments;
pub use neighbours::{Metric, Neighbours};
pub use projection::{Projection, project};
pub use rows::{KNN_DIMENSIONS, RowReport};
pub use simd::{Element, Isa};
