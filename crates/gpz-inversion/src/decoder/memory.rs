//! What the training of decoders takes, known before any weight is set aside.

use gpz_nn::blueprint::Cost;

use crate::learner::TrainingPlan;

/// Bytes of a value in f32.
const VALUE: u128 = 4;

/// Bytes in f32 without which decoders cannot learn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastBytes {
    /// Of all of them, where they learn: weights, the best so far, the optimiser's moments; and the larger of two: of the largest decoder
    /// alone the gradients and the two largest features of a batch, or once more all weights, those that a state is read over.
    pub learning: u128,
    /// On the host of decoders that learn on a CUDA device: the state of all of them, when it is read to go on from.
    pub reading: u128,
}

impl TrainingPlan {
    /// What decoders of these costs need to learn together by this plan.
    #[must_use]
    pub fn least_bytes(&self, decoders: &[Cost]) -> LeastBytes {
        let copies = 2 + self.optimizer.moments() as u128;
        let params: u128 = decoders.iter().map(|cost| u128::from(cost.params)).sum();
        let step = |cost: &Cost| {
            u128::from(cost.params) + 2 * u128::from(cost.largest) * self.batch as u128
        };
        let largest_step = decoders.iter().map(step).max().unwrap_or(0);
        let kept = VALUE * copies * params;
        LeastBytes { learning: kept + VALUE * largest_step.max(params), reading: kept }
    }
}
