//! Elementwise functions and their gradients, copies between layouts, masks.

use crate::{Kernel, kernel};

/// Kernels that give four adjacent elements to a thread.
macro_rules! flat {
    ($($entry:literal),*) => { [$(kernel!($entry, [256, 1, 1], 1024)),*] };
}

/// Kernels that give one element to a thread.
macro_rules! single {
    ($($entry:literal),*) => { [$(kernel!($entry, [256, 1, 1], 256)),*] };
}

const UNARY: [Kernel; 11] = flat![
    "neg_f32",
    "abs_f32",
    "square_f32",
    "sqrt_f32",
    "recip_f32",
    "exp_f32",
    "ln_f32",
    "relu_f32",
    "tanh_f32",
    "sigmoid_f32",
    "gelu_f32"
];
const UNARY_BACKWARD: [Kernel; 11] = flat![
    "neg_backward_f32",
    "abs_backward_f32",
    "square_backward_f32",
    "sqrt_backward_f32",
    "recip_backward_f32",
    "exp_backward_f32",
    "ln_backward_f32",
    "relu_backward_f32",
    "tanh_backward_f32",
    "sigmoid_backward_f32",
    "gelu_backward_f32"
];
const BINARY: [Kernel; 4] = flat!["add_f32", "sub_f32", "mul_f32", "div_f32"];
const BINARY_STRIDED: [Kernel; 4] =
    single!["add_strided_f32", "sub_strided_f32", "mul_strided_f32", "div_strided_f32"];

/// [`affine`](crate::reference::affine).
pub const AFFINE_F32: Kernel = kernel!("affine_f32", [256, 1, 1], 1024);
/// [`copy_strided`](crate::reference::copy_strided).
pub const COPY_STRIDED_F32: Kernel = kernel!("copy_strided_f32", [256, 1, 1], 256);
/// [`transpose`](crate::reference::transpose).
pub const TRANSPOSE_F32: Kernel = kernel!("transpose_f32", [32, 8, 1], 32);
/// [`fill`](crate::reference::fill).
pub const FILL_F32: Kernel = kernel!("fill_f32", [256, 1, 1], 1024);
/// [`dropout_mask`](crate::reference::dropout_mask).
pub const DROPOUT_MASK_F32: Kernel = kernel!("dropout_mask_f32", [256, 1, 1], 1024);

const OTHERS: [Kernel; 5] =
    [AFFINE_F32, COPY_STRIDED_F32, TRANSPOSE_F32, FILL_F32, DROPOUT_MASK_F32];

/// Every kernel of the family.
pub const ALL: &[Kernel] =
    &joined::<35>(&[&UNARY, &UNARY_BACKWARD, &BINARY, &BINARY_STRIDED, &OTHERS]);

const fn joined<const N: usize>(lists: &[&[Kernel]]) -> [Kernel; N] {
    let mut all = [AFFINE_F32; N];
    let (mut list, mut within, mut at) = (0, 0, 0);
    while list < lists.len() {
        if within < lists[list].len() {
            all[at] = lists[list][within];
            (within, at) = (within + 1, at + 1);
        } else {
            (list, within) = (list + 1, 0);
        }
    }
    assert!(at == N, "the number of kernels is another");
    all
}

/// The kernel of a function of one operand by the function's name, such as `relu`: [`unary`](crate::reference::unary).
#[must_use]
pub fn unary(op_name: &str) -> Option<Kernel> {
    named(&UNARY, op_name, "_f32")
}

/// The kernel of a function's gradient by the function's name: [`unary_backward`](crate::reference::unary_backward).
#[must_use]
pub fn unary_backward(op_name: &str) -> Option<Kernel> {
    named(&UNARY_BACKWARD, op_name, "_backward_f32")
}

/// The kernel of a function of two operands of one layout by its name, such as `add`: [`binary`](crate::reference::binary).
#[must_use]
pub fn binary(op_name: &str) -> Option<Kernel> {
    named(&BINARY, op_name, "_f32")
}

/// The kernel of a function of two operands that broadcast, by its name: [`binary_strided`](crate::reference::binary_strided).
#[must_use]
pub fn binary_strided(op_name: &str) -> Option<Kernel> {
    named(&BINARY_STRIDED, op_name, "_strided_f32")
}

fn named(list: &[Kernel], op_name: &str, suffix: &str) -> Option<Kernel> {
    list.iter().find(|kernel| kernel.entry.strip_suffix(suffix) == Some(op_name)).copied()
}
