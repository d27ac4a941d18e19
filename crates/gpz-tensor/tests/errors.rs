//! Operands that do not fit are errors whose text names both shapes and what has to hold; nothing panics, whatever the shapes.

mod common;

use common::rng;
use gpz_tensor::{
    BinaryOp, Conv2dOptions, ConvEpilogue, ConvTranspose2dOptions, DType, Pool2d, Result, Tensor,
    UnaryOp, broadcast_shape,
};
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32).unwrap()
}

/// The text of the error an operation must end in.
fn text<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn shapes_that_do_not_match_are_both_named() {
    let (a, b) = (zeros(&[2, 3]), zeros(&[4, 5]));
    let window = Pool2d::square(2);
    let cases = [
        (
            text(a.matmul(&b)),
            "matmul: shapes [2, 3] and [4, 5] do not match: the inner dimensions must be equal",
        ),
        (
            text(zeros(&[2, 3, 4]).matmul(&zeros(&[3, 4, 5]))),
            "matmul: shapes [2, 3, 4] and [3, 4, 5] do not match: the axes before the matrices must be equal, or the second be \
             one matrix",
        ),
        (
            text(zeros(&[3]).matmul(&a)),
            "matmul: shapes [3] and [2, 3] do not match: both must be matrices or batches of them",
        ),
        (
            text(a.add(&b)),
            "add: shapes [2, 3] and [4, 5] do not match: aligned at the right, extents must be equal or one of them 1",
        ),
        (
            text(a.div(&zeros(&[2]))),
            "div: shapes [2, 3] and [2] do not match: aligned at the right, extents must be equal or one of them 1",
        ),
        (
            text(a.broadcast_to(&[3, 2])),
            "broadcast_to: shapes [2, 3] and [3, 2] do not match: aligned at the right, each extent must be equal or 1",
        ),
        (
            text(a.sum_to(&[2])),
            "sum_to: shapes [2] and [2, 3] do not match: aligned at the right, extents must be equal or one of them 1",
        ),
        (
            text(zeros(&[1, 3]).sum_to(&[2, 3])),
            "sum_to: shapes [1, 3] and [2, 3] do not match: the second must broadcast to the first",
        ),
        (
            text(a.permute(&[0, 0])),
            "permute: shapes [2, 3] and [0, 0] do not match: the second must name each axis of the first once",
        ),
        (
            text(Tensor::concat(&[&a, &b], 0)),
            "concat: shapes [2, 3] and [4, 5] do not match: all axes but the joined one must be equal",
        ),
        (text(a.dot(&b)), "dot: shapes [2, 3] and [4, 5] do not match: they must be equal"),
        (
            text(a.channel_affine(&zeros(&[2]), &zeros(&[3]))),
            "channel_affine: shapes [2, 3] and [2] do not match: the second must hold one value per channel, axis 1 of the first",
        ),
        (
            text(a.layer_norm(&zeros(&[2]), &zeros(&[3]), 1e-5)),
            "layer_norm: shapes [2, 3] and [2] do not match: the second must hold one value per entry of the first's last axis",
        ),
        (
            text(Tensor::max_pool2d_backward(
                &zeros(&[1, 1, 4, 4]),
                &zeros(&[1, 1, 3, 3]),
                &zeros(&[1, 1, 3, 3]),
                window,
            )),
            "pool2d_backward: shapes [1, 1, 3, 3] and [1, 1, 2, 2] do not match: the first must be what pooling makes of the input",
        ),
        (
            text(zeros(&[1, 3, 8, 8]).conv2d(
                &zeros(&[4, 5, 3, 3]),
                None,
                Conv2dOptions::square(1, 1),
            )),
            "conv2d: shapes [1, 3, 8, 8] and [4, 5, 3, 3] do not match: the weight's input channels must be the picture's channels",
        ),
        (
            text(zeros(&[1, 3, 8, 8]).conv_transpose2d(
                &zeros(&[5, 4, 3, 3]),
                None,
                ConvTranspose2dOptions::square(1, 1),
            )),
            "conv_transpose2d: shapes [1, 3, 8, 8] and [5, 4, 3, 3] do not match: the weight's input channels must be the \
             picture's channels",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
}

#[test]
fn other_errors_name_the_value_and_the_mend() {
    let a = zeros(&[2, 3]);
    let pool = |kernel, stride, padding| Pool2d { kernel, stride, padding };
    let picture = zeros(&[1, 1, 3, 3]);
    let cases = [
        (
            text(Tensor::from_slice(&[1.0f32; 5], &[2, 3])),
            "from_slice: 5 elements cannot have shape [2, 3], which holds 6",
        ),
        (
            text(Tensor::from_channels_last(&[1.0f32; 5], [1, 2, 3, 1])),
            "from_channels_last: 5 elements cannot have shape [1, 2, 3, 1], which holds 6",
        ),
        (text(a.reshape(&[4])), "reshape: 6 elements cannot have shape [4], which holds 4"),
        (
            text(zeros(&[1, 3, 8, 8]).conv2d(
                &zeros(&[4, 1, 3, 3]),
                None,
                Conv2dOptions::square(1, 1).grouped(2),
            )),
            "conv2d: groups = 2 is not possible: at least one is needed, and it must divide the picture's channels",
        ),
        (
            text(zeros(&[1, 3, 8, 8]).conv2d(
                &zeros(&[4, 1, 3, 3]),
                None,
                Conv2dOptions::square(1, 1).grouped(3),
            )),
            "conv2d: groups = 3 is not possible: at least one is needed, and the channels of both sides must be multiples of it",
        ),
        (
            text(Tensor::zeros(&[1; 7], DType::F32)),
            "shape: shape [1, 1, 1, 1, 1, 1, 1] does not fit: at most 6 axes that fit in memory",
        ),
        (text(a.sum(&[2])), "sum: axis 2 does not exist in a tensor of rank 2"),
        (text(zeros(&[]).softmax()), "softmax: axis 0 does not exist in a tensor of rank 0"),
        (
            text(zeros(&[]).argmax_rows()),
            "argmax_rows: axis 0 does not exist in a tensor of rank 0",
        ),
        (
            text(zeros(&[3, 0]).argmax_rows()),
            "argmax_rows: shape [3, 0] does not fit: an empty last axis has no largest element",
        ),
        (
            text(Tensor::max_backward(&a, &zeros(&[3]), &[1])),
            "max_backward: shapes [2, 3] and [3] do not match: the second must be what the maximum makes of the first",
        ),
        (
            text(a.narrow(1, 2, 2)),
            "narrow: start + len = 4 is not possible: the range must lie inside the axis",
        ),
        (text(a.item()), "item: shape [2, 3] does not fit: exactly one element is needed"),
        (
            text(a.channels_last()),
            "channels_last: shape [2, 3] does not fit: rank 4, [n, c, h, w], is needed",
        ),
        (
            text(zeros(&[1, 3]).batch_norm(&zeros(&[3]), &zeros(&[3]), 1e-5)),
            "batch_norm: shape [1, 3] does not fit: at least two values per channel are needed for a variance",
        ),
        (
            text(Tensor::concat(&[], 0)),
            "concat: shape [] does not fit: at least one tensor is needed",
        ),
        (
            text(picture.max_pool2d(pool([4, 4], [1, 1], [0, 0]))),
            "max_pool2d: shape [1, 1, 3, 3] does not fit: the window is larger than the picture",
        ),
        (
            text(picture.max_pool2d(pool([2, 2], [0, 1], [0, 0]))),
            "max_pool2d: kernel or stride = 0 is not possible: at least 1",
        ),
        (
            text(picture.avg_pool2d(pool([3, 3], [1, 1], [2, 0]))),
            "avg_pool2d: padding = 2 is not possible: at most half the window",
        ),
        (
            text(a.add(&Tensor::zeros(&[2, 3], DType::F64).unwrap())),
            "add: dtypes f32 and f64 differ; convert one with `to_dtype`",
        ),
        (
            text(Tensor::max_pool2d_backward(
                &Tensor::zeros(&[1, 1, 2, 2], DType::F64).unwrap(),
                &zeros(&[1, 1, 1, 1]),
                &zeros(&[1, 1, 1, 1]),
                Pool2d::square(2),
            )),
            "max_pool2d_backward: dtypes f64 and f32 differ; convert one with `to_dtype`",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
}

/// Views cost no memory, so their extents can be anything; what would have to be stored must be refused, not attempted.
#[test]
fn results_beyond_memory_are_refused() {
    let one = zeros(&[1]);
    let (wide, tall) =
        (one.broadcast_to(&[1, 1 << 40]).unwrap(), one.broadcast_to(&[1 << 40, 1]).unwrap());
    let rule = "at most 6 axes that fit in memory";
    let want =
        format!("mul: shapes {:?} and {:?} do not match: {rule}", wide.shape(), tall.shape());
    assert_eq!(text(wide.mul(&tall)), want);
    let want = format!(
        "matmul: shapes {:?} and {:?} do not match: the product must be one that fits in memory",
        tall.shape(),
        wide.shape()
    );
    assert_eq!(text(tall.matmul(&wide)), want);
    let stack = one.broadcast_to(&[1 << 20, 1 << 20, 1]).unwrap();
    assert!(stack.matmul(&wide).is_err());
    let huge = one.broadcast_to(&[1 << 59]).unwrap();
    assert!(Tensor::concat(&[&huge; 64], 0).is_err());
    assert!(Tensor::zeros(&[usize::MAX, 2], DType::F32).is_err());
    // More than the address space of today's processors.
    let want = format!(
        "full: shape {:?} does not fit: there is no memory for so many elements",
        [1usize << 46, 4]
    );
    assert_eq!(text(Tensor::zeros(&[1 << 46, 4], DType::F32)), want);
    assert!(Tensor::from_slice::<f32>(&[], &[usize::MAX, usize::MAX]).is_err());
    assert!(one.reshape(&[1 << 40, 1 << 40]).is_err());
    assert!(broadcast_shape("test", &[1; 7], &[1; 2]).is_err());
    assert!(one.sum_to(&[1; 9]).is_err());
    let pool = Pool2d { kernel: [usize::MAX; 2], stride: [1; 2], padding: [usize::MAX / 2; 2] };
    assert!(zeros(&[1, 1, 4, 4]).max_pool2d(pool).is_err());
}

/// A shape of a rank up to 4 with extents up to 3, now and then a likely one.
fn random_shape(rng: &mut ChaCha8Rng) -> Vec<usize> {
    match rng.random_range(0..4) {
        0 => vec![2, 3, 4, 4],
        1 => vec![3],
        _ => (0..rng.random_range(0..5)).map(|_| rng.random_range(0..4)).collect(),
    }
}

fn random_tensor(rng: &mut ChaCha8Rng) -> Tensor {
    let shape = random_shape(rng);
    let dtype = if rng.random_range(0..4) == 0 { DType::F64 } else { DType::F32 };
    let tensor = common::Array::uniform(rng, &shape, -1.0..1.0).tensor(dtype);
    match rng.random_range(0..4) {
        0 if !shape.is_empty() => tensor.transpose(0, shape.len() - 1).unwrap(),
        1 if !shape.is_empty() => tensor.narrow(0, 0, shape[0] / 2).unwrap(),
        2 => tensor.broadcast_to(&[&[2], &shape[..]].concat()).unwrap(),
        _ => tensor,
    }
}

fn size(rng: &mut ChaCha8Rng) -> usize {
    if rng.random_range(0..8) == 0 { usize::MAX } else { rng.random_range(0..4) }
}

fn pair(rng: &mut ChaCha8Rng) -> [usize; 2] {
    [size(rng), size(rng)]
}

/// Calls everything that can fail once; results that came to be must hold as many elements as their shape says.
fn call_everything(rng: &mut ChaCha8Rng) {
    let [a, b, c, d] = std::array::from_fn(|_| random_tensor(rng));
    let axes: Vec<usize> = (0..rng.random_range(0..4)).map(|_| size(rng)).collect();
    let shape = random_shape(rng);
    let pool = Pool2d { kernel: pair(rng), stride: pair(rng), padding: pair(rng) };
    let [stride, padding, dilation, output_padding] = std::array::from_fn(|_| pair(rng));
    let conv = Conv2dOptions { stride, padding, dilation, groups: size(rng) };
    let transposed = ConvTranspose2dOptions { stride, padding, output_padding, dilation };
    let epilogue = ConvEpilogue {
        bias: Some(&c),
        affine: Some((&c, &d)),
        residual: (size(rng) == 0).then_some(&d),
        relu: true,
    };
    let mut results = vec![
        a.sum(&axes),
        a.mean(&axes),
        a.max(&axes),
        Tensor::max_backward(&a, &b, &axes),
        a.sum_to(&shape),
        a.permute(&axes),
        a.transpose(size(rng), size(rng)),
        a.narrow(size(rng), size(rng), size(rng)),
        a.unsqueeze(size(rng)),
        a.reshape(&axes),
        a.flatten_from(size(rng)),
        a.broadcast_to(&shape),
        Tensor::concat(&[&a, &b, &c], size(rng)),
        a.channels_last(),
        a.matmul(&b),
        a.channel_affine(&b, &c),
        a.batch_norm(&b, &c, 1e-5).map(|n| n.output),
        Tensor::batch_norm_backward(&a, &b, &c, (&c, &d), 1e-5).map(|g| g.input),
        a.channel_sums(),
        a.prelu(&b),
        Tensor::prelu_backward(&a, &c, &b).map(|g| g.0),
        a.softmax(),
        a.log_softmax(),
        Tensor::softmax_backward(&a, &b),
        Tensor::log_softmax_backward(&a, &b),
        a.layer_norm(&b, &c, 1e-5),
        Tensor::layer_norm_backward(&a, &b, &c, 1e-5).map(|g| g.input),
        a.max_pool2d(pool),
        a.avg_pool2d(pool),
        Tensor::max_pool2d_backward(&a, &b, &c, pool),
        Tensor::avg_pool2d_backward(&b, &shape, pool),
        a.conv2d_fused(&b, epilogue, conv),
        a.conv2d(&b, None, conv),
        Tensor::conv2d_input_grad(&a, &b, &shape, conv),
        Tensor::conv2d_weight_grad(&a, &b, &shape, conv),
        a.conv_transpose2d(&b, Some(&c), transposed),
        a.conv_transpose2d(&b, None, transposed),
        Tensor::conv_transpose2d_input_grad(&a, &b, &shape, transposed),
        Tensor::conv_transpose2d_weight_grad(&a, &b, &shape, transposed),
        Tensor::from_slice(&[1.0f32; 3], &axes),
    ];
    results.extend(BinaryOp::ALL.iter().map(|&op| a.binary(op, &b)));
    results.extend(UnaryOp::ALL.iter().map(|&op| Tensor::unary_backward(op, &a, &b)));
    for result in results.into_iter().flatten() {
        // Stretched views can be larger than anything one would store.
        if result.numel() < 1 << 20 {
            assert_eq!(result.to_vec::<f32>().unwrap().len(), result.numel());
        }
    }
    let _ = (a.dot(&b), a.argmax_rows(), a.item(), a.to_channels_last_vec::<f64>());
    assert_eq!(a.unary(UnaryOp::Exp).unwrap().shape(), a.shape());
    assert!(a.sum_all().unwrap().is_finite() && a.all_finite().unwrap());
    let mut own = a.clone();
    let _ = own.update::<f32, 1>([&b], |own, [b]| own.copy_from_slice(b));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_shape_and_no_option_panics(seed: u64) {
        call_everything(&mut rng(seed));
    }
}
