//! The stored reference cases: tensors by name, and the entries of `truth.json`.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::error::Error as StdError;
use std::path::PathBuf;

use ndarray::{Array1, Array2};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub type Outcome<T> = Result<T, Box<dyn StdError>>;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// One stored case.
pub struct Stored {
    id: &'static str,
    bytes: Vec<u8>,
    truth: Vec<Value>,
}

impl Stored {
    pub fn open(id: &'static str) -> Outcome<Self> {
        let all: Value = serde_json::from_slice(&std::fs::read(folder().join("truth.json"))?)?;
        let cases = all["cases"].as_array().ok_or("no cases")?;
        let case = cases.iter().find(|case| case["id"] == id).ok_or("no such case")?;
        let truth = case["truth"].as_array().ok_or("no truth")?.clone();
        let bytes = std::fs::read(folder().join(format!("{id}.safetensors"))).unwrap_or_default();
        Ok(Self { id, bytes, truth })
    }

    /// A tensor of two dimensions as `f64`; one of one dimension is a row.
    pub fn matrix(&self, name: &str) -> Outcome<Array2<f64>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let tensor = file.tensor(name)?;
        let bytes = tensor.data();
        let values: Vec<f64> = match tensor.dtype() {
            Dtype::F32 => {
                bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
            }
            Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            other => return Err(format!("{name} is {other:?}").into()),
        };
        let shape = match *tensor.shape() {
            [n] => (1, n),
            [n, d] => (n, d),
            _ => return Err("a tensor of more than two dimensions".into()),
        };
        Ok(Array2::from_shape_vec(shape, values)?)
    }

    pub fn vector(&self, name: &str) -> Outcome<Array1<f64>> {
        Ok(self.matrix(name)?.row(0).to_owned())
    }

    pub fn labels(&self) -> Outcome<Vec<usize>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let labels = file.tensor("labels")?;
        let labels = labels.data().as_chunks::<8>().0.iter();
        Ok(labels.map(|b| usize::try_from(i64::from_le_bytes(*b))).collect::<Result<_, _>>()?)
    }

    /// Holds a quantity against every entry of this name and kind; there is at least one.
    pub fn check(&self, quantity: &str, kind: &str, got: &[f64]) {
        let entries: Vec<&Value> = self
            .truth
            .iter()
            .filter(|entry| entry["quantity"] == quantity && entry["kind"] == kind)
            .collect();
        assert!(!entries.is_empty(), "{} has no {quantity} of kind {kind}", self.id);
        for entry in entries {
            let want: Vec<f64> = match entry["value"].as_array() {
                Some(values) => values.iter().filter_map(Value::as_f64).collect(),
                None => entry["value"].as_f64().into_iter().collect(),
            };
            assert_eq!(got.len(), want.len(), "{} {quantity}", self.id);
            let tolerance = |name: &str| entry[name].as_f64().unwrap_or(0.0);
            for (got, want) in got.iter().zip(&want) {
                let allowed = tolerance("atol") + tolerance("rtol") * want.abs();
                assert!(
                    (got - want).abs() <= allowed,
                    "{} {quantity}: {got} instead of {want}",
                    self.id
                );
            }
        }
    }

    pub fn sample(&self, quantity: &str, got: f64) {
        self.check(quantity, "sample", &[got]);
    }

    pub fn population(&self, quantity: &str, got: f64) {
        self.check(quantity, "population", &[got]);
    }
}
