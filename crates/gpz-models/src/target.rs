//! What a target is to an audit: a chain of stages with a tap after each but the last.

use gpz_nn::{Module, Tape, Var};
use gpz_tensor::Tensor;
use serde::Serialize;

use crate::architecture::{check_split, find_split, split_cost};
use crate::error::{Error, Result};

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
    /// Multiply-accumulates of convolutions and linear layers for one image; norms, activations and pooling are not counted.
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

    /// The places where the network can be cut, in order.
    fn taps(&self) -> &[Tap];

    /// What each stage costs; one more than there are taps.
    fn stage_costs(&self) -> Vec<StageCost>;

    /// Runs one stage.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn stage(&self, tape: &Tape, index: usize, x: &Var) -> Result<Var>;

    /// Log-probabilities `[n, classes]` of pictures `[n, c, h, w]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        (0..self.taps().len() + 1).try_fold(x.clone(), |x, i| self.stage(tape, i, &x))
    }

    /// The edge's half: the feature at a split (1-based) of pictures `[n, c, h, w]`.
    ///
    /// # Errors
    /// [`Error::UnknownSplit`]; shapes that do not fit.
    fn head(&self, tape: &Tape, split: usize, x: &Var) -> Result<Var> {
        check_split(self.taps(), &self.name(), split)?;
        (0..split).try_fold(x.clone(), |x, i| self.stage(tape, i, &x))
    }

    /// The cloud's half: log-probabilities of the feature at a split (1-based).
    ///
    /// # Errors
    /// [`Error::UnknownSplit`]; shapes that do not fit.
    fn tail(&self, tape: &Tape, split: usize, z: &Var) -> Result<Var> {
        check_split(self.taps(), &self.name(), split)?;
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
    /// One forward pass without gradients that hands the feature at every tap (1-based) to `visit`; returns the log-probabilities.
    ///
    /// # Errors
    /// Shapes that do not fit; whatever `visit` fails with.
    pub fn visit_taps<E: From<Error>>(
        &self,
        x: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let tape = Tape::eval();
        let mut x = Var::constant(x.clone());
        for split in 1..=self.taps().len() {
            x = self.stage(&tape, split - 1, &x)?;
            visit(split, x.value())?;
        }
        Ok(self.stage(&tape, self.taps().len(), &x)?.into_value())
    }
}
