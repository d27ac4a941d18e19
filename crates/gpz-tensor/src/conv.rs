//! Convolution and transposed convolution of pictures, and their gradients.

use crate::buffer::Buffer;
use crate::cpu::conv::{self, Epilogue, Geometry, Window};
use crate::cuda;
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::tensor::dispatch;
use crate::{Element, Tensor};

/// Stride, padding, dilation and groups of a convolution, height before width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows and columns of zeros added at each side.
    pub padding: [usize; 2],
    /// Distance between the kernel's taps.
    pub dilation: [usize; 2],
    /// Equal runs into which the channels of both sides are cut; each run of the result sees its own run of the input alone. As many
    /// as there are channels make a depthwise convolution.
    pub groups: usize,
}

impl Conv2dOptions {
    /// The same stride and padding in both directions, no dilation, one group.
    pub fn square(stride: usize, padding: usize) -> Self {
        Conv2dOptions { stride: [stride; 2], padding: [padding; 2], dilation: [1; 2], groups: 1 }
    }

    /// The same with so many groups.
    #[must_use]
    pub fn grouped(self, groups: usize) -> Self {
        Conv2dOptions { groups, ..self }
    }
}

/// Stride, padding, output padding and dilation of a transposed convolution, height before width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose2dOptions {
    /// Steps between windows of the result.
    pub stride: [usize; 2],
    /// Rows and columns taken off the result at each side.
    pub padding: [usize; 2],
    /// Rows and columns added at the result's end.
    pub output_padding: [usize; 2],
    /// Distance between the kernel's taps.
    pub dilation: [usize; 2],
}

impl ConvTranspose2dOptions {
    /// The same stride and padding in both directions, no output padding, no dilation.
    pub fn square(stride: usize, padding: usize) -> Self {
        ConvTranspose2dOptions {
            stride: [stride; 2],
            padding: [padding; 2],
            output_padding: [0; 2],
            dilation: [1; 2],
        }
    }
}

/// What is done to each element of a convolution's result before it is stored, in this order. Bit-identical to the operations it
/// stands for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvEpilogue<'a> {
    /// Added per channel, `[co]`.
    pub bias: Option<&'a Tensor>,
    /// Scale and shift per channel, `[co]` each, as [`Tensor::channel_affine`] applies them: a batch normalisation in evaluation.
    pub affine: Option<(&'a Tensor, &'a Tensor)>,
    /// Added element by element, of the result's shape.
    pub residual: Option<&'a Tensor>,
    /// Whether negative elements become 0.
    pub relu: bool,
}

impl Tensor {
    /// Convolution (cross-correlation, as networks mean it).
    ///
    /// - `self`: `[n, ci, h, w]`; `weight`: `[co, ci / groups, kh, kw]`; `bias`: `[co]`
    /// - result: `[n, co, h', w']` with `h' = (h + 2·padding − dilation·(kh − 1) − 1) / stride + 1`
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit; groups that do not divide both sides' channels.
    pub fn conv2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: Conv2dOptions,
    ) -> Result<Tensor> {
        self.conv2d_fused(weight, ConvEpilogue { bias, ..ConvEpilogue::default() }, options)
    }

    /// Convolution with what follows it done before the result is stored.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn conv2d_fused(
        &self,
        weight: &Tensor,
        epilogue: ConvEpilogue<'_>,
        options: Conv2dOptions,
    ) -> Result<Tensor> {
        let geometry = conv_geometry("conv2d", self.shape(), weight.shape(), options)?;
        self.check_dtype("conv2d", weight)?;
        self.forward("conv2d", &geometry, weight, epilogue, weight.shape()[0])
    }

    /// Gradient of [`Tensor::conv2d`] with respect to its input, whose shape is given.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn conv2d_input_grad(
        dy: &Tensor,
        weight: &Tensor,
        input_shape: &[usize],
        options: Conv2dOptions,
    ) -> Result<Tensor> {
        let geometry = conv_geometry("conv2d_input_grad", input_shape, weight.shape(), options)?;
        input_gradient("conv2d_input_grad", &geometry, dy, weight, input_shape, weight.shape()[0])
    }

    /// Gradient of [`Tensor::conv2d`] with respect to its weight, whose shape is given.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn conv2d_weight_grad(
        input: &Tensor,
        dy: &Tensor,
        weight_shape: &[usize],
        options: Conv2dOptions,
    ) -> Result<Tensor> {
        let geometry = conv_geometry("conv2d_weight_grad", input.shape(), weight_shape, options)?;
        weight_gradient("conv2d_weight_grad", &geometry, input, dy, weight_shape, weight_shape[0])
    }

    /// Transposed convolution: the gradient of a convolution with respect to its input, as a layer.
    ///
    /// - `self`: `[n, ci, h, w]`; `weight`: `[ci, co, kh, kw]`; `bias`: `[co]`
    /// - result: `[n, co, h', w']` with `h' = (h − 1)·stride − 2·padding + dilation·(kh − 1) + output_padding + 1`
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: ConvTranspose2dOptions,
    ) -> Result<Tensor> {
        const OP: &str = "conv_transpose2d";
        let geometry = transpose_geometry(OP, self.shape(), weight.shape(), options)?;
        self.check_dtype(OP, weight)?;
        let epilogue = ConvEpilogue { bias, ..ConvEpilogue::default() };
        self.forward(OP, &geometry, weight, epilogue, weight.shape()[1])
    }

    /// Gradient of [`Tensor::conv_transpose2d`] with respect to its input, whose shape is given.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn conv_transpose2d_input_grad(
        dy: &Tensor,
        weight: &Tensor,
        input_shape: &[usize],
        options: ConvTranspose2dOptions,
    ) -> Result<Tensor> {
        const OP: &str = "conv_transpose2d_input_grad";
        let geometry = transpose_geometry(OP, input_shape, weight.shape(), options)?;
        input_gradient(OP, &geometry, dy, weight, input_shape, weight.shape()[1])
    }

    /// Gradient of [`Tensor::conv_transpose2d`] with respect to its weight, whose shape is given.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn conv_transpose2d_weight_grad(
        input: &Tensor,
        dy: &Tensor,
        weight_shape: &[usize],
        options: ConvTranspose2dOptions,
    ) -> Result<Tensor> {
        const OP: &str = "conv_transpose2d_weight_grad";
        let geometry = transpose_geometry(OP, input.shape(), weight_shape, options)?;
        weight_gradient(OP, &geometry, input, dy, weight_shape, weight_shape[1])
    }

    fn forward(
        &self,
        op: &'static str,
        geometry: &Geometry,
        weight: &Tensor,
        epilogue: ConvEpilogue<'_>,
        channels: usize,
    ) -> Result<Tensor> {
        let shape = output_shape(geometry, self.shape()[0], channels);
        let per_channel = |t: &Tensor| {
            self.check_dtype(op, t)?;
            if t.shape() != [channels] {
                let rule = "the second must hold one value per channel of the result";
                return Err(Error::mismatch(op, weight.shape(), t.shape(), rule));
            }
            t.row_major()
        };
        let bias = epilogue.bias.map(per_channel).transpose()?;
        let affine = match epilogue.affine {
            Some((scale, shift)) => Some((per_channel(scale)?, per_channel(shift)?)),
            None => None,
        };
        let residual = match epilogue.residual {
            Some(t) => Some(gradient_like(op, t, &shape, self)?),
            None => None,
        };
        let x = self.channels_last()?;
        if x.on_cuda().is_some() {
            let epilogue = cuda::Epilogue { bias, affine, residual, relu: epilogue.relu };
            return cuda::convolution(geometry, &x, weight, shape, &epilogue);
        }
        let weight = weight.row_major()?;
        Ok(dispatch!(self.dtype(), T => {
            let epilogue = Epilogue {
                bias: bias.as_ref().map(elements::<T>),
                affine: affine.as_ref().map(|(s, t)| (elements::<T>(s), elements::<T>(t))),
                residual: residual.as_ref().map(elements::<T>),
                relu: epilogue.relu,
            };
            let mut y = Buffer::<T>::unfilled(shape.numel());
            conv::forward(geometry, elements(&x), elements(&weight), &epilogue, y.as_mut_slice());
            Tensor::from_buffer(y, shape, shape.channels_last())
        }))
    }
}

/// The elements of a tensor that has been brought to the order its caller wants.
fn elements<T: Element>(tensor: &Tensor) -> &[T] {
    &tensor.data::<T>()[..tensor.numel()]
}

fn output_shape(geometry: &Geometry, batch: usize, channels: usize) -> Dims {
    let [h, w] = geometry.output();
    Dims::from_short(&[batch, channels, h, w])
}

/// A gradient, or a residual, of the result's shape, channels-last.
fn gradient_like(op: &'static str, dy: &Tensor, shape: &Dims, other: &Tensor) -> Result<Tensor> {
    other.check_dtype(op, dy)?;
    if dy.dims() != *shape {
        return Err(Error::mismatch(
            op,
            shape,
            dy.shape(),
            "the second must have the result's shape",
        ));
    }
    dy.channels_last()
}

fn input_gradient(
    op: &'static str,
    geometry: &Geometry,
    dy: &Tensor,
    weight: &Tensor,
    input_shape: &[usize],
    channels: usize,
) -> Result<Tensor> {
    let dy = gradient_like(op, dy, &output_shape(geometry, input_shape[0], channels), weight)?;
    let input = Dims::new(input_shape)?;
    if dy.on_cuda().is_some() {
        return cuda::convolution_input_gradient(geometry, &dy, weight, input);
    }
    let weight = weight.row_major()?;
    Ok(dispatch!(dy.dtype(), T => {
        let mut dx = Buffer::<T>::unfilled(input.numel());
        conv::input_gradient(geometry, elements(&dy), elements(&weight), dx.as_mut_slice());
        Tensor::from_buffer(dx, input, input.channels_last())
    }))
}

fn weight_gradient(
    op: &'static str,
    geometry: &Geometry,
    input: &Tensor,
    dy: &Tensor,
    weight_shape: &[usize],
    channels: usize,
) -> Result<Tensor> {
    let dy = gradient_like(op, dy, &output_shape(geometry, input.shape()[0], channels), input)?;
    let x = input.channels_last()?;
    let shape = Dims::new(weight_shape)?;
    if x.on_cuda().is_some() {
        return cuda::convolution_weight_gradient(geometry, &x, &dy, shape);
    }
    Ok(dispatch!(dy.dtype(), T => {
        let mut dw = Buffer::<T>::unfilled(shape.numel());
        conv::weight_gradient(geometry, elements(&x), elements(&dy), dw.as_mut_slice());
        Tensor::from_buffer(dw, shape, shape.row_major())
    }))
}

/// Batch, picture, channels of both sides and kernel of a pair of shapes; `inner` is the weight's axis of the input's channels, of which
/// it sees one group's.
fn sizes(
    op: &'static str,
    input: &[usize],
    weight: &[usize],
    inner: usize,
    groups: usize,
) -> Result<(usize, [[usize; 2]; 3])> {
    let (&[n, ci, h, w], &[_, _, kh, kw]) = (input, weight) else {
        let rule = "pictures [n, c, h, w] and a weight of rank 4 are needed";
        return Err(Error::mismatch(op, input, weight, rule));
    };
    if weight[inner].checked_mul(groups) != Some(ci) {
        let rule = match groups {
            1 => "the weight's input channels must be the picture's channels",
            _ => "the weight's input channels times the groups must be the picture's channels",
        };
        return Err(Error::mismatch(op, input, weight, rule));
    }
    Ok((n, [[h, w], [ci, weight[1 - inner]], [kh, kw]]))
}

fn conv_geometry(
    op: &'static str,
    input: &[usize],
    weight: &[usize],
    o: Conv2dOptions,
) -> Result<Geometry> {
    if let [_, ci, ..] = *input
        && (o.groups == 0 || !ci.is_multiple_of(o.groups))
    {
        let rule = "at least one is needed, and it must divide the picture's channels";
        return Err(Error::Value { op, name: "groups", value: o.groups as f64, rule });
    }
    let (n, [size, channels, kernel]) = sizes(op, input, weight, 1, o.groups)?;
    let window = Window { kernel, stride: o.stride, padding: o.padding, dilation: o.dilation };
    Geometry::conv2d(n, size, channels, window)?.with_groups(o.groups)
}

fn transpose_geometry(
    op: &'static str,
    input: &[usize],
    weight: &[usize],
    o: ConvTranspose2dOptions,
) -> Result<Geometry> {
    let (n, [size, channels, kernel]) = sizes(op, input, weight, 0, 1)?;
    let window = Window { kernel, stride: o.stride, padding: o.padding, dilation: o.dilation };
    Geometry::conv_transpose2d(n, size, channels, window, o.output_padding)
}
