//! The optimisers, in `f32`: their roundings are what they are defined by.

use crate::optimisers::WatchState;

/// The numbers of a step of [`adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// What is kept of the first moment, and of the second.
    pub keep: [f32; 2],
    /// What is taken of the gradient, and of its square: one less `keep`.
    pub take: [f32; 2],
    /// Share of the parameter added to its gradient.
    pub l2: f32,
    /// What the parameter is multiplied by.
    pub shrink: f32,
    /// Learning rate over the correction of the first moment.
    pub rate: f32,
    /// Root of one over the correction of the second moment.
    pub root: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

/// A step of Adam, AdamW or, with the `largest` second moments, AMSGrad.
///
/// - `param`, `grad`, `first`, `second`, `largest`: the elements of one tensor and of what is kept of it
pub fn adam(
    numbers: &Adam,
    param: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    mut largest: Option<&mut [f32]>,
) {
    let Adam { keep: [b1, b2], take: [r1, r2], l2, shrink, rate, root, eps } = *numbers;
    for i in 0..param.len() {
        let g = grad[i] + l2 * param[i];
        first[i] = b1 * first[i] + r1 * g;
        second[i] = b2 * second[i] + r2 * (g * g);
        let mut divisor = second[i];
        if let Some(largest) = &mut largest {
            largest[i] = if divisor > largest[i] { divisor } else { largest[i] };
            divisor = largest[i];
        }
        param[i] = param[i] * shrink - rate * first[i] / (divisor.sqrt() * root + eps);
    }
}

/// A step of gradient descent; with a `velocity`, that of momentum.
///
/// - `numbers`: momentum, share of the parameter added to its gradient, learning rate
/// - `param`, `grad`, `velocity`: the elements of one tensor and of what is kept of it
pub fn sgd(
    [momentum, decay, rate]: [f32; 3],
    param: &mut [f32],
    grad: &[f32],
    mut velocity: Option<&mut [f32]>,
) {
    for i in 0..param.len() {
        let mut step = grad[i] + decay * param[i];
        if let Some(velocity) = &mut velocity {
            velocity[i] = momentum * velocity[i] + step;
            step = velocity[i];
        }
        param[i] -= rate * step;
    }
}

/// Makes a step the bad one if an element of its gradient is not finite and none was bad before.
pub fn non_finite(grad: &[f32], step: u32, state: &mut WatchState) {
    if state.bad_step == 0 && grad.iter().any(|value| !value.is_finite()) {
        (state.bad_step, state.reason) = (step, 2);
    }
}

/// Adds a step's loss to the sum by its weight, or makes the step the bad one if the loss is not finite; nothing after a bad one.
pub fn watch_loss(loss: f32, weight: f64, step: u32, state: &mut WatchState) {
    if state.bad_step != 0 {
        return;
    }
    state.last_loss = f64::from(loss);
    if loss.is_finite() {
        state.loss_sum += f64::from(loss) * weight;
    } else {
        (state.bad_step, state.reason) = (step, 1);
    }
}
