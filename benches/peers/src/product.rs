//! The square matrix product in all three libraries and in crate `gemm`, which candle and burn both multiply with.

use std::hint::black_box;

use anyhow::Result;

use crate::burn;
use crate::case::values;
use crate::gemm_product::gemm_product;
use crate::library::check_agreement;
use crate::measure::Contender;

/// The operands of an `n³` product in every library.
pub struct Product {
    n: usize,
    ours: [gpz_tensor::Tensor; 2],
    candle: [candle_core::Tensor; 2],
    burn: [burn_tensor::Tensor<2>; 2],
    plain: [Vec<f32>; 2],
}

impl Product {
    /// Puts the operands in place and checks that the products agree.
    pub fn new(n: usize) -> Result<Self> {
        let plain = [1, 2].map(|seed| values(seed, n * n));
        let ours = |values: &[f32]| gpz_tensor::Tensor::from_slice(values, &[n, n]);
        let candle = |values: &[f32]| {
            candle_core::Tensor::from_slice(values, (n, n), &candle_core::Device::Cpu)
        };
        let burn = |values: &[f32]| {
            let data = burn_tensor::TensorData::new(values.to_vec(), [n, n]);
            burn_tensor::Tensor::from_data(data, &burn_tensor::Device::flex())
        };
        let [a, b] = &plain;
        let product = Product {
            n,
            ours: [ours(a)?, ours(b)?],
            candle: [candle(a)?, candle(b)?],
            burn: [burn(a), burn(b)],
            plain,
        };
        product.check()?;
        Ok(product)
    }

    /// As it stands in the table.
    pub fn name(&self) -> String {
        format!("matrix product {}³", self.n)
    }

    /// Operations of the product, a multiply-add counting two.
    pub fn flops(&self) -> f64 {
        2.0 * (self.n as f64).powi(3)
    }

    /// The product in every library, results dropped; `gemm` writes into a fresh matrix as the others do.
    pub fn contenders(&self) -> Vec<Contender<'_>> {
        vec![
            Contender::new("gpz", || {
                black_box(self.in_ours()?);
                Ok(())
            }),
            Contender::new("candle", || {
                black_box(self.in_candle()?);
                Ok(())
            }),
            Contender::new("burn", || {
                black_box(self.in_burn());
                Ok(())
            }),
            Contender::new("gemm", || {
                black_box(self.in_gemm());
                Ok(())
            }),
        ]
    }

    fn in_ours(&self) -> Result<gpz_tensor::Tensor> {
        Ok(self.ours[0].matmul(&self.ours[1])?)
    }

    fn in_candle(&self) -> Result<candle_core::Tensor> {
        Ok(self.candle[0].matmul(&self.candle[1])?)
    }

    fn in_burn(&self) -> burn_tensor::Tensor<2> {
        self.burn[0].clone().matmul(self.burn[1].clone())
    }

    fn in_gemm(&self) -> Vec<f32> {
        gemm_product(self.n, &self.plain[0], &self.plain[1])
    }

    fn check(&self) -> Result<()> {
        let ours = self.in_ours()?.to_vec::<f32>();
        let name = self.name();
        check_agreement(
            &name,
            "candle",
            &ours,
            &self.in_candle()?.flatten_all()?.to_vec1::<f32>()?,
        )?;
        check_agreement(&name, "burn", &ours, &burn::elements(self.in_burn())?)?;
        check_agreement(&name, "gemm", &ours, &self.in_gemm())
    }
}
