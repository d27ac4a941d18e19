//! The embedded Fashion-MNIST subset: what it holds, how it is cut, and that it is the one the script makes.

mod common;

use std::path::Path;

use common::*;
use flate2::Crc;
use gpz_data::{Dataset, Format, ImageSet, ImageShape, Origin, SplitPlan, built_in, verify};

fn embedded() -> Dataset {
    Dataset::open("fashion-mnist").unwrap()
}

/// CRC-32 of the unpacked IDX files, as `scripts/make-fashion-subset` prints them.
#[test]
fn the_pixels_are_those_the_script_makes() {
    let set = embedded();
    let names = set.class_names().to_vec();
    let images = everything(&set);
    for (origin, count, images_crc, labels_crc) in [
        (Origin::Train, 5_000, 0x48f9_408e, 0xa96f_aff5),
        (Origin::Test, 1_000, 0x3114_12f5, 0x5b6c_38ef),
    ] {
        let part: Vec<_> =
            images.iter().filter(|(id, _)| id.origin == origin).map(|(_, image)| image).collect();
        assert_eq!(part.len(), count);
        let pixels: Vec<u8> = part.iter().flat_map(|(pixels, _)| pixels).copied().collect();
        let labels: Vec<u8> = part
            .iter()
            .map(|(_, class)| names.iter().position(|name| name == class).unwrap() as u8)
            .collect();
        let crc = |bytes: &[u8]| {
            let mut crc = Crc::new();
            crc.update(bytes);
            crc.sum()
        };
        assert_eq!(crc(&idx(&[count, 28, 28], &pixels)), images_crc);
        assert_eq!(crc(&idx(&[count], &labels)), labels_crc);
    }
}

#[test]
fn it_fits_in_three_megabytes_beside_its_licence() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/fashion-mnist");
    let mut total = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "LICENSE" {
            total += entry.metadata().unwrap().len();
        }
    }
    assert!((1..=3_000_000).contains(&total), "{total} bytes");
    let licence = std::fs::read_to_string(folder.join("LICENSE")).unwrap();
    assert!(licence.contains("MIT License") && licence.contains("Zalando SE"));
}

#[test]
fn the_default_cut_is_balanced() {
    let parts = embedded().split(&SplitPlan::default()).unwrap();
    assert_eq!(parts.target_train.per_class(), [300; 10]);
    assert_eq!(parts.target_validation.per_class(), [50; 10]);
    assert_eq!(parts.auxiliary.per_class(), [150; 10]);
    assert_eq!(parts.auxiliary.train().per_class(), [135; 10]);
    assert_eq!(parts.auxiliary.held_out().per_class(), [15; 10]);
    assert_eq!(parts.test.per_class(), [100; 10]);
    assert_eq!(parts.test.shape(), ImageShape { height: 64, width: 64, channels: 1 });
}

/// Pins the images models see. Resizing is integer arithmetic; a machine on which this fails shows models other pictures.
#[test]
fn the_resized_images_are_the_same_everywhere() {
    let parts = embedded().split(&SplitPlan::default()).unwrap();
    let mut crc = Crc::new();
    for position in 0..parts.test.len() {
        crc.update(&parts.test.image(position));
    }
    assert_eq!(crc.sum(), RESIZED_TEST_IMAGES, "{:#010x}", crc.sum());
}
const RESIZED_TEST_IMAGES: u32 = 0x9222_3254;

/// Which images go where is part of what a run's figures mean: a change of the rule must not pass unseen.
#[test]
fn the_cut_is_the_one_that_was_published() {
    let parts = embedded().split(&SplitPlan::default()).unwrap();
    let first = |part: &dyn ImageSet| [0, 1, 2, 3].map(|position| part.id(position).index);
    let cut = [
        first(&parts.target_train),
        first(&parts.target_validation),
        first(&parts.auxiliary),
        first(parts.auxiliary.held_out()),
        first(&parts.test),
    ];
    assert_eq!(cut, [[1, 4, 5, 6], [0, 3, 10, 29], [2, 7, 8, 9], [9, 78, 115, 214], [0, 1, 2, 3]]);
}

#[test]
fn the_list_of_built_in_sets_tells_the_truth() {
    for entry in built_in() {
        let summary = verify(entry.name, &|_| true).unwrap();
        assert_eq!(
            (summary.format, summary.images, summary.shape),
            (Format::Embedded, entry.images, entry.shape)
        );
        assert_eq!(summary.classes, entry.classes);
        assert!(!entry.description.is_empty() && !entry.licence.is_empty());
    }
}

/// No picture of the subset occurs twice, so no decoder has seen what it is tested on.
#[test]
fn no_picture_occurs_twice() {
    assert_eq!(
        verify("fashion-mnist", &|_| true).unwrap().duplicates,
        gpz_data::Duplicates::default()
    );
}
