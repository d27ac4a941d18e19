//! Features of images as a file, for whoever wants to look at what crosses the wire with other tools.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gpz_data::{Batch, ImageId, ImageSet};
use gpz_inversion::{Observer, pictures};
use gpz_models::Target;
use gpz_nn::{Tape, Var};
use serde_json::json;

use crate::error::{Error, Result};
use crate::training::EVALUATION_BATCH;
use crate::words::counted;

/// What is written of which images.
pub struct Features<'a> {
    target: &'a dyn Target,
    splits: Vec<usize>,
    sets: Vec<&'a dyn ImageSet>,
    /// Set and position of each image, in the order in which the images are stored.
    order: Vec<(usize, usize)>,
}

impl<'a> Features<'a> {
    /// Features of the images of `sets`, in the order in which the data set stores them, at `splits` (1-based, ascending).
    ///
    /// # Errors
    /// [`Error::NoSplits`]; [`Error::OtherClasses`] if the sets' labels do not mean the same.
    pub fn new(
        target: &'a dyn Target,
        splits: &[usize],
        sets: &[&'a dyn ImageSet],
    ) -> Result<Self> {
        let first = sets.first().ok_or(Error::NoSplits)?;
        if splits.is_empty() {
            return Err(Error::NoSplits);
        }
        if let Some(other) = sets.iter().find(|set| set.class_names() != first.class_names()) {
            return Err(Error::OtherClasses { part: other.part().name() });
        }
        let mut order: Vec<(ImageId, usize, usize)> = Vec::new();
        for (i, set) in sets.iter().enumerate() {
            order.extend((0..set.len()).map(|position| (set.id(position), i, position)));
        }
        order.sort_unstable();
        let order = order.into_iter().map(|(_, set, position)| (set, position)).collect();
        Ok(Features { target, splits: splits.to_vec(), sets: sets.to_vec(), order })
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.order.len()
    }

    /// Name and shape of each array that is written: `z` (or `z.<tap>` for several splits) `[n, ...]`, `y` `[n]`, `x` `[n, c, h, w]`.
    #[must_use]
    pub fn arrays(&self) -> Vec<(String, Vec<usize>)> {
        let n = self.images();
        let with_rows = |shape: &[usize]| [&[n], shape].concat();
        let mut arrays = Vec::new();
        for &split in &self.splits {
            let tap = &self.target.taps()[split - 1];
            let name =
                if self.splits.len() == 1 { "z".to_owned() } else { format!("z.{}", tap.name) };
            arrays.push((name, with_rows(&tap.shape)));
        }
        arrays.push(("y".to_owned(), vec![n]));
        arrays.push(("x".to_owned(), with_rows(&self.target.input_shape())));
        arrays
    }

    /// Bytes of all values together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.arrays().iter().map(|(name, shape)| bytes_of(name, shape)).sum()
    }

    /// Writes the file, whole or not at all, batch by batch: memory follows the batch, not the file.
    ///
    /// `z` and `x` are f32, row-major, `x` in [0, 1] as models see it; `y` is i64.
    ///
    /// # Errors
    /// [`Error::CannotWrite`]; shapes that do not fit; [`gpz_inversion::Error::Stopped`] after a stop was asked for.
    pub fn write(&self, path: &Path, observer: &mut dyn Observer) -> Result<()> {
        let mut out = TensorFile::create(path, &self.arrays(), &self.target.name())?;
        observer.begin("features", self.order.len().div_ceil(EVALUATION_BATCH) as u64);
        let normalisation = self.target.normalisation()?;
        let device = self.target.device();
        let (labels_at, pictures_at) = (self.splits.len(), self.splits.len() + 1);
        for images in self.order.chunks(EVALUATION_BATCH) {
            let batch = self.batch(images)?;
            let x = pictures(&batch)?;
            let labels: Vec<u8> =
                batch.labels.iter().flat_map(|&y| (y as i64).to_le_bytes()).collect();
            out.append(labels_at, &labels)?;
            out.append(pictures_at, &floats(&x.to_vec::<f32>()?))?;
            let x = x.to_device(&device)?;
            let (tape, mut z) = (Tape::eval(), Var::constant(normalisation.apply(&x)?));
            for stage in 0..self.splits.last().copied().unwrap_or(0) {
                z = self.target.stage(&tape, stage, &z)?;
                if let Some(at) = self.splits.iter().position(|&split| split == stage + 1) {
                    out.append(at, &floats(&z.value().to_vec::<f32>()?))?;
                }
            }
            observer.advance(1, "");
            if observer.stop_requested() {
                return Err(gpz_inversion::Error::Stopped.into());
            }
        }
        out.finish()?;
        observer.end(&format!(
            "{} at {}",
            counted(self.images(), "image"),
            counted(self.splits.len(), "split")
        ));
        Ok(())
    }

    /// Images of several sets in the given order.
    fn batch(&self, images: &[(usize, usize)]) -> Result<Batch> {
        let mut whole = Batch::empty();
        for run in images.chunk_by(|a, b| a.0 == b.0) {
            let positions: Vec<usize> = run.iter().map(|(_, position)| *position).collect();
            let batch = self.sets[run[0].0].batch(&positions)?;
            let [n, h, w, c] = batch.shape;
            whole.shape = [whole.shape[0] + n, h, w, c];
            whole.images.extend(batch.images);
            whole.labels.extend(batch.labels);
        }
        Ok(whole)
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Bytes of an array of a features file.
fn bytes_of(name: &str, shape: &[usize]) -> u64 {
    let size: u64 = if name == "y" { 8 } else { 4 };
    shape.iter().fold(size, |bytes, &extent| bytes.saturating_mul(extent as u64))
}

/// A safetensors file whose tensors grow side by side. The format's own crate wants each of them whole in memory.
struct TensorFile {
    path: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
    /// Where the next bytes of each tensor go.
    cursors: Vec<u64>,
}

impl TensorFile {
    fn create(path: &Path, arrays: &[(String, Vec<usize>)], metadata: &str) -> Result<Self> {
        let cannot = |source| Error::CannotWrite { path: path.to_path_buf(), source };
        let name = path.file_name().ok_or_else(|| cannot(io::Error::other("it names no file")))?;
        if path.is_dir() {
            return Err(cannot(io::Error::other("it is a directory")));
        }
        let temporary = path.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let mut table = serde_json::Map::new();
        table.insert("__metadata__".to_owned(), json!({ "gpz": metadata }));
        let (mut offsets, mut end) = (Vec::new(), 0u64);
        for (name, shape) in arrays {
            let from = end;
            end += bytes_of(name, shape);
            let dtype = if name == "y" { "I64" } else { "F32" };
            table.insert(
                name.clone(),
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, end] }),
            );
            offsets.push(from);
        }
        let mut text = serde_json::Value::Object(table).to_string();
        // Values begin at a multiple of eight.
        text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
        let begin = 8 + text.len() as u64;
        let file = File::create(&temporary).map_err(cannot)?;
        let cursors = offsets.into_iter().map(|offset| begin + offset).collect();
        let mut made = TensorFile {
            path: path.to_path_buf(),
            temporary,
            out: Some(BufWriter::new(file)),
            cursors,
        };
        made.put(0, &[&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat())?;
        Ok(made)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.seek(SeekFrom::Start(at))
            .and_then(|_| out.write_all(bytes))
            .map_err(|source| Error::CannotWrite { path: self.path.clone(), source })
    }

    fn append(&mut self, tensor: usize, bytes: &[u8]) -> Result<()> {
        self.put(self.cursors[tensor], bytes)?;
        self.cursors[tensor] += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let Some(out) = self.out.take() else { return Ok(()) };
        let write = || -> io::Result<()> {
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&self.temporary, &self.path)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&self.temporary);
            Error::CannotWrite { path: self.path.clone(), source }
        })
    }
}

/// What was not finished is not left behind.
impl Drop for TensorFile {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
