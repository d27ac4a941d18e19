//! Reference cases from `tests/cases`: tensors as `f64`, and what is true of them.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::error::Error as StdError;
use std::path::PathBuf;

use ndarray::Array2;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub type Outcome<T> = Result<T, Box<dyn StdError>>;

/// One case: its tensors are read on demand, its entries come from the list it was opened with.
pub struct Case {
    id: String,
    bytes: Vec<u8>,
    truth: Vec<Value>,
}

impl Case {
    /// - `list`: file name in `tests/cases`
    pub fn open(list: &str, id: &str) -> Outcome<Self> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let all: Value = serde_json::from_slice(&std::fs::read(folder.join(list))?)?;
        let cases = all["cases"].as_array().ok_or("no cases")?;
        let case = cases.iter().find(|case| case["id"] == id).ok_or("no such case")?;
        let truth = case["truth"].as_array().ok_or("no truth")?.clone();
        let bytes = std::fs::read(folder.join(format!("{id}.safetensors")))?;
        Ok(Self { id: id.to_owned(), bytes, truth })
    }

    /// A tensor of two dimensions.
    pub fn matrix(&self, name: &str) -> Outcome<Array2<f64>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let tensor = file.tensor(name)?;
        let data = tensor.data();
        let wide = data.as_chunks::<8>().0;
        let values: Vec<f64> = match tensor.dtype() {
            Dtype::F32 => {
                data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
            }
            Dtype::F64 => wide.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => wide.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => return Err(format!("{name} is {other:?}").into()),
        };
        Ok(Array2::from_shape_vec((tensor.shape()[0], tensor.shape()[1]), values)?)
    }

    pub fn labels(&self) -> Outcome<Vec<usize>> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let labels = file.tensor("labels")?;
        let labels = labels.data().as_chunks::<8>().0.iter();
        Ok(labels.map(|b| usize::try_from(i64::from_le_bytes(*b))).collect::<Result<_, _>>()?)
    }

    /// Asserts each entry of a quantity of the given kind; there must be one.
    pub fn check(&self, kind: &str, quantity: &str, got: &[f64]) {
        let id = &self.id;
        let of = |entry: &&Value| entry["quantity"] == quantity && entry["kind"] == kind;
        let mut found = false;
        for entry in self.truth.iter().filter(of) {
            found = true;
            let value = &entry["value"];
            let want = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            assert_eq!(got.len(), want.len(), "{id} {quantity}");
            let bound = |name: &str| entry[name].as_f64().unwrap_or(0.0);
            for (&got, want) in got.iter().zip(want) {
                let want = want.as_f64().expect("a finite number");
                let met = match entry["op"].as_str() {
                    Some("<=") => got <= want,
                    Some(">=") => got >= want,
                    _ => (got - want).abs() <= bound("atol") + bound("rtol") * want.abs(),
                };
                assert!(met, "{id} {quantity}: {got} for {want}");
            }
        }
        assert!(found, "{id} has no {kind} {quantity}");
    }

    /// Asserts that an answer is among those accepted.
    pub fn behaves(&self, answer: &str) {
        let entry = self.truth.iter().find(|entry| entry["kind"] == "behaviour");
        let accepted = entry.and_then(|entry| entry["accept"].as_array()).expect("a behaviour");
        assert!(accepted.iter().any(|accepted| accepted == answer), "{}: {answer}", self.id);
    }
}
