//! Uploads through pinned memory, so that neither the caller's bytes nor the host wait for the device.
//!
//! A copy from ordinary memory makes CUDA wait for all work on the stream. A copy from pinned memory does not, but the memory must be
//! left alone until it is done: bytes are copied into a block of pinned memory first, which is used again when the device has read it.

use std::collections::{BTreeMap, VecDeque};
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use super::context::Context;
use crate::cuda::driver::Outcome;

/// Larger uploads are cut into pieces of so many bytes: the device reads one while the next is copied.
const PIECE: usize = 4 << 20;
/// Least bytes of a block.
const SMALLEST: usize = 4 << 10;
/// Bytes of pinned memory in all, beyond which a block is waited for: some batches of pictures.
const MOST: usize = 256 << 20;
/// So many blocks of a size there may always be, so that copying and reading overlap.
const ALWAYS: usize = 2;

/// A block of pinned memory.
struct Block {
    bytes: *mut u8,
    /// Happens when the device has read what was copied from the block last.
    read: sys::CUevent,
}

/// Blocks by size, those whose last upload is longest ago first.
#[derive(Default)]
pub(super) struct Staging {
    shelves: BTreeMap<usize, VecDeque<Block>>,
    pinned: usize,
}

// SAFETY: the blocks are memory of the process, and the events names that CUDA takes from any thread; both belong to this alone.
unsafe impl Send for Staging {}

impl Staging {
    /// Copies bytes to the device; they may be changed as soon as this returns.
    ///
    /// # Safety
    /// The context is entered, and the device has room at the address.
    pub(super) unsafe fn upload(
        &mut self,
        context: &Context,
        address: u64,
        bytes: &[u8],
    ) -> Outcome {
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            let size = piece.len().next_power_of_two().max(SMALLEST);
            let to = address + (number * PIECE) as u64;
            let Some(block) = self.take(context, size)? else {
                // SAFETY: as the caller promises; the bytes are there until the wait is over.
                let copied = unsafe {
                    sys::cuMemcpyHtoDAsync_v2(
                        to,
                        piece.as_ptr().cast(),
                        piece.len(),
                        context.stream(),
                    )
                };
                context.check("cuMemcpyHtoDAsync", copied)?;
                context.synchronize("cuMemcpyHtoDAsync")?;
                continue;
            };
            // SAFETY: the block is at least as large as the piece, the device no longer reads it, and the two do not overlap. The device
            // has room as the caller promises, and the block stays as it is until the event has happened.
            let (copied, recorded) = unsafe {
                ptr::copy_nonoverlapping(piece.as_ptr(), block.bytes, piece.len());
                let stream = context.stream();
                let copied = sys::cuMemcpyHtoDAsync_v2(to, block.bytes.cast(), piece.len(), stream);
                (copied, sys::cuEventRecord(block.read, stream))
            };
            self.shelves.entry(size).or_default().push_back(block);
            context.check("cuMemcpyHtoDAsync", copied)?;
            context.check("cuEventRecord", recorded)?;
        }
        Ok(())
    }

    /// A block that the device does not read; `None` if the host has no pinned memory for one.
    fn take(&mut self, context: &Context, size: usize) -> Outcome<Option<Block>> {
        let shelf = self.shelves.entry(size).or_default();
        if let Some(oldest) = shelf.front() {
            // SAFETY: the event is the block's own. One that was never recorded counts as happened.
            match unsafe { sys::cuEventQuery(oldest.read) } {
                CUresult::CUDA_ERROR_NOT_READY => {}
                result => {
                    context.check("cuEventQuery", result)?;
                    return Ok(shelf.pop_front());
                }
            }
        }
        if (shelf.len() < ALWAYS || self.pinned + size <= MOST)
            && let Some(block) = Block::new(size)
        {
            self.pinned += size;
            return Ok(Some(block));
        }
        if let Some(oldest) = shelf.front() {
            // SAFETY: the event is the block's own.
            context.check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(oldest.read) })?;
        }
        Ok(shelf.pop_front())
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// The context is entered, and the device does nothing any more.
    pub(super) unsafe fn empty(&mut self) {
        for block in std::mem::take(&mut self.shelves).into_values().flatten() {
            // SAFETY: the block is this one's alone, and the device no longer reads it.
            unsafe {
                sys::cuEventDestroy_v2(block.read);
                sys::cuMemFreeHost(block.bytes.cast());
            }
        }
        self.pinned = 0;
    }
}

impl Block {
    /// A block in the context that is entered; `None` if there is no pinned memory left, or no event.
    fn new(size: usize) -> Option<Self> {
        let mut bytes = ptr::null_mut();
        // SAFETY: CUDA writes the address of the block.
        if unsafe { sys::cuMemHostAlloc(&mut bytes, size, 0) } != CUresult::CUDA_SUCCESS {
            return None;
        }
        let mut read = ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: CUDA writes one handle.
        if unsafe { sys::cuEventCreate(&mut read, flags) } != CUresult::CUDA_SUCCESS {
            // SAFETY: the block is from just above, and nobody has it.
            unsafe { sys::cuMemFreeHost(bytes) };
            return None;
        }
        Some(Block { bytes: bytes.cast(), read })
    }
}
