//! Every format gives back the pixels and labels that were written into it, by writers that are not the readers' twins.

mod common;

use std::fs;

use common::*;
use gpz_data::{Dataset, Error, Format, ImageSet, ImageShape, OpenOptions, Origin, SplitPlan};
use image::ImageFormat;

#[test]
fn idx_plain_and_gzipped_by_their_bytes() {
    let (train, test) = (arrays((5, 7, 1), 3, 20, 1), arrays((5, 7, 1), 3, 4, 2));
    // The names of the gzipped files do not say so, and one that says so is not.
    for (pack, suffix) in [(false, ""), (true, ""), (true, ".gz"), (false, ".gz")] {
        let folder = tempfile::tempdir().unwrap();
        let pack = |bytes: Vec<u8>| if pack { gzip(&bytes) } else { bytes };
        for (part, arrays) in [("train", &train), ("t10k", &test)] {
            write(
                folder.path().join(format!("{part}-images-idx3-ubyte{suffix}")),
                &pack(arrays.idx_images()),
            );
            write(
                folder.path().join(format!("{part}-labels-idx1-ubyte{suffix}")),
                &pack(arrays.idx_labels()),
            );
        }
        let set = open(folder.path()).unwrap();
        assert_eq!((set.format(), set.classes()), (Format::Idx, 3));
        assert_holds(&set, Origin::Train, &train, |label| label.to_string());
        assert_holds(&set, Origin::Test, &test, |label| label.to_string());
    }
}

#[test]
fn idx_in_colour_and_without_test_images() {
    let folder = tempfile::tempdir().unwrap();
    let train = arrays((4, 4, 3), 2, 30, 3);
    write(folder.path().join("train-images.idx4-ubyte"), &train.idx_images());
    write(folder.path().join("train-labels.idx1-ubyte"), &train.idx_labels());
    let set = open(folder.path()).unwrap();
    assert_eq!(set.native_shape(), ImageShape { height: 4, width: 4, channels: 3 });
    assert_holds(&set, Origin::Train, &train, |label| label.to_string());
    // 60 images: a fifth tests, then 3/10 and 1/10 of the remaining 48.
    let parts = set.split(&SplitPlan::default()).unwrap();
    assert_eq!(disjoint(&parts).map(|part| part.len()), [29, 5, 14, 12]);
}

#[test]
fn cifar_planes_become_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let (train, test) = (arrays((32, 32, 3), 10, 6, 4), arrays((32, 32, 3), 10, 1, 5));
    let records = train.cifar();
    write(folder.path().join("data_batch_1.bin"), &records[..3073 * 25]);
    write(folder.path().join("data_batch_2.bin"), &records[3073 * 25..]);
    write(folder.path().join("test_batch.bin"), &test.cifar());
    write(folder.path().join("batches.meta.txt"), b"airplane\n");
    let set = open(folder.path()).unwrap();
    assert_eq!(set.format(), Format::Cifar10);
    let names =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    assert_holds(&set, Origin::Train, &train, |label| names[label].into());
    assert_holds(&set, Origin::Test, &test, |label| names[label].into());
}

/// The order of class folders: all images of a class, then the next class.
fn by_class(arrays: &Arrays) -> Arrays {
    let mut order: Vec<usize> = (0..arrays.labels.len()).collect();
    order.sort_by_key(|index| arrays.labels[*index]);
    Arrays {
        pixels: order.iter().flat_map(|index| arrays.image(*index).to_vec()).collect(),
        labels: order.iter().map(|index| arrays.labels[*index]).collect(),
        ..arrays.clone()
    }
}

fn letter(label: usize) -> String {
    char::from(b'a' + label as u8).to_string()
}

#[test]
fn class_folders_of_pngs_grey_and_rgb() {
    for channels in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let train = arrays((6, 5, channels), 3, 10, 6);
        train.folders(folder.path(), ImageFormat::Png);
        write(folder.path().join("a/.hidden"), b"not a picture");
        write(folder.path().join("README"), b"about these pictures");
        let set = open(folder.path()).unwrap();
        assert_eq!(
            (set.format(), set.class_names()),
            (Format::ClassFolders, ["a", "b", "c"].map(String::from).as_slice())
        );
        assert_holds(&set, Origin::Train, &by_class(&train), letter);
    }
}

#[test]
fn class_folders_below_parts() {
    let folder = tempfile::tempdir().unwrap();
    let [train, validation, auxiliary, test] =
        [7, 8, 9, 10].map(|seed| arrays((6, 6, 1), 2, if seed == 7 { 10 } else { 4 }, seed));
    train.folders(&folder.path().join("train"), ImageFormat::Png);
    validation.folders(&folder.path().join("val"), ImageFormat::Png);
    auxiliary.folders(&folder.path().join("aux"), ImageFormat::Png);
    test.folders(&folder.path().join("test"), ImageFormat::Png);
    let set = open(folder.path()).unwrap();
    assert_holds(&set, Origin::Train, &by_class(&train), letter);
    assert_holds(&set, Origin::Validation, &by_class(&validation), letter);
    assert_holds(&set, Origin::Auxiliary, &by_class(&auxiliary), letter);
    assert_holds(&set, Origin::Test, &by_class(&test), letter);
    let parts = set.split(&SplitPlan::default()).unwrap();
    assert_eq!(disjoint(&parts).map(|part| part.len()), [20, 8, 8, 8]);
}

/// The attacker's images may be of other things: then their classes are their own, and so is their size.
#[test]
fn an_auxiliary_part_may_have_classes_and_a_size_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    arrays((6, 6, 1), 2, 10, 11).folders(&folder.path().join("train"), ImageFormat::Png);
    arrays((6, 6, 1), 2, 2, 12).folders(&folder.path().join("test"), ImageFormat::Png);
    arrays((9, 8, 1), 5, 4, 13).folders(&folder.path().join("auxiliary"), ImageFormat::Png);
    let set = open(folder.path()).unwrap();
    let parts = set.split(&SplitPlan::default()).unwrap();
    assert_eq!(
        (parts.target_train.classes(), parts.auxiliary.classes(), parts.auxiliary.len()),
        (2, 5, 20)
    );
    assert_eq!(parts.auxiliary.shape(), parts.target_train.shape());
    assert_eq!(parts.auxiliary.train().len() + parts.auxiliary.held_out().len(), 20);
}

/// JPEG is lossy: a smooth picture comes back within a few levels, and as one of the right shape.
#[test]
fn class_folders_of_jpegs() {
    let folder = tempfile::tempdir().unwrap();
    let mut train = arrays((16, 24, 3), 2, 6, 14);
    for (index, value) in train.pixels.iter_mut().enumerate() {
        *value = (index / 3 % 24 * 8 + index / 3 / 24 % 16 * 2) as u8;
    }
    train.folders(folder.path(), ImageFormat::Jpeg);
    let set = open(folder.path()).unwrap();
    assert_eq!(set.native_shape(), ImageShape { height: 16, width: 24, channels: 3 });
    let images = everything(&set);
    assert_eq!(images.len(), 12);
    for (pixels, _) in images.values() {
        let worst = pixels.iter().zip(train.image(0)).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(16), "{worst:?}");
    }
}

#[test]
fn mixed_sizes_are_resized_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    arrays((6, 6, 1), 2, 8, 15).folders(folder.path(), ImageFormat::Png);
    arrays((9, 12, 1), 2, 1, 16).picture(0).save(folder.path().join("b/odd.png")).unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(Error::ImageSize { found: (9, 12), expected: (6, 6), .. })
    ));
    let options = OpenOptions { resize_on_read: Some((8, 10)) };
    let set = Dataset::open_with(folder.path().to_str().unwrap(), &options).unwrap();
    assert_eq!(set.native_shape(), ImageShape { height: 8, width: 10, channels: 1 });
    assert_eq!(everything(&set).len(), 17);
}

/// Opaque alpha is dropped: it says nothing.
#[test]
fn opaque_alpha_is_no_channel() {
    let folder = tempfile::tempdir().unwrap();
    let train = arrays((4, 4, 3), 2, 6, 17);
    train.folders(folder.path(), ImageFormat::Png);
    let with_alpha = train.picture(0).to_rgba8();
    with_alpha.save(folder.path().join("a/0000.png")).unwrap();
    assert_holds(&open(folder.path()).unwrap(), Origin::Train, &by_class(&train), letter);
}

#[test]
fn npz_in_the_released_layout() {
    for (channels, compressed) in [(1, false), (3, true)] {
        let folder = tempfile::tempdir().unwrap();
        let [train, auxiliary, test] =
            [18, 19, 20].map(|seed| arrays((5, 6, channels), 4, 5, seed));
        let members: Vec<_> = [train.npy("train"), auxiliary.npy("auxiliary"), test.npy("test")]
            .into_iter()
            .flatten()
            .collect();
        let path = folder.path().join("set.npz");
        write(&path, &npz(&members, compressed));
        let set = open(&path).unwrap();
        assert_eq!(set.format(), Format::Npz);
        assert_holds(&set, Origin::Train, &train, |label| label.to_string());
        assert_holds(&set, Origin::Auxiliary, &auxiliary, |label| label.to_string());
        assert_holds(&set, Origin::Test, &test, |label| label.to_string());
    }
}

#[test]
fn npz_labels_of_any_integer_type() {
    fn labels_as<T: npyz::Serialize + npyz::AutoSerialize + Copy + TryFrom<usize>>(shape: &[u64]) {
        let folder = tempfile::tempdir().unwrap();
        let train = arrays((3, 3, 1), 3, 8, 21);
        let labels: Vec<T> = train.labels.iter().map(|l| T::try_from(*l).ok().unwrap()).collect();
        let members = [train.npy("train").remove(0), ("train_labels".into(), npy(shape, &labels))];
        let path = folder.path().join("set.npz");
        write(&path, &npz(&members, true));
        assert_holds(&open(&path).unwrap(), Origin::Train, &train, |label| label.to_string());
    }
    labels_as::<u8>(&[24]);
    labels_as::<i8>(&[24, 1]);
    labels_as::<u16>(&[24]);
    labels_as::<i16>(&[24]);
    labels_as::<u32>(&[24]);
    labels_as::<i32>(&[24, 1]);
    labels_as::<u64>(&[24]);
    labels_as::<i64>(&[24]);
}

/// Labels of an auxiliary part need not be without gaps: they are people's numbers.
#[test]
fn npz_auxiliary_labels_may_have_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let train = arrays((3, 3, 1), 2, 10, 22);
    let auxiliary = arrays((3, 3, 1), 3, 10, 23);
    let mut members = train.npy("train");
    members.push(auxiliary.npy("auxiliary").remove(0));
    let labels: Vec<i32> = auxiliary.labels.iter().map(|label| [7, 1, 90_210][*label]).collect();
    members.push(("auxiliary_labels".into(), npy(&[30], &labels)));
    let path = folder.path().join("set.npz");
    write(&path, &npz(&members, false));
    let parts = open(&path).unwrap().split(&SplitPlan::default()).unwrap();
    assert_eq!(parts.auxiliary.class_names(), ["1", "7", "90210"].map(String::from));
    assert_eq!(parts.auxiliary.per_class(), [10, 10, 10]);
    assert_eq!(parts.auxiliary.held_out().per_class(), [1, 1, 1]);
}

#[test]
fn arrays_in_memory() {
    let (train, test) = (arrays((4, 6, 3), 2, 10, 24), arrays((4, 6, 3), 2, 3, 25));
    let shape = ImageShape { height: 4, width: 6, channels: 3 };
    let both = |arrays: &Arrays| (arrays.pixels.clone(), arrays.labels.clone());
    let set = Dataset::from_arrays("mine", shape, both(&train), None, Some(both(&test))).unwrap();
    assert_eq!((set.name(), set.format()), ("mine", Format::Arrays));
    assert_holds(&set, Origin::Train, &train, |label| label.to_string());
    assert_holds(&set, Origin::Test, &test, |label| label.to_string());

    let mut short = both(&train);
    short.0.pop();
    assert!(matches!(
        Dataset::from_arrays("mine", shape, short, None, None),
        Err(Error::CountMismatch { images: 19, labels: 20, .. })
    ));
    for shape in [
        ImageShape { height: 0, ..shape },
        ImageShape { channels: 2, ..shape },
        ImageShape { width: 99_999, ..shape },
    ] {
        assert!(matches!(
            Dataset::from_arrays("mine", shape, both(&train), None, None),
            Err(Error::Unsupported { .. })
        ));
    }
}

/// A folder that links to the files of another is a set as well.
#[cfg(unix)]
#[test]
fn links_are_followed() {
    let (folder, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let train = arrays((4, 4, 1), 2, 6, 26);
    train.folders(folder.path(), ImageFormat::Png);
    for class in ["a", "b"] {
        fs::create_dir(links.path().join(class)).unwrap();
        for entry in fs::read_dir(folder.path().join(class)).unwrap() {
            let entry = entry.unwrap();
            std::os::unix::fs::symlink(
                entry.path(),
                links.path().join(class).join(entry.file_name()),
            )
            .unwrap();
        }
    }
    assert_holds(&open(links.path()).unwrap(), Origin::Train, &by_class(&train), letter);
}

/// What a watcher hears of a reading: never more than the whole, never less than before; and it may end it.
#[test]
fn a_reading_can_be_watched_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    arrays((2, 2, 1), 2, 150, 21).folders(&folder.path().join("pictures"), ImageFormat::Png);
    let large = arrays((1024, 1024, 1), 2, 10, 22);
    let packed = npz(&large.npy("train"), true);
    write(folder.path().join("large.npz"), &packed);
    let idx = folder.path().join("idx");
    fs::create_dir(&idx).unwrap();
    write(idx.join("train-images-idx3-ubyte"), &large.idx_images());
    write(idx.join("train-labels-idx1-ubyte"), &large.idx_labels());
    for (name, total) in [("pictures", 300), ("large.npz", 20 << 20), ("idx", 20 << 20)] {
        let path = folder.path().join(name).display().to_string();
        let heard = std::cell::RefCell::new(Vec::new());
        let watch = |reading: gpz_data::Reading<'_>| {
            assert_eq!(reading.total, total, "{name}");
            heard.borrow_mut().push(reading.done);
            true
        };
        Dataset::open_watched(&path, &OpenOptions::default(), &watch).unwrap();
        let heard = heard.into_inner();
        assert!(heard.len() >= 2, "{name}: {heard:?}");
        assert!(heard.is_sorted() && heard.iter().all(|done| *done < total), "{name}: {heard:?}");
        let ended =
            Dataset::open_watched(&path, &OpenOptions::default(), &|reading| reading.done == 0);
        assert!(matches!(ended, Err(Error::Stopped { .. })), "{name}: {ended:?}");
    }
}
