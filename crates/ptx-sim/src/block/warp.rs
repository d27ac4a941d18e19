//! Instructions that the lanes of a warp execute together.

use super::{Block, State, Thread};
use crate::alu;
use crate::error::{Fault, FaultKind};
use crate::instruction::{Operand, Operation, Precision, Shuffle, Vote};

impl Block<'_> {
    /// Threads of a warp, by its first.
    pub(super) fn warp_of(&self, thread: usize) -> std::ops::Range<usize> {
        let first = thread / 32 * 32;
        first..(first + 32).min(self.threads.len())
    }

    /// Lanes of the mask that have not ended and do not wait where this thread does, with its mask.
    pub(super) fn missing(&self, thread: usize, mask: u32) -> u32 {
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
    pub(super) fn release_warps(&mut self) -> Result<bool, Box<Fault>> {
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
    pub(super) fn together(&mut self, lanes: &[usize]) -> Result<(), (usize, FaultKind)> {
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
