//! The parts of a set: one type each, made only by [`Dataset::split`](crate::Dataset::split) and
//! [`Dataset::split_with_auxiliary`](crate::Dataset::split_with_auxiliary).

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::batches::{self, Batch};
use crate::images::{ImageId, ImageShape, Pool};
use crate::resize::Scaler;
use crate::smoothing::Smoothing;
use crate::{Error, Result};

/// The name of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// What the target learns from.
    TargetTrain,
    /// What the target's checkpoints and schedule are chosen on.
    TargetValidation,
    /// Everything the attacker owns.
    Auxiliary,
    /// What the attacker's decoder learns from.
    AuxiliaryTrain,
    /// What the attacker's checkpoints and schedules are chosen on.
    AuxiliaryHeldOut,
    /// What the figures of a run are measured on, once.
    Test,
}

impl Part {
    /// The name as it stands in tables and files, "target-train" for instance.
    pub fn name(self) -> &'static str {
        match self {
            Self::TargetTrain => "target-train",
            Self::TargetValidation => "target-validation",
            Self::Auxiliary => "auxiliary",
            Self::AuxiliaryTrain => "auxiliary-train",
            Self::AuxiliaryHeldOut => "auxiliary-held-out",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Some images of a pool, shown at one resolution. Cheap to clone: the pixels are shared.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) pool: Arc<Pool>,
    /// Indices into the pool, ascending.
    pub(crate) members: Vec<u32>,
    /// Height and width shown.
    pub(crate) resolution: (usize, usize),
    /// Noise that belongs to the pictures.
    pub(crate) smoothing: Option<Smoothing>,
}

mod sealed {
    /// Keeps the parts of this crate the only image sets: whoever could add one could also disguise the test part.
    pub trait Sealed {
        /// The images behind the part.
        fn view(&self) -> &super::View;
    }
}
pub(crate) use sealed::Sealed;

/// Reading access shared by all parts. Positions run from 0 to `len() - 1` within the part.
pub trait ImageSet: Sealed + Send + Sync {
    /// Which part this is.
    fn part(&self) -> Part;

    /// Number of images.
    fn len(&self) -> usize {
        self.view().members.len()
    }

    /// Never true for a part that a split has made.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes; labels are below it. The auxiliary part may have other classes than the target's.
    fn classes(&self) -> usize {
        self.class_names().len()
    }

    /// A name for each class, in the order of the labels.
    fn class_names(&self) -> &[String] {
        &self.view().pool.classes
    }

    /// The shape that models see: resolution of the split plan, channels as stored.
    fn shape(&self) -> ImageShape {
        let view = self.view();
        ImageShape {
            height: view.resolution.0,
            width: view.resolution.1,
            channels: view.pool.shape.channels,
        }
    }

    /// 1 (grey) or 3 (RGB).
    fn channels(&self) -> usize {
        self.view().pool.shape.channels
    }

    /// The class of an image.
    ///
    /// # Panics
    /// If `position` is not below `len()`, as indexing a slice does.
    fn label(&self, position: usize) -> usize {
        let view = self.view();
        view.pool.labels[view.members[position] as usize] as usize
    }

    /// The classes of all images, in the order of the positions.
    fn labels(&self) -> Vec<usize> {
        (0..self.len()).map(|position| self.label(position)).collect()
    }

    /// Number of images of each class.
    fn per_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for position in 0..self.len() {
            counts[self.label(position)] += 1;
        }
        counts
    }

    /// Where the stored set had the image at `position`.
    ///
    /// # Panics
    /// If `position` is not below `len()`, as indexing a slice does.
    fn id(&self, position: usize) -> ImageId {
        let view = self.view();
        ImageId { origin: view.pool.origin, index: view.members[position] as usize }
    }

    /// The stored image at `position` in the size models see, 8-bit, `[h, w, c]`, resized with an antialiased bilinear filter where the
    /// stored size is another. Without smoothing, which no byte holds: models see what [`batch`](Self::batch) gives.
    ///
    /// # Panics
    /// If `position` is not below `len()`, as indexing a slice does.
    fn image(&self, position: usize) -> Vec<u8> {
        let view = self.view();
        let mut shown = vec![0; self.shape().elements()];
        let stored = view.pool.image(view.members[position] as usize);
        Scaler::new().resize(stored, view.pool.shape, view.resolution, &mut shown);
        shown
    }

    /// The images at `positions`, in that order, without augmentation.
    ///
    /// # Errors
    /// [`Error::Position`] if a position is not below `len()`.
    fn batch(&self, positions: &[usize]) -> Result<Batch> {
        if let Some(position) = positions.iter().find(|p| **p >= self.len()) {
            return Err(Error::Position {
                part: self.part(),
                position: *position,
                len: self.len(),
            });
        }
        let mut batch = Batch::empty();
        batches::fill(&mut batch, self.view(), positions, None);
        Ok(batch)
    }
}

/// What a checkpoint may be chosen or a schedule be steered on: [`TargetValidation`] and [`AuxiliaryHeldOut`].
///
/// Not implemented for [`Test`], so that nothing that takes `&impl Selection` can be given it, and not for the parts that are
/// learnt from.
pub trait Selection: ImageSet {}

/// The images the target learns from.
#[derive(Debug, Clone)]
pub struct TargetTrain(pub(crate) View);

/// The images the target's checkpoints and learning-rate schedule are chosen on.
#[derive(Debug, Clone)]
pub struct TargetValidation(pub(crate) View);

/// Everything the attacker owns, already divided into what a decoder learns from and what its checkpoints are chosen on.
#[derive(Debug, Clone)]
pub struct Auxiliary {
    pub(crate) whole: View,
    pub(crate) train: AuxiliaryTrain,
    pub(crate) held_out: AuxiliaryHeldOut,
}

impl Auxiliary {
    /// The images decoders learn from: all but the held-out ones.
    pub fn train(&self) -> &AuxiliaryTrain {
        &self.train
    }

    /// The images the attacker's checkpoints and schedules are chosen on, a tenth unless the plan says otherwise.
    pub fn held_out(&self) -> &AuxiliaryHeldOut {
        &self.held_out
    }
}

/// The attacker's images that decoders learn from.
#[derive(Debug, Clone)]
pub struct AuxiliaryTrain(pub(crate) View);

/// The attacker's images that its checkpoints and schedules are chosen on.
#[derive(Debug, Clone)]
pub struct AuxiliaryHeldOut(pub(crate) View);

/// The images the figures of a run are measured on, once.
#[derive(Debug, Clone)]
pub struct Test(pub(crate) View);

impl Test {
    /// The images at `positions` as they would be shown without the declared [`Smoothing`]; none where none is declared.
    ///
    /// No other part has this: nothing learns from, or is chosen on, pictures that the declaration says nobody has.
    ///
    /// # Errors
    /// [`Error::Position`] if a position is not below `len()`.
    pub fn without_smoothing(&self, positions: &[usize]) -> Result<Option<Batch>> {
        if self.0.smoothing.is_none() {
            return Ok(None);
        }
        Test(View { smoothing: None, ..self.0.clone() }).batch(positions).map(Some)
    }
}

/// The four parts of a set. No image is in two of them.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The target learns from these.
    pub target_train: TargetTrain,
    /// The target's checkpoints and schedule are chosen on these.
    pub target_validation: TargetValidation,
    /// The attacker's.
    pub auxiliary: Auxiliary,
    /// Figures are measured on these.
    pub test: Test,
}

macro_rules! image_set {
    ($($part:ident: $view:tt),*) => {
        $(
            impl Sealed for $part {
                fn view(&self) -> &View {
                    &self.$view
                }
            }
            impl ImageSet for $part {
                fn part(&self) -> Part {
                    Part::$part
                }
            }
        )*
    };
}
image_set!(TargetTrain: 0, TargetValidation: 0, Auxiliary: whole, AuxiliaryTrain: 0, AuxiliaryHeldOut: 0, Test: 0);

impl Selection for TargetValidation {}
impl Selection for AuxiliaryHeldOut {}
