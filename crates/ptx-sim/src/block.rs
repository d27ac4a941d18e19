//! The execution of blocks: threads one after another in a drawn order, until each has ended or waits.

use crate::alu;
use crate::device::{Device, Launch, Work};
use crate::error::{Fault, FaultKind, Space};
use crate::float::mix;
use crate::instruction::{
    Address, Atomic, Binary, Instruction, Operand, Operation, Place, Precision, Shuffle, Special,
    Target, Type, Vote,
};
use crate::memory::{Access, Memory};
use crate::module::{DECLARED, EXTERNAL, Kernel};

/// Instructions of one thread after which it is taken to never end.
const MOST_INSTRUCTIONS: u64 = 50_000_000;
/// Instructions of one thread at a stretch: others get their turn, which ends loops that wait for them.
const STRETCH: u64 = 100_000;
/// Generic addresses below this are of shared memory.
const GLOBAL: u64 = 1 << 32;

/// A kernel with what it is launched with.
pub(crate) struct Grid<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) launch: Launch,
    pub(crate) parameters: Vec<u8>,
}

/// Runs every block, in a drawn order.
pub(crate) fn run(grid: &Grid<'_>, device: &mut Device) -> Result<Work, Box<Fault>> {
    let [x, y, z] = grid.launch.grid.map(u64::from);
    let mut work = Work::default();
    let mut shared = [grid.kernel.shared, grid.launch.shared_bytes]
        .map(|bytes| Memory::unwritten(Space::Shared, bytes, 1));
    for index in permutation((x * y * z) as usize, grid.launch.seed) {
        shared.iter_mut().for_each(Memory::forget);
        let at = index as u64;
        let place = [(at % x) as u32, (at / x % y) as u32, (at / x / y) as u32];
        Block::new(grid, device, &mut shared, place, index as u32, &mut work).run()?;
    }
    Ok(work)
}

/// `0..n` in an order that the seed draws.
fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for at in (1..n).rev() {
        order.swap(at, (mix(seed ^ mix(at as u64)) % (at as u64 + 1)) as usize);
    }
    order
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// At a barrier of the block.
    Barrier(u64),
    /// At an instruction that the lanes of a mask execute together.
    Warp(u32),
    Ended,
}

/// Bytes that are on their way to shared memory, and those of them that come from `values`; the others are zero.
#[derive(Debug, Clone)]
struct Copy {
    to: u64,
    values: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Thread {
    at: usize,
    state: State,
    instructions: u64,
    epoch: u32,
    warp_epoch: u32,
    /// Copies since the last commit.
    open: Vec<Copy>,
    /// Groups that were committed, the oldest first.
    groups: Vec<Vec<Copy>>,
}

struct Block<'a> {
    grid: &'a Grid<'a>,
    device: &'a mut Device,
    /// What the text declares, and what the launch adds.
    shared: &'a mut [Memory; 2],
    place: [u32; 3],
    index: u32,
    threads: Vec<Thread>,
    registers: Vec<u64>,
    set: Vec<bool>,
    work: &'a mut Work,
}

type Executed<T> = Result<T, FaultKind>;

impl<'a> Block<'a> {
    fn new(
        grid: &'a Grid<'a>,
        device: &'a mut Device,
        shared: &'a mut [Memory; 2],
        place: [u32; 3],
        index: u32,
        work: &'a mut Work,
    ) -> Self {
        let threads = grid.launch.block.iter().product::<u32>() as usize;
        let cells = threads * grid.kernel.registers.len();
        let thread = Thread {
            at: 0,
            state: State::Ready,
            instructions: 0,
            epoch: 0,
            warp_epoch: 0,
            open: Vec::new(),
            groups: Vec::new(),
        };
        let threads = vec![thread; threads];
        let (registers, set) = (vec![0; cells], vec![false; cells]);
        Self { grid, device, shared, place, index, threads, registers, set, work }
    }

    fn run(mut self) -> Result<(), Box<Fault>> {
        for round in 0_u64.. {
            let seed = mix(self.grid.launch.seed ^ mix(u64::from(self.index) << 32 | round));
            let mut moved = false;
            for thread in permutation(self.threads.len(), seed) {
                if self.threads[thread].state == State::Ready {
                    moved = true;
                    self.advance(thread)?;
                }
            }
            moved |= self.release_warps()?;
            moved |= self.release_barrier()?;
            if self.threads.iter().all(|thread| thread.state == State::Ended) {
                return Ok(());
            }
            if !moved {
                return Err(self.stuck());
            }
        }
        Ok(())
    }

    /// The first thread that waits for ever, and for whom.
    fn stuck(&self) -> Box<Fault> {
        let (mut thread, mut kind) = (0, FaultKind::Other { what: "nothing moves".into() });
        if let Some(at) = self.threads.iter().position(|t| matches!(t.state, State::Warp(_)))
            && let State::Warp(mask) = self.threads[at].state
        {
            let missing = self.missing(at, mask);
            (thread, kind) = (at, FaultKind::DivergentWarp { mask, missing });
        } else if let Some(at) =
            self.threads.iter().position(|t| matches!(t.state, State::Barrier(_)))
        {
            let here = &self.threads[at];
            let same = |t: &&Thread| t.state == here.state && t.at == here.at;
            let waiting = self.threads.iter().filter(same).count();
            let elsewhere = self.threads.len() - waiting;
            (thread, kind) = (at, FaultKind::DivergentBarrier { waiting, elsewhere });
        }
        self.fault(thread, kind)
    }

    fn fault(&self, thread: usize, kind: FaultKind) -> Box<Fault> {
        let kernel = self.grid.kernel;
        let line = kernel
            .instructions
            .get(self.threads[thread].at)
            .or(kernel.instructions.last())
            .map_or(0, |instruction| instruction.line);
        let text = kernel.lines.get(line.wrapping_sub(1)).map_or("", |text| text.trim());
        Box::new(Fault {
            kernel: kernel.name.clone(),
            line,
            text: text.to_owned(),
            block: self.place,
            thread: self.thread_place(thread),
            kind,
        })
    }

    fn thread_place(&self, thread: usize) -> [u32; 3] {
        let ([x, y, _], thread) = (self.grid.launch.block, thread as u32);
        [thread % x, thread / x % y, thread / x / y]
    }

    /// Runs a thread until it ends, waits, or has had its turn.
    fn advance(&mut self, thread: usize) -> Result<(), Box<Fault>> {
        let kernel = self.grid.kernel;
        for _ in 0..STRETCH {
            let at = self.threads[thread].at;
            let Some(instruction) = kernel.instructions.get(at) else {
                self.threads[thread].state = State::Ended;
                return Ok(());
            };
            self.work.instructions += 1;
            self.threads[thread].instructions += 1;
            if self.threads[thread].instructions > MOST_INSTRUCTIONS {
                let kind = FaultKind::Endless { instructions: MOST_INSTRUCTIONS };
                return Err(self.fault(thread, kind));
            }
            let step = self.step(thread, instruction);
            match step.map_err(|kind| self.fault(thread, kind))? {
                Next::Following => self.threads[thread].at += 1,
                Next::To(at) => self.threads[thread].at = at,
                Next::Wait(state) => {
                    self.threads[thread].state = state;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, thread: usize, instruction: &Instruction) -> Executed<Next> {
        if let Some((register, wanted)) = instruction.guard {
            let found = self.value(thread, Operand::Register(register))? != 0;
            if found != wanted {
                return Ok(Next::Following);
            }
        }
        self.execute(thread, &instruction.operation)
    }

    fn value(&self, thread: usize, operand: Operand) -> Executed<u64> {
        let cell = |register: u16| {
            let at = thread * self.grid.kernel.registers.len() + usize::from(register);
            if self.set[at] {
                Ok(self.registers[at])
            } else {
                let name = self.grid.kernel.registers[usize::from(register)].clone();
                Err(FaultKind::UnsetRegister { name })
            }
        };
        match operand {
            Operand::Register(register) => cell(register),
            Operand::Not(register) => cell(register).map(|value| u64::from(value == 0)),
            Operand::Bits(bits) => Ok(bits),
            Operand::Special(special) => Ok(u64::from(self.special(thread, special))),
        }
    }

    fn values<const N: usize>(&self, thread: usize, from: &[Operand; N]) -> Executed<[u64; N]> {
        let mut out = [0; N];
        for (out, operand) in out.iter_mut().zip(from) {
            *out = self.value(thread, *operand)?;
        }
        Ok(out)
    }

    fn special(&self, thread: usize, special: Special) -> u32 {
        let launch = &self.grid.launch;
        match special {
            Special::Thread(axis) => self.thread_place(thread)[usize::from(axis)],
            Special::Threads(axis) => launch.block[usize::from(axis)],
            Special::Block(axis) => self.place[usize::from(axis)],
            Special::Blocks(axis) => launch.grid[usize::from(axis)],
            Special::Lane => thread as u32 % 32,
            Special::Warp => thread as u32 / 32,
            Special::LaneMaskLt => (1 << (thread % 32)) - 1,
        }
    }

    fn set(&mut self, thread: usize, register: u16, value: u64) {
        let at = thread * self.grid.kernel.registers.len() + usize::from(register);
        self.registers[at] = value;
        self.set[at] = true;
    }

    fn set_target(&mut self, thread: usize, target: Target, value: u64) {
        if let Some(register) = target {
            self.set(thread, register, value);
        }
    }

    fn access(&self, thread: usize) -> Access {
        let Thread { epoch, warp_epoch, .. } = self.threads[thread];
        Access { block: self.index, thread: thread as u32, epoch, warp_epoch, atomic: false }
    }

    fn seed(&self) -> u64 {
        self.grid.launch.seed
    }

    fn execute(&mut self, thread: usize, operation: &Operation) -> Executed<Next> {
        match operation {
            Operation::Move { ty, to, from } => {
                let value = self.value(thread, *from)? & ty.mask();
                self.set(thread, *to, value);
            }
            Operation::Pack { ty, to, parts } => {
                let bits = ty.bits() / parts.len() as u32;
                let mut packed = 0;
                for (at, part) in parts.iter().enumerate() {
                    let part = self.value(thread, *part)? & (u64::MAX >> (64 - bits));
                    packed |= part << (bits * at as u32);
                }
                self.set(thread, *to, packed);
            }
            Operation::Unpack { ty, to, from } => {
                let (value, bits) = (self.value(thread, *from)?, ty.bits() / to.len() as u32);
                for (at, target) in to.iter().enumerate() {
                    let part = (value >> (bits * at as u32)) & (u64::MAX >> (64 - bits));
                    self.set_target(thread, *target, part);
                }
            }
            Operation::Unary { of, ty, precision, to, from } => {
                let from = self.value(thread, *from)?;
                let value = alu::unary(*of, *ty, *precision, from, self.seed())?;
                self.set(thread, *to, value);
            }
            Operation::Binary { of, ty, precision, to, from } => {
                let from = self.values(thread, from)?;
                let value = alu::binary(*of, *ty, *precision, from, self.seed())?;
                self.set(thread, *to, value);
            }
            Operation::MulWide { ty, to, from } => {
                let value = alu::multiply_wide(*ty, self.values(thread, from)?);
                self.set(thread, *to, value);
            }
            Operation::MultiplyAdd { half, ty, to, from } => {
                let value = alu::multiply_add(*half, *ty, self.values(thread, from)?);
                self.set(thread, *to, value);
            }
            Operation::Fma { ty, precision, to, from } => {
                let value = alu::fma(*ty, *precision, self.values(thread, from)?)?;
                self.set(thread, *to, value);
            }
            Operation::BitExtract { ty, to, from } => {
                let value = alu::extract(*ty, self.values(thread, from)?);
                self.set(thread, *to, value);
            }
            Operation::BitInsert { ty, to, from } => {
                let value = alu::insert(*ty, self.values(thread, from)?);
                self.set(thread, *to, value);
            }
            Operation::Lookup { to, from, table } => {
                let value = alu::lookup(self.values(thread, from)?, *table);
                self.set(thread, *to, value);
            }
            Operation::Permute { to, from } => {
                let value = alu::permute(self.values(thread, from)?);
                self.set(thread, *to, value);
            }
            Operation::Convert { to_type, from_type, rounding, whole, precision, to, from } => {
                let from = self.value(thread, *from)?;
                let types = [*to_type, *from_type];
                let value = alu::convert(types, *rounding, *whole, *precision, from)?;
                self.set(thread, *to, value);
            }
            Operation::ConvertPair { to_type, to, from } => {
                let half = |bits| {
                    let rounding = crate::instruction::Rounding::Nearest;
                    let types = [*to_type, Type::F32];
                    alu::convert(types, rounding, false, Precision::default(), bits)
                };
                let [upper, lower] = self.values(thread, from)?;
                let value = half(upper)? << 16 | half(lower)?;
                self.set(thread, *to, value);
            }
            Operation::Compare { of, ty, flush, to, from, with } => {
                let found = alu::compare(*of, *ty, *flush, self.values(thread, from)?);
                let combine = |found: bool, other: bool, with: Binary| match with {
                    Binary::And => found & other,
                    Binary::Or => found | other,
                    _ => found ^ other,
                };
                let (mut yes, mut no) = (found, !found);
                if let Some((with, operand)) = with {
                    let other = self.value(thread, *operand)? != 0;
                    (yes, no) = (combine(yes, other, *with), combine(no, other, *with));
                }
                self.set_target(thread, to[0], u64::from(yes));
                self.set_target(thread, to[1], u64::from(no));
            }
            Operation::Select { ty, to, from, by } => {
                let from = from[usize::from(self.value(thread, *by)? == 0)];
                let value = self.value(thread, from)? & ty.mask();
                self.set(thread, *to, value);
            }
            Operation::Load { place, ty, to, address } => {
                self.load(thread, *place, *ty, to, *address)?
            }
            Operation::Store { place, ty, address, from } => {
                self.store(thread, *place, *ty, *address, from)?;
            }
            Operation::Atomic { of, place, ty, to, address, from } => {
                self.atomic(thread, (*of, *place, *ty), *to, *address, from)?;
            }
            Operation::Branch { to } => return Ok(Next::To(*to)),
            Operation::Exit => {
                if self.threads[thread]
                    .open
                    .iter()
                    .chain(self.threads[thread].groups.iter().flatten())
                    .next()
                    .is_some()
                {
                    let what = "the thread ends while its copies are on their way".into();
                    return Err(FaultKind::Other { what });
                }
                return Ok(Next::Wait(State::Ended));
            }
            Operation::Barrier { id } => {
                return Ok(Next::Wait(State::Barrier(self.value(thread, *id)?)));
            }
            Operation::WarpBarrier { mask }
            | Operation::Shuffle { mask, .. }
            | Operation::Vote { mask, .. }
            | Operation::Reduce { mask, .. } => {
                let mask = self.value(thread, *mask)? as u32;
                let lane = thread as u32 % 32;
                if mask >> lane & 1 == 0 {
                    return Err(FaultKind::NotInMask { mask, lane });
                }
                return Ok(Next::Wait(State::Warp(mask)));
            }
            Operation::ActiveMask { to } => {
                // Which lanes run together is up to the hardware: the executing lane alone is always an allowed answer.
                self.set(thread, *to, 1 << (thread % 32));
            }
            Operation::CopyAsync { bytes, to, from, size } => {
                self.copy(thread, *bytes, *to, *from, *size)?;
            }
            Operation::CopyCommit => {
                let group = std::mem::take(&mut self.threads[thread].open);
                self.threads[thread].groups.push(group);
            }
            Operation::CopyWait { left } => self.wait_for_copies(thread, *left)?,
            Operation::Fence => {}
        }
        Ok(Next::Following)
    }

    fn address(&self, thread: usize, address: Address) -> Executed<u64> {
        Ok(self.value(thread, address.base)?.wrapping_add_signed(address.offset))
    }

    /// The shared memory that an address means, and the offset in it.
    fn shared_at(&mut self, address: u64) -> (&mut Memory, i64) {
        // A negative offset is near the beginning, not beyond the end.
        let address = i64::from(address as u32 as i32);
        let external = address >= EXTERNAL as i64;
        let base = if external { EXTERNAL } else { DECLARED };
        (&mut self.shared[usize::from(external)], address - base as i64)
    }

    fn resolve(place: Place, address: u64) -> Place {
        match place {
            Place::Generic if address < GLOBAL / 2 => Place::Shared,
            Place::Generic => Place::Global,
            place => place,
        }
    }

    fn read(
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
            Place::Parameter => {
                let (at, size) = (address as usize, self.grid.parameters.len());
                self.grid.parameters.get(at..at + bytes).map(<[u8]>::to_vec).ok_or_else(|| {
                    let what = format!("{bytes} bytes at {at} of {size} bytes of parameters");
                    FaultKind::Other { what }
                })
            }
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

    fn write(
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

    fn load(
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

    fn store(
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

    fn atomic(
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

    fn copy(
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

    fn wait_for_copies(&mut self, thread: usize, left: usize) -> Executed<()> {
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

    /// Lets the block go on where all its threads wait at one barrier.
    fn release_barrier(&mut self) -> Result<bool, Box<Fault>> {
        let State::Barrier(_) = self.threads[0].state else { return Ok(false) };
        let (state, at) = (self.threads[0].state, self.threads[0].at);
        if self.threads.iter().any(|thread| thread.state != state || thread.at != at) {
            return Ok(false);
        }
        self.work.barriers += 1;
        for thread in &mut self.threads {
            thread.epoch += 1;
            thread.state = State::Ready;
            thread.at += 1;
        }
        Ok(true)
    }

    /// Threads of a warp, by its first.
    fn warp_of(&self, thread: usize) -> std::ops::Range<usize> {
        let first = thread / 32 * 32;
        first..(first + 32).min(self.threads.len())
    }

    /// Lanes of the mask that have not ended and do not wait where this thread does, with its mask.
    fn missing(&self, thread: usize, mask: u32) -> u32 {
        let (warp, at) = (self.warp_of(thread), self.threads[thread].at);
        let waits = |other: &Thread| {
            other.state == State::Ended || (other.state == State::Warp(mask) && other.at == at)
        };
        let missing = warp
            .clone()
            .filter(|&other| mask >> (other % 32) & 1 == 1 && !waits(&self.threads[other]));
        missing.fold(0, |lanes, other| lanes | 1 << (other % 32))
    }

    /// Executes the warp instructions whose lanes have all arrived.
    fn release_warps(&mut self) -> Result<bool, Box<Fault>> {
        let mut released = false;
        for thread in 0..self.threads.len() {
            let State::Warp(mask) = self.threads[thread].state else { continue };
            if self.missing(thread, mask) != 0 {
                continue;
            }
            let lanes: Vec<usize> = self
                .warp_of(thread)
                .filter(|&other| self.threads[other].state == State::Warp(mask))
                .filter(|&other| mask >> (other % 32) & 1 == 1)
                .collect();
            self.together(&lanes).map_err(|(lane, kind)| self.fault(lane, kind))?;
            for lane in lanes {
                self.threads[lane].state = State::Ready;
                self.threads[lane].at += 1;
            }
            released = true;
        }
        Ok(released)
    }

    /// Executes the warp instruction at which the lanes wait.
    fn together(&mut self, lanes: &[usize]) -> Result<(), (usize, FaultKind)> {
        let kernel = self.grid.kernel;
        let operation = &kernel.instructions[self.threads[lanes[0]].at].operation;
        let each = |block: &Self, operand: Operand| {
            let value = |&lane: &usize| block.value(lane, operand).map_err(|kind| (lane, kind));
            lanes.iter().map(value).collect::<Result<Vec<u64>, _>>()
        };
        match operation {
            Operation::WarpBarrier { .. } => {
                let alive = self
                    .warp_of(lanes[0])
                    .filter(|&lane| self.threads[lane].state != State::Ended)
                    .count();
                // A part of a warp orders nothing with the rest, and is not counted.
                if alive == lanes.len() {
                    lanes.iter().for_each(|&lane| self.threads[lane].warp_epoch += 1);
                }
            }
            Operation::Shuffle { of, to, valid, from, .. } => {
                let [values, distances, clamps] =
                    [each(self, from[0])?, each(self, from[1])?, each(self, from[2])?];
                for (at, &lane) in lanes.iter().enumerate() {
                    let (source, inside) = shuffle_source(
                        *of,
                        lane as u32 % 32,
                        distances[at] as u32,
                        clamps[at] as u32,
                    );
                    let position = lanes.iter().position(|&other| other as u32 % 32 == source);
                    let Some(position) = position else {
                        return Err((lane, FaultKind::AbsentLane { lane: source }));
                    };
                    self.set(lane, *to, values[position] & 0xFFFF_FFFF);
                    self.set_target(lane, *valid, u64::from(inside));
                }
            }
            Operation::Vote { of, to, from, .. } => {
                let votes = each(self, *from)?;
                let ballot = lanes.iter().zip(&votes).fold(0_u64, |ballot, (&lane, &vote)| {
                    ballot | u64::from(vote != 0) << (lane % 32)
                });
                let result = match of {
                    Vote::Ballot => ballot,
                    Vote::All => u64::from(votes.iter().all(|&vote| vote != 0)),
                    Vote::Any => u64::from(votes.iter().any(|&vote| vote != 0)),
                    Vote::Uniform => u64::from(votes.iter().all(|vote| *vote == votes[0])),
                };
                lanes.iter().for_each(|&lane| self.set(lane, *to, result));
            }
            Operation::Reduce { of, ty, to, from, .. } => {
                let values = each(self, *from)?;
                let precision = Precision::default();
                let result = values[1..]
                    .iter()
                    .try_fold(values[0], |a, &b| alu::binary(*of, *ty, precision, [a, b], 0));
                let result = result.map_err(|kind| (lanes[0], kind))?;
                lanes.iter().for_each(|&lane| self.set(lane, *to, result));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where a thread goes on.
enum Next {
    Following,
    To(usize),
    Wait(State),
}

/// The lane that `shfl` reads, and whether it lies within the segment; if not, the lane reads itself.
fn shuffle_source(of: Shuffle, lane: u32, distance: u32, clamp: u32) -> (u32, bool) {
    let (distance, segment, bound) = (distance & 0x1F, clamp >> 8 & 0x1F, clamp & 0x1F);
    let last = (lane & segment) | (bound & !segment);
    let first = lane & segment;
    let (source, inside) = match of {
        Shuffle::Up => (lane.wrapping_sub(distance), lane as i32 - distance as i32 >= last as i32),
        Shuffle::Down => (lane + distance, lane + distance <= last),
        Shuffle::Butterfly => (lane ^ distance, lane ^ distance <= last),
        Shuffle::Index => {
            let source = first | (distance & !segment);
            (source, source <= last)
        }
    };
    if inside { (source, true) } else { (lane, false) }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}
