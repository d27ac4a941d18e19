//! The same bits come out on one, two and three threads: work is cut by the size of the problem alone.

mod common;

use common::{Array, bits, rng};
use gpz_tensor::{BinaryOp, Conv2dOptions, DType, Element, Pool2d, Tensor, UnaryOp};

fn blend<T: Element>(own: &mut Tensor, other: &Tensor) {
    own.update::<T, 1>([other], |own, [other]| {
        own.iter_mut().zip(other).for_each(|(a, &b)| *a = *a * T::from_f64(0.9) + b);
    })
    .unwrap();
}

/// Results of everything that runs in parallel, on operands large enough to be cut.
fn results(dtype: DType) -> Vec<(String, Vec<u64>)> {
    let rng = &mut rng(1);
    let x = Array::uniform(rng, &[3, 40, 23, 29], -3.0..3.0);
    let (rows, columns) = (120, 23 * 29);
    let channel = Array::uniform(rng, &[40], 0.5..2.0).tensor(dtype);
    let column = Array::uniform(rng, &[columns], 0.5..2.0).tensor(dtype);
    let weight = Array::uniform(rng, &[17, 40, 3, 3], -0.1..0.1).tensor(dtype);
    let mut results: Vec<(String, Vec<u64>)> = Vec::new();
    for (layout, x) in x.layouts(dtype).into_iter().take(3) {
        let mut add = |name: &str, tensor: &Tensor| {
            results.push((format!("{name} {dtype} {layout}"), bits(tensor)));
        };
        for &op in UnaryOp::ALL {
            add(op.name(), &x.unary(op).unwrap());
            add(op.name(), &Tensor::unary_backward(op, &x, &x).unwrap());
        }
        let swapped = x.transpose(2, 3).unwrap().row_major().unwrap().transpose(2, 3).unwrap();
        for &op in BinaryOp::ALL {
            add(op.name(), &x.binary(op, &swapped).unwrap());
            add(op.name(), &x.binary(op, &channel.reshape(&[40, 1, 1]).unwrap()).unwrap());
        }
        for axes in common::axis_subsets(4) {
            add(&format!("sum over {axes:?}"), &x.sum(&axes).unwrap());
            add(&format!("max over {axes:?}"), &x.max(&axes).unwrap());
        }
        add("sum of all", &Tensor::scalar(x.sum_all().unwrap(), DType::F64));
        add("dot", &Tensor::scalar(x.dot(&swapped).unwrap(), DType::F64));
        add("affine", &x.affine(1.1, 0.3).unwrap());
        let mut moved = x.clone();
        match dtype {
            DType::F32 => blend::<f32>(&mut moved, &swapped),
            DType::F64 => blend::<f64>(&mut moved, &swapped),
        }
        add("update", &moved);
        let norm = x.batch_norm(&channel, &channel, 1e-5).unwrap();
        [&norm.output, &norm.mean, &norm.variance].into_iter().for_each(|t| add("batch norm", t));
        let statistics = (&norm.mean, &norm.variance);
        let g = Tensor::batch_norm_backward(&x, &norm.output, &channel, statistics, 1e-5).unwrap();
        [&g.input, &g.scale, &g.shift].into_iter().for_each(|t| add("batch norm backward", t));
        add("channel sums", &x.channel_sums().unwrap());
        add("channel affine", &x.channel_affine(&channel, &channel).unwrap());
        add("prelu", &x.prelu(&channel).unwrap());
        let (dx, ds) = Tensor::prelu_backward(&x, &channel, &swapped).unwrap();
        [&dx, &ds].into_iter().for_each(|t| add("prelu backward", t));
        let matrix = x.reshape(&[rows, columns]).unwrap();
        let soft = matrix.softmax().unwrap();
        add("softmax", &soft);
        add("softmax backward", &Tensor::softmax_backward(&soft, &matrix).unwrap());
        let log = matrix.log_softmax().unwrap();
        add("log-softmax", &log);
        add("log-softmax backward", &Tensor::log_softmax_backward(&log, &matrix).unwrap());
        add("layer norm", &matrix.layer_norm(&column, &column, 1e-5).unwrap());
        let g = Tensor::layer_norm_backward(&matrix, &soft, &column, 1e-5).unwrap();
        [&g.input, &g.scale, &g.shift].into_iter().for_each(|t| add("layer norm backward", t));
        let window = Pool2d { kernel: [3; 2], stride: [2; 2], padding: [1; 2] };
        let y = x.max_pool2d(window).unwrap();
        add("max pool", &y);
        add("max pool backward", &Tensor::max_pool2d_backward(&x, &y, &y, window).unwrap());
        add("average pool", &x.avg_pool2d(window).unwrap());
        add("average pool backward", &Tensor::avg_pool2d_backward(&y, x.shape(), window).unwrap());
        add("matrix product", &matrix.matmul(&matrix.transpose(0, 1).unwrap()).unwrap());
        add("linear", &matrix.linear(&matrix, Some(&column.narrow(0, 0, rows).unwrap())).unwrap());
        add("linear weight gradient", &Tensor::linear_weight_grad(&matrix, &soft).unwrap());
        let forward = x.attention(&x, &x).unwrap();
        add("attention", &forward.output);
        let g = Tensor::attention_backward([&x, &x, &x], &forward, &x).unwrap();
        g.iter().for_each(|t| add("attention backward", t));
        let packed = x.reshape(&[2, columns, 60]).unwrap();
        let forward = packed.self_attention(2).unwrap();
        add("attention of a projection", &forward.output);
        let g = &forward.output;
        let g = Tensor::self_attention_backward(&packed, 2, &forward, g).unwrap();
        add("attention of a projection, backward", &g);
        let options = Conv2dOptions::square(1, 1);
        let y = x.conv2d(&weight, None, options).unwrap();
        add("convolution", &y);
        add("input gradient", &Tensor::conv2d_input_grad(&y, &weight, x.shape(), options).unwrap());
        let dw = Tensor::conv2d_weight_grad(&x, &y, weight.shape(), options).unwrap();
        add("weight gradient", &dw);
    }
    let mask = Tensor::dropout_mask(&[100_000], 0.3, 5, dtype).unwrap();
    results.push(("dropout".to_owned(), bits(&mask)));
    results
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for dtype in [DType::F32, DType::F64] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| results(dtype))
        };
        let (one, two, three) = (on(1), on(2), on(3));
        for ((one, two), three) in one.iter().zip(&two).zip(&three) {
            assert!(one.1 == two.1, "{}: other bits on two threads", one.0);
            assert!(one.1 == three.1, "{}: other bits on three threads", one.0);
        }
    }
}
