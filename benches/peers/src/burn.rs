//! burn on its CPU back end `flex`: row-major activations, gradients by its autodiff.

use std::hint::black_box;

use anyhow::{Context, Result, anyhow};
use burn_tensor::module::{conv_transpose2d, conv2d};
use burn_tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn_tensor::{Device, Tensor, TensorData};

use crate::case::{Case, Kind};
use crate::library::Convolution;

/// A convolution in burn.
pub struct Burn {
    case: Case,
    x: Tensor<4>,
    w: Tensor<4>,
}

impl Burn {
    /// Puts the operands in place.
    pub fn new(case: Case) -> Self {
        let [x, w] = case.operands();
        let tensor = |values, shape: [usize; 4]| {
            Tensor::from_data(TensorData::new(values, shape), &Device::flex())
        };
        Burn { case, x: tensor(x, case.input_shape()), w: tensor(w, case.weight_shape()) }
    }

    fn output(&self, x: Tensor<4>, w: Tensor<4>) -> Tensor<4> {
        let (stride, padding) = ([self.case.stride(); 2], [Case::PADDING; 2]);
        match self.case.kind {
            Kind::Conv => conv2d(x, w, None, ConvOptions::new(stride, padding, [1; 2], 1)),
            Kind::Transposed => conv_transpose2d(
                x,
                w,
                None,
                ConvTransposeOptions::new(stride, padding, [0; 2], [1; 2], 1),
            ),
        }
    }

    fn all(&self) -> Result<[Tensor<4>; 3]> {
        let x = self.x.clone().autodiff().require_grad();
        let w = self.w.clone().autodiff().require_grad();
        let y = self.output(x.clone(), w.clone());
        let mut gradients = y.backward();
        let dx = x.grad_remove(&mut gradients).context("burn: no gradient of the input")?;
        let dw = w.grad_remove(&mut gradients).context("burn: no gradient of the weight")?;
        Ok([y.inner(), dx, dw])
    }
}

impl Convolution for Burn {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn forward(&self) -> Result<()> {
        black_box(self.output(self.x.clone(), self.w.clone()));
        Ok(())
    }

    fn forward_backward(&self) -> Result<()> {
        black_box(self.all()?);
        Ok(())
    }

    fn results(&self) -> Result<[Vec<f32>; 3]> {
        let [y, dx, dw] = self.all()?;
        Ok([elements(y)?, elements(dx)?, elements(dw)?])
    }
}

/// The elements of a burn tensor, row-major.
pub fn elements<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.into_data();
    let slice = data.as_slice::<f32>().map_err(|error| anyhow!("burn: {error:?}"))?;
    Ok(slice.to_vec())
}
