//! The stored reference cases: tensors by name as `f64`, and the entries of a quantity.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::error::Error as StdError;
use std::path::PathBuf;

use ndarray::{Array1, Array2, ArrayD, Ix1, Ix2};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub type Outcome<T> = Result<T, Box<dyn StdError>>;

pub struct Case {
    id: String,
    entry: Value,
    bytes: Vec<u8>,
}

impl Case {
    pub fn load(id: &str) -> Outcome<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let all: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json"))?)?;
        let cases = all["cases"].as_array().ok_or("no cases")?;
        let entry = cases.iter().find(|case| case["id"] == id).ok_or("no such case")?.clone();
        let bytes = std::fs::read(folder.join(format!("{id}.safetensors")))?;
        Ok(Self { id: id.to_owned(), entry, bytes })
    }

    /// A scalar that belongs to the case, such as `sigma`.
    pub fn scalar(&self, name: &str) -> Outcome<f64> {
        Ok(self.entry[name].as_f64().ok_or("no such scalar")?)
    }

    /// A tensor as `f64`, whatever it was stored as; exact for integers below 2⁵³.
    pub fn tensor(&self, name: &str) -> Outcome<ArrayD<f64>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let tensor = file.tensor(name)?;
        let (quads, octets) = (tensor.data().as_chunks::<4>().0, tensor.data().as_chunks::<8>().0);
        let values = match tensor.dtype() {
            Dtype::F32 => quads.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::F64 => octets.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => octets.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::U16 => {
                let pairs = tensor.data().as_chunks::<2>().0;
                pairs.iter().map(|b| f64::from(u16::from_le_bytes(*b))).collect()
            }
            other => return Err(format!("no reader for {other:?}").into()),
        };
        Ok(ArrayD::from_shape_vec(tensor.shape(), values)?)
    }

    pub fn vector(&self, name: &str) -> Outcome<Array1<f64>> {
        Ok(self.tensor(name)?.into_dimensionality::<Ix1>()?)
    }

    pub fn matrix(&self, name: &str) -> Outcome<Array2<f64>> {
        Ok(self.tensor(name)?.into_dimensionality::<Ix2>()?)
    }

    /// Holds a value against every entry of this quantity; there must be one.
    pub fn check(&self, quantity: &str, got: f64) -> Outcome<()> {
        let entries = self.entry["truth"].as_array().ok_or("no truth")?;
        let mut seen = 0;
        for entry in entries.iter().filter(|entry| entry["quantity"] == quantity) {
            let want = entry["value"].as_f64().ok_or("no number")?;
            let holds = if entry["kind"] == "bound" {
                if entry["op"] == "<=" { got <= want + 1e-9 } else { got >= want - 1e-9 }
            } else {
                let part = |name: &str| entry[name].as_f64().unwrap_or(0.0);
                (got - want).abs() <= part("atol") + part("rtol") * want.abs()
            };
            assert!(holds, "{} {quantity}: {got} instead of {entry}", self.id);
            seen += 1;
        }
        assert!(seen > 0, "{} has no {quantity}", self.id);
        Ok(())
    }
}
