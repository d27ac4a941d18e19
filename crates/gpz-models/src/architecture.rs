//! What a target is made of and what its splits cost, in numbers: known before any weight is set aside.

use crate::error::{Error, Result};
use crate::target::{SplitCost, StageCost, Tap};

/// A target that need not have been built.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Name with the parameters that define it, such as `cnn4:width=16`.
    pub model: String,
    /// Shape of the input, `[c, h, w]`.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// The places where the network can be cut, in order.
    pub taps: Vec<Tap>,
    /// What each stage costs; one more than there are taps.
    pub stages: Vec<StageCost>,
    /// Values of the largest feature of one image on its way through, tapped or not.
    pub largest_feature: u64,
}

impl Architecture {
    /// Learnt values.
    #[must_use]
    pub fn params(&self) -> u64 {
        self.stages.iter().map(|stage| stage.params).sum()
    }

    /// Multiply-accumulates for one image.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.stages.iter().map(|stage| stage.macs).sum()
    }

    /// Bytes in f32 without which no forward pass of `images` images at once is possible: the weights, and the largest feature with
    /// the one that is computed from it. Training takes several times as much.
    #[must_use]
    pub fn least_bytes(&self, images: usize) -> u128 {
        let pass = 2 * u128::from(self.largest_feature) * images as u128;
        4 * (u128::from(self.params()) + pass)
    }

    /// What a split (1-based) costs.
    ///
    /// # Errors
    /// [`Error::UnknownSplit`].
    pub fn split_cost(&self, split: usize) -> Result<SplitCost> {
        split_cost(&self.model, &self.taps, &self.stages, split)
    }

    /// The 1-based index of a split given by name or number.
    ///
    /// # Errors
    /// [`Error::UnknownSplit`] lists what there is.
    pub fn find_split(&self, name: &str) -> Result<usize> {
        find_split(&self.model, &self.taps, name)
    }
}

pub(crate) fn split_cost(
    model: &str,
    taps: &[Tap],
    stages: &[StageCost],
    split: usize,
) -> Result<SplitCost> {
    check_split(taps, model, split)?;
    let sum = |stages: &[StageCost]| {
        stages.iter().fold((0, 0), |(params, macs), s| (params + s.params, macs + s.macs))
    };
    let ((edge_params, edge_macs), (params, macs)) = (sum(&stages[..split]), sum(stages));
    Ok(SplitCost {
        wire_bytes: taps[split - 1].wire_bytes(),
        edge_params,
        edge_params_fraction: edge_params as f64 / params as f64,
        edge_macs,
        edge_macs_fraction: edge_macs as f64 / macs as f64,
    })
}

pub(crate) fn find_split(model: &str, taps: &[Tap], name: &str) -> Result<usize> {
    let by_number = name.parse().ok().filter(|&index| index >= 1 && index <= taps.len());
    by_number
        .or_else(|| taps.iter().find(|tap| tap.name == name).map(|tap| tap.index))
        .ok_or_else(|| unknown_split(taps, model, name))
}

pub(crate) fn check_split(taps: &[Tap], model: &str, split: usize) -> Result<()> {
    if split == 0 || split > taps.len() {
        return Err(unknown_split(taps, model, &split.to_string()));
    }
    Ok(())
}

fn unknown_split(taps: &[Tap], model: &str, name: &str) -> Error {
    let known: Vec<&str> = taps.iter().map(|tap| tap.name.as_str()).collect();
    let known = format!("1 to {}: {}", known.len(), known.join(", "));
    Error::UnknownSplit { model: model.to_owned(), name: name.to_owned(), known }
}
