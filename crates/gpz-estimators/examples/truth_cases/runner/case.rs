//! One case: what is asked, its scalars, and its tensors with shards put together and bad rows set aside.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ndarray::{Array2, Array3};
use serde_json::Value;

use super::Outcome;
use super::store::{self, Rule, Stored, Tensor};

/// Tensors with a row per sample.
const SAMPLES: [&str; 7] = ["z", "x", "y", "labels", "label", "bits", "codes"];

/// Most elements of a tensor that is held at once.
const HELD: usize = 1 << 30;

/// A quantity's name and, in words, how it is meant.
pub(crate) struct Asked {
    pub(crate) quantity: String,
    pub(crate) how: String,
}

/// Rows as they are stored, integers as `f64`.
pub(crate) enum Matrix {
    F32(Array2<f32>),
    F64(Array2<f64>),
}

/// Runs an expression on the view of a [`Matrix`], of whichever type.
macro_rules! on_rows {
    ($matrix:expr, $rows:ident => $body:expr) => {
        match $matrix {
            $crate::runner::case::Matrix::F32(rows) => {
                let $rows = rows.view();
                $body
            }
            $crate::runner::case::Matrix::F64(rows) => {
                let $rows = rows.view();
                $body
            }
        }
    };
}
pub(crate) use on_rows;

/// The shards of one tensor, in order, and its rows once they were asked for.
#[derive(Default)]
struct Named {
    shards: Vec<Stored>,
    rows: OnceCell<Option<Matrix>>,
}

#[derive(Default)]
pub(crate) struct Case {
    pub(crate) group: String,
    pub(crate) doc: String,
    pub(crate) asked: Vec<Asked>,
    /// Words for the behaviour, if one is asked for.
    pub(crate) accept: Option<Vec<String>>,
    /// Rows with NaN or an infinity, which are in no tensor here; ascending.
    pub(crate) bad_rows: Vec<usize>,
    scalars: BTreeMap<String, f64>,
    /// By name without shard numbers.
    tensors: BTreeMap<String, Named>,
    notes: RefCell<Vec<String>>,
}

impl Case {
    /// The case, and one line for each thing that could not be read.
    pub(crate) fn load(folder: &Path, entry: &Value) -> (Self, Vec<String>) {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let truth = entry["truth"].as_array().map(Vec::as_slice).unwrap_or_default();
        let asked = truth.iter().filter_map(|entry| {
            Some(Asked {
                quantity: entry["quantity"].as_str().or(entry["kind"].as_str())?.to_owned(),
                how: entry["how"].as_str().unwrap_or_default().to_owned(),
            })
        });
        let behaviour = truth.iter().find(|entry| entry["kind"] == "behaviour");
        let words = |entry: &Value| -> Vec<String> {
            let words = entry["accept"].as_array().map(Vec::as_slice).unwrap_or_default();
            words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let numbers = entry.as_object().into_iter().flatten();
        let mut case = Self {
            group: text("group"),
            doc: text("doc"),
            asked: asked.collect(),
            accept: behaviour.map(words),
            scalars: numbers.filter_map(|(name, v)| Some((name.clone(), v.as_f64()?))).collect(),
            ..Self::default()
        };
        let mut notes = Vec::new();
        let files = match &entry["file"] {
            Value::Null => &entry["files"],
            file => file,
        };
        let names: Vec<&str> = match files {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            name => name.as_str().into_iter().collect(),
        };
        for name in &names {
            match store::open(&folder.join(name)) {
                Ok((tensors, unread)) => {
                    notes.extend(unread);
                    case.add(tensors);
                }
                Err(reason) => notes.push(format!("{name}: {reason}")),
            }
        }
        if names.is_empty()
            && let Err(reason) = case.make()
        {
            notes.push(reason.to_string());
        }
        if let Err(reason) = case.find_bad_rows() {
            notes.push(reason.to_string());
        }
        (case, notes)
    }

    /// Adds a file's tensors; those named alike but for a number are shards of one.
    fn add(&mut self, tensors: BTreeMap<String, Stored>) {
        let mut tensors: Vec<_> =
            tensors.into_iter().map(|(name, tensor)| (shard(&name), tensor)).collect();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        for ((base, _), tensor) in tensors {
            self.tensors.entry(base).or_default().shards.push(tensor);
        }
    }

    /// Makes `z` and labels by the rule in the doc.
    fn make(&mut self) -> Outcome<()> {
        let size = |name: &str| self.scalar(name).map(|value| value as usize);
        let (n, d) = size("n").zip(size("d")).ok_or("no file, and no n and d to make rows by")?;
        let (values, labels) = Rule::parse(&self.doc)?;
        let mut add = |name: &str, tensor| {
            self.tensors.entry(name.to_owned()).or_default().shards.push(tensor);
        };
        add("z", Stored::made(n, d, values));
        if let Some(labels) = labels {
            add("labels", Stored::made(n, 1, labels));
        }
        Ok(())
    }

    /// Finds the rows that are not finite in any of the samples.
    fn find_bad_rows(&mut self) -> Outcome<()> {
        let mut bad = BTreeSet::new();
        for name in SAMPLES {
            let mut first = 0;
            for shard in self.shards(name) {
                if !shard.holds_integers() {
                    for block in shard.blocks() {
                        let found = shard.read(block.clone())?.not_finite();
                        bad.extend(found.into_iter().map(|row| first + block.start + row));
                    }
                }
                first += shard.rows();
            }
        }
        self.bad_rows = bad.into_iter().collect();
        Ok(())
    }

    pub(crate) fn has_tensors(&self) -> bool {
        !self.tensors.is_empty()
    }

    /// What could not be read later on.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// A number of the case, or a tensor of one element.
    pub(crate) fn scalar(&self, name: &str) -> Option<f64> {
        self.scalars.get(name).copied().or_else(|| {
            let one = self.dims(name) == Some((1, 1));
            self.matrix(name).filter(|_| one).map(|values| values[[0, 0]])
        })
    }

    /// The variance of declared noise.
    pub(crate) fn noise_variance(&self) -> Option<f64> {
        let of_sigma = |name| self.scalar(name).map(|sigma| sigma * sigma);
        let variances = ["sigma2", "noise_variance", "noise_var"].iter();
        variances.filter_map(|name| self.scalar(name)).next().or_else(|| {
            ["sigma", "noise", "noise_sigma", "noise_std"].iter().find_map(|name| of_sigma(name))
        })
    }

    fn shards(&self, name: &str) -> &[Stored] {
        self.tensors.get(name).map(|named| named.shards.as_slice()).unwrap_or_default()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Rows and width of a tensor, bad rows left out; none where shards differ in width.
    pub(crate) fn dims(&self, name: &str) -> Option<(usize, usize)> {
        let shards = self.shards(name);
        let width = shards.first()?.width();
        let rows: usize = shards.iter().map(Stored::rows).sum();
        let bad = if SAMPLES.contains(&name) {
            self.bad_rows.partition_point(|&row| row < rows)
        } else {
            0
        };
        shards.iter().all(|shard| shard.width() == width).then_some((rows - bad, width))
    }

    /// Whether a tensor is there and holds integers.
    pub(crate) fn holds_integers(&self, name: &str) -> bool {
        self.has(name) && self.shards(name).iter().all(Stored::holds_integers)
    }

    /// Hands over a tensor block by block, without bad rows, with the number of rows handed over before. False where it could not
    /// be read.
    pub(crate) fn stream(&self, name: &str, mut take: impl FnMut(usize, Tensor)) -> bool {
        let (mut first, mut given) = (0, 0);
        let bad: &[usize] = if SAMPLES.contains(&name) { &self.bad_rows } else { &[] };
        for shard in self.shards(name) {
            for block in shard.blocks() {
                let rows: Vec<usize> = block
                    .clone()
                    .filter(|row| bad.binary_search(&(first + row)).is_err())
                    .map(|row| row - block.start)
                    .collect();
                let all = rows.len() == block.len();
                match shard.read(block) {
                    Ok(tensor) => take(given, if all { tensor } else { tensor.keep(&rows) }),
                    Err(reason) => {
                        self.notes.borrow_mut().push(format!("{name}: {reason}"));
                        return false;
                    }
                }
                given += rows.len();
            }
            first += shard.rows();
        }
        self.has(name)
    }

    /// A tensor in one piece, `[rows, width]`; a vector is a column.
    pub(crate) fn rows(&self, name: &str) -> Option<&Matrix> {
        let named = self.tensors.get(name)?;
        named.rows.get_or_init(|| self.collect(name)).as_ref()
    }

    fn collect(&self, name: &str) -> Option<Matrix> {
        let (rows, width) = self.dims(name)?;
        let elements = rows.checked_mul(width).filter(|&elements| elements <= HELD);
        let Some(elements) = elements else {
            let note = format!("{name}: {rows} x {width} is more than is held at once");
            self.notes.borrow_mut().push(note);
            return None;
        };
        if self.shards(name).iter().any(Stored::is_double) {
            let mut values = Vec::with_capacity(elements);
            let read = self.stream(name, |_, block| values.extend(block.widened()));
            let values = Array2::from_shape_vec((rows, width), values).ok();
            return values.filter(|_| read).map(Matrix::F64);
        }
        let mut values: Vec<f32> = Vec::with_capacity(elements);
        let read = self.stream(name, |_, block| match block {
            Tensor::F32(block) => values.extend(block),
            other => values.extend(other.widened().iter().map(|&value| value as f32)),
        });
        Array2::from_shape_vec((rows, width), values).ok().filter(|_| read).map(Matrix::F32)
    }

    /// The same as `f64`.
    pub(crate) fn matrix(&self, name: &str) -> Option<Array2<f64>> {
        Some(match self.rows(name)? {
            Matrix::F32(rows) => rows.mapv(f64::from),
            Matrix::F64(rows) => rows.clone(),
        })
    }

    /// The first of these tensors that the case has.
    pub(crate) fn first_of(&self, names: &[&str]) -> Option<Array2<f64>> {
        names.iter().find_map(|name| self.matrix(name))
    }

    /// A vector as `f64`.
    pub(crate) fn vector(&self, name: &str) -> Option<Vec<f64>> {
        let (_, width) = self.dims(name)?;
        let values = self.matrix(name).filter(|_| width == 1)?;
        Some(values.into_raw_vec_and_offset().0)
    }

    /// A stack of matrices.
    pub(crate) fn stack(&self, name: &str) -> Option<Array3<f64>> {
        let [shard] = self.shards(name) else { return None };
        let [k, rows, columns] = *shard.shape() else { return None };
        let values = self.matrix(name)?.into_raw_vec_and_offset().0;
        Array3::from_shape_vec((k, rows, columns), values).ok()
    }

    /// The labels of all shards.
    pub(crate) fn labels(&self) -> Option<Vec<i64>> {
        let name = ["labels", "label"].into_iter().find(|name| self.has(name))?;
        let mut labels = Vec::new();
        let read = self.stream(name, |_, block| match block {
            Tensor::Integers(values) => labels.extend(values),
            other => labels.extend(other.widened().iter().map(|&value| value as i64)),
        });
        read.then_some(labels)
    }

    /// The labels as indices below the number of classes that occur, ascending, and the labels those stand for.
    pub(crate) fn class_indices(&self) -> Option<(Vec<usize>, Vec<i64>)> {
        let labels = self.labels()?;
        let seen: BTreeSet<i64> = labels.iter().copied().collect();
        let seen: Vec<i64> = seen.into_iter().collect();
        let index = |label: &i64| seen.binary_search(label).ok();
        Some((labels.iter().map(index).collect::<Option<_>>()?, seen))
    }

    /// Whole numbers separated by commas that follow a word in how a quantity is meant: `the first 250,500 rows`.
    pub(crate) fn numbers_in(&self, quantity: &str, after: &str) -> Vec<usize> {
        let Some((_, rest)) = self.how(quantity).split_once(after) else { return Vec::new() };
        let list = rest.split_whitespace().next().unwrap_or_default();
        list.split(',').filter_map(|number| number.parse().ok()).collect()
    }

    /// Of a quantity per dimension: one number, the mean over dimensions, unless the entry asks for each.
    pub(crate) fn mean_or_each(&self, quantity: &str, values: Vec<f64>) -> Vec<f64> {
        let mut words = self.how(quantity).split(|letter: char| !letter.is_alphanumeric());
        let each = words.any(|word| ["each", "array", "list"].contains(&word));
        if each { values } else { vec![values.iter().sum::<f64>() / values.len() as f64] }
    }

    /// How a quantity is meant, in words.
    pub(crate) fn how(&self, quantity: &str) -> &str {
        let asked = self.asked.iter().find(|asked| asked.quantity == quantity);
        asked.map_or("", |asked| &asked.how)
    }
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
}
