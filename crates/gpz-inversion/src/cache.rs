//! Features of the attacker's pictures, kept on disk: the target runs once over each picture, not once in each epoch.

#[allow(unsafe_code)]
mod map;

use std::path::{Path, PathBuf};

use gpz_data::{Batch, Part};
use gpz_models::Target;
use gpz_tensor::{Device, Tensor};

use crate::error::{Error, Result};
use map::Map;

/// What a [`FeatureCache`] is to hold, and how large it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePlan {
    /// Each split (1-based) with the shape of its feature.
    splits: Vec<(usize, Vec<usize>)>,
    train: usize,
    held_out: usize,
    mirrored: bool,
}

impl CachePlan {
    /// - `splits`: those attacked, 1-based
    /// - `train`, `held_out`: pictures of the two parts of the auxiliary data; those of `train` are also kept mirrored if the attacks mirror
    ///
    /// # Errors
    /// A split that the target does not have.
    pub fn new(
        target: &dyn Target,
        splits: &[usize],
        (train, held_out): (usize, usize),
        mirrored: bool,
    ) -> Result<Self> {
        let of = |&split: &usize| {
            let split = target.find_split(&split.to_string())?;
            Ok((split, target.taps()[split - 1].shape.clone()))
        };
        let splits = splits.iter().map(of).collect::<Result<_>>()?;
        Ok(CachePlan { splits, train, held_out, mirrored })
    }

    /// Numbers of a picture's features.
    fn row(&self) -> u64 {
        self.splits.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// Pictures, those that are kept mirrored counted twice.
    fn rows(&self) -> u64 {
        self.train as u64 * (1 + u64::from(self.mirrored)) + self.held_out as u64
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.rows().saturating_mul(self.row()).saturating_mul(size_of::<f32>() as u64)
    }

    /// That a folder is there and its disk has room.
    fn check(&self, folder: &Path) -> Result<()> {
        let room = fs4::available_space(folder).map_err(|error| failed(folder, &error))?;
        let needed = self.bytes();
        if needed > room {
            let (needed, room) = (needed.div_ceil(1 << 20), room >> 20);
            let reason = format!("it needs {needed} MiB, and the disk has {room} MiB left");
            return Err(failed(folder, &reason));
        }
        Ok(())
    }

    /// The cache, empty, as a file without a name in a folder. The disk's room is taken at once, and given back when the cache is dropped or the
    /// process ends.
    ///
    /// # Errors
    /// [`Error::Cache`] for a folder that cannot be written to, or a disk without room.
    pub fn create(&self, folder: &Path) -> Result<FeatureCache> {
        self.check(folder)?;
        let number = |n: u64| usize::try_from(n).map_err(|error| failed(folder, &error));
        let (row, rows) = (number(self.row())?, number(self.rows())?);
        let len = row.checked_mul(rows).ok_or_else(|| failed(folder, &"it is too large"))?;
        let map = Map::new(folder, len.max(1)).map_err(|error| failed(folder, &error))?;
        let mut begin = 0;
        let splits = self.splits.iter().map(|(split, shape)| {
            let kept = Kept { split: *split, begin, shape: shape.clone() };
            begin += kept.len();
            kept
        });
        let splits = splits.collect();
        Ok(FeatureCache { plan: self.clone(), map, splits, row, known: vec![false; rows] })
    }
}

fn failed(folder: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Cache { folder: PathBuf::from(folder), reason: reason.to_string() }
}

/// Where the features of a split lie among the numbers of a picture.
#[derive(Debug)]
struct Kept {
    split: usize,
    begin: usize,
    shape: Vec<usize>,
}

impl Kept {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Features of pictures at several splits in a file that is mapped into memory, each computed when it is first asked for.
///
/// Features do not depend on the batch they are computed in, on the processor to the bit: what learns from the cache learns the same.
#[derive(Debug)]
pub struct FeatureCache {
    plan: CachePlan,
    map: Map,
    splits: Vec<Kept>,
    /// Numbers of a picture.
    row: usize,
    /// Whether a picture's features are there.
    known: Vec<bool>,
}

impl FeatureCache {
    /// The rows of a batch's pictures; none for pictures of another part than the cache is for.
    pub(crate) fn rows(&self, part: Part, batch: &Batch) -> Option<Vec<usize>> {
        let CachePlan { train, held_out, mirrored, .. } = self.plan;
        let turned = batch.positions.iter().zip(&batch.mirrored);
        match part {
            Part::AuxiliaryTrain => turned
                .map(|(&at, &turned)| {
                    let row = if turned { train + held_out + at } else { at };
                    (at < train && (mirrored || !turned)).then_some(row)
                })
                .collect(),
            Part::AuxiliaryHeldOut => turned
                .map(|(&at, &turned)| (at < held_out && !turned).then_some(train + at))
                .collect(),
            _ => None,
        }
    }

    /// Whether features of all these splits are kept.
    pub(crate) fn is_for(&self, splits: &[usize]) -> bool {
        splits.iter().all(|split| self.splits.iter().any(|kept| kept.split == *split))
    }

    pub(crate) fn knows(&self, row: usize) -> bool {
        self.known[row]
    }

    /// Notes that all features of these rows were put, as far as they will be asked for.
    pub(crate) fn complete(&mut self, rows: &[usize]) {
        rows.iter().for_each(|&row| self.known[row] = true);
    }

    /// Keeps features `[rows.len(), ...]` of a split, if it is one of the cache's.
    pub(crate) fn put(&mut self, split: usize, rows: &[usize], z: &Tensor) -> Result<()> {
        let Some(kept) = self.splits.iter().find(|kept| kept.split == split) else {
            return Ok(());
        };
        // As pictures lie in memory, so that nothing has to be turned to be read.
        let values: Vec<f32> = match z.rank() {
            4 => z.permute(&[0, 2, 3, 1])?.to_vec()?,
            _ => z.to_vec()?,
        };
        let (len, numbers) = (kept.len(), self.map.numbers_mut());
        for (&row, feature) in rows.iter().zip(values.chunks_exact(len)) {
            numbers[row * self.row + kept.begin..][..len].copy_from_slice(feature);
        }
        Ok(())
    }

    /// Features of a split, `[rows.len(), ...]`, on a device; those of rows that nobody completed are anything.
    ///
    /// `None` for a split that is none of the cache's.
    pub(crate) fn get(
        &self,
        split: usize,
        rows: &[usize],
        device: &Device,
    ) -> Result<Option<Tensor>> {
        let Some(kept) = self.splits.iter().find(|kept| kept.split == split) else {
            return Ok(None);
        };
        let (len, numbers) = (kept.len(), self.map.numbers());
        let mut values = Vec::with_capacity(rows.len() * len);
        for &row in rows {
            values.extend_from_slice(&numbers[row * self.row + kept.begin..][..len]);
        }
        let z = match kept.shape[..] {
            [c, h, w] => Tensor::from_channels_last(&values, [rows.len(), c, h, w])?,
            _ => {
                let shape: Vec<usize> = [rows.len()].iter().chain(&kept.shape).copied().collect();
                Tensor::from_slice(&values, &shape)?
            }
        };
        Ok(Some(z.to_device(device)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(mirrored: bool, folder: &Path) -> Result<FeatureCache> {
        let splits = vec![(2, vec![3, 2, 1]), (5, vec![4])];
        let plan = CachePlan { splits, train: 4, held_out: 2, mirrored };
        assert_eq!(plan.bytes(), if mirrored { 400 } else { 240 });
        plan.create(folder)
    }

    fn batch(positions: &[usize], mirrored: &[bool]) -> Batch {
        Batch { positions: positions.to_vec(), mirrored: mirrored.to_vec(), ..Batch::empty() }
    }

    /// Every picture of either part, mirrored or not, has a row of its own.
    #[test]
    fn rows_do_not_meet() -> Result<()> {
        let cache = cache(true, &std::env::temp_dir())?;
        let mut rows = Vec::new();
        for turned in [false, true] {
            let of = cache.rows(Part::AuxiliaryTrain, &batch(&[0, 1, 2, 3], &[turned; 4]));
            rows.extend(of.unwrap_or_default());
        }
        let of = cache.rows(Part::AuxiliaryHeldOut, &batch(&[0, 1], &[false; 2]));
        rows.extend(of.unwrap_or_default());
        rows.sort_unstable();
        assert_eq!(rows, (0..10).collect::<Vec<_>>());
        Ok(())
    }

    /// Other parts, and pictures that no row is for, are none of the cache's.
    #[test]
    fn other_pictures_have_no_rows() -> Result<()> {
        let cache = cache(false, &std::env::temp_dir())?;
        assert_eq!(cache.rows(Part::AuxiliaryTrain, &batch(&[3], &[false])), Some(vec![3]));
        for (part, position, turned) in [
            (Part::Test, 0, false),
            (Part::AuxiliaryTrain, 4, false),
            (Part::AuxiliaryTrain, 0, true),
            (Part::AuxiliaryHeldOut, 2, false),
        ] {
            assert_eq!(cache.rows(part, &batch(&[position], &[turned])), None, "{part:?}");
        }
        Ok(())
    }

    #[test]
    fn features_come_back() -> Result<()> {
        let mut cache = cache(true, &std::env::temp_dir())?;
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let picture = Tensor::from_slice(&values, &[2, 3, 2, 1])?;
        let vector = Tensor::from_slice(&values[..8], &[2, 4])?;
        cache.put(2, &[9, 0], &picture)?;
        cache.put(5, &[9, 0], &vector.transpose(0, 1)?.row_major()?.transpose(0, 1)?)?;
        cache.put(3, &[9, 0], &vector)?;
        cache.complete(&[9, 0]);
        assert!(cache.knows(9) && cache.knows(0) && !cache.knows(1));
        let got = |split| cache.get(split, &[0, 9], &Device::Cpu);
        let turned = |all: &[f32], len| [&all[len..2 * len], &all[..len]].concat();
        let vec = |t: Option<Tensor>| t.map(|t| t.to_vec::<f32>()).transpose();
        assert_eq!(vec(got(2)?)?, Some(turned(&values, 6)));
        assert_eq!(vec(got(5)?)?, Some(turned(&values, 4)));
        assert!(got(3)?.is_none());
        Ok(())
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let error = cache(true, Path::new("/no/such/folder")).expect_err("no folder").to_string();
        assert!(error.starts_with("the cache of features in /no/such/folder: "), "{error}");
        let splits = vec![(1, vec![1 << 40])];
        let plan = CachePlan { splits, train: 1 << 20, held_out: 0, mirrored: false };
        let error = plan.create(&std::env::temp_dir()).expect_err("too large").to_string();
        assert!(error.contains("the disk has"), "{error}");
    }
}
