//! Sums and largest elements.

fn sum(x: &[f32]) -> f64 {
    x.iter().map(|&value| f64::from(value)).sum()
}

/// Sum of each row of `length` elements.
#[must_use]
pub fn row_sums(x: &[f32], length: usize) -> Vec<f64> {
    x.chunks_exact(length).map(sum).collect()
}

/// Sums of the pieces of `chunk` elements of each row; the last piece of a row may be shorter.
#[must_use]
pub fn partial_sums(x: &[f32], length: usize, chunk: usize) -> Vec<f64> {
    x.chunks_exact(length).flat_map(|row| row.chunks(chunk).map(sum)).collect()
}

/// Sums of the products of the elements of two vectors, by pieces of `chunk`; the products are rounded to `f32`.
#[must_use]
pub fn partial_dots(x: &[f32], y: &[f32], chunk: usize) -> Vec<f64> {
    let products: Vec<f32> = x.iter().zip(y).map(|(x, y)| x * y).collect();
    products.chunks(chunk).map(sum).collect()
}

/// `scale` times the sum of each row of `chunks` partial sums.
#[must_use]
pub fn finish_sums(partial: &[f64], chunks: usize, scale: f64) -> Vec<f64> {
    partial.chunks_exact(chunks).map(|row| scale * row.iter().sum::<f64>()).collect()
}

/// Largest element of each row of `length` elements, and its place in the row.
///
/// The first of equals, where −0 and 0 are equal; a row with NaN has its first NaN.
#[must_use]
pub fn row_max(x: &[f32], length: usize) -> (Vec<f32>, Vec<u32>) {
    let of = |row: &[f32]| {
        let best = (0..row.len()).fold(0, |best, at| {
            let larger = row[at] > row[best] || row[at].is_nan() && !row[best].is_nan();
            if larger { at } else { best }
        });
        (row[best], best as u32)
    };
    x.chunks_exact(length).map(of).unzip()
}

/// Gradient of the largest element of each row: `dy` at its place, zero elsewhere; `[rows, length]`.
#[must_use]
pub fn max_backward(index: &[u32], dy: &[f32], length: usize) -> Vec<f32> {
    let row = |(&index, &dy): (&u32, &f32)| {
        (0..length).map(move |at| if at == index as usize { dy } else { 0.0 })
    };
    index.iter().zip(dy).flat_map(row).collect()
}
