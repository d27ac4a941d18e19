//! Extents of a convolution and of a transposed one, which is its adjoint.

use crate::error::{Error, Result};

/// The sliding window of a convolution, height before width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Positions of the kernel.
    pub kernel: [usize; 2],
    /// Pixels the window moves by.
    pub stride: [usize; 2],
    /// Rows and columns of zeros around the picture.
    pub padding: [usize; 2],
    /// Pixels between neighbouring positions of the kernel.
    pub dilation: [usize; 2],
}

impl Window {
    /// A square window without dilation.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], dilation: [1; 2] }
    }
}

/// One convolution's extents.
///
/// Named by side rather than by role: the *fine* side is the input of a convolution and the output of a transposed one, the *coarse*
/// side the other. Kernel position `k` connects coarse pixel `r` with fine pixel `r · stride − padding + k · dilation`. Passing from
/// fine to coarse *gathers*, from coarse to fine *spreads*; a transposed convolution spreads forward and gathers backward, a
/// convolution the other way round, and both have the same weight gradient. Weights are `[coarse channels, fine channels, kh, kw]`
/// in either case, which is what PyTorch stores: `[co, ci, kh, kw]` and `[ci, co, kh, kw]`. With groups the channels of both sides are
/// cut into as many equal runs, each run is connected with its own counterpart alone, and weights are
/// `[coarse channels, fine channels / groups, kh, kw]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    pub(crate) transposed: bool,
    pub(crate) batch: usize,
    pub(crate) fine: [usize; 2],
    pub(crate) coarse: [usize; 2],
    pub(crate) fine_channels: usize,
    pub(crate) coarse_channels: usize,
    pub(crate) groups: usize,
    pub(crate) window: Window,
}

/// Options beyond this are mistakes; below it no product of two of them overflows.
const LIMIT: usize = 1 << 24;

impl Geometry {
    /// A convolution.
    ///
    /// - `input`: height and width; `channels`: of the input and of the output
    ///
    /// # Errors
    /// [`Error::Value`] for a zero kernel, stride or dilation, or a window that is larger than the padded picture.
    pub fn conv2d(
        batch: usize,
        input: [usize; 2],
        channels: [usize; 2],
        window: Window,
    ) -> Result<Self> {
        const OP: &str = "conv2d";
        check(OP, &window)?;
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = input[axis] + 2 * window.padding[axis];
            let reach = window.dilation[axis] * (window.kernel[axis] - 1);
            let room = padded.checked_sub(reach + 1).ok_or(Error::Value {
                op: OP,
                name: "kernel_size",
                value: window.kernel[axis] as f64,
                rule: "kernel and dilation must fit into the padded picture",
            })?;
            output[axis] = room / window.stride[axis] + 1;
        }
        Self {
            transposed: false,
            batch,
            fine: input,
            coarse: output,
            fine_channels: channels[0],
            coarse_channels: channels[1],
            groups: 1,
            window,
        }
        .countable(OP)
    }

    /// A transposed convolution.
    ///
    /// - `input`: height and width; `channels`: of the input and of the output
    /// - `output_padding`: rows and columns added below and to the right of the output
    ///
    /// # Errors
    /// [`Error::Value`] for a zero kernel, stride or dilation, an output padding that is neither below the stride nor below the
    /// dilation, or a padding that leaves no output.
    pub fn conv_transpose2d(
        batch: usize,
        input: [usize; 2],
        channels: [usize; 2],
        window: Window,
        output_padding: [usize; 2],
    ) -> Result<Self> {
        const OP: &str = "conv_transpose2d";
        check(OP, &window)?;
        let mut output = [0; 2];
        for axis in 0..2 {
            if output_padding[axis] >= window.stride[axis].max(window.dilation[axis]) {
                return Err(Error::Value {
                    op: OP,
                    name: "output_padding",
                    value: output_padding[axis] as f64,
                    rule: "it must be smaller than the stride or the dilation",
                });
            }
            let reach = window.dilation[axis] * (window.kernel[axis] - 1) + output_padding[axis];
            let spread =
                input[axis].checked_sub(1).and_then(|n| n.checked_mul(window.stride[axis]));
            output[axis] = spread
                .and_then(|n| (n + reach + 1).checked_sub(2 * window.padding[axis]))
                .filter(|&n| n > 0)
                .ok_or(Error::Value {
                    op: OP,
                    name: "padding",
                    value: window.padding[axis] as f64,
                    rule: "input, kernel and padding must leave at least one row and column of output",
                })?;
        }
        Self {
            transposed: true,
            batch,
            fine: output,
            coarse: input,
            fine_channels: channels[1],
            coarse_channels: channels[0],
            groups: 1,
            window,
        }
        .countable(OP)
    }

    /// The same with the channels of both sides in groups.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no group, or if one side's channels are no multiple of them.
    pub fn with_groups(self, groups: usize) -> Result<Self> {
        let divides = |channels: usize| groups != 0 && channels.is_multiple_of(groups);
        if divides(self.fine_channels) && divides(self.coarse_channels) {
            return Ok(Geometry { groups, ..self });
        }
        Err(Error::Value {
            op: if self.transposed { "conv_transpose2d" } else { "conv2d" },
            name: "groups",
            value: groups as f64,
            rule: "at least one is needed, and the channels of both sides must be multiples of it",
        })
    }

    fn countable(self, op: &'static str) -> Result<Self> {
        let count = |extent: [usize; 2], channels: usize| {
            [extent[0], extent[1], channels]
                .iter()
                .try_fold(self.batch.max(1), |n, &f| n.checked_mul(f.max(1)))
                .filter(|&n| n <= isize::MAX as usize / 16)
        };
        match (count(self.fine, self.fine_channels), count(self.coarse, self.coarse_channels)) {
            (Some(_), Some(_)) => Ok(self),
            _ => Err(Error::Value {
                op,
                name: "padding",
                value: self.window.padding[0] as f64,
                rule: "the result would not fit into memory",
            }),
        }
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        if self.transposed { self.fine } else { self.coarse }
    }

    /// Elements of the input, `[n, h, w, ci]` in memory.
    pub fn input_len(&self) -> usize {
        if self.transposed { self.coarse_len() } else { self.fine_len() }
    }

    /// Elements of the output, `[n, h, w, co]` in memory.
    pub fn output_len(&self) -> usize {
        if self.transposed { self.fine_len() } else { self.coarse_len() }
    }

    /// Elements of the weights, `[coarse channels, fine channels / groups, kh, kw]`.
    pub fn weight_len(&self) -> usize {
        self.coarse_channels * (self.fine_channels / self.groups) * self.positions()
    }

    /// Whether each channel is convolved by itself.
    pub(super) fn depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.fine_channels && self.groups == self.coarse_channels
    }

    /// Positions of the kernel.
    pub(super) fn positions(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    pub(super) fn fine_len(&self) -> usize {
        self.batch * self.fine[0] * self.fine[1] * self.fine_channels
    }

    pub(super) fn coarse_len(&self) -> usize {
        self.batch * self.coarse[0] * self.coarse[1] * self.coarse_channels
    }
}

fn check(op: &'static str, window: &Window) -> Result<()> {
    let named = [
        ("kernel_size", window.kernel, 1, "it must be between 1 and 2^24"),
        ("stride", window.stride, 1, "it must be between 1 and 2^24"),
        ("dilation", window.dilation, 1, "it must be between 1 and 2^24"),
        ("padding", window.padding, 0, "it must be at most 2^24"),
    ];
    for (name, values, least, rule) in named {
        for value in values {
            if !(least..=LIMIT).contains(&value) {
                return Err(Error::Value { op, name, value: value as f64, rule });
            }
        }
    }
    Ok(())
}
