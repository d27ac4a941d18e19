//! A declared prior: noise that belongs to the pictures, of the declared size, the same wherever a picture is read.

mod common;

use common::arrays;
use gpz_data::{
    Batch, BatchOptions, Batches, Dataset, Error, ImageSet, ImageShape, Parts, Smoothing,
    SplitPlan, resize_weights,
};

const SHAPE: ImageShape = ImageShape { height: 9, width: 6, channels: 3 };

/// Pictures that are black, white or noise, so that cutting off would show.
fn parts(resolution: (usize, usize), smoothing: Option<Smoothing>) -> Parts {
    let mut arrays = arrays((SHAPE.height, SHAPE.width, SHAPE.channels), 3, 90, 1);
    for (i, picture) in arrays.pixels.chunks_exact_mut(SHAPE.elements()).enumerate() {
        match i % 3 {
            0 => picture.fill(0),
            1 => picture.fill(255),
            _ => {}
        }
    }
    let set = Dataset::from_arrays("noise", SHAPE, (arrays.pixels, arrays.labels), None, None);
    set.unwrap().split(&SplitPlan { resolution, smoothing, ..SplitPlan::default() }).unwrap()
}

fn smoothing(tau: f64, seed: u64) -> Option<Smoothing> {
    Some(Smoothing::new(tau, seed).unwrap())
}

fn all(set: &dyn ImageSet) -> Batch {
    set.batch(&(0..set.len()).collect::<Vec<_>>()).unwrap()
}

/// Mean and variance of x̃ − x at the native resolution are those of N(0, τ²), values leave [0, 1], and pictures share nothing.
#[test]
fn the_noise_is_what_was_declared() {
    let (tau, native) = (0.2, SHAPE.size());
    let mut noise = Vec::new();
    let (plain, smooth) = (parts(native, None), parts(native, smoothing(tau, 7)));
    let pairs: [(&dyn ImageSet, &dyn ImageSet); 4] = [
        (&plain.target_train, &smooth.target_train),
        (&plain.target_validation, &smooth.target_validation),
        (&plain.auxiliary, &smooth.auxiliary),
        (&plain.test, &smooth.test),
    ];
    for (plain, smooth) in pairs {
        let (plain, smooth) = (all(plain), all(smooth));
        noise.extend(smooth.images.iter().zip(&plain.images).map(|(a, b)| f64::from(a - b)));
        assert!(smooth.images.iter().any(|v| *v < -0.1) && smooth.images.iter().any(|v| *v > 1.1));
    }
    let n = noise.len() as f64;
    let mean = noise.iter().sum::<f64>() / n;
    let variance = noise.iter().map(|v| v * v).sum::<f64>() / n;
    assert!(mean.abs() < 5.0 * tau / n.sqrt(), "{mean}");
    assert!((variance / (tau * tau) - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
    // Neighbouring values and neighbouring pictures are uncorrelated.
    for lag in [1, 3, SHAPE.elements()] {
        let product = noise.iter().zip(&noise[lag..]).map(|(a, b)| a * b).sum::<f64>() / n;
        assert!(product.abs() < 5.0 * tau * tau / n.sqrt(), "{lag}: {product}");
    }
}

/// Whatever the thread, the batch, the epoch or the part's view: a picture has one draw. Another seed, another draw.
#[test]
fn a_picture_is_read_the_same_every_time() {
    let parts = parts((12, 12), smoothing(0.1, 3));
    let set = &parts.auxiliary;
    let want = all(set);
    let elements = 12 * 12 * 3;
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| all(set)), want);
    }
    let batches = Batches::new(set, BatchOptions::shuffled(7), 1, "attack").unwrap();
    for batch in batches.epoch(0).chain(batches.epoch(5)) {
        for (image, position) in batch.images.chunks_exact(elements).zip(&batch.positions) {
            assert_eq!(image, &want.images[position * elements..(position + 1) * elements]);
        }
    }
    // The same picture in the part of the part.
    let train = parts.auxiliary.train();
    let position = (0..set.len()).find(|p| set.id(*p) == train.id(4)).unwrap();
    assert_eq!(train.batch(&[4]).unwrap().images, set.batch(&[position]).unwrap().images);
    let other = self::parts((12, 12), smoothing(0.1, 4));
    assert_ne!(all(&other.auxiliary).images, want.images);
}

/// The test part alone can be looked at without its noise: as a plan without it would have shown it.
#[test]
fn the_test_part_without_its_noise() {
    let (plain, smooth) = (parts((12, 12), None), parts((12, 12), smoothing(0.1, 3)));
    let positions = [3, 0];
    let clean = smooth.test.without_smoothing(&positions).unwrap().unwrap();
    assert_eq!(clean, plain.test.batch(&positions).unwrap());
    assert_ne!(clean.images, smooth.test.batch(&positions).unwrap().images);
    assert_eq!(plain.test.without_smoothing(&positions).unwrap(), None);
    assert!(smooth.test.without_smoothing(&[usize::MAX]).is_err());
}

/// Smoothed first, resized then, by the weights that are given away.
#[test]
fn what_is_shown_is_a_linear_map_of_what_is_stored() {
    let (height, width) = (14, 4);
    let prior = smoothing(0.5, 9);
    let (native, shown) = (parts(SHAPE.size(), prior), parts((height, width), prior));
    let (native, shown) = (all(&native.test), all(&shown.test));
    let rows = resize_weights(SHAPE.height, height).unwrap();
    let columns = resize_weights(SHAPE.width, width).unwrap();
    let stored = |n: usize, y: usize, x: usize, c: usize| {
        f64::from(native.images[((n * SHAPE.height + y) * SHAPE.width + x) * SHAPE.channels + c])
    };
    for (i, got) in shown.images.iter().enumerate() {
        let (c, pixel) = (i % SHAPE.channels, i / SHAPE.channels);
        let (column, row, n) = (pixel % width, pixel / width % height, pixel / width / height);
        let mut want = 0.0;
        for (y, down) in rows[row].iter().enumerate() {
            for (x, across) in columns[column].iter().enumerate() {
                want += down * across * stored(n, y, x, c);
            }
        }
        assert!((f64::from(*got) - want).abs() < 1e-6, "{got} for {want}");
    }
}

#[test]
fn what_is_no_smoothing_is_refused() {
    for tau in [0.0, -0.1, f64::NAN, f64::INFINITY, 1e-9, 1e3] {
        let error = Smoothing::new(tau, 1).unwrap_err();
        assert!(matches!(error, Error::Smoothing { .. }), "{tau}");
        assert!(error.to_string().contains("such as 0.1") && !error.to_string().contains('\n'));
    }
}
