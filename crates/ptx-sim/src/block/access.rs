//! Loads, stores, atomics and asynchronous copies of a thread.

use super::{Block, Copy, Executed, GLOBAL};
use crate::alu;
use crate::error::{FaultKind, Space};
use crate::instruction::{Address, Atomic, Binary, Operand, Place, Precision, Target, Type};
use crate::memory::{Access, Memory};
use crate::module::{DECLARED, EXTERNAL, PARAMETER_SPACING};

impl Block<'_> {
    pub(super) fn address(&self, thread: usize, address: Address) -> Executed<u64> {
        Ok(self.value(thread, address.base)?.wrapping_add_signed(address.offset))
    }

    /// The shared memory that an address means, and the offset in it.
    pub(super) fn shared_at(&mut self, address: u64) -> (&mut Memory, i64) {
        // A negative offset is near the beginning, not beyond the end.
        let address = i64::from(address as u32 as i32);
        let external = address >= EXTERNAL as i64;
        let base = if external { EXTERNAL } else { DECLARED };
        (&mut self.shared[usize::from(external)], address - base as i64)
    }

    pub(super) fn resolve(place: Place, address: u64) -> Place {
        match place {
            Place::Generic if address < GLOBAL / 2 => Place::Shared,
            Place::Generic => Place::Global,
            place => place,
        }
    }

    pub(super) fn read(
        &mut self,
        thread: usize,
        place: Place,
        address: u64,
        bytes: usize,
        align: usize,
        atomic: bool,
    ) -> Executed<Vec<u8>> {
        let now = Access { atomic, ..self.access(thread) };
        match Self::resolve(place, address) {
            Place::Parameter => self.parameter(address, bytes, align),
            Place::Shared => {
                self.work.shared_bytes += bytes as u64;
                let (memory, offset) = self.shared_at(address);
                memory.read(offset, bytes, align, now).map(<[u8]>::to_vec)
            }
            _ => {
                self.work.global_read += bytes as u64;
                self.device.load(address, bytes, align, now).map(<[u8]>::to_vec)
            }
        }
    }

    /// Bytes of a parameter, which must be as aligned as an access of its kind has to be.
    fn parameter(&self, address: u64, bytes: usize, align: usize) -> Executed<Vec<u8>> {
        let space = Space::Parameter;
        let nearest = address.wrapping_add(PARAMETER_SPACING / 2) / PARAMETER_SPACING;
        let at = nearest.wrapping_sub(1) as usize;
        let (Some(values), Some(param)) =
            (self.grid.parameters.get(at), self.grid.kernel.params.get(at))
        else {
            return Err(FaultKind::NoBuffer { space, address });
        };
        let offset = address.wrapping_sub(nearest * PARAMETER_SPACING) as i64;
        let found = usize::try_from(offset).ok().and_then(|from| values.get(from..from + bytes));
        let Some(found) = found else {
            return Err(FaultKind::OutOfBounds { space, offset, bytes, size: values.len() });
        };
        if align > param.align || !(offset as usize).is_multiple_of(align) {
            return Err(FaultKind::Misaligned { offset, bytes });
        }
        Ok(found.to_vec())
    }

    pub(super) fn write(
        &mut self,
        thread: usize,
        place: Place,
        address: u64,
        values: &[u8],
        atomic: bool,
    ) -> Executed<()> {
        let now = Access { atomic, ..self.access(thread) };
        match Self::resolve(place, address) {
            Place::Parameter => {
                Err(FaultKind::Other { what: "parameters cannot be written".into() })
            }
            Place::Shared => {
                self.work.shared_bytes += values.len() as u64;
                let (memory, offset) = self.shared_at(address);
                memory.write(offset, values, values.len(), now)
            }
            _ => {
                self.work.global_written += values.len() as u64;
                self.device.store(address, values, values.len(), now)
            }
        }
    }

    pub(super) fn load(
        &mut self,
        thread: usize,
        place: Place,
        ty: Type,
        to: &[Target],
        address: Address,
    ) -> Executed<()> {
        let (address, size) = (self.address(thread, address)?, ty.bytes());
        let bytes = size * to.len();
        let values = self.read(thread, place, address, bytes, bytes, false)?;
        for (target, bytes) in to.iter().zip(values.chunks_exact(size)) {
            // A narrow signed number fills the register with its sign.
            let value = ty.integer(little_endian(bytes)) as u64;
            self.set_target(thread, *target, value);
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        thread: usize,
        place: Place,
        ty: Type,
        address: Address,
        from: &[Operand],
    ) -> Executed<()> {
        let (address, size) = (self.address(thread, address)?, ty.bytes());
        let mut bytes = Vec::with_capacity(size * from.len());
        for operand in from {
            let value = self.value(thread, *operand)?;
            bytes.extend_from_slice(&value.to_le_bytes()[..size]);
        }
        self.write(thread, place, address, &bytes, false)
    }

    pub(super) fn atomic(
        &mut self,
        thread: usize,
        (of, place, ty): (Atomic, Place, Type),
        to: Target,
        address: Address,
        from: &[Option<Operand>; 2],
    ) -> Executed<()> {
        let (address, size) = (self.address(thread, address)?, ty.bytes());
        let operand = |at: usize| from[at].map_or(Ok(0), |operand| self.value(thread, operand));
        let (first, second) = (operand(0)? & ty.mask(), operand(1)? & ty.mask());
        let old = little_endian(&self.read(thread, place, address, size, size, true)?);
        let by = |binary| alu::binary(binary, ty, Precision::default(), [old, first], 0);
        let new = match of {
            Atomic::Add => by(Binary::Add)?,
            Atomic::Min => by(Binary::Min)?,
            Atomic::Max => by(Binary::Max)?,
            Atomic::And => by(Binary::And)?,
            Atomic::Or => by(Binary::Or)?,
            Atomic::Xor => by(Binary::Xor)?,
            Atomic::Exchange => first,
            Atomic::CompareSwap if old == first => second,
            Atomic::CompareSwap => old,
        };
        self.work.atomics += 1;
        self.write(thread, place, address, &new.to_le_bytes()[..size], true)?;
        self.set_target(thread, to, old);
        Ok(())
    }

    pub(super) fn copy(
        &mut self,
        thread: usize,
        bytes: usize,
        to: Address,
        from: Address,
        size: Option<Operand>,
    ) -> Executed<()> {
        let (to, from) = (self.address(thread, to)?, self.address(thread, from)?);
        let size = match size {
            Some(size) => self.value(thread, size)? as usize,
            None => bytes,
        };
        if size > bytes {
            let what = format!("a copy of {bytes} bytes takes {size} from its source");
            return Err(FaultKind::Other { what });
        }
        let mut values = Vec::new();
        if size > 0 {
            values = self.read(thread, Place::Global, from, size, 1, false)?;
            if !from.is_multiple_of(bytes as u64) {
                return Err(FaultKind::Misaligned { offset: from as i64, bytes });
            }
        }
        values.resize(bytes, 0);
        let (memory, offset) = self.shared_at(to);
        memory.announce(offset, bytes)?;
        self.threads[thread].open.push(Copy { to, values });
        Ok(())
    }

    pub(super) fn wait_for_copies(&mut self, thread: usize, left: usize) -> Executed<()> {
        let now = self.access(thread);
        let groups = self.threads[thread].groups.len();
        let done: Vec<Vec<Copy>> =
            self.threads[thread].groups.drain(..groups.saturating_sub(left)).collect();
        for Copy { to, values } in done.into_iter().flatten() {
            self.work.shared_bytes += values.len() as u64;
            let (memory, offset) = self.shared_at(to);
            memory.arrive(offset, &values, now)?;
        }
        Ok(())
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
