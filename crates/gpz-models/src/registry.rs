//! Models by name, as a command line or a configuration file gives them.

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::network::Plan;
use crate::parameters::{self, Parameter, Refused};
use crate::target::Target;
use crate::{cnn4, ir, resnet, torchvision, vgg, vit};

/// A model that can be built by name.
#[derive(Debug, Clone, Copy)]
pub struct ModelInfo {
    /// Name before the colon.
    pub name: &'static str,
    /// What may be given after the colon.
    pub parameters: &'static [Parameter],
    /// What it is.
    pub description: &'static str,
    /// Its stages.
    pub(crate) plan: fn(&Asked<'_>) -> Result<Plan>,
}

impl ModelInfo {
    /// The parameters with their defaults, as they are written after the colon.
    #[must_use]
    pub fn defaults(&self) -> String {
        parameters::defaults(self.parameters)
    }
}

impl Serialize for ModelInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ModelInfo", 3)?;
        fields.serialize_field("name", self.name)?;
        fields.serialize_field("parameters", &self.defaults())?;
        fields.serialize_field("description", self.description)?;
        fields.end()
    }
}

/// The models of which there is one file each.
const SINGLE: &[ModelInfo] =
    &[cnn4::CNN4, resnet::RESNET18, resnet::RESNET50, vgg::VGG16_BN, vgg::VGG19_BN];
const LAST: &[ModelInfo] = &[vit::VIT];

/// Every model there is.
pub fn models() -> impl Iterator<Item = &'static ModelInfo> {
    [SINGLE, ir::MODELS, LAST, torchvision::MODELS].into_iter().flatten()
}

/// Most parameters a model has.
const MOST: usize = 4;

/// The model whose name is most like this one, if any is alike; the first of several. Neither capitals count nor what joins words, nor that a layout is
/// torchvision's.
pub(crate) fn alike(name: &str) -> Option<&'static str> {
    let bare = |name: &str| {
        let name = name.to_lowercase();
        name.trim_start_matches("torchvision").replace(['-', '_', ' '], "")
    };
    let asked = bare(name);
    let (mut best, mut most) = (None, 0.7);
    for model in models() {
        let this = strsim::normalized_damerau_levenshtein(&asked, &bare(model.name));
        if this > most {
            (best, most) = (Some(model.name), this);
        }
    }
    best
}

/// What a model is to be built for.
pub(crate) struct Asked<'a> {
    /// Name with parameters.
    pub(crate) model: String,
    name: &'static str,
    /// In the order of [`ModelInfo::parameters`].
    pub(crate) values: &'a [usize],
    /// Shape of the pictures, `[c, h, w]`.
    pub(crate) input: [usize; 3],
    /// Number of classes.
    pub(crate) classes: usize,
}

impl Asked<'_> {
    /// The plan's beginning.
    pub(crate) fn begin(&self) -> Plan {
        Plan::new(self.model.clone(), self.input, self.classes)
    }

    /// A parameter with an impossible value.
    pub(crate) fn parameter(&self, key: &str, value: usize, rule: &str) -> Error {
        let (key, value, rule) = (key.to_owned(), value.to_string(), rule.to_owned());
        Error::Parameter { model: self.name, key, value, rule }
    }

    /// Refuses pictures of other sizes.
    pub(crate) fn sides_are_multiples_of(&self, factor: usize) -> Result<()> {
        let [channels, height, width] = self.input;
        let fits = |side: usize| side > 0 && side.is_multiple_of(factor);
        if channels > 0 && fits(height) && fits(width) {
            return Ok(());
        }
        let rule =
            format!("height and width must be multiples of {factor}, with at least one channel");
        Err(Error::Input { model: self.name, channels, height, width, rule })
    }
}

/// A model's name and parameters: `cnn4`, `cnn4:width=16` or `vit:patch=8,depth=4`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelSpec {
    info: &'static ModelInfo,
    values: [usize; MOST],
}

impl PartialEq for ModelSpec {
    fn eq(&self, other: &Self) -> bool {
        (self.info.name, self.values) == (other.info.name, other.values)
    }
}

impl Eq for ModelSpec {}

impl ModelSpec {
    /// Name without parameters.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.info.name
    }

    /// The model's stages for pictures `[c, h, w]` and a number of classes.
    ///
    /// # Errors
    /// Pictures or parameters the model does not take.
    pub fn plan(self, input: [usize; 3], classes: usize) -> Result<Plan> {
        let values = &self.values[..self.info.parameters.len()];
        let asked = Asked { model: self.to_string(), name: self.info.name, values, input, classes };
        if !(2..=MOST_CLASSES).contains(&classes) {
            return Err(asked.parameter("classes", classes, "2 to 65536 classes"));
        }
        (self.info.plan)(&asked)
    }

    /// What the model is for pictures `[c, h, w]` and a number of classes, without building it.
    ///
    /// # Errors
    /// Pictures or parameters the model does not take.
    pub fn architecture(self, input: [usize; 3], classes: usize) -> Result<Architecture> {
        self.plan(input, classes)?.architecture()
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
        Ok(Box::new(self.plan(input, classes)?.build(rng)?))
    }
}

/// Most classes of a model.
const MOST_CLASSES: usize = 65536;

impl FromStr for ModelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, parameters) = text.split_once(':').unwrap_or((text, ""));
        let info = models()
            .find(|model| model.name == name)
            .ok_or_else(|| Error::UnknownModel { name: name.to_owned() })?;
        let mut values = [0; MOST];
        let read = parameters::read(name, info.parameters, parameters);
        let read = read.map_err(|refused| match refused {
            Refused::Unknown { key, known } => {
                Error::UnknownParameter { model: info.name, key, known }
            }
            Refused::Value { key, value, rule } => {
                Error::Parameter { model: info.name, key, value, rule }
            }
        })?;
        values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
        Ok(ModelSpec { info, values })
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info.name)?;
        if self.info.parameters.is_empty() {
            return Ok(());
        }
        write!(f, ":{}", parameters::written(self.info.parameters, &self.values))
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
