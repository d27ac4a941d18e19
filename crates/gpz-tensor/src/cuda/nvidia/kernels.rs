//! Kernels' texts, assembled by the driver when they are first launched.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr;

use cudarc::driver::sys::{self, CUjit_option, CUresult};
use gpz_kernels::Kernel;

use super::context::{Context, words};
use crate::cuda::driver::{Argument, Failure, Outcome};

/// Bytes for what the assembler has to say.
const LOG_BYTES: usize = 8 << 10;

/// Kernels that were launched, by entry.
#[derive(Default)]
pub(super) struct Kernels(HashMap<&'static str, Assembled>);

#[derive(Clone, Copy)]
struct Assembled {
    module: sys::CUmodule,
    function: sys::CUfunction,
}

// SAFETY: the handles are names within CUDA, which takes them from any thread.
unsafe impl Send for Kernels {}

impl Kernels {
    /// The function of a kernel, in the context that is entered.
    pub(super) fn function(
        &mut self,
        context: &Context,
        kernel: &Kernel,
    ) -> Outcome<sys::CUfunction> {
        if let Some(known) = self.0.get(kernel.entry) {
            return Ok(known.function);
        }
        let assembled = assemble(context, kernel)?;
        self.0.insert(kernel.entry, assembled);
        Ok(assembled.function)
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// The context is entered, and the device does nothing any more.
    pub(super) unsafe fn empty(&mut self) {
        for (_, assembled) in self.0.drain() {
            // SAFETY: the module is this one's alone, and no kernel of it runs.
            unsafe { sys::cuModuleUnload(assembled.module) };
        }
    }
}

fn assemble(context: &Context, kernel: &Kernel) -> Outcome<Assembled> {
    let entry = kernel.entry;
    let no_text = |_| Failure::new(format!("kernel {entry}: a text has no zero bytes"));
    let (text, name) =
        (CString::new(kernel.text).map_err(no_text)?, CString::new(entry).map_err(no_text)?);

    let mut log = vec![0u8; LOG_BYTES];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // An option's value is a pointer, or a number in the place of one.
    let mut values: [*mut c_void; 2] =
        [log.as_mut_ptr().cast(), ptr::without_provenance_mut(LOG_BYTES)];
    let mut module = ptr::null_mut();
    // SAFETY: the text ends with a zero byte; there are two options and two values, and the log is as large as they say.
    let loaded = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            text.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    if loaded != CUresult::CUDA_SUCCESS {
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        let log = String::from_utf8_lossy(&log[..end]).trim().to_owned();
        // A device that was lost by earlier work says so here as well.
        context
            .check("cuModuleLoadDataEx", loaded)
            .map_err(|failure| explain(kernel, loaded, &log, failure))?;
    }
    let mut function = ptr::null_mut();
    // SAFETY: the module is loaded, and the name ends with a zero byte.
    let found = unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) };
    context.check("cuModuleGetFunction", found).inspect_err(|_| {
        // SAFETY: nobody else has the module.
        unsafe { sys::cuModuleUnload(module) };
    })?;
    Ok(Assembled { module, function })
}

/// Why a kernel could not be loaded.
fn explain(kernel: &Kernel, status: CUresult, log: &str, otherwise: Failure) -> Failure {
    let entry = kernel.entry;
    match status {
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            let version = kernel.text.lines().find_map(|line| line.strip_prefix(".version "));
            let driver = super::driver_version().map_or_else(
                || "the driver".to_owned(),
                |[major, minor]| format!("the driver, which is that of CUDA {major}.{minor},"),
            );
            Failure::new(format!(
                "{driver} is older than the language of kernel {entry}, PTX {}: a newer driver knows it",
                version.unwrap_or("of its version").trim()
            ))
        }
        CUresult::CUDA_ERROR_JIT_COMPILER_NOT_FOUND => Failure::new(format!(
            "kernel {entry} cannot be assembled: libnvidia-ptxjitcompiler.so.1 is missing, a part of the NVIDIA driver (Debian: \
             `libnvidia-ptxjitcompiler1`; Ubuntu: `libnvidia-compute-…`)"
        )),
        CUresult::CUDA_ERROR_INVALID_PTX
        | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_INVALID_IMAGE
        | CUresult::CUDA_ERROR_INVALID_SOURCE => {
            Failure::new(format!("kernel {entry} does not assemble: {}: {log}", words(status)))
        }
        _ => otherwise,
    }
}

/// What lies behind each of the pointers that a launch takes: a number's bytes, or none for bytes that lie elsewhere.
pub(super) fn slots(arguments: &[Argument<'_>]) -> Vec<u64> {
    let narrow = |bytes: [u8; 4]| {
        let mut slot = [0; 8];
        slot[..4].copy_from_slice(&bytes);
        u64::from_ne_bytes(slot)
    };
    let slot = |argument: &Argument<'_>| match *argument {
        Argument::Address(value) | Argument::U64(value) => value,
        Argument::U32(value) => narrow(value.to_ne_bytes()),
        Argument::F32(value) => narrow(value.to_ne_bytes()),
        Argument::F64(value) => value.to_bits(),
        Argument::Bytes(_) => 0,
    };
    arguments.iter().map(slot).collect()
}

/// Pointers to arguments, as a launch takes them.
pub(super) fn pointers(arguments: &[Argument<'_>], slots: &mut [u64]) -> Vec<*mut c_void> {
    let pairs = arguments.iter().zip(slots);
    pairs
        .map(|(argument, slot)| match *argument {
            Argument::Bytes(bytes) => bytes.as_ptr().cast_mut().cast(),
            _ => ptr::from_mut(slot).cast(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_to_what_a_kernel_reads() {
        let table = [7u8, 8, 9];
        let arguments = [
            Argument::Address(0x1234_5678_9abc_def0),
            Argument::U32(77),
            Argument::F32(-1.5),
            Argument::F64(0.1),
            Argument::U64(u64::MAX - 1),
            Argument::Bytes(&table),
        ];
        let mut slots = slots(&arguments);
        let pointers = pointers(&arguments, &mut slots);
        assert_eq!(pointers.len(), 6);
        // SAFETY: each pointer leads to a value of the type that was given.
        unsafe {
            assert_eq!(*pointers[0].cast::<u64>(), 0x1234_5678_9abc_def0);
            assert_eq!(*pointers[1].cast::<u32>(), 77);
            assert_eq!(*pointers[2].cast::<f32>(), -1.5);
            assert_eq!(*pointers[3].cast::<f64>(), 0.1);
            assert_eq!(*pointers[4].cast::<u64>(), u64::MAX - 1);
            assert_eq!(std::slice::from_raw_parts(pointers[5].cast::<u8>(), 3), table);
        }
    }
}
