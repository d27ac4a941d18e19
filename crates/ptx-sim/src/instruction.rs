//! Decoded instructions.

/// A scalar type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Pred,
    /// Bits without a meaning.
    B(u8),
    U(u8),
    S(u8),
    F16,
    Bf16,
    F32,
    F64,
}

impl Type {
    /// The type that a modifier without its dot names.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "pred" => Self::Pred,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "f32" => Self::F32,
            "f64" => Self::F64,
            _ => {
                let bits = match word.get(1..)? {
                    "8" => 8,
                    "16" => 16,
                    "32" => 32,
                    "64" => 64,
                    _ => return None,
                };
                match word.as_bytes()[0] {
                    b'b' => Self::B(bits),
                    b'u' => Self::U(bits),
                    b's' => Self::S(bits),
                    _ => return None,
                }
            }
        })
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Pred => 1,
            Self::B(bits) | Self::U(bits) | Self::S(bits) => u32::from(bits),
            Self::F16 | Self::Bf16 => 16,
            Self::F32 => 32,
            Self::F64 => 64,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        (self.bits() as usize).div_ceil(8)
    }

    /// Ones in all bits of the type.
    pub(crate) fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Self::S(_))
    }

    /// The bits as a number of the type's sign, for integers.
    pub(crate) fn integer(self, bits: u64) -> i128 {
        let bits = bits & self.mask();
        if self.is_signed() {
            let shift = 64 - self.bits();
            i128::from(((bits << shift) as i64) >> shift)
        } else {
            i128::from(bits)
        }
    }
}

/// A register, by its place in the kernel's list.
pub(crate) type Register = u16;

/// What an instruction reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    Register(Register),
    /// A predicate's opposite.
    Not(Register),
    Bits(u64),
    Special(Special),
}

/// Registers that the machine sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
    LaneMaskLt,
}

/// Where a result goes; `_` is nowhere.
pub(crate) type Target = Option<Register>;

/// An address: a base, or none for a parameter's place, and bytes to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) base: Operand,
    pub(crate) offset: i64,
}

/// Memory that a load or store names. Generic addresses are told apart when they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Parameter,
    Global,
    Shared,
    Generic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Neg,
    Abs,
    Not,
    Popc,
    Clz,
    Brev,
    Sqrt,
    Rcp,
    Rsqrt,
    Ex2,
    Lg2,
    Tanh,
    Sin,
    Cos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    MulHigh,
    Div,
    Rem,
    Min,
    Max,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    CopySign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// The same, true if one is NaN.
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    /// Neither is NaN.
    Num,
    /// One is NaN.
    Nan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    Nearest,
    Zero,
    Down,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Atomic {
    Add,
    Min,
    Max,
    Exchange,
    CompareSwap,
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// How exactly, and of what numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Precision {
    /// Within the documented error only.
    pub(crate) approximate: bool,
    /// Subnormal numbers count as zero.
    pub(crate) flush: bool,
    /// Clamped to [0, 1].
    pub(crate) saturate: bool,
    /// Minimum and maximum are NaN if one operand is.
    pub(crate) nan: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Move {
        ty: Type,
        to: Register,
        from: Operand,
    },
    /// Parts to one register, the lowest first.
    Pack {
        ty: Type,
        to: Register,
        parts: Vec<Operand>,
    },
    Unpack {
        ty: Type,
        to: Vec<Target>,
        from: Operand,
    },
    Unary {
        of: Unary,
        ty: Type,
        precision: Precision,
        to: Register,
        from: Operand,
    },
    Binary {
        of: Binary,
        ty: Type,
        precision: Precision,
        to: Register,
        from: [Operand; 2],
    },
    /// Product of twice the width.
    MulWide {
        ty: Type,
        to: Register,
        from: [Operand; 2],
    },
    /// Product and sum of integers, low or high half or twice the width.
    MultiplyAdd {
        half: Half,
        ty: Type,
        to: Register,
        from: [Operand; 3],
    },
    /// Product and sum, rounded once.
    Fma {
        ty: Type,
        precision: Precision,
        to: Register,
        from: [Operand; 3],
    },
    BitExtract {
        ty: Type,
        to: Register,
        from: [Operand; 3],
    },
    BitInsert {
        ty: Type,
        to: Register,
        from: [Operand; 4],
    },
    Lookup {
        to: Register,
        from: [Operand; 3],
        table: u8,
    },
    Permute {
        to: Register,
        from: [Operand; 3],
    },
    Convert {
        to_type: Type,
        from_type: Type,
        rounding: Rounding,
        /// To a whole number.
        whole: bool,
        precision: Precision,
        to: Register,
        from: Operand,
    },
    /// Two numbers rounded to the halves of a register, the first to the upper one.
    ConvertPair {
        to_type: Type,
        to: Register,
        from: [Operand; 2],
    },
    Compare {
        of: Comparison,
        ty: Type,
        flush: bool,
        to: [Target; 2],
        from: [Operand; 2],
        with: Option<(Binary, Operand)>,
    },
    Select {
        ty: Type,
        to: Register,
        from: [Operand; 2],
        by: Operand,
    },
    Load {
        place: Place,
        ty: Type,
        to: Vec<Target>,
        address: Address,
    },
    Store {
        place: Place,
        ty: Type,
        address: Address,
        from: Vec<Operand>,
    },
    Atomic {
        of: Atomic,
        place: Place,
        ty: Type,
        to: Target,
        address: Address,
        from: [Option<Operand>; 2],
    },
    Branch {
        to: usize,
    },
    Exit,
    Barrier {
        id: Operand,
    },
    WarpBarrier {
        mask: Operand,
    },
    Shuffle {
        of: Shuffle,
        to: Register,
        valid: Target,
        from: [Operand; 3],
        mask: Operand,
    },
    Vote {
        of: Vote,
        to: Register,
        from: Operand,
        mask: Operand,
    },
    /// All lanes of the mask get the reduction of their values.
    Reduce {
        of: Binary,
        ty: Type,
        to: Register,
        from: Operand,
        mask: Operand,
    },
    ActiveMask {
        to: Register,
    },
    CopyAsync {
        bytes: usize,
        to: Address,
        from: Address,
        size: Option<Operand>,
    },
    CopyCommit,
    /// Waits until so many groups are left; none for all.
    CopyWait {
        left: usize,
    },
    /// Orders memory for others; accesses here take effect at once.
    Fence,
}

/// Part of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Low,
    High,
    Wide,
}

/// An operation with its guard and its place in the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instruction {
    /// Executed only where the predicate has this value.
    pub(crate) guard: Option<(Register, bool)>,
    pub(crate) operation: Operation,
    pub(crate) line: usize,
}
