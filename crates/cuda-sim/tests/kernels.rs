//! Kernels that no operation on tensors launches, and the optimisers, on the device of tests against their references.

use std::sync::{Arc, OnceLock};

use gpz_cuda_sim::{driver_of_tests, seed_of_tests};
use gpz_kernels::statistics as kernels;
use gpz_kernels::{Kernel, reference};
use gpz_tensor::cuda::driver::{Argument, Driver};
use gpz_tensor::cuda::{ClassMeans, ClassSums};
use gpz_tensor::{
    AdamStep, CudaDevice, DType, Device, Learnt, OptimiserStep, SgdStep, Tensor, Watch,
};
use half::{bf16, f16};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed ^ seed_of_tests().wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn uniform(rng: &mut ChaCha8Rng, n: usize, from: f32, to: f32) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(from..to)).collect()
}

/// One driver for all tests of the process, and a device of it.
fn driver() -> &'static Arc<dyn Driver> {
    static DRIVER: OnceLock<Arc<dyn Driver>> = OnceLock::new();
    DRIVER.get_or_init(driver_of_tests)
}

fn device() -> CudaDevice {
    static DEVICE: OnceLock<CudaDevice> = OnceLock::new();
    DEVICE.get_or_init(|| CudaDevice::with_driver(Arc::clone(driver()))).clone()
}

/// Little-endian bytes of numbers.
fn bytes<T: Copy, const N: usize>(values: &[T], to: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| to(value)).collect()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    bytes(values, f32::to_le_bytes)
}

fn u32s(values: &[u32]) -> Vec<u8> {
    bytes(values, u32::to_le_bytes)
}

fn f64s(values: &[f64]) -> Vec<u8> {
    bytes(values, f64::to_le_bytes)
}

fn read_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn read_f64(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
}

/// An argument of a launch.
enum Value<'a> {
    /// A buffer with these bytes.
    In(Vec<u8>),
    /// A buffer of so many bytes that the kernel is to write.
    Out(usize),
    /// A buffer with these bytes, of which the kernel makes others.
    Both(Vec<u8>),
    Number(Argument<'a>),
}

/// Launches a kernel and returns what its `Out` and `Both` buffers hold, in their order.
fn run(kernel: &Kernel, grid: [usize; 3], values: &[Value<'_>]) -> Vec<Vec<u8>> {
    let driver = driver();
    let mut blocks = Vec::new();
    let mut arguments = Vec::new();
    for value in values {
        let (bytes, held) = match value {
            Value::Number(argument) => {
                arguments.push(*argument);
                continue;
            }
            Value::In(held) | Value::Both(held) => (held.len(), held.as_slice()),
            Value::Out(bytes) => (*bytes, &[][..]),
        };
        let address = driver.allocate(bytes).unwrap().expect("tests are small");
        if !held.is_empty() {
            // SAFETY: the block is as large as the bytes.
            unsafe { driver.upload(address, held) }.unwrap();
        }
        blocks.push((address, bytes, !matches!(value, Value::In(_))));
        arguments.push(Argument::Address(address));
    }
    let grid = grid.map(|blocks| blocks as u32);
    // SAFETY: each test gives the arguments of the kernel's header.
    unsafe { driver.launch(kernel, grid, &arguments) }.unwrap();
    let mut found = Vec::new();
    for (address, bytes, wanted) in blocks {
        if wanted {
            let mut held = vec![0; bytes];
            // SAFETY: the block is as large as the bytes.
            unsafe { driver.download(address, &mut held) }.unwrap();
            found.push(held);
        }
        // SAFETY: the block is the driver's, and this was its last use.
        unsafe { driver.release(address, bytes) };
    }
    found
}

fn count<'a>(n: usize) -> Value<'a> {
    Value::Number(Argument::U32(n as u32))
}

fn number<'a>(value: f64) -> Value<'a> {
    Value::Number(Argument::F64(value))
}

fn blocks(kernel: &Kernel, n: usize) -> [usize; 3] {
    [n.div_ceil(kernel.tile as usize), 1, 1]
}

fn assert_close(what: &str, found: &[f64], want: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), want.len(), "{what}");
    for (at, (found, want)) in found.iter().zip(want).enumerate() {
        let slack = absolute + relative * want.abs();
        assert!((found - want).abs() <= slack, "{what}, value {at}: {found} instead of {want}");
    }
}

/// Rows of every class but the last, which has none, in no order.
fn labels(rng: &mut ChaCha8Rng, n: usize, classes: usize) -> Vec<usize> {
    (0..n).map(|_| rng.random_range(0..classes - 1)).collect()
}

#[test]
fn class_moments_of_every_format() {
    type Format = (Kernel, usize, fn(&[f32]) -> Vec<u8>, fn(f32) -> f32);
    let to_f16 = |values: &[f32]| bytes(values, |value| f16::from_f32(value).to_le_bytes());
    let to_bf16 = |values: &[f32]| bytes(values, |value| bf16::from_f32(value).to_le_bytes());
    let f16_value = |value| f16::from_f32(value).to_f32();
    let bf16_value = |value| bf16::from_f32(value).to_f32();
    let formats: [Format; 6] = [
        (kernels::CLASS_MOMENTS_F32, 132, f32s, |value| value),
        (kernels::CLASS_MOMENTS_ANY_F32, 37, f32s, |value| value),
        (kernels::CLASS_MOMENTS_F16, 264, to_f16, f16_value),
        (kernels::CLASS_MOMENTS_ANY_F16, 37, to_f16, f16_value),
        (kernels::CLASS_MOMENTS_BF16, 264, to_bf16, bf16_value),
        (kernels::CLASS_MOMENTS_ANY_BF16, 37, to_bf16, bf16_value),
    ];
    for (number, (kernel, d, stored, value)) in formats.into_iter().enumerate() {
        let (mut rng, n, k) = (rng(number as u64), 131, 4);
        let x: Vec<f32> = uniform(&mut rng, n * d, -3.0, 5.0).into_iter().map(value).collect();
        let labels = labels(&mut rng, n, k);
        let mut pivot = vec![0.0; k * d];
        for class in 0..k {
            if let Some(row) = labels.iter().position(|&label| label == class) {
                pivot[class * d..][..d].copy_from_slice(&x[row * d..][..d]);
            }
        }
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by_key(|&row| labels[row as usize]);
        let start = |class| labels.iter().filter(|&&label| label < class).count() as u32;
        let start: Vec<u32> = (0..=k).map(start).collect();
        let running = [vec![0.25; k * d], vec![0.5; k * d]];
        let found = run(
            &kernel,
            [d.div_ceil(kernel.tile as usize), k, 1],
            &[
                Value::In(stored(&x)),
                Value::In(u32s(&order)),
                Value::In(u32s(&start)),
                Value::In(f32s(&pivot)),
                Value::Both(f64s(&running[0])),
                Value::Both(f64s(&running[1])),
                count(d),
            ],
        );
        let [mut sums, mut squares] = running;
        reference::class_moments(&x, &labels, &pivot, &mut sums, &mut squares);
        let what = kernel.entry;
        assert_close(what, &read_f64(&found[0]), &sums, n as f64 * 8.0 * 2_f64.powi(-23), 1e-12);
        let slack = n as f64 * 64.0 * 2_f64.powi(-22);
        assert_close(what, &read_f64(&found[1]), &squares, slack, 1e-12);
    }
}

/// Batches add up, whether or not a class was in the ones before; distances are those to means.
#[test]
fn class_sums_and_distances_of_tensors() {
    for (d, seed) in [(36, 20), (37, 21)] {
        let (mut rng, n, k) = (rng(seed), 70, 5);
        let (device, x) = (device(), uniform(&mut rng, n * d, -2.0, 2.0));
        let labels = labels(&mut rng, n, k);
        let put = |rows: std::ops::Range<usize>| {
            let part = &x[rows.start * d..rows.end * d];
            let tensor = Tensor::from_slice(part, &[rows.len(), d]).unwrap();
            tensor.to_device(&Device::Cuda(device.clone())).unwrap()
        };
        let mut sums = ClassSums::new(&device, k, d).unwrap();
        for rows in [0..1, 1..33, 33..33, 33..n] {
            sums.update(&put(rows.clone()), &labels[rows]).unwrap();
        }
        let found = sums.read().unwrap();
        let mut want = [vec![0.0; k * d], vec![0.0; k * d]];
        let [sums, squares] = &mut want;
        reference::class_moments(&x, &labels, &found.pivot, sums, squares);
        assert_close("sums", &found.sums, sums, 1e-4, 0.0);
        assert_close("squares", &found.squares, squares, 1e-3, 0.0);
        for class in 0..k {
            let first = labels.iter().position(|&label| label == class);
            let pivot = first.map_or(vec![0.0; d], |row| x[row * d..][..d].to_vec());
            assert_eq!(found.pivot[class * d..][..d], pivot, "the first row of class {class}");
        }

        let [means, mean] = [k * d, d].map(|n| {
            uniform(&mut rng, n, -1.0, 1.0).into_iter().map(f64::from).collect::<Vec<f64>>()
        });
        let means_there = ClassMeans::new(&device, &means, &mean).unwrap();
        let found = means_there.distances(&put(0..n), &labels).unwrap();
        let want = reference::class_distances(&x, &labels, &means, &mean);
        assert_close("distances", found.as_flattened(), want.as_flattened(), 0.0, 1e-12);
    }
}

#[test]
fn quantiser_and_noise() {
    let (mut rng, n) = (rng(30), 2_503);
    let x = uniform(&mut rng, n, -9.0, 9.0);
    let (low, step, last) = (-4.0, 0.37, 15.0);
    let kernel = &kernels::QUANTISE_F32;
    let there = [Value::In(f32s(&x)), Value::Out(4 * n), count(n)];
    let numbers = [low, step, last].map(number);
    let found =
        run(kernel, blocks(kernel, n), &there.into_iter().chain(numbers).collect::<Vec<_>>());
    let mut want = x.clone();
    reference::quantise(&mut want, low, step, last);
    assert_eq!(read_f32(&found[0]), want, "the quantiser's bits");

    let (sigma, key, offset): (f32, u64, u64) = (0.7, rng.random(), rng.random());
    let kernel = &kernels::NOISE_F32;
    let values = [
        Value::In(f32s(&x)),
        Value::Out(4 * n),
        count(n),
        Value::Number(Argument::F32(sigma)),
        Value::Number(Argument::U64(key)),
        Value::Number(Argument::U64(offset)),
    ];
    let found = read_f32(&run(kernel, blocks(kernel, n), &values)[0]);
    let found: Vec<f64> = found.into_iter().map(f64::from).collect();
    let want = reference::noise(&x, sigma, key, offset);
    // A radius is at most 6.8, its normal number right to 2.5e-7 of it.
    let slack = 2.5e-7 * 6.8 * f64::from(sigma);
    assert_close("noise", &found, &want, slack, 2_f64.powi(-23));
}

#[test]
fn measures_of_images() {
    let (mut rng, images) = (rng(40), 3);
    for [h, w, c] in [[11, 13, 1], [16, 12, 3]] {
        let pixels = h * w * c;
        let [x, y] = [0, 1].map(|_| uniform(&mut rng, images * pixels, 0.0, 1.0));
        let [x_there, y_there] = [&x, &y].map(|image| f32s(image));
        let sizes = || [h, w, c].map(count);

        let found = run(
            &kernels::SQUARED_ERRORS_F32,
            [images, 1, 1],
            &[
                Value::In(x_there.clone()),
                Value::In(y_there.clone()),
                Value::Out(8 * images),
                count(pixels),
            ],
        );
        let want = reference::squared_errors(&x, &y, pixels);
        assert_close("squared errors", &read_f64(&found[0]), &want, 0.0, 1e-11);

        let values = [Value::In(x_there.clone()), Value::Out(8 * images)];
        let values: Vec<_> = values.into_iter().chain(sizes()).collect();
        let found = run(&kernels::TOTAL_VARIATION_F32, [images, 1, 1], &values);
        let want = reference::total_variation(&x, [h, w, c]);
        assert_close("total variation", &read_f64(&found[0]), &want, 0.0, 1e-11);

        let (taps, constants) = (kernels::ssim_taps(), [1e-4, 9e-4]);
        let taps_there = f64s(&taps);
        let values = [
            Value::In(x_there),
            Value::In(y_there),
            Value::Number(Argument::Bytes(&taps_there)),
            Value::Out(8 * images * c),
        ];
        let values = values.into_iter().chain(sizes()).chain(constants.map(number));
        let values: Vec<_> = values.collect();
        let found = run(&kernels::SSIM_F32, [images, c, 1], &values);
        let want = reference::ssim(&x, &y, [h, w, c], &taps, constants);
        assert_close("ssim", &read_f64(&found[0]), &want, 1e-11, 1e-11);
    }
}

#[test]
fn pairs_of_rows() {
    let (mut rng, d) = (rng(50), 19);
    for (n, m, of_itself) in [(70, 131, false), (67, 67, true)] {
        // Whole numbers, whose distances are exact, so that the nearest are the same rows.
        let whole = |rng: &mut ChaCha8Rng, n: usize| -> Vec<f32> {
            (0..n * d).map(|_| rng.random_range(-3..=3_i8)).map(f32::from).collect()
        };
        let x = whole(&mut rng, n);
        let y = if of_itself { x.clone() } else { whole(&mut rng, m) };
        let rows = || [Value::In(f32s(&x)), Value::In(f32s(&y))];
        let skip = count(usize::from(of_itself));

        let (k, tile) = (5, kernels::PAIRWISE_NEAREST_F32.tile as usize);
        let mut values: Vec<_> = rows().into_iter().collect();
        values.extend([Value::Out(8 * n * k), Value::Out(4 * n * k)]);
        values.extend([count(n), count(m), count(d), count(k)]);
        values.push(skip);
        let found = run(&kernels::PAIRWISE_NEAREST_F32, [n.div_ceil(tile), 1, 1], &values);
        let indices = found[1].chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
        let found: Vec<(f64, u32)> = read_f64(&found[0]).into_iter().zip(indices).collect();
        let want = reference::pairwise_nearest(&x, &y, d, k, of_itself);
        assert_eq!(found, want, "the nearest of {n} and {m} rows");

        let (inverse, chunks) = (0.07, 2);
        let mut values: Vec<_> = rows().into_iter().collect();
        values.push(Value::Out(8 * n * chunks));
        values.extend([count(n), count(m), count(d), number(inverse)]);
        values.push(count(usize::from(of_itself)));
        let found = run(&kernels::PAIRWISE_GAUSSIAN_F32, [n.div_ceil(tile), chunks, 1], &values);
        let parts = read_f64(&found[0]);
        let sums: Vec<f64> = parts.chunks_exact(chunks).map(|parts| parts.iter().sum()).collect();
        let want = reference::pairwise_gaussian(&x, &y, d, inverse, of_itself);
        // Exponents reach 19 · 36 · 0.07 = 48, each right to 2.1e-6 of itself; far ones are small beside the sum's nearest.
        assert_close("Gaussian sums", &sums, &want, 1e-300, 1.1e-4);
    }
}

/// Three tensors of different sizes over several steps, on the device and on the processor.
#[test]
fn optimisers_and_the_watch() {
    let adam = |step: i32, l2: f64, shrink: f64| {
        let betas = [0.9, 0.999];
        let [first, second] = betas.map(|beta: f64| 1.0 - beta.powi(step));
        let (rate, root) = (1e-2 / first, 1.0 / second.sqrt());
        OptimiserStep::Adam(AdamStep { betas, l2, shrink, rate, root, eps: 1e-8 })
    };
    /// A name, the number of moments, and the step of a number.
    type Rule<'a> = (&'a str, usize, &'a dyn Fn(i32) -> OptimiserStep);
    let rules: [Rule<'_>; 4] = [
        ("Adam", 2, &|step| adam(step, 1e-2, 1.0)),
        ("AMSGrad", 3, &|step| adam(step, 0.0, 0.99)),
        ("descent", 0, &|_| OptimiserStep::Sgd(SgdStep { momentum: 0.0, decay: 1e-2, rate: 1e-2 })),
        ("momentum", 1, &|_| OptimiserStep::Sgd(SgdStep { momentum: 0.9, decay: 0.0, rate: 1e-2 })),
    ];
    let there = Device::Cuda(device());
    for (seed, (name, moments, rule)) in rules.into_iter().enumerate() {
        let mut rng = rng(60 + seed as u64);
        let sizes = [3, 1024, 1031];
        let start =
            sizes.map(|n| Tensor::from_slice(&uniform(&mut rng, n, -1.0, 1.0), &[n]).unwrap());
        let steps: Vec<[Tensor; 3]> = (0..4)
            .map(|_| {
                sizes.map(|n| Tensor::from_slice(&uniform(&mut rng, n, -1.0, 1.0), &[n]).unwrap())
            })
            .collect();
        let train = |device: &Device| {
            let on = |tensor: &Tensor| tensor.to_device(device).unwrap();
            let mut values = start.each_ref().map(on);
            let zeros = |value: &Tensor| vec![value.full_like(0.0).unwrap(); moments];
            let mut kept = values.each_ref().map(zeros);
            let mut watch = Watch::new(device, 0.0).unwrap();
            for (at, gradients) in steps.iter().enumerate() {
                let gradients = gradients.each_ref().map(on);
                let loss = on(&Tensor::scalar(at as f64, DType::F32));
                watch.observe(&loss, 2.0, &gradients.each_ref()).unwrap();
                let mut learnt: Vec<Learnt<'_>> = values
                    .iter_mut()
                    .zip(&gradients)
                    .zip(&mut kept)
                    .map(|((value, gradient), moments)| Learnt { value, gradient, moments })
                    .collect();
                rule(at as i32 + 1).take(&mut learnt, Some(&watch)).unwrap();
            }
            (values.map(|value| value.to_vec::<f64>().unwrap()), watch.read().unwrap())
        };
        let ((found, seen), (want, wanted)) = (train(&there), train(&Device::Cpu));
        for (found, want) in found.iter().zip(&want) {
            assert_close(name, found, want, 1e-6, 1e-5);
        }
        assert_eq!(seen, wanted, "{name}: the watch");
    }
}
