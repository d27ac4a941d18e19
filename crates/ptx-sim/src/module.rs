//! The text of a module: its kernels with their parameters, registers, shared memory and instructions.

use std::collections::HashMap;

use crate::decode::decode;
use crate::error::Error;
use crate::instruction::{Instruction, Register, Type};
use crate::operand::Names;
use crate::token::{Token, tokens};

/// A parsed module.
#[derive(Debug, Clone)]
pub struct Module {
    kernels: Vec<Kernel>,
    target: String,
}

/// A kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) registers: Vec<String>,
    /// Bytes of shared memory that the text declares.
    pub(crate) shared: usize,
    pub(crate) max_threads: Option<[u32; 3]>,
    pub(crate) required_threads: Option<[u32; 3]>,
    /// The text's lines, for messages.
    pub(crate) lines: Vec<String>,
}

/// A parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type as the text has it, without the dot: `u64`, or `b8[48]` for an array.
    pub ty: String,
    /// Its bytes.
    pub bytes: usize,
    /// What its address is a multiple of.
    pub(crate) align: usize,
}

impl Module {
    /// Reads a module.
    ///
    /// The subset: kernels without functions; parameters, scalars and arrays; registers, `.shared` arrays and one `.extern .shared` array; integer
    /// and floating-point arithmetic in round-to-nearest, bit operations, conversions, comparisons; loads and stores, scalar and in
    /// vectors; atomics; branches; `bar.sync`, `bar.warp.sync`, `shfl.sync`, `vote.sync`, `redux.sync`; `cp.async` by groups.
    ///
    /// # Errors
    /// [`Error::Text`] with the line of whatever lies outside it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Reader { tokens: tokens(text)?, at: 0, lines: text.lines().map(str::to_owned).collect() }
            .module()
    }

    /// Names of the kernels, in the text's order.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter()
    }

    /// The kernel of that name.
    ///
    /// # Errors
    /// [`Error::NoKernel`] lists the names there are.
    pub fn kernel(&self, name: &str) -> Result<&Kernel, Error> {
        self.kernels.iter().find(|kernel| kernel.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
            Error::NoKernel { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// The target the text names, such as `sm_80`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl Kernel {
    /// Its entry name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters, in order.
    #[must_use]
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bytes of shared memory that the text declares; those of an `.extern` array come with a launch.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        self.shared
    }
}

struct Reader<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    lines: Vec<String>,
}

impl<'a> Reader<'a> {
    fn line(&self) -> usize {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(1, |(line, _)| *line)
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T, Error> {
        Err(Error::Text { line: self.line(), what: what.into() })
    }

    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn next(&mut self) -> Result<Token<'a>, Error> {
        match self.tokens.get(self.at) {
            Some((_, token)) => {
                self.at += 1;
                Ok(token.clone())
            }
            None => self.error("the text ends in the middle of something"),
        }
    }

    fn word(&mut self) -> Result<&'a str, Error> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => {
                self.at -= 1;
                self.error(format!("a word was expected, not {other:?}"))
            }
        }
    }

    fn sign(&mut self, sign: char) -> Result<(), Error> {
        if self.take(sign) {
            return Ok(());
        }
        let found = self.peek().cloned();
        self.error(format!("{sign:?} was expected, not {found:?}"))
    }

    fn take(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<N, Error> {
        let word = self.word()?;
        word.parse().or_else(|_| {
            self.at -= 1;
            self.error(format!("a number was expected, not {word}"))
        })
    }

    fn module(mut self) -> Result<Module, Error> {
        let (mut kernels, mut target) = (Vec::new(), String::new());
        let mut outer = Shared::default();
        while self.peek().is_some() {
            match self.word()? {
                ".version" | ".address_size" => {
                    self.word()?;
                }
                ".target" => target = self.word()?.to_owned(),
                ".visible" => {}
                ".extern" => {
                    if self.word()? != ".shared" {
                        return self.error("of .extern only .shared is known");
                    }
                    self.shared(&mut outer, true)?;
                }
                ".entry" => kernels.push(self.kernel(&outer)?),
                other => {
                    self.at -= 1;
                    return self.error(format!("{other} is not known outside a kernel"));
                }
            }
        }
        if kernels.is_empty() {
            return self.error("the text has no kernel");
        }
        Ok(Module { kernels, target })
    }

    fn kernel(&mut self, outer: &Shared) -> Result<Kernel, Error> {
        let name = self.word()?.to_owned();
        let params = self.params()?;
        let (mut max_threads, mut required_threads) = (None, None);
        while !self.take('{') {
            match self.word()? {
                ".maxntid" => max_threads = Some(self.dimensions()?),
                ".reqntid" => required_threads = Some(self.dimensions()?),
                ".minnctapersm" | ".maxnreg" => {
                    self.number::<u32>()?;
                }
                other => return self.error(format!("{other} is not known before a kernel's body")),
            }
        }
        let mut shared = outer.clone();
        let mut registers: Vec<String> = Vec::new();
        let mut places: HashMap<String, Register> = HashMap::new();
        let mut labels: HashMap<String, usize> = HashMap::new();
        // Statements are decoded when all labels are known.
        let mut statements: Vec<(usize, usize)> = Vec::new();
        while !self.take('}') {
            match self.peek() {
                Some(Token::Word(".reg")) => {
                    self.at += 1;
                    self.registers(&mut registers, &mut places)?;
                }
                Some(Token::Word(".shared")) => {
                    self.at += 1;
                    self.shared(&mut shared, false)?;
                }
                Some(Token::Word(".pragma")) => {
                    while !self.take(';') {
                        self.next()?;
                    }
                }
                Some(Token::Word(word))
                    if !word.starts_with('.')
                        && self.tokens.get(self.at + 1).map(|(_, token)| token)
                            == Some(&Token::Sign(':')) =>
                {
                    let label = (*word).to_owned();
                    if labels.insert(label.clone(), statements.len()).is_some() {
                        return self.error(format!("the label {label} stands twice"));
                    }
                    self.at += 2;
                }
                Some(Token::Sign('{')) => {
                    return self.error("blocks within a kernel are not known");
                }
                _ => {
                    let from = self.at;
                    while !self.take(';') {
                        self.next()?;
                    }
                    statements.push((from, self.at - 1));
                }
            }
        }
        let names =
            Names { registers: &places, shared: &shared.places, params: &params, labels: &labels };
        let instructions = statements
            .iter()
            .map(|&(from, to)| decode(&self.tokens[from..to], self.tokens[from].0, &names))
            .collect::<Result<_, _>>()?;
        let lines = self.lines.clone();
        let shared = shared.bytes;
        Ok(Kernel {
            name,
            params,
            instructions,
            registers,
            shared,
            max_threads,
            required_threads,
            lines,
        })
    }

    fn params(&mut self) -> Result<Vec<Param>, Error> {
        let (mut params, mut end) = (Vec::new(), 0_usize);
        if !self.take('(') || self.take(')') {
            return Ok(params);
        }
        loop {
            if self.word()? != ".param" {
                self.at -= 1;
                return self.error("a parameter begins with .param");
            }
            let (align, word) = self.alignment()?;
            let Some(of) = word.strip_prefix('.').and_then(Type::of) else {
                return self.error(format!("{word} is no type of a parameter"));
            };
            let (name, mut ty, mut bytes) =
                (self.word()?.to_owned(), word[1..].to_owned(), of.bytes());
            let align = align.unwrap_or(bytes).max(1);
            if self.take('[') {
                let count: usize = self.number()?;
                self.sign(']')?;
                ty = format!("{ty}[{count}]");
                bytes *= count;
            }
            end = end.next_multiple_of(align).saturating_add(bytes);
            if end > MOST_PARAMETER_BYTES {
                return self.error(format!(
                    "parameters up to {name} have {end} bytes; {MOST_PARAMETER_BYTES} are possible"
                ));
            }
            params.push(Param { name, ty, bytes, align });
            if self.take(')') {
                return Ok(params);
            }
            self.sign(',')?;
        }
    }

    /// A type's word, and the number of an `.align` before it.
    fn alignment(&mut self) -> Result<(Option<usize>, &'a str), Error> {
        let word = self.word()?;
        if word != ".align" {
            return Ok((None, word));
        }
        let align: usize = self.number()?;
        if !align.is_power_of_two() {
            return self.error(format!("{align} is no alignment"));
        }
        Ok((Some(align), self.word()?))
    }

    fn dimensions(&mut self) -> Result<[u32; 3], Error> {
        let mut out = [1; 3];
        for (at, out) in out.iter_mut().enumerate() {
            if at > 0 && !self.take(',') {
                break;
            }
            *out = self.number()?;
        }
        Ok(out)
    }

    fn registers(
        &mut self,
        registers: &mut Vec<String>,
        places: &mut HashMap<String, Register>,
    ) -> Result<(), Error> {
        let ty = self.word()?;
        if ty.strip_prefix('.').and_then(Type::of).is_none() {
            return self.error(format!("{ty} is no type of a register"));
        }
        loop {
            let name = self.word()?;
            let names = if self.take('<') {
                let count: u32 = self.number()?;
                self.sign('>')?;
                (0..count).map(|index| format!("{name}{index}")).collect()
            } else {
                vec![name.to_owned()]
            };
            for name in names {
                let Ok(place) = Register::try_from(registers.len()) else {
                    return self.error("more registers than 65,536");
                };
                if places.insert(name.clone(), place).is_some() {
                    return self.error(format!("the register {name} stands twice"));
                }
                registers.push(name);
            }
            if self.take(';') {
                return Ok(());
            }
            self.sign(',')?;
        }
    }

    /// `.align 16 .b8 name[4096];`, after `.shared`.
    fn shared(&mut self, shared: &mut Shared, outer: bool) -> Result<(), Error> {
        let (align, word) = self.alignment()?;
        let Some(ty) = word.strip_prefix('.').and_then(Type::of) else {
            return self.error(format!("{word} is no type of an array"));
        };
        let name = self.word()?.to_owned();
        let mut count = 1;
        if self.take('[') {
            count = 0;
            if !self.take(']') {
                count = self.number::<usize>()?;
                self.sign(']')?;
            }
        }
        self.sign(';')?;
        if outer {
            shared.external = Some(name.clone());
            shared.places.insert(name, EXTERNAL);
            return Ok(());
        }
        let from = shared.bytes.next_multiple_of(align.unwrap_or(ty.bytes()).max(1));
        shared.places.insert(name, DECLARED + from as u64);
        shared.bytes = from + count * ty.bytes();
        Ok(())
    }
}

/// Bytes that the parameters of a kernel can have in PTX 7.8.
const MOST_PARAMETER_BYTES: usize = 4096;
/// Addresses of parameters are this far apart: no address of one is near another, and none is zero.
pub(crate) const PARAMETER_SPACING: u64 = 1 << 16;
/// Address of the first array that the text declares: not zero, so that a forgotten base shows.
pub(crate) const DECLARED: u64 = 1 << 10;
/// Address of the `.extern .shared` array, far from the others.
pub(crate) const EXTERNAL: u64 = 1 << 20;

#[derive(Debug, Clone, Default)]
struct Shared {
    places: HashMap<String, u64>,
    bytes: usize,
    external: Option<String>,
}
