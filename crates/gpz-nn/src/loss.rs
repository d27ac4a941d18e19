//! Losses and the label distributions they compare with.

use gpz_tensor::{DType, Tensor};

use crate::error::{Error, Result};
use crate::tape::Var;

/// Distribution over classes that a label stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Labels {
    /// All on the true class.
    OneHot,
    /// `1 − α` on the true class and `α/(K−1)` on each other: label smoothing as in the released code of the method. A negative α
    /// sharpens.
    Smoothed(f64),
    /// `1 − α + α/K` on the true class and `α/K` on each other: label smoothing as in Szegedy et al., 2016.
    SmoothedUniform(f64),
}

impl Labels {
    /// These labels where their cross-entropy has a lower end, one-hot ones else.
    ///
    /// With a negative α it has none: a network that is right lowers it further and further by larger logits, and so does one that is
    /// less often right but surer. It is no measure by which to choose between states of a training.
    pub fn bounded(self) -> Labels {
        match self {
            Labels::Smoothed(alpha) | Labels::SmoothedUniform(alpha) if alpha < 0.0 => {
                Labels::OneHot
            }
            bounded => bounded,
        }
    }

    /// Distributions `[n, classes]` of labels.
    ///
    /// # Errors
    /// [`Error::Label`] for a label that names no class; [`Error::Value`] for smoothing with fewer than two classes or an α that
    /// is not a number below 1.
    pub fn distributions(self, labels: &[usize], classes: usize, dtype: DType) -> Result<Tensor> {
        let (on, off) = match self {
            Labels::OneHot => (1.0, 0.0),
            Labels::Smoothed(alpha) | Labels::SmoothedUniform(alpha)
                if alpha >= 1.0 || !alpha.is_finite() =>
            {
                let rule = "a number below 1 is needed, for less than all can be taken from the true class";
                return Err(Error::Value { what: "label smoothing", value: alpha, rule });
            }
            _ if classes < 2 => {
                let rule = "label smoothing needs at least two classes";
                return Err(Error::Value { what: "classes", value: classes as f64, rule });
            }
            Labels::Smoothed(alpha) => (1.0 - alpha, alpha / (classes - 1) as f64),
            Labels::SmoothedUniform(alpha) => {
                let each = alpha / classes as f64;
                (1.0 - alpha + each, each)
            }
        };
        let mut values = vec![off; labels.len() * classes];
        for (index, &label) in labels.iter().enumerate() {
            if label >= classes {
                return Err(Error::Label { index, label, classes });
            }
            values[index * classes + label] = on;
        }
        Ok(Tensor::from_slice(&values, &[labels.len(), classes])?.to_dtype(dtype)?)
    }
}

/// Mean over the samples of `−Σ t ln p`, in nats.
///
/// - `log_probs`: `[n, classes]`, as log-softmax gives them
/// - `targets`: `[n, classes]`, distributions over classes
///
/// # Errors
/// Shapes or dtypes that differ; another rank than 2.
pub fn cross_entropy(log_probs: &Var, targets: &Tensor) -> Result<Var> {
    let &[n, _] = log_probs.shape() else {
        return Err(gpz_tensor::Error::Shape {
            op: "cross_entropy",
            shape: log_probs.shape().into(),
            rule: "log-probabilities [n, classes] are needed",
        }
        .into());
    };
    if log_probs.shape() != targets.shape() {
        // Broadcasting would make a number of it all the same.
        return Err(shape_mismatch("cross_entropy", log_probs.value(), targets));
    }
    log_probs
        .mul(&Var::constant(targets.clone()))?
        .sum(&[0, 1])?
        .affine(-1.0 / n.max(1) as f64, 0.0)
}

/// [`cross_entropy`] of log-softmax, from the logits and in one pass.
///
/// - `logits`: `[n, classes]`; `targets`: `[n, classes]`, distributions over classes
///
/// # Errors
/// Shapes or dtypes that differ; another rank than 2.
pub fn softmax_cross_entropy(logits: &Var, targets: &Tensor) -> Result<Var> {
    let &[n, _] = logits.shape() else {
        let (op, rule) = ("softmax_cross_entropy", "logits [n, classes] are needed");
        return Err(gpz_tensor::Error::Shape { op, shape: logits.shape().into(), rule }.into());
    };
    let scale = 1.0 / n.max(1) as f64;
    let (loss, gradient) = logits.value().soft_cross_entropy(targets, scale)?;
    Ok(Var::record(loss, [logits], move |dy, _| Ok([Some(gradient.scaled_by(dy, scale)?)])))
}

/// Mean over all elements of the squared difference.
///
/// # Errors
/// Shapes or dtypes that differ.
pub fn mse(prediction: &Var, target: &Tensor) -> Result<Var> {
    if prediction.shape() != target.shape() {
        return Err(shape_mismatch("mse", prediction.value(), target));
    }
    let difference = prediction.value().sub(target)?;
    let count = difference.numel().max(1) as f64;
    let loss = difference.dot_scaled(&difference, 1.0 / count)?;
    Ok(Var::record(loss, [prediction], move |dy, _| {
        Ok([Some(difference.scaled_by(dy, 2.0 / count)?)])
    }))
}

fn shape_mismatch(op: &'static str, lhs: &Tensor, rhs: &Tensor) -> Error {
    Error::Tensor(gpz_tensor::Error::ShapeMismatch {
        op,
        lhs: lhs.shape().into(),
        rhs: rhs.shape().into(),
        rule: "they must be equal",
    })
}

/// Fraction of the samples whose largest log-probability is at the label. Where one is NaN there is no largest, and the sample counts as
/// wrong.
///
/// # Errors
/// [`Error::Label`] for a label that names no class; another number of labels than samples.
pub fn accuracy(log_probs: &Tensor, labels: &[usize]) -> Result<f64> {
    let classes = log_probs.shape().last().copied().unwrap_or(0);
    if log_probs.shape() != [labels.len(), classes] {
        return Err(gpz_tensor::Error::ShapeMismatch {
            op: "accuracy",
            lhs: log_probs.shape().into(),
            rhs: [labels.len()].into(),
            rule: "the first must be [n, classes] for n labels",
        }
        .into());
    }
    if let Some(index) = labels.iter().position(|&label| label >= classes) {
        return Err(Error::Label { index, label: labels[index], classes });
    }
    if labels.is_empty() {
        return Ok(0.0);
    }
    let predicted = log_probs.argmax_rows()?;
    let largest = log_probs.max(&[1])?.to_vec::<f64>()?;
    let is_right = |i: &usize| predicted[*i] == labels[*i] && !largest[*i].is_nan();
    let right = (0..labels.len()).filter(is_right).count();
    Ok(right as f64 / labels.len().max(1) as f64)
}
