//! Models by name, as a command line or a configuration file gives them.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::cnn4::{Cnn4, Cnn4Config, MAX_WIDTH};
use crate::error::{Error, Result};
use crate::target::Target;

/// A model that can be built by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Name before the colon.
    pub name: &'static str,
    /// Parameters after the colon, with their defaults.
    pub parameters: &'static str,
    /// What it is.
    pub description: &'static str,
}

/// Every model there is.
pub const MODELS: &[ModelInfo] = &[ModelInfo {
    name: "cnn4",
    parameters: "width=64",
    description: "4 × [conv3×3, batch norm, max pool, ReLU] with width, 2, 4 and 8 times width channels; taps after each block",
}];

/// A model's name and parameters: `cnn4` or `cnn4:width=16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelSpec {
    /// The four-block network.
    Cnn4 {
        /// Channels of the first block.
        width: usize,
    },
}

impl ModelSpec {
    /// What the model is for pictures `[c, h, w]` and a number of classes, without building it.
    ///
    /// # Errors
    /// Pictures or parameters the model does not take.
    pub fn architecture(self, input: [usize; 3], classes: usize) -> Result<Architecture> {
        match self {
            ModelSpec::Cnn4 { width } => Cnn4Config { width, input, classes }.architecture(),
        }
    }

    /// Builds the model for pictures `[c, h, w]` and a number of classes, initialised from `rng`.
    ///
    /// # Errors
    /// Pictures or parameters the model does not take.
    pub fn build(
        self,
        input: [usize; 3],
        classes: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Box<dyn Target>> {
        match self {
            ModelSpec::Cnn4 { width } => {
                Ok(Box::new(Cnn4::new(Cnn4Config { width, input, classes }, rng)?))
            }
        }
    }
}

impl FromStr for ModelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
        if name != "cnn4" {
            return Err(Error::UnknownModel { name: name.to_owned() });
        }
        let mut width = 64;
        for pair in parameters.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key != "width" {
                let known = "width, such as cnn4:width=16";
                return Err(Error::UnknownParameter { model: "cnn4", key: key.to_owned(), known });
            }
            width = value.parse().ok().filter(|width| (1..=MAX_WIDTH).contains(width)).ok_or_else(
                || {
                    let (key, value) = (key.to_owned(), value.to_owned());
                    Error::Parameter {
                        model: "cnn4",
                        key,
                        value,
                        rule: "a number of channels, 1 to 512",
                    }
                },
            )?;
        }
        Ok(ModelSpec::Cnn4 { width })
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSpec::Cnn4 { width } => write!(f, "cnn4:width={width}"),
        }
    }
}

impl TryFrom<String> for ModelSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ModelSpec> for String {
    fn from(spec: ModelSpec) -> Self {
        spec.to_string()
    }
}
