//! What a tape keeps. Alone in its process, because memory in use is counted for all of it.

use gpz_nn::{Entry, Result, Tape, Var};
use gpz_tensor::{Conv2dOptions, ConvTranspose2dOptions, DType, Tensor, bytes_in_use};

const SHAPE: [usize; 4] = [4, 16, 32, 32];
/// Bytes of a tensor of this shape in f32: a size that is handed out as it is.
const FEATURE: usize = 4 * 4 * 16 * 32 * 32;

/// Bytes that a tape keeps of an activation's output for `f`, an operation on it and a weight.
fn kept(
    activation: impl Fn(&Var, &Var) -> Result<Var>,
    weight: &[usize],
    f: impl Fn(&Var, &Var) -> Result<Var>,
) -> usize {
    let parameter =
        |shape: &[usize]| Entry::parameter(Tensor::full(shape, 0.5, DType::F32).unwrap());
    let (input, slope, weight) = (parameter(&SHAPE), parameter(&[16]), parameter(weight));
    let tape = Tape::train(0);
    let [x, slope, weight] = [&input, &slope, &weight].map(|entry| tape.parameter(entry));
    let before = bytes_in_use();
    let y = activation(&x, &slope).unwrap();
    assert_eq!(bytes_in_use() - before, FEATURE);
    let z = f(&y, &weight).unwrap();
    drop(y);
    bytes_in_use() - before - 4 * z.value().numel()
}

#[test]
fn an_output_that_is_computed_again_is_not_kept() {
    let prelu = |x: &Var, slope: &Var| x.prelu(slope);
    let tanh = |x: &Var, _: &Var| x.tanh();
    let square = Conv2dOptions::square(1, 1);
    let back = ConvTranspose2dOptions::square(1, 1);
    assert_eq!(kept(prelu, &[16, 16, 3, 3], |y, w| y.conv2d(w, None, square)), 0);
    assert_eq!(kept(prelu, &[16, 16, 3, 3], |y, w| y.conv_transpose2d(w, None, back)), 0);
    assert_eq!(kept(prelu, &[32, 32], |y, w| y.linear(w, None)), 0);
    // This one is not computed again.
    assert_eq!(kept(tanh, &[16, 16, 3, 3], |y, w| y.conv2d(w, None, square)), FEATURE);
}
