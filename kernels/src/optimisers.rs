//! A step of an optimiser over all parameters at once, and the watch over its gradients.
//!
//! The kernels take their tensors from a [`Table`] in their parameters, so that one launch deals with up to eighty of them, and tell the
//! host nothing: what went wrong is noted in a [`WatchState`] on the device, after which no step changes anything. The host reads the
//! state when it likes; the parameters are those before the first bad step.

use crate::{Kernel, kernel};

/// [`adam`](crate::reference::adam) for each tensor of a [`Table`].
pub const ADAM_F32: Kernel = kernel!("adam_f32", [256, 1, 1], 1024);
/// [`sgd`](crate::reference::sgd) for each tensor of a [`Table`].
pub const SGD_F32: Kernel = kernel!("sgd_f32", [256, 1, 1], 1024);
/// [`non_finite`](crate::reference::non_finite) for each gradient of a [`Table`].
pub const NON_FINITE_F32: Kernel = kernel!("non_finite_f32", [256, 1, 1], 1024);
/// [`watch_loss`](crate::reference::watch_loss).
pub const WATCH_LOSS_F32: Kernel = kernel!("watch_loss_f32", [1, 1, 1], 1);

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[ADAM_F32, SGD_F32, NON_FINITE_F32, WATCH_LOSS_F32];

/// Tensors that a table has room for.
pub const TENSORS: usize = 80;
/// Bytes of a table.
pub const TABLE_BYTES: usize = TENSORS * size_of::<Entry>();
/// Elements of a tensor that a block deals with.
const TILE: u32 = 1024;

/// A tensor of a table, by addresses on the device; zero where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Entry {
    /// The parameter.
    pub param: u64,
    /// Its gradient.
    pub grad: u64,
    /// First moment of Adam, velocity of gradient descent.
    pub first: u64,
    /// Second moment of Adam.
    pub second: u64,
    /// Largest second moment, of AMSGrad only.
    pub largest: u64,
    /// The first block of the launch that deals with it; [`Table::push`] sets it.
    pub first_block: u32,
    /// Elements of each.
    pub n: u32,
}

/// The tensors of a launch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    entries: Vec<Entry>,
    blocks: u32,
}

impl Table {
    /// Puts a tensor at the end; one without elements is left out. Says whether there was room: it goes into the next table otherwise.
    #[must_use]
    pub fn push(&mut self, entry: Entry) -> bool {
        if entry.n == 0 {
            return true;
        }
        let blocks = entry.n.div_ceil(TILE);
        // The grid of a launch has fewer than 2³¹ blocks.
        let all = self.blocks.checked_add(blocks).filter(|all| i32::try_from(*all).is_ok());
        match all {
            Some(all) if self.entries.len() < TENSORS => {
                self.entries.push(Entry { first_block: self.blocks, ..entry });
                self.blocks = all;
                true
            }
            _ => false,
        }
    }

    /// Tensors that it has: the argument `count`.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Blocks of the launch, along x; without one there is nothing to launch.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The argument `table`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TABLE_BYTES] {
        let mut bytes = [0; TABLE_BYTES];
        for (to, entry) in bytes.chunks_exact_mut(size_of::<Entry>()).zip(&self.entries) {
            let Entry { param, grad, first, second, largest, first_block, n } = *entry;
            let (addresses, numbers) = to.split_at_mut(40);
            for (to, address) in
                addresses.chunks_exact_mut(8).zip([param, grad, first, second, largest])
            {
                to.copy_from_slice(&address.to_le_bytes());
            }
            for (to, number) in numbers.chunks_exact_mut(4).zip([first_block, n]) {
                to.copy_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }
}

/// What the kernels know of the steps so far, in device memory, at a multiple of 8 bytes; all zero at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(C)]
pub struct WatchState {
    /// The first step whose loss or gradients were not finite, from 1; 0 while there is none.
    pub bad_step: u32,
    /// 1 if it was the loss, 2 if a gradient.
    pub reason: u32,
    /// Sum of the losses by their weights.
    pub loss_sum: f64,
    /// Loss of the last step; of the bad one, once there is one.
    pub last_loss: f64,
}

impl WatchState {
    /// Its bytes on the device.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&self.bad_step.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.reason.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.loss_sum.to_le_bytes());
        bytes[16..].copy_from_slice(&self.last_loss.to_le_bytes());
        bytes
    }

    /// The state that these bytes of the device are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let eight = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
        let four = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
        Self {
            bad_step: u32::from_le_bytes(four(0)),
            reason: u32::from_le_bytes(four(4)),
            loss_sum: f64::from_le_bytes(eight(8)),
            last_loss: f64::from_le_bytes(eight(16)),
        }
    }
}
