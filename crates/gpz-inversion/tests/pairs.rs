//! Pairs of feature and picture: as many of both, and parts that share nothing.

use gpz_inversion::{Error, PairCut, Pairs, Result};
use gpz_tensor::Device;

#[test]
fn parts_are_disjoint_complete_and_follow_from_the_seed() {
    let cut = PairCut::new(1003, 7);
    let parts = [cut.train.rows(), cut.held_out.rows(), cut.test.rows()];
    assert_eq!(parts.map(<[usize]>::len), [723, 80, 200]);
    let mut all = parts.concat();
    all.sort_unstable();
    assert_eq!(all, (0..1003).collect::<Vec<_>>());
    assert_eq!(cut, PairCut::new(1003, 7));
    assert_ne!(cut, PairCut::new(1003, 8));
    // Drawn from everywhere: a file sorted by class leaves no class out.
    for hundred in 0..10 {
        let there = |row: &&usize| **row / 100 == hundred;
        assert!(parts[2].iter().filter(there).count() > 5, "{hundred}");
    }
    let own = PairCut::with_test(20, 5, 7);
    assert_eq!(own.test.rows(), [20, 21, 22, 23, 24]);
    assert_eq!((own.train.rows().len(), own.held_out.rows().len()), (18, 2));
    for rows in 0..10 {
        let cut = PairCut::new(rows, 1);
        let n = cut.train.rows().len() + cut.held_out.rows().len() + cut.test.rows().len();
        assert_eq!(n, rows);
    }
}

#[test]
fn pictures_of_the_test_part_are_taken_from_the_attacker() -> Result<()> {
    // Rows 1 and 3 show what test row 5 shows.
    let pictures = vec![0.0, 0.5, 0.25, 0.5, 0.75, 0.5];
    let pairs = Pairs::new(vec![1], [1, 1, 1], vec![0.0; 6], pictures)?;
    let mut cut = PairCut::with_test(5, 1, 1);
    assert_eq!(cut.leave_out_shared(&pairs), 2);
    let mut left = [cut.train.rows(), cut.held_out.rows()].concat();
    left.sort_unstable();
    assert_eq!(left, [0, 2, 4]);
    assert_eq!(cut.test.rows(), [5]);
    Ok(())
}

#[test]
fn pairs_are_as_many_of_both() -> Result<()> {
    let pairs = Pairs::new(vec![2], [3, 1, 2], vec![0.0; 4], (0..12u8).map(f32::from).collect());
    let pairs = pairs?;
    assert_eq!(pairs.len(), 2);
    // Channels last in the file, first in the tensor.
    let x = pairs.pictures_of(&[1], &Device::Cpu)?;
    assert_eq!(x.shape(), [1, 3, 1, 2]);
    assert_eq!(x.to_vec::<f32>()?, [6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    for (feature, features, pixels) in [(2, 4, 6), (3, 4, 12), (0, 0, 0)] {
        let pairs = Pairs::new(vec![feature], [3, 1, 2], vec![0.0; features], vec![0.0; pixels]);
        assert!(matches!(pairs, Err(Error::Pairs { .. })), "{feature} {features} {pixels}");
    }
    Ok(())
}
