//! What can go wrong when a target is described, built or cut.

/// Result of building or running a target.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A target cannot be built or cut as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A network operation failed.
    #[error(transparent)]
    Nn(#[from] gpz_nn::Error),
    /// A name that is no model's.
    #[error(
        "unknown model {name:?}{}; known: {}",
        crate::registry::alike(name).map_or_else(String::new, |alike| format!(", did you mean {alike}?")),
        crate::models().map(|m| m.name).collect::<Vec<_>>().join(", ")
    )]
    UnknownModel {
        /// The name.
        name: String,
    },
    /// A parameter the model does not have.
    #[error("model {model} has no parameter {key:?}; it takes {known}")]
    UnknownParameter {
        /// The model.
        model: &'static str,
        /// The parameter's name.
        key: String,
        /// What there is.
        known: String,
    },
    /// A parameter with an impossible value.
    #[error("model {model}: {key}={value} is not possible: {rule}")]
    Parameter {
        /// The model.
        model: &'static str,
        /// The parameter's name.
        key: String,
        /// Its value.
        value: String,
        /// What is possible.
        rule: String,
    },
    /// Pictures the model does not take.
    #[error("model {model} does not take pictures of {channels}×{height}×{width}: {rule}")]
    Input {
        /// The model.
        model: &'static str,
        /// Channels of the picture.
        channels: usize,
        /// Height of the picture.
        height: usize,
        /// Width of the picture.
        width: usize,
        /// What it takes.
        rule: String,
    },
    /// Pictures or features of another shape than the model was built for.
    #[error("model {model} takes {what} of shape [n, {}], not {got:?}; {mend}", joined(want))]
    Shape {
        /// The model.
        model: String,
        /// `"pictures"`, or the features of a named split.
        what: String,
        /// Shape that was given.
        got: Box<[usize]>,
        /// Shape of one of them.
        want: Box<[usize]>,
        /// What to do.
        mend: &'static str,
    },
    /// A stage the model does not have.
    #[error("model {model} has no stage {index}; its stages are 0 to {last}")]
    Stage {
        /// The model.
        model: String,
        /// The stage asked for.
        index: usize,
        /// The last there is.
        last: usize,
    },
    /// A name or number that is no split's.
    #[error("unknown split {name:?} of {model}; there are {known}")]
    UnknownSplit {
        /// The model.
        model: String,
        /// What was asked for.
        name: String,
        /// The splits there are.
        known: String,
    },
}

fn joined(extents: &[usize]) -> String {
    extents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl From<gpz_tensor::Error> for Error {
    fn from(error: gpz_tensor::Error) -> Self {
        Error::Nn(error.into())
    }
}
