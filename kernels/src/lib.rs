//! Hand-written PTX kernels: their text, how each is launched, and what it computes, on the CPU in `f64`.
//!
//! A kernel is a file in `ptx/`, whose header names its oracle, arguments, launch, bound and numerics; an entry in the list of its family
//! ([`statistics`], [`elementwise`], …); and a function of [`mod@reference`]. Nothing is compiled: the driver takes the text. The tests
//! execute each on the interpreter `ptx-sim`.

pub mod channels;
pub mod elementwise;
pub mod optimisers;
pub mod pooling;
pub mod reductions;
pub mod reference;
pub mod rows;
pub mod statistics;

/// A kernel's text, the name of its entry, and how it is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Name of the entry.
    pub entry: &'static str,
    /// The module's text.
    pub text: &'static str,
    /// Threads of a block.
    pub block: [u32; 3],
    /// Elements (rows, columns: the header's launch says which) along x that a block deals with: the grid has a block for each so many.
    /// 1 where the header says how many blocks there are.
    pub tile: u32,
}

macro_rules! kernel {
    ($entry:literal, $block:expr, $tile:expr) => {
        $crate::Kernel {
            entry: $entry,
            text: include_str!(concat!("../ptx/", $entry, ".ptx")),
            block: $block,
            tile: $tile,
        }
    };
}
pub(crate) use kernel;

/// Every kernel, family by family.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    [
        statistics::ALL,
        elementwise::ALL,
        reductions::ALL,
        channels::ALL,
        rows::ALL,
        pooling::ALL,
        optimisers::ALL,
    ]
    .into_iter()
    .flatten()
}
