//! Maximum-entropy bounds of the differential entropy of features, in nats.
//!
//! Among all densities of a given second moment the Gaussian has the largest entropy, so a variance bounds `h(Z)` from above.
//! **These bound h(Z), not leakage.** `H(X|Z) ≥ H(X) − h(Z) − κ` holds with a constant κ that is unknown and differs by layer,
//! and rescaling Z moves h(Z) at will: they neither bound what an attacker learns nor rank layers.
//!
//! The values here are plug-ins: the sample's moments in a formula that bounds with the population's. Their kind is therefore
//! [`Kind::Heuristic`], with [`Flag::PlugInOfUpperBound`]. With the divisor `N` a radius is low by `1/N_c` on average, so that a
//! per-class value is low by about `D/(2·N_c)` nats.
//!
//! ```
//! use gpz_estimators::{ClassMoments, entropy};
//! use ndarray::array;
//!
//! let mut moments = ClassMoments::new(1, 2)?;
//! moments.update(array![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].view(), &[0; 4])?;
//! let bound = entropy::isotropic_bound_nats(&moments.geometry()?);
//! let (variance, e, pi) = (0.5, std::f64::consts::E, std::f64::consts::PI);
//! assert!((bound.value - (2.0 * pi * e * variance).ln()).abs() < 1e-14);
//! # Ok::<(), gpz_estimators::Error>(())
//! ```

use std::f64::consts::{E, PI};

use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::geometry::{ClassGeometry, Normalisation};

/// `(D/2) ln(2πe σ²)`: entropy of a Gaussian with the variance `σ²` in each of `width` dimensions, in nats; `-inf` at zero.
#[must_use]
pub fn isotropic_gaussian_nats(width: usize, variance: f64) -> f64 {
    // The factors' logarithms apart: 2πe σ² itself may overflow.
    width as f64 / 2.0 * ((2.0 * PI * E).ln() + variance.ln())
}

/// Feature level: `h(Z) ≤ (D/2) ln(2πe σ²)`, σ² the mean variance of a dimension (divisor `N`), in nats.
///
/// `-inf` if nothing varies. Constant dimensions make h(Z) itself `-inf`; the bound stays true, and flagged.
///
/// # Source
/// arXiv 2506.15412, feature level; maximum entropy under a trace constraint.
#[must_use]
pub fn isotropic_bound_nats(geometry: &ClassGeometry) -> Estimate {
    let constant = geometry.constant_dimensions().len();
    let value = isotropic_gaussian_nats(geometry.width(), geometry.mean_variance());
    Estimate::new(value, Kind::Heuristic, geometry.rows() as f64)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
        .flag(constant > 0, Flag::ConstantDimensions(constant))
}

/// Decision level: `h(Z|Y=c) ≤ (D/2) ln(2πe R_c²/D)` of one class, `R_c²` with the divisor `N_c`, in nats.
///
/// `-inf` for a class of zero radius. A class of one has no radius; its formal value is `-inf` and flagged as such.
///
/// # Errors
/// [`NotIdentifiable::EmptyClass`] for a class without rows.
///
/// # Source
/// arXiv 2506.15412, decision level.
pub fn class_bound_nats(geometry: &ClassGeometry, class: usize) -> Estimated {
    let sum_of_squares =
        geometry.sum_of_squares(class).ok_or(NotIdentifiable::EmptyClass { class })?;
    let count = geometry.counts()[class];
    let value = isotropic_gaussian_nats(
        geometry.width(),
        sum_of_squares / count as f64 / geometry.width() as f64,
    );
    Ok(Estimate::new(value, Kind::Heuristic, count as f64)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
        .flag(count == 1, Flag::SingletonClass))
}

/// Valid for the mixture of all classes: `h(Z) ≤ H(Y) + Σ_c p_c (D/2) ln(2πe R_c²/D)`, in nats, `p_c` the classes' shares.
///
/// From `h(Z) ≤ h(Z, Y) = H(Y) + h(Z|Y)`. `-inf` if a class has zero radius: the bound is then empty of content.
///
/// # Errors
/// [`NotIdentifiable::SingletonClasses`] if a class has one row: its radius is unknown, so the mixture's bound is too.
pub fn mixture_bound_nats(geometry: &ClassGeometry) -> Estimated {
    let singletons = geometry.singleton_classes();
    if let Some(&first) = singletons.first() {
        return Err(NotIdentifiable::SingletonClasses { count: singletons.len(), first });
    }
    let n = geometry.rows() as f64;
    let mut value = label_entropy_nats(geometry).value;
    for (class, &count) in geometry.counts().iter().enumerate() {
        if let Some(radius) = geometry.radius_sq(class, Normalisation::PlugIn) {
            value += count as f64 / n
                * isotropic_gaussian_nats(geometry.width(), radius / geometry.width() as f64);
        }
    }
    let empty = geometry.empty_classes().len();
    Ok(Estimate::new(value, Kind::Heuristic, n)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
        .flag(empty > 0, Flag::EmptyClasses(empty)))
}

/// `H(Y) = −Σ_c p_c ln p_c` of the labels seen, in nats: exact for them, low by about `(K − 1)/(2N)` for their population.
#[must_use]
pub fn label_entropy_nats(geometry: &ClassGeometry) -> Estimate {
    let n = geometry.rows() as f64;
    let shares =
        geometry.counts().iter().filter(|&&count| count > 0).map(|&count| count as f64 / n);
    // One class gives 0 and not −0, as `−Σ` would.
    let sum: f64 = shares.map(|share| share * share.ln()).sum();
    let mut estimate = Estimate::new(0.0 - sum, Kind::Exact, n);
    estimate.ceiling = Some((geometry.classes() as f64).ln());
    estimate
}
