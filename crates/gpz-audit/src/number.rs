//! How numbers are written to JSON: finite ones as JSON numbers that read back to the same bits, the others as the
//! strings `"inf"`, `"-inf"` and `"nan"`, which JSON has no number for.
//!
//! Use on a field: `#[serde(with = "crate::number")]`.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::ser::Serializer;

/// Writes one number.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match non_finite_name(*value) {
        Some(name) => serializer.serialize_str(name),
        None => serializer.serialize_f64(*value),
    }
}

/// Reads one number back.
///
/// # Errors
/// Anything but a number or one of the three strings.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(NumberVisitor)
}

/// `"inf"`, `"-inf"` or `"nan"`; `None` for a finite number.
pub fn non_finite_name(value: f64) -> Option<&'static str> {
    if value.is_finite() {
        None
    } else if value.is_nan() {
        Some("nan")
    } else if value > 0.0 {
        Some("inf")
    } else {
        Some("-inf")
    }
}

/// What stands for a number that a file of an earlier version lacks.
pub(crate) fn nan() -> f64 {
    f64::NAN
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, \"inf\", \"-inf\" or \"nan\"")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            "nan" => Ok(f64::NAN),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }
}

/// The same for a list of numbers: `#[serde(with = "crate::number::list")]`.
pub mod list {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Number;

    /// Writes the numbers.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| Number(*value)))
    }

    /// Reads the numbers.
    ///
    /// # Errors
    /// Anything but numbers and the three strings.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let numbers = Vec::<Number>::deserialize(deserializer)?;
        Ok(numbers.into_iter().map(|Number(value)| value).collect())
    }
}

/// A number as it stands in a list or where one may be absent.
#[derive(serde::Serialize, serde::Deserialize)]
struct Number(#[serde(with = "crate::number")] f64);

/// The same for a number that may be absent (`null`): `#[serde(with = "crate::number::option")]`.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Number;

    /// Writes the number or `null`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Number).serialize(serializer)
    }

    /// Reads the number or `null`.
    ///
    /// # Errors
    /// Anything but a number, one of the three strings or `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Number>::deserialize(deserializer)?.map(|Number(value)| value))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Serialize, Deserialize)]
    struct Pair {
        #[serde(with = "super")]
        a: f64,
        #[serde(with = "super::option", default)]
        b: Option<f64>,
    }

    #[test]
    fn every_number_survives_json() {
        let values = [
            0.0,
            -0.0,
            1.0 / 3.0,
            f64::MIN_POSITIVE / 8.0,
            1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        for a in values {
            let text = serde_json::to_string(&Pair { a, b: Some(a) }).unwrap();
            let back: Pair = serde_json::from_str(&text).unwrap();
            assert!(back.a.to_bits() == a.to_bits() || (a.is_nan() && back.a.is_nan()), "{text}");
            assert!(
                back.b.is_some_and(|b| b.to_bits() == a.to_bits() || (a.is_nan() && b.is_nan())),
                "{text}"
            );
        }
        assert_eq!(
            serde_json::to_string(&Pair { a: f64::NAN, b: None }).unwrap(),
            r#"{"a":"nan","b":null}"#
        );
    }

    #[test]
    fn other_strings_are_no_numbers() {
        let err =
            serde_json::from_str::<Pair>(r#"{"a":"Infinity","b":null}"#).unwrap_err().to_string();
        assert!(err.contains("\"inf\""), "{err}");
        assert_eq!(serde_json::from_str::<Pair>(r#"{"a":3}"#).unwrap().a, 3.0);
    }
}
