//! What can go wrong in this crate.

use std::path::PathBuf;

use crate::words::bytes;

/// Result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of gpz-audit. Each message is one line that names the value or file and what mends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An audit of no splits.
    #[error("there is no split to audit; name at least one tap of the model")]
    NoSplits,
    /// Per-image figures of different length where images are resampled together.
    #[error(
        "split {split}: {got} values of {figure} where the first split has {want}; every split must hold the same images in the \
         same order"
    )]
    ImageCount {
        /// The split.
        split: String,
        /// Which per-image figure.
        figure: &'static str,
        /// Its number of values.
        got: usize,
        /// The number of values at the first split.
        want: usize,
    },
    /// No image to resample.
    #[error("split {split}: no values of {figure}; at least one image must be measured")]
    NoImages {
        /// The split.
        split: String,
        /// Which per-image figure.
        figure: &'static str,
    },
    /// A per-image figure that cannot be one.
    #[error("split {split}, image {image}: {figure} is {value}; it must be a finite number{}", if *.signed { "" } else { " of at least 0" })]
    ImageFigure {
        /// The split.
        split: String,
        /// 0-based index of the image.
        image: usize,
        /// Which per-image figure.
        figure: &'static str,
        /// Its value.
        value: f64,
        /// Whether negative values are allowed.
        signed: bool,
    },
    /// A resampling that gives no interval.
    #[error(
        "{resamples} resamples at level {level}: take at least {least} resamples and a level between 0.5 and 0.999"
    )]
    Resampling {
        /// Number of resamples asked for.
        resamples: usize,
        /// Confidence level asked for.
        level: f64,
        /// Fewest resamples that give the interval its two ends.
        least: usize,
    },
    /// More resamples than make a difference.
    #[error(
        "{resamples} resamples are more than ever make a difference; take {most} at most, 2000 are usual"
    )]
    TooManyResamples {
        /// Number of resamples asked for.
        resamples: usize,
        /// Most that are taken.
        most: usize,
    },
    /// A limit outside its meaning.
    #[error("limit {limit} = {value}: {mend}")]
    Limit {
        /// Name of the limit, as in a configuration.
        limit: &'static str,
        /// The value given.
        value: f64,
        /// What it must be.
        mend: &'static str,
    },
    /// A file or directory that cannot be written.
    #[error("cannot write {}: {source}; choose another directory with --out or mend its permissions", path.display())]
    CannotWrite {
        /// What could not be written.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Weights that cannot be read.
    #[error("cannot read {}: {source}; name a checkpoint with --weights", path.display())]
    CannotReadWeights {
        /// What could not be read.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Weights of LPIPS that cannot be read.
    #[error("cannot read {}: {source}; name a file that scripts/make-lpips-weights made with --lpips-weights", path.display())]
    CannotReadLpips {
        /// What could not be read.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that does not hold the weights of LPIPS.
    #[error("{}: {source}", path.display())]
    Lpips {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: Box<gpz_inversion::Error>,
    },
    /// Weights that are no numbers.
    #[error("{}: {key} holds NaN or an infinity; train the network again, or save it from before it diverged", path.display())]
    WeightsNotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        key: String,
    },
    /// More memory is needed than there is.
    #[error("{what} needs {} of memory at least, and {} can be had; {mend}", crate::words::bytes(*needed), crate::words::bytes(*available))]
    Memory {
        /// What needs it.
        what: String,
        /// Bytes needed, rather too low than too high.
        needed: u128,
        /// Bytes there are.
        available: u128,
        /// What needs less.
        mend: &'static str,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {source}; is this the directory of a run?", path.display())]
    CannotRead {
        /// What could not be read.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A report of something other than a finished audit.
    #[error("{} holds no finished audit, and a report is of one; an attack's figures are in metrics.json, a training's in run.json; an audit that was stopped goes on by --resume", path.display())]
    NotAudited {
        /// The directory, which holds a run.
        path: PathBuf,
    },
    /// A directory that already holds a run.
    #[error("{} already holds a run; continue it with --resume or choose another directory with --out", path.display())]
    HoldsRun {
        /// The directory.
        path: PathBuf,
    },
    /// A directory with files that are no run's.
    #[error("{} holds {found}, which is no part of a run; choose an empty or new directory with --out", path.display())]
    ForeignFiles {
        /// The directory.
        path: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// Another process works in the directory.
    #[error("{} is in use by another process; wait until it ends or choose another directory with --out", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A file name that would leave the run directory.
    #[error(
        "{name:?} is no name of a file inside a run directory; use a relative path without \"..\""
    )]
    FileName {
        /// The name.
        name: String,
    },
    /// A JSON file of a run that does not parse.
    #[error("{}: {source}; it is damaged, run again into a new directory with --out", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A value that cannot be written as JSON.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        /// What was to be written.
        what: &'static str,
        /// The serializer's reason.
        source: serde_json::Error,
    },
    /// A table that cannot be written as CSV.
    #[error("cannot write {what} as CSV: {reason}")]
    Csv {
        /// What was to be written.
        what: &'static str,
        /// The writer's reason.
        reason: String,
    },
    /// Pixels that do not make a picture.
    #[error(
        "a picture of {height}×{width}×{channels} cannot be made of {got} values; it has 1 or 3 channels and height·width·channels values"
    )]
    Picture {
        /// Height declared.
        height: usize,
        /// Width declared.
        width: usize,
        /// Channels declared.
        channels: usize,
        /// Values given.
        got: usize,
    },
    /// A picture that cannot be encoded.
    #[error("cannot encode a picture as PNG: {source}")]
    Png {
        /// The encoder's reason.
        source: image::ImageError,
    },
    /// The report's template and its data do not fit.
    #[error("cannot render the report: {source:#}")]
    Render {
        /// The template engine's reason.
        source: minijinja::Error,
    },
    /// A preset that does not exist.
    #[error("unknown preset {name:?}; known: {}", crate::config::PRESETS.map(|p| p.name).join(", "))]
    UnknownPreset {
        /// The name.
        name: String,
    },
    /// A configuration that is misspelt or impossible.
    #[error("the configuration cannot be used: {reason}")]
    Config {
        /// What is wrong, in one line.
        reason: String,
    },
    /// A run that is resumed with another configuration.
    #[error(
        "{} was begun with another configuration ({field} differs); resume it with the same flags, or choose another directory with --out",
        path.display()
    )]
    ConfigDiffers {
        /// The run's directory.
        path: PathBuf,
        /// The first field that differs.
        field: String,
    },
    /// A directory in which another command has begun.
    #[error("{} does not hold a run of gpz {task}; choose another directory with --out", path.display())]
    OtherTask {
        /// The directory.
        path: PathBuf,
        /// What was asked for.
        task: &'static str,
    },
    /// Images could not be had.
    #[error(transparent)]
    Data(#[from] gpz_data::Error),
    /// A statistic could not be taken.
    #[error("statistics of {split} on {part}: {source}")]
    Statistics {
        /// The split.
        split: String,
        /// The part of the data.
        part: String,
        /// The estimator's reason.
        source: Box<gpz_estimators::Error>,
    },
    /// A figure the data cannot give.
    #[error("statistics of {split} on {part}: {reason}; more images per class are needed")]
    NotIdentifiable {
        /// The split.
        split: String,
        /// The part of the data.
        part: String,
        /// The estimator's reason.
        reason: String,
    },
    /// A bound on leakage that the estimators refuse.
    #[error("the bound on leakage cannot be computed: {source}; declare another channel or prior")]
    Bound {
        /// The estimator's reason.
        source: gpz_estimators::Error,
    },
    /// A class with too few images to show its spread and how sure that is.
    #[error(
        "class {class} has {images} image{} in part {part}, and its spread needs {need}; give each class at least {with_test} training \
         images, or {without_test} where the test images are cut from them",
        if *images == 1 { "" } else { "s" }
    )]
    FewImages {
        /// The part.
        part: &'static str,
        /// The class.
        class: String,
        /// Its images in the part.
        images: usize,
        /// Images it must have there.
        need: usize,
        /// Images of each class that the default cut needs in a set with test images.
        with_test: usize,
        /// The same in a set without.
        without_test: usize,
    },
    /// Parts whose labels do not mean the same classes.
    #[error(
        "part {part} has classes of its own, so that one list of labels cannot hold both; choose one part"
    )]
    OtherClasses {
        /// The part.
        part: &'static str,
    },
    /// Features that are no rows of numbers.
    #[error("{file} has shape {shape:?}; features are rows, [n, ...], of at least one number each")]
    FeatureRows {
        /// The array.
        file: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Another number of labels than features.
    #[error("{file} holds {labels} labels for {rows} rows of features; store one label per row")]
    FeatureLabels {
        /// The labels' array.
        file: String,
        /// Labels.
        labels: usize,
        /// Rows of features.
        rows: usize,
    },
    /// A label that is no class index.
    #[error("{file}: label {label} of row {row} is no class; labels are 0 to {most}")]
    FeatureLabel {
        /// The labels' array.
        file: String,
        /// The row.
        row: usize,
        /// The label.
        label: i64,
        /// The largest index that is taken for a class.
        most: i64,
    },
    /// Images that cannot be compared or learnt from.
    #[error("{file}: {reason}")]
    Images {
        /// The file or folder.
        file: String,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// A feature that no statistic can be taken of.
    #[error(
        "{file}: row {row}, column {column} is {value:?}; {}",
        if .value.is_finite() { "it is too large to compute with: rescale the features" } else { "remove the row, or find where the feature overflowed" }
    )]
    FeatureValue {
        /// The array.
        file: String,
        /// The first bad row.
        row: usize,
        /// Its first bad column.
        column: usize,
        /// What stands there: not finite, or so large that its square is not.
        value: f64,
    },
    /// Features whose statistics cannot be taken.
    #[error("{file}: {source}")]
    Feature {
        /// The array.
        file: String,
        /// The estimator's reason.
        source: gpz_estimators::Error,
    },
    /// Another number of pictures than features.
    #[error(
        "{file} holds {pictures} pictures for {rows} rows of features; store the picture of each row, in the same order"
    )]
    PictureCount {
        /// The pictures' array.
        file: String,
        /// Pictures.
        pictures: usize,
        /// Rows of features.
        rows: usize,
    },
    /// Pictures of floats that are not between 0 and 1.
    #[error(
        "{file}: pixels lie between {least} and {most}, and floats must lie between 0 and 1; {}",
        if *least < 0.0 { "store the pictures from before they were normalised" } else { "divide them by 255, or store them as uint8" }
    )]
    PictureRange {
        /// The pictures' array.
        file: String,
        /// Its least value.
        least: f64,
        /// Its greatest value.
        most: f64,
    },
    /// A file of one array in which another is looked for.
    #[error("{file}: a .npy file holds one array and no {what}; {mend}")]
    OneArray {
        /// The file.
        file: String,
        /// What is looked for.
        what: &'static str,
        /// Where it may be instead.
        mend: &'static str,
    },
    /// Fewer pairs of feature and picture than an attack is learnt and judged on.
    #[error("{file}: {found} {whose}, and {need} are needed; store more rows")]
    FewPairs {
        /// The features' array.
        file: String,
        /// Rows.
        found: usize,
        /// Which rows.
        whose: &'static str,
        /// Fewest there must be.
        need: usize,
    },
    /// Test features of another shape than those the attack learns from.
    #[error(
        "{file}: {what} of {found:?}, and those of {other} are of {want:?}; dump both files from the same tap and pictures"
    )]
    OtherShape {
        /// The test file's array.
        file: String,
        /// `features` or `pictures`.
        what: &'static str,
        /// Shape of one of its rows.
        found: Box<[usize]>,
        /// The array the attack learns from.
        other: String,
        /// Shape of one of the rows there.
        want: Box<[usize]>,
    },
    /// Features and pictures between which there is no decoder.
    #[error("{file}: {source}; store the pictures in another size, or choose another --decoder")]
    NoDecoder {
        /// The features' array.
        file: String,
        /// Why not.
        source: Box<gpz_inversion::Error>,
    },
    /// A target could not be built, run or cut.
    #[error(transparent)]
    Model(#[from] gpz_models::Error),
    /// An attack on a target that nobody trained.
    #[error(
        "the attacked target has no weights; name them with --weights, or train some with gpz train"
    )]
    NoWeights,
    /// Weights that do not fit the model.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: Box<gpz_nn::Error>,
    },
    /// A training step for which a CUDA device has too little memory.
    #[error(
        "a step of {batch} images needs more than {} of the CUDA device's memory, and {} are there; begin anew with --batch {fits}{}",
        bytes(*needed_bytes),
        bytes(*there_bytes),
        if *limited { format!(", or with --device-memory {}", needed_bytes.div_ceil(1 << 19)) } else { String::new() }
    )]
    DeviceMemory {
        /// Images of the step.
        batch: usize,
        /// Bytes that it holds, with those it could not get.
        needed_bytes: u64,
        /// Bytes it could have.
        there_bytes: u64,
        /// Whether the limit that was set is in the way, and not the device.
        limited: bool,
        /// Images that may fit, taking memory for proportional to them.
        fits: usize,
    },
    /// A network operation failed.
    #[error(transparent)]
    Nn(#[from] gpz_nn::Error),
    /// Training, or an image metric, failed.
    #[error(transparent)]
    Inversion(#[from] gpz_inversion::Error),
}

impl Error {
    /// A configuration error from a reader's message, which may span lines.
    pub(crate) fn config(reason: impl std::fmt::Display) -> Self {
        let text = reason.to_string();
        // Readers underline the place in the text; the first line names it, the last says what is wrong.
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let reason = match lines[..] {
            [] => String::new(),
            [only] => only.to_owned(),
            [first, .., last] => format!("{first}: {last}"),
        };
        Error::Config { reason }
    }

    /// Whether this is a stop that was asked for, after which the run can be resumed.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(self, Error::Inversion(gpz_inversion::Error::Stopped))
    }

    /// Whether a CUDA device failed in the middle of the work; what was saved before can be resumed.
    #[must_use]
    pub fn is_lost_device(&self) -> bool {
        matches!(self.tensor_error(), Some(gpz_tensor::Error::DeviceLost { .. }))
    }

    /// The tensor operation's error that this one passes on.
    fn tensor_error(&self) -> Option<&gpz_tensor::Error> {
        let of_models = |error| match error {
            &gpz_models::Error::Nn(gpz_nn::Error::Tensor(ref error)) => Some(error),
            _ => None,
        };
        match self {
            Error::Nn(gpz_nn::Error::Tensor(error))
            | Error::Inversion(gpz_inversion::Error::Nn(gpz_nn::Error::Tensor(error))) => {
                Some(error)
            }
            Error::Model(error) | Error::Inversion(gpz_inversion::Error::Model(error)) => {
                of_models(error)
            }
            _ => None,
        }
    }

    /// The error of a training with steps of `batch` images: of too little device memory, how many images may fit.
    pub(crate) fn of_steps(self, batch: usize) -> Self {
        let Some(&gpz_tensor::Error::DeviceMemory {
            needed_bytes,
            free_bytes,
            used_bytes,
            limited,
        }) = self.tensor_error()
        else {
            return self;
        };
        let (needed, there) = (used_bytes + needed_bytes, used_bytes + free_bytes);
        let share = (there as f64 / needed.max(1) as f64 * batch as f64) as usize;
        if batch < 4 {
            // Batch normalisation wants two images.
            return self;
        }
        // What it came to before it ended is not all that it needs.
        let fits = share.min(batch / 2).max(2);
        Error::DeviceMemory { batch, needed_bytes: needed, there_bytes: there, limited, fits }
    }
}

impl From<gpz_tensor::Error> for Error {
    fn from(error: gpz_tensor::Error) -> Self {
        Error::Nn(error.into())
    }
}
