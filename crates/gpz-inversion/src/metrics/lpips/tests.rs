//! The metric against plain loops in f64 with random weights, laws, and bad input. With the weights themselves:
//! `scripts/check-lpips`.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Number, input channels, output channels, side, stride and padding of each convolution, and whether a pooling comes before it. As in
/// the literature, not as in the code.
const NETWORK: [(usize, usize, usize, usize, usize, usize, bool); 5] = [
    (0, 3, 64, 11, 4, 2, false),
    (3, 64, 192, 5, 1, 2, true),
    (6, 192, 384, 3, 1, 1, true),
    (8, 384, 256, 3, 1, 1, false),
    (10, 256, 256, 3, 1, 1, false),
];

/// Random weights under which features stay of the order of 1, as file and as numbers.
struct Weights {
    tensors: BTreeMap<String, Tensor>,
    values: BTreeMap<String, Vec<f64>>,
}

fn weights() -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut found = Weights { tensors: BTreeMap::new(), values: BTreeMap::new() };
    let mut add = |name: String, shape: &[usize], (low, high): (f64, f64)| {
        let draw = |_| f64::from((low + (high - low) * rng.random::<f64>()) as f32);
        let values: Vec<f64> = (0..shape.iter().product()).map(draw).collect();
        found.tensors.insert(name.clone(), Tensor::from_slice(&values, shape).unwrap());
        found.values.insert(name, values);
    };
    for (k, (place, inputs, outputs, side, ..)) in NETWORK.into_iter().enumerate() {
        let bound = (6.0 / (inputs * side * side) as f64).sqrt();
        add(format!("features.{place}.weight"), &[outputs, inputs, side, side], (-bound, bound));
        add(format!("features.{place}.bias"), &[outputs], (-0.1, 0.1));
        add(format!("lin{k}.weight"), &[1, outputs, 1, 1], (0.0, 1.0));
    }
    found
}

fn lpips(weights: &Weights, dtype: DType) -> Lpips {
    Lpips::new(&weights.tensors, dtype, &Device::Cpu).unwrap()
}

/// Features `[c][h][w]` of one picture.
type Planes = Vec<Vec<Vec<f64>>>;

fn convolved(
    x: &Planes,
    weight: &[f64],
    bias: &[f64],
    side: usize,
    stride: usize,
    padding: usize,
) -> Planes {
    let (h, w) = (x[0].len(), x[0][0].len());
    let extent = |size: usize| (size + 2 * padding - side) / stride + 1;
    let at = |c: usize, y: usize, x_: usize| {
        let inside = y >= padding && x_ >= padding && y < h + padding && x_ < w + padding;
        if inside { x[c][y - padding][x_ - padding] } else { 0.0 }
    };
    let place = |o: usize, top: usize, left: usize| {
        let mut sum = bias[o];
        for c in 0..x.len() {
            for i in 0..side {
                for j in 0..side {
                    let weight = weight[((o * x.len() + c) * side + i) * side + j];
                    sum += weight * at(c, top * stride + i, left * stride + j);
                }
            }
        }
        sum.max(0.0)
    };
    let row = |o: usize, top: usize| (0..extent(w)).map(|left| place(o, top, left)).collect();
    (0..bias.len()).map(|o| (0..extent(h)).map(|top| row(o, top)).collect()).collect()
}

fn pooled(x: &Planes) -> Planes {
    let largest = |plane: &Vec<Vec<f64>>, top: usize, left: usize| {
        let window = (0..9).map(|k| plane[2 * top + k / 3][2 * left + k % 3]);
        window.fold(f64::NEG_INFINITY, f64::max)
    };
    x.iter()
        .map(|plane| {
            let (rows, columns) = ((plane.len() - 3) / 2 + 1, (plane[0].len() - 3) / 2 + 1);
            (0..rows).map(|t| (0..columns).map(|l| largest(plane, t, l)).collect()).collect()
        })
        .collect()
}

/// LPIPS of two pictures `[3][h][w]` with pixels in [0, 1], from its definition.
fn by_definition(weights: &Weights, pictures: [&Planes; 2]) -> f64 {
    let mut x = pictures.map(|picture| -> Planes {
        let (shift, scale) = ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]);
        let seen = |c: usize, v: f64| ((2.0 * v - 1.0) - shift[c]) / scale[c];
        let planes = picture.iter().enumerate();
        planes
            .map(|(c, p)| p.iter().map(|r| r.iter().map(|&v| seen(c, v)).collect()).collect())
            .collect()
    });
    let mut distance = 0.0;
    for (k, (place, _, _, side, stride, padding, pool)) in NETWORK.into_iter().enumerate() {
        let [weight, bias, linear] = [
            format!("features.{place}.weight"),
            format!("features.{place}.bias"),
            format!("lin{k}.weight"),
        ]
        .map(|name| &weights.values[&name]);
        x = x.map(|x| {
            let x = if pool { pooled(&x) } else { x };
            convolved(&x, weight, bias, side, stride, padding)
        });
        let (rows, columns) = (x[0][0].len(), x[0][0][0].len());
        for i in 0..rows {
            for j in 0..columns {
                let norm =
                    |x: &Planes| x.iter().map(|p| p[i][j] * p[i][j]).sum::<f64>().sqrt() + 1e-10;
                let (a, b) = (norm(&x[0]), norm(&x[1]));
                let squared = |c: usize| (x[0][c][i][j] / a - x[1][c][i][j] / b).powi(2);
                let sum: f64 = (0..linear.len()).map(|c| linear[c] * squared(c)).sum();
                distance += sum / (rows * columns) as f64;
            }
        }
    }
    distance
}

/// Random pictures of a shape.
fn random(shape: &ImageShape, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..shape.n * shape.height * shape.width * shape.channels).map(|_| rng.random()).collect()
}

/// One channels-last picture as `[3][h][w]`; a grey one three times.
fn planes(pixels: &[f64], shape: &ImageShape) -> Planes {
    let value = |c: usize, y: usize, x: usize| {
        pixels[(y * shape.width + x) * shape.channels + c.min(shape.channels - 1)]
    };
    let row = |c: usize, y: usize| (0..shape.width).map(|x| value(c, y, x)).collect();
    (0..3).map(|c| (0..shape.height).map(|y| row(c, y)).collect()).collect()
}

#[test]
fn agrees_with_its_definition() {
    let weights = weights();
    let (double, single) = (lpips(&weights, DType::F64), lpips(&weights, DType::F32));
    for (height, width, channels) in [(47, 39, 3), (31, 47, 1)] {
        let shape = ImageShape::nhwc(1, height, width, channels);
        let (a, b) = (random(&shape, 1), random(&shape, 2));
        let want = by_definition(&weights, [&planes(&a, &shape), &planes(&b, &shape)]);
        assert!(want > 0.01, "nothing to compare: {want}");
        let got = double.per_image(&a, &b, &shape, 1.0).unwrap()[0];
        assert!((got - want).abs() < 1e-12 * want, "{got} instead of {want}");
        let got = single.per_image(&a, &b, &shape, 1.0).unwrap()[0];
        assert!((got - want).abs() < 1e-5 * want, "{got} instead of {want}");
    }
}

#[test]
fn laws() {
    let weights = weights();
    let lpips = lpips(&weights, DType::F64);
    // More pictures than go through the network at once.
    let n = PIXELS_AT_ONCE / (31 * 31) + 1;
    let shape = ImageShape::nhwc(n, 31, 31, 1);
    let (a, b) = (random(&shape, 1), random(&shape, 2));
    let all = lpips.per_image(&a, &b, &shape, 1.0).unwrap();
    assert_eq!(all.len(), n);
    assert!(all.iter().all(|distance| *distance > 0.001), "{all:?}");
    let one = ImageShape { n: 1, ..shape };
    for i in [0, n - 2, n - 1] {
        let (x, y) = (&a[i * 961..][..961], &b[i * 961..][..961]);
        let distance = |x: &[f64], y: &[f64]| lpips.per_image(x, y, &one, 1.0).unwrap()[0];
        assert_eq!(distance(x, x), 0.0);
        assert_eq!(distance(x, y), distance(y, x));
        assert!(
            (distance(x, y) - all[i]).abs() < 1e-13,
            "{} in company, image {i}: {}",
            all[i],
            distance(x, y)
        );
        // Grey is red, green and blue alike, wherever the channels lie.
        let last: Vec<f64> = x.iter().flat_map(|v| [*v; 3]).collect();
        let last_y: Vec<f64> = y.iter().flat_map(|v| [*v; 3]).collect();
        let coloured = ImageShape::nhwc(1, 31, 31, 3);
        let got = lpips.per_image(&last, &last_y, &coloured, 1.0).unwrap()[0];
        assert!((got - all[i]).abs() < 1e-13);
        let got = lpips.per_image(&x.repeat(3), &y.repeat(3), &ImageShape::nchw(1, 3, 31, 31), 1.0);
        assert!((got.unwrap()[0] - all[i]).abs() < 1e-13);
        // White is `range`, in whatever units.
        let scaled = |v: &[f64]| -> Vec<f64> { v.iter().map(|v| 255.0 * v).collect() };
        let got = lpips.per_image(&scaled(x), &scaled(y), &one, 255.0).unwrap()[0];
        assert!((got - all[i]).abs() < 1e-13);
        assert!((lpips.per_image(x, y, &one, 2.0).unwrap()[0] - all[i]).abs() > 1e-6);
    }
    // Channels that differ are told apart.
    let coloured = ImageShape::nhwc(1, 31, 31, 3);
    let (x, y) = (random(&coloured, 3), random(&coloured, 4));
    let turned = |v: &[f64]| -> Vec<f64> { v.chunks(3).flat_map(|p| [p[2], p[0], p[1]]).collect() };
    let distance = |x: &[f64], y: &[f64]| lpips.per_image(x, y, &coloured, 1.0).unwrap()[0];
    assert!((distance(&x, &y) - distance(&turned(&x), &turned(&y))).abs() > 1e-6);
    // Tensors are pictures as slices are.
    let tensor = |v: &[f64]| Tensor::from_channels_last(v, [1, 3, 31, 31]).unwrap();
    assert_eq!(lpips.distances(&tensor(&x), &tensor(&y)).unwrap(), [distance(&x, &y)]);
    let none = Tensor::zeros(&[0, 3, 31, 31], DType::F64).unwrap();
    assert!(lpips.distances(&none, &none).unwrap().is_empty());
    assert!(
        lpips.per_image::<f32>(&[], &[], &ImageShape { n: 0, ..shape }, 1.0).unwrap().is_empty()
    );
}

/// A device computes what the processor does.
#[test]
fn a_device_agrees() {
    let weights = weights();
    let device = gpz_cuda_sim::device_of_tests();
    let there = Lpips::new(&weights.tensors, DType::F32, &device).unwrap();
    let here = lpips(&weights, DType::F64);
    let shape = ImageShape::nhwc(1, 31, 31, 3);
    let (a, b) = (random(&shape, 1), random(&shape, 2));
    let got = there.per_image(&a, &b, &shape, 1.0).unwrap();
    for (got, want) in got.iter().zip(here.per_image(&a, &b, &shape, 1.0).unwrap()) {
        assert!((got - want).abs() < 1e-5 * want, "{got} instead of {want}");
    }
    assert!(Lpips::new(&weights.tensors, DType::F64, &device).is_err());
}

#[test]
fn pictures_that_do_not_fit() {
    let lpips = lpips(&weights(), DType::F32);
    for (height, width, channels) in [(30, 64, 3), (64, 30, 1), (40, 40, 2)] {
        let shape = ImageShape::nhwc(1, height, width, channels);
        let pixels = vec![0.5f32; height * width * channels];
        let error = lpips.per_image(&pixels, &pixels, &shape, 1.0).unwrap_err();
        assert!(matches!(error, Error::LpipsPictures { least: 31, .. }), "{error}");
        let tensor = Tensor::from_channels_last(&pixels, [1, channels, height, width]).unwrap();
        let error = lpips.distances(&tensor, &tensor).unwrap_err();
        assert!(matches!(error, Error::LpipsPictures { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("{height}×{width}×{channels}")) && text.contains("31×31"),
            "{text}"
        );
    }
    let shape = ImageShape::nhwc(2, 31, 31, 1);
    let (good, mut bad) = (vec![0.5f32; 1922], vec![0.5f32; 1922]);
    bad[1000] = f32::NAN;
    let tensor = |v: &[f32]| Tensor::from_channels_last(v, [2, 1, 31, 31]).unwrap();
    for error in [
        lpips.per_image(&good, &bad, &shape, 1.0).unwrap_err(),
        lpips.distances(&tensor(&good), &tensor(&bad)).unwrap_err(),
    ] {
        let named = matches!(error, Error::NonFinitePixel { which: "candidate", image: 1, .. });
        assert!(named, "{error}");
    }
    for range in [0.0, f64::NAN] {
        let error = lpips.per_image(&good, &good, &shape, range).unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{error}");
    }
    // Numbers, but none the network can multiply.
    let huge: Vec<f64> = (0..1922).map(|i| if i % 3 == 0 { 1e300 } else { 0.0 }).collect();
    let error = lpips.per_image(&vec![0.5; 1922], &huge, &shape, 1.0).unwrap_err();
    assert!(matches!(error, Error::NonFinitePixel { image: 0, .. }), "{error}");
    let other = Tensor::zeros(&[2, 1, 31, 32], DType::F32).unwrap();
    assert!(lpips.distances(&tensor(&good), &other).is_err());
    let flat = Tensor::zeros(&[2, 961], DType::F32).unwrap();
    assert!(lpips.distances(&flat, &flat).is_err());
}

#[test]
fn weights_of_something_else() {
    let good = weights().tensors;
    let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), named: &[&str]| {
        let mut tensors = good.clone();
        change(&mut tensors);
        let error = Lpips::new(&tensors, DType::F32, &Device::Cpu).unwrap_err();
        assert!(matches!(error, Error::LpipsWeights { .. }), "{error}");
        let text = error.to_string();
        for part in named.iter().chain(&["scripts/make-lpips-weights"]) {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    refused(&|t| drop(t.remove("lin3.weight")), &["it lacks lin3.weight;"]);
    refused(&|t| t.clear(), &["it lacks features.0.bias, features.0.weight, ", " and 12 more"]);
    refused(
        &|t| drop(t.insert("features.0.weight".to_owned(), zeros(&[64, 3, 3, 3]))),
        &["features.0.weight is [64, 3, 3, 3] instead of [64, 3, 11, 11]"],
    );
    refused(&|t| drop(t.insert("lin5.weight".to_owned(), zeros(&[1]))), &["lin5.weight"]);
    let nan = Tensor::full(&[256], f64::NAN, DType::F32).unwrap();
    refused(
        &|t| drop(t.insert("features.8.bias".to_owned(), nan.clone())),
        &["NaN", "features.8.bias"],
    );

    let named: Vec<(String, Tensor)> = good.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let bytes = checkpoint::to_safetensors(&named, None).unwrap();
    let read = |bytes: &[u8]| Lpips::from_safetensors(bytes, DType::F32, &Device::Cpu);
    assert_eq!(read(&bytes).unwrap().dtype(), DType::F32);
    for damaged in [&bytes[..bytes.len() - 1], &bytes[..7], b"PK\x03\x04 no such file"] {
        let error = read(damaged).unwrap_err().to_string();
        assert!(error.contains("no readable safetensors") && !error.contains('\n'), "{error}");
    }
}
