//! The grid of pictures: originals above, one row of reconstructions per split.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::ReportInput;
use crate::words;

/// Bytes of PNG the page carries at most; with base64 and everything else it stays below 3 MB.
const PNG_BUDGET: usize = 1_900_000;

/// Columns shown at most.
const MAX_COLUMNS: usize = 10;

/// Rows shown at most: more do not say more.
const MAX_ROWS: usize = 9;

/// Columns kept as long as leaving out rows can still meet the budget.
const MIN_COLUMNS: usize = 4;

/// The grid as the template sees it.
#[derive(Serialize)]
pub(super) struct Grid {
    originals: Vec<Cell>,
    rows: Vec<Row>,
    /// Who was not trained on the originals, as far as is known.
    unseen_by: &'static str,
    /// What is not shown, if anything.
    note: Option<String>,
}

#[derive(Serialize)]
struct Row {
    split: String,
    words: &'static str,
    ssim: String,
    error: String,
    /// Whether the attack lags behind one on a deeper split.
    limited: bool,
    recommended: bool,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    /// Data URI of the picture; `None` if its file is missing.
    source: Option<String>,
    alt: String,
    caption: String,
    /// `best`, `worst` or nothing.
    mark: &'static str,
}

impl Grid {
    /// As many pictures as the page can carry; `None` if the run has none.
    pub(super) fn new(input: &ReportInput) -> Option<Self> {
        let (columns, rows) = fit(input)?;
        let originals = columns
            .iter()
            .map(|&i| {
                let class = input.run.pictures[i].class.clone();
                Cell {
                    source: input.pictures.get(i).and_then(|p| data_uri(p.original.as_deref())),
                    alt: format!("original {}: {class}", i + 1),
                    caption: class,
                    mark: "",
                }
            })
            .collect();
        let note = note(input, columns.len(), rows.len());
        let rows = rows.into_iter().map(|k| row(input, k, &columns)).collect();
        let unseen_by = match input.run.target.loaded_from {
            None => "neither the network nor an attacker",
            Some(_) => "no attacker",
        };
        Some(Self { originals, rows, unseen_by, note })
    }
}

fn row(input: &ReportInput, k: usize, columns: &[usize]) -> Row {
    let split = &input.splits.splits[k];
    let marked = best_and_worst(input, &split.name, columns.iter().copied())
        .filter(|(best, worst)| best != worst);
    let cell = |&i: &usize| {
        let picture = input
            .pictures
            .get(i)
            .and_then(|p| p.reconstructions.get(k))
            .and_then(|png| data_uri(png.as_deref()));
        let mark = match marked {
            Some((best, _)) if best == i => "best",
            Some((_, worst)) if worst == i => "worst",
            _ => "",
        };
        let class = &input.run.pictures[i].class;
        Cell {
            source: picture,
            alt: format!("reconstruction of original {} ({class}) from {}", i + 1, split.name),
            caption: error(input, &split.name, i)
                .map_or_else(String::new, |e| words::significant(e, 2)),
            mark,
        }
    };
    let attack = &split.attack;
    Row {
        split: split.name.clone(),
        // Of the attack whose pictures stand beside it: a deeper split's may reach more.
        words: words::what_an_attacker_gets(attack.ssim),
        ssim: words::significant(attack.ssim, 2),
        error: words::significant(attack.mse_per_element, 2),
        limited: attack.attack_limited,
        recommended: input.choice.split.as_deref() == Some(split.name.as_str()),
        cells: columns.iter().map(cell).collect(),
    }
}

/// Indices of the pictures and of the splits that are shown. Of many splits some are picked evenly over the depth; if the budget
/// is exceeded columns are left out, down to four, then further rows.
fn fit(input: &ReportInput) -> Option<(Vec<usize>, Vec<usize>)> {
    let splits = input.splits.splits.len();
    let columns = input.run.pictures.len().min(MAX_COLUMNS);
    let rows = |count: usize| evenly(count, splits, &turning_points(input));
    let size = |columns: usize, rows: &[usize]| -> usize {
        let bytes =
            |png: Option<&Option<Vec<u8>>>| png.and_then(Option::as_ref).map_or(0, Vec::len);
        let pictures = input.pictures.iter().take(columns);
        pictures
            .map(|p| {
                bytes(Some(&p.original))
                    + rows.iter().map(|&k| bytes(p.reconstructions.get(k))).sum::<usize>()
            })
            .sum()
    };
    let most_rows = splits.min(MAX_ROWS);
    let fewest_columns = columns.min(MIN_COLUMNS);
    let narrower = (fewest_columns.max(1)..=columns).rev().map(|c| (c, rows(most_rows)));
    let shorter = (1..most_rows).rev().map(|r| (fewest_columns, rows(r)));
    let (columns, rows) =
        narrower.chain(shorter).find(|(c, rows)| *c > 0 && size(*c, rows) <= PNG_BUDGET)?;
    Some(((0..columns).collect(), rows))
}

/// The splits a reader looks for: the recommended one, the first of the zone and the last before it.
fn turning_points(input: &ReportInput) -> Vec<usize> {
    let position = |name: &Option<String>| {
        input.splits.splits.iter().position(|s| Some(&s.name) == name.as_ref())
    };
    let first = position(&input.splits.zone.first_split);
    let before = first.and_then(|k| k.checked_sub(1));
    [position(&input.choice.split), first, before].into_iter().flatten().collect()
}

/// `count` of `n` rows, evenly, the last one among them; the nearest of them make place for the rows in `keep`, the most
/// important of which come first.
fn evenly(count: usize, n: usize, keep: &[usize]) -> Vec<usize> {
    let last = n.saturating_sub(1);
    let mut picked: Vec<usize> =
        (0..count).map(|i| if count == 1 { last } else { i * last / (count - 1) }).collect();
    for (i, &row) in keep.iter().enumerate() {
        let free = |p: &&mut usize| !keep[..i].contains(p);
        if !picked.contains(&row)
            && let Some(nearest) = picked.iter_mut().filter(free).min_by_key(|p| p.abs_diff(row))
        {
            *nearest = row;
        }
    }
    picked.sort_unstable();
    picked
}

/// An original beside what the attack on one split made of it.
#[derive(Serialize)]
pub(super) struct Example {
    original: String,
    reconstruction: String,
    class: String,
    split: String,
}

impl Example {
    /// Of the pictures of a run the one the attack on `split` did best on, as the most damaging one is what counts.
    pub(super) fn new(input: &ReportInput, split: &str) -> Option<Self> {
        let k = input.splits.splits.iter().position(|s| s.name == split)?;
        let (i, _) = best_and_worst(input, split, 0..input.run.pictures.len())?;
        let pictures = input.pictures.get(i)?;
        Some(Self {
            original: data_uri(pictures.original.as_deref())?,
            reconstruction: data_uri(pictures.reconstructions.get(k)?.as_deref())?,
            class: input.run.pictures[i].class.clone(),
            split: split.to_string(),
        })
    }
}

/// Error of the attack on `split` on picture `i`.
fn error(input: &ReportInput, split: &str, i: usize) -> Option<f64> {
    let scores = &input.run.pictures.get(i)?.splits;
    scores.iter().find(|s| s.split == split).map(|s| s.mse_per_element).filter(|e| e.is_finite())
}

/// The pictures the attack on `split` did best and worst on; of equal ones the first.
fn best_and_worst(
    input: &ReportInput,
    split: &str,
    pictures: impl Iterator<Item = usize>,
) -> Option<(usize, usize)> {
    let known: Vec<(usize, f64)> =
        pictures.filter_map(|i| Some((i, error(input, split, i)?))).collect();
    let best = known.iter().min_by(|a, b| a.1.total_cmp(&b.1))?.0;
    let worst = known.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))?.0;
    Some((best, worst))
}

fn note(input: &ReportInput, columns: usize, rows: usize) -> Option<String> {
    let (pictures, splits) = (input.run.pictures.len(), input.splits.splits.len());
    (columns < pictures || rows < splits)
        .then(|| format!("Shown: {columns} of {pictures} pictures at {rows} of {splits} splits. All of them are in pictures/."))
}

/// A picture inside the page; `None` for a missing file or one that is no PNG.
fn data_uri(png: Option<&[u8]>) -> Option<String> {
    let png = png.filter(|bytes| bytes.starts_with(b"\x89PNG\r\n\x1a\n"))?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_left_out_evenly() {
        assert_eq!(evenly(5, 50, &[]), [0, 12, 24, 36, 49]);
        assert_eq!(evenly(5, 50, &[40, 41]), [0, 12, 24, 40, 41]);
        assert_eq!(evenly(1, 50, &[]), [49]);
        assert_eq!(evenly(1, 50, &[3, 4]), [3]);
        assert_eq!(evenly(4, 4, &[3, 2]), [0, 1, 2, 3]);
    }

    #[test]
    fn only_pngs_are_embedded() {
        assert_eq!(data_uri(None), None);
        assert_eq!(data_uri(Some(b"<html")), None);
        assert_eq!(
            data_uri(Some(b"\x89PNG\r\n\x1a\n")).unwrap(),
            "data:image/png;base64,iVBORw0KGgo="
        );
    }
}
