//! What a network is made of.

use gpz_tensor::Pool2d;

/// A convolution's description; how many channels go in is told by the feature it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Channels of the result.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Rows and columns of zeros added at each side.
    pub padding: usize,
    /// Whether a number is added per channel.
    pub bias: bool,
    /// Groups of channels that are convolved by themselves.
    pub groups: usize,
}

impl Convolution {
    /// An odd kernel with the padding that keeps the picture's size, stride 1, with a bias.
    #[must_use]
    pub fn same(outputs: usize, kernel: usize) -> Self {
        Convolution { outputs, kernel, stride: 1, padding: kernel / 2, bias: true, groups: 1 }
    }

    /// With another stride.
    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Convolution { stride, ..self }
    }

    /// With another padding.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Convolution { padding, ..self }
    }

    /// Each channel by itself: as many go in as come out.
    #[must_use]
    pub fn depthwise(self) -> Self {
        Convolution { groups: self.outputs, ..self }
    }

    /// Without a bias: what a batch norm after it would take away again.
    #[must_use]
    pub fn unbiased(self) -> Self {
        Convolution { bias: false, ..self }
    }
}

impl From<Convolution> for Layer {
    fn from(convolution: Convolution) -> Self {
        Layer::Conv(convolution)
    }
}

/// A transposed convolution's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposedConvolution {
    /// Channels of the result.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Steps between windows of the result.
    pub stride: usize,
    /// Rows and columns taken off the result at each side.
    pub padding: usize,
    /// Whether a number is added per channel.
    pub bias: bool,
}

impl TransposedConvolution {
    /// A 4×4 kernel of stride 2 that doubles the picture, with a bias.
    #[must_use]
    pub fn doubling(outputs: usize) -> Self {
        TransposedConvolution { outputs, kernel: 4, stride: 2, padding: 1, bias: true }
    }

    /// An odd kernel that keeps the picture's size, with a bias.
    #[must_use]
    pub fn same(outputs: usize, kernel: usize) -> Self {
        TransposedConvolution { outputs, kernel, stride: 1, padding: kernel / 2, bias: true }
    }

    /// Without a bias.
    #[must_use]
    pub fn unbiased(self) -> Self {
        TransposedConvolution { bias: false, ..self }
    }
}

impl From<TransposedConvolution> for Layer {
    fn from(convolution: TransposedConvolution) -> Self {
        Layer::ConvTranspose(convolution)
    }
}

/// One step of a network, or several under names.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// Convolution of `[c, h, w]`.
    Conv(Convolution),
    /// Transposed convolution of `[c, h, w]`.
    ConvTranspose(TransposedConvolution),
    /// Affine map of the last axis.
    Linear {
        /// Extent of the last axis of the result.
        outputs: usize,
        /// Whether a vector is added.
        bias: bool,
    },
    /// Batch normalisation of `[c, h, w]` or `[c]`, eps 1e-5.
    BatchNorm,
    /// Layer normalisation of the last axis, eps 1e-5.
    LayerNorm,
    /// Leaky activation with a learnt slope for each channel.
    PRelu,
    /// Leaky activation with one learnt slope.
    SharedPRelu,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// `x · Φ(x)`, exact.
    Gelu,
    /// Largest element of each window.
    MaxPool(Pool2d),
    /// Mean of each window.
    AvgPool(Pool2d),
    /// Means of as many windows as it takes to come to this height and width, as PyTorch's `AdaptiveAvgPool2d` places them; smaller
    /// pictures are enlarged.
    AdaptiveAvgPool([usize; 2]),
    /// The same elements, row-major, under another shape.
    Reshape(Vec<usize>),
    /// The same elements, row-major, as a vector.
    Flatten,
    /// `[t, d]` as `[d, t]`.
    Transpose,
    /// Elements set to 0 at random in training.
    Dropout(f64),
    /// `x − ln Σ eˣ` along the last axis.
    LogSoftmax,
    /// Layers one after the other, each under a name; an empty name adds nothing to the names below it.
    Sequence(Vec<(String, Layer)>),
    /// The sum of two ways of the same feature.
    Residual {
        /// The long way.
        main: Box<(String, Layer)>,
        /// The short way; the feature itself unless there is one.
        shortcut: Option<Box<(String, Layer)>>,
    },
    /// Squeeze and excitation: each channel times a factor in (0, 1) that follows from the means of all, by way of `c / reduction` channels.
    Excite {
        /// By how much the channels are reduced in between.
        reduction: usize,
    },
    /// A picture cut into square patches, each a token, with a class token before them and a learnt position added to each.
    Tokens {
        /// Height and width of a patch.
        patch: usize,
        /// Extent of a token.
        width: usize,
    },
    /// Multi-head attention of tokens `[t, d]` to each other.
    Attention {
        /// Heads; they share the width.
        heads: usize,
    },
    /// The first token of `[t, d]`.
    FirstToken,
    /// All tokens but the first of `[t, d]`.
    WithoutFirstToken,
    /// The feature as it is, with entries that files hold under these names and shapes and nobody uses.
    Unused(Vec<(String, Vec<usize>)>),
}

impl Layer {
    /// Affine map of the last axis with a bias.
    #[must_use]
    pub fn linear(outputs: usize) -> Self {
        Layer::Linear { outputs, bias: true }
    }

    /// Two ways under names, added up.
    #[must_use]
    pub fn residual(main: (&str, Layer), shortcut: Option<(&str, Layer)>) -> Self {
        let named = |(name, layer): (&str, Layer)| Box::new((name.to_owned(), layer));
        Layer::Residual { main: named(main), shortcut: shortcut.map(named) }
    }

    /// Name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Layer::Conv(_) => "convolution",
            Layer::ConvTranspose(_) => "transposed convolution",
            Layer::Linear { .. } => "linear",
            Layer::BatchNorm => "batch norm",
            Layer::LayerNorm => "layer norm",
            Layer::PRelu | Layer::SharedPRelu => "PReLU",
            Layer::Relu => "ReLU",
            Layer::Relu6 => "ReLU6",
            Layer::Tanh => "tanh",
            Layer::Sigmoid => "sigmoid",
            Layer::Gelu => "GELU",
            Layer::MaxPool(_) => "max pooling",
            Layer::AvgPool(_) => "mean pooling",
            Layer::AdaptiveAvgPool(_) => "adaptive mean pooling",
            Layer::Reshape(_) => "reshape",
            Layer::Flatten => "flatten",
            Layer::Transpose => "transpose",
            Layer::Dropout(_) => "dropout",
            Layer::LogSoftmax => "log-softmax",
            Layer::Sequence(_) => "sequence",
            Layer::Residual { .. } => "residual sum",
            Layer::Excite { .. } => "squeeze and excitation",
            Layer::Tokens { .. } => "patch tokens",
            Layer::Attention { .. } => "attention",
            Layer::FirstToken | Layer::WithoutFirstToken => "class token",
            Layer::Unused(_) => "unused entries",
        }
    }

    /// Replaces the probability of every dropout.
    pub fn set_dropout(&mut self, p: f64) {
        match self {
            Layer::Dropout(old) => *old = p,
            Layer::Sequence(layers) => {
                layers.iter_mut().for_each(|(_, layer)| layer.set_dropout(p));
            }
            Layer::Residual { main, shortcut } => {
                main.1.set_dropout(p);
                if let Some(shortcut) = shortcut {
                    shortcut.1.set_dropout(p);
                }
            }
            _ => {}
        }
    }
}

/// Layers under the numbers PyTorch gives them in a sequence.
#[must_use]
pub fn numbered(layers: impl IntoIterator<Item = Layer>) -> Layer {
    sequence(layers.into_iter().enumerate().map(|(i, layer)| (i.to_string(), layer)))
}

/// Layers one after the other, each under a name.
#[must_use]
pub fn sequence<N: Into<String>>(layers: impl IntoIterator<Item = (N, Layer)>) -> Layer {
    Layer::Sequence(layers.into_iter().map(|(name, layer)| (name.into(), layer)).collect())
}
