//! Buffers, and launches upon them.

use crate::block::{Grid, run};
use crate::error::{Error, FaultKind, Space};
use crate::memory::{Access, Memory};
use crate::module::Module;

mod sealed {
    pub trait Sealed {}
}

/// A number that buffers hold.
pub trait Element: Copy + sealed::Sealed {
    /// Its bytes.
    const BYTES: usize;
    /// Appends its bytes, the lowest first.
    fn put(self, bytes: &mut Vec<u8>);
    /// The number of `BYTES` bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($ty:ty),*) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const BYTES: usize = size_of::<$ty>();
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$ty>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    )*};
}

elements!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, half::f16, half::bf16);

/// A buffer of a device, by its place in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buffer(u32);

/// Buffers begin at multiples of this, so that no address of one is near another.
const SPACING: u64 = 1 << 32;

impl Buffer {
    /// Its address, as kernels see it.
    #[must_use]
    pub fn address(self) -> u64 {
        (u64::from(self.0) + 1) * SPACING
    }
}

/// An argument of a launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    bytes: Vec<u8>,
}

impl From<Buffer> for Arg {
    fn from(buffer: Buffer) -> Self {
        Self::from(buffer.address())
    }
}

impl<T: Element> From<T> for Arg {
    fn from(value: T) -> Self {
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        Self { bytes }
    }
}

/// The bytes of an array parameter.
impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

impl Arg {
    /// The address so many bytes into a buffer.
    #[must_use]
    pub fn inside(buffer: Buffer, bytes: u64) -> Self {
        Self::from(buffer.address() + bytes)
    }
}

/// How a kernel is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of the `.extern .shared` array.
    pub shared_bytes: usize,
    /// Decides the order of blocks and threads, and what approximations are off by.
    pub seed: u64,
    /// Instructions of one thread after which it is taken to never end.
    pub most_instructions: u64,
}

impl Launch {
    /// A launch without dynamic shared memory, seed 0, whose threads take no more than fifty million instructions.
    #[must_use]
    pub fn new(grid: [u32; 3], block: [u32; 3]) -> Self {
        Self { grid, block, shared_bytes: 0, seed: 0, most_instructions: 50_000_000 }
    }

    /// With so many instructions for a thread, for a test in which many loops do not end.
    #[must_use]
    pub fn at_most(self, most_instructions: u64) -> Self {
        Self { most_instructions, ..self }
    }

    /// With another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// With so many bytes for the `.extern .shared` array.
    #[must_use]
    pub fn shared(self, shared_bytes: usize) -> Self {
        Self { shared_bytes, ..self }
    }
}

/// What a launch did, counted over all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Work {
    /// Instructions executed, those whose guard was false among them.
    pub instructions: u64,
    /// Bytes loaded from global memory.
    pub global_read: u64,
    /// Bytes stored to global memory.
    pub global_written: u64,
    /// Bytes loaded from and stored to shared memory.
    pub shared_bytes: u64,
    /// Atomic operations.
    pub atomics: u64,
    /// Barriers of a block, each counted once.
    pub barriers: u64,
}

/// Global memory.
#[derive(Debug, Clone, Default)]
pub struct Device {
    buffers: Vec<Memory>,
    /// Places of released buffers.
    vacant: Vec<u32>,
}

impl Device {
    /// Without a buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, memory: Memory) -> Buffer {
        if let Some(place) = self.vacant.pop() {
            self.buffers[place as usize] = memory;
            return Buffer(place);
        }
        self.buffers.push(memory);
        // 2³² buffers do not fit into any memory.
        Buffer((self.buffers.len() - 1) as u32)
    }

    /// A buffer with values, for reading only.
    pub fn upload<T: Element>(&mut self, values: &[T]) -> Buffer {
        self.add(Memory::written(to_bytes(values), T::BYTES, true))
    }

    /// A buffer with values that a kernel may change.
    pub fn upload_mutable<T: Element>(&mut self, values: &[T]) -> Buffer {
        self.add(Memory::written(to_bytes(values), T::BYTES, false))
    }

    /// A buffer of so many elements that must be written before they are read, by a kernel or by [`read`](Self::read).
    pub fn unwritten<T: Element>(&mut self, elements: usize) -> Buffer {
        self.add(Memory::unwritten(Space::Global, elements * T::BYTES, T::BYTES))
    }

    /// Gives a buffer's memory back; whatever touches it afterwards is out of bounds.
    ///
    /// # Panics
    /// For a buffer of another device.
    pub fn release(&mut self, buffer: Buffer) {
        self.buffers[buffer.0 as usize] = Memory::unwritten(Space::Global, 0, 1);
        self.vacant.push(buffer.0);
    }

    /// Makes a buffer's contents unwritten, as those of a new one.
    ///
    /// # Panics
    /// For a buffer of another device.
    pub fn forget(&mut self, buffer: Buffer) {
        self.buffers[buffer.0 as usize].forget();
    }

    /// Copies bytes into a buffer, from a byte of it on.
    ///
    /// # Errors
    /// [`Error::Range`] if they do not lie within.
    ///
    /// # Panics
    /// For a buffer of another device.
    pub fn write_bytes(&mut self, buffer: Buffer, from: u64, bytes: &[u8]) -> Result<(), Error> {
        let memory = &mut self.buffers[buffer.0 as usize];
        let at = within(memory, from, bytes.len())?.start;
        memory.set(at, bytes);
        Ok(())
    }

    /// Bytes of a buffer, from one of them on.
    ///
    /// # Errors
    /// [`Error::Range`] if they do not lie within; [`Error::Unwritten`] names the first byte that nothing wrote.
    ///
    /// # Panics
    /// For a buffer of another device.
    pub fn read_bytes(&self, buffer: Buffer, from: u64, count: usize) -> Result<&[u8], Error> {
        let memory = &self.buffers[buffer.0 as usize];
        let range = within(memory, from, count)?;
        memory.range(range).map_err(|byte| Error::Unwritten { element: byte })
    }

    /// The values of a buffer.
    ///
    /// # Errors
    /// [`Error::Unwritten`] names the first element that no launch wrote; [`Error::ElementSize`].
    ///
    /// # Panics
    /// For a buffer of another device.
    pub fn read<T: Element>(&self, buffer: Buffer) -> Result<Vec<T>, Error> {
        let memory = &self.buffers[buffer.0 as usize];
        if let Some(byte) = memory.first_unwritten() {
            return Err(Error::Unwritten { element: byte / T::BYTES });
        }
        if !memory.size().is_multiple_of(T::BYTES) {
            return Err(Error::ElementSize { bytes: memory.size(), element: T::BYTES });
        }
        Ok(memory.bytes().chunks_exact(T::BYTES).map(T::get).collect())
    }

    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// [`Error::NoKernel`], [`Error::ArgumentCount`], [`Error::ArgumentSize`], [`Error::Launch`] before anything runs;
    /// [`Error::Fault`] for the first thing a thread does that no kernel may.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &str,
        launch: &Launch,
        args: &[Arg],
    ) -> Result<Work, Error> {
        let kernel = module.kernel(kernel)?;
        let name = || kernel.name.clone();
        if kernel.params.len() != args.len() {
            let (expected, found) = (kernel.params.len(), args.len());
            return Err(Error::ArgumentCount { kernel: name(), expected, found });
        }
        for (param, arg) in kernel.params.iter().zip(args) {
            if param.bytes != arg.bytes.len() {
                return Err(Error::ArgumentSize {
                    kernel: name(),
                    name: param.name.clone(),
                    expected: param.bytes,
                    found: arg.bytes.len(),
                });
            }
        }
        let parameters = args.iter().map(|arg| arg.bytes.clone()).collect();
        check_launch(kernel, launch).map_err(|what| Error::Launch { kernel: name(), what })?;
        self.buffers.iter_mut().for_each(Memory::forget_accesses);
        let grid = Grid { kernel, launch: *launch, parameters };
        run(&grid, self).map_err(Error::from)
    }

    /// The buffer that an address lies in or near, and the offset from its beginning.
    pub(crate) fn find(&mut self, address: u64) -> Result<(&mut Memory, i64), FaultKind> {
        // A little before a buffer's beginning is still that buffer's business.
        let nearest = (address + SPACING / 2) / SPACING;
        let found = nearest.checked_sub(1).and_then(|at| self.buffers.get_mut(at as usize));
        match found {
            Some(memory) => Ok((memory, address.wrapping_sub(nearest * SPACING) as i64)),
            None => Err(FaultKind::NoBuffer { space: Space::Global, address }),
        }
    }

    pub(crate) fn load(
        &mut self,
        address: u64,
        bytes: usize,
        align: usize,
        now: Access,
    ) -> Result<&[u8], FaultKind> {
        let (memory, offset) = self.find(address)?;
        memory.read(offset, bytes, align, now)
    }

    pub(crate) fn store(
        &mut self,
        address: u64,
        values: &[u8],
        align: usize,
        now: Access,
    ) -> Result<(), FaultKind> {
        let (memory, offset) = self.find(address)?;
        memory.write(offset, values, align, now)
    }
}

/// A range of a buffer's bytes, if it lies within.
fn within(memory: &Memory, from: u64, count: usize) -> Result<std::ops::Range<usize>, Error> {
    let size = memory.size();
    let start = usize::try_from(from).ok().filter(|start| *start <= size);
    match start.and_then(|start| Some(start..start.checked_add(count)?)) {
        Some(range) if range.end <= size => Ok(range),
        _ => Err(Error::Range { from, count, size }),
    }
}

fn to_bytes<T: Element>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * T::BYTES);
    values.iter().for_each(|value| value.put(&mut bytes));
    bytes
}

/// Limits of every device since sm_80.
fn check_launch(kernel: &crate::module::Kernel, launch: &Launch) -> Result<(), String> {
    const BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
    const THREADS: [u32; 3] = [1024, 1024, 64];
    const SHARED: usize = 163 << 10;
    let (grid, block) = (launch.grid, launch.block);
    let within = |of: [u32; 3], limit: [u32; 3]| {
        of.iter().zip(limit).all(|(n, most)| (1..=most).contains(n))
    };
    if !within(grid, BLOCKS) {
        return Err(format!("a grid of {grid:?} blocks; each must be from 1 to {BLOCKS:?}"));
    }
    if !within(block, THREADS) || block.iter().product::<u32>() > 1024 {
        return Err(format!("a block of {block:?} threads; 1 to 1024 are possible"));
    }
    if let Some(required) = kernel.required_threads.filter(|required| *required != block) {
        return Err(format!("a block of {block:?} threads, but the text requires {required:?}"));
    }
    // Each dimension by itself may exceed the text's as long as the product does not.
    if let Some(most) = kernel.max_threads
        && block.iter().product::<u32>() > most.iter().product::<u32>()
    {
        return Err(format!("a block of {block:?} threads, but the text allows {most:?}"));
    }
    let shared = kernel.shared + launch.shared_bytes;
    if shared > SHARED {
        return Err(format!("{shared} bytes of shared memory; {SHARED} are possible"));
    }
    Ok(())
}
