//! Operations on tensors that memory limits, and a product.

use anyhow::{Context, Result};
use gpz_tensor::{AdamStep, Learnt, OptimiserStep, Pool2d, SgdStep, Tensor, UnaryOp};

use crate::measure::{Bench, Figure, Work, uniform};

/// Bytes of an f32 element.
const ELEMENT: f64 = 4.0;

pub(crate) fn measure(bench: &Bench, all: &mut Vec<Figure>) -> Result<()> {
    let n = bench.sizes.elements;
    let values = uniform(n, -1.0, 1.0, 1);
    let x = bench.tensor(&values, &[n])?;
    let y = bench.tensor(&uniform(n, 0.5, 1.5, 2), &[n])?;
    drop(values);
    elementwise(bench, &x, &y, all);
    rows(bench, &x, &y, all)?;
    pictures(bench, &x, &y, all)?;
    optimisers(bench, &x, &y, all)
}

/// `passes`: how many operands of the full size are read or written.
fn one(
    bench: &Bench,
    name: &str,
    shape: &[usize],
    passes: f64,
    mut work: impl FnMut() -> gpz_tensor::Result<Tensor>,
) -> Figure {
    let bytes = passes * ELEMENT * shape.iter().product::<usize>() as f64;
    // What comes out is dropped, and its memory used again.
    bench.figure(name, shape, Work::Bytes(bytes), || Ok(work().map(drop)?))
}

fn elementwise(bench: &Bench, x: &Tensor, y: &Tensor, all: &mut Vec<Figure>) {
    let shape = x.shape();
    all.push(one(bench, "add", shape, 3.0, || x.add(y)));
    for op in [UnaryOp::Relu, UnaryOp::Tanh, UnaryOp::Gelu] {
        all.push(one(bench, op.name(), shape, 2.0, || x.unary(op)));
    }
    let backward = || Tensor::unary_backward(UnaryOp::Tanh, x, y);
    all.push(one(bench, "tanh backward", shape, 3.0, backward));
    all.push(one(bench, "affine", shape, 2.0, || x.affine(1.5, -0.5)));
}

fn rows(bench: &Bench, x: &Tensor, y: &Tensor, all: &mut Vec<Figure>) -> Result<()> {
    let d = bench.sizes.row;
    let shape = [x.numel() / d, d];
    let (x, y) = (x.reshape(&shape)?, y.reshape(&shape)?);
    let scale = bench.tensor(&uniform(d, 0.5, 1.5, 3), &[d])?;
    let turned = x.transpose(0, 1)?;
    all.push(one(bench, "transpose", &shape, 2.0, || turned.row_major()));
    all.push(one(bench, "add of a row", &shape, 2.0, || x.add(&scale)));
    all.push(one(bench, "softmax", &shape, 2.0, || x.softmax()));
    all.push(one(bench, "softmax backward", &shape, 3.0, || Tensor::softmax_backward(&x, &y)));
    all.push(one(bench, "log softmax", &shape, 2.0, || x.log_softmax()));
    all.push(one(bench, "layer norm", &shape, 2.0, || x.layer_norm(&scale, &scale, 1e-5)));
    all.push(one(bench, "row sums", &shape, 1.0, || x.sum(&[1])));
    Ok(())
}

/// Pictures lie channels-last.
fn pictures(bench: &Bench, x: &Tensor, y: &Tensor, all: &mut Vec<Figure>) -> Result<()> {
    let [c, h, w] = bench.sizes.picture;
    let shape = [x.numel() / (c * h * w), c, h, w];
    let picture = |t: &Tensor| t.reshape(&shape)?.channels_last();
    let (x, y) = (picture(x)?, picture(y)?);
    let scale = bench.tensor(&uniform(c, 0.5, 1.5, 4), &[c])?;
    all.push(one(bench, "batch norm", &shape, 3.0, || {
        Ok(x.batch_norm(&scale, &scale, 1e-5)?.output)
    }));
    let normal = x.batch_norm(&scale, &scale, 1e-5)?;
    let statistics = (&normal.mean, &normal.variance);
    all.push(one(bench, "batch norm backward", &shape, 5.0, || {
        Ok(Tensor::batch_norm_backward(&x, &y, &scale, statistics, 1e-5)?.input)
    }));
    all.push(one(bench, "channel sums", &shape, 1.0, || x.channel_sums()));
    let window = Pool2d::square(2);
    all.push(one(bench, "max pool", &shape, 1.25, || x.max_pool2d(window)));
    all.push(one(bench, "average pool", &shape, 1.25, || x.avg_pool2d(window)));
    let (made, dy) = (x.max_pool2d(window)?, y.max_pool2d(window)?);
    all.push(one(bench, "max pool backward", &shape, 2.5, || {
        Tensor::max_pool2d_backward(&x, &made, &dy, window)
    }));
    Ok(())
}

/// One step for one large tensor.
fn optimisers(bench: &Bench, x: &Tensor, y: &Tensor, all: &mut Vec<Figure>) -> Result<()> {
    let adam =
        AdamStep { betas: [0.9, 0.999], l2: 0.0, shrink: 1.0, rate: 1e-3, root: 1.0, eps: 1e-8 };
    let sgd = SgdStep { momentum: 0.9, decay: 0.0, rate: 1e-3 };
    // Parameter and moments are read and written, the gradient is read.
    let steps = [
        ("Adam", OptimiserStep::Adam(adam), 2, 7.0),
        ("momentum", OptimiserStep::Sgd(sgd), 1, 5.0),
    ];
    for (name, step, moments, passes) in steps {
        let mut value = x.affine(1.0, 0.0)?;
        let mut moments = (0..moments).map(|_| x.full_like(0.0)).collect::<Result<Vec<_>, _>>()?;
        let bytes = passes * ELEMENT * x.numel() as f64;
        all.push(bench.figure(name, x.shape(), Work::Bytes(bytes), || {
            let learnt = Learnt { value: &mut value, gradient: y, moments: &mut moments };
            Ok(step.take(&mut [learnt], None)?)
        }));
    }
    Ok(())
}

pub(crate) fn product(bench: &Bench, all: &mut Vec<Figure>) -> Result<()> {
    let n = bench.sizes.matrix;
    let [a, b] = [5, 6].map(|seed| bench.tensor(&uniform(n * n, -1.0, 1.0, seed), &[n, n]));
    let (a, b) = (a.context("a matrix")?, b.context("a matrix")?);
    let flops = 2.0 * (n as f64).powi(3);
    all.push(
        bench.figure("product", &[n, n, n], Work::Flops(flops), || Ok(a.matmul(&b).map(drop)?)),
    );
    Ok(())
}
