//! Decoders by name, as a command line or a configuration file gives them.

use std::fmt;
use std::str::FromStr;

use gpz_models::parameters::{self, Allowed, Parameter, Refused};
use gpz_nn::blueprint::Layer;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::plan::{Asked, DecoderPlan, Stage};
use super::{plain, residual};
use crate::error::{Error, Result};

/// A family of decoders that can be built by name.
#[derive(Debug, Clone, Copy)]
pub struct DecoderInfo {
    /// Name before the colon.
    pub name: &'static str,
    /// What may be given after the colon.
    pub parameters: &'static [Parameter],
    /// What it is.
    pub description: &'static str,
    /// Whether every feature is taken for one vector.
    pub(super) whole: bool,
    /// Whether maps of one pixel are spread as vectors are; otherwise they are doubled from there.
    pub(super) spreads_pixels: bool,
    /// Its stages.
    pub(super) stages: fn(&Asked) -> Vec<Stage>,
    /// Its layers.
    pub(super) layers: Layers,
}

/// Layers under their names, from the number of further units per stage, the stages, and the picture's channels.
type Layers = fn(usize, &[Stage], usize) -> Vec<(String, Layer)>;

impl DecoderInfo {
    /// The parameters with their defaults, as they are written after the colon.
    #[must_use]
    pub fn defaults(&self) -> String {
        parameters::defaults(self.parameters)
    }
}

impl Serialize for DecoderInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("DecoderInfo", 3)?;
        fields.serialize_field("name", self.name)?;
        fields.serialize_field("parameters", &self.defaults())?;
        fields.serialize_field("description", self.description)?;
        fields.end()
    }
}

pub(super) const WIDTH: Parameter = Parameter {
    key: "width",
    default: 100,
    allowed: Allowed::Range(1, 1000),
    what: "per cent of the family's channels",
};

pub(super) const DEPTH: Parameter = Parameter {
    key: "depth",
    default: 0,
    allowed: Allowed::Range(0, 16),
    what: "a number of further units in each stage",
};

const DECODERS: &[DecoderInfo] = &[
    plain::PER_TAP,
    plain::CNN,
    plain::VIT,
    residual::INVERSE_IR,
    residual::RESIDUAL,
    plain::AUGMENTED,
];

/// Every family there is.
pub fn decoders() -> impl Iterator<Item = &'static DecoderInfo> {
    DECODERS.iter()
}

/// Most parameters a family has.
const MOST: usize = 2;

/// A decoder's family and parameters: `per-tap`, `cnn:width=50` or `residual:width=200,depth=2`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DecoderSpec {
    info: &'static DecoderInfo,
    values: [usize; MOST],
}

impl PartialEq for DecoderSpec {
    fn eq(&self, other: &Self) -> bool {
        (self.info.name, self.values) == (other.info.name, other.values)
    }
}

impl Eq for DecoderSpec {}

impl DecoderSpec {
    /// The decoder with which a tap is attacked unless another is asked for: that of the literature on the method where it has one.
    ///
    /// - `family`: name of the target without parameters; `feature`: shape at the tap
    #[must_use]
    pub fn auto_for(family: &str, feature: &[usize]) -> Self {
        let info = match feature {
            [_, _, _] if family == "cnn4" => &plain::CNN,
            [_, _, _] if family.starts_with("ir") => &residual::INVERSE_IR,
            [_, _, _] => &plain::PER_TAP,
            _ => &plain::VIT,
        };
        Self::defaults(info)
    }

    fn defaults(info: &'static DecoderInfo) -> Self {
        let mut values = [0; MOST];
        values.iter_mut().zip(info.parameters).for_each(|(value, p)| *value = p.default);
        DecoderSpec { info, values }
    }

    /// Name without parameters.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.info.name
    }

    /// The decoder on paper, from features of a shape to pictures `[c, h, w]`.
    ///
    /// - `feature`: of one image, `[c, h, w]`, `[d]` or `[t, d]`
    ///
    /// # Errors
    /// [`Error::Decoder`] unless the picture is the feature's size times a power of two, the same in both directions; for vectors, unless
    /// it is a square of 4, 8, 16, … pixels.
    pub fn plan(self, feature: &[usize], picture: [usize; 3]) -> Result<DecoderPlan> {
        DecoderPlan::new(self, feature, picture)
    }

    fn value(self, key: &str) -> Option<usize> {
        let at = self.info.parameters.iter().position(|parameter| parameter.key == key)?;
        self.values.get(at).copied()
    }

    pub(super) fn width(self) -> usize {
        self.value(WIDTH.key).unwrap_or(WIDTH.default)
    }

    pub(super) fn depth(self) -> usize {
        self.value(DEPTH.key).unwrap_or(DEPTH.default)
    }

    pub(super) fn sees_a_vector(self) -> bool {
        self.info.whole
    }

    pub(super) fn spreads_pixels(self) -> bool {
        self.info.spreads_pixels
    }

    pub(super) fn stages(self, asked: &Asked) -> Vec<Stage> {
        (self.info.stages)(asked)
    }

    pub(super) fn layers(self, stages: &[Stage], colours: usize) -> Vec<(String, Layer)> {
        (self.info.layers)(self.depth(), stages, colours)
    }
}

impl FromStr for DecoderSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, given) = text.split_once(':').unwrap_or((text, ""));
        let info = decoders()
            .find(|decoder| decoder.name == name)
            .ok_or_else(|| Error::UnknownDecoder { name: name.to_owned() })?;
        let read = parameters::read(name, info.parameters, given);
        let read = read.map_err(|refused| match refused {
            Refused::Unknown { key, known } => {
                Error::UnknownDecoderParameter { decoder: info.name, key, known }
            }
            Refused::Value { key, value, rule } => {
                Error::DecoderParameter { decoder: info.name, key, value, rule }
            }
        })?;
        let mut values = [0; MOST];
        values.iter_mut().zip(read).for_each(|(value, read)| *value = read);
        Ok(DecoderSpec { info, values })
    }
}

impl fmt::Display for DecoderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.info.name, parameters::written(self.info.parameters, &self.values))
    }
}

impl TryFrom<String> for DecoderSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DecoderSpec> for String {
    fn from(spec: DecoderSpec) -> Self {
        spec.to_string()
    }
}

/// Which decoder attacks a split: `auto`, or the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DecoderChoice {
    /// [`DecoderSpec::auto_for`] the split.
    #[default]
    Auto,
    /// This one.
    One(DecoderSpec),
}

impl DecoderChoice {
    /// Whether nothing was chosen.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        *self == DecoderChoice::Auto
    }

    /// The decoder of a tap; arguments as for [`DecoderSpec::auto_for`].
    #[must_use]
    pub fn at(self, family: &str, feature: &[usize]) -> DecoderSpec {
        match self {
            DecoderChoice::Auto => DecoderSpec::auto_for(family, feature),
            DecoderChoice::One(spec) => spec,
        }
    }
}

/// In place of a decoder's name.
const AUTO: &str = "auto";

impl FromStr for DecoderChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(if text == AUTO { DecoderChoice::Auto } else { DecoderChoice::One(text.parse()?) })
    }
}

impl fmt::Display for DecoderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecoderChoice::Auto => f.write_str(AUTO),
            DecoderChoice::One(spec) => spec.fmt(f),
        }
    }
}

impl TryFrom<String> for DecoderChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DecoderChoice> for String {
    fn from(choice: DecoderChoice) -> Self {
        choice.to_string()
    }
}
