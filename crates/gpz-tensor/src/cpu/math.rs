//! Transcendental functions of f32 without branches or calls, so that loops over them become vector instructions.
//!
//! No fused multiply-add: the results are the same bits on every instruction set.

/// Adding and subtracting this rounds an f32 of moderate size to the nearest integer.
const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³

/// 2^n for `n` in [-126, 127]; anything for others.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// Natural exponential, within 2 units in the last place; subnormal results included.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these the result is 0 or infinity anyway. Comparisons are false for NaN, which passes through.
    let c = if x > 89.0 { 89.0 } else { x };
    let c = if c < -104.5 { -104.5 } else { c };
    let shifted = c * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few enough bits that n · LN2_HI is exact (Cody and Waite).
    let r = (c - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Taylor series to r⁷, |r| ≤ ln 2 / 2.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    // Two factors, since 2^n alone leaves the range of normal numbers where the product does not.
    // The integer stands in the last bits of the sum; of a NaN, whatever it is, comes a NaN.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// Distribution function and density of the standard normal distribution.
///
/// The function is within 2 units in the last place where `x` is positive; where it is negative, within 5 and a unit more for each of
/// `x²`, which is what the rounding of `x²` makes of `e^(−x²/2)`, far below the rounding of the upper tail.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    let (a, s) = (x.abs(), x * x);
    let e = exp(s * -0.5);
    let density = e * 0.398_942_3;
    // Φ(x) = 1/2 + x · q(x²) by the Taylor series where its first left-out term is below 2e-8: there the rounding of t below would count
    // several times.
    let q = -9.444_655e-6;
    let q = q * s + 1.154_347e-4;
    let q = q * s - 1.187_328_3e-3;
    let q = q * s + 9.973_557e-3;
    let q = q * s - 6.649_038e-2;
    let q = q * s + 0.398_942_3;
    let near = q * x + 0.5;
    // Φ(−a) · e^(a²/2) = t · p(t), fitted for 0 ≤ a ≤ 14.5 to 3e-8 of its value; beyond, e is 0.
    let t = 1.0 / (1.0 + 0.26 * a);
    let p = 0.030_230_78;
    let p = p * t - 0.151_496_64;
    let p = p * t + 0.248_737_47;
    let p = p * t - 0.147_793_9;
    let p = p * t + 0.158_761_7;
    let p = p * t + 0.051_963_665;
    let p = p * t + 0.102_788_955;
    let p = p * t + 0.103_050_94;
    let p = p * t + 0.103_757_02;
    let tail = p * t * e;
    let far = if x > 0.0 { 1.0 - tail } else { tail };
    (if a < 0.75 { near } else { far }, density)
}

/// [`normal`] in f64.
pub(crate) fn normal_f64(x: f64) -> (f64, f64) {
    let function = 0.5 * libm::erfc(x * -std::f64::consts::FRAC_1_SQRT_2);
    (function, libm::exp(x * x * -0.5) * 0.398_942_280_401_432_7)
}

/// Hyperbolic tangent, within 3 units in the last place.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    // Odd polynomial where 1 - 2/(e^2a + 1) would cancel: Taylor-like coefficients fitted for |x| < 0.625 (Cephes).
    let s = x * x;
    let p = -5.704_988e-3;
    let p = p * s + 2.063_909e-2;
    let p = p * s - 5.373_971e-2;
    let p = p * s + 1.333_144e-1;
    let p = p * s - 3.333_328e-1;
    let small = p * s * x + x;
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    let large = if x < 0.0 { -large } else { large };
    if a < 0.625 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(got: f32, want: f64) -> f64 {
        let near = want as f32;
        let step = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
        (f64::from(got) - want).abs() / step
    }

    /// Every 97th f32 of the whole finite range.
    fn all() -> impl Iterator<Item = f32> {
        (0..=u32::MAX / 97).map(|i| f32::from_bits(i * 97)).filter(|x| x.is_finite())
    }

    #[test]
    fn exp_is_within_two_ulps_and_exact_at_the_ends() {
        for x in all().filter(|x| (-103.0..88.7).contains(x)) {
            let error = ulps(exp(x), f64::from(x).exp());
            assert!(error <= 2.0, "exp({x:e}) is {error} ulps off");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_is_within_the_rounding_of_its_square() {
        let mut checked = 0;
        for x in all().filter(|x| x.abs() < 13.0) {
            let (function, density) = normal(x);
            let (want, want_density) = normal_f64(f64::from(x));
            let square = f64::from(x) * f64::from(x);
            let most = if x > 0.0 { 2.0 } else { 5.0 + square };
            let error = ulps(function, want);
            assert!(error <= most, "Φ({x:e}) is {error} ulps off");
            let error = ulps(density, want_density);
            assert!(error <= 8.0 + square, "φ({x:e}) is {error} ulps off");
            checked += 1;
        }
        assert!(checked > 1_000_000);
        assert_eq!(normal(f32::INFINITY), (1.0, 0.0));
        assert_eq!(normal(f32::NEG_INFINITY), (0.0, 0.0));
        assert!(normal(f32::NAN).0.is_nan() && normal(f32::NAN).1.is_nan());
    }

    #[test]
    fn tanh_is_within_three_ulps_odd_and_bounded() {
        for x in all() {
            let error = ulps(tanh(x), f64::from(x).tanh());
            assert!(error <= 3.0, "tanh({x:e}) is {error} ulps off");
            assert_eq!(tanh(-x), -tanh(x));
        }
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
    }
}
