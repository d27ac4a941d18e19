//! Gradients of every layer against central differences, what layers do in training and in evaluation, and a network of several.

mod common;

use common::{check_layer, rng, signed, tape_free, uniform};
use gpz_nn::{
    BatchNorm, Conv2d, ConvTranspose2d, Dropout, Kind, LayerNorm, Linear, Mode, Module, PRelu,
    Result, Tape, Var, module,
};
use gpz_tensor::{Conv2dOptions, ConvTranspose2dOptions, DType, Pool2d, Tensor};

#[test]
fn gradients_of_linear_layers() -> Result<()> {
    let rng = &mut rng(1);
    for bias in [true, false] {
        for shape in [&[5, 4][..], &[2, 3, 4]] {
            let layer = Linear::new([4, 3], bias, rng)?;
            let x = signed(rng, shape, 0.3..1.0);
            check_layer("linear", layer, &x, |l, tape, x| l.forward(tape, x));
        }
    }
    Ok(())
}

#[test]
fn gradients_of_convolutions() -> Result<()> {
    let rng = &mut rng(2);
    for bias in [true, false] {
        let layer = Conv2d::new([2, 3], 3, Conv2dOptions::square(2, 1), bias, rng)?;
        let x = signed(rng, &[2, 2, 5, 5], 0.3..1.0);
        check_layer("convolution", layer, &x, |l, tape, x| l.forward(tape, x));
        let options = ConvTranspose2dOptions::square(2, 1);
        let layer = ConvTranspose2d::new([2, 3], 4, options, bias, rng)?;
        let x = signed(rng, &[2, 2, 3, 2], 0.3..1.0);
        check_layer("transposed convolution", layer, &x, |l, tape, x| l.forward(tape, x));
    }
    Ok(())
}

/// The statistics are functions of the input: leaving that out is the classic mistake.
#[test]
fn gradients_of_norms_and_activations() -> Result<()> {
    let rng = &mut rng(3);
    for (shape, eps) in
        [(&[5, 3][..], 1e-5), (&[2, 3, 2, 3], 1e-5), (&[2, 3, 2, 3], 0.5), (&[3, 1, 4, 4], 1e-3)]
    {
        let mut layer = BatchNorm::new(shape[1])?;
        layer.eps = eps;
        let x = uniform(rng, shape, -1.5..1.5);
        check_layer("batch norm", layer, &x, |l, tape, x| l.forward(tape, x));
    }
    for shape in [&[5, 6][..], &[2, 3, 4]] {
        let layer = LayerNorm::new(shape[shape.len() - 1])?;
        let x = uniform(rng, shape, -1.5..1.5);
        check_layer("layer norm", layer, &x, |l, tape, x| l.forward(tape, x));
    }
    for slopes in [1, 3] {
        let x = signed(rng, &[2, 3, 2, 2], 0.2..1.0);
        check_layer("prelu", PRelu::new(slopes)?, &x, |l, tape, x| l.forward(tape, x));
    }
    Ok(())
}

/// One pass or two, the bits are the same; in training so are the statistics that are noted.
#[test]
fn a_convolution_takes_its_norm_along() -> Result<()> {
    let rng = &mut rng(4);
    for (bias, dtype) in [(true, DType::F32), (false, DType::F32), (true, DType::F64)] {
        let mut conv = Conv2d::new([3, 18], 3, Conv2dOptions::square(1, 1), bias, rng)?;
        let mut norm = BatchNorm::new(18)?;
        for entry in
            [&mut norm.weight, &mut norm.bias, &mut norm.running_mean, &mut norm.running_var]
        {
            *entry.value_mut() = uniform(rng, &[18], 0.5..1.5);
        }
        conv.convert(dtype).unwrap();
        norm.convert(dtype).unwrap();
        let x = Var::constant(uniform(rng, &[2, 3, 7, 6], -1.0..1.0).to_dtype(dtype).unwrap());
        for tape in [Tape::eval, || Tape::train(1)] {
            let (one, two) = (tape(), tape());
            let together = conv.forward_normed(&one, &x, &norm)?;
            let apart = norm.forward(&two, &conv.forward(&two, &x)?)?;
            assert_eq!(
                together.value().to_vec::<f64>().unwrap(),
                apart.value().to_vec::<f64>().unwrap(),
                "{dtype}"
            );
            assert_eq!(tape_free(&together), one.mode() == Mode::Eval);
        }
    }
    Ok(())
}

/// A small classifier with everything in it, dropout by a fixed key included.
struct Small {
    conv: Conv2d,
    norm: BatchNorm,
    prelu: PRelu,
    up: ConvTranspose2d,
    head: Linear,
}

module!(Small { "0" => conv, "1" => norm, "2" => prelu, "up" => up, "head" => head });

impl Small {
    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let x = self.norm.forward(tape, &self.conv.forward(tape, x)?)?;
        let x = self.prelu.forward(tape, &x)?.avg_pool2d(Pool2d::square(2))?;
        // Scaled to where the derivative of tanh is large.
        let x = self.up.forward(tape, &x)?.affine(0.3, 0.0)?.tanh()?;
        let x = Dropout { p: 0.4 }.forward(tape, &x.flatten_from(1)?)?;
        self.head.forward(tape, &x)?.log_softmax()
    }
}

#[test]
fn gradients_of_a_network() -> Result<()> {
    let rng = &mut rng(4);
    let network = Small {
        conv: Conv2d::new([1, 2], 3, Conv2dOptions::square(1, 1), false, rng)?,
        norm: BatchNorm::new(2)?,
        prelu: PRelu::new(1)?,
        up: ConvTranspose2d::new([2, 2], 4, ConvTranspose2dOptions::square(2, 1), true, rng)?,
        head: Linear::new([32, 3], true, rng)?,
    };
    let names: Vec<String> = network.entries().into_iter().map(|(name, _)| name).collect();
    let want = "0.weight 1.weight 1.bias 1.running_mean 1.running_var 1.num_batches_tracked 2.weight up.weight up.bias \
                head.weight head.bias";
    assert_eq!(names.join(" "), want);
    assert_eq!(network.parameter_count(), 18 + 2 + 2 + 1 + 64 + 2 + 96 + 3);
    let x = uniform(rng, &[3, 1, 4, 4], -1.5..1.5);
    check_layer("network", network, &x, |l, tape, x| l.forward(tape, x));
    Ok(())
}

#[test]
fn batch_norm_keeps_pytorch_s_running_statistics() -> Result<()> {
    let rng = &mut rng(5);
    let mut norm = BatchNorm::new(2)?;
    norm.convert(DType::F64).unwrap();
    let (mut mean, mut var) = ([0.0; 2], [1.0; 2]);
    for batch in 1..4 {
        let x = uniform(rng, &[3, 2, 2, 2], -1.0..3.0);
        let tape = Tape::train(0);
        let y = norm.forward(&tape, &Var::constant(x.clone()))?;
        let loss = y.sum(&[0, 1, 2, 3])?;
        let before = norm.running_mean.value().to_vec::<f64>().unwrap();
        let step = tape.backward(&loss)?;
        assert_eq!(
            norm.running_mean.value().to_vec::<f64>().unwrap(),
            before,
            "a pass changes nothing"
        );
        norm.apply_updates(&step);
        let columns = x.permute(&[1, 0, 2, 3])?.reshape(&[2, 12])?.to_vec::<f64>().unwrap();
        for c in 0..2 {
            let values = &columns[12 * c..12 * (c + 1)];
            let m = values.iter().sum::<f64>() / 12.0;
            let v = values.iter().map(|x| (x - m).powi(2)).sum::<f64>() / 11.0;
            mean[c] = 0.9 * mean[c] + 0.1 * m;
            var[c] = 0.9 * var[c] + 0.1 * v;
        }
        let close = |got: &Tensor, want: &[f64]| {
            got.to_vec::<f64>().unwrap().iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-14)
        };
        assert!(close(norm.running_mean.value(), &mean), "mean after batch {batch}");
        assert!(close(norm.running_var.value(), &var), "variance after batch {batch}");
        assert_eq!(norm.num_batches_tracked.value().item()?, f64::from(batch));
        assert_eq!(norm.num_batches_tracked.kind(), Kind::Counter);
    }
    // Evaluation is the affine map that the running statistics amount to.
    let x = uniform(rng, &[1, 2, 1, 1], -1.0..3.0);
    let y = norm.forward(&Tape::eval(), &Var::constant(x.clone()))?;
    let want: Vec<f64> = x
        .to_vec::<f64>()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(c, x)| (x - mean[c]) / (var[c] + 1e-5).sqrt())
        .collect();
    for (got, want) in y.value().to_vec::<f64>().unwrap().iter().zip(&want) {
        assert!((got - want).abs() <= 1e-13, "{got} instead of {want}");
    }
    Ok(())
}

#[test]
fn dropout_is_off_in_evaluation_and_repeats_by_key() -> Result<()> {
    let x = Var::constant(Tensor::full(&[200], 1.0, DType::F32)?);
    let dropout = Dropout { p: 0.5 };
    let two = |tape: &Tape| -> Result<[Vec<f32>; 2]> {
        Ok([
            dropout.forward(tape, &x)?.value().to_vec()?,
            dropout.forward(tape, &x)?.value().to_vec()?,
        ])
    };
    let (first, again, other) =
        (two(&Tape::train(3))?, two(&Tape::train(3))?, two(&Tape::train(4))?);
    assert_eq!(first, again, "equal keys, equal masks");
    assert_ne!(first[0], first[1], "two layers of a pass draw two masks");
    assert_ne!(first, other);
    let off = dropout.forward(&Tape::eval(), &x)?;
    assert_eq!(off.value().to_vec::<f32>().unwrap(), [1.0; 200]);
    assert_eq!((Tape::train(0).mode(), Tape::eval().mode()), (Mode::Train, Mode::Eval));
    assert!(Dropout { p: 1.0 }.forward(&Tape::train(0), &x).is_err());
    Ok(())
}

#[test]
fn conversion_changes_parameters_and_statistics_but_no_counter() -> Result<()> {
    let mut norm = BatchNorm::new(3)?;
    norm.convert(DType::F64).unwrap();
    for (name, entry) in norm.entries() {
        assert_eq!(entry.value().dtype(), DType::F64, "{name}");
    }
    norm.convert(DType::F32).unwrap();
    for (name, entry) in norm.entries() {
        let counter = entry.kind() == Kind::Counter;
        assert_eq!(entry.value().dtype() == DType::F64, counter, "{name}");
    }
    Ok(())
}
