//! Image classification data: readers, resizing, augmentation and disjoint parts.
//!
//! A [`Dataset`] is opened from a built-in name or a path ([`Dataset::open`]), cut once into parts of different types
//! ([`Dataset::split`]), and read in batches ([`Batches`]):
//!
//! ```
//! use gpz_data::{Augment, BatchOptions, Batches, Dataset, ImageSet, SplitPlan};
//!
//! let parts = Dataset::open("fashion-mnist")?.split(&SplitPlan::default())?;
//! assert_eq!(parts.target_train.len(), 3_000);
//!
//! let options = BatchOptions::shuffled(128).with_augment(Augment::paper());
//! let batches = Batches::new(&parts.target_train, options, 1, "target")?;
//! let batch = batches.epoch(0).next().ok_or("empty")?;
//! assert_eq!(batch.shape, [128, 64, 64, 1]); // n, h, w, c: channels last, in [0, 1]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Parts
//! [`TargetTrain`], [`TargetValidation`], [`Auxiliary`] (with [`AuxiliaryTrain`] and [`AuxiliaryHeldOut`]) and [`Test`] share
//! no image: one function cuts them, and nothing else makes them. Code that chooses a checkpoint or steers a schedule takes
//! `&impl Selection`, which the test part does not implement:
//!
//! ```compile_fail
//! use gpz_data::{Dataset, Selection, SplitPlan};
//! fn choose_checkpoint(_: &impl Selection) {}
//! let parts = Dataset::open("fashion-mnist").unwrap().split(&SplitPlan::default()).unwrap();
//! choose_checkpoint(&parts.test); // does not compile; &parts.target_validation does
//! ```
//!
//! The auxiliary part may come from another set altogether: [`Dataset::split_with_auxiliary`].
//!
//! # Memory
//! Images stay 8-bit at the size they were stored in, and every part of a set refers to the same pixels. They are resized
//! when a batch asks for them, see [`resize`](ImageSet::image).
//!
//! # A declared prior
//! With a [`Smoothing`] in the plan every part gives pictures with noise of their own, which bounds on reconstruction can rest on.
//!
//! # Determinism
//! Parts, orders and augmentation depend on their seeds alone, never on threads. Resizing is integer arithmetic. JPEG
//! decoding is not promised to agree to the last bit between processor families.

#![forbid(unsafe_code)]

mod arrays;
mod augment;
mod auxiliary;
mod batches;
mod dataset;
mod embedded;
mod error;
mod images;
mod parts;
mod read;
mod resize;
mod rng;
mod smoothing;
mod split;
mod verify;

pub use arrays::{ArrayFile, ArrayInfo, Block, ElementType};
pub use augment::{Augment, ColourJitter};
pub use auxiliary::OtherAuxiliary;
pub use batches::{Batch, BatchOptions, Batches, Epoch};
pub use dataset::{Dataset, Format, OpenOptions};
pub use embedded::{BuiltIn, built_in};
pub use error::{Error, Result};
pub use images::{ImageId, ImageShape, Origin};
pub use parts::{
    Auxiliary, AuxiliaryHeldOut, AuxiliaryTrain, ImageSet, Part, Parts, Selection, TargetTrain,
    TargetValidation, Test,
};
pub use read::picture::read as read_picture;
pub use read::{Reading, Watch};
pub use resize::resize_weights;
pub use smoothing::Smoothing;
pub use split::SplitPlan;
pub use verify::{Duplicates, PartSummary, SharedPictures, Summary, verify};
