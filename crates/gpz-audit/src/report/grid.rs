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

/// Columns kept as long as leaving out rows can still meet the budget.
const MIN_COLUMNS: usize = 4;

/// The grid as the template sees it.
#[derive(Serialize)]
pub(super) struct Grid {
    originals: Vec<Cell>,
    rows: Vec<Row>,
    /// What is not shown, if anything.
    note: Option<String>,
}

#[derive(Serialize)]
struct Row {
    split: String,
    words: &'static str,
    ssim: String,
    error: String,
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
        Some(Self { originals, rows, note })
    }
}

fn row(input: &ReportInput, k: usize, columns: &[usize]) -> Row {
    let split = &input.splits.splits[k];
    let error = |i: usize| -> Option<f64> {
        let scores = &input.run.pictures[i].splits;
        scores.iter().find(|s| s.split == split.name).map(|s| s.mse_per_element).filter(|e| e.is_finite())
    };
    let known = || columns.iter().copied().filter_map(|i| Some((i, error(i)?)));
    let best = known().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i);
    let worst = known().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i);
    let cell = |&i: &usize| {
        let picture = input.pictures.get(i).and_then(|p| p.reconstructions.get(k)).and_then(|png| data_uri(png.as_deref()));
        let mark = match () {
            () if best == worst => "",
            () if best == Some(i) => "best",
            () if worst == Some(i) => "worst",
            () => "",
        };
        let class = &input.run.pictures[i].class;
        Cell {
            source: picture,
            alt: format!("reconstruction of original {} ({class}) from {}", i + 1, split.name),
            caption: error(i).map_or_else(String::new, |e| words::significant(e, 2)),
            mark,
        }
    };
    let attack = &split.attack;
    Row {
        split: split.name.clone(),
        words: words::what_an_attacker_gets(attack.ssim_effective),
        ssim: words::significant(attack.ssim, 2),
        error: words::significant(attack.mse_per_element, 2),
        recommended: input.choice.split.as_deref() == Some(split.name.as_str()),
        cells: columns.iter().map(cell).collect(),
    }
}

/// Indices of the pictures and of the splits that fit into the budget: columns are left out first, down to four, then rows,
/// evenly over the depth and never the recommended one.
fn fit(input: &ReportInput) -> Option<(Vec<usize>, Vec<usize>)> {
    let all_rows: Vec<usize> = (0..input.splits.splits.len()).collect();
    let columns = input.run.pictures.len().min(MAX_COLUMNS);
    let size = |columns: usize, rows: &[usize]| -> usize {
        let bytes = |png: Option<&Option<Vec<u8>>>| png.and_then(Option::as_ref).map_or(0, Vec::len);
        let pictures = input.pictures.iter().take(columns);
        pictures.map(|p| bytes(Some(&p.original)) + rows.iter().map(|&k| bytes(p.reconstructions.get(k))).sum::<usize>()).sum()
    };
    let narrower = (1..=columns).rev().map(|c| (c, all_rows.clone()));
    let wide_enough = narrower.take_while(|(c, _)| *c >= MIN_COLUMNS.min(columns));
    let shorter = (1..all_rows.len()).rev().map(|r| (MIN_COLUMNS.min(columns), evenly(r, &all_rows, recommended(input))));
    let (columns, rows) = wide_enough.chain(shorter).find(|(c, rows)| size(*c, rows) <= PNG_BUDGET)?;
    Some(((0..columns).collect(), rows))
}

fn recommended(input: &ReportInput) -> Option<usize> {
    let name = input.choice.split.as_deref()?;
    input.splits.splits.iter().position(|s| s.name == name)
}

/// `count` of `all`, the first and the last among them where there is room, and always `keep`.
fn evenly(count: usize, all: &[usize], keep: Option<usize>) -> Vec<usize> {
    let last = all.len().saturating_sub(1);
    let mut picked: Vec<usize> = (0..count).map(|i| if count == 1 { last } else { i * last / (count - 1) }).collect();
    if let Some(keep) = keep.filter(|k| !picked.contains(k))
        && let Some(nearest) = picked.iter_mut().min_by_key(|p| p.abs_diff(keep))
    {
        *nearest = keep;
    }
    picked
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
        let all: Vec<usize> = (0..50).collect();
        assert_eq!(evenly(5, &all, None), [0, 12, 24, 36, 49]);
        assert_eq!(evenly(5, &all, Some(40)), [0, 12, 24, 40, 49]);
        assert_eq!(evenly(1, &all, None), [49]);
        assert_eq!(evenly(1, &all, Some(3)), [3]);
    }

    #[test]
    fn only_pngs_are_embedded() {
        assert_eq!(data_uri(None), None);
        assert_eq!(data_uri(Some(b"<html")), None);
        assert_eq!(data_uri(Some(b"\x89PNG\r\n\x1a\n")).unwrap(), "data:image/png;base64,iVBORw0KGgo=");
    }
}
