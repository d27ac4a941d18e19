//! Files of named numeric arrays, such as features or pictures: `.safetensors`, `.npz` and `.npy`.
//!
//! Arrays are read in blocks of rows, so that memory follows the block and not the file. As in the readers of image sets, no size
//! that a header promises is believed before the bytes are there.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use crate::error::{begins, one_line, place};
use crate::read::{Input, npy, npz, open_for_reading, safetensors};
use crate::{Error, Result};

/// A file of arrays, opened and listed; its values are still on disk.
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    container: Container,
    arrays: Vec<ArrayInfo>,
    /// Names of arrays that cannot be read; why not is said to whoever asks for one.
    odd: Vec<String>,
}

/// What holds the arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Safetensors,
    Npz,
    Npy,
}

/// One array of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayInfo {
    /// Its name; the array of a `.npy` file has none of its own and is called by the file's stem.
    pub name: String,
    /// Its sizes, row-major; the first counts the rows.
    pub shape: Vec<usize>,
    /// What its values are.
    pub element: ElementType,
    /// Where its first byte stands in a `.safetensors` file.
    pub(crate) offset: u64,
}

impl ArrayInfo {
    /// Rows: the first size, or one for a single number.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values in a row; `None` if that is no number of this machine.
    pub fn row_len(&self) -> Option<usize> {
        self.shape.iter().skip(1).try_fold(1usize, |len, size| len.checked_mul(*size))
    }
}

/// Type and byte order of an array's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    pub(crate) kind: Kind,
    pub(crate) size: usize,
    pub(crate) big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Float,
    Brain,
    Signed,
    Unsigned,
}

impl ElementType {
    /// Whether values are 8-bit numbers without a sign, as pictures have them.
    pub fn is_u8(self) -> bool {
        self.kind == Kind::Unsigned && self.size == 1
    }

    /// Whether values are whole numbers.
    pub fn is_integer(self) -> bool {
        matches!(self.kind, Kind::Signed | Kind::Unsigned)
    }

    /// Whether `f32` holds every value of this type.
    fn fits_f32(self) -> bool {
        match self.kind {
            Kind::Float | Kind::Brain => self.size <= 4,
            Kind::Signed | Kind::Unsigned => self.size <= 2,
        }
    }

    fn little_endian(self, bytes: &[u8]) -> [u8; 8] {
        let mut ordered = [0; 8];
        ordered[..self.size].copy_from_slice(bytes);
        if self.big_endian {
            ordered[..self.size].reverse();
        }
        ordered
    }

    fn f32(self, bytes: &[u8]) -> f32 {
        let b = self.little_endian(bytes);
        match (self.kind, self.size) {
            (Kind::Float, 4) => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            (Kind::Float, _) => half::f16::from_le_bytes([b[0], b[1]]).to_f32(),
            (Kind::Brain, _) => half::bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            _ => self.integer(bytes) as f32,
        }
    }

    fn f64(self, bytes: &[u8]) -> f64 {
        match (self.kind, self.size) {
            (Kind::Float, 8) => f64::from_le_bytes(self.little_endian(bytes)),
            (Kind::Unsigned, 8) => u64::from_le_bytes(self.little_endian(bytes)) as f64,
            (Kind::Signed | Kind::Unsigned, _) => self.integer(bytes) as f64,
            _ => f64::from(self.f32(bytes)),
        }
    }

    /// A value beyond `i64` becomes `i64::MAX`.
    pub(crate) fn integer(self, bytes: &[u8]) -> i64 {
        let value = u64::from_le_bytes(self.little_endian(bytes));
        if self.kind == Kind::Signed {
            let unused = 64 - 8 * self.size as u32;
            return (value << unused) as i64 >> unused;
        }
        i64::try_from(value).unwrap_or(i64::MAX)
    }
}

/// Rows of an array: half and single precision and small integers as `f32`, everything else as `f64`.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// `[rows, row_len]`, row-major.
    F32(Vec<f32>),
    /// `[rows, row_len]`, row-major.
    F64(Vec<f64>),
}

impl Block {
    /// The values as `f64`.
    pub fn into_f64(self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.into_iter().map(f64::from).collect(),
            Self::F64(values) => values,
        }
    }
}

impl ArrayFile {
    /// Opens and lists a file; what it is shows in its first bytes.
    ///
    /// # Errors
    /// One line that names the file and the mend if it cannot be read, is truncated, or is none of the three formats.
    pub fn open(path: &Path) -> Result<Self> {
        let file = place(path);
        let mut reader = open_for_reading(path)?;
        let io = |source| Error::Io { file: file.clone(), action: "read", source };
        if reader.metadata().map_err(io)?.is_dir() {
            return Err(Error::NotArrays { file, detail: "it is a folder".into() });
        }
        let mut head = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut reader, 9), &mut head)
            .map_err(io)?;
        reader.rewind().map_err(io)?;
        let (container, (arrays, odd)) = if head.starts_with(npy::MAGIC) {
            (Container::Npy, (vec![Self::npy_info(path, reader)?], Vec::new()))
        } else if head.starts_with(b"PK") {
            (Container::Npz, npz_infos(path, reader)?)
        } else if head.get(8) == Some(&b'{') {
            (Container::Safetensors, (safetensors::arrays(&file, reader)?, Vec::new()))
        } else {
            let detail = format!("it begins with {}", begins(&head));
            return Err(Error::NotArrays { file, detail });
        };
        Ok(Self { path: path.to_path_buf(), container, arrays, odd })
    }

    fn npy_info(path: &Path, reader: File) -> Result<ArrayInfo> {
        let file = place(path);
        let io = |source| Error::Io { file: file.clone(), action: "read", source };
        let found = reader.metadata().map_err(io)?.len();
        let mut input = Input::plain(file.clone(), reader);
        let header = npy::header(&mut input)?;
        let name =
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let info = info(&file, one_line(&name), &header)?;
        let values = info.shape.iter().fold(1u128, |n, size| n.saturating_mul(*size as u128));
        let bytes = values.saturating_mul(info.element.size as u128);
        let expected = bytes.saturating_add(u128::from(input.read()));
        match u128::from(found).cmp(&expected) {
            Ordering::Less => Err(Error::Truncated { file, expected, found }),
            Ordering::Equal => Ok(info),
            Ordering::Greater => Err(Error::TooLong { file, expected }),
        }
    }

    /// The place of the file, for messages.
    pub fn file(&self) -> String {
        place(&self.path)
    }

    /// What the file holds that can be read, by name.
    pub fn arrays(&self) -> &[ArrayInfo] {
        &self.arrays
    }

    /// Whether the file holds one array without a name of its own.
    pub fn is_nameless(&self) -> bool {
        self.container == Container::Npy
    }

    /// Whether the file holds an array of that name, readable or not.
    pub fn holds(&self, name: &str) -> bool {
        self.arrays.iter().any(|array| array.name == name) || self.odd.iter().any(|n| n == name)
    }

    /// The array of that name; the one of a `.npy` file, whatever the name.
    ///
    /// # Errors
    /// [`Error::UnknownArray`] lists what there is; [`Error::Unsupported`] or [`Error::Damaged`] if it is there and cannot be read.
    pub fn find(&self, name: &str) -> Result<&ArrayInfo> {
        if self.odd.iter().any(|odd| odd == name) {
            npz_info(&self.file(), &mut npz::archive(&self.path)?, name)?;
        }
        let found = match self.container {
            Container::Npy => self.arrays.first(),
            _ => self.arrays.iter().find(|array| array.name == name),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.arrays.iter().map(|array| array.name.as_str()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Error::UnknownArray { file: self.file(), name: one_line(name), known }
        })
    }

    /// Hands the array to `f` in blocks of at most `rows` rows (at least one), each with the index of its first row. An array whose
    /// rows are empty has no blocks.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::TooLong`], [`Error::Damaged`] if the bytes are not those the header promises; whatever `f` fails
    /// with.
    pub fn each_block<E: From<Error>>(
        &self,
        array: &ArrayInfo,
        rows: usize,
        mut f: impl FnMut(usize, Block) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.container {
            Container::Npz => {
                let mut archive = npz::archive(&self.path)?;
                let file = self.file();
                let mut input = npz::array(&file, &mut archive, &array.name)?;
                npy::header(&mut input)?;
                blocks(input, array, rows, true, &mut f)
            }
            Container::Npy => {
                let mut input = Input::plain(self.file(), open_for_reading(&self.path)?);
                npy::header(&mut input)?;
                blocks(input, array, rows, true, &mut f)
            }
            Container::Safetensors => {
                let file = format!("{}:{}", self.file(), array.name);
                let mut reader = open_for_reading(&self.path)?;
                reader.seek(SeekFrom::Start(array.offset)).map_err(|source| Error::Io {
                    file: file.clone(),
                    action: "read",
                    source,
                })?;
                blocks(Input::plain(file, reader), array, rows, false, &mut f)
            }
        }
    }

    /// An array of whole numbers, `[n]` or `[n, 1]`, such as labels. Values beyond `i64` become `i64::MAX`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type or shape; those of [`ArrayFile::each_block`].
    pub fn integers(&self, array: &ArrayInfo) -> Result<Vec<i64>> {
        let unsupported = |found, mend| Error::Unsupported {
            file: format!("{}:{}", self.file(), array.name),
            found,
            mend,
        };
        if !array.element.is_integer() {
            return Err(unsupported(
                "labels that are no integers".into(),
                "store labels as integers",
            ));
        }
        if !matches!(array.shape[..], [_] | [_, 1]) {
            let found = format!("labels of shape {:?}", array.shape);
            return Err(unsupported(found, "store one class index per row"));
        }
        let mut labels = Vec::new();
        // Values of 64 bits pass through f64, which holds every index below 2^53; beyond, no label is one.
        self.each_block(array, LABELS_AT_ONCE, |_, block| -> Result<()> {
            labels.extend(block.into_f64().into_iter().map(|value| value as i64));
            Ok(())
        })?;
        Ok(labels)
    }
}

const LABELS_AT_ONCE: usize = 1 << 16;

/// Sizes, type and order that a header names, if they are of a kind that is read here.
fn info(file: &str, name: String, header: &npy::Header) -> Result<ArrayInfo> {
    let unsupported = |found, mend| Error::Unsupported { file: file.to_owned(), found, mend };
    let element = npy::element(&header.descr).ok_or_else(|| {
        let found = format!("elements of type {}", one_line(&header.descr));
        unsupported(found, "store floats or integers")
    })?;
    if header.fortran_order && header.shape.len() > 1 {
        let found = "an array in Fortran order".into();
        return Err(unsupported(found, "store numpy.ascontiguousarray of it"));
    }
    let shape: Option<Vec<usize>> =
        header.shape.iter().map(|size| usize::try_from(*size).ok()).collect();
    let shape = shape.ok_or_else(|| {
        unsupported(format!("an array of shape {:?}", header.shape), "store a smaller one")
    })?;
    Ok(ArrayInfo { name, shape, element, offset: 0 })
}

/// The arrays of an archive, and the names of those that cannot be read: an odd one beside the numbers is in nobody's way.
fn npz_infos(path: &Path, reader: File) -> Result<(Vec<ArrayInfo>, Vec<String>)> {
    let file = place(path);
    let mut archive = npz::archive_of(&file, reader)?;
    let (mut arrays, mut odd) = (Vec::new(), Vec::new());
    for name in npz::names(&archive) {
        match npz_info(&file, &mut archive, &name) {
            Ok(info) => arrays.push(info),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => odd.push(name),
        }
    }
    Ok((arrays, odd))
}

fn npz_info(file: &str, archive: &mut Archive, name: &str) -> Result<ArrayInfo> {
    let mut input = npz::array(file, archive, name)?;
    let header = npy::header(&mut input)?;
    info(&input.file, name.to_owned(), &header)
}

/// Reads an array's values from where they begin.
fn blocks<E: From<Error>>(
    mut input: Input<'_>,
    array: &ArrayInfo,
    rows: usize,
    to_the_end: bool,
    f: &mut impl FnMut(usize, Block) -> Result<(), E>,
) -> Result<(), E> {
    let size = array.element.size;
    let due = |rows: usize| {
        let values = array.row_len().map_or(u128::MAX, |len| len as u128);
        values.saturating_mul(rows as u128).saturating_mul(size as u128)
    };
    // Rows of nothing cost no bytes, so the file's length sets no limit to how many a header may claim.
    let total = if array.row_len() == Some(0) { 0 } else { array.rows() };
    let mut row = 0;
    while row < total {
        let count = rows.max(1).min(total - row);
        let bytes = input.exactly(due(count))?;
        let values = bytes.chunks_exact(size);
        let block = if array.element.fits_f32() {
            Block::F32(values.map(|value| array.element.f32(value)).collect())
        } else {
            Block::F64(values.map(|value| array.element.f64(value)).collect())
        };
        f(row, block)?;
        row += count;
    }
    if to_the_end {
        input.end()?;
    }
    Ok(())
}

/// An archive on disk; its entries are read one at a time.
pub(crate) type Archive = ZipArchive<std::io::BufReader<File>>;
