//! The register tile: `P` rows of `V` vectors that stay in registers while a sum runs over them.
//!
//! One step of a sum multiplies `P` scalars by `V` vectors: `V` loads, `P` broadcasts, `P · V` multiply-adds. With 32 registers 6×4 and
//! its relatives keep the multiply-adders busy and leave the front end idle; slices are checked in its spare time.

use crate::Element;
use crate::simd::Lanes;

/// A tile's accumulators.
pub(crate) type Tile<V, const ROWS: usize, const VECTORS: usize> = [[V; VECTORS]; ROWS];

/// Vectors in the widest tile.
pub(crate) const fn widest(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// Most lanes a vector has on any instruction set.
const MOST_LANES: usize = 16;

/// Runs `$body` with constants `$rows` and `$vectors` for each number of rows that tiles of `$count` vectors have, most rows first.
///
/// The rows of the first are as many as the registers hold accumulators for, one being left for the broadcast; the last is 1.
macro_rules! for_tiles {
    ($registers:expr, $count:expr, |$rows:ident, $vectors:ident| $body:expr) => {
        match ($registers >= 32, $count) {
            (true, 4) => $crate::cpu::conv::tile::for_tiles!(@ 4, [6, 2, 1], $rows, $vectors, $body),
            (true, 3) => $crate::cpu::conv::tile::for_tiles!(@ 3, [8, 2, 1], $rows, $vectors, $body),
            (true, 2) => $crate::cpu::conv::tile::for_tiles!(@ 2, [12, 4, 1], $rows, $vectors, $body),
            (false, 2) => $crate::cpu::conv::tile::for_tiles!(@ 2, [6, 2, 1], $rows, $vectors, $body),
            _ => $crate::cpu::conv::tile::for_tiles!(@ 1, [12, 4, 1], $rows, $vectors, $body),
        }
    };
    (@ $v:literal, [$($p:literal),*], $rows:ident, $vectors:ident, $body:expr) => {{
        const $vectors: usize = $v;
        $({ const $rows: usize = $p; $body; })*
    }};
}
pub(crate) use for_tiles;

/// `tile[p][v] += Σ_c x[p][c] · w[c][v]`.
///
/// - `x`: `P` runs of equal length; `w`: one row of `V` vectors for each of their elements
#[inline(always)]
pub(crate) fn accumulate<T: Element, I: Lanes<T>, const P: usize, const V: usize>(
    isa: I,
    mut tile: Tile<I::Vector, P, V>,
    mut x: [&[T]; P],
    w: &[T],
) -> Tile<I::Vector, P, V> {
    let len = x[0].len();
    for run in &mut x {
        *run = &run[..len];
    }
    for (c, row) in w.chunks_exact(V * I::LANES).take(len).enumerate() {
        let w = load_row::<T, I, V>(isa, row);
        for p in 0..P {
            let scalar = isa.splat(x[p][c]);
            for v in 0..V {
                tile[p][v] = isa.mul_add(scalar, w[v], tile[p][v]);
            }
        }
    }
    tile
}

/// `tile[p][v] += Σ_i rows[i · row_pitch + offsets[p]] · vectors[i · vector_pitch][v]` for `count` values of `i`.
#[inline(always)]
pub(crate) fn accumulate_outer<T: Element, I: Lanes<T>, const P: usize, const V: usize>(
    isa: I,
    mut tile: Tile<I::Vector, P, V>,
    (rows, row_pitch, offsets): (&[T], usize, [usize; P]),
    (vectors, vector_pitch): (&[T], usize),
    count: usize,
) -> Tile<I::Vector, P, V> {
    // Known before the loop, so that in it one check serves all rows.
    let span = offsets.iter().fold(0, |most, &offset| most.max(offset)) + 1;
    for offset in offsets {
        assert!(offset < span);
    }
    for i in 0..count {
        let row = &rows[i * row_pitch..][..span];
        let w = load_row::<T, I, V>(isa, &vectors[i * vector_pitch..][..V * I::LANES]);
        for p in 0..P {
            let scalar = isa.splat(row[offsets[p]]);
            for v in 0..V {
                tile[p][v] = isa.mul_add(scalar, w[v], tile[p][v]);
            }
        }
    }
    tile
}

/// `V` vectors. Like all of this file it counts on being inlined, which `std::array::from_fn` does not promise.
#[inline(always)]
pub(crate) fn load_row<T: Element, I: Lanes<T>, const V: usize>(
    isa: I,
    row: &[T],
) -> [I::Vector; V] {
    let mut vectors = [isa.splat(T::ZERO); V];
    for (v, vector) in vectors.iter_mut().enumerate() {
        *vector = isa.load(&row[v * I::LANES..]);
    }
    vectors
}

/// A tile of zeros.
#[inline(always)]
pub(crate) fn zeros<T: Element, I: Lanes<T>, const P: usize, const V: usize>(
    isa: I,
) -> Tile<I::Vector, P, V> {
    [[isa.splat(T::ZERO); V]; P]
}

/// Vector `v` of a row, which may end within it: the missing lanes are zero.
#[inline(always)]
pub(crate) fn load_within<T: Element, I: Lanes<T>>(isa: I, row: &[T], v: usize) -> I::Vector {
    let from = v * I::LANES;
    match row.get(from..from + I::LANES) {
        Some(whole) => isa.load(whole),
        None => {
            let mut lanes = [T::ZERO; MOST_LANES];
            let rest = row.get(from..).unwrap_or_default();
            lanes[..rest.len()].copy_from_slice(rest);
            isa.load(&lanes)
        }
    }
}

/// Writes vector `v` of a row, which may end within it: the lanes beyond are dropped.
#[inline(always)]
pub(crate) fn store_within<T: Element, I: Lanes<T>>(
    isa: I,
    value: I::Vector,
    row: &mut [T],
    v: usize,
) {
    let from = v * I::LANES;
    match row.get_mut(from..from + I::LANES) {
        Some(whole) => isa.store(value, whole),
        None => {
            let mut lanes = [T::ZERO; MOST_LANES];
            isa.store(value, &mut lanes);
            let rest = row.get_mut(from..).unwrap_or_default();
            rest.copy_from_slice(&lanes[..rest.len()]);
        }
    }
}
