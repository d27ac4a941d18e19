//! Random numbers by counter, and noise of them.

/// Philox 4x32 of ten rounds: four random numbers of a counter under a key.
///
/// Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
pub fn philox([mut c0, mut c1, mut c2, mut c3]: [u32; 4], [mut k0, mut k1]: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [a, b] = [(c0, 0xD251_1F53_u32), (c2, 0xCD9E_8D57)]
            .map(|(counter, factor)| u64::from(counter) * u64::from(factor));
        (c0, c2) = ((b >> 32) as u32 ^ c1 ^ k0, (a >> 32) as u32 ^ c3 ^ k1);
        (c1, c3) = (b as u32, a as u32);
        (k0, k1) = (k0.wrapping_add(0x9E37_79B9), k1.wrapping_add(0xBB67_AE85));
    }
    [c0, c1, c2, c3]
}

/// Four normal numbers of a counter under a key, after Box and Muller: two pairs of a radius and a turn.
pub fn normals(counter: u64, key: u64) -> [f64; 4] {
    let halves = |number: u64| [number as u32, (number >> 32) as u32];
    let [low, high] = halves(counter);
    let [a, b, c, d] = philox([low, high, 0, 0], halves(key));
    let pair = |radius: u32, turn: u32| {
        // In f32, as a part of the definition: what lies above zero and at most at one.
        let u = (radius as f32).mul_add(2_f32.powi(-32), 2_f32.powi(-33));
        let radius = (-2.0 * f64::from(u).ln()).sqrt();
        let angle = f64::from(turn) * 2_f64.powi(-32) * std::f64::consts::TAU;
        [radius * angle.cos(), radius * angle.sin()]
    };
    let [[a, b], [c, d]] = [pair(a, b), pair(c, d)];
    [a, b, c, d]
}

/// Gaussian noise of standard deviation `sigma` added to each element.
///
/// - `x`: `[n]`; the four elements from `4 i` on have the [`normals`] of counter `i + offset`
pub fn noise(x: &[f32], sigma: f32, key: u64, offset: u64) -> Vec<f64> {
    x.chunks(4)
        .zip(0_u64..)
        .flat_map(|(x, i)| {
            let normals = normals(offset.wrapping_add(i), key);
            x.iter().zip(normals).map(move |(&x, g)| f64::from(x) + f64::from(sigma) * g)
        })
        .collect()
}
