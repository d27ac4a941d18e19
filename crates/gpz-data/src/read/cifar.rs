//! CIFAR-10 binary batches: records of one label byte and 3 x 32 x 32 pixel bytes, channel by channel.

use std::fs;
use std::path::Path;

use super::{Entry, RawPool, RawSet, Reading, Watch, tell};
use crate::error::place;
use crate::images::{ImageShape, Origin};
use crate::{Error, Result};

const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };
const PLANE: usize = 32 * 32;
const RECORD: usize = 1 + 3 * PLANE;

/// `data_batch_1.bin` and its like.
pub(crate) fn is_training_batch(name: &str) -> bool {
    name.starts_with("data_batch_") && name.ends_with(".bin")
}

/// The training batches in the order of their names, and `test_batch.bin` if it is there.
pub(crate) fn open(folder: &Path, entries: &[Entry], watch: Watch<'_>) -> Result<RawSet> {
    let mut train = empty(Origin::Train, place(folder));
    let batches: Vec<&Entry> =
        entries.iter().filter(|entry| is_training_batch(&entry.name)).collect();
    for (done, entry) in batches.iter().enumerate() {
        let (done, total) = (done as u64, batches.len() as u64);
        tell(watch, Reading { file: &train.file, done, total })?;
        append(&mut train, &entry.path)?;
    }
    let mut pools = vec![train];
    if let Some(entry) = entries.iter().find(|entry| entry.name == "test_batch.bin") {
        let mut test = empty(Origin::Test, place(&entry.path));
        append(&mut test, &entry.path)?;
        pools.push(test);
    }
    Ok(RawSet { pools, class_names: Some(CLASSES.map(String::from).to_vec()) })
}

fn empty(origin: Origin, file: String) -> RawPool {
    RawPool {
        origin,
        file,
        labels_file: None,
        shape: SHAPE,
        pixels: Vec::new(),
        labels: Vec::new(),
        names: None,
    }
}

/// Adds the records of one batch file, pixels channels last.
fn append(pool: &mut RawPool, path: &Path) -> Result<()> {
    let file = place(path);
    let bytes = match fs::read(path) {
        Ok(bytes) if bytes.is_empty() => return Err(Error::Empty { file }),
        Ok(bytes) => bytes,
        Err(source) => return Err(Error::Io { file, action: "read", source }),
    };
    let records = bytes.chunks_exact(RECORD);
    if !records.remainder().is_empty() {
        let expected = (bytes.len().div_ceil(RECORD) * RECORD) as u128;
        return Err(Error::Truncated { file, expected, found: bytes.len() as u64 });
    }
    pool.pixels.reserve(records.len() * SHAPE.elements());
    for (index, record) in records.enumerate() {
        let (label, pixels) = (i64::from(record[0]), &record[1..]);
        if label >= CLASSES.len() as i64 {
            return Err(Error::LabelRange { file, index, label, classes: CLASSES.len() });
        }
        pool.labels.push(label);
        for at in 0..PLANE {
            pool.pixels.extend([pixels[at], pixels[at + PLANE], pixels[at + 2 * PLANE]]);
        }
    }
    Ok(())
}
