//! What happens to features between the network and whoever receives them.

use gpz_data::Part;
use gpz_tensor::Tensor;

use crate::error::Result;

/// Which images' features are sent, so that what is drawn at random can be drawn anew for each of them and the same again whenever the
/// run is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending<'a> {
    /// The part of the data.
    pub part: Part,
    /// 0-based; a part that is sent once is sent in epoch 0.
    pub epoch: u64,
    /// Position of each image in its part, in the order of the features.
    pub positions: &'a [usize],
}

/// The way a feature takes. An attack learns from what arrives, and is tested on what arrives.
pub trait Wire: Sync {
    /// Features `[n, ...]` of a split (1-based) as they are received, of the same shape. What is random in it follows from the split
    /// and from `sending` alone.
    ///
    /// # Errors
    /// [`Error::Wire`](crate::Error::Wire) for features that do not get through.
    fn receive(&self, split: usize, z: &Tensor, sending: &Sending<'_>) -> Result<Tensor>;
}

/// Features arrive as they were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact;

impl Wire for Exact {
    fn receive(&self, _: usize, z: &Tensor, _: &Sending<'_>) -> Result<Tensor> {
        Ok(z.clone())
    }
}
