//! Networks from blueprints: a model is a list of stages, and everything else follows from it.

use gpz_nn::blueprint::{Block, Layer};
use gpz_nn::{Entry, Module, Tape, Var, join};
use rand_chacha::ChaCha8Rng;

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::normalise::Normalisation;
use crate::target::{StageCost, Tap, Target};

/// A model on paper: stages with a tap after each but the last, which ends in log-probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    model: String,
    input: [usize; 3],
    classes: usize,
    normalisation: Option<Normalisation>,
    stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stage {
    /// Name of the tap after it; the last stage has none.
    tap: String,
    /// Prefix of its parameters' names.
    key: String,
    layer: Layer,
}

impl Plan {
    /// A model without stages.
    ///
    /// - `model`: name with the parameters that define it; `input`: shape of the pictures, `[c, h, w]`
    #[must_use]
    pub fn new(model: impl Into<String>, input: [usize; 3], classes: usize) -> Self {
        let (model, normalisation, stages) = (model.into(), None, Vec::new());
        Plan { model, input, classes, normalisation, stages }
    }

    /// Pictures are normalised in another way than [`Normalisation::for_channels`] says.
    #[must_use]
    pub fn normalised(self, normalisation: Normalisation) -> Self {
        Plan { normalisation: Some(normalisation), ..self }
    }

    /// Appends a stage with a tap after it.
    ///
    /// - `tap`: the split's name; `key`: prefix of the parameters' names in checkpoints
    pub fn stage(&mut self, tap: impl Into<String>, key: impl Into<String>, layer: Layer) {
        self.stages.push(Stage { tap: tap.into(), key: key.into(), layer });
    }

    /// Appends the last stage: from the last tap to `classes` log-probabilities, the log-softmax included.
    #[must_use]
    pub fn ending_in(mut self, layer: Layer) -> Self {
        self.stage("", "", gpz_nn::blueprint::sequence([("", layer), ("", Layer::LogSoftmax)]));
        self
    }

    /// What the model is and what its splits cost.
    ///
    /// # Errors
    /// [`Error::Nn`] for pictures that a layer does not take.
    pub fn architecture(&self) -> Result<Architecture> {
        let (mut taps, mut stages) = (Vec::new(), Vec::new());
        let (mut shape, mut largest_feature) = (self.input.to_vec(), 0);
        for (i, stage) in self.stages.iter().enumerate() {
            let described = stage.layer.describe(&shape)?;
            let cost = described.cost;
            shape = described.output;
            stages.push(StageCost { params: cost.params, macs: cost.macs });
            largest_feature = largest_feature.max(cost.largest);
            if i + 1 < self.stages.len() {
                taps.push(Tap { index: i + 1, name: stage.tap.clone(), shape: shape.clone() });
            }
        }
        let (model, input, classes) = (self.model.clone(), self.input, self.classes);
        Ok(Architecture { model, input, classes, taps, stages, largest_feature })
    }

    /// Sets the probability of every dropout.
    pub fn set_dropout(&mut self, p: f64) {
        self.stages.iter_mut().for_each(|stage| stage.layer.set_dropout(p));
    }

    /// Builds the network, initialised from `rng`.
    ///
    /// # Errors
    /// As [`Plan::architecture`]; weights that do not fit in memory.
    pub fn build(&self, rng: &mut ChaCha8Rng) -> Result<Network> {
        let architecture = self.architecture()?;
        let mut inputs = vec![&self.input[..]];
        inputs.extend(architecture.taps.iter().map(|tap| &tap.shape[..]));
        let mut stages = Vec::with_capacity(self.stages.len());
        for (stage, input) in self.stages.iter().zip(inputs) {
            stages.push((stage.key.clone(), stage.layer.build(input, rng)?));
        }
        Ok(Network { architecture, normalisation: self.normalisation.clone(), stages })
    }
}

/// A network that a [`Plan`] describes.
#[derive(Debug)]
pub struct Network {
    architecture: Architecture,
    normalisation: Option<Normalisation>,
    stages: Vec<(String, Block)>,
}

impl Module for Network {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        for (key, stage) in &self.stages {
            stage.visit(&join(prefix, key), f);
        }
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        for (key, stage) in &mut self.stages {
            stage.visit_mut(&join(prefix, key), f);
        }
    }
}

impl Target for Network {
    fn name(&self) -> String {
        self.architecture.model.clone()
    }

    fn input_shape(&self) -> [usize; 3] {
        self.architecture.input
    }

    fn classes(&self) -> usize {
        self.architecture.classes
    }

    fn normalisation(&self) -> Result<Normalisation> {
        match &self.normalisation {
            Some(normalisation) => Ok(normalisation.clone()),
            None => Normalisation::for_channels(self.architecture.input[0]),
        }
    }

    fn taps(&self) -> &[Tap] {
        &self.architecture.taps
    }

    fn stage_costs(&self) -> Vec<StageCost> {
        self.architecture.stages.clone()
    }

    fn stage(&self, tape: &Tape, index: usize, x: &Var) -> Result<Var> {
        let last = self.stages.len().saturating_sub(1);
        let (_, stage) = self.stages.get(index).ok_or_else(|| Error::Stage {
            model: self.name(),
            index,
            last,
        })?;
        Ok(stage.forward(tape, x)?)
    }
}
