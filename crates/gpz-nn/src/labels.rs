//! Label distributions by name, as a command line or a configuration file gives them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::loss::Labels;

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Labels::OneHot => f.write_str("one-hot"),
            Labels::Smoothed(alpha) => write!(f, "ls:{alpha:+}"),
            Labels::SmoothedUniform(alpha) => write!(f, "ls-uniform:{alpha:+}"),
        }
    }
}

impl FromStr for Labels {
    type Err = Error;

    /// `one-hot`, `ls:+0.3`, `ls:-0.05` or `ls-uniform:+0.1`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Labels { text: text.to_owned() };
        if text == "one-hot" {
            return Ok(Labels::OneHot);
        }
        let (name, alpha) = text.split_once(':').ok_or_else(unknown)?;
        let alpha =
            alpha.parse().ok().filter(|a: &f64| a.is_finite() && *a < 1.0).ok_or_else(unknown)?;
        match name {
            "ls" => Ok(Labels::Smoothed(alpha)),
            "ls-uniform" => Ok(Labels::SmoothedUniform(alpha)),
            _ => Err(unknown()),
        }
    }
}

impl Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() -> Result<(), Error> {
        for text in ["one-hot", "ls:+0.3", "ls:-0.05", "ls-uniform:+0.1"] {
            assert_eq!(text.parse::<Labels>()?.to_string(), text);
        }
        for text in ["", "ls", "ls:", "ls:x", "ls:1", "ls:nan", "smooth:0.1", "One-hot"] {
            assert!(text.parse::<Labels>().is_err(), "{text:?}");
        }
        Ok(())
    }
}
