//! Matrix products of operands in every memory layout, against loops in f64.

mod common;

use common::{Array, PLACES, assert_is, rng};

fn product(a: &Array, b: &Array) -> Array {
    let (rank, k) = (a.shape.len(), a.shape[a.shape.len() - 1]);
    let mut shape = a.shape.clone();
    shape[rank - 1] = b.shape[b.shape.len() - 1];
    Array::from_fn(&shape, |index| {
        let (mut left, mut right) = (index.to_vec(), index.to_vec());
        (0..k)
            .map(|j| {
                left[rank - 1] = j;
                right[rank - 2] = j;
                a.at(&left) * b.at(&right[rank - b.shape.len()..])
            })
            .sum()
    })
}

#[test]
fn products_agree_with_f64_in_every_pair_of_layouts() {
    let rng = &mut rng(1);
    let shapes: [(&[usize], &[usize]); 12] = [
        (&[3, 4], &[4, 5]),
        (&[1, 1], &[1, 1]),
        (&[5, 0], &[0, 3]),
        (&[0, 4], &[4, 2]),
        (&[7, 19], &[19, 33]),
        (&[3, 2, 4], &[3, 4, 5]),
        (&[3, 2, 4], &[4, 5]),
        (&[2, 3, 2, 4], &[2, 3, 4, 5]),
        (&[2, 3, 2, 4], &[4, 5]),
        // One stride leads from matrix to matrix of a batch, or none does: a unit axis may hide which.
        (&[2, 1, 3, 2, 4], &[2, 1, 3, 4, 5]),
        (&[2, 1, 2, 1, 2, 3], &[2, 1, 2, 1, 3, 2]),
        (&[0, 2, 3], &[0, 3, 4]),
    ];
    for (a, b) in shapes {
        let (a, b) = (Array::uniform(rng, a, -1.0..1.0), Array::uniform(rng, b, -1.0..1.0));
        let want = product(&a, &b);
        for (place, tolerance) in PLACES {
            for (la, ta) in a.layouts(place) {
                for (lb, tb) in b.layouts(place) {
                    let what = format!("{:?} {la} · {:?} {lb}, {place}", a.shape, b.shape);
                    assert_is(&what, &ta.matmul(&tb).unwrap(), &want, 4.0 * tolerance);
                }
            }
        }
    }
}

#[test]
fn a_stretched_batch_is_multiplied_as_if_it_were_copied() {
    let rng = &mut rng(2);
    let a = Array::uniform(rng, &[2, 1, 3, 4], -1.0..1.0);
    let b = Array::uniform(rng, &[4, 5], -1.0..1.0);
    let wide = Array::from_fn(&[2, 3, 3, 4], |i| a.at_stretched(i));
    let want = product(&wide, &b);
    for (place, tolerance) in PLACES {
        let left = a.tensor(place).broadcast_to(&[2, 3, 3, 4]).unwrap();
        let right = b.tensor(place).broadcast_to(&[2, 3, 4, 5]).unwrap();
        assert_is("both", &left.matmul(&right).unwrap(), &want, tolerance);
        assert_is("left", &left.matmul(&b.tensor(place)).unwrap(), &want, tolerance);
        assert_is("right", &wide.tensor(place).matmul(&right).unwrap(), &want, tolerance);
    }
}
