//! gpz-tensor: activations lie channels-last, as its own operations leave them; weights are packed inside each call.

use std::hint::black_box;

use anyhow::Result;
use gpz_tensor::{Conv2dOptions, ConvTranspose2dOptions, Tensor};

use crate::case::{Case, Kind};
use crate::library::Convolution;

/// A convolution in gpz-tensor.
pub struct Ours {
    case: Case,
    x: Tensor,
    w: Tensor,
    ones: Vec<f32>,
}

impl Ours {
    /// Puts the operands in place.
    pub fn new(case: Case) -> Result<Self> {
        let [x, w] = case.operands();
        Ok(Ours {
            case,
            x: Tensor::from_slice(&x, &case.input_shape())?.channels_last()?,
            w: Tensor::from_slice(&w, &case.weight_shape())?,
            ones: vec![1.0; case.output_shape().iter().product()],
        })
    }

    fn output(&self) -> Result<Tensor> {
        let (stride, padding) = (self.case.stride(), Case::PADDING);
        Ok(match self.case.kind {
            Kind::Conv => self.x.conv2d(&self.w, None, Conv2dOptions::square(stride, padding))?,
            Kind::Transposed => self.x.conv_transpose2d(
                &self.w,
                None,
                ConvTranspose2dOptions::square(stride, padding),
            )?,
        })
    }

    fn all(&self) -> Result<[Tensor; 3]> {
        let y = self.output()?;
        let (stride, padding) = (self.case.stride(), Case::PADDING);
        let (x, w, inputs, weights) = (&self.x, &self.w, self.x.shape(), self.w.shape());
        let dy = Tensor::from_channels_last(&self.ones, self.case.output_shape())?;
        let [dx, dw] = match self.case.kind {
            Kind::Conv => {
                let options = Conv2dOptions::square(stride, padding);
                [
                    Tensor::conv2d_input_grad(&dy, w, inputs, options)?,
                    Tensor::conv2d_weight_grad(x, &dy, weights, options)?,
                ]
            }
            Kind::Transposed => {
                let options = ConvTranspose2dOptions::square(stride, padding);
                [
                    Tensor::conv_transpose2d_input_grad(&dy, w, inputs, options)?,
                    Tensor::conv_transpose2d_weight_grad(x, &dy, weights, options)?,
                ]
            }
        };
        Ok([y, dx, dw])
    }
}

impl Convolution for Ours {
    fn name(&self) -> &'static str {
        "gpz"
    }

    fn forward(&self) -> Result<()> {
        black_box(self.output()?);
        Ok(())
    }

    fn forward_backward(&self) -> Result<()> {
        black_box(self.all()?);
        Ok(())
    }

    fn results(&self) -> Result<[Vec<f32>; 3]> {
        Ok(self.all()?.map(|tensor| tensor.to_vec()))
    }
}
