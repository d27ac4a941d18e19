//! Memory that knows which of its bytes were written, and who touched them last.

use crate::error::{FaultKind, Space};

/// Who accesses, and when: what tells whether two accesses are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// The block, by its linear index.
    pub(crate) block: u32,
    /// The thread within it, by its linear index.
    pub(crate) thread: u32,
    /// Barriers of the block it has passed.
    pub(crate) epoch: u32,
    /// Barriers of its whole warp it has passed.
    pub(crate) warp_epoch: u32,
    /// Whether others may do the same at the same time.
    pub(crate) atomic: bool,
}

impl Access {
    /// Whether a barrier lies between an earlier access and this one, or no other thread is concerned.
    fn follows(self, earlier: Access) -> bool {
        earlier.block == self.block
            && (earlier.thread == self.thread
                || earlier.epoch < self.epoch
                || (earlier.thread / 32 == self.thread / 32
                    && earlier.warp_epoch < self.warp_epoch))
    }

    /// Whether a write and another access by these two would be a race.
    fn races(self, earlier: Access) -> bool {
        !(self.follows(earlier) || self.atomic && earlier.atomic)
    }
}

/// The last accesses to a place.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    write: Option<Access>,
    /// The last reader, and the last of another warp or at least another thread.
    reads: [Option<Access>; 2],
}

impl Track {
    fn read(&mut self, now: Access) -> Option<Access> {
        let race = self.write.filter(|write| now.races(*write));
        match self.reads[0] {
            Some(last) if last.block == now.block && last.thread == now.thread => {}
            Some(last) if self.reads[1].is_none() || last.thread / 32 != now.thread / 32 => {
                self.reads[1] = Some(last);
            }
            _ => {}
        }
        self.reads[0] = Some(now);
        race
    }

    fn write(&mut self, now: Access) -> Option<Access> {
        let mut others = self.write.into_iter().chain(self.reads.into_iter().flatten());
        let race = others.find(|earlier| now.races(*earlier));
        *self = Track { write: Some(now), reads: [None; 2] };
        race
    }
}

/// Bytes of one buffer, or of the shared memory of a block.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    space: Space,
    bytes: Vec<u8>,
    written: Vec<bool>,
    /// Bytes on their way by an asynchronous copy.
    in_flight: Vec<bool>,
    /// None where nothing may be written, and no two accesses can therefore race.
    tracks: Option<Vec<Track>>,
    /// Whether anything was accessed since accesses were last forgotten.
    accessed: bool,
    /// Bytes that are told apart when accesses are compared.
    granule: usize,
}

impl Memory {
    /// Bytes nobody has written, that may be.
    pub(crate) fn unwritten(space: Space, size: usize, granule: usize) -> Self {
        let in_flight = if space == Space::Shared { vec![false; size] } else { Vec::new() };
        Self {
            space,
            bytes: vec![0xCD; size],
            written: vec![false; size],
            in_flight,
            tracks: Some(vec![Track::default(); size.div_ceil(granule)]),
            accessed: false,
            granule,
        }
    }

    /// Bytes with values.
    pub(crate) fn written(bytes: Vec<u8>, granule: usize, read_only: bool) -> Self {
        let size = bytes.len();
        let tracks = (!read_only).then(|| vec![Track::default(); size.div_ceil(granule)]);
        let (written, in_flight) = (vec![true; size], Vec::new());
        let space = Space::Global;
        Self { space, bytes, written, in_flight, tracks, accessed: false, granule }
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// First byte that was never written.
    pub(crate) fn first_unwritten(&self) -> Option<usize> {
        self.written.iter().position(|written| !written)
    }

    /// Bytes of a range that lies within, or the first of them that was never written.
    pub(crate) fn range(&self, range: std::ops::Range<usize>) -> Result<&[u8], usize> {
        match self.written[range.clone()].iter().position(|written| !written) {
            Some(first) => Err(range.start + first),
            None => Ok(&self.bytes[range]),
        }
    }

    /// Writes from outside a launch; the range lies within.
    pub(crate) fn set(&mut self, at: usize, values: &[u8]) {
        self.bytes[at..at + values.len()].copy_from_slice(values);
        self.written[at..at + values.len()].fill(true);
    }

    /// Forgets who accessed what: a new launch comes after all that was before.
    pub(crate) fn forget_accesses(&mut self) {
        if std::mem::take(&mut self.accessed)
            && let Some(tracks) = &mut self.tracks
        {
            tracks.fill(Track::default());
        }
    }

    /// Makes all bytes unwritten, as a new block finds its shared memory.
    pub(crate) fn forget(&mut self) {
        self.written.fill(false);
        self.in_flight.fill(false);
        self.forget_accesses();
    }

    /// The place of an access, after checking it.
    fn place(&self, offset: i64, bytes: usize, align: usize) -> Result<usize, FaultKind> {
        let (space, size) = (self.space, self.size());
        match usize::try_from(offset) {
            Ok(at) if at.checked_add(bytes).is_some_and(|end| end <= size) => {
                if at.is_multiple_of(align) {
                    Ok(at)
                } else {
                    Err(FaultKind::Misaligned { offset, bytes: align })
                }
            }
            _ => Err(FaultKind::OutOfBounds { space, offset, bytes, size }),
        }
    }

    fn race(&self, at: usize, earlier: Access) -> FaultKind {
        let (offset, other, block) = (at, earlier.thread, earlier.block);
        FaultKind::Race { space: self.space, offset, other, block }
    }

    fn check_flight(&self, at: usize, bytes: usize) -> Result<(), FaultKind> {
        let copied = self.in_flight.get(at..at + bytes).unwrap_or_default();
        match copied.iter().position(|in_flight| *in_flight) {
            Some(first) => Err(FaultKind::InFlight { offset: at + first }),
            None => Ok(()),
        }
    }

    /// Reads `bytes`; `align` is what the address must be a multiple of.
    pub(crate) fn read(
        &mut self,
        offset: i64,
        bytes: usize,
        align: usize,
        now: Access,
    ) -> Result<&[u8], FaultKind> {
        let at = self.place(offset, bytes, align)?;
        self.check_flight(at, bytes)?;
        if let Some(first) = self.written[at..at + bytes].iter().position(|written| !written) {
            return Err(FaultKind::UnwrittenMemory { space: self.space, offset: at + first });
        }
        self.accessed = true;
        if let Some(tracks) = &mut self.tracks {
            for granule in at / self.granule..(at + bytes).div_ceil(self.granule) {
                if let Some(earlier) = tracks[granule].read(now) {
                    return Err(self.race(granule * self.granule, earlier));
                }
            }
        }
        Ok(&self.bytes[at..at + bytes])
    }

    /// Writes the bytes.
    pub(crate) fn write(
        &mut self,
        offset: i64,
        values: &[u8],
        align: usize,
        now: Access,
    ) -> Result<(), FaultKind> {
        let at = self.place(offset, values.len(), align)?;
        self.check_flight(at, values.len())?;
        self.put(at, values, now)
    }

    fn put(&mut self, at: usize, values: &[u8], now: Access) -> Result<(), FaultKind> {
        self.accessed = true;
        let Some(tracks) = &mut self.tracks else { return Err(FaultKind::ReadOnly) };
        for granule in at / self.granule..(at + values.len()).div_ceil(self.granule) {
            if let Some(earlier) = tracks[granule].write(now) {
                return Err(self.race(granule * self.granule, earlier));
            }
        }
        self.bytes[at..at + values.len()].copy_from_slice(values);
        self.written[at..at + values.len()].fill(true);
        Ok(())
    }

    /// Announces that bytes will be written by an asynchronous copy.
    pub(crate) fn announce(&mut self, offset: i64, bytes: usize) -> Result<(), FaultKind> {
        let at = self.place(offset, bytes, bytes)?;
        self.check_flight(at, bytes)?;
        self.in_flight[at..at + bytes].fill(true);
        Ok(())
    }

    /// The bytes arrive.
    pub(crate) fn arrive(
        &mut self,
        offset: i64,
        values: &[u8],
        now: Access,
    ) -> Result<(), FaultKind> {
        let at = self.place(offset, values.len(), values.len())?;
        self.in_flight[at..at + values.len()].fill(false);
        self.put(at, values, now)
    }
}
