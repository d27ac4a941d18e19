//! Instructions by which threads meet: atomics, barriers, shuffles and asynchronous copies.

use super::Given;
use crate::instruction::{Atomic, Operation, Shuffle};
use crate::operand::{Decoded, Written};

impl Given<'_, '_> {
    pub(super) fn atomic(&mut self) -> Decoded<Operation> {
        let place = self.place();
        let of = self.need(&[
            ("add", Atomic::Add),
            ("min", Atomic::Min),
            ("max", Atomic::Max),
            ("exch", Atomic::Exchange),
            ("cas", Atomic::CompareSwap),
            ("and", Atomic::And),
            ("or", Atomic::Or),
            ("xor", Atomic::Xor),
        ])?;
        self.drop_orders();
        let ty = self.ty()?;
        let to = if self.name == "red" {
            None
        } else {
            match self.written()? {
                Written::Word(word) => self.target_of(word)?,
                other => return Err(format!("{other:?} is no register")),
            }
        };
        let address = self.address()?;
        let first = Some(self.operand()?);
        let second = if of == Atomic::CompareSwap { Some(self.operand()?) } else { None };
        Ok(Operation::Atomic { of, place, ty, to, address, from: [first, second] })
    }

    pub(super) fn barrier(&mut self) -> Decoded<Operation> {
        self.has("aligned");
        self.has("cta");
        let warp = self.has("warp");
        self.synchronous()?;
        let operand = self.operand()?;
        if warp {
            return Ok(Operation::WarpBarrier { mask: operand });
        }
        if self.more() {
            return Err("a barrier of a number of threads is not known".into());
        }
        Ok(Operation::Barrier { id: operand })
    }

    pub(super) fn shuffle(&mut self) -> Decoded<Operation> {
        let of = self.need(&[
            ("up", Shuffle::Up),
            ("down", Shuffle::Down),
            ("bfly", Shuffle::Butterfly),
            ("idx", Shuffle::Index),
        ])?;
        self.synchronous()?;
        self.ty()?;
        let (to, valid) = match self.written()? {
            Written::Word(word) => (self.names.register(word)?, None),
            Written::Pair(word, valid) => (self.names.register(word)?, self.target_of(valid)?),
            other => return Err(format!("{other:?} is no register")),
        };
        let (from, mask) = (self.operands()?, self.operand()?);
        Ok(Operation::Shuffle { of, to, valid, from, mask })
    }

    pub(super) fn copy(&mut self) -> Decoded<Operation> {
        if !self.has("async") {
            return Err("of cp only cp.async is known".into());
        }
        if self.has("commit_group") {
            return Ok(Operation::CopyCommit);
        }
        if self.has("wait_all") {
            return Ok(Operation::CopyWait { left: 0 });
        }
        if self.has("wait_group") {
            return Ok(Operation::CopyWait { left: self.constant()? as usize });
        }
        let wide = self.has("cg");
        self.drop_orders();
        if !(self.has("shared") || self.has("shared::cta")) || !self.has("global") {
            return Err("cp.async goes from .global to .shared".into());
        }
        let (to, from) = (self.address()?, self.address()?);
        let bytes = self.constant()? as usize;
        if !matches!((bytes, wide), (4 | 8, false) | (16, _)) {
            return Err("cp.async copies 4, 8 or 16 bytes, .cg 16".into());
        }
        let size = if self.more() { Some(self.operand()?) } else { None };
        Ok(Operation::CopyAsync { bytes, to, from, size })
    }
}
