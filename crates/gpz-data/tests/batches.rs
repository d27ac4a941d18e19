//! Batches: every image once, in an order that depends on the seed, the same whatever the threads and buffers.

mod common;

use common::*;
use gpz_data::{
    Augment, Batch, BatchOptions, Batches, ColourJitter, Dataset, Error, ImageSet, ImageShape,
    Parts, SplitPlan,
};

/// A set of RGB noise, shown larger than it is stored.
fn parts() -> Parts {
    let arrays = arrays((7, 5, 3), 4, 60, 1);
    let shape = ImageShape { height: 7, width: 5, channels: 3 };
    let set =
        Dataset::from_arrays("noise", shape, (arrays.pixels, arrays.labels), None, None).unwrap();
    set.split(&SplitPlan { resolution: (12, 10), ..SplitPlan::default() }).unwrap()
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn an_epoch_shows_every_image_once_as_it_is() {
    let parts = parts();
    let set = &parts.target_train;
    let batches = Batches::new(set, BatchOptions::shuffled(32), 1, "target").unwrap();
    assert_eq!(batches.per_epoch(), set.len().div_ceil(32));
    assert_eq!(batches.epoch(0).len(), batches.per_epoch());
    let mut seen = vec![0; set.len()];
    for batch in batches.epoch(0) {
        assert_eq!(batch.shape, [batch.len(), 12, 10, 3]);
        assert_eq!(batch.images.len(), batch.len() * 12 * 10 * 3);
        for (image, (position, label)) in
            batch.images.chunks_exact(360).zip(batch.positions.iter().zip(&batch.labels))
        {
            seen[*position] += 1;
            assert_eq!(*label, set.label(*position));
            let want: Vec<f32> =
                set.image(*position).iter().map(|byte| f32::from(*byte) / 255.0).collect();
            assert_eq!(image, want);
        }
    }
    assert_eq!(seen, vec![1; set.len()]);
}

#[test]
fn orders_differ_by_seed_purpose_and_epoch_and_by_nothing_else() {
    let parts = parts();
    let order = |seed, purpose, epoch| {
        let batches =
            Batches::new(&parts.target_train, BatchOptions::shuffled(32), seed, purpose).unwrap();
        batches.epoch(epoch).flat_map(|batch| batch.positions).collect::<Vec<_>>()
    };
    let first = order(1, "target", 0);
    assert_eq!(first, order(1, "target", 0));
    for other in [order(2, "target", 0), order(1, "attack", 0), order(1, "target", 1)] {
        assert_ne!(first, other);
    }
    let in_order = Batches::new(&parts.test, BatchOptions::in_order(10), 1, "x").unwrap();
    let positions: Vec<usize> = in_order.epoch(3).flat_map(|batch| batch.positions).collect();
    assert_eq!(positions, (0..parts.test.len()).collect::<Vec<_>>());
}

/// An image is augmented by its own random numbers: threads, batch size, skipped batches and the order change nothing.
#[test]
fn augmentation_is_the_images_own() {
    let parts = parts();
    let set = &parts.target_train;
    let by_position = |options: BatchOptions, threads, skip| {
        let batches =
            Batches::new(set, options.with_augment(Augment::paper()), 5, "target").unwrap();
        on_threads(threads, || {
            let mut epoch = batches.epoch(2);
            epoch.skip_batches(skip);
            let mut images = std::collections::BTreeMap::new();
            for batch in epoch {
                images.extend(
                    batch
                        .positions
                        .into_iter()
                        .zip(batch.images.chunks_exact(360).map(<[f32]>::to_vec)),
                );
            }
            images
        })
    };
    let reference = by_position(BatchOptions::shuffled(32), 1, 0);
    assert_eq!(reference, by_position(BatchOptions::shuffled(32), 3, 0));
    assert_eq!(reference, by_position(BatchOptions::shuffled(7), 2, 0));
    assert_eq!(reference, by_position(BatchOptions::in_order(50), 2, 0));
    let rest = by_position(BatchOptions::shuffled(32), 2, 1);
    assert_eq!(rest.len(), set.len() - 32);
    assert!(rest.iter().all(|(position, image)| reference[position] == *image));

    let plain = Batches::new(set, BatchOptions::in_order(set.len()), 5, "target")
        .unwrap()
        .epoch(2)
        .next()
        .unwrap();
    let changed = plain
        .images
        .chunks_exact(360)
        .enumerate()
        .filter(|(i, image)| reference[i] != *image)
        .count();
    assert_eq!(changed, set.len(), "jitter changes every picture of noise");
    assert!(reference.values().flatten().all(|value| (0.0..=1.0).contains(value)));
}

#[test]
fn a_reused_batch_is_overwritten_whole() {
    let parts = parts();
    let batches =
        Batches::new(&parts.target_train, BatchOptions::shuffled(32), 1, "target").unwrap();
    let mut reused = Batch::empty();
    let mut epoch = batches.epoch(0);
    for fresh in batches.epoch(0) {
        assert!(epoch.next_into(&mut reused));
        assert_eq!(reused, fresh);
    }
    let last = reused.clone();
    assert!(!epoch.next_into(&mut reused));
    assert_eq!(reused, last);
}

#[test]
fn the_short_batch_can_be_dropped() {
    let parts = parts();
    let set = &parts.target_train;
    assert_ne!(set.len() % 32, 0, "the test needs a short batch");
    let batches = Batches::new(set, BatchOptions::shuffled(32).drop_last(), 1, "target").unwrap();
    assert_eq!(batches.per_epoch(), set.len() / 32);
    assert!(batches.epoch(0).all(|batch| batch.len() == 32));
}

#[test]
fn batches_of_chosen_positions() {
    let parts = parts();
    let batch = parts.test.batch(&[3, 0, 3]).unwrap();
    assert_eq!((batch.shape, batch.positions.as_slice()), ([3, 12, 10, 3], [3, 0, 3].as_slice()));
    assert_eq!(batch.images[..360], batch.images[720..]);
    let error = parts.test.batch(&[0, 48]).unwrap_err();
    assert_eq!(error.to_string(), "position 48 in part test, which holds 48 images; use 0 to 47");
}

#[test]
fn unusable_options_are_refused() {
    let parts = parts();
    let refused = |options| Batches::new(&parts.test, options, 1, "x").unwrap_err();
    assert_eq!(refused(BatchOptions::in_order(0)).to_string(), "batch size 0; use 1 or more");
    let jitter = ColourJitter { brightness: 0.1, contrast: 0.1, saturation: 0.1, hue: 0.6 };
    let augment = Augment { flip: 0.5, jitter: Some(jitter) };
    let error = refused(BatchOptions::in_order(1).with_augment(augment));
    assert_eq!(error.to_string(), "augmentation hue is 0.6; it lies between 0 and 0.5");
    for flip in [-0.1, 1.1, f32::NAN] {
        let augment = Augment { flip, jitter: None };
        assert!(matches!(
            refused(BatchOptions::in_order(1).with_augment(augment)),
            Error::Augmentation { .. }
        ));
    }
}
