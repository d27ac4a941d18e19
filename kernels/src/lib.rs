//! Hand-written PTX kernels: their text, how each is launched, and what it computes, on the CPU in `f64`.
//!
//! A kernel is a file in `ptx/`, whose header names its oracle, arguments, launch, bound and numerics; an entry of [`KERNELS`]; and a
//! function of [`mod@reference`]. Nothing is compiled: the driver takes the text. The tests execute each on the interpreter `ptx-sim`.

pub mod reference;

/// A kernel's text and the name of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Name of the entry.
    pub entry: &'static str,
    /// The module's text.
    pub text: &'static str,
    /// Threads of a block.
    pub block: [u32; 3],
}

/// [`reference::class_moments`] of `f32` features.
pub const CLASS_MOMENTS_F32: Kernel = Kernel {
    entry: "class_moments_f32",
    text: include_str!("../ptx/class_moments_f32.ptx"),
    block: [32, 8, 1],
};

/// Every kernel.
pub const KERNELS: [Kernel; 1] = [CLASS_MOMENTS_F32];
