//! Every pass on every instruction set against the definition in f64.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::simd::{Isa, with_isa};

fn random<T: Element>(rng: &mut ChaCha8Rng, len: usize) -> Vec<T> {
    (0..len).map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect()
}

fn poisoned<T: Element>(len: usize) -> Vec<T> {
    vec![T::from_f64(f64::NAN); len]
}

fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values.iter().map(|v| v.to_f64().to_bits()).collect()
}

/// A geometry with operands of its sizes.
struct Case<T> {
    geometry: Geometry,
    x: Vec<T>,
    w: Vec<T>,
    dy: Vec<T>,
}

impl<T: Element> Case<T> {
    fn new(geometry: Geometry, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Case {
            x: random(&mut rng, geometry.input_len()),
            w: random(&mut rng, geometry.weight_len()),
            dy: random(&mut rng, geometry.output_len()),
            geometry,
        }
    }

    fn forward(&self, epilogue: &Epilogue<'_, T>) -> Vec<T> {
        let mut y = poisoned(self.geometry.output_len());
        forward(&self.geometry, &self.x, &self.w, epilogue, &mut y);
        y
    }

    fn input_gradient(&self) -> Vec<T> {
        let mut dx = poisoned(self.geometry.input_len());
        input_gradient(&self.geometry, &self.dy, &self.w, &mut dx);
        dx
    }

    fn weight_gradient(&self) -> Vec<T> {
        let mut dw = poisoned(self.geometry.weight_len());
        weight_gradient(&self.geometry, &self.x, &self.dy, &mut dw);
        dw
    }

    /// All three passes on the instruction set in use, against the definition.
    fn check(&self) {
        let g = &self.geometry;
        let magnitude = |v: &[T]| v.iter().map(|v| v.abs()).collect::<Vec<T>>();
        let (x, w, dy) = (magnitude(&self.x), magnitude(&self.w), magnitude(&self.dy));
        let what = format!("{:?} on {}", g, crate::simd::isa_name());
        close(
            &format!("forward of {what}"),
            &self.forward(&Epilogue::default()),
            &reference::forward(g, &self.x, &self.w),
            &reference::forward(g, &x, &w),
        );
        close(
            &format!("input gradient of {what}"),
            &self.input_gradient(),
            &reference::input_gradient(g, &self.dy, &self.w),
            &reference::input_gradient(g, &dy, &w),
        );
        close(
            &format!("weight gradient of {what}"),
            &self.weight_gradient(),
            &reference::weight_gradient(g, &self.x, &self.dy),
            &reference::weight_gradient(g, &x, &dy),
        );
    }
}

/// `got` within a few roundings of `want`, where `size` is the sum of the terms' magnitudes.
fn close<T: Element>(what: &str, got: &[T], want: &[f64], size: &[f64]) {
    assert_eq!(got.len(), want.len());
    let epsilon =
        if T::DTYPE == crate::DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    for (i, ((got, want), size)) in got.iter().zip(want).zip(size).enumerate() {
        let error = (got.to_f64() - want).abs();
        // A missing or doubled term would be off by about 0.5.
        let bound = 4.0 * epsilon * (1.0 + size);
        assert!(error <= bound, "{what}: element {i} is {got} instead of {want}");
    }
}

fn on_every_set(f: impl Fn()) {
    let ran = Isa::ALL.into_iter().filter(|&isa| with_isa(isa, &f).is_some()).count();
    assert!(ran >= 1, "no instruction set ran");
}

const CHANNELS: [usize; 12] = [1, 2, 3, 8, 15, 16, 17, 33, 48, 63, 64, 65];

fn windows() -> impl Strategy<Value = Window> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    (pair(1..6), pair(1..4), pair(0..3), pair(1..3)).prop_map(
        |(kernel, stride, padding, dilation)| Window { kernel, stride, padding, dilation },
    )
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let channels = || prop::sample::select(&CHANNELS[..]);
    let batch = prop::sample::select(&[0usize, 1, 2, 5, 7][..]);
    (
        any::<bool>(),
        batch,
        [1usize..13, 1..13],
        [channels(), channels()],
        windows(),
        [0usize..3, 0..3],
    )
        .prop_filter_map(
            "the window does not fit",
            |(transposed, batch, input, channels, window, output_padding)| {
                if transposed {
                    Geometry::conv_transpose2d(batch, input, channels, window, output_padding).ok()
                } else {
                    Geometry::conv2d(batch, input, channels, window).ok()
                }
            },
        )
        .prop_filter("too slow for the definition", |g| {
            g.weight_len() * g.batch * g.coarse[0] * g.coarse[1] < 4_000_000
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn all_passes_match_the_definition_in_f32(geometry in geometries(), seed: u64) {
        let case = Case::<f32>::new(geometry, seed);
        on_every_set(|| case.check());
    }

    #[test]
    fn all_passes_match_the_definition_in_f64(geometry in geometries(), seed: u64) {
        let case = Case::<f64>::new(geometry, seed);
        on_every_set(|| case.check());
    }
}
