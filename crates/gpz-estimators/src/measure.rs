//! Class geometry as estimates: each measure with its error, its direction and what speaks against it.

use crate::deviations::Deviations;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, Uncertainty};
use crate::geometry::Normalisation;
use crate::oddities::Oddities;

/// A measure of class geometry, in squared units of the features; [`WithinOverTotal`](Measure::WithinOverTotal) has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Measure {
    /// R_c² of one class: [`Deviations::radius_sq`].
    RadiusSq(usize),
    /// R_c² averaged over the classes of three rows or more: [`Deviations::mean_radius_sq`].
    MeanRadiusSq,
    /// Variance within classes: [`Deviations::within`].
    Within,
    /// Variance between classes: [`Deviations::between`].
    Between,
    /// Total variance: [`Deviations::total`].
    Total,
    /// Share of the variance that lies within classes: [`Deviations::within_over_total`].
    WithinOverTotal,
}

impl Deviations {
    /// A measure as an estimate of the population's, with its standard error by the exact jackknife over rows.
    ///
    /// [`Kind::Heuristic`]: with [`Normalisation::Unbiased`] radii, total and within have the population's as their expectation; with
    /// [`Normalisation::PlugIn`] a radius is low by `R_c²/N_c` on average, and the others accordingly. Flags say of constant dimensions,
    /// dead units, classes without rows and classes of one row, whose zero deviation says nothing.
    ///
    /// # Errors
    /// [`Error::NoRows`] and the like of the measure's own function. Inside: what it has there, such as
    /// [`NotIdentifiable::TooFewRows`](crate::NotIdentifiable::TooFewRows).
    ///
    /// # Source
    /// Efron and Stein, The jackknife estimate of variance, 1981.
    ///
    /// ```
    /// use gpz_estimators::{ClassMoments, DeviationPass, Measure, Normalisation};
    /// use ndarray::array;
    ///
    /// let (z, y) = (array![[0.0], [1.0], [5.0]], [0, 0, 0]);
    /// let mut moments = ClassMoments::new(1, 1)?;
    /// moments.update(z.view(), &y)?;
    /// let mut pass = DeviationPass::new(&moments)?;
    /// pass.update(z.view(), &y)?;
    /// let radius = pass.finish()?.estimate(Measure::RadiusSq(0), Normalisation::Unbiased)?.expect("three rows");
    /// assert!((radius.value - 7.0).abs() < 1e-12 && radius.std_err.is_some());
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    pub fn estimate(
        &self,
        measure: Measure,
        normalisation: Normalisation,
    ) -> Result<Estimated, Error> {
        // The error does not depend on the level of the interval.
        const LEVEL: f64 = 0.95;
        let found = match measure {
            Measure::RadiusSq(class) => self.radius_sq(class, normalisation, LEVEL),
            Measure::MeanRadiusSq => self.mean_radius_sq(normalisation, LEVEL),
            Measure::Within => self.within(normalisation, LEVEL),
            Measure::Between => self.between(normalisation, LEVEL),
            Measure::Total => self.total(normalisation, LEVEL),
            Measure::WithinOverTotal => self.within_over_total(normalisation, LEVEL),
        }?;
        let geometry = self.geometry();
        let of_one = matches!(measure, Measure::RadiusSq(_));
        let (empty, singletons) = (geometry.empty_classes(), geometry.singleton_classes());
        Ok(found.map(|found| {
            Estimate::new(found.value, Kind::Heuristic, found.n as f64)
                .std_err(found.std_err, Uncertainty::Jackknife)
                .freedom(found.degrees_of_freedom)
                .odd(&Oddities::of_moments(geometry))
                .flag(!of_one && !empty.is_empty(), Flag::EmptyClasses(empty.len()))
                .flag(!of_one && !singletons.is_empty(), Flag::SingletonClass)
        }))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::estimate::NotIdentifiable;
    use crate::{ClassMoments, DeviationPass};

    /// The numbers are those of the intervals, and what is odd is said of all classes but not of a single one.
    #[test]
    fn estimates_are_the_intervals_with_what_speaks_against_them() -> Result<(), Error> {
        let z = array![[0.0, 1.0], [1.0, 1.0], [5.0, 1.0], [7.0, 1.0]];
        let y = [0, 0, 0, 2];
        let mut moments = ClassMoments::new(3, 2)?;
        moments.update(z.view(), &y)?;
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(z.view(), &y)?;
        let deviations = pass.finish()?;
        for normalisation in [Normalisation::PlugIn, Normalisation::Unbiased] {
            let within = deviations.estimate(Measure::Within, normalisation)?;
            let interval = deviations.within(normalisation, 0.8)?;
            let (Ok(within), Ok(interval)) = (within, interval) else { panic!("four rows") };
            assert_eq!((within.value, within.std_err), (interval.value, Some(interval.std_err)));
            let flags = [Flag::ConstantDimensions(1), Flag::EmptyClasses(1), Flag::SingletonClass];
            assert_eq!(within.flags, flags);
        }
        let radius = deviations.estimate(Measure::RadiusSq(0), Normalisation::PlugIn)?;
        assert!(radius.is_ok_and(|radius| radius.flags == [Flag::ConstantDimensions(1)]));
        let empty = deviations.estimate(Measure::RadiusSq(1), Normalisation::PlugIn)?;
        assert_eq!(empty, Err(NotIdentifiable::EmptyClass { class: 1 }));
        Ok(())
    }
}
