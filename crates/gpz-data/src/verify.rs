//! Reads a whole set, cuts it as every command does, and says what there is.

use serde::Serialize;

use crate::images::{ImageId, ImageShape};
use crate::parts::{ImageSet, Part, Parts, View};
use crate::{Dataset, Format, OpenOptions, Result, SplitPlan, Watch};

/// What a set holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The name or path it was opened by.
    pub name: String,
    /// How it is stored.
    pub format: Format,
    /// Images in all parts together.
    pub images: usize,
    /// Shape of the stored training images.
    pub shape: ImageShape,
    /// Class names in the order of the labels.
    pub classes: Vec<String>,
    /// Target-train, target-validation, auxiliary (its two halves after it) and test.
    pub parts: Vec<PartSummary>,
    /// Pictures that occur more than once.
    pub duplicates: Duplicates,
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartSummary {
    /// Which part.
    pub part: Part,
    /// Images in it.
    pub images: usize,
    /// Stored shape, before resizing.
    pub shape: ImageShape,
    /// Images of each class, in the order of the labels.
    pub per_class: Vec<usize>,
    /// Class names, if they are not those of the set: an auxiliary part may have its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_classes: Option<Vec<String>>,
}

/// Pictures that are the same in every pixel. The parts share no image, but a set may hold a picture twice, and then a decoder
/// may have seen what it is tested on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// Images beyond the first of each picture, within a part, all parts together.
    pub within_parts: usize,
    /// Pictures that occur in two parts, for each pair of parts that share any.
    pub across_parts: Vec<SharedPictures>,
}

/// Pictures two parts share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedPictures {
    /// The one part.
    pub a: Part,
    /// The other part.
    pub b: Part,
    /// Different pictures that occur in both.
    pub pictures: usize,
    /// Where the first of them stands in either.
    pub example: (ImageId, ImageId),
}

/// Opens the set named `spec`, reads all of it under the eyes of `watch`, cuts it by the default plan and counts.
///
/// # Errors
/// Everything [`Dataset::open_watched`] and [`Dataset::split`] may say.
pub fn verify(spec: &str, watch: Watch<'_>) -> Result<Summary> {
    let set = Dataset::open_watched(spec, &OpenOptions::default(), watch)?;
    let parts = set.split(&SplitPlan::default())?;
    Ok(Summary::of(&set, &parts))
}

impl Summary {
    /// The summary of a set and of the parts cut from it.
    pub fn of(set: &Dataset, parts: &Parts) -> Self {
        let Parts { target_train, target_validation, auxiliary, test } = parts;
        let disjoint: [&dyn ImageSet; 4] = [target_train, target_validation, auxiliary, test];
        let listed: [&dyn ImageSet; 6] = [
            target_train,
            target_validation,
            auxiliary,
            auxiliary.train(),
            auxiliary.held_out(),
            test,
        ];
        Self {
            name: set.name().into(),
            format: set.format(),
            images: disjoint.iter().map(|part| part.len()).sum(),
            shape: set.native_shape(),
            classes: set.class_names().to_vec(),
            parts: listed.iter().map(|part| part_summary(*part, set.class_names())).collect(),
            duplicates: duplicates(&disjoint),
        }
    }
}

fn part_summary(part: &dyn ImageSet, classes: &[String]) -> PartSummary {
    PartSummary {
        part: part.part(),
        images: part.len(),
        shape: part.view().pool.shape,
        per_class: part.per_class(),
        own_classes: (part.class_names() != classes).then(|| part.class_names().to_vec()),
    }
}

/// One image of one of the parts.
struct Candidate<'a> {
    hash: u64,
    part: usize,
    position: usize,
    pixels: &'a [u8],
    size: (usize, usize),
}

/// Finds equal pictures by hash and confirms them by their pixels.
fn duplicates(parts: &[&dyn ImageSet]) -> Duplicates {
    let mut candidates = Vec::new();
    for (part, set) in parts.iter().enumerate() {
        let View { pool, members, .. } = set.view();
        candidates.extend(members.iter().enumerate().map(|(position, member)| {
            let pixels = pool.image(*member as usize);
            Candidate { hash: hash(pixels), part, position, pixels, size: pool.shape.size() }
        }));
    }
    candidates.sort_unstable_by_key(|c| (c.hash, c.size, c.pixels, c.part, c.position));

    let mut found = Duplicates::default();
    let mut across = std::collections::BTreeMap::new();
    for group in
        candidates.chunk_by(|a, b| (a.hash, a.size, a.pixels) == (b.hash, b.size, b.pixels))
    {
        let firsts: Vec<&Candidate<'_>> =
            group.chunk_by(|a, b| a.part == b.part).map(|same| &same[0]).collect();
        found.within_parts += group.len() - firsts.len();
        for (rank, a) in firsts.iter().enumerate() {
            for b in &firsts[rank + 1..] {
                let example = (parts[a.part].id(a.position), parts[b.part].id(b.position));
                let entry = across.entry((a.part, b.part)).or_insert((0, example));
                entry.0 += 1;
                entry.1 = entry.1.min(example);
            }
        }
    }
    found.across_parts = across
        .into_iter()
        .map(|((a, b), (pictures, example))| SharedPictures {
            a: parts[a].part(),
            b: parts[b].part(),
            pictures,
            example,
        })
        .collect();
    found
}

/// A quick 64-bit hash of 8 bytes at a time; equality is confirmed by the pixels.
pub(crate) fn hash(pixels: &[u8]) -> u64 {
    let mix =
        |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = pixels.as_chunks::<8>();
    let hash =
        words.iter().fold(pixels.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}
