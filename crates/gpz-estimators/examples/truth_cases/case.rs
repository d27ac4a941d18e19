//! One case: what is asked, its scalars, and its tensors with shards put together and bad rows set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gpz_estimators::{Element, Error, RowReport};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix2, IxDyn, s};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::Outcome;

/// A quantity's name and, in words, how it is meant.
pub(crate) struct Asked {
    pub(crate) quantity: String,
    pub(crate) how: String,
}

/// A tensor as it was stored: floats of either width, or integers.
#[derive(Debug, Clone)]
pub(crate) enum Tensor {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    Integers(ArrayD<i64>),
}

impl Tensor {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::F32(values) => values.shape(),
            Self::F64(values) => values.shape(),
            Self::Integers(values) => values.shape(),
        }
    }

    /// As `f64`: exact but for integers beyond 2⁵³.
    fn widened(&self) -> ArrayD<f64> {
        match self {
            Self::F32(values) => values.mapv(f64::from),
            Self::F64(values) => values.clone(),
            Self::Integers(values) => values.mapv(|value| value as f64),
        }
    }

    fn keep(&self, rows: &[usize]) -> Self {
        match self {
            Self::F32(values) => Self::F32(values.select(Axis(0), rows)),
            Self::F64(values) => Self::F64(values.select(Axis(0), rows)),
            Self::Integers(values) => Self::Integers(values.select(Axis(0), rows)),
        }
    }
}

pub(crate) struct Case {
    pub(crate) group: String,
    pub(crate) asked: Vec<Asked>,
    /// Words for the behaviour, if one is asked for.
    pub(crate) accept: Option<Vec<String>>,
    /// Rows with NaN or an infinity, which the tensors here no longer have; none if all rows are finite.
    pub(crate) bad_rows: Option<Vec<usize>>,
    scalars: BTreeMap<String, f64>,
    /// By name without shard numbers; shards in ascending order.
    tensors: BTreeMap<String, Vec<Tensor>>,
}

/// Tensors with a row per sample.
const SAMPLES: [&str; 6] = ["z", "x", "y", "labels", "bits", "codes"];

impl Case {
    pub(crate) fn load(folder: &Path, entry: &Value) -> Outcome<Self> {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let truth = entry["truth"].as_array().map(Vec::as_slice).unwrap_or_default();
        let asked = truth.iter().filter_map(|entry| {
            Some(Asked {
                quantity: entry["quantity"].as_str()?.to_owned(),
                how: entry["how"].as_str().unwrap_or_default().to_owned(),
            })
        });
        let behaviour = truth.iter().find(|entry| entry["kind"] == "behaviour");
        let words = |entry: &Value| {
            let words = entry["accept"].as_array()?;
            Some(words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect())
        };
        let object = entry.as_object().ok_or("the case is no object")?;
        let scalars =
            object.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        let mut case = Self {
            group: text("group"),
            asked: asked.collect(),
            accept: behaviour.map(|entry| words(entry).unwrap_or_default()),
            bad_rows: None,
            scalars: scalars.collect(),
            tensors: BTreeMap::new(),
        };
        match &entry["file"] {
            Value::String(name) => case.read(&folder.join(name))?,
            Value::Array(names) => {
                for name in names.iter().filter_map(Value::as_str) {
                    case.read(&folder.join(name))?;
                }
            }
            _ => case.make(&text("doc"))?,
        }
        case.set_bad_rows_aside()?;
        Ok(case)
    }

    /// Adds a file's tensors; those named alike but for a number are shards of one.
    fn read(&mut self, path: &Path) -> Outcome<()> {
        let bytes =
            std::fs::read(path).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let mut found = BTreeMap::new();
        for name in file.names() {
            let (base, number) = shard(name);
            found.insert((base, number), read(&file.tensor(name)?)?);
        }
        for ((base, _), tensor) in found {
            self.tensors.entry(base).or_default().push(tensor);
        }
        Ok(())
    }

    /// Makes `z` and labels by the rule in the doc: counted splitmix64 outputs as fractions, plus terms of `i`.
    fn make(&mut self, doc: &str) -> Outcome<()> {
        let size = |name: &str| self.scalar(name).map(|value| value as usize);
        let (n, d) = size("n").zip(size("d")).ok_or("no file, and no n and d to make rows by")?;
        let rule: String = doc.chars().filter(|c| !c.is_whitespace()).collect();
        let known = "(splitmix64_out(i*D+j)>>11)*2^-53";
        let (_, terms) =
            rule.split_once(known).ok_or("no file, and no rule for rows in the doc")?;
        let terms = terms_of_row(terms)?;
        let classes = rule.split_once("labeli%").and_then(|(_, rest)| leading_number(rest));
        let single = rule.contains("f32(");
        let mix = |counter: usize| {
            let mut s = (counter as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            s ^ (s >> 31)
        };
        let value = |i: usize, j: usize| {
            let fraction = (mix(i * d + j) >> 11) as f64 * 2.0_f64.powi(-53);
            terms.iter().fold(fraction, |sum, &(factor, modulus)| {
                sum + modulus.map_or(factor, |modulus| factor * (i % modulus) as f64)
            })
        };
        let z = if single {
            Tensor::F32(Array2::from_shape_fn((n, d), |(i, j)| value(i, j) as f32).into_dyn())
        } else {
            Tensor::F64(Array2::from_shape_fn((n, d), |(i, j)| value(i, j)).into_dyn())
        };
        self.tensors.insert("z".to_owned(), vec![z]);
        if let Some(classes) = classes.filter(|&classes| classes >= 1.0) {
            let labels = (0..n).map(|i| (i % classes as usize) as i64).collect();
            let labels = ArrayD::from_shape_vec(IxDyn(&[n]), labels)?;
            self.tensors.insert("labels".to_owned(), vec![Tensor::Integers(labels)]);
        }
        Ok(())
    }

    /// Finds rows that the library refuses as not finite, keeps their numbers, and drops them from all samples.
    fn set_bad_rows_aside(&mut self) -> Outcome<()> {
        let mut bad = BTreeSet::new();
        for name in ["z", "x", "y"] {
            let mut first = 0;
            for shard in self.shards(name) {
                let found = match shard {
                    Tensor::F32(rows) => not_finite(rows),
                    Tensor::F64(rows) => not_finite(rows),
                    Tensor::Integers(_) => Vec::new(),
                };
                bad.extend(found.into_iter().map(|row| first + row));
                first += shard.shape().first().copied().unwrap_or(0);
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        for name in SAMPLES {
            let Some(shards) = self.tensors.get_mut(name) else { continue };
            let mut first = 0;
            for shard in shards {
                let n = shard.shape().first().copied().unwrap_or(0);
                let kept: Vec<usize> = (0..n).filter(|row| !bad.contains(&(first + row))).collect();
                *shard = shard.keep(&kept);
                first += n;
            }
        }
        self.bad_rows = Some(bad.into_iter().collect());
        Ok(())
    }

    pub(crate) fn scalar(&self, name: &str) -> Option<f64> {
        self.scalars.get(name).copied()
    }

    /// The shards of a tensor.
    pub(crate) fn shards(&self, name: &str) -> &[Tensor] {
        self.tensors.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a tensor is there and holds integers.
    pub(crate) fn holds_integers(&self, name: &str) -> bool {
        !self.shards(name).is_empty()
            && self.shards(name).iter().all(|shard| matches!(shard, Tensor::Integers(_)))
    }

    /// A tensor in one piece, as `f64`.
    fn whole(&self, name: &str) -> Option<ArrayD<f64>> {
        let shards: Vec<_> = self.shards(name).iter().map(Tensor::widened).collect();
        let views: Vec<_> = shards.iter().map(|shard| shard.view()).collect();
        if views.is_empty() { None } else { ndarray::concatenate(Axis(0), &views).ok() }
    }

    /// Rows as `f64`; a vector is a column.
    pub(crate) fn matrix(&self, name: &str) -> Option<Array2<f64>> {
        let whole = self.whole(name)?;
        let whole = if whole.ndim() == 1 { whole.insert_axis(Axis(1)) } else { whole };
        whole.into_dimensionality().ok()
    }

    /// A vector as `f64`.
    pub(crate) fn vector(&self, name: &str) -> Option<Vec<f64>> {
        self.whole(name)
            .filter(|whole| whole.ndim() == 1)
            .map(|whole| whole.into_raw_vec_and_offset().0)
    }

    /// A stack of matrices.
    pub(crate) fn stack(&self, name: &str) -> Option<Array3<f64>> {
        self.whole(name)?.into_dimensionality().ok()
    }

    /// The labels of all shards.
    pub(crate) fn labels(&self) -> Option<Vec<i64>> {
        let mut labels = Vec::new();
        for shard in self.shards("labels") {
            match shard {
                Tensor::Integers(values) => labels.extend(values.iter().copied()),
                other => labels.extend(other.widened().iter().map(|&value| value as i64)),
            }
        }
        (!self.shards("labels").is_empty()).then_some(labels)
    }

    /// The labels as indices below the number of classes that occur, ascending; none without labels.
    pub(crate) fn class_indices(&self) -> Option<(Vec<usize>, usize)> {
        let labels = self.labels()?;
        let seen: BTreeSet<i64> = labels.iter().copied().collect();
        let seen: Vec<i64> = seen.into_iter().collect();
        let index = |label: &i64| seen.binary_search(label).ok();
        Some((labels.iter().map(index).collect::<Option<_>>()?, seen.len()))
    }

    /// Whole numbers separated by commas that follow a word in how a quantity is meant: `the first 250,500 rows`.
    pub(crate) fn numbers_in(&self, quantity: &str, after: &str) -> Vec<usize> {
        let Some((_, rest)) = self.how(quantity).split_once(after) else { return Vec::new() };
        let list = rest.split_whitespace().next().unwrap_or_default();
        list.split(',').filter_map(|number| number.parse().ok()).collect()
    }

    /// How a quantity is meant, in words.
    pub(crate) fn how(&self, quantity: &str) -> &str {
        let asked = self.asked.iter().find(|asked| asked.quantity == quantity);
        asked.map_or("", |asked| &asked.how)
    }
}

/// Rows that the library refuses for NaN or an infinity.
fn not_finite<T: Element>(rows: &ArrayD<T>) -> Vec<usize> {
    let rows = rows.view();
    let rows = if rows.ndim() == 1 { rows.insert_axis(Axis(1)) } else { rows };
    let Ok(rows) = rows.into_dimensionality::<Ix2>() else { return Vec::new() };
    let (mut found, mut from) = (Vec::new(), 0);
    while let Err(Error::NonFinite { row, .. }) = RowReport::of(rows.slice(s![from.., ..])) {
        found.push(from + row);
        from += row + 1;
    }
    found
}

/// A tensor's name without its shard's number, and that number: `z_3`, `shard3_z` and `z.shard_3` are of `z`, `shard_3` too.
fn shard(name: &str) -> (String, u64) {
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let Ok(number) = digits.parse() else { return (name.to_owned(), 0) };
    let rest: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
    let rest = rest.replace("shard", "").replace("part", "");
    let base = rest.trim_matches(['_', '.', '/', '-']);
    (if base.is_empty() { "z".to_owned() } else { base.to_owned() }, number)
}

fn read(tensor: &safetensors::tensor::TensorView<'_>) -> Outcome<Tensor> {
    let (shape, data) = (IxDyn(tensor.shape()), tensor.data());
    let integers = |values: Vec<i64>| ArrayD::from_shape_vec(shape.clone(), values);
    let (pairs, quads, octets) =
        (data.as_chunks::<2>().0, data.as_chunks::<4>().0, data.as_chunks::<8>().0);
    Ok(match tensor.dtype() {
        Dtype::F32 => {
            let values = quads.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Tensor::F32(ArrayD::from_shape_vec(shape, values)?)
        }
        Dtype::F64 => {
            let values = octets.iter().map(|b| f64::from_le_bytes(*b)).collect();
            Tensor::F64(ArrayD::from_shape_vec(shape, values)?)
        }
        Dtype::BF16 => {
            let value = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            Tensor::F32(ArrayD::from_shape_vec(shape, pairs.iter().map(value).collect())?)
        }
        Dtype::I64 => {
            Tensor::Integers(integers(octets.iter().map(|b| i64::from_le_bytes(*b)).collect())?)
        }
        Dtype::I32 => Tensor::Integers(integers(
            quads.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        )?),
        Dtype::U32 => Tensor::Integers(integers(
            quads.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
        )?),
        Dtype::I16 => Tensor::Integers(integers(
            pairs.iter().map(|b| i16::from_le_bytes(*b).into()).collect(),
        )?),
        Dtype::U16 => Tensor::Integers(integers(
            pairs.iter().map(|b| u16::from_le_bytes(*b).into()).collect(),
        )?),
        Dtype::U8 | Dtype::BOOL => {
            Tensor::Integers(integers(data.iter().map(|&b| b.into()).collect())?)
        }
        Dtype::I8 => {
            Tensor::Integers(integers(data.iter().map(|&b| i64::from(b as i8)).collect())?)
        }
        other => return Err(format!("tensors of {other:?} are not read").into()),
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
    fn names_of_shards() {
        for (name, base, number) in [
            ("z", "z", 0),
            ("z_3", "z", 3),
            ("shard3_z", "z", 3),
            ("shard10.labels", "labels", 10),
            ("shard_7", "z", 7),
            ("sigma_x", "sigma_x", 0),
        ] {
            assert_eq!(shard(name), (base.to_owned(), number), "{name}");
        }
    }

    #[test]
    fn rules_for_rows() -> Outcome<()> {
        assert_eq!(terms_of_row("-0.5+0.25*(i%4)),labeli%4")?, [(-0.5, None), (0.25, Some(4))]);
        assert_eq!(terms_of_row(")")?, []);
        assert!(terms_of_row("-x)").is_err() && terms_of_row("+2*(i%0)").is_err());
        Ok(())
    }
}
