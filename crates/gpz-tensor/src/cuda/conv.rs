//! Convolutions: the library's passes, and what follows them.

use super::driver::{Convolution, ConvolutionPass};
use super::{channels, device_of, full, unfilled};
use crate::Tensor;
use crate::cpu::conv::Geometry;
use crate::error::Result;
use crate::shape::Dims;

/// What is done to a convolution's result, in this order; per channel but for the residual.
pub(crate) struct Epilogue {
    pub(crate) bias: Option<Tensor>,
    pub(crate) affine: Option<(Tensor, Tensor)>,
    pub(crate) residual: Option<Tensor>,
    pub(crate) relu: bool,
}

/// A pass of a convolution, its arrays by side: the addresses may be those of operands or of the result.
fn run(
    geometry: &Geometry,
    pass: ConvolutionPass,
    [fine, coarse, weight]: [&Tensor; 3],
    op: &'static str,
) -> Result<()> {
    let address = |t: &Tensor| t.on_cuda().map_or(0, |(_, address)| address);
    let convolution = Convolution {
        pass,
        batch: geometry.batch,
        fine: geometry.fine,
        coarse: geometry.coarse,
        fine_channels: geometry.fine_channels,
        coarse_channels: geometry.coarse_channels,
        groups: geometry.groups,
        kernel: geometry.window.kernel,
        stride: geometry.window.stride,
        padding: geometry.window.padding,
        dilation: geometry.window.dilation,
        fine_address: address(fine),
        coarse_address: address(coarse),
        weight_address: address(weight),
    };
    // SAFETY: the addresses are those of tensors of the convolution's extents, all three channels-last and on one device.
    device_of(fine).ask(op, |driver| unsafe { driver.convolve(&convolution) })
}

/// A convolution or a transposed one; `x` and `residual` are channels-last, the parameters of channels row-major.
pub(crate) fn convolution(
    geometry: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    shape: Dims,
    epilogue: &Epilogue,
) -> Result<Tensor> {
    let strides = shape.channels_last();
    let y = if x.numel() == 0 || shape.numel() == 0 {
        full(device_of(x), shape, strides, 0.0)?
    } else {
        let weight = weight.channels_last()?;
        let y = unfilled("conv2d", device_of(x), shape, strides)?;
        if geometry.transposed {
            run(geometry, ConvolutionPass::Fine, [&y, x, &weight], "conv_transpose2d")?;
        } else {
            run(geometry, ConvolutionPass::Coarse, [x, &y, &weight], "conv2d")?;
        }
        y
    };
    channels::finish_convolution(y, epilogue)
}

/// Gradient with respect to the input; `dy` is channels-last.
pub(crate) fn convolution_input_gradient(
    geometry: &Geometry,
    dy: &Tensor,
    weight: &Tensor,
    input: Dims,
) -> Result<Tensor> {
    let device = device_of(dy);
    if dy.numel() == 0 || input.numel() == 0 {
        return full(device, input, input.channels_last(), 0.0);
    }
    let weight = weight.channels_last()?;
    let dx = unfilled("conv2d", device, input, input.channels_last())?;
    if geometry.transposed {
        run(geometry, ConvolutionPass::Coarse, [dy, &dx, &weight], "conv_transpose2d_input_grad")?;
    } else {
        run(geometry, ConvolutionPass::Fine, [&dx, dy, &weight], "conv2d_input_grad")?;
    }
    Ok(dx)
}

/// Gradient with respect to the weight, channels-last; so are `x` and `dy`.
pub(crate) fn convolution_weight_gradient(
    geometry: &Geometry,
    x: &Tensor,
    dy: &Tensor,
    shape: Dims,
) -> Result<Tensor> {
    let device = device_of(x);
    if x.numel() == 0 || dy.numel() == 0 || shape.numel() == 0 {
        return full(device, shape, shape.channels_last(), 0.0);
    }
    let dw = unfilled("conv2d", device, shape, shape.channels_last())?;
    let (fine, coarse) = if geometry.transposed { (dy, x) } else { (x, dy) };
    run(geometry, ConvolutionPass::Weight, [fine, coarse, &dw], "conv2d_weight_grad")?;
    Ok(dw)
}
