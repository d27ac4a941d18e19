//! The tape: what it records, what it leaves out, and what it refuses.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{check, rng, signed};
use gpz_nn::{Entry, Error, Result, Tape, Var};
use gpz_tensor::{DType, Tensor, UnaryOp};

fn scalar(value: f64) -> Entry {
    Entry::parameter(Tensor::scalar(value, DType::F64))
}

#[test]
fn a_parameter_used_twice_sums_its_gradients() -> Result<()> {
    let (a, b) = (scalar(3.0), scalar(5.0));
    let tape = Tape::train(0);
    // (a·b + a)·a: derivatives 2ab + 2a and a².
    let y = tape.parameter(&a).mul(&tape.parameter(&b))?.add(&tape.parameter(&a))?;
    let step = tape.backward(&y.mul(&tape.parameter(&a))?)?;
    assert_eq!(step.gradient(&a).unwrap().item()?, 36.0);
    assert_eq!(step.gradient(&b).unwrap().item()?, 9.0);
    let x = signed(&mut rng(1), &[2, 3], 0.3..1.2);
    check("diamond", &[x], |v| {
        let y = v[0].tanh()?;
        y.mul(&y)?.add(&v[0].affine(2.0, 1.0)?)?.mul(&y)
    });
    Ok(())
}

/// A rule is asked for the gradients of recorded operands alone, and never called where none is recorded.
#[test]
fn rules_learn_which_gradients_are_wanted() -> Result<()> {
    let tape = Tape::train(0);
    let (a, b) = (scalar(2.0), scalar(3.0));
    let asked = Rc::new(RefCell::new(Vec::new()));
    let product = |x: &Var, y: &Var| -> Result<Var> {
        let (u, v, asked) = (x.value().clone(), y.value().clone(), asked.clone());
        Ok(Var::record(u.mul(&v)?, [x, y], move |dz, wanted| {
            asked.borrow_mut().push(wanted);
            Ok([Some(dz.mul(&v)?), Some(dz.mul(&u)?)])
        }))
    };
    let constant = Var::constant(Tensor::scalar(7.0, DType::F64));
    let idle = product(&constant, &constant)?;
    let left = product(&tape.parameter(&a), &idle)?;
    let right = product(&constant, &tape.parameter(&b))?;
    let aside = product(&left, &left)?;
    let step = tape.backward(&product(&left, &right)?)?;
    assert_eq!(*asked.borrow(), [[true, true], [false, true], [true, false]]);
    assert_eq!(aside.value().item()?, 98.0 * 98.0, "recorded, but not on the way to the loss");
    // (49 a)·(7 b): what a rule returns for an operand that did not want it goes nowhere.
    assert_eq!(step.gradient(&a).unwrap().item()?, 49.0 * 21.0);
    assert_eq!(step.gradient(&b).unwrap().item()?, 98.0 * 7.0);
    Ok(())
}

#[test]
fn parameters_the_loss_does_not_depend_on_get_no_gradient() -> Result<()> {
    let (a, b) = (scalar(2.0), scalar(3.0));
    let tape = Tape::train(0);
    let loss = tape.parameter(&a).tanh()?;
    let _later = tape.parameter(&b).mul(&loss)?;
    let step = tape.backward(&loss)?;
    assert!(step.gradient(&a).is_some() && step.gradient(&b).is_none());
    assert!(step.gradient(&scalar(2.0)).is_none(), "entries are told apart by identity");
    Ok(())
}

#[test]
fn an_evaluation_tape_records_nothing() -> Result<()> {
    let a = scalar(2.0);
    let tape = Tape::eval();
    let freed = Rc::new(());
    let held = freed.clone();
    let y = Var::record(Tensor::scalar(1.0, DType::F64), [&tape.parameter(&a)], move |_, _| {
        drop(held);
        Ok([None])
    });
    assert_eq!(Rc::strong_count(&freed), 1, "what the rule captured is freed at once");
    assert!(matches!(tape.backward(&y), Err(Error::NoGradient)));
    Ok(())
}

#[test]
fn a_training_tape_frees_what_the_rules_hold() -> Result<()> {
    let a = scalar(2.0);
    for backward in [true, false] {
        let held = Rc::new(());
        let tape = Tape::train(0);
        let captured = held.clone();
        let y =
            Var::record(Tensor::scalar(1.0, DType::F64), [&tape.parameter(&a)], move |dy, _| {
                let _ = &captured;
                Ok([Some(dy.clone())])
            });
        assert_eq!(Rc::strong_count(&held), 2);
        if backward {
            tape.backward(&y)?;
        } else {
            drop((y, tape));
        }
        assert_eq!(Rc::strong_count(&held), 1, "backward: {backward}");
    }
    Ok(())
}

#[test]
fn gradients_are_taken_of_one_number() -> Result<()> {
    let a = Entry::parameter(Tensor::zeros(&[2], DType::F64)?);
    let tape = Tape::train(0);
    let error = tape.backward(&tape.parameter(&a)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "backward: the value has shape [2]; gradients are taken of a single number, such as a loss"
    );
    let error = tape.backward(&Var::constant(Tensor::scalar(1.0, DType::F64))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "backward: the value does not depend on a recorded parameter; run the forward pass on a training tape"
    );
    // Refusals leave the tape as it was; one element of any rank is one number.
    let one = tape.parameter(&a).narrow(0, 1, 1)?.reshape(&[1, 1])?;
    let step = tape.backward(&one)?;
    assert_eq!(step.gradient(&a).unwrap().to_vec::<f64>().unwrap(), [0.0, 1.0]);
    Ok(())
}

/// Each would give wrong gradients, or none, without a word.
#[test]
fn values_of_another_tape_are_refused() -> Result<()> {
    let a = scalar(2.0);
    let (one, two) = (Tape::train(0), Tape::train(0));
    let x = one.parameter(&a).tanh()?;
    assert!(matches!(two.backward(&x), Err(Error::OtherTape)));
    let mixed = two.parameter(&a).mul(&x)?;
    assert!(matches!(two.backward(&mixed), Err(Error::OtherTape)));
    one.backward(&x)?;
    assert!(matches!(one.backward(&x), Err(Error::OtherTape)), "a tape runs backward once");
    Ok(())
}

#[test]
fn a_rule_s_error_reaches_the_caller() -> Result<()> {
    let a = scalar(2.0);
    let tape = Tape::train(0);
    let y = Var::record(Tensor::scalar(1.0, DType::F64), [&tape.parameter(&a)], |_, _| {
        Err(Error::Value { what: "test", value: 1.0, rule: "none" })
    });
    assert!(matches!(tape.backward(&y.tanh()?), Err(Error::Value { what: "test", .. })));
    Ok(())
}

#[test]
fn non_finite_gradients_are_noticed() -> Result<()> {
    for (value, finite) in [(4.0, true), (0.0, false)] {
        let a = scalar(value);
        let tape = Tape::train(0);
        let step = tape.backward(&tape.parameter(&a).unary(UnaryOp::Sqrt)?)?;
        assert_eq!(step.all_finite().unwrap(), finite, "derivative of the root at {value}");
    }
    Ok(())
}

#[test]
fn running_statistics_are_handed_over_with_the_step() -> Result<()> {
    let (a, buffer) = (scalar(2.0), Entry::buffer(Tensor::scalar(1.0, DType::F64)));
    let tape = Tape::train(0);
    tape.note_update(&buffer, Tensor::scalar(5.0, DType::F64));
    let step = tape.backward(&tape.parameter(&a).tanh()?)?;
    assert_eq!(step.update(&buffer).unwrap().item()?, 5.0);
    assert!(step.update(&a).is_none() && step.gradient(&buffer).is_none());
    Ok(())
}
