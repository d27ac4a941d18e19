//! One NumPy array: its header, and unsigned bytes for images or any integers for labels out of an archive.
//!
//! The header is read here and not by a crate because the sizes in it come from strangers: the crate for it multiplies them
//! unchecked. The text is Python's, a dictionary with three known keys; nothing else of the language is understood.

use super::Input;
use crate::arrays::{ElementType, Kind};
use crate::error::{begins, one_line};
use crate::{Error, Result};

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself writes 128 bytes or a little more.
const LONGEST_HEADER: u64 = 65_536;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) descr: String,
    pub(crate) fortran_order: bool,
    pub(crate) shape: Vec<u64>,
}

/// An array of unsigned bytes: its sizes and its elements, row-major.
pub(crate) fn bytes(mut input: Input<'_>) -> Result<(Vec<u64>, Vec<u8>)> {
    let header = header(&mut input)?;
    if !element(&header.descr).is_some_and(ElementType::is_u8) {
        return Err(Error::Unsupported {
            file: input.file,
            found: format!("elements of type {}", one_line(&header.descr)),
            mend: "store images as uint8, 0 to 255",
        });
    }
    if header.fortran_order && header.shape.len() > 1 {
        return Err(Error::Unsupported {
            file: input.file,
            found: "an array in Fortran order".into(),
            mend: "store numpy.ascontiguousarray of it",
        });
    }
    let data = input.rest(count(&header.shape))?;
    Ok((header.shape, data))
}

/// An array of integers, `[n]` or `[n, 1]`. An unsigned value beyond i64 becomes `i64::MAX`, which no set has as a label.
pub(crate) fn integers(mut input: Input<'_>) -> Result<Vec<i64>> {
    let header = header(&mut input)?;
    let Some(element) = element(&header.descr).filter(|element| element.is_integer()) else {
        return Err(Error::Unsupported {
            file: input.file,
            found: format!("elements of type {}", one_line(&header.descr)),
            mend: "store labels as integers",
        });
    };
    if !matches!(header.shape[..], [_] | [_, 1]) {
        return Err(Error::Unsupported {
            file: input.file,
            found: format!("labels of shape {:?}", header.shape),
            mend: "store one class index per image",
        });
    }
    let data = input.rest(count(&header.shape).saturating_mul(element.size as u128))?;
    Ok(data.chunks_exact(element.size).map(|bytes| element.integer(bytes)).collect())
}

fn count(shape: &[u64]) -> u128 {
    shape.iter().fold(1, |product: u128, size| product.saturating_mul(u128::from(*size)))
}

/// `|u1`, `<i8`, `>f4` and so on.
pub(crate) fn element(descr: &str) -> Option<ElementType> {
    let mut chars = descr.chars().peekable();
    let order = chars.next_if(|c| "<>|=".contains(*c)).unwrap_or('=');
    let kind = match chars.next()? {
        'i' => Kind::Signed,
        'u' => Kind::Unsigned,
        'f' => Kind::Float,
        _ => return None,
    };
    let size = match chars.next()? {
        c @ ('1' | '2' | '4' | '8') => c as usize - '0' as usize,
        _ => return None,
    };
    let big = order == '>' || (order == '=' && cfg!(target_endian = "big"));
    let known = chars.next().is_none() && (kind != Kind::Float || size > 1);
    known.then_some(ElementType { kind, size, big_endian: size > 1 && big })
}

pub(crate) fn header(input: &mut Input<'_>) -> Result<Header> {
    let head = input.take(8)?;
    if !head.starts_with(MAGIC) {
        return Err(Error::NotA {
            file: input.file.clone(),
            expected: "NumPy array",
            begins: begins(&head),
        });
    }
    let length_bytes = if head.get(6) == Some(&1) { 2 } else { 4 };
    let length = input
        .take(length_bytes)?
        .iter()
        .rev()
        .fold(0u64, |length, byte| length << 8 | u64::from(*byte));
    let text = input.take(length.min(LONGEST_HEADER))?;
    let parsed =
        std::str::from_utf8(&text).ok().filter(|_| text.len() as u64 == length).and_then(parse);
    parsed.ok_or_else(|| Error::Damaged {
        file: input.file.clone(),
        format: "NumPy header",
        detail: "it does not give descr, fortran_order and shape".into(),
    })
}

/// `{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4), }` in any order of the keys.
fn parse(text: &str) -> Option<Header> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" => {
                let (value, after) = quoted(value)?;
                descr = Some(value.to_owned());
                after
            }
            "fortran_order" => {
                let yes = value.strip_prefix("True");
                fortran_order = Some(yes.is_some());
                yes.or_else(|| value.strip_prefix("False"))?
            }
            "shape" => {
                let (sizes, after) = value.strip_prefix('(')?.split_once(')')?;
                let sizes = sizes.trim().strip_suffix(',').unwrap_or(sizes).trim();
                let parsed: Option<Vec<u64>> = sizes
                    .split(',')
                    .filter(|s| !sizes.is_empty() || !s.is_empty())
                    .map(|s| s.trim().parse().ok())
                    .collect();
                shape = Some(parsed?);
                after
            }
            _ => return None,
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// A quoted text without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| *c == '\'' || *c == '"')?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_numpy_are_understood() {
        let parsed = parse("{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }      \n");
        assert_eq!(
            parsed,
            Some(Header { descr: "<i8".into(), fortran_order: false, shape: vec![5] })
        );
        let parsed = parse("{'shape': (2, 3, 4), 'fortran_order': True, 'descr': \"|u1\"}");
        assert_eq!(
            parsed,
            Some(Header { descr: "|u1".into(), fortran_order: true, shape: vec![2, 3, 4] })
        );
        let parsed = parse("{'descr': '|u1', 'fortran_order': False, 'shape': (), }");
        assert_eq!(parsed.map(|header| header.shape), Some(vec![]));
    }

    #[test]
    fn other_texts_are_not() {
        for text in [
            "",
            "{}",
            "{'descr': '|u1', 'fortran_order': False}",
            "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (1,)}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn integers_of_every_width_and_order() {
        let value = |descr, bytes: &[u8]| element(descr).map(|element| element.integer(bytes));
        assert_eq!(value("|i1", &[0xff]), Some(-1));
        assert_eq!(value("|u1", &[0xff]), Some(255));
        assert_eq!(value("<i2", &[0xfe, 0xff]), Some(-2));
        assert_eq!(value(">i4", &[0, 0, 1, 2]), Some(258));
        assert_eq!(value("<i8", &(-7i64).to_le_bytes()), Some(-7));
        assert_eq!(value("<u8", &[0xff; 8]), Some(i64::MAX));
        for descr in ["|f1", "|b1", "<i3", "<i16", "u", ""] {
            assert_eq!(element(descr), None, "{descr}");
        }
    }
}
