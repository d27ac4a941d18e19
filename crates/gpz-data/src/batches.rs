//! Batches of a part, epoch by epoch.

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::parts::{ImageSet, View};
use crate::resize::{LinearScaler, Scaler};
use crate::smoothing::Smoothing;
use crate::{Augment, Error, Result, rng};

/// Images as a network wants them, with their labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// `[n, h, w, c]`, row-major, channels last, each value in `[0, 1]`: the 8-bit value divided by 255. With
    /// [`smoothing`](crate::SplitPlan::smoothing) values leave that range.
    pub images: Vec<f32>,
    /// n, h, w, c.
    pub shape: [usize; 4],
    /// The class of each image.
    pub labels: Vec<usize>,
    /// The position of each image in its part.
    pub positions: Vec<usize>,
    /// Whether each image is mirrored.
    pub mirrored: Vec<bool>,
}

impl Batch {
    /// A batch of nothing, whose memory [`Epoch::next_into`] will use.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// How a part is cut into batches.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOptions {
    /// Images in a batch; the last may have fewer.
    pub batch_size: usize,
    /// Another random order in each epoch; else the order of the part.
    pub shuffle: bool,
    /// Leave out the last batch if it has fewer images.
    pub drop_last: bool,
    /// Flips and colours.
    pub augment: Augment,
}

impl BatchOptions {
    /// For learning: shuffled, the last batch kept, no augmentation.
    pub fn shuffled(batch_size: usize) -> Self {
        Self { batch_size, shuffle: true, drop_last: false, augment: Augment::none() }
    }

    /// For measuring: every image once, in the order of the part.
    pub fn in_order(batch_size: usize) -> Self {
        Self { shuffle: false, ..Self::shuffled(batch_size) }
    }

    /// With augmentation.
    pub fn with_augment(self, augment: Augment) -> Self {
        Self { augment, ..self }
    }

    /// Without a last batch of fewer images.
    pub fn drop_last(self) -> Self {
        Self { drop_last: true, ..self }
    }
}

/// A part in batches.
///
/// Orders depend on (seed, purpose, epoch), the augmentation of an image on (seed, purpose, epoch, identity of the image):
/// neither on threads, nor on the batch size, nor on whether earlier epochs were read.
#[derive(Debug)]
pub struct Batches<'a, S: ImageSet + ?Sized> {
    set: &'a S,
    options: BatchOptions,
    seed: u64,
    order_purpose: String,
    augment_purpose: String,
}

impl<'a, S: ImageSet + ?Sized> Batches<'a, S> {
    /// Batches of `set`. `purpose`, "target" or "attack" for instance, separates the random numbers of trainings that share a
    /// seed.
    ///
    /// # Errors
    /// [`Error::BatchSize`] if the batch size is zero, [`Error::Augmentation`] if a strength is outside its range.
    pub fn new(set: &'a S, options: BatchOptions, seed: u64, purpose: &str) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(Error::BatchSize);
        }
        options.augment.check()?;
        let (order_purpose, augment_purpose) =
            (format!("order/{purpose}"), format!("augment/{purpose}"));
        Ok(Self { set, options, seed, order_purpose, augment_purpose })
    }

    /// Batches in an epoch.
    pub fn per_epoch(&self) -> usize {
        match self.options.drop_last {
            true => self.set.len() / self.options.batch_size,
            false => self.set.len().div_ceil(self.options.batch_size),
        }
    }

    /// The batches of one epoch.
    pub fn epoch(&self, epoch: u64) -> Epoch<'_, S> {
        let mut order: Vec<usize> = (0..self.set.len()).collect();
        if self.options.shuffle {
            rng::shuffle(&mut order, &mut rng::stream(self.seed, &self.order_purpose, epoch, 0));
        }
        Epoch { batches: self, epoch, order, next: 0 }
    }
}

/// The batches of one epoch, as an iterator or into a batch that is reused.
#[derive(Debug)]
pub struct Epoch<'a, S: ImageSet + ?Sized> {
    batches: &'a Batches<'a, S>,
    epoch: u64,
    order: Vec<usize>,
    /// Index of the next batch.
    next: usize,
}

impl<S: ImageSet + ?Sized> Epoch<'_, S> {
    /// Writes the next batch over `batch`, whose memory is kept, or returns false at the end and leaves it alone.
    pub fn next_into(&mut self, batch: &mut Batch) -> bool {
        if self.next >= self.batches.per_epoch() {
            return false;
        }
        let size = self.batches.options.batch_size;
        let first = self.next * size;
        let positions = &self.order[first..self.order.len().min(first + size)];
        self.next += 1;
        let options = &self.batches.options;
        let augmentation = options.augment.does_something().then_some(Augmentation {
            augment: &options.augment,
            seed: self.batches.seed,
            purpose: &self.batches.augment_purpose,
            epoch: self.epoch,
        });
        fill(batch, self.batches.set.view(), positions, augmentation);
        true
    }

    /// Passes over the next `count` batches without reading their images: an epoch resumes where it was left.
    pub fn skip_batches(&mut self, count: usize) {
        self.next = self.next.saturating_add(count).min(self.batches.per_epoch());
    }
}

impl<S: ImageSet + ?Sized> Iterator for Epoch<'_, S> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch::empty();
        self.next_into(&mut batch).then_some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batches.per_epoch() - self.next;
        (left, Some(left))
    }
}

impl<S: ImageSet + ?Sized> ExactSizeIterator for Epoch<'_, S> {}

/// An augmentation and where its random numbers come from.
#[derive(Clone, Copy)]
pub(crate) struct Augmentation<'a> {
    augment: &'a Augment,
    seed: u64,
    purpose: &'a str,
    epoch: u64,
}

impl Augmentation<'_> {
    /// The stream of the image `member` of `view`: its identity, so that no other image and no order matters.
    fn stream(&self, view: &View, member: u32) -> ChaCha8Rng {
        let identity = (view.pool.origin as u64) << 32 | u64::from(member);
        rng::stream(self.seed, self.purpose, self.epoch, identity)
    }
}

/// Writes the images at `positions` over `batch`. Positions are those of the view.
pub(crate) fn fill(
    batch: &mut Batch,
    view: &View,
    positions: &[usize],
    augmentation: Option<Augmentation<'_>>,
) {
    let pool = &view.pool;
    let (height, width) = view.resolution;
    let channels = pool.shape.channels;
    let elements = height * width * channels;
    batch.shape = [positions.len(), height, width, channels];
    batch.positions.clear();
    batch.positions.extend_from_slice(positions);
    batch.labels.clear();
    batch.labels.extend(positions.iter().map(|p| pool.labels[view.members[*p] as usize] as usize));
    batch.images.resize(positions.len() * elements, 0.0);
    batch.mirrored.clear();
    batch.mirrored.resize(positions.len(), false);
    let images = batch.images.par_chunks_exact_mut(elements).zip(&mut batch.mirrored);
    images.zip(positions).for_each_init(
        || Reader::new(view),
        |reader, ((image, mirrored), position)| {
            let member = view.members[*position];
            reader.read(member, image);
            if let Some(augmentation) = &augmentation {
                let mut rng = augmentation.stream(view, member);
                *mirrored = augmentation.augment.apply(image, width, channels, &mut rng);
            }
        },
    );
}

/// Reads pictures of a view in the size that is shown; one per thread.
struct Reader<'a> {
    view: &'a View,
    way: Way,
}

enum Way {
    /// Bytes, resized as bytes.
    Stored { scaler: Scaler, shown: Vec<u8> },
    /// Smoothed at the stored size, then resized.
    Smoothed { smoothing: Smoothing, scaler: LinearScaler, native: Vec<f32> },
}

impl<'a> Reader<'a> {
    fn new(view: &'a View) -> Self {
        let (shape, resolution) = (view.pool.shape, view.resolution);
        let way = match view.smoothing {
            None => Way::Stored {
                scaler: Scaler::new(),
                shown: vec![0; resolution.0 * resolution.1 * shape.channels],
            },
            Some(smoothing) => Way::Smoothed {
                smoothing,
                scaler: LinearScaler::new(shape, resolution),
                native: Vec::new(),
            },
        };
        Self { view, way }
    }

    fn read(&mut self, member: u32, image: &mut [f32]) {
        let View { pool, resolution, .. } = self.view;
        let stored = pool.image(member as usize);
        match &mut self.way {
            Way::Stored { scaler, shown } => {
                scaler.resize(stored, pool.shape, *resolution, shown);
                for (value, byte) in image.iter_mut().zip(shown.iter()) {
                    *value = f32::from(*byte) / 255.0;
                }
            }
            Way::Smoothed { smoothing, scaler, native } => {
                smoothing.apply(stored, pool.origin, member, native);
                scaler.resize(native, image);
            }
        }
    }
}
