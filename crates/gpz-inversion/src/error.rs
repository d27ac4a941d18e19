//! What can go wrong in this crate.

/// Result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of gpz-inversion. Each message ends with what mends it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice of pixels does not have the length its declared shape asks for.
    #[error(
        "{which}: {got} values where {images} images of {height}×{width}×{channels} need {want}; \
         pass both sets whole and in one shape"
    )]
    PixelCount {
        /// `"reference"` or `"candidate"`.
        which: &'static str,
        /// Length of the slice.
        got: usize,
        /// Length the shape asks for.
        want: usize,
        /// Number of images declared.
        images: usize,
        /// Height declared.
        height: usize,
        /// Width declared.
        width: usize,
        /// Channels declared.
        channels: usize,
    },
    /// An image shape with a zero extent, or one whose size overflows.
    #[error(
        "images of {height}×{width}×{channels}, {images} of them: every extent must be at least 1 and the number of values \
         must fit in memory"
    )]
    ImageShape {
        /// Number of images declared.
        images: usize,
        /// Height declared.
        height: usize,
        /// Width declared.
        width: usize,
        /// Channels declared.
        channels: usize,
    },
    /// An image smaller than the SSIM window.
    #[error(
        "SSIM: images of {height}×{width} are smaller than its {window}×{window} window; enlarge both sets or leave SSIM out"
    )]
    SmallerThanWindow {
        /// Height of the images.
        height: usize,
        /// Width of the images.
        width: usize,
        /// Side of the window.
        window: usize,
    },
    /// A file for features that cannot be had.
    #[error("the cache of features in {}: {reason}; name a folder that can be written to, on a disk with room, or leave the cache out", folder.display())]
    Cache {
        /// Where the file was to be.
        folder: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// Tensors that are not the weights of LPIPS.
    #[error("not the weights of LPIPS (AlexNet): {reason}; scripts/make-lpips-weights makes them")]
    LpipsWeights {
        /// What is wrong with them.
        reason: String,
    },
    /// Pictures that the network of LPIPS cannot take.
    #[error(
        "LPIPS: pictures of {height}×{width}×{channels}; it takes grey or RGB ones of {least}×{least} or more; enlarge both sets or \
         leave LPIPS out"
    )]
    LpipsPictures {
        /// Height of the pictures.
        height: usize,
        /// Width of the pictures.
        width: usize,
        /// Their channels.
        channels: usize,
        /// Least height and width.
        least: usize,
    },
    /// A pixel is NaN or infinite.
    #[error("{which}: image {image} holds the value {value}; pixels must be finite numbers")]
    NonFinitePixel {
        /// `"reference"` or `"candidate"`.
        which: &'static str,
        /// 0-based index of the image.
        image: usize,
        /// The value found.
        value: f64,
    },
    /// The data range is not a positive number.
    #[error(
        "data range {range} is not a positive number; use 1 for pixels in [0, 1] and 255 for 8-bit pixels"
    )]
    Range {
        /// The value given.
        range: f64,
    },
    /// A network operation failed.
    #[error(transparent)]
    Nn(#[from] gpz_nn::Error),
    /// A target could not be built, run or cut.
    #[error(transparent)]
    Model(#[from] gpz_models::Error),
    /// Images could not be had.
    #[error(transparent)]
    Data(#[from] gpz_data::Error),
    /// A feature no decoder is defined for.
    #[error("no decoder for a feature of shape {feature:?} and pictures of {picture:?}: {rule}")]
    Decoder {
        /// Shape of one image's feature.
        feature: Vec<usize>,
        /// Shape of one picture, `[c, h, w]`.
        picture: [usize; 3],
        /// What a decoder needs.
        rule: &'static str,
    },
    /// A name that is no decoder's.
    #[error("unknown decoder {name:?}; known: {}", crate::decoders().map(|d| d.name).collect::<Vec<_>>().join(", "))]
    UnknownDecoder {
        /// The name.
        name: String,
    },
    /// A parameter the decoder does not have.
    #[error("decoder {decoder} has no parameter {key:?}; it takes {known}")]
    UnknownDecoderParameter {
        /// The decoder's family.
        decoder: &'static str,
        /// The parameter's name.
        key: String,
        /// What there is.
        known: String,
    },
    /// A parameter with an impossible value.
    #[error("decoder {decoder}: {key}={value} is not possible: {rule}")]
    DecoderParameter {
        /// The decoder's family.
        decoder: &'static str,
        /// The parameter's name.
        key: String,
        /// Its value.
        value: String,
        /// What is possible.
        rule: String,
    },
    /// A loss that is not a number, or infinite.
    #[error(
        "the loss of {learner} became {loss} in step {step} of epoch {epoch}; lower its learning rate \
         and begin in a new directory"
    )]
    NonFiniteLoss {
        /// Who was learning: the target, or the attack on a split.
        learner: String,
        /// 1-based epoch.
        epoch: usize,
        /// 1-based step within the epoch.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// An accuracy is to decide which state is kept, and none was measured.
    #[error(
        "{learner} has no accuracy on held-out images, and its state is to be kept by the highest one; keep by lowest-loss"
    )]
    NoAccuracy {
        /// Who was learning.
        learner: String,
    },
    /// A gradient that is not a number, or infinite, though the loss is finite.
    #[error(
        "the gradient of {parameter} of {learner} is not finite in step {step} of epoch {epoch}, at a loss of {loss}; lower its \
         learning rate and run again"
    )]
    NonFiniteGradient {
        /// Who was learning: the target, or the attack on a split.
        learner: String,
        /// The first parameter with such a gradient.
        parameter: String,
        /// 1-based epoch.
        epoch: usize,
        /// 1-based step within the epoch.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// Features and pictures that do not make pairs.
    #[error(
        "{features} numbers and {pictures} pixels do not make pairs of a feature of shape {feature:?} and a picture of {picture:?}; \
         pass as many of the one as of the other"
    )]
    Pairs {
        /// Numbers of all features.
        features: usize,
        /// Numbers of all pictures.
        pictures: usize,
        /// Shape of one feature.
        feature: Vec<usize>,
        /// Shape of one picture, `[c, h, w]`.
        picture: [usize; 3],
    },
    /// A split that is to be attacked twice at once.
    #[error("split {split} is named twice; name each split once")]
    DuplicateSplit {
        /// Name of its tap.
        split: String,
    },
    /// Features that a declared channel cannot carry.
    #[error("the feature of split {split} does not get through the channel: {reason}")]
    Wire {
        /// 1-based index of the split.
        split: usize,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// The caller asked to stop; the state has been handed over.
    #[error("stopped on request")]
    Stopped,
    /// A saved state that does not belong to this run, or is damaged.
    #[error(
        "the saved state of {learner} cannot be used: {reason}; begin again in a new directory"
    )]
    State {
        /// Whose state.
        learner: String,
        /// What is wrong.
        reason: String,
    },
}

impl From<gpz_tensor::Error> for Error {
    fn from(error: gpz_tensor::Error) -> Self {
        Error::Nn(error.into())
    }
}
