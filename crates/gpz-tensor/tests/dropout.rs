//! Dropout masks: their statistics, and that they depend on the key and the position alone.

use gpz_tensor::{DType, Tensor};

#[test]
fn masks_keep_the_mean_and_the_share() {
    let n = 400_000;
    for p in [0.0, 0.1, 0.5, 0.9] {
        for key in [0, 1, u64::MAX] {
            let mask = Tensor::dropout_mask(&[4, n / 4], p, key, DType::F64)
                .unwrap()
                .to_vec::<f64>()
                .unwrap();
            let kept = 1.0 / (1.0 - p);
            assert!(mask.iter().all(|&v| v == 0.0 || v == kept), "p = {p}");
            let dropped = mask.iter().filter(|&&v| v == 0.0).count() as f64;
            let deviation = (n as f64 * p * (1.0 - p)).sqrt();
            let off = (dropped - p * n as f64).abs();
            assert!(off <= 4.0 * deviation, "p = {p}, key {key}: {dropped} dropped of {n}");
        }
    }
}

/// Neighbours in position and in key are independent: agreement of two masks is binomial.
#[test]
fn masks_of_neighbouring_keys_and_positions_do_not_correlate() {
    let n = 200_000;
    let mask = |key| {
        Tensor::dropout_mask(&[n + 1], 0.5, key, DType::F32).unwrap().to_vec::<f32>().unwrap()
    };
    let reference = mask(7);
    let four_deviations = 4.0 * (n as f64 / 4.0).sqrt();
    let agreement = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
    for (name, count) in [
        ("next key", agreement(&reference[..n], &mask(8)[..n])),
        ("key shifted by one position", agreement(&reference[..n], &mask(8)[1..])),
        ("far key", agreement(&reference[..n], &mask(7 + (1 << 40))[..n])),
        ("next position", agreement(&reference[..n], &reference[1..])),
    ] {
        assert!((count - n as f64 / 2.0).abs() <= four_deviations, "{name}: {count} of {n} agree");
    }
}

#[test]
fn equal_keys_give_equal_masks_of_any_shape_and_dtype() {
    let flat = Tensor::dropout_mask(&[60_000], 0.3, 11, DType::F32).unwrap();
    let square = Tensor::dropout_mask(&[200, 300], 0.3, 11, DType::F32).unwrap();
    assert_eq!(flat.to_vec::<f32>().unwrap(), square.to_vec::<f32>().unwrap());
    let zeros =
        |t: Tensor| t.to_vec::<f64>().unwrap().iter().map(|&v| v == 0.0).collect::<Vec<_>>();
    let wide = Tensor::dropout_mask(&[60_000], 0.3, 11, DType::F64).unwrap();
    assert_eq!(zeros(flat), zeros(wide));
}

/// Runs are repeated by their masks: `#` is kept, computed with Python's integers as SplitMix64 defines them.
#[test]
fn masks_are_what_they_have_always_been() {
    for (p, key, first, later) in [
        (0.5, 0, "#..#...#.#.#####.#.####.##..###.", "..#.##.##......####.#..###.###.."),
        (0.3, 11, "#.##.#.###..###.####.##########.", "##.#######...###.#####.#..######"),
    ] {
        let mask = Tensor::dropout_mask(&[40_032], p, key, DType::F32).unwrap();
        let drawn = |start: usize| {
            let part = mask.narrow(0, start, 32).unwrap().to_vec::<f32>().unwrap();
            part.iter().map(|&v| if v == 0.0 { '.' } else { '#' }).collect::<String>()
        };
        assert_eq!((drawn(0).as_str(), drawn(40_000).as_str()), (first, later), "p = {p}");
    }
}

#[test]
fn impossible_probabilities_are_refused_with_the_mend() {
    for p in [1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
        let error = Tensor::dropout_mask(&[3], p, 0, DType::F32).unwrap_err().to_string();
        let want = format!("dropout: p = {p} is not possible: a probability below 1 is needed");
        assert_eq!(error, want);
    }
}
