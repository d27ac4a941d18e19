//! Matrix products on the register tile of the convolutions.

use rayon::prelude::*;

use crate::Element;
use crate::buffer::Buffer;
use crate::cpu::conv::Epilogue;
use crate::cpu::conv::packed::{Blocks, Strided, pack};
use crate::cpu::conv::sum::{Grid, Source, Sum};
use crate::simd::{Isa, vectorised};

/// A matrix, or several of one shape, in memory: element `(i, j)` of the `k`-th stands at `k · batch + i · row + j · column`.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a, T> {
    /// The memory, beginning with element (0, 0).
    pub data: &'a [T],
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
    /// From one matrix to the next; 0 where all are the same one.
    pub batch: usize,
}

impl<'a, T> Operand<'a, T> {
    /// The `i`-th matrix.
    fn matrix(&self, i: usize) -> Self {
        Operand { data: &self.data[(i * self.batch).min(self.data.len())..], ..*self }
    }
}

/// Multiply-adds below which a batch stays on the caller's thread.
const SERIAL: usize = 1 << 17;
/// Rows that are transposed together.
const FEW: usize = 16;

/// `c = a · b`, or `c += a · b`, for each of `batch` pairs of matrices.
///
/// - `[m, k, n]`: rows of `a`; columns of `a`, which are rows of `b`; columns of `b`
/// - `bias`: `[n]`, added to each row after the sum
/// - `accumulate`: begin the sum with what `c` holds; otherwise that is never read
/// - `c`: `[batch, m, n]`, row-major; every element is written
///
/// # Panics
/// If an element lies outside its slice, or `c` has another length.
pub fn matmul<T: Element>(
    batch: usize,
    shape: [usize; 3],
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    bias: Option<&[T]>,
    accumulate: bool,
    c: &mut [T],
) {
    let [m, k, n] = shape;
    assert_eq!(c.len(), batch * m * n, "the product has batch · m · n elements");
    if c.is_empty() {
        return;
    }
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    let isa = Isa::current();
    let blocks = Blocks::new::<T>(isa, n);
    let packed = |b: &Operand<'_, T>| {
        let mut panels = Buffer::unfilled(blocks.padded() * k);
        let b = Strided { data: b.data, out_stride: b.column, in_stride: b.row };
        pack(b, &[0], k, blocks, panels.as_mut_slice());
        panels
    };
    let shared = (b.batch == 0 && batch > 1).then(|| packed(&b));
    let product = |(i, c): (usize, &mut [T])| {
        let own;
        let weights = match &shared {
            Some(panels) => panels.as_slice(),
            None => {
                own = packed(&b.matrix(i));
                own.as_slice()
            }
        };
        let a = a.matrix(i);
        let rows;
        let source = if k == 0 {
            Source { data: &[][..], extent: [m, 1], pitch: 0 }
        } else if a.column == 1 || k == 1 {
            Source { data: a.data, extent: [m, 1], pitch: a.row }
        } else {
            rows = row_major(a, m, k);
            Source { data: rows.as_slice(), extent: [m, 1], pitch: k }
        };
        // A product is a convolution of a picture of m pixels with k channels by a kernel of one position.
        let sum = Sum {
            images: 1,
            source,
            step: [1, 1],
            out: [m, 1],
            out_step: [1, 1],
            grids: vec![Grid { first: [0, 0], taps: vec![[0, 0]], run: k, weights: 0 }],
            blocks,
            weights,
            epilogue: &epilogue,
            accumulate,
            lone_pixels: false,
            output: c,
        };
        T::dispatch(isa, sum);
    };
    if batch * m * k * n < SERIAL {
        c.chunks_mut(m * n).enumerate().for_each(product);
    } else {
        c.par_chunks_mut(m * n).enumerate().for_each(product);
    }
}

/// A dense copy with adjacent columns, made block by block so that each line of the source is read once.
fn row_major<T: Element>(a: Operand<'_, T>, m: usize, k: usize) -> Buffer<T> {
    let mut copy = Buffer::unfilled(m * k);
    copy.as_mut_slice().par_chunks_mut(FEW * k).with_min_len(4).enumerate().for_each(
        |(strip, to)| {
            let from = &a.data[strip * FEW * a.row..];
            vectorised(
                #[inline(always)]
                || {
                    let rows = to.len() / k;
                    for start in (0..k).step_by(FEW) {
                        let columns = FEW.min(k - start);
                        let mut block = [[T::ZERO; FEW]; FEW];
                        for (j, column) in block[..columns].iter_mut().enumerate() {
                            let from = &from[(start + j) * a.column..];
                            if a.row == 1 && rows == FEW {
                                column.copy_from_slice(&from[..FEW]);
                            } else {
                                for (r, value) in column[..rows].iter_mut().enumerate() {
                                    *value = from[r * a.row];
                                }
                            }
                        }
                        for (r, row) in to.chunks_exact_mut(k).enumerate() {
                            for (value, column) in
                                row[start..start + columns].iter_mut().zip(&block)
                            {
                                *value = column[r];
                            }
                        }
                    }
                },
            );
        },
    );
    copy
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::simd::with_isa;

    fn random<T: Element>(rng: &mut ChaCha8Rng, len: usize) -> Vec<T> {
        (0..len).map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect()
    }

    /// Strides of a matrix: adjacent columns, adjacent rows, or neither.
    fn operand<T>(data: &[T], [rows, columns]: [usize; 2], layout: usize) -> Operand<'_, T> {
        match layout {
            0 => Operand { data, row: columns, column: 1, batch: rows * columns },
            1 => Operand { data, row: 1, column: rows, batch: rows * columns },
            _ => Operand { data, row: 2 * columns, column: 2, batch: 2 * rows * columns },
        }
    }

    /// A product with each option against f64 sums of its terms.
    fn check<T: Element>(
        batch: usize,
        [m, k, n]: [usize; 3],
        layouts: [usize; 2],
        options: [bool; 3],
        seed: u64,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let a_data: Vec<T> = random(&mut rng, 2 * batch * m * k);
        let b_data: Vec<T> = random(&mut rng, 2 * batch * k * n);
        let bias: Vec<T> = random(&mut rng, n);
        let [with_bias, accumulate, shared] = options;
        let a = operand(&a_data, [m, k], layouts[0]);
        let mut b = operand(&b_data, [k, n], layouts[1]);
        if shared {
            b.batch = 0;
        }
        let poison = T::from_f64(f64::NAN);
        let before: Vec<T> =
            if accumulate { random(&mut rng, batch * m * n) } else { vec![poison; batch * m * n] };
        let mut c = before.clone();
        matmul(batch, [m, k, n], a, b, with_bias.then_some(&bias[..]), accumulate, &mut c);
        let epsilon =
            if T::DTYPE == crate::DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
        for i in 0..batch {
            for r in 0..m {
                for col in 0..n {
                    let at = (i * m + r) * n + col;
                    let mut terms: Vec<f64> = (0..k)
                        .map(|j| {
                            a.data[i * a.batch + r * a.row + j * a.column].to_f64()
                                * b.data[i * b.batch + j * b.row + col * b.column].to_f64()
                        })
                        .collect();
                    terms.extend(with_bias.then(|| bias[col].to_f64()));
                    terms.extend(accumulate.then(|| before[at].to_f64()));
                    let want: f64 = terms.iter().sum();
                    let size: f64 = terms.iter().map(|t| t.abs()).sum();
                    let error = (c[at].to_f64() - want).abs();
                    assert!(
                        error <= 4.0 * epsilon * size,
                        "element {at} of {m}x{k}x{n}: {} instead of {want}",
                        c[at]
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn products_match_their_definition(
            batch in 0usize..4,
            m in prop::sample::select(vec![0usize, 1, 2, 5, 6, 7, 13, 64, 97]),
            k in prop::sample::select(vec![0usize, 1, 2, 3, 16, 17, 65]),
            n in prop::sample::select(vec![0usize, 1, 3, 8, 15, 16, 17, 48, 64, 65, 100]),
            layouts in [0usize..3, 0..3],
            options: [bool; 3],
            seed: u64,
        ) {
            for isa in Isa::ALL {
                let _ran = with_isa(isa, || {
                    check::<f32>(batch, [m, k, n], layouts, options, seed);
                    check::<f64>(batch, [m, k, n], layouts, options, seed);
                });
            }
        }
    }

    /// Sums longer than one slice of the depth, and more rows than one task has.
    #[test]
    fn deep_and_tall_products_match_their_definition() {
        for layouts in [[0, 0], [1, 1]] {
            check::<f32>(1, [9, 4000, 70], layouts, [true, false, false], 1);
            check::<f32>(1, [1100, 20, 66], layouts, [false, true, false], 2);
        }
    }

    #[test]
    fn an_empty_sum_is_zero_or_the_bias() {
        let none = Operand { data: &[], row: 0, column: 1, batch: 0 };
        let mut c = [f32::NAN; 6];
        matmul(1, [3, 0, 2], none, none, None, false, &mut c);
        assert_eq!(c, [0.0; 6]);
        matmul(1, [3, 0, 2], none, none, Some(&[1.0, 2.0]), false, &mut c);
        assert_eq!(c, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    }
}
