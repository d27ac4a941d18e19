//! What can go wrong when a network is built, run, trained, saved or loaded.

/// Result of a network operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A network could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation was given operands it cannot compute with.
    #[error(transparent)]
    Tensor(#[from] gpz_tensor::Error),
    /// Gradients were asked of something no gradient reaches.
    #[error(
        "backward: the value does not depend on a recorded parameter; run the forward pass on a training tape"
    )]
    NoGradient,
    /// A value was used with a tape that is not its own, or no longer holds it.
    #[error(
        "backward: the value was recorded on another tape, or its tape is used up; record the forward pass on one tape and run it backward once"
    )]
    OtherTape,
    /// Gradients can only be asked of one number.
    #[error(
        "backward: the value has shape {shape:?}; gradients are taken of a single number, such as a loss"
    )]
    NotScalar {
        /// Shape of the value.
        shape: Box<[usize]>,
    },
    /// An option outside its range.
    #[error("{what} = {value} is not possible: {rule}")]
    Value {
        /// Name of the option.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What is possible.
        rule: &'static str,
    },
    /// A feature that a layer of a blueprint does not take.
    #[error("{layer}: a feature of shape {input:?} is not possible: {rule}")]
    Layer {
        /// Name of the layer.
        layer: &'static str,
        /// Shape of one image's feature.
        input: Box<[usize]>,
        /// What is possible.
        rule: &'static str,
    },
    /// A label that names no class.
    #[error("label {label} of sample {index} is out of range: there are {classes} classes, 0 to {}", classes.saturating_sub(1))]
    Label {
        /// Position of the sample.
        index: usize,
        /// Its label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A name that is no label distribution's.
    #[error(
        "unknown label distribution {text:?}; known: one-hot, ls:ALPHA and ls-uniform:ALPHA with ALPHA below 1, such as ls:+0.3"
    )]
    Labels {
        /// The name.
        text: String,
    },
    /// A state that an optimiser of this rule did not save.
    #[error(
        "the optimiser's state does not fit its rule: {reason}; resume with the configuration it was saved under"
    )]
    State {
        /// What is missing or too much.
        reason: String,
    },
    /// A file that is not a safetensors file, or a damaged one.
    #[error("not a readable safetensors file: {reason}; save it again, or fetch it again")]
    Format {
        /// What the reader found.
        reason: String,
    },
    /// A checkpoint of another network.
    #[error("{}", mismatch(missing, unexpected, wrong_shape))]
    Mismatch {
        /// Keys the network has and the file lacks.
        missing: Vec<String>,
        /// Keys the file has and the network lacks.
        unexpected: Vec<String>,
        /// Keys of another shape: name, shape in the network, shape in the file.
        wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    },
}

/// Most keys of a kind that a message names.
const NAMED: usize = 3;

fn mismatch(
    missing: &[String],
    unexpected: &[String],
    wrong_shape: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let list = |names: Vec<String>| {
        let rest = names.len().saturating_sub(NAMED);
        let mut text = names[..names.len() - rest].join(", ");
        if rest > 0 {
            text += &format!(" and {rest} more");
        }
        text
    };
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", list(missing.to_vec())));
    }
    if !unexpected.is_empty() {
        parts.push(format!("unexpected {}", list(unexpected.to_vec())));
    }
    if !wrong_shape.is_empty() {
        let shapes = wrong_shape
            .iter()
            .map(|(name, network, file)| format!("{name} is {file:?} instead of {network:?}"));
        parts.push(list(shapes.collect()));
    }
    format!(
        "the checkpoint is of another network: {}; check the model's name and parameters",
        parts.join("; ")
    )
}
