//! A channel as it is declared: on the command line, in a configuration, in the files of a run.

use std::fmt;
use std::str::FromStr;

use gpz_estimators::Error;
use gpz_estimators::channel::{Cast, Channel, Quantiser};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands between the feature and the wire: `none`, `noise:SIGMA`, `bits:B`, `bf16`, `f16` or `int8`.
///
/// The range of a quantiser and the scale of int8 are no part of it: they are taken from features that are known to everybody, the rows
/// of a file or the target's training part.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Declared {
    /// Nothing is declared.
    #[default]
    None,
    /// Gaussian noise of a standard deviation in the feature's units.
    Noise(f64),
    /// A uniform quantiser of so many bits for each dimension.
    Bits(u32),
    /// A cast.
    Bf16,
    /// A cast.
    F16,
    /// A cast.
    Int8,
}

impl FromStr for Declared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |rule: &str| {
            Err(format!("{rule}; none, noise:SIGMA, bits:B, bf16, f16 and int8 are known"))
        };
        match (text, text.split_once(':')) {
            ("none", _) => Ok(Self::None),
            ("bf16", _) => Ok(Self::Bf16),
            ("f16", _) => Ok(Self::F16),
            ("int8", _) => Ok(Self::Int8),
            (_, Some(("noise", sigma))) => match sigma.parse::<f64>() {
                Ok(sigma) if sigma > 0.0 && sigma.is_finite() => Ok(Self::Noise(sigma)),
                _ => wrong("SIGMA is a positive number in units of the feature"),
            },
            (_, Some(("bits", bits))) => match bits.parse::<u32>() {
                Ok(bits) if (1..=32).contains(&bits) => Ok(Self::Bits(bits)),
                _ => wrong("B is a whole number from 1 to 32"),
            },
            _ => wrong("no such channel"),
        }
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            // An exponent saves hundreds of digits.
            Self::Noise(sigma) if (1e-4..1e6).contains(sigma) => write!(f, "noise:{sigma}"),
            Self::Noise(sigma) => write!(f, "noise:{sigma:e}"),
            Self::Bits(bits) => write!(f, "bits:{bits}"),
            Self::Bf16 => f.write_str("bf16"),
            Self::F16 => f.write_str("f16"),
            Self::Int8 => f.write_str("int8"),
        }
    }
}

impl Serialize for Declared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Declared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|rule| serde::de::Error::custom(format!("channel {text:?}: {rule}")))
    }
}

impl Declared {
    /// Whether features are sent exactly as they were computed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The channel for elements from `low` to `high`.
    ///
    /// # Errors
    /// [`Error::Parameter`] where a quantiser's range is empty or int8 has only zeros.
    pub fn channel(self, (low, high): (f64, f64)) -> Result<Channel, Error> {
        Ok(match self {
            Self::None => Channel::None,
            Self::Noise(sigma) => Channel::Noise { sigma },
            Self::Bits(bits) => Channel::Bits(Quantiser::new(bits, low, high)?),
            Self::Bf16 => Channel::Cast(Cast::Bf16),
            Self::F16 => Channel::Cast(Cast::F16),
            Self::Int8 => Channel::Cast(Cast::int8_covering(ndarray::array![[low, high]].view())?),
        })
    }

    /// Bytes that cross the wire for a feature of so many elements: packed codes, and 32-bit floats where nothing is rounded.
    #[must_use]
    pub fn wire_bytes(self, width: usize) -> u64 {
        let width = width as u64;
        match self {
            Self::None | Self::Noise(_) => 4 * width,
            Self::Bits(bits) => (width * u64::from(bits)).div_ceil(8),
            Self::Bf16 | Self::F16 => 2 * width,
            Self::Int8 => width,
        }
    }
}

/// Channels of one kind side by side, as they are written: `noise:0.01,0.1,1` or `bits:1,2,4,8`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sweep(Vec<Declared>);

impl Sweep {
    /// The channels, in the order given.
    #[must_use]
    pub fn channels(&self) -> &[Declared] {
        &self.0
    }
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((kind @ ("noise" | "bits"), values)) = text.split_once(':') else {
            return Err("a sweep is noise:SIGMA,SIGMA,… or bits:B,B,…".to_owned());
        };
        let channels = values.split(',').map(|value| format!("{kind}:{}", value.trim()).parse());
        channels.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_read_as_they_are_written() {
        for text in
            ["none", "noise:0.25", "noise:1", "noise:1e300", "bits:8", "bf16", "f16", "int8"]
        {
            let declared = text.parse::<Declared>();
            assert_eq!(declared.clone().map(|declared| declared.to_string()), Ok(text.to_owned()));
            let json = serde_json::to_string(&declared.unwrap()).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Declared>(&json).unwrap().to_string(), text);
        }
        for text in [
            "",
            "noise",
            "noise:0",
            "noise:-1",
            "noise:nan",
            "noise:inf",
            "bits:0",
            "bits:33",
            "bits:2.5",
            "fp8",
        ] {
            assert!(
                text.parse::<Declared>().is_err_and(|error| error.contains("noise:SIGMA")),
                "{text}"
            );
            let error = serde_json::from_str::<Declared>(&format!("{text:?}")).unwrap_err();
            assert!(error.to_string().contains(&format!("channel {text:?}")), "{error}");
        }
    }

    #[test]
    fn a_sweep_is_a_list_of_values() {
        let sweep: Sweep = "bits:1,2, 8".parse().unwrap();
        assert_eq!(sweep.channels(), [Declared::Bits(1), Declared::Bits(2), Declared::Bits(8)]);
        for text in ["", "bf16", "noise:", "noise:1,,2", "bits:1,0", "none:1"] {
            assert!(text.parse::<Sweep>().is_err(), "{text}");
        }
    }

    #[test]
    fn codes_are_packed() {
        let bytes = |text: &str| text.parse::<Declared>().unwrap().wire_bytes(13);
        let channels = ["none", "noise:1", "bits:1", "bits:3", "bits:32", "bf16", "f16", "int8"];
        assert_eq!(channels.map(bytes), [52, 52, 2, 5, 52, 26, 26, 13]);
    }
}
