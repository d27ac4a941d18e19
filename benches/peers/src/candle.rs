//! candle: row-major activations, gradients by its tape.

use std::hint::black_box;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};

use crate::case::{Case, Kind};
use crate::library::Convolution;

/// A convolution in candle.
pub struct Candle {
    case: Case,
    x: Var,
    w: Var,
}

impl Candle {
    /// Puts the operands in place.
    pub fn new(case: Case) -> Result<Self> {
        let [x, w] = case.operands();
        let variable = |values, shape: [usize; 4]| Var::from_vec(values, &shape, &Device::Cpu);
        Ok(Candle {
            case,
            x: variable(x, case.input_shape())?,
            w: variable(w, case.weight_shape())?,
        })
    }

    fn output(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let (stride, padding) = (self.case.stride(), Case::PADDING);
        Ok(match self.case.kind {
            Kind::Conv => x.conv2d(w, padding, stride, 1, 1)?,
            Kind::Transposed => x.conv_transpose2d(w, padding, 0, stride, 1)?,
        })
    }

    fn all(&self) -> Result<[Tensor; 3]> {
        let (x, w) = (self.x.as_tensor(), self.w.as_tensor());
        let y = self.output(x, w)?;
        let mut gradients = y.backward()?;
        let dx = gradients.remove(x).context("candle: no gradient of the input")?;
        let dw = gradients.remove(w).context("candle: no gradient of the weight")?;
        Ok([y, dx, dw])
    }
}

impl Convolution for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn forward(&self) -> Result<()> {
        black_box(self.output(&self.x.detach(), &self.w.detach())?);
        Ok(())
    }

    fn forward_backward(&self) -> Result<()> {
        black_box(self.all()?);
        Ok(())
    }

    fn results(&self) -> Result<[Vec<f32>; 3]> {
        let [y, dx, dw] = self.all()?;
        let elements = |tensor: Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        Ok([elements(y)?, elements(dx)?, elements(dw)?])
    }
}
