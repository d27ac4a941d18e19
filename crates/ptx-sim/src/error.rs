//! What can be wrong with a text, a launch or a run.

use std::fmt;

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not PTX of the subset.
    #[error("line {line}: {what}")]
    Text {
        /// Line of the text, from 1.
        line: usize,
        /// What is wrong, and with what.
        what: String,
    },
    /// No kernel of that name.
    #[error("no kernel {name}; there are {known}")]
    NoKernel {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Not as many arguments as parameters.
    #[error("{kernel} takes {expected} arguments, not {found}")]
    ArgumentCount {
        /// The kernel.
        kernel: String,
        /// Its parameters.
        expected: usize,
        /// Arguments given.
        found: usize,
    },
    /// An argument of another size than its parameter.
    #[error("{kernel}: argument {name} has {expected} bytes, not {found}")]
    ArgumentSize {
        /// The kernel.
        kernel: String,
        /// The parameter.
        name: String,
        /// Its bytes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A launch that no device would accept.
    #[error("{kernel}: {what}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        what: String,
    },
    /// A buffer that is read back has a byte that nothing wrote.
    #[error("element {element} of the buffer was never written")]
    Unwritten {
        /// First such element.
        element: usize,
    },
    /// A buffer is read back as a type that does not divide it.
    #[error("a buffer of {bytes} bytes is no array of elements of {element} bytes")]
    ElementSize {
        /// Bytes of the buffer.
        bytes: usize,
        /// Bytes of an element.
        element: usize,
    },
    /// A copy to or from a buffer that does not lie within it.
    #[error("{count} bytes from byte {from} of a buffer of {size}")]
    Range {
        /// First byte.
        from: u64,
        /// Bytes.
        count: usize,
        /// Bytes of the buffer.
        size: usize,
    },
    /// A thread did what no kernel may.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
}

/// Where a kernel went wrong, and how.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{kernel}, line {line}, block {block:?}, thread {thread:?}: {kind}; at `{text}`")]
pub struct Fault {
    /// The kernel.
    pub kernel: String,
    /// Line of the text, from 1.
    pub line: usize,
    /// The instruction.
    pub text: String,
    /// The block, as `%ctaid`.
    pub block: [u32; 3],
    /// The thread, as `%tid`.
    pub thread: [u32; 3],
    /// What went wrong.
    pub kind: FaultKind,
}

/// A kind of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Buffers of the device.
    Global,
    /// Memory of a block.
    Shared,
    /// A parameter of the kernel.
    Parameter,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Parameter => "parameter",
        })
    }
}

/// How a kernel goes wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// Outside every buffer, or beyond the end of one.
    #[error("{bytes} bytes at offset {offset} of a {space} buffer of {size}")]
    OutOfBounds {
        /// Where.
        space: Space,
        /// Offset of the access from the buffer's beginning.
        offset: i64,
        /// Bytes of the access.
        bytes: usize,
        /// Bytes of the buffer.
        size: usize,
    },
    /// An address that belongs to no buffer.
    #[error("address {address:#x} belongs to no {space} buffer")]
    NoBuffer {
        /// Where.
        space: Space,
        /// The address.
        address: u64,
    },
    /// An address that is no multiple of the access's size.
    #[error("{bytes} bytes at offset {offset}, which is no multiple of it")]
    Misaligned {
        /// Offset of the access from the buffer's beginning.
        offset: i64,
        /// Bytes of the access.
        bytes: usize,
    },
    /// Memory that nothing wrote.
    #[error("{space} memory at offset {offset} was never written")]
    UnwrittenMemory {
        /// Where.
        space: Space,
        /// Offset from the buffer's beginning.
        offset: usize,
    },
    /// A register that nothing set.
    #[error("register {name} was never set")]
    UnsetRegister {
        /// The register.
        name: String,
    },
    /// A write to a buffer that was given for reading.
    #[error("the buffer was given for reading only")]
    ReadOnly,
    /// Two threads at one byte, one of them writing, and nothing that orders them.
    #[error("race with thread {other} of block {block} at offset {offset} of {space} memory")]
    Race {
        /// Where.
        space: Space,
        /// Offset from the buffer's beginning.
        offset: usize,
        /// The other thread, by its linear index.
        other: u32,
        /// Its block, by its linear index.
        block: u32,
    },
    /// Threads of a block wait at a barrier that others do not reach.
    #[error("{waiting} threads wait at the barrier; {elsewhere} have ended or wait elsewhere")]
    DivergentBarrier {
        /// Threads at this barrier.
        waiting: usize,
        /// Threads that are not.
        elsewhere: usize,
    },
    /// Lanes of a warp instruction that do not all arrive.
    #[error("lanes {missing:#010x} of the mask {mask:#010x} do not arrive")]
    DivergentWarp {
        /// The mask of the instruction.
        mask: u32,
        /// Lanes in it that have ended or wait elsewhere.
        missing: u32,
    },
    /// A lane executes a warp instruction whose mask leaves it out.
    #[error("the mask {mask:#010x} leaves out the lane {lane} that executes it")]
    NotInMask {
        /// The mask.
        mask: u32,
        /// The lane.
        lane: u32,
    },
    /// A lane reads from one that takes no part.
    #[error("lane {lane} takes no part")]
    AbsentLane {
        /// The lane that is read.
        lane: u32,
    },
    /// Data of an asynchronous copy used before it is waited for.
    #[error("shared memory at offset {offset} is still being copied to")]
    InFlight {
        /// Offset in shared memory.
        offset: usize,
    },
    /// An integer divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// More instructions than any kernel here needs.
    #[error("no end after {instructions} instructions of one thread")]
    Endless {
        /// Instructions of the thread.
        instructions: u64,
    },
    /// An instruction that must be the same for all threads of a warp.
    #[error("{what}")]
    Other {
        /// What is wrong.
        what: String,
    },
}
