//! Sums over all pairs of rows of distances and their products, each per row.

use ndarray::{Array2, ArrayView1, Axis};
use rayon::prelude::*;

/// Columns of a block of distances, so that blocks of both samples stay in a first-level cache.
const BLOCK: usize = 1024;
/// Sums that all pieces of work may hold together in each of three arrays, as long as that is at least sixteen pieces.
const PIECES_ELEMENTS: usize = 1 << 19;

/// Which two matrices of distances are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// Those of `x` and of `y`.
    Both,
    /// Those of `x` with themselves.
    Left,
    /// Those of `y` with themselves.
    Right,
}

impl Pair {
    pub(super) const ALL: [Self; 3] = [Self::Both, Self::Left, Self::Right];
}

/// With `a`, `b` the distances of `x` and of `y`, for each row `k`.
pub(super) struct Sums {
    /// `Σ_i a_ik`, `Σ_i b_ik`.
    rows: [Vec<f64>; 2],
    /// Sums of those.
    all: [f64; 2],
    /// `Σ_i a_ik b_ik`, `Σ_i a_ik²`, `Σ_i b_ik²`.
    products: [Vec<f64>; 3],
    /// `Σ_i (a_i. b_ik + b_i. a_ik)`, `2 Σ_i a_i. a_ik`, `2 Σ_i b_i. b_ik`.
    crossed: [Vec<f64>; 3],
}

impl Sums {
    pub(super) fn of(x: &Array2<f64>, y: &Array2<f64>) -> Self {
        if x.ncols() == 1 && y.ncols() == 1 { Self::by_sorting(x, y) } else { Self::by_pairs(x, y) }
    }

    /// Row sums of the pair's two matrices.
    pub(super) fn row_sums(&self, pair: Pair) -> (&[f64], &[f64]) {
        let [left, right] = &self.rows;
        match pair {
            Pair::Both => (left, right),
            Pair::Left => (left, left),
            Pair::Right => (right, right),
        }
    }

    /// Sums of all entries of the pair's two matrices.
    pub(super) fn all(&self, pair: Pair) -> (f64, f64) {
        let [left, right] = self.all;
        match pair {
            Pair::Both => (left, right),
            Pair::Left => (left, left),
            Pair::Right => (right, right),
        }
    }

    /// Sum of the products of each row's entries.
    pub(super) fn products(&self, pair: Pair) -> &[f64] {
        &self.products[pair as usize]
    }

    /// Each matrix's row sums times the other's entries of a row, added.
    pub(super) fn crossed(&self, pair: Pair, row: usize) -> f64 {
        self.crossed[pair as usize][row]
    }

    /// Through all pairs of rows, twice: the crossed sums need the row sums.
    pub(super) fn by_pairs(x: &Array2<f64>, y: &Array2<f64>) -> Self {
        let [left, right] = [x, y].map(|rows| rows.t().as_standard_layout().into_owned());
        let [a, b, products] = over_pairs(&left, &right, |_, _, a, b| {
            let terms = [a, b, a * b];
            (terms, terms)
        });
        let [crossed, own_left, own_right] = over_pairs(&left, &right, |k, j, x, y| {
            let terms = |i: usize| [a[i] * y + b[i] * x, 2.0 * a[i] * x, 2.0 * b[i] * y];
            (terms(j), terms(k))
        });
        Self {
            all: [a.iter().sum(), b.iter().sum()],
            rows: [a, b],
            products: [products, squared_distances(x), squared_distances(y)],
            crossed: [crossed, own_left, own_right],
        }
    }

    /// One dimension each: absolute differences lose their bars once sorted, so that prefix sums do.
    pub(super) fn by_sorting(x: &Array2<f64>, y: &Array2<f64>) -> Self {
        let squares = [squared_distances(x), squared_distances(y)];
        let (x, y) = (Sorted::new(x), Sorted::new(y));
        let ones = vec![1.0; x.values.len()];
        let rows = [x.weighted_distances(&ones), y.weighted_distances(&ones)];
        let [left, right] = squares;
        let added = |a: Vec<f64>, b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        let twice = |a: Vec<f64>| a.into_iter().map(|a| 2.0 * a).collect();
        Self {
            all: [rows[0].iter().sum(), rows[1].iter().sum()],
            products: [products(&x, &y), left, right],
            crossed: [
                added(y.weighted_distances(&rows[0]), &x.weighted_distances(&rows[1])),
                twice(x.weighted_distances(&rows[0])),
                twice(y.weighted_distances(&rows[1])),
            ],
            rows,
        }
    }
}

/// Sums over all pairs of rows, `[n]` each: a pair's terms for its first row and for its second, from both rows' numbers and their
/// distances in `x` and in `y`, which are `[d, n]`.
fn over_pairs(
    x: &Array2<f64>,
    y: &Array2<f64>,
    terms: impl Fn(usize, usize, f64, f64) -> ([f64; 3], [f64; 3]) + Sync,
) -> [Vec<f64>; 3] {
    let n = x.ncols();
    // Pieces of interleaved rows, which are alike in work. By problem size alone, so that the bits are too.
    let pieces = (PIECES_ELEMENTS / n).clamp(16, 64);
    let piece = |piece: usize| {
        let mut sums = [(); 3].map(|()| vec![0.0; n]);
        let (mut left, mut right) = (vec![0.0; BLOCK], vec![0.0; BLOCK]);
        for k in (piece..n).step_by(pieces) {
            let mut own = [0.0; 3];
            for from in (k + 1..n).step_by(BLOCK) {
                let size = BLOCK.min(n - from);
                distances(x, k, from, &mut left[..size]);
                distances(y, k, from, &mut right[..size]);
                let [first, second, third] = &mut sums;
                let rows =
                    first[from..].iter_mut().zip(&mut second[from..]).zip(&mut third[from..]);
                let both = left[..size].iter().zip(&right[..size]);
                for (j, (((first, second), third), (a, b))) in rows.zip(both).enumerate() {
                    let (mine, others) = terms(k, from + j, *a, *b);
                    own = [own[0] + mine[0], own[1] + mine[1], own[2] + mine[2]];
                    *first += others[0];
                    *second += others[1];
                    *third += others[2];
                }
            }
            sums.iter_mut().zip(own).for_each(|(sum, own)| sum[k] += own);
        }
        sums
    };
    let pieces: Vec<[Vec<f64>; 3]> = (0..pieces).into_par_iter().map(piece).collect();
    [0, 1, 2].map(|which| {
        let mut total = vec![0.0; n];
        for piece in &pieces {
            total.iter_mut().zip(&piece[which]).for_each(|(total, part)| *total += part);
        }
        total
    })
}

/// Distances of row `k` to the rows `from` and on; `columns` is `[d, n]`.
fn distances(columns: &Array2<f64>, k: usize, from: usize, out: &mut [f64]) {
    out.fill(0.0);
    for column in columns.rows() {
        let own = column[k];
        let column = column.to_slice().unwrap_or_default();
        for (sum, value) in out.iter_mut().zip(&column[from..]) {
            *sum += (value - own) * (value - own);
        }
    }
    out.iter_mut().for_each(|sum| *sum = sum.sqrt());
}

/// `Σ_i ‖v_i − v_k‖²` of each row `k`, from rows about their mean.
fn squared_distances(rows: &Array2<f64>) -> Vec<f64> {
    let n = rows.nrows() as f64;
    let sum = rows.sum_axis(Axis(0));
    let squares: f64 = rows.iter().map(|value| value * value).sum();
    let own = |row: ArrayView1<'_, f64>| n * row.dot(&row) - 2.0 * row.dot(&sum) + squares;
    rows.rows().into_iter().map(own).collect()
}

/// One column with its order.
struct Sorted {
    values: Vec<f64>,
    /// Rows by ascending value.
    order: Vec<usize>,
}

impl Sorted {
    fn new(column: &Array2<f64>) -> Self {
        let values: Vec<f64> = column.iter().copied().collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        // By row where values tie, so that the order is one whatever the number of threads.
        order.par_sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
        Self { values, order }
    }

    /// `Σ_i w_i |v_i − v_k|` of each row `k`.
    fn weighted_distances(&self, weights: &[f64]) -> Vec<f64> {
        let total: f64 = self.order.iter().map(|&row| weights[row]).sum();
        let moment: f64 = self.order.iter().map(|&row| weights[row] * self.values[row]).sum();
        let (mut below, mut moment_below) = (0.0, 0.0);
        let mut sums = vec![0.0; self.values.len()];
        for &row in &self.order {
            let value = self.values[row];
            below += weights[row];
            moment_below += weights[row] * value;
            sums[row] = value * (2.0 * below - total) - (2.0 * moment_below - moment);
        }
        sums
    }
}

/// Count and sums of `x`, `y` and `xy` over a set of rows.
#[derive(Debug, Clone, Copy, Default)]
struct Moments([f64; 4]);

impl Moments {
    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, value)| *sum += value);
    }

    /// `Σ (x_k − x)(y_k − y)` over the set.
    fn about(self, x: f64, y: f64) -> f64 {
        let [count, sum_x, sum_y, sum_xy] = self.0;
        count * x * y - x * sum_y - y * sum_x + sum_xy
    }
}

/// `Σ_i |x_i − x_k| |y_i − y_k|` of each row `k`, in `O(n log n)`.
///
/// `(x_k − x_i)|y_k − y_i|` over a set is `2·about` of its rows with `y_i ≤ y_k`, less `about` of all: linear in the set. Rows with a
/// smaller `x` count with that, rows with a larger one with its negative, so twice the former less that of all rows is the sum. A tie in
/// either coordinate contributes zero on whichever side it stands.
fn products(x: &Sorted, y: &Sorted) -> Vec<f64> {
    let n = x.values.len();
    let moments = |row: usize| {
        let (x, y) = (x.values[row], y.values[row]);
        Moments([1.0, x, y, x * y])
    };
    // Of all rows, by ascending y.
    let mut rank = vec![0; n];
    let mut up_to = vec![Moments::default(); n];
    let mut all = Moments::default();
    for (position, &row) in y.order.iter().enumerate() {
        all.add(moments(row));
        (rank[row], up_to[row]) = (position, all);
    }
    // Of the rows met so far by ascending x: a binary indexed tree over the ranks of y.
    let mut tree = vec![Moments::default(); n + 1];
    let mut met = Moments::default();
    let mut sums = vec![0.0; n];
    for &row in &x.order {
        let (own_x, own_y) = (x.values[row], y.values[row]);
        let mut below = Moments::default();
        let mut node = rank[row] + 1;
        while node > 0 {
            below.add(tree[node]);
            node &= node - 1;
        }
        let before = 2.0 * below.about(own_x, own_y) - met.about(own_x, own_y);
        let whole = 2.0 * up_to[row].about(own_x, own_y) - all.about(own_x, own_y);
        sums[row] = 2.0 * before - whole;
        let own = moments(row);
        met.add(own);
        let mut node = rank[row] + 1;
        while node <= n {
            tree[node].add(own);
            node += node & node.wrapping_neg();
        }
    }
    sums
}
