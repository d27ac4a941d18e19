//! Tokens of a statement to an instruction.

mod together;

use crate::error::Error;
use crate::instruction::{
    Address, Binary, Comparison, Half, Instruction, Operand, Operation, Place, Precision, Register,
    Rounding, Target, Type, Unary, Vote,
};
use crate::operand::{Decoded, Names, Scan, Written, integer};
use crate::token::Token;

/// Decodes a statement without its semicolon.
pub(crate) fn decode(
    tokens: &[(usize, Token<'_>)],
    line: usize,
    names: &Names<'_>,
) -> Result<Instruction, Error> {
    statement(tokens, names)
        .map(|(guard, operation)| Instruction { guard, operation, line })
        .map_err(|what| Error::Text { line, what })
}

fn statement(
    tokens: &[(usize, Token<'_>)],
    names: &Names<'_>,
) -> Decoded<(Option<(Register, bool)>, Operation)> {
    let mut scan = Scan { tokens, at: 0 };
    let mut guard = None;
    if scan.take('@') {
        let wanted = !scan.take('!');
        guard = Some((names.register(scan.word()?)?, wanted));
    }
    let mnemonic = scan.word()?;
    let mut operands = Vec::new();
    while scan.at < tokens.len() {
        operands.push(scan.operand()?);
        if scan.at < tokens.len() && !scan.take(',') {
            return Err(format!("a comma was expected after operand {}", operands.len()));
        }
    }
    let mut parts = mnemonic.split('.');
    let name = parts.next().unwrap_or_default();
    let mut given = Given { name, modifiers: parts.collect(), operands, names, next: 0 };
    let operation = given.operation()?;
    if let Some(left) = given.modifiers.first() {
        return Err(format!("{name} with .{left} is not known"));
    }
    if given.next < given.operands.len() {
        return Err(format!("{name} has {} operands too many", given.operands.len() - given.next));
    }
    Ok((guard, operation))
}

/// A statement taken apart; what has been used is gone.
struct Given<'a, 'n> {
    name: &'a str,
    modifiers: Vec<&'a str>,
    operands: Vec<Written<'a>>,
    names: &'n Names<'n>,
    next: usize,
}

impl<'a> Given<'a, '_> {
    /// Takes a modifier, if it is there.
    fn has(&mut self, modifier: &str) -> bool {
        let found = self.modifiers.iter().position(|m| *m == modifier);
        if let Some(at) = found {
            self.modifiers.remove(at);
        }
        found.is_some()
    }

    fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choices.iter().find(|(word, _)| self.has(word)).map(|(_, choice)| *choice)
    }

    fn need<T: Copy>(&mut self, choices: &[(&str, T)]) -> Decoded<T> {
        let known: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let name = self.name;
        self.one_of(choices).ok_or_else(|| format!("{name} needs one of .{}", known.join(", .")))
    }

    /// Takes the first modifier that is a type.
    fn ty(&mut self) -> Decoded<Type> {
        let at = self.modifiers.iter().position(|word| Type::of(word).is_some());
        let ty = at.and_then(|at| Type::of(self.modifiers.remove(at)));
        ty.ok_or_else(|| format!("{} needs a type", self.name))
    }

    fn written(&mut self) -> Decoded<Written<'a>> {
        let found = self.operands.get(self.next).cloned();
        self.next += 1;
        found.ok_or_else(|| format!("{} lacks operand {}", self.name, self.next))
    }

    fn more(&self) -> bool {
        self.next < self.operands.len()
    }

    fn register(&mut self) -> Decoded<Register> {
        match self.written()? {
            Written::Word(word) => self.names.register(word),
            other => Err(format!("operand {} must be a register, not {other:?}", self.next)),
        }
    }

    fn target_of(&self, word: &str) -> Decoded<Target> {
        if word == "_" { Ok(None) } else { self.names.register(word).map(Some) }
    }

    fn operand_of(&self, written: &Written<'a>) -> Decoded<Operand> {
        match written {
            Written::Word(word) => self.names.operand(word),
            Written::Negative(word) => {
                let value = integer(word)?;
                Ok(Operand::Bits((value as i64).wrapping_neg() as u64))
            }
            Written::Not(word) => self.names.register(word).map(Operand::Not),
            other => Err(format!("{other:?} is no operand of {}", self.name)),
        }
    }

    fn operand(&mut self) -> Decoded<Operand> {
        let written = self.written()?;
        self.operand_of(&written)
    }

    fn operands<const N: usize>(&mut self) -> Decoded<[Operand; N]> {
        let mut out = [Operand::Bits(0); N];
        for out in &mut out {
            *out = self.operand()?;
        }
        Ok(out)
    }

    fn constant(&mut self) -> Decoded<u64> {
        match self.operand()? {
            Operand::Bits(bits) => Ok(bits),
            _ => Err(format!("operand {} must be a number", self.next)),
        }
    }

    fn address(&mut self) -> Decoded<Address> {
        let Written::Address(word, offset) = self.written()? else {
            return Err(format!("operand {} must be an address", self.next));
        };
        Ok(Address { base: self.names.operand(word)?, offset })
    }

    /// A register or a vector of them, of `lanes`.
    fn targets(&mut self, lanes: usize) -> Decoded<Vec<Target>> {
        let written = self.written()?;
        let target = |written: &Written<'a>| match written {
            Written::Word(word) => self.target_of(word),
            other => Err(format!("{other:?} is no register")),
        };
        let targets = match &written {
            Written::Vector(parts) => parts.iter().map(target).collect::<Decoded<Vec<_>>>()?,
            one => vec![target(one)?],
        };
        self.lanes(targets, lanes)
    }

    fn sources(&mut self, lanes: usize) -> Decoded<Vec<Operand>> {
        let sources = match self.written()? {
            Written::Vector(parts) => {
                parts.iter().map(|part| self.operand_of(part)).collect::<Decoded<Vec<_>>>()?
            }
            one => vec![self.operand_of(&one)?],
        };
        self.lanes(sources, lanes)
    }

    fn lanes<T>(&self, list: Vec<T>, lanes: usize) -> Decoded<Vec<T>> {
        if list.len() == lanes {
            return Ok(list);
        }
        Err(format!("{} needs {lanes} registers, not {}", self.name, list.len()))
    }

    fn precision(&mut self) -> Precision {
        Precision {
            approximate: self.has("approx"),
            flush: self.has("ftz"),
            saturate: self.has("sat"),
            nan: self.has("NaN"),
        }
    }

    /// Round to nearest is what arithmetic knows.
    fn nearest(&mut self) {
        self.has("rn");
    }

    fn place(&mut self) -> Place {
        let places = [
            ("param", Place::Parameter),
            ("global", Place::Global),
            ("shared", Place::Shared),
            ("shared::cta", Place::Shared),
        ];
        self.one_of(&places).unwrap_or(Place::Generic)
    }

    /// Orders and hints that change no result here: every access takes effect at once and in order.
    fn drop_orders(&mut self) {
        const ORDERS: [&str; 20] = [
            "nc",
            "volatile",
            "relaxed",
            "acquire",
            "release",
            "acq_rel",
            "weak",
            "cta",
            "gpu",
            "sys",
            "ca",
            "cg",
            "cs",
            "lu",
            "cv",
            "wb",
            "wt",
            "L1::no_allocate",
            "L1::evict_first",
            "L2::128B",
        ];
        self.modifiers.retain(|modifier| !ORDERS.contains(modifier));
    }

    fn unary(&mut self, of: Unary) -> Decoded<Operation> {
        let precision = self.precision();
        self.nearest();
        let ty = self.ty()?;
        Ok(Operation::Unary { of, ty, precision, to: self.register()?, from: self.operand()? })
    }

    fn binary(&mut self, of: Binary) -> Decoded<Operation> {
        let mut precision = self.precision();
        // `div.full` is a division of two units in the last place, as `.approx` is.
        precision.approximate |= self.has("full");
        self.nearest();
        let ty = self.ty()?;
        Ok(Operation::Binary { of, ty, precision, to: self.register()?, from: self.operands()? })
    }

    fn operation(&mut self) -> Decoded<Operation> {
        Ok(match self.name {
            "mov" | "cvta" => return self.moved(),
            "add" => return self.binary(Binary::Add),
            "sub" => return self.binary(Binary::Sub),
            "mul" => return self.product(),
            "mad" => return self.multiply_add(),
            "fma" => return self.fma(),
            "div" => return self.binary(Binary::Div),
            "rem" => return self.binary(Binary::Rem),
            "min" => return self.binary(Binary::Min),
            "max" => return self.binary(Binary::Max),
            "and" => return self.binary(Binary::And),
            "or" => return self.binary(Binary::Or),
            "xor" => return self.binary(Binary::Xor),
            "shl" => return self.binary(Binary::Shl),
            "shr" => return self.binary(Binary::Shr),
            "copysign" => return self.binary(Binary::CopySign),
            "neg" => return self.unary(Unary::Neg),
            "abs" => return self.unary(Unary::Abs),
            "not" => return self.unary(Unary::Not),
            "popc" => return self.unary(Unary::Popc),
            "clz" => return self.unary(Unary::Clz),
            "brev" => return self.unary(Unary::Brev),
            "sqrt" => return self.unary(Unary::Sqrt),
            "rcp" => return self.unary(Unary::Rcp),
            "rsqrt" => return self.unary(Unary::Rsqrt),
            "ex2" => return self.unary(Unary::Ex2),
            "lg2" => return self.unary(Unary::Lg2),
            "tanh" => return self.unary(Unary::Tanh),
            "sin" => return self.unary(Unary::Sin),
            "cos" => return self.unary(Unary::Cos),
            "bfe" => Operation::BitExtract {
                ty: self.ty()?,
                to: self.register()?,
                from: self.operands()?,
            },
            "bfi" => Operation::BitInsert {
                ty: self.ty()?,
                to: self.register()?,
                from: self.operands()?,
            },
            "lop3" => {
                self.ty()?;
                let (to, from) = (self.register()?, self.operands()?);
                let table = u8::try_from(self.constant()?).map_err(|_| "lop3's table is a byte")?;
                Operation::Lookup { to, from, table }
            }
            "prmt" => {
                self.ty()?;
                Operation::Permute { to: self.register()?, from: self.operands()? }
            }
            "cvt" => return self.convert(),
            "setp" => return self.compare(),
            "selp" => Operation::Select {
                ty: self.ty()?,
                to: self.register()?,
                from: self.operands()?,
                by: self.operand()?,
            },
            "ld" | "ldu" => {
                let (place, lanes) = (self.place(), self.vector());
                self.drop_orders();
                Operation::Load {
                    place,
                    ty: self.ty()?,
                    to: self.targets(lanes)?,
                    address: self.address()?,
                }
            }
            "st" => {
                let (place, lanes) = (self.place(), self.vector());
                self.drop_orders();
                let (ty, address) = (self.ty()?, self.address()?);
                Operation::Store { place, ty, address, from: self.sources(lanes)? }
            }
            "atom" | "red" => return self.atomic(),
            "bra" => {
                self.has("uni");
                let Written::Word(label) = self.written()? else {
                    return Err("bra needs a label".into());
                };
                let to = self.names.labels.get(label).copied();
                Operation::Branch { to: to.ok_or_else(|| format!("the label {label} is nowhere"))? }
            }
            "ret" | "exit" => Operation::Exit,
            "bar" | "barrier" => return self.barrier(),
            "shfl" => return self.shuffle(),
            "vote" => {
                let of = self.need(&[
                    ("all", Vote::All),
                    ("any", Vote::Any),
                    ("uni", Vote::Uniform),
                    ("ballot", Vote::Ballot),
                ])?;
                self.synchronous()?;
                self.ty()?;
                let (to, from) = (self.register()?, self.operand()?);
                Operation::Vote { of, to, from, mask: self.operand()? }
            }
            "redux" => {
                let of = self.need(&[
                    ("add", Binary::Add),
                    ("min", Binary::Min),
                    ("max", Binary::Max),
                    ("and", Binary::And),
                    ("or", Binary::Or),
                    ("xor", Binary::Xor),
                ])?;
                self.synchronous()?;
                let (ty, to, from) = (self.ty()?, self.register()?, self.operand()?);
                Operation::Reduce { of, ty, to, from, mask: self.operand()? }
            }
            "activemask" => {
                self.ty()?;
                Operation::ActiveMask { to: self.register()? }
            }
            "cp" => return self.copy(),
            "membar" | "fence" => {
                self.drop_orders();
                self.has("sc");
                self.has("gl");
                Operation::Fence
            }
            other => return Err(format!("{other} is not known")),
        })
    }

    fn synchronous(&mut self) -> Decoded<()> {
        if self.has("sync") {
            Ok(())
        } else {
            Err(format!("{} is known with .sync only", self.name))
        }
    }

    fn vector(&mut self) -> usize {
        self.one_of(&[("v2", 2), ("v4", 4)]).unwrap_or(1)
    }

    fn moved(&mut self) -> Decoded<Operation> {
        if self.name == "cvta" {
            // Addresses of all kinds are told apart by their values, so nothing changes.
            self.has("to");
            self.place();
        }
        let ty = self.ty()?;
        match (self.written()?, self.written()?) {
            (Written::Vector(parts), from) => {
                let to = parts
                    .iter()
                    .map(|part| match part {
                        Written::Word(word) => self.target_of(word),
                        other => Err(format!("{other:?} is no register")),
                    })
                    .collect::<Decoded<_>>()?;
                Ok(Operation::Unpack { ty, to, from: self.operand_of(&from)? })
            }
            (Written::Word(to), Written::Vector(parts)) => {
                let parts =
                    parts.iter().map(|part| self.operand_of(part)).collect::<Decoded<_>>()?;
                Ok(Operation::Pack { ty, to: self.names.register(to)?, parts })
            }
            (Written::Word(to), from) => Ok(Operation::Move {
                ty,
                to: self.names.register(to)?,
                from: self.operand_of(&from)?,
            }),
            (other, _) => Err(format!("{other:?} is no register")),
        }
    }

    fn half(&mut self) -> Option<Half> {
        self.one_of(&[("lo", Half::Low), ("hi", Half::High), ("wide", Half::Wide)])
    }

    fn product(&mut self) -> Decoded<Operation> {
        match self.half() {
            Some(Half::Wide) => Ok(Operation::MulWide {
                ty: self.ty()?,
                to: self.register()?,
                from: self.operands()?,
            }),
            Some(Half::High) => self.binary(Binary::MulHigh),
            Some(Half::Low) | None => self.binary(Binary::Mul),
        }
    }

    fn multiply_add(&mut self) -> Decoded<Operation> {
        let Some(half) = self.half() else { return self.fma() };
        Ok(Operation::MultiplyAdd {
            half,
            ty: self.ty()?,
            to: self.register()?,
            from: self.operands()?,
        })
    }

    fn fma(&mut self) -> Decoded<Operation> {
        let precision = self.precision();
        self.nearest();
        let ty = self.ty()?;
        if !ty.is_float() {
            return Err(format!("{} of integers needs .lo, .hi or .wide", self.name));
        }
        Ok(Operation::Fma { ty, precision, to: self.register()?, from: self.operands()? })
    }

    fn convert(&mut self) -> Decoded<Operation> {
        let precision = self.precision();
        let whole = self.one_of(&[
            ("rni", Rounding::Nearest),
            ("rzi", Rounding::Zero),
            ("rmi", Rounding::Down),
            ("rpi", Rounding::Up),
        ]);
        let rounding = self.one_of(&[
            ("rn", Rounding::Nearest),
            ("rz", Rounding::Zero),
            ("rm", Rounding::Down),
            ("rp", Rounding::Up),
        ]);
        for (pair, to_type) in [("f16x2", Type::F16), ("bf16x2", Type::Bf16)] {
            if self.has(pair) {
                if self.ty()? != Type::F32 || rounding != Some(Rounding::Nearest) {
                    return Err(format!("to {pair} only cvt.rn.{pair}.f32 is known"));
                }
                return Ok(Operation::ConvertPair {
                    to_type,
                    to: self.register()?,
                    from: self.operands()?,
                });
            }
        }
        let (to_type, from_type) = (self.ty()?, self.ty()?);
        if from_type.is_float() && !to_type.is_float() && whole.is_none() {
            return Err("cvt to an integer needs .rni, .rzi, .rmi or .rpi".into());
        }
        Ok(Operation::Convert {
            to_type,
            from_type,
            rounding: whole.or(rounding).unwrap_or(Rounding::Nearest),
            whole: whole.is_some(),
            precision,
            to: self.register()?,
            from: self.operand()?,
        })
    }

    fn compare(&mut self) -> Decoded<Operation> {
        let with = self.one_of(&[("and", Binary::And), ("or", Binary::Or), ("xor", Binary::Xor)]);
        let flush = self.has("ftz");
        let of = self.need(&[
            ("eq", Comparison::Eq),
            ("ne", Comparison::Ne),
            ("lt", Comparison::Lt),
            ("le", Comparison::Le),
            ("gt", Comparison::Gt),
            ("ge", Comparison::Ge),
            ("lo", Comparison::Lt),
            ("ls", Comparison::Le),
            ("hi", Comparison::Gt),
            ("hs", Comparison::Ge),
            ("equ", Comparison::Equ),
            ("neu", Comparison::Neu),
            ("ltu", Comparison::Ltu),
            ("leu", Comparison::Leu),
            ("gtu", Comparison::Gtu),
            ("geu", Comparison::Geu),
            ("num", Comparison::Num),
            ("nan", Comparison::Nan),
        ])?;
        let ty = self.ty()?;
        let to = match self.written()? {
            Written::Word(word) => [self.target_of(word)?, None],
            Written::Pair(yes, no) => [self.target_of(yes)?, self.target_of(no)?],
            other => return Err(format!("{other:?} is no predicate")),
        };
        let from = self.operands()?;
        let with = with.map(|of| Ok::<_, String>((of, self.operand()?))).transpose()?;
        Ok(Operation::Compare { of, ty, flush, to, from, with })
    }
}
