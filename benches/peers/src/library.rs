//! What a library must be able to do to be measured, and the check that all do the same.

use anyhow::{Result, ensure};

/// A convolution set up in one library, its operands in place.
///
/// The output's gradient is all ones, as `backward` on a tensor starts in candle and burn; every library fills it inside the call.
pub trait Convolution {
    /// The library's name, as in the table's head.
    fn name(&self) -> &'static str;

    /// The forward pass; its result is dropped.
    fn forward(&self) -> Result<()>;

    /// The forward pass and the gradients of input and weight; the results are dropped.
    fn forward_backward(&self) -> Result<()>;

    /// Output, gradient of the input, gradient of the weight, row-major.
    fn results(&self) -> Result<[Vec<f32>; 3]>;
}

/// Largest difference allowed between two libraries, as a fraction of the largest magnitude: single precision sums of up to
/// 131,072 terms in whatever order.
const TOLERANCE: f32 = 1e-3;

/// Fails unless `theirs` holds what `ours` holds; NaN agrees with nothing.
pub fn check_agreement(what: &str, library: &str, ours: &[f32], theirs: &[f32]) -> Result<()> {
    ensure!(
        ours.len() == theirs.len(),
        "{what}: {} elements, {library} has {}",
        ours.len(),
        theirs.len()
    );
    let largest = ours.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (at, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
        let agrees = (a - b).abs() <= TOLERANCE * largest;
        ensure!(agrees, "{what}: element {at} is {a}, {library} has {b}, the largest is {largest}");
    }
    Ok(())
}
