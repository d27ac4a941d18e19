//! A set as it is stored, before it is cut into parts.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::images::{ImageShape, Origin, Pool};
use crate::parts::Parts;
use crate::read::{self, RawPool, RawSet, Watch};
use crate::split::{self, SplitPlan};
use crate::{Error, Result, embedded};

/// How a set is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Compiled into the program.
    Embedded,
    /// A folder of IDX files, plain or gzipped, as MNIST is distributed.
    Idx,
    /// A folder of CIFAR-10 binary batches.
    Cifar10,
    /// A folder of class folders with PNG or JPEG files.
    ClassFolders,
    /// A NumPy archive with `train_data`, `train_labels` and so on.
    Npz,
    /// Arrays of the calling program.
    Arrays,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Idx => "IDX files",
            Self::Cifar10 => "CIFAR-10 binary batches",
            Self::ClassFolders => "class folders",
            Self::Npz => "npz",
            Self::Arrays => "arrays",
        })
    }
}

/// What a reader may do beyond reading.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Height and width to which every picture of class folders is resized as it is read. Without it pictures of different
    /// sizes are an error, because a stray size is more often a mistake than a wish. The other formats hold one size and ignore it.
    pub resize_on_read: Option<(usize, usize)>,
}

/// A set that was read and checked: every label names a class, every class has images, all images of a part have one shape.
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    format: Format,
    train: Arc<Pool>,
    others: Vec<Arc<Pool>>,
}

impl Dataset {
    /// Opens a set as it is named on a command line: a built-in name ([`built_in`](crate::built_in)) or a path. The format is
    /// found by looking, not by name:
    ///
    /// - a file that begins like a zip archive: `.npz`
    /// - a folder with `data_batch_*.bin`: CIFAR-10
    /// - a folder with files named like `train-images-idx3-ubyte`, with or without `.gz`: IDX
    /// - a folder of folders: class folders, with or without `train`, `validation`, `auxiliary` and `test` above
    ///
    /// `./fashion-mnist` names a folder, `fashion-mnist` the built-in set.
    ///
    /// # Errors
    /// One line that names the file or value and the mend, for everything that can be wrong with a stored set; see [`Error`].
    pub fn open(spec: &str) -> Result<Self> {
        Self::open_with(spec, &OpenOptions::default())
    }

    /// [`open`](Self::open) with options.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Resolution`] if the size in `options` is unusable.
    pub fn open_with(spec: &str, options: &OpenOptions) -> Result<Self> {
        Self::open_watched(spec, options, &|_| true)
    }

    /// [`open_with`](Self::open_with), told to `watch` at every hundred-odd pictures or eight megabytes, which may end it.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with); [`Error::Stopped`].
    pub fn open_watched(spec: &str, options: &OpenOptions, watch: Watch<'_>) -> Result<Self> {
        if let Some(set) = embedded::open(spec)? {
            return Self::check(spec, Format::Embedded, set);
        }
        let (format, set) = read::open(Path::new(spec), options, watch)?;
        Self::check(&crate::error::one_line(spec), format, set)
    }

    /// A set of arrays in memory: 8-bit pixels `[n, h, w, c]`, row-major, and `n` labels for the training part and, where they
    /// exist, the auxiliary and test parts, all of one `shape`.
    ///
    /// # Errors
    /// [`Error::CountMismatch`], [`Error::LabelRange`], [`Error::EmptyClass`], [`Error::Empty`], or [`Error::Unsupported`] for a
    /// shape that is none.
    pub fn from_arrays(
        name: &str,
        shape: ImageShape,
        train: (Vec<u8>, Vec<usize>),
        auxiliary: Option<(Vec<u8>, Vec<usize>)>,
        test: Option<(Vec<u8>, Vec<usize>)>,
    ) -> Result<Self> {
        let pool = |origin: Origin, (pixels, labels): (Vec<u8>, Vec<usize>)| {
            let labels =
                labels.into_iter().map(|label| i64::try_from(label).unwrap_or(i64::MAX)).collect();
            RawPool {
                origin,
                file: format!("{name}:{}", origin.name()),
                labels_file: None,
                shape,
                pixels,
                labels,
                names: None,
            }
        };
        let mut pools = vec![pool(Origin::Train, train)];
        pools.extend(auxiliary.map(|arrays| pool(Origin::Auxiliary, arrays)));
        pools.extend(test.map(|arrays| pool(Origin::Test, arrays)));
        Self::check(name, Format::Arrays, RawSet { pools, class_names: None })
    }

    /// The name or path the set was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A name for each class, in the order of the labels. Sets without names have the label's digits.
    pub fn class_names(&self) -> &[String] {
        &self.train.classes
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.train.classes.len()
    }

    /// The shape of the stored training images, before resizing. Auxiliary images may have another height and width.
    pub fn native_shape(&self) -> ImageShape {
        self.train.shape
    }

    /// Cuts the parts: those the set brings along stay what they are, the others are cut from the training images.
    ///
    /// # Errors
    /// [`Error::Share`], [`Error::Resolution`] for an unusable plan, [`Error::TooFewImages`] if a part or a class of the target's
    /// training part would stay empty.
    pub fn split(&self, plan: &SplitPlan) -> Result<Parts> {
        split::split(self, plan)
    }

    /// The training pool.
    pub(crate) fn train(&self) -> &Arc<Pool> {
        &self.train
    }

    /// The pool a set brings along beside the training images, if it does.
    pub(crate) fn stored(&self, origin: Origin) -> Option<&Arc<Pool>> {
        self.others.iter().find(|pool| pool.origin == origin)
    }

    /// The checks that hold for every format.
    fn check(name: &str, format: Format, set: RawSet) -> Result<Self> {
        let mut pools = set.pools.into_iter();
        let first = pools.next().filter(|pool| pool.origin == Origin::Train);
        let first = first.ok_or_else(|| Error::Missing {
            file: name.into(),
            missing: "training images".into(),
            found: "other parts only".into(),
        })?;
        let classes = match set.class_names {
            Some(names) => names,
            None => numbered_classes(&first)?,
        };
        let train = Arc::new(checked_pool(first, &classes.into())?);
        let mut others = Vec::new();
        for raw in pools {
            if raw.shape.channels != train.shape.channels {
                return Err(Error::ImageChannels {
                    file: raw.file,
                    found: raw.shape.channels,
                    expected: train.shape.channels,
                });
            }
            if raw.origin != Origin::Auxiliary && raw.shape.size() != train.shape.size() {
                return Err(Error::ImageSize {
                    file: raw.file,
                    found: raw.shape.size(),
                    expected: train.shape.size(),
                });
            }
            let pool = match raw.origin {
                Origin::Auxiliary => auxiliary_pool(raw, &train.classes)?,
                _ => checked_pool(raw, &train.classes)?,
            };
            others.push(Arc::new(pool));
        }
        Ok(Self { name: name.into(), format, train, others })
    }
}

/// "0", "1", … up to the largest label. A gap shows a wrong label sooner than it shows a large set, so nothing is allocated
/// by the largest label before the gap is looked for.
fn numbered_classes(pool: &RawPool) -> Result<Vec<String>> {
    let mut labels: Vec<i64> = pool.labels.iter().copied().filter(|label| *label >= 0).collect();
    labels.sort_unstable();
    labels.dedup();
    if let Some((expected, _)) =
        labels.iter().enumerate().find(|(class, label)| **label > *class as i64)
    {
        let largest = labels.last().copied().unwrap_or_default();
        return Err(Error::EmptyClass {
            file: pool.labels_place().into(),
            class: format!("{expected} (labels go up to {largest})"),
        });
    }
    Ok((0..labels.len()).map(|class| class.to_string()).collect())
}

/// A pool whose classes are `classes`, each of which must occur.
fn checked_pool(raw: RawPool, classes: &Arc<[String]>) -> Result<Pool> {
    raw.check_counts()?;
    let mut counts = vec![0usize; classes.len()];
    let mut labels = Vec::with_capacity(raw.labels.len());
    for (index, label) in raw.labels.iter().enumerate() {
        let class = usize::try_from(*label).ok().filter(|class| *class < classes.len());
        let class = class.ok_or_else(|| Error::LabelRange {
            file: raw.labels_place().into(),
            index,
            label: *label,
            classes: classes.len(),
        })?;
        counts[class] += 1;
        labels.push(class as u32);
    }
    if let Some(class) = counts.iter().position(|n| *n == 0) {
        return Err(Error::EmptyClass {
            file: raw.labels_place().into(),
            class: classes[class].clone(),
        });
    }
    Ok(Pool {
        origin: raw.origin,
        shape: raw.shape,
        pixels: raw.pixels,
        labels,
        classes: Arc::clone(classes),
    })
}

/// The attacker's pool. Its labels serve nothing but an even cut, so it may have classes of its own, with gaps: faces of other
/// people, other scripts. Where its names are the target's, they keep the target's numbers.
fn auxiliary_pool(mut raw: RawPool, target: &Arc<[String]>) -> Result<Pool> {
    let name = |label: i64| match &raw.names {
        Some(names) => usize::try_from(label).ok().and_then(|class| names.get(class)).cloned(),
        None => usize::try_from(label).ok().map(|class| match target.get(class) {
            Some(name) => name.clone(),
            None => class.to_string(),
        }),
    };
    let mut used = raw.labels.clone();
    used.sort_unstable();
    used.dedup();
    let mut own = Vec::with_capacity(used.len());
    for label in &used {
        own.push(name(*label).ok_or_else(|| Error::LabelRange {
            file: raw.labels_place().into(),
            index: raw.labels.iter().position(|l| l == label).unwrap_or(0),
            label: *label,
            classes: raw.names.as_ref().map_or(target.len(), Vec::len),
        })?);
    }
    // Names of the target keep the target's numbers; one stranger among them, and the part counts for itself.
    let known: Option<Vec<usize>> =
        own.iter().map(|name| target.iter().position(|t| t == name)).collect();
    let classes = if known.is_some() { Arc::clone(target) } else { own.into() };
    let numbers = known.unwrap_or_else(|| (0..used.len()).collect());
    for label in &mut raw.labels {
        // Every label is among those used, so the search finds it.
        *label = used.binary_search(label).map_or(0, |rank| numbers[rank]) as i64;
    }
    raw.check_counts()?;
    Ok(Pool {
        origin: raw.origin,
        shape: raw.shape,
        labels: raw.labels.iter().map(|label| *label as u32).collect(),
        pixels: raw.pixels,
        classes,
    })
}
