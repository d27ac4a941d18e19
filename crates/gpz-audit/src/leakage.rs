//! What a declared channel and a declared prior leave any attacker with.
//!
//! The channel bounds the information that arrives, `I(X̃;Z') ≤ C`; the prior, `x̃ = x + N(0, τ²·I)` at the pictures' own size, gives them
//! a density. What is attacked is the picture as it is shown, `y = U·x̃` with `U` the fixed resize, and its error per element is at
//! least `(k/W) · τ² · pdet(U·Uᵀ)^(1/k) · exp(−2C/k)`: see `docs/declared-bounds.md` and [`SmoothedPrior::mse_floor_through`].

use gpz_data::{Dataset, ImageSet, ImageShape, Parts, resize_weights};
use gpz_estimators::Estimated;
use gpz_estimators::channel::{Channel, LinearMap, SmoothedPrior};
use gpz_models::Target;
use ndarray::Array2;

use crate::config::AuditConfig;
use crate::declared::Declared;
use crate::error::{Error, Result};
use crate::splits::LeakageBound;
use crate::wire::{ChannelWire, SentFeatures};

/// Why nothing is bounded without a channel.
pub const NO_CHANNEL: &str = "no channel is declared: a feature that is sent exactly as computed carries infinite information; declare one \
     with --channel";
/// Why no error is bounded without a prior.
pub const NO_PRIOR: &str = "no prior is declared: a picture as such has no density, so that no error can be bounded; declare noise on \
     the pictures with --prior-tau";

/// The declared prior, and how its pictures are shown to the networks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    smoothed: SmoothedPrior,
    shown: LinearMap,
}

impl Prior {
    /// - `tau`: in units of pixels in [0, 1]; `native`: pictures as they are stored; `shown`: as the networks see them
    ///
    /// # Errors
    /// Sizes that cannot be drawn; [`Error::Bound`].
    pub fn new(tau: f64, native: ImageShape, shown: ImageShape) -> Result<Self> {
        let wrong = |source| Error::Bound { source };
        let rows = axis(native.height, shown.height)?;
        let columns = axis(native.width, shown.width)?;
        let channels = LinearMap::identity(native.channels).map_err(wrong)?;
        Ok(Self {
            smoothed: SmoothedPrior::new(native.elements(), tau).map_err(wrong)?,
            shown: rows.kronecker(&columns).kronecker(&channels),
        })
    }

    /// τ.
    #[must_use]
    pub fn tau(&self) -> f64 {
        self.smoothed.tau()
    }

    /// Any attacker's mean error per element of the shown picture, from the information that arrives. Inside: why there is no floor.
    fn floor(&self, information: &Estimated) -> Result<Estimated> {
        let floor = self.smoothed.mse_floor_through(information, None, &self.shown);
        floor.map_err(|source| Error::Bound { source })
    }
}

fn axis(from: usize, to: usize) -> Result<LinearMap> {
    let wrong = |source| Error::Bound { source };
    if from == to {
        return LinearMap::identity(from).map_err(wrong);
    }
    let weights = resize_weights(from, to)?;
    let matrix = Array2::from_shape_fn((to, from), |(t, s)| weights[t][s]);
    LinearMap::of(matrix.view()).map_err(wrong)
}

/// What a configuration declares, for pictures of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    channel: Declared,
    prior: Option<Prior>,
    seed: u64,
    /// The part that channels are calibrated on.
    part: &'static str,
}

impl Declaration {
    /// # Errors
    /// Those of [`Prior::new`].
    pub fn new(config: &AuditConfig, dataset: &Dataset, parts: &Parts) -> Result<Self> {
        let (native, shown) = (dataset.native_shape(), parts.test.shape());
        let prior = config.prior_tau.map(|tau| Prior::new(tau, native, shown)).transpose()?;
        let part = parts.target_train.part().name();
        Ok(Self { channel: config.channel, prior, seed: config.seed, part })
    }

    /// The channel at each of the splits whose features are given, and what it bounds there.
    ///
    /// # Errors
    /// [`Error::Statistics`] for features that do not vary where a range is needed; those of [`leakage_bound`].
    pub fn at(
        &self,
        target: &dyn Target,
        sent: &[&SentFeatures],
    ) -> Result<(ChannelWire, Vec<Option<LeakageBound>>)> {
        let (mut channels, mut bounds) = (Vec::new(), Vec::new());
        for features in sent {
            let channel = features.channel(self.channel, target, self.part)?;
            let place = (target.taps()[features.split - 1].name.as_str(), self.part);
            bounds.push(leakage_bound(
                self.channel,
                &channel,
                features,
                place,
                self.prior.as_ref(),
            )?);
            channels.push((features.split, channel));
        }
        Ok((ChannelWire::new(self.seed, channels), bounds))
    }
}

/// What is bounded at a split; none without a channel.
///
/// # Errors
/// [`Error::NotIdentifiable`] where one image alone has no variance; [`Error::Bound`].
pub fn leakage_bound(
    declared: Declared,
    channel: &Channel,
    features: &SentFeatures,
    (split, part): (&str, &str),
    prior: Option<&Prior>,
) -> Result<Option<LeakageBound>> {
    let wrong = |source| Error::Bound { source };
    let unknown = |reason: String| Error::NotIdentifiable {
        split: split.to_owned(),
        part: part.to_owned(),
        reason,
    };
    let information = match *channel {
        Channel::None => return Ok(None),
        Channel::Noise { sigma } => {
            let spread = features.spread.as_ref().map_err(|reason| unknown(reason.to_string()))?;
            spread.information_nats(sigma).map_err(wrong)?
        }
        ref channel => {
            let limit = channel.limit_nats(features.width).map_err(wrong)?;
            limit.map_err(|reason| unknown(reason.to_string()))?
        }
    };
    let floor = match prior {
        Some(prior) => prior.floor(&Ok(information.clone()))?.map_err(|reason| reason.to_string()),
        None => Err(NO_PRIOR.to_owned()),
    };
    Ok(Some(LeakageBound {
        channel: declared,
        information_nats: information.value,
        information_kind: information.kind,
        prior_tau: prior.map(Prior::tau),
        mse_floor: floor.as_ref().ok().map(|floor| floor.value),
        mse_floor_kind: floor.as_ref().ok().map(|floor| floor.kind),
        reason: floor.err(),
    }))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use gpz_estimators::channel::Spread;
    use gpz_estimators::{Kind, NotIdentifiable};

    use super::*;

    fn bound(
        declared: &str,
        tau: Option<f64>,
        native: (usize, usize),
        shown: (usize, usize),
    ) -> Option<LeakageBound> {
        let declared: Declared = declared.parse().unwrap();
        let shape = |(height, width)| ImageShape { height, width, channels: 3 };
        let prior = tau.map(|tau| Prior::new(tau, shape(native), shape(shown)).unwrap());
        let spread = Ok(Spread::population(vec![3.0, 0.0]).unwrap());
        let features = SentFeatures { split: 1, width: 2, range: (-1.0, 1.0), spread };
        let channel = declared.channel(features.range).unwrap();
        leakage_bound(declared, &channel, &features, ("a", "b"), prior.as_ref()).unwrap()
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(bound("none", Some(0.1), (4, 4), (4, 4)), None);
        let open = bound("bits:3", None, (4, 4), (4, 4)).unwrap();
        assert_eq!((open.mse_floor, open.mse_floor_kind, open.prior_tau), (None, None, None));
        assert_eq!((open.information_kind, open.information_nats), (Kind::Upper, 6.0 * LN_2));
        assert_eq!(open.reason.as_deref(), Some(NO_PRIOR));
    }

    /// Why there is no floor is handed on, not lost.
    #[test]
    fn a_floor_that_is_missing_has_its_reason() {
        let shape = ImageShape { height: 4, width: 4, channels: 3 };
        let prior = Prior::new(0.1, shape, shape).unwrap();
        let floor = prior.floor(&Err(NotIdentifiable::NoChannel)).unwrap();
        assert_eq!(floor, Err(NotIdentifiable::NoChannel));
    }

    /// By hand: nothing resized; one axis of two pixels shown as three, whose eigenvalues are 1 and 3/2; one that is shrunk to its mean.
    #[test]
    fn floors_follow_the_formula() {
        let information: f64 = 6.0 * LN_2;
        let near = |bound: Option<LeakageBound>, want: f64| {
            let bound = bound.unwrap();
            let got = bound.mse_floor.unwrap();
            assert!((got / want - 1.0).abs() < 1e-12, "{got} for {want}");
            assert_eq!((bound.mse_floor_kind, bound.reason), (Some(Kind::Lower), None));
        };
        let (tau, white) = (Some(0.2), 0.04);
        near(bound("bits:3", tau, (4, 5), (4, 5)), white * (-2.0 * information / 60.0).exp());
        let enlarged = 12.0 / 18.0 * white * 1.5f64.sqrt() * (-2.0 * information / 12.0).exp();
        near(bound("bits:3", tau, (2, 2), (3, 2)), enlarged);
        // Of white noise, a weighted mean leaves the sum of the squared weights.
        let weights = resize_weights(4, 1).unwrap();
        let left: f64 = weights[0].iter().map(|w| w * w).sum();
        near(bound("bits:3", tau, (4, 2), (1, 2)), white * left * (-2.0 * information / 6.0).exp());
    }

    /// Behind noise the variances decide: these are given as the population's, so the bound is one.
    #[test]
    fn behind_noise_variances_decide() {
        let known = bound("noise:1", Some(0.1), (2, 2), (2, 2)).unwrap();
        assert_eq!(known.information_kind, Kind::Upper);
        assert!((known.information_nats - LN_2).abs() < 1e-15);
        assert!((known.mse_floor.unwrap() - 0.01 * (-2.0 * LN_2 / 12.0).exp()).abs() < 1e-15);
    }
}
