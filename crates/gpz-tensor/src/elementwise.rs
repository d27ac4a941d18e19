//! Elementwise operations: one row of a table each.
//!
//! A row holds the name, the function, and its gradient written in terms of the result's gradient `dy` and of the input or the output,
//! whichever is cheaper to keep.
//! The CPU loop, the gradient rule and its finite-difference test derive from the row.

use crate::buffer::Buffer;
use crate::cpu::map;
use crate::cuda;
use crate::error::Result;
use crate::shape::broadcast_shape;
use crate::tensor::dispatch;
use crate::{Element, Tensor};

/// What a unary operation's derivative is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saves {
    /// The input.
    Input,
    /// The output.
    Output,
}

macro_rules! unary_table {
    ($($(#[$doc:meta])* $variant:ident $name:literal |$x:ident| $f:expr, $saves:ident |$s:ident, $dy:ident| $dx:expr;)*) => {
        /// An elementwise function of one operand.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum UnaryOp {
            $($(#[$doc])* $variant,)*
        }

        impl UnaryOp {
            /// Every operation of the table.
            pub const ALL: &[UnaryOp] = &[$(UnaryOp::$variant,)*];

            /// Name in messages, and entry name of the operation's kernels.
            pub const fn name(self) -> &'static str {
                match self {
                    $(UnaryOp::$variant => $name,)*
                }
            }

            /// What the derivative is computed from.
            pub const fn saves(self) -> Saves {
                match self {
                    $(UnaryOp::$variant => Saves::$saves,)*
                }
            }

            fn forward<T: Element>(self, out: &mut [T], x: &[T]) {
                match self {
                    $(UnaryOp::$variant => map::map1(out, x, #[inline(always)] |$x: T| $f),)*
                }
            }

            fn backward<T: Element>(self, out: &mut [T], saved: &[T], dy: &[T]) {
                match self {
                    $(UnaryOp::$variant => map::map3(
                        out,
                        [saved, dy, dy],
                        #[inline(always)] |$s: T, $dy: T, _| $dx,
                    ),)*
                }
            }
        }
    };
}

#[inline(always)]
fn constant<T: Element>(value: f64) -> T {
    T::from_f64(value)
}

/// `max(x, 0)` as the fused epilogues compute it: NaN stays NaN, -0 stays -0.
#[inline(always)]
pub(crate) fn relu<T: Element>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

#[inline(always)]
fn sigmoid<T: Element>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// Derivative of `x · Φ(x)`.
#[inline(always)]
fn gelu_slope<T: Element>(x: T) -> T {
    let (function, density) = x.normal();
    function + x * density
}

#[inline(always)]
fn sign<T: Element>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        x
    }
}

unary_table! {
    /// `-x`
    Neg "neg" |x| -x, Output |_y, dy| -dy;
    /// `|x|`; derivative 0 at 0
    Abs "abs" |x| x.abs(), Input |x, dy| dy * sign(x);
    /// `x²`
    Square "square" |x| x * x, Input |x, dy| dy * (x + x);
    /// `√x`
    Sqrt "sqrt" |x| x.sqrt(), Output |y, dy| dy * (constant::<T>(0.5) / y);
    /// `1/x`
    Recip "recip" |x| T::ONE / x, Output |y, dy| dy * -(y * y);
    /// `eˣ`
    Exp "exp" |x| x.exp(), Output |y, dy| dy * y;
    /// natural logarithm
    Ln "ln" |x| x.ln(), Input |x, dy| dy * (T::ONE / x);
    /// `max(x, 0)`; gradient 0 at 0, even of an infinite `dy`
    Relu "relu" |x| relu(x), Output |y, dy| if y <= T::ZERO { T::ZERO } else { dy };
    /// hyperbolic tangent
    Tanh "tanh" |x| x.tanh(), Output |y, dy| dy * (T::ONE - y * y);
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid "sigmoid" |x| sigmoid(x), Output |y, dy| dy * (y * (T::ONE - y));
    /// `x · Φ(x)` with the exact normal distribution function
    Gelu "gelu" |x| x * x.normal().0, Input |x, dy| dy * gelu_slope(x);
}

/// An elementwise function of two operands that broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `x + y`
    Add,
    /// `x - y`
    Sub,
    /// `x · y`
    Mul,
    /// `x / y`
    Div,
}

impl BinaryOp {
    /// Every operation.
    pub const ALL: &[BinaryOp] = &[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div];

    /// Name in messages, and entry name of the operation's kernels.
    pub const fn name(self) -> &'static str {
        match self {
            BinaryOp::Add => "add",
            BinaryOp::Sub => "sub",
            BinaryOp::Mul => "mul",
            BinaryOp::Div => "div",
        }
    }
}

impl Tensor {
    /// Applies an elementwise function.
    ///
    /// # Errors
    /// None on the processor; what a CUDA device fails with.
    pub fn unary(&self, op: UnaryOp) -> Result<Tensor> {
        let x = self.densely()?;
        if x.on_cuda().is_some() {
            return cuda::unary(op, &x);
        }
        Ok(dispatch!(self.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(x.numel());
            op.forward(out.as_mut_slice(), &x.data::<T>()[..x.numel()]);
            Tensor::from_buffer(out, x.dims(), x.strides())
        }))
    }

    /// Gradient of an elementwise function: `dy` times the derivative at `saved`, which is the input or the output as
    /// [`UnaryOp::saves`] says.
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn unary_backward(op: UnaryOp, saved: &Tensor, dy: &Tensor) -> Result<Tensor> {
        saved.check_same(op.name(), dy)?;
        let saved = saved.densely()?;
        let dy = dy.laid_out_like(&saved)?;
        if saved.on_cuda().is_some() {
            return cuda::unary_backward(op, &saved, &dy);
        }
        dispatch!(saved.dtype(), T => {
            let n = saved.numel();
            let mut out = Buffer::<T>::unfilled(n);
            op.backward(out.as_mut_slice(), &saved.data::<T>()[..n], &dy.data::<T>()[..n]);
            Ok(Tensor::from_buffer(out, saved.dims(), saved.strides()))
        })
    }

    /// Applies an elementwise function of two operands; they broadcast, aligned at the right.
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`] names both shapes; dtypes must be equal.
    pub fn binary(&self, op: BinaryOp, other: &Tensor) -> Result<Tensor> {
        self.check_dtype(op.name(), other)?;
        let shape = broadcast_shape(op.name(), self.shape(), other.shape())?;
        // The result lies as the operand of full size does.
        let strides = [self, other]
            .into_iter()
            .find(|t| t.dims() == shape && t.is_dense())
            .map_or_else(|| shape.row_major(), Tensor::strides);
        let (xs, ys) = (self.stretched_strides(&shape), other.stretched_strides(&shape));
        if self.on_cuda().is_some() {
            return cuda::binary(op, (shape, strides), (self, xs), (other, ys));
        }
        dispatch!(self.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(shape.numel());
            let (o, x, y) = ((out.as_mut_slice(), &strides), (self.data::<T>(), &xs), (other.data::<T>(), &ys));
            match op {
                BinaryOp::Add => map::map2(&shape, o, x, y, #[inline(always)] |a, b| a + b),
                BinaryOp::Sub => map::map2(&shape, o, x, y, #[inline(always)] |a, b| a - b),
                BinaryOp::Mul => map::map2(&shape, o, x, y, #[inline(always)] |a, b| a * b),
                BinaryOp::Div => map::map2(&shape, o, x, y, #[inline(always)] |a, b| a / b),
            }
            Ok(Tensor::from_buffer(out, shape, strides))
        })
    }

    /// `self + other`, broadcasting.
    ///
    /// # Errors
    /// As [`Tensor::binary`].
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(BinaryOp::Add, other)
    }

    /// `self - other`, broadcasting.
    ///
    /// # Errors
    /// As [`Tensor::binary`].
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(BinaryOp::Sub, other)
    }

    /// `self · other`, elementwise, broadcasting.
    ///
    /// # Errors
    /// As [`Tensor::binary`].
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(BinaryOp::Mul, other)
    }

    /// `self / other`, elementwise, broadcasting.
    ///
    /// # Errors
    /// As [`Tensor::binary`].
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(BinaryOp::Div, other)
    }

    /// `self · scale + shift`, the product rounded before the sum.
    ///
    /// # Errors
    /// None on the processor; what a CUDA device fails with.
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        let x = self.densely()?;
        if x.on_cuda().is_some() {
            return cuda::affine(&x, scale as f32, shift as f32);
        }
        Ok(dispatch!(self.dtype(), T => {
            let (scale, shift) = (T::from_f64(scale), T::from_f64(shift));
            let mut out = Buffer::<T>::unfilled(x.numel());
            map::map1(out.as_mut_slice(), &x.data::<T>()[..x.numel()], #[inline(always)] |v| v * scale + shift);
            Tensor::from_buffer(out, x.dims(), x.strides())
        }))
    }

    /// `self · factor · by`, `by` being a single number on the same device; nobody waits for it there.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] unless `by` has one element; dtypes and devices must be equal.
    pub fn scaled_by(&self, by: &Tensor, factor: f64) -> Result<Tensor> {
        self.check_dtype("scaled_by", by)?;
        if by.numel() != 1 {
            let rule = "exactly one element is needed";
            return Err(crate::Error::shape("scaled_by", by.shape(), rule));
        }
        if self.on_cuda().is_some() {
            return self.affine(factor, 0.0)?.mul(&by.reshape(&[])?);
        }
        self.affine(factor * by.item()?, 0.0)
    }

    /// This tensor in the memory layout of another of the same shape.
    pub(crate) fn laid_out_like(&self, other: &Tensor) -> Result<Tensor> {
        self.in_strides(other.strides())
    }
}
