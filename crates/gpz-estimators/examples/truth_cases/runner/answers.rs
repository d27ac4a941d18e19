//! What was answered for a case, and what the library's results amount to in one word.

use std::collections::BTreeMap;

use gpz_estimators::{Error, Estimate, Estimated, Flag};
use serde_json::Value;

use super::case::Case;

/// What a call of the library amounted to, the worse the further down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// A number and nothing to warn of.
    Value,
    /// A number with a warning.
    Flag,
    /// `inf`.
    Infinity,
    /// `-inf`.
    MinusInfinity,
    /// Ties were found, and the estimator for mixed samples took over.
    Mixed,
    /// No estimate: the data cannot tell.
    Refusal,
    /// An error: bad input.
    Error,
}

impl Finding {
    /// The words that say this, the plainest first.
    fn words(self) -> &'static [&'static str] {
        match self {
            // Bad rows are named and counted, and what is told is told of the others.
            Self::Error => &["error", "refuse", "skip+count"],
            Self::Refusal => &["refuse", "not-identifiable", "error"],
            Self::Flag => &["flag", "warn", "warning"],
            Self::MinusInfinity => &["-inf", "flag"],
            Self::Infinity => &["inf", "flag"],
            Self::Value => &["value"],
            Self::Mixed => &["mixed-estimator", "refuse", "not-identifiable"],
        }
    }
}

impl From<&Estimate> for Finding {
    fn from(estimate: &Estimate) -> Self {
        if estimate.value == f64::NEG_INFINITY {
            Self::MinusInfinity
        } else if estimate.value == f64::INFINITY {
            Self::Infinity
        } else if estimate.flags.iter().any(warns) {
            Self::Flag
        } else {
            Self::Value
        }
    }
}

impl From<&Estimated> for Finding {
    fn from(estimated: &Estimated) -> Self {
        estimated.as_ref().map_or(Self::Refusal, Self::from)
    }
}

/// Whether a flag warns of this sample, rather than telling what the number is in any sample.
fn warns(flag: &Flag) -> bool {
    !matches!(
        flag,
        Flag::PlugInOfUpperBound
            | Flag::InExpectation
            | Flag::AssumesGaussian
            | Flag::RestsOnEstimate
    )
}

/// Anything a topic may hand in for a quantity.
pub(crate) trait Answer {
    /// The number, if there is one, and what it amounts to.
    fn split(&self) -> (Option<f64>, Finding);
}

impl Answer for Estimate {
    fn split(&self) -> (Option<f64>, Finding) {
        (Some(self.value), Finding::from(self))
    }
}

impl Answer for Estimated {
    fn split(&self) -> (Option<f64>, Finding) {
        (self.as_ref().ok().map(|estimate| estimate.value), Finding::from(self))
    }
}

impl<R: Answer> Answer for Option<R> {
    fn split(&self) -> (Option<f64>, Finding) {
        self.as_ref().map_or((None, Finding::Refusal), Answer::split)
    }
}

impl<R: Answer> Answer for Result<R, Error> {
    fn split(&self) -> (Option<f64>, Finding) {
        self.as_ref().map_or((None, Finding::Error), Answer::split)
    }
}

/// Answers to one case.
pub(crate) struct Answers<'a> {
    case: &'a Case,
    values: BTreeMap<String, Vec<f64>>,
    /// The worst that the estimators which the case is about had to say.
    finding: Option<Finding>,
}

impl<'a> Answers<'a> {
    pub(crate) fn new(case: &'a Case) -> Self {
        let mut answers = Self { case, values: BTreeMap::new(), finding: None };
        answers.put_all("bad_rows", || case.bad_rows.iter().map(|&row| row as f64).collect());
        if !case.bad_rows.is_empty() {
            answers.behave(Finding::Error);
        }
        answers
    }

    /// Whether a quantity is asked for and has no answer yet.
    pub(crate) fn wants(&self, quantity: &str) -> bool {
        self.case.asked.iter().any(|asked| asked.quantity == quantity)
            && !self.values.contains_key(quantity)
    }

    /// Whether any quantity with such a name is asked for, answered or not.
    pub(crate) fn asks(&self, applies: impl Fn(&str) -> bool) -> bool {
        self.case.asked.iter().any(|asked| applies(&asked.quantity))
    }

    /// Answers a quantity with what the library returned, if it is wanted and there is a number.
    pub(crate) fn put<R: Answer>(&mut self, quantity: &str, result: impl FnOnce() -> R) {
        if self.wants(quantity)
            && let (Some(value), _) = result().split()
        {
            self.values.insert(quantity.to_owned(), vec![value]);
        }
    }

    /// Answers a quantity with plain numbers.
    pub(crate) fn put_all(&mut self, quantity: &str, values: impl FnOnce() -> Vec<f64>) {
        if self.wants(quantity) {
            self.values.insert(quantity.to_owned(), values());
        }
    }

    /// Whether nothing was found yet.
    pub(crate) fn found_nothing(&self) -> bool {
        self.finding.is_none()
    }

    /// States what an estimator returned that the case is about. Which those are follows from group and data; the worst counts.
    pub(crate) fn behave(&mut self, finding: impl Into<Finding>) {
        self.finding = self.finding.max(Some(finding.into()));
    }

    /// The same from a result as the library returns it.
    pub(crate) fn behave_as<R: Answer>(&mut self, result: &R) {
        self.behave(result.split().1);
    }

    /// The same, computed only while there is nothing to warn of.
    pub(crate) fn behave_by<R: Answer>(&mut self, result: impl FnOnce() -> R) {
        if self.wants_behaviour() {
            self.behave_as(&result());
        }
    }

    /// Whether a word about behaviour is asked for and nothing found so far is worse than a value.
    pub(crate) fn wants_behaviour(&self) -> bool {
        self.case.accept.is_some() && self.finding.is_none_or(|finding| finding == Finding::Value)
    }

    /// What was found in a word: of its synonyms the first that the case knows, if it knows any. What it knows changes no finding.
    fn word(&self) -> Option<&'static str> {
        let accept = self.case.accept.as_ref()?;
        let words = self.finding?.words();
        let known = words.iter().find(|word| accept.iter().any(|accepted| accepted == **word));
        Some(known.unwrap_or(&words[0]))
    }

    /// Number of entries answered.
    pub(crate) fn count(&self) -> usize {
        let answered = |quantity: &str| match quantity {
            "behaviour" => self.finding.is_some(),
            quantity => self.values.contains_key(quantity),
        };
        self.case.asked.iter().filter(|asked| answered(&asked.quantity)).count()
    }

    pub(crate) fn finish(self) -> Value {
        let number = |value: f64| match value {
            f64::INFINITY => Value::from("inf"),
            f64::NEG_INFINITY => Value::from("-inf"),
            value if value.is_nan() => Value::from("nan"),
            value => Value::from(value),
        };
        let mut object = serde_json::Map::new();
        for (quantity, values) in &self.values {
            let value = match values.as_slice() {
                [value] => number(*value),
                values => values.iter().copied().map(number).collect(),
            };
            object.insert(quantity.clone(), value);
        }
        if let Some(word) = self.word() {
            object.insert("behaviour".to_owned(), Value::from(word));
        }
        Value::Object(object)
    }
}
