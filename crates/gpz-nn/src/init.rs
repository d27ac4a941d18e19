//! Initial values of parameters, by PyTorch's rules.
//!
//! The distributions are PyTorch's; the draws are ours (ChaCha8), so equal seeds give other numbers than there.

use gpz_tensor::{DType, Dims, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::{Error, Result};

/// Where a truncated normal ends on both sides.
const CUT: f64 = 2.0;

/// How a parameter is filled. Fans are those of a weight `[out, in, ...]`: `in · receptive field` and `out · receptive field`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// One value.
    Constant(f64),
    /// Uniform on `[-bound, bound]`.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Normal with this standard deviation, drawn again beyond −2 and 2 (PyTorch's and timm's `trunc_normal_`: the bounds are values, not
    /// deviations, so that with the usual 0.02 hardly anything is cut).
    TruncatedNormal(f64),
    /// Uniform with bound `√(6 / ((1 + a²) · fan_in))`; `a = √5` is the default of convolutions and linear layers.
    KaimingUniform {
        /// Slope of the leaky activation the rule assumes.
        a: f64,
    },
    /// Normal with deviation `√(2 / fan_out)`, for convolutions before ReLU.
    KaimingNormalFanOut,
    /// Uniform with bound `√(6 / (fan_in + fan_out))`.
    XavierUniform,
}

impl Init {
    /// PyTorch's default for the weights of convolutions and linear layers.
    pub fn default_weight() -> Self {
        Init::KaimingUniform { a: 5f64.sqrt() }
    }

    /// PyTorch's default for their biases.
    pub fn default_bias(fan_in: usize) -> Self {
        Init::Uniform(1.0 / (fan_in.max(1) as f64).sqrt())
    }

    /// A tensor of the shape, drawn in row-major order.
    ///
    /// # Errors
    /// A shape that does not fit in memory; [`Error::Value`] for a truncated normal without a finite deviation.
    pub fn fill(self, shape: &[usize], dtype: DType, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let (fan_in, fan_out) = fans(shape);
        match self {
            Init::Constant(value) => Ok(Tensor::full(shape, value, dtype)?),
            Init::Uniform(bound) => {
                draw(shape, dtype, || bound * (2.0 * rng.random::<f64>() - 1.0))
            }
            Init::Normal(deviation) => draw(shape, dtype, || deviation * normal(rng)),
            Init::TruncatedNormal(deviation) if !deviation.is_finite() => {
                let (what, value) = ("standard deviation", deviation);
                Err(Error::Value { what, value, rule: "a finite number is needed" })
            }
            Init::TruncatedNormal(deviation) => {
                draw(shape, dtype, || truncated_normal(deviation, rng))
            }
            Init::KaimingUniform { a } => {
                let bound = (6.0 / ((1.0 + a * a) * fan_in)).sqrt();
                Init::Uniform(bound).fill(shape, dtype, rng)
            }
            Init::KaimingNormalFanOut => {
                Init::Normal((2.0 / fan_out).sqrt()).fill(shape, dtype, rng)
            }
            Init::XavierUniform => {
                Init::Uniform((6.0 / (fan_in + fan_out)).sqrt()).fill(shape, dtype, rng)
            }
        }
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Draws until a value is within [`CUT`]; more than half are, whatever the deviation.
fn truncated_normal(deviation: f64, rng: &mut ChaCha8Rng) -> f64 {
    loop {
        if deviation.abs() <= CUT {
            let value = deviation * normal(rng);
            if value.abs() <= CUT {
                return value;
            }
        } else {
            // A wide normal is nearly flat between the bounds: drawn evenly there, kept as often as its density says.
            let value = CUT * (2.0 * rng.random::<f64>() - 1.0);
            if rng.random::<f64>() <= (-0.5 * (value / deviation).powi(2)).exp() {
                return value;
            }
        }
    }
}

fn draw(shape: &[usize], dtype: DType, mut next: impl FnMut() -> f64) -> Result<Tensor> {
    let count = Dims::new(shape)?.numel();
    let values: Vec<f64> = (0..count).map(|_| next()).collect();
    Ok(Tensor::from_slice(&values, shape)?.to_dtype(dtype)?)
}

/// `fan_in` and `fan_out` as PyTorch counts them: axis 1 and axis 0 times the rest. Transposed convolutions, whose weight is
/// `[in, out, ...]`, are counted the same way there, and so here.
fn fans(shape: &[usize]) -> (f64, f64) {
    let field: f64 = shape.iter().skip(2).map(|&extent| extent as f64).product();
    let axis = |i: usize| (shape.get(i).map_or(1.0, |&extent| extent as f64) * field).max(1.0);
    (axis(1), axis(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Mean and deviation of a large draw agree with the rule to four standard errors.
    #[test]
    fn draws_have_the_spread_of_their_rule() -> Result<()> {
        let shape = [64, 32, 3, 3];
        let (fan_in, fan_out) = (288.0f64, 576.0f64);
        let cases = [
            (Init::Uniform(0.3), 0.3 / 3f64.sqrt()),
            (Init::Normal(0.7), 0.7),
            // Variance of a standard normal cut at ±2: 1 − 4 φ(2) / (Φ(2) − Φ(−2)).
            (Init::TruncatedNormal(1.0), 0.879_625_7),
            (Init::TruncatedNormal(0.02), 0.02),
            // By the same rule with the bounds at ±0.2 deviations: nearly uniform.
            (Init::TruncatedNormal(10.0), 1.151_623_1),
            (Init::default_weight(), 1.0 / (3.0 * fan_in).sqrt()),
            (Init::KaimingNormalFanOut, (2.0 / fan_out).sqrt()),
            (Init::XavierUniform, (2.0 / (fan_in + fan_out)).sqrt()),
        ];
        for (init, deviation) in cases {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let values = init.fill(&shape, DType::F64, &mut rng)?.to_vec::<f64>()?;
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            assert!(mean.abs() < 4.0 * deviation / n.sqrt(), "{init:?}: mean {mean}");
            assert!(
                (spread / deviation - 1.0).abs() < 4.0 / n.sqrt(),
                "{init:?}: {spread} for {deviation}"
            );
            if let Init::TruncatedNormal(_) = init {
                assert!(values.iter().all(|v| v.abs() <= 2.0), "{init:?}");
            }
        }
        for deviation in [f64::NAN, f64::INFINITY] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let refused = Init::TruncatedNormal(deviation).fill(&[1], DType::F64, &mut rng);
            assert!(matches!(refused, Err(Error::Value { .. })));
        }
        Ok(())
    }
}
