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

#[derive(Debug, Clone, Copy)]
enum Grouping {
    Dense,
    Depthwise,
    Groups(usize),
}

fn grouping() -> impl Strategy<Value = Grouping> {
    prop_oneof![
        3 => Just(Grouping::Dense),
        1 => Just(Grouping::Depthwise),
        1 => (2usize..5).prop_map(Grouping::Groups),
    ]
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
        grouping(),
    )
        .prop_filter_map(
            "the window does not fit",
            |(transposed, batch, input, channels, window, output_padding, grouping)| {
                let (groups, channels) = match grouping {
                    Grouping::Dense => (1, channels),
                    Grouping::Depthwise => (channels[0], [channels[0]; 2]),
                    Grouping::Groups(groups) => (groups, channels.map(|c| c.div_ceil(4) * groups)),
                };
                let geometry = if transposed {
                    Geometry::conv_transpose2d(batch, input, channels, window, output_padding)
                } else {
                    Geometry::conv2d(batch, input, channels, window)
                };
                geometry.and_then(|geometry| geometry.with_groups(groups)).ok()
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

/// The least shapes that reach each way through the code.
fn landmarks() -> Vec<Geometry> {
    let conv = |batch, input, channels, window| Geometry::conv2d(batch, input, channels, window);
    let transposed = |batch, input, channels, window| {
        Geometry::conv_transpose2d(batch, input, channels, window, [0; 2])
    };
    let dilated = Window { kernel: [3, 2], stride: [2, 1], padding: [2, 0], dilation: [1, 2] };
    let groups = |groups, geometry: crate::Result<Geometry>| {
        geometry.and_then(|geometry| geometry.with_groups(groups))
    };
    [
        groups(37, conv(3, [7, 9], [37, 37], Window::square(3, 1, 1))), // vectors, and channels beyond them
        groups(5, conv(1, [30, 40], [5, 5], Window::square(5, 2, 2))),  // less than a vector
        groups(64, conv(70, [4, 5], [64, 64], Window::square(7, 1, 3))), // taps beyond the picture
        groups(16, conv(2, [9, 8], [16, 16], Window::square(1, 2, 0))), // phases without taps
        groups(24, transposed(3, [5, 4], [24, 24], dilated)),
        groups(4, conv(2, [6, 7], [12, 20], dilated)),
        groups(3, conv(2, [6, 7], [3, 6], Window::square(3, 1, 1))), // two channels of each
        groups(2, transposed(2, [4, 4], [10, 64], Window::square(4, 2, 1))),
        conv(2, [5, 6], [200, 20], Window::square(3, 1, 1)), // input channels in two slices
        conv(1, [30, 40], [5, 130], Window::square(3, 1, 1)), // bands of rows, three blocks of channels, a border
        conv(40, [4, 4], [16, 16], Window::square(3, 1, 1)),  // several groups of pictures
        conv(70, [3, 2], [17, 9], Window::square(2, 1, 1)), // tiles over pictures in the weight gradient
        conv(3, [9, 7], [40, 2], Window::square(3, 1, 1)),  // contributions added up
        conv(3, [9, 8], [32, 1], Window::square(5, 2, 2)),  // the same with a stride
        conv(2, [8, 9], [3, 40], dilated),
        conv(2, [6, 6], [48, 80], Window::square(1, 2, 0)), // a stride beyond the kernel: phases without taps
        conv(1, [50, 50], [2, 3], Window::square(5, 3, 2)),
        transposed(7, [4, 4], [96, 65], Window::square(4, 2, 1)),
        transposed(2, [9, 10], [33, 3], Window::square(4, 2, 1)), // contributions added up
        transposed(2, [16, 30], [6, 64], Window::square(3, 1, 1)),
        transposed(1, [3, 4], [20, 20], dilated),
    ]
    .into_iter()
    .map(|geometry| geometry.expect("a valid geometry"))
    .collect()
}

#[test]
fn landmarks_match_the_definition() {
    for (seed, geometry) in landmarks().into_iter().enumerate() {
        on_every_set(|| Case::<f32>::new(geometry, seed as u64).check());
        on_every_set(|| Case::<f64>::new(geometry, seed as u64).check());
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let pools = [1, 2, 3].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool")
    });
    for (seed, geometry) in landmarks().into_iter().enumerate() {
        let case = Case::<f32>::new(geometry, seed as u64);
        let results = pools.each_ref().map(|pool| {
            pool.install(|| {
                [case.forward(&Epilogue::default()), case.input_gradient(), case.weight_gradient()]
                    .map(|result| bits(&result))
            })
        });
        assert_eq!(results[0], results[1], "{geometry:?}");
        assert_eq!(results[0], results[2], "{geometry:?}");
    }
}

/// Both sets fuse multiply and add, and neither the order of a sum nor the choice of a way depends on the width of a vector.
#[test]
fn avx2_and_avx512_give_the_same_bits() {
    for (seed, geometry) in landmarks().into_iter().enumerate() {
        let case = Case::<f32>::new(geometry, seed as u64);
        let all = || {
            [case.forward(&Epilogue::default()), case.input_gradient(), case.weight_gradient()]
                .map(|r| bits(&r))
        };
        if let (Some(wide), Some(narrow)) = (with_isa(Isa::Avx512, all), with_isa(Isa::Avx2, all)) {
            assert!(wide == narrow, "{geometry:?}");
        }
    }
}

#[test]
fn weights_packed_once_give_the_same_bits_at_any_size() {
    let window = Window::square(4, 2, 1);
    for channels in [[70, 66], [3, 16], [32, 1]] {
        let small = Geometry::conv_transpose2d(1, [2, 3], channels, window, [0; 2])
            .expect("a valid geometry");
        let large = Geometry::conv_transpose2d(9, [7, 5], channels, window, [1, 0])
            .expect("a valid geometry");
        let case = Case::<f32>::new(large, 3);
        on_every_set(|| {
            let packed = PackedWeights::new(&small, &case.w);
            let mut y = poisoned(large.output_len());
            forward_packed(&large, &case.x, &packed, &Epilogue::default(), &mut y);
            assert_eq!(bits(&y), bits(&case.forward(&Epilogue::default())));
        });
    }
}

#[test]
fn a_fused_epilogue_is_bit_identical_to_the_operations_it_fuses() {
    for (seed, geometry) in landmarks().into_iter().enumerate() {
        let case = Case::<f32>::new(geometry, seed as u64);
        let mut rng = ChaCha8Rng::seed_from_u64(99);
        let outputs =
            if geometry.transposed { geometry.fine_channels } else { geometry.coarse_channels };
        let [bias, scale, shift] = [0; 3].map(|_| random::<f32>(&mut rng, outputs));
        let mut residual: Vec<f32> = random(&mut rng, geometry.output_len());
        residual[0] = f32::NAN;
        on_every_set(|| {
            for choice in 0..16 {
                let chosen = [0, 1, 2, 3].map(|bit| choice >> bit & 1 == 1);
                let epilogue = Epilogue {
                    bias: chosen[0].then_some(&bias[..]),
                    affine: chosen[1].then_some((&scale[..], &shift[..])),
                    residual: chosen[2].then_some(&residual[..]),
                    relu: chosen[3],
                };
                let mut want = case.forward(&Epilogue::default());
                let each = |y: &mut Vec<f32>, f: &dyn Fn(f32, usize, usize) -> f32| {
                    y.iter_mut().enumerate().for_each(|(i, y)| *y = f(*y, i, i % outputs));
                };
                if chosen[0] {
                    each(&mut want, &|y, _, c| y + bias[c]);
                }
                if chosen[1] {
                    each(&mut want, &|y, _, c| y * scale[c]);
                    each(&mut want, &|y, _, c| y + shift[c]);
                }
                if chosen[2] {
                    each(&mut want, &|y, i, _| y + residual[i]);
                }
                if chosen[3] {
                    each(&mut want, &|y, _, _| if y < 0.0 { 0.0 } else { y });
                }
                assert!(bits(&case.forward(&epilogue)) == bits(&want), "{geometry:?}, {chosen:?}");
            }
        });
    }
}

/// The sum of `y · dy` changes with `x` and `w` as the gradients say; it is linear in either, so a large step is exact.
#[test]
fn gradients_match_finite_differences() {
    for (seed, geometry) in landmarks().into_iter().enumerate() {
        let case = Case::<f64>::new(geometry, seed as u64);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let loss = |x: &[f64], w: &[f64]| {
            let mut y = poisoned(geometry.output_len());
            forward(&geometry, x, w, &Epilogue::default(), &mut y);
            dot(&y, &case.dy)
        };
        let moved = |v: &[f64], d: &[f64], by: f64| {
            v.iter().zip(d).map(|(v, d)| v + by * d).collect::<Vec<_>>()
        };
        let check = |what: &str, difference: f64, gradient: f64| {
            assert!(
                gradient.abs() > 1e-3,
                "{what} of {geometry:?} is too small to tell anything: {gradient}"
            );
            assert!(
                (difference - gradient).abs() <= 1e-9 * (1.0 + gradient.abs()),
                "{what} of {geometry:?}: {difference} {gradient}"
            );
        };
        let along_x: Vec<f64> = random(&mut rng, case.x.len());
        let difference = 0.5
            * (loss(&moved(&case.x, &along_x, 1.0), &case.w)
                - loss(&moved(&case.x, &along_x, -1.0), &case.w));
        check("input gradient", difference, dot(&case.input_gradient(), &along_x));
        let along_w: Vec<f64> = random(&mut rng, case.w.len());
        let difference = 0.5
            * (loss(&case.x, &moved(&case.w, &along_w, 1.0))
                - loss(&case.x, &moved(&case.w, &along_w, -1.0)));
        check("weight gradient", difference, dot(&case.weight_gradient(), &along_w));
    }
}

/// NaN and infinity reach exactly the results they are connected to: nothing else, and none through the padding.
#[test]
fn special_values_go_where_they_are_connected_and_nowhere_else() {
    let agree = |what: &str, got: &[f32], want: &[f64]| {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let same = match () {
                () if want.is_nan() => got.is_nan(),
                () if want.is_infinite() => f64::from(*got) == *want,
                () => (f64::from(*got) - want).abs() < 1e-3,
            };
            assert!(same, "{what}: element {i} is {got} instead of {want}");
        }
    };
    for (seed, geometry) in landmarks().into_iter().enumerate() {
        for special in [f32::NAN, f32::INFINITY] {
            for operand in 0..3 {
                let mut case = Case::<f32>::new(geometry, seed as u64);
                let values = [&mut case.x, &mut case.w, &mut case.dy]
                    .into_iter()
                    .nth(operand)
                    .expect("three operands");
                // The corner pixel has most taps outside.
                values[0] = special;
                let what = format!("{special} in operand {operand} of {geometry:?}");
                on_every_set(|| {
                    let (x, w, dy) = (&case.x, &case.w, &case.dy);
                    agree(
                        &what,
                        &case.forward(&Epilogue::default()),
                        &reference::forward(&geometry, x, w),
                    );
                    agree(
                        &what,
                        &case.input_gradient(),
                        &reference::input_gradient(&geometry, dy, w),
                    );
                    agree(
                        &what,
                        &case.weight_gradient(),
                        &reference::weight_gradient(&geometry, x, dy),
                    );
                });
            }
        }
    }
}

#[test]
fn impossible_windows_are_errors_that_name_the_option() {
    let good = Window::square(3, 1, 1);
    let cases = [
        (Window { stride: [0, 1], ..good }, "stride"),
        (Window { kernel: [3, 0], ..good }, "kernel_size"),
        (Window { dilation: [0, 1], ..good }, "dilation"),
        (Window { padding: [usize::MAX, 1], ..good }, "padding"),
        (Window { kernel: [8, 8], ..good }, "kernel_size"),
        (Window { dilation: [4, 4], ..good }, "kernel_size"),
    ];
    let six = Geometry::conv2d(2, [5, 5], [6, 4], good).expect("a valid geometry");
    for groups in [0, 3, 4, 6, usize::MAX] {
        let error = six.with_groups(groups).expect_err("must be refused").to_string();
        assert!(error.contains("groups"), "{error}");
    }
    for (window, name) in cases {
        let error =
            Geometry::conv2d(2, [5, 5], [3, 4], window).expect_err("must be refused").to_string();
        assert!(error.contains(name), "{error}");
    }
    let transposed = |window, output_padding| {
        Geometry::conv_transpose2d(2, [5, 5], [3, 4], window, output_padding)
    };
    let error =
        transposed(Window::square(3, 2, 1), [2, 0]).expect_err("must be refused").to_string();
    assert!(error.contains("output_padding"), "{error}");
    let error =
        transposed(Window::square(1, 1, 3), [0, 0]).expect_err("must be refused").to_string();
    assert!(error.contains("padding"), "{error}");
    let huge = Window { padding: [1 << 24; 2], ..good };
    assert!(Geometry::conv2d(1 << 20, [5, 5], [3, 1 << 10], huge).is_err());
    assert_eq!(
        transposed(Window::square(4, 2, 1), [1, 0]).expect("a valid geometry").output(),
        [11, 10]
    );
}
