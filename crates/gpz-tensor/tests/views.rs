//! Views, joins, conversions and in-place updates: the elements they must show, in every memory layout.

mod common;

use common::{Array, assert_is, rng};
use gpz_tensor::{DType, Tensor};
use proptest::prelude::*;
use rand::RngExt;

#[test]
fn views_show_the_elements_they_name() {
    let rng = &mut rng(1);
    let x = Array::uniform(rng, &[2, 3, 4, 5], -1.0..1.0);
    for (layout, tensor) in x.layouts(DType::F32) {
        for axes in [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 3, 1], [1, 0, 3, 2]] {
            assert_is(&layout, &tensor.permute(&axes).unwrap(), &x.permuted(&axes), 0.0);
        }
        assert_is(&layout, &tensor.transpose(1, 3).unwrap(), &x.permuted(&[0, 3, 2, 1]), 0.0);
        for axis in 0..4 {
            let narrowed = tensor.narrow(axis, 1, 1).unwrap();
            assert_is(&layout, &narrowed, &x.narrowed(axis, 1, 1), 0.0);
            let empty = tensor.narrow(axis, x.shape[axis], 0).unwrap();
            assert_eq!((empty.numel(), empty.to_vec::<f32>().unwrap().len()), (0, 0));
            let mut shape = x.shape.clone();
            shape.insert(axis, 1);
            let want = Array::new(&shape, x.data.clone());
            assert_is(&layout, &tensor.unsqueeze(axis).unwrap(), &want, 0.0);
        }
        for shape in [&[120][..], &[6, 20], &[2, 3, 2, 2, 5, 1]] {
            let want = Array::new(shape, x.data.clone());
            assert_is(&layout, &tensor.reshape(shape).unwrap(), &want, 0.0);
        }
        let flat = Array::new(&[2, 60], x.data.clone());
        assert_is(&layout, &tensor.flatten_from(1).unwrap(), &flat, 0.0);
        assert_is(&layout, &tensor.row_major().unwrap(), &x, 0.0);
        assert!(tensor.row_major().unwrap().is_row_major());
        let pixels = tensor.channels_last().unwrap();
        assert_is(&layout, &pixels, &x, 0.0);
        assert!(pixels.is_channels_last() && !pixels.is_row_major());
        let last: Vec<f64> = tensor.to_channels_last_vec().unwrap();
        assert_eq!(last, x.permuted(&[0, 2, 3, 1]).data, "{layout}");
        match tensor.as_row_major_slice::<f32>() {
            Some(slice) => assert_eq!(slice, tensor.to_vec::<f32>().unwrap(), "{layout}"),
            None => assert!(!tensor.is_row_major(), "{layout}"),
        }
        assert!(tensor.as_row_major_slice::<f64>().is_none(), "{layout}: not of this dtype");
    }
}

#[test]
fn stretched_views_repeat_and_can_be_computed_with() {
    let rng = &mut rng(2);
    let x = Array::uniform(rng, &[3, 1, 2], -1.0..1.0);
    let want = Array::from_fn(&[4, 3, 5, 2], |i| x.at_stretched(i));
    for (layout, tensor) in x.layouts(DType::F64) {
        let stretched = tensor.broadcast_to(&want.shape).unwrap();
        assert_is(&layout, &stretched, &want, 0.0);
        assert_is(&layout, &stretched.channels_last().unwrap(), &want, 0.0);
        assert_is(&layout, &stretched.to_dtype(DType::F32).unwrap(), &want, 0.0);
        let narrowed = stretched.narrow(2, 1, 3).unwrap().narrow(0, 1, 2).unwrap();
        assert_is(&layout, &narrowed, &want.narrowed(2, 1, 3).narrowed(0, 1, 2), 0.0);
        let swapped = stretched.permute(&[3, 0, 2, 1]).unwrap().reshape(&[2, 60]).unwrap();
        let permuted = want.permuted(&[3, 0, 2, 1]).data;
        assert_is(&layout, &swapped, &Array::new(&[2, 60], permuted), 0.0);
    }
}

#[test]
fn tensors_of_any_layout_are_joined() {
    let rng = &mut rng(3);
    for axis in 0..4 {
        let parts: Vec<Array> = [2, 0, 3]
            .iter()
            .map(|&extent| {
                let mut shape = [2, 3, 4, 5];
                shape[axis] = extent;
                Array::uniform(rng, &shape, -1.0..1.0)
            })
            .collect();
        let mut shape = [2, 3, 4, 5];
        shape[axis] = 5;
        let want = Array::from_fn(&shape, |index| {
            let mut own = index.to_vec();
            for part in &parts {
                if own[axis] < part.shape[axis] {
                    return part.at(&own);
                }
                own[axis] -= part.shape[axis];
            }
            unreachable!()
        });
        let layouts: Vec<_> = parts.iter().map(|p| p.layouts(DType::F32)).collect();
        for i in 0..layouts[0].len() {
            let tensors: Vec<&Tensor> =
                layouts.iter().map(|l| &l[(i + axis) % l.len()].1).collect();
            assert_is(&layouts[0][i].0, &Tensor::concat(&tensors, axis).unwrap(), &want, 0.0);
        }
    }
}

#[test]
fn conversions_round_to_nearest() {
    let values = [0.1, 1.0 + 1e-9, 1e-50, 1e300, -1e300, f64::NAN, f64::INFINITY, -0.0];
    let x = Array::new(&[2, 2, 2, 1], values.to_vec());
    for (layout, tensor) in x.layouts(DType::F64) {
        let narrow = tensor.to_dtype(DType::F32).unwrap();
        assert_eq!(narrow.dtype(), DType::F32);
        let got: Vec<u32> = narrow.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        let want: Vec<u32> = values.iter().map(|&v| (v as f32).to_bits()).collect();
        assert_eq!(got, want, "{layout}");
        assert_eq!(tensor.to_vec::<f32>().unwrap()[0], 0.1f32, "{layout}");
        assert_is(
            &layout,
            &narrow.to_dtype(DType::F64).unwrap(),
            &x.map(|v| f64::from(v as f32)),
            0.0,
        );
    }
    assert_eq!((DType::F32.size(), DType::F64.size()), (4, 8));
    assert_eq!(format!("{} {}", DType::F32, DType::F64), "f32 f64");
}

#[test]
fn the_only_element_is_found_in_any_view() {
    let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
    let view = x.narrow(0, 1, 1).unwrap().narrow(1, 0, 1).unwrap();
    assert_eq!(view.item().unwrap(), 3.0);
    assert_eq!(Tensor::scalar(0.1, DType::F32).item().unwrap(), f64::from(0.1f32));
    assert!(x.item().is_err() && x.narrow(0, 0, 0).unwrap().item().is_err());
}

/// An update changes this tensor and no other that shares its memory, whatever the layouts of both sides.
#[test]
fn updates_stay_in_their_tensor() {
    let rng = &mut rng(4);
    let x = Array::uniform(rng, &[2, 3, 4, 5], -1.0..1.0);
    let y = Array::uniform(rng, &[2, 3, 4, 5], -1.0..1.0);
    let want = Array::from_fn(&x.shape, |i| x.at(i) + 2.0 * y.at(i));
    for (lx, tensor) in x.layouts(DType::F64) {
        for (ly, operand) in y.layouts(DType::F64) {
            let (mut changed, what) = (tensor.clone(), format!("{lx}, operand {ly}"));
            let update = |own: &mut [f64], [operand]: [&[f64]; 1]| {
                for (own, operand) in own.iter_mut().zip(operand) {
                    *own += 2.0 * operand;
                }
            };
            changed.update([&operand], update).unwrap();
            assert_is(&what, &changed, &want, 1e-15);
            assert_is(&what, &tensor, &x, 0.0);
            assert_is(&what, &operand, &y, 0.0);
        }
    }
    let mut own = x.tensor(DType::F64);
    assert!(own.update::<f32, 0>([], |_, []| {}).is_err(), "another dtype than the tensor's");
    assert!(own.update::<f64, 1>([&y.tensor(DType::F32)], |_, _| {}).is_err());
    let other = Tensor::zeros(&[3, 2, 4, 5], DType::F64).unwrap();
    assert!(own.update::<f64, 1>([&other], |_, _| {}).is_err());
    // Part of a larger tensor: the rest of the memory stays out of it.
    let whole = x.tensor(DType::F64);
    let mut part = whole.narrow(0, 1, 1).unwrap();
    part.update::<f64, 0>([], |own, []| own.fill(7.0)).unwrap();
    assert_eq!(part.to_vec::<f64>().unwrap(), [7.0; 60]);
    assert_is("whole", &whole, &x, 0.0);
}

#[test]
fn what_a_tensor_prints_names_shape_dtype_and_few_elements() {
    let x = Tensor::from_slice(&[1.0f32, 2.0], &[2, 1]).unwrap();
    assert_eq!(format!("{x:?}"), "Tensor([2, 1], f32, [1.0, 2.0])");
    assert_eq!(format!("{:?}", Tensor::zeros(&[3, 3], DType::F64).unwrap()), "Tensor([3, 3], f64)");
}

proptest! {
    /// Views of views of views show what the same steps on an array show.
    #[test]
    fn chains_of_views_agree_with_arrays(seed in 0u64..1 << 32) {
        let rng = &mut common::rng(seed);
        let rank = rng.random_range(1..5);
        let shape: Vec<usize> = (0..rank).map(|_| rng.random_range(0..4)).collect();
        let mut want = Array::uniform(rng, &shape, -1.0..1.0);
        let mut got = want.tensor(DType::F32);
        for _ in 0..rng.random_range(1..6) {
            match rng.random_range(0..4) {
                0 => {
                    let axis = rng.random_range(0..want.shape.len());
                    let start = rng.random_range(0..=want.shape[axis]);
                    let len = rng.random_range(0..=want.shape[axis] - start);
                    got = got.narrow(axis, start, len).unwrap();
                    want = want.narrowed(axis, start, len);
                }
                1 => {
                    let mut axes: Vec<usize> = (0..want.shape.len()).collect();
                    axes.rotate_left(rng.random_range(0..want.shape.len()));
                    got = got.permute(&axes).unwrap();
                    want = want.permuted(&axes);
                }
                2 if want.shape.len() < 6 => {
                    let axis = rng.random_range(0..=want.shape.len());
                    want.shape.insert(axis, 1);
                    got = got.unsqueeze(axis).unwrap();
                }
                _ => {
                    let shape: Vec<usize> = want.shape.iter().map(|&e| if e == 1 { 2 } else { e }).collect();
                    got = got.broadcast_to(&shape).unwrap();
                    want = Array::from_fn(&shape, |i| want.at_stretched(i));
                }
            }
        }
        assert_is("view", &got, &want, 0.0);
        assert_is("sum", &got.sum(&[0]).unwrap(), &want.reduced(&[0], |r| r.iter().sum()), 1e-5);
        assert_is("doubled", &got.add(&got).unwrap(), &want.map(|v| 2.0 * v), 0.0);
    }
}
