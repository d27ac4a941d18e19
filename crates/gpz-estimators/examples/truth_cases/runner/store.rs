//! Tensors that are read in blocks of rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ndarray::{Array2, Axis};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::Outcome;

/// Elements of a block.
const BLOCK: usize = 1 << 22;

/// Rows in memory as they were stored: floats of either width, or integers. Halves are widened.
#[derive(Debug, Clone)]
pub(crate) enum Tensor {
    F32(Array2<f32>),
    F64(Array2<f64>),
    Integers(Array2<i64>),
}

impl Tensor {
    /// As `f64`: exact but for integers beyond 2⁵³.
    pub(crate) fn widened(self) -> Array2<f64> {
        match self {
            Self::F32(values) => values.mapv(f64::from),
            Self::F64(values) => values,
            Self::Integers(values) => values.mapv(|value| value as f64),
        }
    }

    pub(crate) fn keep(self, rows: &[usize]) -> Self {
        match self {
            Self::F32(values) => Self::F32(values.select(Axis(0), rows)),
            Self::F64(values) => Self::F64(values.select(Axis(0), rows)),
            Self::Integers(values) => Self::Integers(values.select(Axis(0), rows)),
        }
    }

    /// Rows with NaN or an infinity.
    pub(crate) fn not_finite(&self) -> Vec<usize> {
        fn bad<T: Copy>(values: &Array2<T>, finite: impl Fn(T) -> bool) -> Vec<usize> {
            let rows = values.rows().into_iter().enumerate();
            rows.filter(|(_, row)| !row.iter().all(|&value| finite(value)))
                .map(|(i, _)| i)
                .collect()
        }
        match self {
            Self::F32(values) => bad(values, f32::is_finite),
            Self::F64(values) => bad(values, f64::is_finite),
            Self::Integers(_) => Vec::new(),
        }
    }
}

/// Where a tensor's rows come from.
enum Origin {
    File { path: PathBuf, start: u64, dtype: Dtype },
    Rule(Rule),
}

/// One tensor of a file, or one that a rule makes.
pub(crate) struct Stored {
    shape: Vec<usize>,
    origin: Origin,
}

impl Stored {
    pub(crate) fn made(rows: usize, width: usize, rule: Rule) -> Self {
        Self { shape: vec![rows, width], origin: Origin::Rule(rule) }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// A number by itself is one row, and so is nothing else but a first dimension of one.
    pub(crate) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of a row, all dimensions but the first.
    pub(crate) fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    pub(crate) fn holds_integers(&self) -> bool {
        match &self.origin {
            Origin::Rule(rule) => matches!(rule, Rule::Label { .. }),
            Origin::File { dtype, .. } => {
                !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
            }
        }
    }

    pub(crate) fn is_double(&self) -> bool {
        match &self.origin {
            Origin::Rule(rule) => !matches!(rule, Rule::Value { single: true, .. }),
            Origin::File { dtype, .. } => !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16),
        }
    }

    /// Blocks of rows that are read at once.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, step) = (self.rows(), (BLOCK / self.width().max(1)).max(1));
        (0..rows).step_by(step).map(move |first| first..(first + step).min(rows))
    }

    /// Some rows, `[rows, width]`.
    pub(crate) fn read(&self, rows: Range<usize>) -> Outcome<Tensor> {
        let shape = (rows.len(), self.width());
        let (path, start, dtype) = match &self.origin {
            Origin::Rule(rule) => return Ok(rule.rows(rows, self.width())),
            Origin::File { path, start, dtype } => (path, *start, *dtype),
        };
        let size = bytes_of(dtype).ok_or("an unknown type")?;
        let mut data = vec![0; shape.0 * shape.1 * size];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start + (rows.start * shape.1 * size) as u64))?;
        file.read_exact(&mut data)?;
        decode(dtype, &data, shape)
    }
}

/// The tensors of a file, by name, and one line for each that is of no type known here.
pub(crate) fn open(path: &Path) -> Outcome<(BTreeMap<String, Stored>, Vec<String>)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    let start = size.checked_add(8).filter(|&start| start <= length).ok_or("no header")?;
    let mut header = vec![0; usize::try_from(size)?];
    file.read_exact(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let (mut found, mut notes) = (BTreeMap::new(), Vec::new());
    for (name, info) in metadata.tensors() {
        let Some(bytes) = bytes_of(info.dtype) else {
            notes.push(format!("{name}: tensors of {:?} are not read", info.dtype));
            continue;
        };
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let elements = info.shape.iter().try_fold(1_u64, |n, &side| n.checked_mul(side as u64));
        let fits = elements.and_then(|n| n.checked_mul(bytes as u64)) == to.checked_sub(from);
        if !fits || start.checked_add(to).is_none_or(|end| end > length) {
            notes.push(format!(
                "{name}: its shape does not fit its bytes, or the file is cut short"
            ));
            continue;
        }
        let origin = Origin::File { path: path.to_owned(), start: start + from, dtype: info.dtype };
        found.insert(name, Stored { shape: info.shape.clone(), origin });
    }
    notes.sort_unstable();
    Ok((found, notes))
}

/// Bytes of an element, of the types that are read.
fn bytes_of(dtype: Dtype) -> Option<usize> {
    Some(match dtype {
        Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
        Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
        Dtype::F16 | Dtype::BF16 | Dtype::I16 | Dtype::U16 => 2,
        Dtype::I8 | Dtype::U8 | Dtype::BOOL => 1,
        _ => return None,
    })
}

fn decode(dtype: Dtype, data: &[u8], shape: (usize, usize)) -> Outcome<Tensor> {
    let (pairs, quads, octets) =
        (data.as_chunks::<2>().0, data.as_chunks::<4>().0, data.as_chunks::<8>().0);
    let single = |values: Vec<f32>| Array2::from_shape_vec(shape, values).map(Tensor::F32);
    let integers = |values: Vec<i64>| Array2::from_shape_vec(shape, values).map(Tensor::Integers);
    Ok(match dtype {
        Dtype::F64 => {
            let values = octets.iter().map(|b| f64::from_le_bytes(*b)).collect();
            Tensor::F64(Array2::from_shape_vec(shape, values)?)
        }
        Dtype::F32 => single(quads.iter().map(|b| f32::from_le_bytes(*b)).collect())?,
        Dtype::F16 => single(pairs.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())?,
        Dtype::BF16 => single(pairs.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())?,
        Dtype::I64 => integers(octets.iter().map(|b| i64::from_le_bytes(*b)).collect())?,
        // Bit patterns: as such they stay apart.
        Dtype::U64 => {
            integers(octets.iter().map(|b| u64::from_le_bytes(*b).cast_signed()).collect())?
        }
        Dtype::I32 => integers(quads.iter().map(|b| i32::from_le_bytes(*b).into()).collect())?,
        Dtype::U32 => integers(quads.iter().map(|b| u32::from_le_bytes(*b).into()).collect())?,
        Dtype::I16 => integers(pairs.iter().map(|b| i16::from_le_bytes(*b).into()).collect())?,
        Dtype::U16 => integers(pairs.iter().map(|b| u16::from_le_bytes(*b).into()).collect())?,
        Dtype::I8 => integers(data.iter().map(|b| b.cast_signed().into()).collect())?,
        _ => integers(data.iter().map(|&b| b.into()).collect())?,
    })
}

/// A rule that makes rows: counted splitmix64 outputs as fractions plus terms of the row's number, or labels by that number.
pub(crate) enum Rule {
    Value { terms: Vec<(f64, Option<usize>)>, single: bool },
    Label { classes: usize },
}

impl Rule {
    fn rows(&self, rows: Range<usize>, width: usize) -> Tensor {
        let (first, shape) = (rows.start, (rows.len(), width));
        match self {
            Self::Label { classes } => Tensor::Integers(Array2::from_shape_fn(shape, |(i, _)| {
                ((first + i) % classes) as i64
            })),
            Self::Value { terms, single: true } => {
                let value = |(i, j)| value(terms, first + i, j, width) as f32;
                Tensor::F32(Array2::from_shape_fn(shape, value))
            }
            Self::Value { terms, single: false } => {
                Tensor::F64(Array2::from_shape_fn(shape, |(i, j)| {
                    value(terms, first + i, j, width)
                }))
            }
        }
    }

    /// The rules for `z` and, if there is one, for labels: `(splitmix64_out(i*D+j) >> 11) * 2^-53 - 0.5 + 0.25*(i%4)), label i%4`.
    pub(crate) fn parse(doc: &str) -> Outcome<(Self, Option<Self>)> {
        let rule: String = doc.chars().filter(|c| !c.is_whitespace()).collect();
        let known = "(splitmix64_out(i*D+j)>>11)*2^-53";
        let (_, terms) =
            rule.split_once(known).ok_or("no file, and no rule for rows in the doc")?;
        let values = Self::Value { terms: terms_of_row(terms)?, single: rule.contains("f32(") };
        let classes = rule.split_once("labeli%").and_then(|(_, rest)| leading_number(rest));
        let classes = classes.filter(|&classes| classes >= 1.0);
        Ok((values, classes.map(|classes| Self::Label { classes: classes as usize })))
    }
}

fn value(terms: &[(f64, Option<usize>)], i: usize, j: usize, width: usize) -> f64 {
    let counter = (i * width + j) as u64;
    let mut s = counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    s ^= s >> 31;
    let fraction = (s >> 11) as f64 * 2.0_f64.powi(-53);
    terms.iter().fold(fraction, |sum, &(factor, modulus)| {
        sum + modulus.map_or(factor, |modulus| factor * (i % modulus) as f64)
    })
}

/// The terms after the fraction: constants, and factors of `i` modulo something.
fn terms_of_row(mut rule: &str) -> Outcome<Vec<(f64, Option<usize>)>> {
    let mut terms = Vec::new();
    while let Some(sign) = rule.chars().next().filter(|c| matches!(c, '+' | '-')) {
        rule = &rule[1..];
        let digits = rule.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rule.len());
        let factor: f64 = rule[..digits].parse().map_err(|_| "a term of the rule is no number")?;
        rule = &rule[digits..];
        let modulus = match rule.strip_prefix("*(i%") {
            Some(rest) => {
                let modulus = leading_number(rest).filter(|&modulus| modulus >= 1.0);
                rule = rest.split_once(')').ok_or("a term of the rule has no end")?.1;
                Some(modulus.ok_or("a modulus of the rule is no number")? as usize)
            }
            None => None,
        };
        terms.push((if sign == '-' { -factor } else { factor }, modulus));
    }
    Ok(terms)
}

fn leading_number(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_rows() -> Outcome<()> {
        assert_eq!(terms_of_row("-0.5+0.25*(i%4)),labeli%4")?, [(-0.5, None), (0.25, Some(4))]);
        assert_eq!(terms_of_row(")")?, []);
        assert!(terms_of_row("-x)").is_err() && terms_of_row("+2*(i%0)").is_err());
        Ok(())
    }

    #[test]
    fn each_type_is_read_in_blocks_of_rows() -> Outcome<()> {
        let folder = std::env::temp_dir().join(format!("gpz-tensors-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("types.safetensors");
        let halves: Vec<u8> = [0.5, -2.0, 4.0, 65504.0]
            .iter()
            .flat_map(|&v| f16::from_f64(v).to_le_bytes())
            .collect();
        let wide: Vec<u8> = [1, u64::MAX, 3, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = |dtype, data| safetensors::tensor::TensorView::new(dtype, vec![2, 2], data);
        let tensors = [
            ("z", view(Dtype::F16, &halves)?),
            ("codes", view(Dtype::U64, &wide)?),
            ("odd", view(Dtype::F8_E4M3, &halves[..4])?),
        ];
        safetensors::serialize_to_file(tensors, None, &path)?;
        let (found, notes) = open(&path)?;
        assert_eq!(found.len(), 2);
        assert!(notes.len() == 1 && notes[0].starts_with("odd"));
        assert_eq!(found["z"].read(1..2)?.widened().as_slice(), Some(&[4.0, 65504.0][..]));
        let Tensor::Integers(codes) = found["codes"].read(0..1)? else {
            return Err("no integers".into());
        };
        assert_eq!(codes.as_slice(), Some(&[1, -1][..]));
        std::fs::write(&path, &std::fs::read(&path)?[..100])?;
        assert!(open(&path).is_err());
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
