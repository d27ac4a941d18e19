//! Operands as they are written, and what they mean.

use std::collections::HashMap;

use crate::instruction::{Operand, Register, Special};
use crate::module::{PARAMETER_SPACING, Param};
use crate::token::Token;

/// A part of a statement, or what is wrong with it.
pub(crate) type Decoded<T> = Result<T, String>;

/// What names stand for.
pub(crate) struct Names<'a> {
    pub(crate) registers: &'a HashMap<String, Register>,
    pub(crate) shared: &'a HashMap<String, u64>,
    pub(crate) params: &'a [Param],
    pub(crate) labels: &'a HashMap<String, usize>,
}

/// An operand as it is written.
#[derive(Debug, Clone)]
pub(crate) enum Written<'a> {
    Word(&'a str),
    Negative(&'a str),
    Not(&'a str),
    Pair(&'a str, &'a str),
    Vector(Vec<Written<'a>>),
    Address(&'a str, i64),
}

/// Reads the tokens of a statement one after the other.
pub(crate) struct Scan<'a, 't> {
    pub(crate) tokens: &'t [(usize, Token<'a>)],
    pub(crate) at: usize,
}

impl<'a> Scan<'a, '_> {
    pub(crate) fn take(&mut self, sign: char) -> bool {
        let found = matches!(self.tokens.get(self.at), Some((_, Token::Sign(s))) if *s == sign);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn word(&mut self) -> Decoded<&'a str> {
        match self.tokens.get(self.at) {
            Some((_, Token::Word(word))) => {
                self.at += 1;
                Ok(word)
            }
            other => Err(format!("a word was expected, not {:?}", other.map(|(_, token)| token))),
        }
    }

    pub(crate) fn operand(&mut self) -> Decoded<Written<'a>> {
        if self.take('{') {
            let mut parts = vec![self.operand()?];
            while self.take(',') {
                parts.push(self.operand()?);
            }
            return if self.take('}') {
                Ok(Written::Vector(parts))
            } else {
                Err("'}' is missing".into())
            };
        }
        if self.take('[') {
            let base = self.word()?;
            let mut offset = 0;
            if self.take('+') {
                let negative = self.take('-');
                offset = integer(self.word()?)? as i64;
                offset = if negative { -offset } else { offset };
            } else if self.take('-') {
                return Err(format!("an offset is added: [{base}+-{}]", self.word()?));
            }
            return if self.take(']') {
                Ok(Written::Address(base, offset))
            } else {
                Err("']' is missing".into())
            };
        }
        if self.take('-') {
            return Ok(Written::Negative(self.word()?));
        }
        if self.take('!') {
            return Ok(Written::Not(self.word()?));
        }
        let word = self.word()?;
        if self.take('|') { Ok(Written::Pair(word, self.word()?)) } else { Ok(Written::Word(word)) }
    }
}

pub(crate) fn integer(word: &str) -> Decoded<u64> {
    let digits = word.strip_suffix('U').unwrap_or(word);
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.map_err(|_| format!("{word} is neither a number nor a name"))
}

impl Names<'_> {
    pub(crate) fn register(&self, word: &str) -> Decoded<Register> {
        self.registers.get(word).copied().ok_or_else(|| format!("{word} is no register"))
    }

    pub(crate) fn operand(&self, word: &str) -> Decoded<Operand> {
        if let Some(&register) = self.registers.get(word) {
            return Ok(Operand::Register(register));
        }
        if let Some(&place) = self.shared.get(word) {
            return Ok(Operand::Bits(place));
        }
        if let Some(at) = self.params.iter().position(|param| param.name == word) {
            return Ok(Operand::Bits((at as u64 + 1) * PARAMETER_SPACING));
        }
        if let Some(special) = word.strip_prefix('%') {
            return special_register(special).map(Operand::Special);
        }
        for prefix in ["0f", "0F", "0d", "0D"] {
            if let Some(hex) = word.strip_prefix(prefix) {
                let bits = u64::from_str_radix(hex, 16);
                return bits.map(Operand::Bits).map_err(|_| format!("{word} is no number"));
            }
        }
        integer(word).map(Operand::Bits)
    }
}

fn special_register(word: &str) -> Decoded<Special> {
    let (name, axis) = word.split_once('.').unwrap_or((word, ""));
    let axis = match axis {
        "" => None,
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => return Err(format!("%{word} is not known")),
    };
    Ok(match (name, axis) {
        ("tid", Some(axis)) => Special::Thread(axis),
        ("ntid", Some(axis)) => Special::Threads(axis),
        ("ctaid", Some(axis)) => Special::Block(axis),
        ("nctaid", Some(axis)) => Special::Blocks(axis),
        ("laneid", None) => Special::Lane,
        ("warpid", None) => Special::Warp,
        ("lanemask_lt", None) => Special::LaneMaskLt,
        _ => return Err(format!("%{word} is not known")),
    })
}
