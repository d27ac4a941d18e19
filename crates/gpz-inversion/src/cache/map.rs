//! Numbers in a file without a name, mapped into memory.

use std::fs::File;
use std::io;
use std::path::Path;

use fs4::FileExt;
use memmap2::{MmapMut, MmapOptions};

/// Numbers that the system keeps in memory as long as there is room, and on the disk else.
#[derive(Debug)]
pub(super) struct Map(MmapMut);

impl Map {
    /// So many numbers, all zero, on the disk of a folder. Its room there is taken at once, as far as the file system does such a thing: a file
    /// with holes would end the process, by a signal, on a disk that has become full.
    pub(super) fn new(folder: &Path, len: usize) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<f32>()).ok_or(io::ErrorKind::FileTooLarge)?;
        let file: File = tempfile::tempfile_in(folder)?;
        FileExt::allocate(&file, bytes as u64)?;
        // Not every system's allocation lengthens a file that has a block of its own.
        file.set_len(bytes as u64)?;
        // SAFETY: the file is as long as the map. It has no name, and its only handle ends here: nobody else can write to it or make it shorter
        // while it is mapped.
        let map = unsafe { MmapOptions::new().len(bytes).map_mut(&file) }?;
        Ok(Map(map))
    }

    /// All numbers.
    pub(super) fn numbers(&self) -> &[f32] {
        // A map begins at a page, and has whole numbers.
        bytemuck::cast_slice(&self.0)
    }

    /// All numbers, to be written.
    pub(super) fn numbers_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}
