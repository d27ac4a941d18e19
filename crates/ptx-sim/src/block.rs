//! The execution of blocks: threads one after another in a drawn order, until each has ended or waits.

mod access;
mod warp;

use crate::alu;
use crate::device::{Device, Launch, Work};
use crate::error::{Fault, FaultKind, Space};
use crate::float::mix;
use crate::instruction::{
    Binary, Instruction, Operand, Operation, Precision, Special, Target, Type,
};
use crate::memory::{Access, Memory};
use crate::module::Kernel;

/// Instructions of one thread at a stretch: others get their turn, which ends loops that wait for them.
const STRETCH: u64 = 100_000;
/// Generic addresses below this are of shared memory.
const GLOBAL: u64 = 1 << 32;

/// A kernel with what it is launched with.
pub(crate) struct Grid<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) launch: Launch,
    /// The bytes of each parameter.
    pub(crate) parameters: Vec<Vec<u8>>,
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
            let most = self.grid.launch.most_instructions;
            if self.threads[thread].instructions > most {
                let kind = FaultKind::Endless { instructions: most };
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
}

/// Where a thread goes on.
enum Next {
    Following,
    To(usize),
    Wait(State),
}
