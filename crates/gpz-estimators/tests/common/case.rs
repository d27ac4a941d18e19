//! The stored reference cases: tensors by name, and what `truth.json` says of them.
use std::error::Error as StdError;
use std::path::PathBuf;

use ndarray::{Array1, Array2, ArrayD};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub type Outcome<T> = Result<T, Box<dyn StdError>>;

pub struct Case {
    id: &'static str,
    entry: Value,
    bytes: Vec<u8>,
}

impl Case {
    pub fn open(id: &'static str) -> Outcome<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let all: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json"))?)?;
        let cases = all["cases"].as_array().ok_or("no cases")?;
        let entry = cases.iter().find(|case| case["id"] == id).ok_or("no such case")?.clone();
        let bytes = match entry["file"].as_str() {
            Some(file) => std::fs::read(folder.join(file))?,
            None => Vec::new(),
        };
        Ok(Self { id, entry, bytes })
    }

    /// A scalar that belongs to the case, such as `sigma`.
    pub fn scalar(&self, name: &str) -> Outcome<f64> {
        Ok(self.entry[name].as_f64().ok_or("no such scalar")?)
    }

    pub fn is_f32(&self, name: &str) -> Outcome<bool> {
        Ok(SafeTensors::deserialize(&self.bytes)?.tensor(name)?.dtype() == Dtype::F32)
    }

    /// A tensor as `f64`, whatever it was stored as; exact for integers below 2⁵³.
    pub fn tensor(&self, name: &str) -> Outcome<ArrayD<f64>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let tensor = file.tensor(name)?;
        let data = tensor.data();
        let wide = data.as_chunks::<8>().0.iter();
        let values = match tensor.dtype() {
            Dtype::F64 => wide.map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => wide.map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::F32 => {
                data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
            }
            Dtype::U16 => {
                data.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect()
            }
            other => return Err(format!("no reader for {other:?}").into()),
        };
        Ok(ArrayD::from_shape_vec(tensor.shape(), values)?)
    }

    pub fn vector(&self, name: &str) -> Outcome<Array1<f64>> {
        Ok(self.tensor(name)?.into_dimensionality()?)
    }

    pub fn matrix(&self, name: &str) -> Outcome<Array2<f64>> {
        Ok(self.tensor(name)?.into_dimensionality()?)
    }

    pub fn labels(&self) -> Outcome<Vec<usize>> {
        Ok(self.tensor("labels")?.iter().map(|&label| label as usize).collect())
    }

    /// Everything that is known, as `(quantity, kind, entry)`.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.entry["truth"].as_array().into_iter().flatten().map(|entry| {
            (entry["quantity"].as_str().unwrap_or(""), entry["kind"].as_str().unwrap_or(""), entry)
        })
    }

    /// Holds values against one entry.
    pub fn holds(&self, entry: &Value, got: &[f64]) {
        let value = &entry["value"];
        let want = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        assert_eq!(got.len(), want.len(), "{} {entry}", self.id);
        let part = |name: &str| entry[name].as_f64().unwrap_or(0.0);
        for (&got, want) in got.iter().zip(want) {
            let want = number(want);
            let met = match entry["op"].as_str() {
                Some("<=") => got <= want + 1e-9,
                Some(">=") => got >= want - 1e-9,
                _ => got == want || (got - want).abs() <= part("atol") + part("rtol") * want.abs(),
            };
            assert!(met, "{}: {got} instead of {entry}", self.id);
        }
    }

    /// Holds values against every entry of this quantity, of all kinds; there is at least one.
    pub fn check(&self, quantity: &str, got: &[f64]) {
        self.check_where(quantity, got, |_| true);
    }

    /// Of one kind: a sample's value by a convention, the population's, or a bound on the latter.
    pub fn check_kind(&self, kind: &str, quantity: &str, got: &[f64]) {
        self.check_where(quantity, got, |of| of == kind);
    }

    fn check_where(&self, quantity: &str, got: &[f64], include: impl Fn(&str) -> bool) {
        let mut seen = 0;
        for (_, _, entry) in
            self.entries().filter(|(name, kind, _)| *name == quantity && include(kind))
        {
            self.holds(entry, got);
            seen += 1;
        }
        assert!(seen > 0, "{} has no {quantity}", self.id);
    }

    /// Asserts that an answer is among those accepted.
    pub fn behaves(&self, answer: &str) {
        let accepted = self.entries().find_map(|(_, _, entry)| entry["accept"].as_array());
        let accepted = accepted.expect("a behaviour");
        assert!(accepted.iter().any(|accepted| accepted == answer), "{}: {answer}", self.id);
    }
}

fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some(_) => f64::NAN,
        None => value.as_f64().unwrap_or(f64::NAN),
    }
}
