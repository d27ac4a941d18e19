//! Pictures of another set for the attacker: whose they are, how they are shown, and what the audited set keeps.

use gpz_data::{BatchOptions, Batches, Dataset, Error, ImageSet, ImageShape, Origin, SplitPlan};

/// A set whose image `i` is filled with its own number and `salt`.
fn set(name: &str, shape: ImageShape, counts: &[usize], salt: u8, brings: bool) -> Dataset {
    let labels: Vec<usize> =
        counts.iter().enumerate().flat_map(|(class, n)| vec![class; *n]).collect();
    let arrays = |more: u8| {
        let pixel = |i: usize, place: usize| match place % shape.channels {
            0 => i as u8,
            1 => salt,
            _ => more,
        };
        let n = shape.elements();
        let pixels = (0..labels.len() * n).map(|at| pixel(at / n, at % n)).collect();
        (pixels, labels.clone())
    };
    let bring = |more| brings.then(|| arrays(more));
    Dataset::from_arrays(name, shape, arrays(0), bring(1), bring(2)).unwrap()
}

fn rgb(side: usize) -> ImageShape {
    ImageShape { height: side, width: side, channels: 3 }
}

fn plan() -> SplitPlan {
    SplitPlan { resolution: (4, 4), ..SplitPlan::default() }
}

fn pictures(part: &dyn ImageSet) -> Vec<Vec<u8>> {
    (0..part.len()).map(|position| part.image(position)).collect()
}

#[test]
fn the_attacker_gets_the_other_set_and_nobody_else_changes() {
    let audited = set("audited", rgb(4), &[40, 40], 0, false);
    // Of another size, other classes, one image fewer in one of them.
    let other = set("other", rgb(6), &[30, 20, 29], 200, false);
    let alone = audited.split(&plan()).unwrap();
    let (parts, made) = audited.split_with_auxiliary(&plan(), &other).unwrap();
    for (with, without) in [
        (&parts.target_train as &dyn ImageSet, &alone.target_train as &dyn ImageSet),
        (&parts.target_validation, &alone.target_validation),
        (&parts.test, &alone.test),
    ] {
        assert_eq!(pictures(with), pictures(without));
    }
    assert_eq!((made.name.as_str(), made.origin, made.shared), ("other", Origin::Train, 0));
    assert_eq!((made.native_shape, made.left_out), (rgb(6), alone.auxiliary.len()));
    let auxiliary = &parts.auxiliary;
    assert_eq!((auxiliary.len(), auxiliary.classes()), (79, 3));
    assert_eq!(auxiliary.train().len() + auxiliary.held_out().len(), 79);
    assert_eq!(auxiliary.held_out().per_class(), [3, 2, 3]);
    assert!(pictures(auxiliary).iter().all(|picture| picture[1] == 200 && picture.len() == 48));
    assert!((0..79).all(|position| auxiliary.id(position).origin == Origin::Auxiliary));
    let options = BatchOptions::in_order(128);
    let batch = Batches::new(auxiliary, options, 1, "test").unwrap().epoch(0).next().unwrap();
    assert_eq!(batch.shape, [79, 4, 4, 3]);
}

/// A set that sets pictures apart for attackers gives those, and only those.
#[test]
fn an_auxiliary_part_of_the_other_set_is_taken_first() {
    let audited = set("audited", rgb(4), &[40, 40], 0, true);
    let other = set("other", rgb(4), &[20, 20], 200, true);
    let (parts, made) = audited.split_with_auxiliary(&plan(), &other).unwrap();
    assert_eq!((made.origin, made.left_out), (Origin::Auxiliary, 80));
    assert!(pictures(&parts.auxiliary).iter().all(|picture| picture[1..3] == [200, 1]));
}

#[test]
fn channels_are_those_of_the_audited_set() {
    let grey = ImageShape { channels: 1, ..rgb(4) };
    let coloured = set("coloured", rgb(4), &[20, 20], 200, false);
    let plain = set("plain", grey, &[20, 20], 0, false);
    let (parts, made) = plain.split_with_auxiliary(&plan(), &coloured).unwrap();
    assert_eq!((parts.auxiliary.channels(), made.native_shape.channels), (1, 3));
    // 0.299 · 7 + 0.587 · 200 = 119.493
    assert_eq!(parts.auxiliary.image(7), [119; 16]);
    let (parts, made) = coloured.split_with_auxiliary(&plan(), &plain).unwrap();
    assert_eq!((parts.auxiliary.channels(), made.native_shape.channels), (3, 1));
    assert_eq!(parts.auxiliary.image(7), [7; 48]);
}

/// Whatever the other set is called, no picture of the audited one reaches the attacker through it.
#[test]
fn pictures_of_the_audited_set_are_left_out() {
    let audited = set("audited", rgb(4), &[40, 40], 0, true);
    // Images 0 to 79 are those of the audited training part; ten more are not.
    let other = set("other", rgb(4), &[45, 45], 0, false);
    let (parts, made) = audited.split_with_auxiliary(&plan(), &other).unwrap();
    assert_eq!((made.shared, parts.auxiliary.len()), (80, 10));
    assert!(pictures(&parts.auxiliary).iter().all(|picture| picture[0] >= 80));
    let error = audited.split_with_auxiliary(&plan(), &audited.clone()).expect_err("nothing left");
    assert!(matches!(error, Error::TooFewImages { images: 0, .. }), "{error}");
    assert!(error.to_string().starts_with("what audited holds beyond audited has"), "{error}");
}
