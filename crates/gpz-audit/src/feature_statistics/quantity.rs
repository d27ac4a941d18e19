//! A figure with what it says of itself.

use std::collections::BTreeMap;

use gpz_estimators::{Estimate, Flag, Kind, Uncertainty};
use serde::{Serialize, Serializer};

use crate::number;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantity {
    /// Its name.
    pub quantity: &'static str,
    /// The value; a list over the classes that occur by ascending label, or of indices.
    pub value: Value,
    /// Which way it errs.
    pub kind: Kind,
    /// Standard error, where there is one.
    pub std_err: Option<Value>,
    /// How it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertainty: Option<Uncertainty>,
    /// Rows that carried information, where not all of them may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_effective: Option<Real>,
    /// The largest value that so many rows can give, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Real>,
    /// What a reader must know beside the number.
    pub flags: Vec<String>,
    /// What some of the flags count, by flag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub flag_figures: BTreeMap<String, serde_json::Value>,
}

impl Quantity {
    pub(crate) fn new(quantity: &'static str, value: Value, kind: Kind) -> Self {
        Self {
            quantity,
            value,
            kind,
            std_err: None,
            uncertainty: None,
            n_effective: None,
            ceiling: None,
            flags: Vec::new(),
            flag_figures: BTreeMap::new(),
        }
    }

    /// A function of the rows at hand.
    pub(crate) fn exact(quantity: &'static str, value: f64) -> Self {
        Self::new(quantity, Value::Number(Real(value)), Kind::Exact)
    }

    pub(super) fn with_std_err(self, std_err: Option<Value>, uncertainty: Uncertainty) -> Self {
        let uncertainty = std_err.as_ref().map(|_| uncertainty);
        Self { std_err, uncertainty, ..self }
    }
}

/// A value that is one number or a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// One number.
    Number(Real),
    /// A list of numbers; null where there is none.
    List(Vec<Option<Real>>),
    /// Counts or indices.
    Indices(Vec<u64>),
}

/// A number that is written as `"inf"`, `"-inf"` or `"nan"` where it is not finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Real(pub f64);

impl Serialize for Real {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number::serialize(&self.0, serializer)
    }
}

pub(crate) fn estimated(quantity: &'static str, estimate: &Estimate) -> Quantity {
    let mut found = Quantity {
        uncertainty: estimate.uncertainty,
        n_effective: Some(Real(estimate.n_effective)),
        ceiling: estimate.ceiling.map(Real),
        std_err: estimate.std_err.map(|e| Value::Number(Real(e))),
        ..Quantity::new(quantity, Value::Number(Real(estimate.value)), estimate.kind)
    };
    // Several classes may each have a flag of one name: it is said once, its counts together.
    for (name, figure) in estimate.flags.iter().map(word) {
        if let Some(figure) = figure {
            let before = found.flag_figures.get(&name).and_then(serde_json::Value::as_u64);
            let figure = match (before, figure.as_u64()) {
                (Some(before), Some(more)) => (before + more).into(),
                _ => figure,
            };
            found.flag_figures.insert(name.clone(), figure);
        }
        if !found.flags.contains(&name) {
            found.flags.push(name);
        }
    }
    found
}

/// A flag's name, as it is serialised, and what it counts.
pub(super) fn word(flag: &Flag) -> (String, Option<serde_json::Value>) {
    match serde_json::to_value(flag) {
        Ok(serde_json::Value::String(name)) => (name, None),
        Ok(serde_json::Value::Object(named)) => named
            .into_iter()
            .next()
            .map_or_else(|| ("other".to_owned(), None), |(name, figure)| (name, Some(figure))),
        _ => ("other".to_owned(), None),
    }
}
