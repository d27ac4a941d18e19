//! Losses and label distributions against closed forms.

mod common;

use std::slice::from_ref;

use common::{beside, check, rng, uniform};
use gpz_nn::{Error, Labels, Result, Var, loss};
use gpz_tensor::{DType, Tensor};
use proptest::prelude::*;

fn distributions(labels: Labels, of: &[usize], classes: usize) -> Vec<f64> {
    labels.distributions(of, classes, DType::F64).unwrap().to_vec().unwrap()
}

fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance, "{got} instead of {want}");
    }
}

#[test]
fn label_distributions_follow_both_conventions() {
    close(&distributions(Labels::OneHot, &[2, 0], 3), &[0., 0., 1., 1., 0., 0.], 0.0);
    // α = 0.3 over four classes: 0.1 on each other class, or 0.075 on every class.
    close(&distributions(Labels::Smoothed(0.3), &[1], 4), &[0.1, 0.7, 0.1, 0.1], 1e-15);
    let each = 0.3 / 4.0;
    let uniform = distributions(Labels::SmoothedUniform(0.3), &[1], 4);
    close(&uniform, &[each, 0.7 + each, each, each], 1e-15);
    // A negative α sharpens: more than all on the true class.
    let sharp = distributions(Labels::Smoothed(-0.05), &[0], 11);
    close(&sharp[..2], &[1.05, -0.005], 1e-15);
    let sharp = distributions(Labels::SmoothedUniform(-0.05), &[0], 10);
    close(&sharp[..2], &[1.045, -0.005], 1e-15);
    assert_eq!(distributions(Labels::OneHot, &[0, 0], 1), [1.0, 1.0]);
    assert!(distributions(Labels::OneHot, &[], 3).is_empty());
    let narrow = Labels::Smoothed(0.1).distributions(&[0], 2, DType::F32).unwrap();
    assert_eq!((narrow.dtype(), narrow.to_vec::<f32>().unwrap()), (DType::F32, vec![0.9, 0.1]));
}

/// Larger logits lower the cross-entropy of labels smoothed by a negative amount even where they are wrong once in a while; that of those it is
/// replaced by, it tells.
#[test]
fn a_loss_without_a_lower_end_is_replaced() {
    let mean = |labels: Labels, scale: f64| -> f64 {
        // Right twenty-nine times of thirty, and as sure the one time it is not.
        let of: Vec<usize> = (0..30).map(|i| usize::from(i == 0)).collect();
        let logits: Vec<f64> = (0..30).flat_map(|_| [scale, 0.0, 0.0, 0.0]).collect();
        let logits = Var::constant(Tensor::from_slice(&logits, &[30, 4]).unwrap());
        let goal = labels.distributions(&of, 4, DType::F64).unwrap();
        let loss = loss::cross_entropy(&logits.log_softmax().unwrap(), &goal).unwrap();
        loss.value().item().unwrap()
    };
    for labels in [Labels::Smoothed(-0.05), Labels::SmoothedUniform(-0.07)] {
        assert!(mean(labels, 1e4) < mean(labels, 1e2) && mean(labels, 1e4) < -10.0);
        assert_eq!(labels.bounded(), Labels::OneHot);
        assert!(mean(labels.bounded(), 1e4) > mean(labels.bounded(), 1e2));
    }
    for labels in [Labels::OneHot, Labels::Smoothed(0.3), Labels::SmoothedUniform(0.0)] {
        assert_eq!(labels.bounded(), labels);
    }
}

proptest! {
    /// Rows sum to 1 whatever the convention, and the two agree once α is converted.
    #[test]
    fn label_distributions_sum_to_one(alpha in -2.0..0.99f64, classes in 2usize..30, label in 0usize..30) {
        let label = label % classes;
        let k = classes as f64;
        let smoothed = distributions(Labels::Smoothed(alpha * (k - 1.0) / k), &[label], classes);
        let uniform = distributions(Labels::SmoothedUniform(alpha), &[label], classes);
        for row in [&smoothed, &uniform] {
            prop_assert!((row.iter().sum::<f64>() - 1.0).abs() <= 1e-12);
        }
        for (a, b) in smoothed.iter().zip(&uniform) {
            prop_assert!((a - b).abs() <= 1e-12);
        }
    }
}

#[test]
fn impossible_labels_are_refused_with_the_mend() {
    let text = |labels: Labels, of: &[usize], classes| {
        labels.distributions(of, classes, DType::F32).unwrap_err().to_string()
    };
    assert_eq!(
        text(Labels::OneHot, &[0, 3], 3),
        "label 3 of sample 1 is out of range: there are 3 classes, 0 to 2"
    );
    assert_eq!(
        text(Labels::Smoothed(0.1), &[0], 1),
        "classes = 1 is not possible: label smoothing needs at least two classes"
    );
    for alpha in [1.0, 2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for labels in [Labels::Smoothed(alpha), Labels::SmoothedUniform(alpha)] {
            assert!(text(labels, &[0], 3).starts_with(&format!("label smoothing = {alpha} is")));
        }
    }
}

/// With logits 0 every log-probability is −ln K, whatever the distribution; with one logit raised the sums are closed as well.
#[test]
fn cross_entropy_agrees_with_its_closed_form() -> Result<()> {
    let (labels, k) = ([1, 3, 0], 5);
    for scheme in [
        Labels::OneHot,
        Labels::Smoothed(0.3),
        Labels::Smoothed(-0.05),
        Labels::SmoothedUniform(0.2),
    ] {
        let targets = scheme.distributions(&labels, k, DType::F64)?;
        let flat = Var::constant(Tensor::zeros(&[3, k], DType::F64)?).log_softmax()?;
        let got = loss::cross_entropy(&flat, &targets)?.value().item()?;
        assert!((got - (k as f64).ln()).abs() <= 1e-14, "{scheme:?}: {got}");
        // The true class stands out by s: −ln p is ln(e^s + K − 1) − s there and ln(e^s + K − 1) elsewhere.
        let s = 2.0;
        let logits = Labels::OneHot.distributions(&labels, k, DType::F64)?.affine(s, 0.0).unwrap();
        let raised = Var::constant(logits).log_softmax()?;
        let on = targets.to_vec::<f64>().unwrap()[1];
        let want = (s.exp() + k as f64 - 1.0).ln() - s * on;
        let got = loss::cross_entropy(&raised, &targets)?.value().item()?;
        assert!((got - want).abs() <= 1e-14, "{scheme:?}: {got} instead of {want}");
    }
    Ok(())
}

/// The gradient with respect to the logits is (softmax · Σt − t) / n.
#[test]
fn cross_entropy_has_its_closed_gradient() -> Result<()> {
    let rng = &mut rng(1);
    let logits = gpz_nn::Entry::parameter(uniform(rng, &[4, 3], -2.0..2.0));
    let targets = Labels::Smoothed(-0.05).distributions(&[0, 2, 1, 1], 3, DType::F64)?;
    let tape = gpz_nn::Tape::train(0);
    let log_probs = tape.parameter(&logits).log_softmax()?;
    let step = tape.backward(&loss::cross_entropy(&log_probs, &targets)?)?;
    let softmax = logits.value().softmax()?.to_vec::<f64>().unwrap();
    let want: Vec<f64> =
        softmax.iter().zip(targets.to_vec::<f64>().unwrap()).map(|(p, t)| (p - t) / 4.0).collect();
    close(&step.gradient(&logits).unwrap().to_vec::<f64>().unwrap(), &want, 1e-14);
    Ok(())
}

#[test]
fn gradients_of_losses() {
    let rng = &mut rng(2);
    let (x, y) = (uniform(rng, &[2, 3], -2.0..2.0), uniform(rng, &[2, 3], 2.0..4.0));
    check("mse", from_ref(&x), |v| loss::mse(&v[0], &beside(&y, &v[0])));
    let targets = Labels::Smoothed(0.3).distributions(&[0, 2], 3, DType::F64).unwrap();
    check("softmax cross entropy", from_ref(&x), |v| {
        loss::softmax_cross_entropy(&v[0], &beside(&targets, &v[0]))
    });
    check("cross entropy", &[x], |v| {
        loss::cross_entropy(&v[0].log_softmax()?, &beside(&targets, &v[0]))
    });
}

#[test]
fn mse_is_the_mean_of_squares() -> Result<()> {
    let x = Var::constant(Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?);
    let y = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 0.0], &[2, 2])?;
    assert_eq!(loss::mse(&x, &y)?.value().item()?, (4.0 + 9.0 + 16.0) / 4.0);
    let nan = Tensor::full(&[2, 2], f64::NAN, DType::F32)?;
    assert!(loss::mse(&x, &nan)?.value().item()?.is_nan());
    Ok(())
}

/// Shapes that would broadcast are refused: a number would come out all the same.
#[test]
fn losses_refuse_what_would_broadcast() -> Result<()> {
    let x = Var::constant(Tensor::zeros(&[2, 3], DType::F32)?);
    let row = Tensor::zeros(&[3], DType::F32)?;
    let want = "shapes [2, 3] and [3] do not match: they must be equal";
    for (name, got) in
        [("mse", loss::mse(&x, &row)), ("cross_entropy", loss::cross_entropy(&x, &row))]
    {
        assert_eq!(got.err().unwrap().to_string(), format!("{name}: {want}"));
    }
    for shape in [&[][..], &[3], &[2, 3, 1]] {
        let zeros = Tensor::zeros(shape, DType::F32)?;
        let error = loss::cross_entropy(&Var::constant(zeros.clone()), &zeros).err().unwrap();
        let want = format!(
            "cross_entropy: shape {shape:?} does not fit: log-probabilities [n, classes] are needed"
        );
        assert_eq!(error.to_string(), want);
    }
    let wide = Tensor::zeros(&[2, 3], DType::F64)?;
    assert!(loss::mse(&x, &wide).is_err() && loss::cross_entropy(&x, &wide).is_err());
    Ok(())
}

#[test]
fn accuracy_counts_hits() -> Result<()> {
    let scores = Tensor::from_slice(&[0.1f32, 0.9, 0.5, 0.4, 0.0, 0.1], &[3, 2])?;
    assert_eq!(loss::accuracy(&scores, &[1, 0, 0])?, 2.0 / 3.0);
    assert!(matches!(
        loss::accuracy(&scores, &[1, 2, 0]),
        Err(Error::Label { index: 1, label: 2, classes: 2 })
    ));
    let text = loss::accuracy(&scores, &[1, 0]).unwrap_err().to_string();
    let want =
        "accuracy: shapes [3, 2] and [2] do not match: the first must be [n, classes] for n labels";
    assert_eq!(text, want);
    assert_eq!(loss::accuracy(&Tensor::zeros(&[0, 2], DType::F32)?, &[])?, 0.0);
    // A network of NaN knows nothing, though class 0 is as good a guess as any.
    let nan = f32::NAN;
    let scores = Tensor::from_slice(&[nan, nan, 0.5, nan, nan, 0.1, 0.2, 0.1], &[4, 2])?;
    assert_eq!(loss::accuracy(&scores, &[0, 1, 0, 0])?, 0.25);
    Ok(())
}
