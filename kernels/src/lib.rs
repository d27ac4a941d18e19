//! Hand-written PTX kernels: their text, how each is launched, and what it computes, on the CPU in `f64`.
//!
//! A kernel is a file in `ptx/`, whose header names its oracle, arguments, launch, bound and numerics; an entry of [`KERNELS`]; and a
//! function of [`mod@reference`]. Nothing is compiled: the driver takes the text. The tests execute each on the interpreter `ptx-sim`.

pub mod reference;

/// A kernel's text, the name of its entry, and how it is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Name of the entry.
    pub entry: &'static str,
    /// The module's text.
    pub text: &'static str,
    /// Threads of a block.
    pub block: [u32; 3],
    /// Elements along x that a block deals with: the grid has a block for each so many.
    pub tile: u32,
}

macro_rules! kernel {
    ($entry:literal, $block:expr, $tile:expr) => {
        Kernel {
            entry: $entry,
            text: include_str!(concat!("../ptx/", $entry, ".ptx")),
            block: $block,
            tile: $tile,
        }
    };
}

/// [`reference::class_moments`] of `f32` features.
pub const CLASS_MOMENTS_F32: Kernel = kernel!("class_moments_f32", [32, 8, 1], 128);
/// [`reference::class_moments`] of `f16` features.
pub const CLASS_MOMENTS_F16: Kernel = kernel!("class_moments_f16", [32, 8, 1], 256);
/// [`reference::class_moments`] of `bf16` features.
pub const CLASS_MOMENTS_BF16: Kernel = kernel!("class_moments_bf16", [32, 8, 1], 256);

/// [`reference::quantise`].
pub const QUANTISE_F32: Kernel = kernel!("quantise_f32", [256, 1, 1], 1024);

/// Every kernel.
pub const KERNELS: [Kernel; 4] =
    [CLASS_MOMENTS_F32, CLASS_MOMENTS_F16, CLASS_MOMENTS_BF16, QUANTISE_F32];
