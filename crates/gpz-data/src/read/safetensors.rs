//! The table of contents of a safetensors file: eight bytes of length, JSON, then the values.
//!
//! The format's own crate wants the whole file in memory; here only the table is read, and checked against the file's length.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use serde::Deserialize;

use super::Input;
use crate::arrays::{ArrayInfo, ElementType, Kind};
use crate::error::one_line;
use crate::{Error, Result};

/// The format's own limit.
const LONGEST_TABLE: u64 = 100_000_000;
/// Bytes before the table.
const PREFIX: u64 = 8;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The arrays of the file, by name; those of types that are no plain numbers are left out.
pub(crate) fn arrays(file: &str, reader: File) -> Result<Vec<ArrayInfo>> {
    let io = |source| Error::Io { file: file.to_owned(), action: "read", source };
    let length = reader.metadata().map_err(io)?.len();
    let damaged =
        |detail: String| Error::Damaged { file: file.to_owned(), format: "safetensors", detail };
    let mut input = Input::plain(file.to_owned(), BufReader::new(reader));
    let prefix = input.exactly(u128::from(PREFIX))?;
    let table = prefix.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    if table > LONGEST_TABLE {
        return Err(damaged(format!("a table of contents of {table} bytes")));
    }
    let text = input.exactly(u128::from(table))?;
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|e| damaged(one_line(&e.to_string())))?;
    entries.remove("__metadata__");
    let (mut arrays, mut end) = (Vec::new(), 0);
    for (name, value) in entries {
        let entry: Entry = serde_json::from_value(value)
            .map_err(|e| damaged(one_line(&format!("{name}: {e}"))))?;
        let [from, to] = entry.data_offsets;
        end = end.max(to);
        let Some(element) = element(&entry.dtype) else { continue };
        let bytes =
            entry.shape.iter().fold(element.size as u128, |b, s| b.saturating_mul(*s as u128));
        if u128::from(to) != u128::from(from).saturating_add(bytes) {
            let name = one_line(&name);
            return Err(damaged(format!(
                "{name}: shape {:?} is not what bytes {from} to {to} hold",
                entry.shape
            )));
        }
        let offset = PREFIX.saturating_add(table).saturating_add(from);
        arrays.push(ArrayInfo { name: one_line(&name), shape: entry.shape, element, offset });
    }
    let expected = u128::from(PREFIX) + u128::from(table) + u128::from(end);
    if u128::from(length) < expected {
        return Err(Error::Truncated { file: file.to_owned(), expected, found: length });
    }
    if u128::from(length) > expected {
        return Err(Error::TooLong { file: file.to_owned(), expected });
    }
    Ok(arrays)
}

fn element(dtype: &str) -> Option<ElementType> {
    let (kind, size) = match dtype {
        "F64" => (Kind::Float, 8),
        "F32" => (Kind::Float, 4),
        "F16" => (Kind::Float, 2),
        "BF16" => (Kind::Brain, 2),
        "I64" => (Kind::Signed, 8),
        "I32" => (Kind::Signed, 4),
        "I16" => (Kind::Signed, 2),
        "I8" => (Kind::Signed, 1),
        "U64" => (Kind::Unsigned, 8),
        "U32" => (Kind::Unsigned, 4),
        "U16" => (Kind::Unsigned, 2),
        "U8" | "BOOL" => (Kind::Unsigned, 1),
        _ => return None,
    };
    Some(ElementType { kind, size, big_endian: false })
}
