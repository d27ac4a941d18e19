//! Spectra of covariances: eigenvalues from whichever side is smaller, how many dimensions they fill, and what noise alone would do
//! (feature `lapack`).

use ndarray::ArrayView2;

use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::geometry::Normalisation;
use crate::gram::Sample;
use crate::lapack;
use crate::oddities::Oddities;
use crate::simd::Element;

/// Eigenvalues of the covariance of the rows, divisor `N`, with what follows from them.
///
/// Of `n` rows in `D` dimensions at most `n − 1` eigenvalues differ from zero. They come from the `D × D` covariance where `D ≤ n`,
/// else from the `n × n` Gram matrix, which has the same ones; a `D × D` array is then never made. Memory: `8·min(n, D)²` bytes and
/// blocks of 32 MiB.
///
/// **Bias.** The spectrum of a sample is wider than the population's: its largest eigenvalues are high, its smallest low, however
/// many rows there are, as long as `D/n` stays; see [`MarchenkoPastur`].
///
/// **Standard errors.** Eigenvalues, rank and ratios are exact for the covariance of the rows given, and say nothing of another sample's.
/// As estimates for a population they scatter; [`grouped_jackknife`](crate::grouped_jackknife) says by how much.
///
/// ```
/// use gpz_estimators::spectrum::Spectrum;
/// use ndarray::array;
///
/// let spectrum = Spectrum::of(array![[2.0, 0.0, 7.0], [-2.0, 0.0, 7.0], [0.0, 1.0, 7.0], [0.0, -1.0, 7.0]].view())?;
/// assert_eq!(spectrum.rank(), 2);
/// assert_eq!(spectrum.constant_dimensions(), [2]);
/// assert!((spectrum.eigenvalues()[0] - 2.0).abs() < 1e-14 && (spectrum.eigenvalues()[1] - 0.5).abs() < 1e-14);
/// let ratio = spectrum.participation_ratio()?.value;
/// assert!((ratio - 6.25 / 4.25).abs() < 1e-14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    rows: usize,
    width: usize,
    /// `[min(n, d)]`, descending.
    eigenvalues: Vec<f64>,
    rank: usize,
    constant: Vec<usize>,
    odd: Oddities,
}

impl Spectrum {
    /// The spectrum of rows.
    ///
    /// - `features`: `[n, d]`, `f32` or `f64`, of any strides
    ///
    /// # Errors
    /// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`], [`Error::Factorisation`].
    pub fn of<T: Element>(features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let sample = Sample::of(features)?;
        let (rows, width) = features.dim();
        let eigenvalues: Vec<f64> = lapack::eigenvalues(&sample.smaller_side(None), rows, width)?
            .into_iter()
            .map(|value| value.max(0.0) / rows as f64)
            .collect();
        let constant = sample.constant();
        let most = (rows - 1).min(width - constant.len());
        let mut rank = lapack::rank(&eigenvalues, rows, width).min(most);
        if rank < most {
            // Scales apart by more than rounding look like a lack of rank; standardised columns tell the two apart.
            let standardised = sample.smaller_side(Some(&sample.unit_weights()));
            let values = lapack::eigenvalues(&standardised, rows, width)?;
            rank = lapack::rank(&values, rows, width).min(most);
        }
        let odd = sample.oddities();
        Ok(Self { rows, width, eigenvalues, rank, constant, odd })
    }

    /// Rows behind the spectrum.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of the features.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The first `min(n, D)` eigenvalues, descending, divisor `N`, in squared feature units; all others are zero. Rounding may leave
    /// one that is zero at `±ε` of the largest; negative ones are given as zero.
    #[must_use]
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigenvalues
    }

    /// Numerical rank: eigenvalues above `max(n, D)·ε` of the largest, columns standardised where the scales differ so far that it
    /// matters. Constant columns do not count, and exact linear relations between columns take one each. Never above `n − 1`.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Dimensions that never change, ascending.
    #[must_use]
    pub fn constant_dimensions(&self) -> &[usize] {
        &self.constant
    }

    /// `γ = D/N`.
    #[must_use]
    pub fn aspect(&self) -> f64 {
        self.width as f64 / self.rows as f64
    }

    /// Trace of the covariance, divisor `N`.
    #[must_use]
    pub fn trace(&self) -> f64 {
        self.eigenvalues.iter().sum()
    }

    /// `(Σλ)² / Σλ²`: the number of equal eigenvalues that would be as spread out, in dimensions.
    ///
    /// Of the sample's own covariance, hence exact for it. For the population's it is low: white noise of `D` dimensions gives
    /// `D/(1 + D/n)`; [`participation_ratio_corrected`](Self::participation_ratio_corrected) mends that. Never above
    /// `min(n − 1, D)`, its ceiling; near it the value counts rows and not dimensions.
    ///
    /// # Errors
    /// [`NotIdentifiable::NoVariance`] where all rows are equal.
    ///
    /// # Source
    /// Gao et al., A theory of multineuronal dimensionality, dynamics and measurement, 2017. An example: [`Spectrum`].
    pub fn participation_ratio(&self) -> Estimated {
        let squares: f64 = self.eigenvalues.iter().map(|value| value * value).sum();
        self.dimensions(self.trace().powi(2) / squares)
    }

    /// The participation ratio of the population's covariance, from unbiased estimates of `(tr Σ)²` and `tr Σ²` for Gaussian rows.
    ///
    /// With `ν = n − 1` and `S` of that divisor: `tr Σ² ≈ ν²/((ν − 1)(ν + 2)) · (tr S² − (tr S)²/ν)` and
    /// `(tr Σ)² ≈ (tr S)² − 2/ν · tr Σ²`. A ratio of unbiased estimates is not itself unbiased, only nearly; heavier tails than Gaussian ones
    /// leave it low. Where few rows hardly show any structure, the estimate of `tr Σ²` may be near zero or below: the ratio is then
    /// large or negative, and not clipped. Standard error: as [`Spectrum`] says.
    ///
    /// ```
    /// use gpz_estimators::spectrum::Spectrum;
    /// use ndarray::array;
    ///
    /// let spectrum = Spectrum::of(array![[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]].view())?;
    /// let (plain, corrected) = (spectrum.participation_ratio()?, spectrum.participation_ratio_corrected()?);
    /// // With ν = 3, tr S = 20/3 and tr S² = 328/9: tr Σ² ≈ 0.9 · (328/9 − 400/27) = 19.4667.
    /// let squares = 0.9 * (328.0 / 9.0 - 400.0 / 27.0);
    /// assert!((corrected.value - (400.0 / 9.0 - 2.0 / 3.0 * squares) / squares).abs() < 1e-13);
    /// assert!(corrected.value > plain.value);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NotIdentifiable::NoVariance`]; [`NotIdentifiable::TooFewRows`] below three rows.
    ///
    /// # Source
    /// Srivastava, Some tests concerning the covariance matrix in high dimensional data, 2005.
    pub fn participation_ratio_corrected(&self) -> Estimated {
        if self.trace() == 0.0 {
            return Err(NotIdentifiable::NoVariance);
        }
        if self.rows < 3 {
            let have = self.rows as u64;
            return Err(NotIdentifiable::TooFewRows { class: None, have, need: 3 });
        }
        let (n, nu) = (self.rows as f64, self.rows as f64 - 1.0);
        let trace = self.trace() * n / nu;
        let squares =
            self.eigenvalues.iter().map(|value| value * value).sum::<f64>() * (n / nu).powi(2);
        let population = nu * nu / ((nu - 1.0) * (nu + 2.0)) * (squares - trace * trace / nu);
        let value = (trace * trace - 2.0 / nu * population) / population;
        Ok(Estimate::new(value, Kind::Heuristic, n)
            .flag(true, Flag::AssumesGaussian)
            .odd(&self.odd))
    }

    /// `exp(−Σ p ln p)` with `p = λ/Σλ`: the effective rank, in dimensions.
    ///
    /// At least the participation ratio, and as low for the population: never above `min(n − 1, D)`, its ceiling. Standard error: as
    /// [`Spectrum`] says.
    ///
    /// ```
    /// use gpz_estimators::{Flag, grouped_jackknife, spectrum::Spectrum};
    /// use ndarray::{Array2, Axis, array};
    ///
    /// let even = Spectrum::of(array![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].view())?;
    /// assert!((even.effective_rank()?.value - 2.0).abs() < 1e-14); // two equal eigenvalues
    /// // With an error, at twenty-one times the cost.
    /// let rows = Array2::from_shape_fn((100, 5), |(i, j)| ((i * i + j * i) as f64 * 0.618_033_988_7).fract());
    /// let rank = grouped_jackknife(100, 20, |kept| Ok(Spectrum::of(rows.select(Axis(0), kept).view())?.effective_rank()))??;
    /// assert!(rank.std_err.is_some_and(|std_err| std_err > 0.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NotIdentifiable::NoVariance`] where all rows are equal.
    ///
    /// # Source
    /// Roy and Vetterli, The effective rank: a measure of effective dimensionality, 2007.
    pub fn effective_rank(&self) -> Estimated {
        let trace = self.trace();
        let shares =
            self.eigenvalues.iter().map(|value| value / trace).filter(|&share| share > 0.0);
        self.dimensions((-shares.map(|share| share * share.ln()).sum::<f64>()).exp())
    }

    /// Eigenvalues above `margin` times the upper edge that noise of this variance alone reaches.
    ///
    /// - `normalisation`: the divisor of the eigenvalues compared, `N` or `N − 1`
    /// - `margin`: 1.02, say: the largest of noise overshoots the edge by about `n^(−2/3)`
    ///
    /// A lower count of the directions that are not noise: those with a variance below
    /// [`MarchenkoPastur::threshold`] leave no trace in the eigenvalues. Needs the noise's variance: one estimated from the same rows is
    /// high by the spikes' share, which lowers the count. A number of the rows given, without an error.
    ///
    /// ```
    /// use gpz_estimators::{Normalisation, spectrum::Spectrum};
    /// use ndarray::array;
    ///
    /// // Eigenvalues 8 and 1/2; noise of variance 1/2 reaches 0.5 · (1 + √½)² = 1.46.
    /// let spectrum = Spectrum::of(array![[4.0, 0.0], [-4.0, 0.0], [0.0, 1.0], [0.0, -1.0]].view())?;
    /// assert_eq!(spectrum.above_edge(0.5, 1.02, Normalisation::PlugIn)?, 1);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`MarchenkoPastur::new`]; [`Error::Parameter`] for a margin that is not positive.
    pub fn above_edge(
        &self,
        variance: f64,
        margin: f64,
        normalisation: Normalisation,
    ) -> Result<usize, Error> {
        if !(margin > 0.0 && margin.is_finite()) {
            let rule = "the edge is multiplied by a positive number, 1 for itself";
            return Err(Error::Parameter { name: "margin", value: margin, rule });
        }
        let edge = margin * MarchenkoPastur::new(variance, self.aspect())?.edges().1;
        let divisor = match normalisation {
            Normalisation::PlugIn => 1.0,
            Normalisation::Unbiased => self.rows as f64 / (self.rows as f64 - 1.0),
        };
        Ok(self.eigenvalues.iter().filter(|&&value| value * divisor > edge).count())
    }

    fn dimensions(&self, value: f64) -> Estimated {
        if self.trace() == 0.0 {
            return Err(NotIdentifiable::NoVariance);
        }
        let ceiling = (self.rows - 1).min(self.width);
        // A ratio as large as the width is the plain truth of equal variances; only too few rows make it a ceiling.
        let by_rows = self.rows <= self.width;
        let mut estimate = Estimate::new(value, Kind::Exact, self.rows as f64);
        if by_rows {
            estimate = estimate.ceiling(ceiling as f64);
        } else {
            estimate.ceiling = Some(ceiling as f64);
        }
        Ok(estimate.odd(&self.odd))
    }
}

/// What the covariance of `n` rows of pure noise in `D` dimensions looks like, and a spike in it, as both grow with `γ = D/n` fixed.
///
/// ```
/// use gpz_estimators::spectrum::MarchenkoPastur;
///
/// let noise = MarchenkoPastur::new(1.0, 0.25)?;
/// assert_eq!(noise.edges(), (0.25, 2.25));
/// assert_eq!(noise.threshold(), 1.5);
/// assert_eq!(noise.detectable(&[6.0, 3.0, 1.2]), 2);
/// assert_eq!(noise.sample_eigenvalue(3.0), Some(3.375));
/// assert_eq!(noise.spike(3.375), Some(3.0));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// Marčenko and Pastur 1967; Baik, Ben Arous and Péché 2005; Baik and Silverstein 2006.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarchenkoPastur {
    variance: f64,
    aspect: f64,
}

impl MarchenkoPastur {
    /// Noise of a variance per dimension, with `aspect` `γ = D/n`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless both are positive and finite.
    pub fn new(variance: f64, aspect: f64) -> Result<Self, Error> {
        for (name, value) in [("variance", variance), ("aspect", aspect)] {
            if !(value > 0.0 && value.is_finite()) {
                let rule = "it must be a positive number";
                return Err(Error::Parameter { name, value, rule });
            }
        }
        Ok(Self { variance, aspect })
    }

    /// `σ²(1 ∓ √γ)²`: between these lie the eigenvalues of noise that are not zero. With `γ > 1` a share `1 − 1/γ` of all is zero.
    #[must_use]
    pub fn edges(&self) -> (f64, f64) {
        let root = self.aspect.sqrt();
        (self.variance * (1.0 - root).powi(2), self.variance * (1.0 + root).powi(2))
    }

    /// `σ²(1 + √γ)`: a direction of the population with no more variance than this does not show in the sample's eigenvalues.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.variance * (1.0 + self.aspect.sqrt())
    }

    /// How many of these variances of the population show in the sample's eigenvalues.
    #[must_use]
    pub fn detectable(&self, spikes: &[f64]) -> usize {
        spikes.iter().filter(|&&spike| spike > self.threshold()).count()
    }

    /// Where the eigenvalue of a direction of this variance comes to lie: `ℓ(1 + γσ²/(ℓ − σ²))`; none below the threshold.
    #[must_use]
    pub fn sample_eigenvalue(&self, spike: f64) -> Option<f64> {
        let shown = spike > self.threshold();
        shown.then(|| spike * (1.0 + self.aspect * self.variance / (spike - self.variance)))
    }

    /// The variance of the population behind an eigenvalue of the sample, the inverse of
    /// [`sample_eigenvalue`](Self::sample_eigenvalue); none at or below the upper edge.
    #[must_use]
    pub fn spike(&self, eigenvalue: f64) -> Option<f64> {
        let sum = eigenvalue + self.variance * (1.0 - self.aspect);
        let root = sum * sum - 4.0 * eigenvalue * self.variance;
        (eigenvalue > self.edges().1).then(|| (sum + root.max(0.0).sqrt()) / 2.0)
    }
}
