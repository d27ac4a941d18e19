//! The operations measured: their shapes, their nominal work and their operands.

/// Which convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 3×3, stride 1, padding 1.
    Conv,
    /// Transposed, 4×4, stride 2, padding 1.
    Transposed,
}

/// A convolution of `[batch, ci, side, side]`, without bias.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Which convolution.
    pub kind: Kind,
    /// Pictures.
    pub batch: usize,
    /// Channels of the input.
    pub ci: usize,
    /// Channels of the output.
    pub co: usize,
    /// Height and width of the input.
    pub side: usize,
}

/// The shapes of record.
pub const CASES: [Case; 6] = [
    Case::new(Kind::Conv, 64, 64, 64),
    Case::new(Kind::Conv, 128, 128, 32),
    Case::new(Kind::Conv, 256, 256, 16),
    Case::new(Kind::Conv, 512, 512, 8),
    Case::new(Kind::Transposed, 512, 256, 4),
    Case::new(Kind::Transposed, 128, 64, 16),
];

impl Case {
    const fn new(kind: Kind, ci: usize, co: usize, side: usize) -> Self {
        Case { kind, batch: 32, ci, co, side }
    }

    /// As it stands in the table.
    pub fn name(&self) -> String {
        let Case { ci, co, side, .. } = self;
        match self.kind {
            Kind::Conv => format!("conv2d 3×3 {ci}→{co} at {side}²"),
            Kind::Transposed => format!("conv_transpose2d 4×4/2 {ci}→{co} at {side}²"),
        }
    }

    /// Distance between windows.
    pub fn stride(&self) -> usize {
        match self.kind {
            Kind::Conv => 1,
            Kind::Transposed => 2,
        }
    }

    /// Rows and columns of zeros at each side, or taken off it.
    pub const PADDING: usize = 1;

    /// Height and width of the kernel.
    fn kernel(&self) -> usize {
        match self.kind {
            Kind::Conv => 3,
            Kind::Transposed => 4,
        }
    }

    /// `[n, ci, h, w]`.
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.ci, self.side, self.side]
    }

    /// `[co, ci, k, k]`; `[ci, co, k, k]` for a transposed convolution, in all three libraries.
    pub fn weight_shape(&self) -> [usize; 4] {
        let k = self.kernel();
        match self.kind {
            Kind::Conv => [self.co, self.ci, k, k],
            Kind::Transposed => [self.ci, self.co, k, k],
        }
    }

    /// `[n, co, h', w']`: of the input's size, or twice that.
    pub fn output_shape(&self) -> [usize; 4] {
        let side = self.side * self.stride();
        [self.batch, self.co, side, side]
    }

    /// Nominal operations of the forward pass, a multiply-add counting two: `2·n·co·ci·k²·h·w` with the output's `h` and `w`, the
    /// input's for a transposed convolution. Each gradient counts as much again.
    pub fn flops(&self) -> f64 {
        let taps = self.kernel() * self.kernel() * self.side * self.side;
        (2 * self.batch * self.co * self.ci * taps) as f64
    }

    /// Input and weight, row-major.
    pub fn operands(&self) -> [Vec<f32>; 2] {
        [
            values(1, self.input_shape().iter().product()),
            values(2, self.weight_shape().iter().product()),
        ]
    }
}

/// `len` values in [-0.5, 0.5) from a fixed generator (a linear congruence, its upper bits).
pub fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}
