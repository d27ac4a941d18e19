//! The images of a run: opened, cut into parts, and put on record.

use std::cell::RefCell;

use gpz_data::{
    Dataset, ImageSet, ImageShape, OpenOptions, Origin, OtherAuxiliary, Parts, Reading, SplitPlan,
    Watch,
};
use gpz_inversion::Observer;

use crate::config::AuditConfig;
use crate::error::Result;
use crate::run_record::{AuxiliaryRecord, DataRecord, PartRecord};

/// The images of a configuration.
#[derive(Debug, Clone)]
pub struct OpenedData {
    /// The audited set.
    pub dataset: Dataset,
    /// Its parts; the auxiliary one may be another set's.
    pub parts: Parts,
    /// What that one is, if it is.
    pub other: Option<OtherAuxiliary>,
}

/// The data of a configuration, opened and cut into its parts.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data).
pub fn open_data(config: &AuditConfig, observer: &mut dyn Observer) -> Result<OpenedData> {
    let dataset = open_dataset(&config.data, observer)?;
    let resolution = (config.resolution, config.resolution);
    let smoothing = config.smoothing()?;
    let plan = SplitPlan { resolution, smoothing, ..SplitPlan::default() };
    let (parts, other) = match &config.auxiliary {
        None => (dataset.split(&plan)?, None),
        Some(spec) => {
            let auxiliary = open_dataset(spec, observer)?;
            let (parts, other) = dataset.split_with_auxiliary(&plan, &auxiliary)?;
            (parts, Some(other))
        }
    };
    Ok(OpenedData { dataset, parts, other })
}

/// A set by name or path, its reading shown to the observer.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data).
pub fn open_dataset(spec: &str, observer: &mut dyn Observer) -> Result<Dataset> {
    Ok(watched(observer, |watch| Dataset::open_watched(spec, &OpenOptions::default(), watch))?)
}

/// Name of the phases in which data is read.
pub const READING: &str = "reading";

/// Shows a reading as a phase for each file.
pub fn watched<T>(observer: &mut dyn Observer, read: impl FnOnce(Watch<'_>) -> T) -> T {
    struct Shown<'a> {
        observer: &'a mut dyn Observer,
        file: String,
        done: u64,
    }
    let shown = RefCell::new(Shown { observer, file: String::new(), done: 0 });
    let read = read(&|reading: Reading<'_>| {
        let mut shown = shown.borrow_mut();
        if shown.file != reading.file {
            reading.file.clone_into(&mut shown.file);
            shown.done = 0;
            shown.observer.begin(READING, reading.total);
        }
        let (news, file) = (reading.done - shown.done, shown.file.clone());
        shown.done = reading.done;
        shown.observer.advance(news, &file);
        !shown.observer.stop_requested()
    });
    let shown = shown.into_inner();
    if !shown.file.is_empty() {
        shown.observer.end("");
    }
    read
}

impl OpenedData {
    /// What `run.json` says of the images.
    pub(crate) fn record(&self, config: &AuditConfig) -> DataRecord {
        let OpenedData { dataset, parts, .. } = self;
        let (source, licence) = origin_of(dataset.name(), &config.data);
        let (native, shown) = (dataset.native_shape(), parts.test.shape());
        let part = |set: &dyn ImageSet, used_for: &str| PartRecord {
            name: set.part().name().to_owned(),
            images: set.len(),
            used_for: used_for.to_owned(),
        };
        let auxiliary = &parts.auxiliary;
        DataRecord {
            name: dataset.name().to_owned(),
            source,
            licence,
            class_names: dataset.class_names().to_vec(),
            native_shape: channels_first(native),
            shown_shape: channels_first(shown),
            resize: resize_in_words(native, shown).to_owned(),
            parts: vec![
                part(&parts.target_train, "training the target; statistics of the features"),
                part(
                    &parts.target_validation,
                    "choosing the target's checkpoint; statistics on held-out images",
                ),
                part(auxiliary.train(), "training the attacks"),
                part(auxiliary.held_out(), "choosing the attacks' checkpoints and learning rates"),
                part(&parts.test, "the figures of the attacks and the target's accuracy, once"),
            ],
            auxiliary: self.other.as_ref().map(|other| self.other_record(config, other)),
        }
    }

    fn other_record(&self, config: &AuditConfig, other: &OtherAuxiliary) -> AuxiliaryRecord {
        let spec = config.auxiliary.as_deref().unwrap_or(&other.name);
        let (source, licence) = origin_of(&other.name, spec);
        let (native, shown) = (other.native_shape, self.parts.auxiliary.shape());
        let resize = resize_in_words(native, shown);
        let conversion = match (native.channels, shown.channels) {
            (1, 3) => format!("{resize}; each grey value three times, as RGB"),
            (3, 1) => format!("{resize}; RGB as luma (ITU-R BT.601)"),
            _ => resize.to_owned(),
        };
        AuxiliaryRecord {
            name: other.name.clone(),
            source,
            licence,
            stored_part: match other.origin {
                Origin::Auxiliary => "its auxiliary part",
                _ => "its training images",
            }
            .to_owned(),
            native_shape: channels_first(native),
            conversion,
            shared: other.shared,
            left_out: other.left_out,
        }
    }
}

/// Source and licence of a set: what is known of a built-in one, of another the path.
fn origin_of(name: &str, spec: &str) -> (String, String) {
    match gpz_data::built_in().iter().find(|set| set.name == name) {
        Some(set) => (set.description.to_owned(), set.licence.to_owned()),
        None => (spec.to_owned(), "not known to gpz".to_owned()),
    }
}

fn channels_first(shape: ImageShape) -> Vec<usize> {
    vec![shape.channels, shape.height, shape.width]
}

fn resize_in_words(native: ImageShape, shown: ImageShape) -> &'static str {
    if native.size() == shown.size() {
        "shown as stored"
    } else {
        "resized with an antialiasing filter"
    }
}
