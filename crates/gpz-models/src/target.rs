//! What a target is to an audit: a chain of stages with a tap after each but the last.

use gpz_nn::{Module, Tape, Var};
use gpz_tensor::Tensor;
use serde::Serialize;

use crate::architecture::{check_split, find_split, split_cost};
use crate::error::{Error, Result};
use crate::normalise::Normalisation;

/// A place where the network can be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tap {
    /// 1-based position, as in the literature on the method.
    pub index: usize,
    /// Name, such as `block2`.
    pub name: String,
    /// Shape of one image's feature, `[c, h, w]` or `[d]`.
    pub shape: Vec<usize>,
}

impl Tap {
    /// Elements of one image's feature.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that cross the wire for one image when the feature is sent as f32.
    pub fn wire_bytes(&self) -> u64 {
        4 * self.width() as u64
    }
}

/// What one stage costs: the work between two taps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StageCost {
    /// Learnt values.
    pub params: u64,
    /// Multiply-accumulates of convolutions, linear layers and attention for one image; norms, activations and pooling are not counted.
    pub macs: u64,
}

/// What a split asks of the device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SplitCost {
    /// Bytes sent per image, as f32.
    pub wire_bytes: u64,
    /// Learnt values on the device.
    pub edge_params: u64,
    /// Share of all learnt values.
    pub edge_params_fraction: f64,
    /// Multiply-accumulates per image on the device.
    pub edge_macs: u64,
    /// Share of all multiply-accumulates.
    pub edge_macs_fraction: f64,
}

/// A classifier with named taps.
///
/// Pictures are normalised before they come here, as [`Target::normalisation`] says: a target sees what training
/// showed it, not the values in [0, 1] of a file.
///
/// Stage `i` leads from tap `i` to tap `i + 1` (tap 0 is the input); the last stage leads from the last tap to log-probabilities. A
/// split is the tap it cuts at. Since head and tail are runs of the same stages, `tail(head(x))` equals `forward(x)` bit for bit in
/// evaluation.
pub trait Target: Module {
    /// Name with the parameters that define it, such as `cnn4:width=16`.
    fn name(&self) -> String;

    /// Shape of the input, `[c, h, w]`.
    fn input_shape(&self) -> [usize; 3];

    /// Number of classes.
    fn classes(&self) -> usize;

    /// How pictures in [0, 1] are normalised before they come here.
    ///
    /// # Errors
    /// [`Error::Input`] for a number of channels that no normalisation is defined for.
    fn normalisation(&self) -> Result<Normalisation> {
        Normalisation::for_channels(self.input_shape()[0])
    }

    /// The places where the network can be cut, in order.
    fn taps(&self) -> &[Tap];

    /// What each stage costs; one more than there are taps.
    fn stage_costs(&self) -> Vec<StageCost>;

    /// Runs one stage, 0-based. Stage 0 takes normalised pictures `[n, c, h, w]`; of which size is checked by those who run it from the
    /// picture on, such as [`Target::head`].
    ///
    /// # Errors
    /// [`Error::Stage`] if there is no such stage; shapes that do not fit.
    fn stage(&self, tape: &Tape, index: usize, x: &Var) -> Result<Var>;

    /// Log-probabilities `[n, classes]` of normalised pictures `[n, c, h, w]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for pictures of another shape than [`Target::input_shape`].
    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        check_pictures(self, x.shape())?;
        (0..self.taps().len() + 1).try_fold(x.clone(), |x, i| self.stage(tape, i, &x))
    }

    /// The edge's half: the feature at a split (1-based) of normalised pictures `[n, c, h, w]`.
    ///
    /// # Errors
    /// [`Error::UnknownSplit`]; [`Error::Shape`] for pictures of another shape than [`Target::input_shape`].
    fn head(&self, tape: &Tape, split: usize, x: &Var) -> Result<Var> {
        check_split(self.taps(), &self.name(), split)?;
        check_pictures(self, x.shape())?;
        (0..split).try_fold(x.clone(), |x, i| self.stage(tape, i, &x))
    }

    /// The cloud's half: log-probabilities of the feature at a split (1-based).
    ///
    /// # Errors
    /// [`Error::UnknownSplit`]; [`Error::Shape`] for a feature that is not `[n]` followed by [`Tap::shape`].
    fn tail(&self, tape: &Tape, split: usize, z: &Var) -> Result<Var> {
        check_split(self.taps(), &self.name(), split)?;
        let tap = &self.taps()[split - 1];
        let what = || format!("features of {}", tap.name);
        check_shape(self, what, z.shape(), &tap.shape, "pass what the head gives at this split")?;
        (split..self.taps().len() + 1).try_fold(z.clone(), |x, i| self.stage(tape, i, &x))
    }

    /// What a split (1-based) costs.
    ///
    /// # Errors
    /// [`Error::UnknownSplit`].
    fn split_cost(&self, split: usize) -> Result<SplitCost> {
        split_cost(&self.name(), self.taps(), &self.stage_costs(), split)
    }

    /// The 1-based index of a split given by name or number.
    ///
    /// # Errors
    /// [`Error::UnknownSplit`] lists what there is.
    fn find_split(&self, name: &str) -> Result<usize> {
        find_split(&self.name(), self.taps(), name)
    }
}

impl dyn Target + '_ {
    /// One forward pass without gradients that hands the feature at each tap (1-based) up to `last` to `visit`. What lies beyond is not
    /// run.
    ///
    /// - `x`: normalised pictures `[n, c, h, w]`
    ///
    /// # Errors
    /// [`Error::UnknownSplit`] if there is no tap `last`; [`Error::Shape`] for pictures of another shape than [`Target::input_shape`];
    /// whatever `visit` fails with.
    pub fn visit_taps<E: From<Error>>(
        &self,
        x: &Tensor,
        last: usize,
        mut visit: impl FnMut(usize, &Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        check_split(self.taps(), &self.name(), last)?;
        check_pictures(self, x.shape())?;
        let tape = Tape::eval();
        let mut x = Var::constant(x.clone());
        for split in 1..=last {
            x = self.stage(&tape, split - 1, &x)?;
            visit(split, x.value())?;
        }
        Ok(())
    }
}

fn check_pictures<T: Target + ?Sized>(target: &T, got: &[usize]) -> Result<()> {
    let mend = "resize the pictures, or build the model for theirs";
    check_shape(target, || "pictures".to_owned(), got, &target.input_shape(), mend)
}

/// `got` must be a batch of `want`.
fn check_shape<T: Target + ?Sized>(
    target: &T,
    what: impl Fn() -> String,
    got: &[usize],
    want: &[usize],
    mend: &'static str,
) -> Result<()> {
    if got.get(1..) == Some(want) {
        return Ok(());
    }
    let (got, want) = (got.into(), want.into());
    Err(Error::Shape { model: target.name(), what: what(), got, want, mend })
}
