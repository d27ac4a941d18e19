//! A reader of Python's pickles that executes nothing: what a pickle wants called stays a node of a tree that names it.
//!
//! A pickle is a program for a small stack machine. This one knows all its instructions, but a call only makes an [`Object`]: what
//! the few calls of PyTorch and NumPy mean is decided by whoever reads the tree. Values lie in one list and refer to each other by
//! their place in it, so that neither deep nor circular nesting costs recursion, and what is shared is stored once. Text and bytes
//! are borrowed from the file. Protocols 0 to 5, without buffers outside the pickle and without registered extensions.
//!
//! Source: the comments of Python's `pickletools` module, read for the instructions' arguments and effects.

use std::borrow::Cow;
use std::collections::HashMap;

/// Place of a value in the tree.
pub(super) type Id = u32;

/// Most values in a pickle: twenty are written for a tensor, and each costs this reader up to a hundred bytes.
const MAX_VALUES: usize = 1 << 21;

/// What a pickle builds.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits: two's complement, little-endian.
    Wide(&'a [u8]),
    /// No float of a pickle is anybody's weight.
    Float,
    Text(Cow<'a, str>),
    /// Python's bytes, and the strings of Python 2.
    Bytes(&'a [u8]),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set,
    Dict(Vec<(Id, Id)>),
    /// A function or class, by its module and name: two texts.
    Global {
        module: Id,
        name: Id,
    },
    /// What the pickle leaves to its surroundings, such as a storage.
    Persistent(Id),
    Object(Box<Object>),
}

/// What a call would return, had it been made.
#[derive(Debug)]
pub(super) struct Object {
    /// Whether the pickle creates an instance of a class without calling a function.
    pub(super) instance: bool,
    pub(super) callee: Id,
    /// A tuple, if the pickle is sound.
    pub(super) arguments: Id,
    /// What the object's `__setstate__` would be given.
    pub(super) state: Option<Id>,
    /// What would be stored under keys.
    pub(super) items: Vec<(Id, Id)>,
}

/// A pickle that cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// It ends before its end.
    Truncated,
    /// It is not what a pickler writes.
    Odd(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Truncated => write!(f, "the pickle ends early"),
            Fault::Odd(what) => write!(f, "{what}"),
        }
    }
}

fn odd<T>(what: &str) -> Result<T, Fault> {
    Err(Fault::Odd(what.to_owned()))
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) root: Id,
}

impl<'a> Tree<'a> {
    /// Reads one pickle from the front of `bytes`; the second value is its length.
    ///
    /// # Errors
    /// [`Fault`]; memory stays within a hundred times the pickle's length, and within 300 MB.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, usize), Fault> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok((Tree { values: machine.values, root }, machine.at))
    }

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at which a sequence begins.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len());
        let taken = &rest[..len.ok_or(Fault::Truncated)?];
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N as u64)?.try_into().map_err(|_| Fault::Truncated)
    }

    fn u8(&mut self) -> Result<u64, Fault> {
        Ok(u64::from(self.array::<1>()?[0]))
    }

    fn u32(&mut self) -> Result<u64, Fault> {
        Ok(u64::from(u32::from_le_bytes(self.array()?)))
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A line of the text protocol, without its end.
    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or(Fault::Truncated)?;
        self.at += len + 1;
        utf8(&rest[..len])
    }

    fn new_value(&mut self, value: Value<'a>) -> Result<Id, Fault> {
        if self.values.len() >= MAX_VALUES {
            return odd("it holds more than two million values beside the tensors");
        }
        self.values.push(value);
        Ok((self.values.len() - 1) as Id)
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Fault> {
        let id = self.new_value(value)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), Fault> {
        if self.stack.len() >= MAX_VALUES {
            return odd("its stack grows without end");
        }
        self.stack.push(id);
        Ok(())
    }

    /// Nothing below the last mark is anybody's.
    fn pop(&mut self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return odd("it takes from an empty stack");
        }
        self.stack.pop().ok_or(Fault::Truncated)
    }

    fn top(&self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).unwrap_or(&[]);
        above.last().copied().map_or_else(|| odd("it takes from an empty stack"), Ok)
    }

    fn mark(&mut self) -> Result<(), Fault> {
        if self.marks.len() >= MAX_VALUES {
            return odd("its stack grows without end");
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// All that was pushed since the last mark.
    fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let Some(mark) = self.marks.pop() else { return odd("it closes what it did not open") };
        Ok(self.stack.split_off(mark))
    }

    fn pairs_since_mark(&mut self) -> Result<Vec<(Id, Id)>, Fault> {
        let flat = self.since_mark()?;
        let (pairs, rest) = flat.as_chunks::<2>();
        if !rest.is_empty() {
            return odd("it stores a key without a value");
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    /// What stands on the stack's top, to be filled.
    fn container(&mut self) -> Result<&mut Value<'a>, Fault> {
        let top = self.top()?;
        Ok(&mut self.values[top as usize])
    }

    fn set_items(&mut self, pairs: Vec<(Id, Id)>) -> Result<(), Fault> {
        match self.container()? {
            Value::Dict(items) => items.extend(pairs),
            Value::Object(object) => object.items.extend(pairs),
            _ => return odd("it stores under a key of what has no keys"),
        }
        Ok(())
    }

    fn append(&mut self, ids: Vec<Id>) -> Result<(), Fault> {
        match self.container()? {
            Value::List(items) => items.extend(ids),
            // Sets, queues and the like: their members are in nobody's tensors.
            Value::Set | Value::Object(_) => {}
            _ => return odd("it appends to what is no list"),
        }
        Ok(())
    }

    fn tuple(&mut self, len: usize) -> Result<(), Fault> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn object(&mut self, instance: bool, callee: Id, arguments: Id) -> Result<(), Fault> {
        let object = Object { instance, callee, arguments, state: None, items: Vec::new() };
        self.push(Value::Object(Box::new(object)))
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Result<Id, Fault> {
        let module = self.new_value(Value::Text(Cow::Borrowed(module)))?;
        let name = self.new_value(Value::Text(Cow::Borrowed(name)))?;
        self.new_value(Value::Global { module, name })
    }

    fn remember(&mut self, key: u64) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), Fault> {
        let Some(id) = self.memo.get(&key).copied() else {
            return odd("it recalls what it did not store");
        };
        self.push_id(id)
    }

    fn integer(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let mut wide = [if bytes.last().is_some_and(|b| b >> 7 == 1) { 0xff } else { 0 }; 8];
        if bytes.len() > 8 {
            return self.push(Value::Wide(bytes));
        }
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn decimal(&mut self, text: &'a str) -> Result<(), Fault> {
        match (text, text.trim_end_matches('L').parse()) {
            ("00" | "01", _) => self.push(Value::Bool(text == "01")),
            (_, Ok(value)) => self.push(Value::Int(value)),
            _ => odd("it writes an integer that is none or beyond 64 bits"),
        }
    }

    fn text(&mut self, len: u64) -> Result<(), Fault> {
        let text = utf8(self.take(len)?)?;
        self.push(Value::Text(Cow::Borrowed(text)))
    }

    fn bytes(&mut self, len: u64) -> Result<(), Fault> {
        let bytes = self.take(len)?;
        self.push(Value::Bytes(bytes))
    }

    /// One instruction; false after the last.
    fn step(&mut self) -> Result<bool, Fault> {
        match self.array::<1>()?[0] {
            b'.' => return Ok(false),
            // The protocol's number and the length of a frame say nothing that is needed here.
            0x80 => _ = self.u8()?,
            0x95 => _ = self.u64()?,
            b'(' => self.mark()?,
            b'0' if self.marks.last() == Some(&self.stack.len()) => _ = self.marks.pop(),
            b'0' => _ = self.pop()?,
            b'1' => _ = self.since_mark()?,
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' | b'L' => {
                let line = self.line()?;
                self.decimal(line)?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(value)))?;
            }
            b'K' => {
                let value = self.u8()?;
                self.push(Value::Int(value as i64))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(value)))?;
            }
            0x8a => {
                let len = self.u8()?;
                let bytes = self.take(len)?;
                self.integer(bytes)?;
            }
            0x8b => {
                let len = self.u32()?;
                let bytes = self.take(len)?;
                self.integer(bytes)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)?;
            }
            b'F' => {
                self.line()?;
                self.push(Value::Float)?;
            }
            b'X' => {
                let len = self.u32()?;
                self.text(len)?;
            }
            0x8c => {
                let len = self.u8()?;
                self.text(len)?;
            }
            0x8d => {
                let len = self.u64()?;
                self.text(len)?;
            }
            b'V' => {
                let line = self.line()?;
                self.push(Value::Text(unescaped(line)?))?;
            }
            b'S' => {
                let line = self.line()?;
                let inner = line.get(1..line.len().saturating_sub(1)).unwrap_or("");
                if inner.contains('\\') {
                    return odd("it holds an escaped string of protocol 0");
                }
                self.push(Value::Text(Cow::Borrowed(inner)))?;
            }
            b'T' | b'B' => {
                let len = self.u32()?;
                self.bytes(len)?;
            }
            b'U' | b'C' => {
                let len = self.u8()?;
                self.bytes(len)?;
            }
            0x8e | 0x96 => {
                let len = self.u64()?;
                self.bytes(len)?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x8f => self.push(Value::Set)?,
            b'l' => {
                let items = self.since_mark()?;
                self.push(Value::List(items))?;
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x91 => {
                self.since_mark()?;
                self.push(Value::Set)?;
            }
            b'd' => {
                let pairs = self.pairs_since_mark()?;
                self.push(Value::Dict(pairs))?;
            }
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let pairs = self.pairs_since_mark()?;
                self.set_items(pairs)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = self.global(module, name)?;
                self.push_id(global)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let is_text = |id: Id| matches!(self.values[id as usize], Value::Text(_));
                if !is_text(name) || !is_text(module) {
                    return odd("it names a function by what is no text");
                }
                self.push(Value::Global { module, name })?;
            }
            b'P' => {
                let line = self.line()?;
                let id = self.new_value(Value::Text(Cow::Borrowed(line)))?;
                self.push(Value::Persistent(id))?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            b'R' => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.object(false, callee, arguments)?;
            }
            0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.object(true, class, arguments)?;
            }
            0x92 => {
                let (_named, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(true, class, arguments)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let callee = self.global(module, name)?;
                let arguments = self.since_mark()?;
                let arguments = self.new_value(Value::Tuple(arguments))?;
                self.object(false, callee, arguments)?;
            }
            b'o' => {
                let mut arguments = self.since_mark()?;
                if arguments.is_empty() {
                    return odd("it creates an object of no class");
                }
                let callee = arguments.remove(0);
                let arguments = self.new_value(Value::Tuple(arguments))?;
                self.object(false, callee, arguments)?;
            }
            b'b' => {
                let state = self.pop()?;
                match self.container()? {
                    Value::Object(object) => object.state = Some(state),
                    _ => return odd("it gives a state to what is no object"),
                }
            }
            b'p' => {
                let Ok(key) = self.line()?.parse() else { return odd("it stores under no number") };
                self.remember(key)?;
            }
            b'q' => {
                let key = self.u8()?;
                self.remember(key)?;
            }
            b'r' => {
                let key = self.u32()?;
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => {
                let Ok(key) = self.line()?.parse() else { return odd("it recalls no number") };
                self.recall(key)?;
            }
            b'h' => {
                let key = self.u8()?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)?;
            }
            0x82..=0x84 => return odd("it uses a registered extension of Python's pickle"),
            0x97 | 0x98 => return odd("it keeps buffers outside of itself"),
            other => return odd(&format!("byte {} is 0x{other:02x}, no instruction", self.at - 1)),
        }
        Ok(true)
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    // Python writes lone surrogates as no valid UTF-8 has them; no name needs one.
    std::str::from_utf8(bytes).or_else(|_| odd("it holds a text that is not UTF-8"))
}

/// A text of protocol 0: `\uXXXX`, `\UXXXXXXXX` and nothing else is escaped.
fn unescaped(line: &str) -> Result<Cow<'_, str>, Fault> {
    let mut parts = line.split('\\');
    let mut text = String::from(parts.next().unwrap_or(""));
    for part in parts {
        let len = if part.starts_with('u') { 5 } else { 9 };
        let known = part.starts_with(['u', 'U']);
        let code = part.get(1..len).filter(|_| known).and_then(|d| u32::from_str_radix(d, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else {
            return odd("it holds a text that is not UTF-8");
        };
        text.push(c);
        text.push_str(&part[len..]);
    }
    Ok(if text.len() == line.len() { Cow::Borrowed(line) } else { Cow::Owned(text) })
}
