//! The test pictures that are shown, with what the attack made of them.

use gpz_inversion::{Decoder, Pairs, TestRows};

use super::reconstructed;
use crate::error::Result;
use crate::evaluation::ImageFigures;
use crate::pictures::{Picture, encode_png};
use crate::run_dir::files;
use crate::run_record::{PictureRecord, PictureScore};

/// Pictures that are shown at most beside the best and the worst.
const SHOWN: usize = 8;
/// Pixels between the pictures of the grid.
const GAP: usize = 2;
/// Grey between them.
const GROUND: f32 = 1.0;

/// Indices into the test part: the first picture of each class, or the first pictures if there are no classes; then the best and the worst.
pub(super) fn shown(figures: &[ImageFigures], labels: Option<&[usize]>) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut classes: Vec<usize> = Vec::new();
    for index in 0..figures.len() {
        if chosen.len() == SHOWN {
            break;
        }
        match labels {
            Some(labels) if classes.contains(&labels[index]) => {}
            Some(labels) => {
                classes.push(labels[index]);
                chosen.push(index);
            }
            None => chosen.push(index),
        }
    }
    let by_error = |a: &usize, b: &usize| {
        let error = |at: &usize| figures[*at].seen.mse_per_element;
        error(a).total_cmp(&error(b))
    };
    let extremes = [(0..figures.len()).min_by(by_error), (0..figures.len()).max_by(by_error)];
    for index in extremes.into_iter().flatten() {
        if !chosen.contains(&index) {
            chosen.push(index);
        }
    }
    chosen
}

/// The shown pictures and their reconstructions as PNG files by name, and both in one grid: originals above.
pub(super) fn draw(
    name: &str,
    decoder: &Decoder,
    pairs: &Pairs,
    test: &TestRows,
    shown: &[usize],
) -> Result<Vec<(String, Vec<u8>)>> {
    let rows: Vec<usize> = shown.iter().map(|index| test.rows()[*index]).collect();
    let [channels, height, width] = pairs.picture();
    let (originals, guesses) = (pairs.pixels_of(&rows), reconstructed(decoder, pairs, &rows)?);
    let len = channels * height * width;
    let png = |pixels: &[f32]| encode_png(&Picture { height, width, channels, pixels });
    let mut drawn = Vec::new();
    for (i, pixels) in originals.chunks_exact(len).enumerate() {
        drawn.push((files::original_picture(i), png(pixels)?));
    }
    for (i, pixels) in guesses.chunks_exact(len).enumerate() {
        drawn.push((files::reconstruction_picture(name, i), png(pixels)?));
    }
    let columns = rows.len();
    let (tall, wide) = (2 * height + GAP, columns * (width + GAP) - GAP);
    let mut grid = vec![GROUND; tall * wide * channels];
    for (band, pictures) in [&originals, &guesses].into_iter().enumerate() {
        for (column, pixels) in pictures.chunks_exact(len).enumerate() {
            for (y, line) in pixels.chunks_exact(width * channels).enumerate() {
                let at = (band * (height + GAP) + y) * wide + column * (width + GAP);
                grid[at * channels..][..line.len()].copy_from_slice(line);
            }
        }
    }
    let grid = Picture { height: tall, width: wide, channels, pixels: &grid };
    drawn.push((format!("{}/grid.png", files::PICTURES), encode_png(&grid)?));
    Ok(drawn)
}

/// What `run.json` says of the shown pictures.
pub(super) fn records(
    name: &str,
    figures: &[ImageFigures],
    labels: Option<&[usize]>,
    shown: &[usize],
) -> Vec<PictureRecord> {
    let record = |&index: &usize| PictureRecord {
        test_index: index,
        class: labels.map_or_else(String::new, |labels| labels[index].to_string()),
        splits: vec![PictureScore {
            split: name.to_owned(),
            mse_per_element: figures[index].seen.mse_per_element,
            ssim: figures[index].closest.ssim,
        }],
    };
    shown.iter().map(record).collect()
}
