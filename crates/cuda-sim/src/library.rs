//! What NVIDIA's libraries compute, on the processor: sums in f64, rounded once.

use gpz_tensor::cuda::driver::{Convolution, ConvolutionPass, Matrix, Outcome, Product};

use crate::State;

/// Elements from a matrix's first to one past its last.
fn span(matrix: &Matrix, batch: usize, [rows, columns]: [usize; 2]) -> usize {
    (batch - 1) * matrix.batch + (rows - 1) * matrix.row + (columns - 1) * matrix.column + 1
}

pub(super) fn multiply(state: &mut State, product: &Product) -> Outcome {
    let (batch, [m, k, n]) = (product.batch, product.size);
    let a = state.floats(product.a.address, span(&product.a, batch, [m, k]))?;
    let b = state.floats(product.b.address, span(&product.b, batch, [k, n]))?;
    let at = |matrix: &Matrix, values: &[f32], number: usize, row: usize, column: usize| {
        f64::from(values[number * matrix.batch + row * matrix.row + column * matrix.column])
    };
    let mut c = Vec::with_capacity(batch * m * n);
    for number in 0..batch {
        for row in 0..m {
            for column in 0..n {
                let terms = (0..k).map(|i| {
                    at(&product.a, &a, number, row, i) * at(&product.b, &b, number, i, column)
                });
                c.push(terms.sum::<f64>() as f32);
            }
        }
    }
    state.store(product.c, &c)
}

pub(super) fn convolve(state: &mut State, conv: &Convolution) -> Outcome {
    let [fine_h, fine_w] = conv.fine;
    let [coarse_h, coarse_w] = conv.coarse;
    let [kernel_h, kernel_w] = conv.kernel;
    let (fine_c, coarse_c) = (conv.fine_channels, conv.coarse_channels);
    let (fine_run, coarse_run) = (fine_c / conv.groups, coarse_c / conv.groups);
    let sizes = [
        conv.batch * fine_h * fine_w * fine_c,
        conv.batch * coarse_h * coarse_w * coarse_c,
        coarse_c * kernel_h * kernel_w * fine_run,
    ];
    let addresses = [conv.fine_address, conv.coarse_address, conv.weight_address];
    let result = match conv.pass {
        ConvolutionPass::Fine => 0,
        ConvolutionPass::Coarse => 1,
        ConvolutionPass::Weight => 2,
    };
    let mut arrays = [const { Vec::new() }; 3];
    for i in 0..3 {
        arrays[i] = if i == result {
            vec![0.0; sizes[i]]
        } else {
            state.floats(addresses[i], sizes[i])?.into_iter().map(f64::from).collect()
        };
    }
    let [fine, coarse, weight] = &mut arrays;
    // A kernel position connects a coarse pixel with one fine pixel, or with the padding.
    let reach = |coarse: usize, tap: usize, axis: usize| {
        let at = coarse * conv.stride[axis] + tap * conv.dilation[axis];
        at.checked_sub(conv.padding[axis]).filter(|&at| at < conv.fine[axis])
    };
    for picture in 0..conv.batch {
        for (row, column) in (0..coarse_h).flat_map(|h| (0..coarse_w).map(move |w| (h, w))) {
            for (tap_h, tap_w) in (0..kernel_h).flat_map(|h| (0..kernel_w).map(move |w| (h, w))) {
                let (Some(h), Some(w)) = (reach(row, tap_h, 0), reach(column, tap_w, 1)) else {
                    continue;
                };
                let fine_at = ((picture * fine_h + h) * fine_w + w) * fine_c;
                let coarse_at = ((picture * coarse_h + row) * coarse_w + column) * coarse_c;
                for out in 0..coarse_c {
                    let weight_at = ((out * kernel_h + tap_h) * kernel_w + tap_w) * fine_run;
                    let fine_at = fine_at + out / coarse_run * fine_run;
                    for inner in 0..fine_run {
                        let f = fine_at + inner;
                        let (c, w) = (coarse_at + out, weight_at + inner);
                        match conv.pass {
                            ConvolutionPass::Fine => fine[f] += coarse[c] * weight[w],
                            ConvolutionPass::Coarse => coarse[c] += fine[f] * weight[w],
                            ConvolutionPass::Weight => weight[w] += fine[f] * coarse[c],
                        }
                    }
                }
            }
        }
    }
    let values: Vec<f32> = arrays[result].iter().map(|&value| value as f32).collect();
    state.store(addresses[result], &values)
}
