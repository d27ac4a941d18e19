//! An interpreter for the subset of PTX that hand-written kernels use: it executes them where there is no GPU, and it is stricter than one.
//!
//! A GPU runs a kernel that reads a stale value, writes past a buffer into its neighbour, or works by the order in which warps happen to
//! be scheduled, and often the result looks right. Here each of these is an error that names the line, the block and the thread:
//!
//! - accesses outside a buffer, across its alignment, to memory that was never written, or that write what was given for reading;
//! - reads of registers that were never set;
//! - two threads that meet at a byte without a barrier between them, in shared or global memory, whatever the order of this run;
//! - barriers that a part of a block does not reach, warp instructions whose lanes do not all arrive, deadlock, endless loops;
//! - arguments of the wrong number or size, and outputs that were not written: [`Device::read`] refuses them.
//!
//! Threads are scheduled one by one in an order drawn from [`Launch::seed`], blocks too: results that depend on it differ between seeds.
//! Instructions marked `.approx` return the rounded value moved by up to their documented error, again by seed.
//!
//! What it does not know is an error when the text is read, never a wrong result: see [`Module::parse`].
//!
//! ```
//! use ptx_sim::{Arg, Device, Launch, Module};
//!
//! let module = Module::parse("
//!     .version 7.8
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry twice(.param .u64 p_x, .param .u64 p_out, .param .u32 p_n)
//!     {
//!         .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<5>; .reg .f32 %f<3>;
//!         ld.param.u64 %rd1, [p_x];
//!         ld.param.u64 %rd2, [p_out];
//!         ld.param.u32 %r1, [p_n];
//!         mov.u32 %r2, %tid.x;
//!         setp.ge.u32 %p1, %r2, %r1;
//!         @%p1 ret;
//!         mul.wide.u32 %rd3, %r2, 4;
//!         add.s64 %rd4, %rd1, %rd3;
//!         ld.global.f32 %f1, [%rd4];
//!         add.rn.f32 %f2, %f1, %f1;
//!         add.s64 %rd4, %rd2, %rd3;
//!         st.global.f32 [%rd4], %f2;
//!         ret;
//!     }")?;
//! let mut device = Device::new();
//! let x = device.upload(&[1.0_f32, 2.0, 3.0]);
//! let out = device.unwritten::<f32>(3);
//! let args = [Arg::from(x), Arg::from(out), Arg::from(3_u32)];
//! device.launch(&module, "twice", &Launch::new([1, 1, 1], [32, 1, 1]), &args)?;
//! assert_eq!(device.read::<f32>(out)?, [2.0, 4.0, 6.0]);
//! # Ok::<(), ptx_sim::Error>(())
//! ```

mod alu;
mod block;
mod decode;
mod device;
mod error;
mod float;
mod instruction;
mod memory;
mod module;
mod operand;
mod token;

pub use device::{Arg, Buffer, Device, Element, Launch, Work};
pub use error::{Error, Fault, FaultKind, Space};
pub use module::{Kernel, Module, Param};
