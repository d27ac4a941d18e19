//! Everything that can be wrong with a stored set, and the one line a person gets. `SET` stands for the path.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use gpz_data::Dataset;
use image::ImageFormat;
use tempfile::TempDir;

/// A folder with a sound IDX set, to be spoilt: 12 training images of 4x4 in 3 classes.
fn idx_set() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let train = arrays((4, 4, 1), 3, 4, 1);
    write(folder.path().join("train-images-idx3-ubyte"), &train.idx_images());
    write(folder.path().join("train-labels-idx1-ubyte"), &train.idx_labels());
    folder
}

/// A sound set of class folders a, b and c with PNGs 0000 to 0011.
fn class_folders() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    arrays((4, 4, 1), 3, 4, 2).folders(folder.path(), ImageFormat::Png);
    folder
}

fn spoilt(set: TempDir, file: &str, bytes: &[u8]) -> String {
    write(set.path().join(file), bytes);
    message(set.path())
}

fn head(path: impl AsRef<Path>, length: usize) -> Vec<u8> {
    fs::read(path).unwrap()[..length].to_vec()
}

#[test]
fn a_set_that_is_not_there() {
    assert_eq!(
        Dataset::open("imagenet").unwrap_err().to_string(),
        "imagenet: no such file or folder, and no built-in set of that name; built in: fashion-mnist"
    );
    assert_eq!(
        Dataset::open("a\nb").unwrap_err().to_string(),
        "a\\nb: no such file or folder, and no built-in set of that name; built in: fashion-mnist"
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        message(empty.path()),
        "SET holds no images; fetch the set again or name another folder"
    );
}

#[test]
fn a_folder_or_file_of_no_known_layout() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("notes.txt"), b"hello");
    let layouts =
        "name a folder of class folders, of IDX files or of CIFAR-10 batches, or an .npz file";
    assert_eq!(
        message(folder.path()),
        format!("SET: no layout known here (it holds notes.txt); {layouts}")
    );
    assert_eq!(
        message(&folder.path().join("notes.txt")),
        format!("SET: neither an archive nor a folder (it begins with \"hello\"); {layouts}")
    );
    let set = idx_set();
    assert_eq!(
        message(&set.path().join("train-images-idx3-ubyte")),
        format!("SET: one file alone, images need their labels; {layouts}")
    );
}

#[test]
fn idx_damage() {
    let images = arrays((4, 4, 1), 3, 4, 1).idx_images();
    let truncated = |set| spoilt(set, "train-images-idx3-ubyte", &images[..100]);
    assert_eq!(
        truncated(idx_set()),
        "SET/train-images-idx3-ubyte is truncated: 100 bytes where 208 are due; fetch it again"
    );
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &images[..10]),
        "SET/train-images-idx3-ubyte is truncated: 10 bytes where 16 are due; fetch it again"
    );
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &[images.as_slice(), &[0]].concat()),
        "SET/train-images-idx3-ubyte goes on after the 208 bytes its header promises; fetch it again"
    );
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", b"<html><body>not found"),
        "SET/train-images-idx3-ubyte is not an IDX file (it begins with \"<htm\"); remove it or fetch the set again"
    );
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &[0, 0, 13, 3, 0, 0, 0, 1]),
        "SET/train-images-idx3-ubyte holds an IDX array of element type 0x0d; store unsigned bytes (type 0x08)"
    );
    assert_eq!(
        spoilt(idx_set(), "train-labels-idx1-ubyte", &images),
        "SET/train-labels-idx1-ubyte holds an IDX array with 3 sizes; labels have one"
    );
    let zipped = gzip(&images);
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &zipped[..zipped.len() - 12]),
        "SET/train-images-idx3-ubyte: damaged gzip (it ends early); fetch it again"
    );
    let mut flipped = zipped.clone();
    flipped[zipped.len() - 6] ^= 1; // in the checksum
    assert!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &flipped)
            .starts_with("SET/train-images-idx3-ubyte: damaged gzip (")
    );
}

/// A header that claims four billion images fails by the length of the file, not by memory.
#[test]
fn claims_are_not_allocated() {
    let mut images = idx(&[u32::MAX as usize, u32::MAX as usize, u32::MAX as usize], &[7; 64]);
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &images),
        "SET/train-images-idx3-ubyte is truncated: 80 bytes where 79228162458924105385300197391 are due; fetch it again"
    );
    images = idx(&[u32::MAX as usize, 4, 4], &[7; 64]);
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &gzip(&images)),
        "SET/train-images-idx3-ubyte is truncated: 80 bytes where 68719476736 are due; fetch it again"
    );
    images = idx(&[12, 0, 4], &[]);
    assert_eq!(
        spoilt(idx_set(), "train-images-idx3-ubyte", &images),
        "SET/train-images-idx3-ubyte holds images of 0x4x1; use 1 or 3 channels (grey or RGB) and sides of 1 to 8192"
    );

    let folder = tempfile::tempdir().unwrap();
    let mut members = arrays((4, 4, 1), 3, 4, 1).npy("train");
    let digits = members[0].1.windows(2).position(|pair| pair == b"12").unwrap();
    members[0].1[digits..digits + 2].copy_from_slice(b"99");
    write(folder.path().join("set.npz"), &npz(&members, true));
    let text = message(&folder.path().join("set.npz"));
    assert!(
        text.starts_with("SET:train_data is truncated: ")
            && text.ends_with(" are due; fetch it again"),
        "{text}"
    );
}

#[test]
fn labels_that_do_not_fit() {
    assert_eq!(
        spoilt(
            idx_set(),
            "train-labels-idx1-ubyte",
            &idx(&[11], &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1])
        ),
        "SET/train-images-idx3-ubyte holds 12 images but SET/train-labels-idx1-ubyte holds 11 labels; fetch both from the same place"
    );
    assert_eq!(
        spoilt(
            idx_set(),
            "train-labels-idx1-ubyte",
            &idx(&[12], &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 200])
        ),
        "SET/train-labels-idx1-ubyte: class 3 (labels go up to 200) has no images; add some or number the classes without gaps"
    );
    let set = idx_set();
    let test = arrays((4, 4, 1), 4, 1, 3);
    write(set.path().join("t10k-images-idx3-ubyte"), &test.idx_images());
    assert_eq!(
        spoilt(set, "t10k-labels-idx1-ubyte", &test.idx_labels()),
        "SET/t10k-labels-idx1-ubyte: image 3 has label 3, the classes are 0 to 2; correct the label or remove the image"
    );
    let set = idx_set();
    let test = arrays((4, 4, 1), 2, 1, 3);
    write(set.path().join("t10k-images-idx3-ubyte"), &test.idx_images());
    assert_eq!(
        spoilt(set, "t10k-labels-idx1-ubyte", &test.idx_labels()),
        "SET/t10k-labels-idx1-ubyte: class 2 has no images; add some or number the classes without gaps"
    );
}

#[test]
fn idx_parts_that_do_not_fit_together() {
    let set = idx_set();
    fs::remove_file(set.path().join("train-labels-idx1-ubyte")).unwrap();
    assert_eq!(
        message(set.path()),
        "SET has no train labels (it holds train-images-idx3-ubyte); fetch the set again"
    );
    let set = idx_set();
    let test = arrays((5, 4, 1), 3, 1, 3);
    write(set.path().join("t10k-labels-idx1-ubyte"), &test.idx_labels());
    assert_eq!(
        spoilt(set, "t10k-images-idx3-ubyte", &test.idx_images()),
        "SET/t10k-images-idx3-ubyte is 5x4 (height x width), the others are 4x4; resize or remove it"
    );
    let set = idx_set();
    let test = arrays((4, 4, 3), 3, 1, 3);
    write(set.path().join("t10k-labels-idx1-ubyte"), &test.idx_labels());
    assert_eq!(
        spoilt(set, "t10k-images-idx3-ubyte", &test.idx_images()),
        "SET/t10k-images-idx3-ubyte has 3 channel(s), the others have 1; convert or remove it (1 is grey, 3 is RGB)"
    );
    let set = idx_set();
    assert!(spoilt(set, "emnist-train-images-idx3-ubyte", b"").contains(
        "emnist-train-images-idx3-ubyte and train-images-idx3-ubyte claim the same part"
    ));
}

#[test]
fn cifar_damage() {
    let batch = arrays((32, 32, 3), 10, 1, 4).cifar();
    let read = |bytes: &[u8]| spoilt(tempfile::tempdir().unwrap(), "data_batch_1.bin", bytes);
    assert_eq!(
        read(&batch[..3073 * 9 + 5]),
        "SET/data_batch_1.bin is truncated: 27662 bytes where 30730 are due; fetch it again"
    );
    let mut wrong = batch.clone();
    wrong[3073 * 4] = 11;
    assert_eq!(
        read(&wrong),
        "SET/data_batch_1.bin: image 4 has label 11, the classes are 0 to 9; correct the label or remove the image"
    );
    assert_eq!(
        read(&batch[3073..]),
        "SET: class airplane has no images; add some or number the classes without gaps"
    );
    assert_eq!(
        read(b""),
        "SET/data_batch_1.bin holds no images; fetch the set again or name another folder"
    );
}

#[test]
fn pictures_that_are_none() {
    assert_eq!(
        spoilt(class_folders(), "a/0003.png", b"<html><body>404</body></html>"),
        "SET/a/0003.png is not a PNG (it begins with \"<html\"); remove it or fetch the set again"
    );
    assert_eq!(
        spoilt(class_folders(), "a/0003.png", b""),
        "SET/a/0003.png is not a PNG (it begins with nothing: it is empty); remove it or fetch the set again"
    );
    let set = class_folders();
    let jpeg = tempfile::tempdir().unwrap();
    arrays((4, 4, 1), 1, 1, 5).folders(jpeg.path(), ImageFormat::Jpeg);
    let jpeg = fs::read(jpeg.path().join("a/0000.jpg")).unwrap();
    assert_eq!(
        spoilt(set, "b/0004.png", &jpeg),
        "SET/b/0004.png is a JPEG, not a PNG as its name says; rename it"
    );
    assert!(
        spoilt(class_folders(), "b/0004.jpg", &jpeg[..jpeg.len() / 2])
            .starts_with("SET/b/0004.jpg: damaged JPEG (it ends early); fetch it again")
    );
    let set = class_folders();
    let half = head(set.path().join("a/0000.png"), 50);
    assert!(spoilt(set, "a/0000.png", &half).starts_with("SET/a/0000.png: damaged PNG ("));
    let set = class_folders();
    let mut flipped = fs::read(set.path().join("c/0002.png")).unwrap();
    flipped[45] ^= 0x10;
    assert!(spoilt(set, "c/0002.png", &flipped).starts_with("SET/c/0002.png: damaged PNG ("));
}

/// Cameras store a thumbnail, a whole JPEG with an end of its own, in the header (APP1).
#[test]
fn a_thumbnail_does_not_hide_a_missing_end() {
    let folder = tempfile::tempdir().unwrap();
    arrays((4, 4, 1), 1, 1, 5).folders(folder.path(), ImageFormat::Jpeg);
    let path = folder.path().join("a/0000.jpg");
    let jpeg = fs::read(&path).unwrap();
    let length = (jpeg.len() as u16 + 2).to_be_bytes();
    let with_thumbnail = [&jpeg[..2], &[0xff, 0xe1], &length, &jpeg, &jpeg[2..]].concat();
    fs::write(&path, &with_thumbnail).unwrap();
    assert!(gpz_data::read_picture(&path).is_ok());
    fs::write(&path, &with_thumbnail[..with_thumbnail.len() - 3]).unwrap();
    let said = gpz_data::read_picture(&path).expect_err("the end is missing").to_string();
    assert!(said.contains("a/0000.jpg: damaged JPEG (it ends early)"), "{said}");
}

/// An array that cannot be read keeps nobody from those beside it.
#[test]
fn an_odd_array_in_an_archive_is_reported_to_whoever_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.npz");
    let header = |text: &str| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    let turned = "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }";
    let structured =
        "{'descr': [('a', '<f4'), ('b', '<i8')], 'fortran_order': False, 'shape': (1,), }";
    let members = [
        ("fine".to_owned(), npy(&[1, 2], &[1.5f32, 2.5])),
        ("turned".to_owned(), [header(turned), vec![0; 8]].concat()),
        ("structured".to_owned(), [header(structured), vec![0; 12]].concat()),
    ];
    write(&path, &npz(&members, false));
    let file = gpz_data::ArrayFile::open(&path).unwrap();
    assert_eq!(file.find("fine").unwrap().shape, [1, 2]);
    for (name, reason) in [("turned", "Fortran order"), ("structured", "NumPy header")] {
        assert!(file.holds(name));
        let said = file.find(name).expect_err(name).to_string();
        assert!(said.contains(&format!("set.npz:{name}")) && said.contains(reason), "{said}");
    }
    assert!(!file.holds("missing"));
}

#[test]
fn pictures_that_do_not_fit() {
    let set = class_folders();
    arrays((4, 5, 1), 1, 1, 6).picture(0).save(set.path().join("c/0002.png")).unwrap();
    assert_eq!(
        message(set.path()),
        "SET/c/0002.png is 4x5 (height x width), the others are 4x4; resize or remove it"
    );
    let set = class_folders();
    arrays((4, 4, 3), 1, 1, 6).picture(0).save(set.path().join("c/0002.png")).unwrap();
    assert_eq!(
        message(set.path()),
        "SET/c/0002.png has 3 channel(s), the others have 1; convert or remove it (1 is grey, 3 is RGB)"
    );
    let set = class_folders();
    let mut clear = arrays((4, 4, 3), 1, 1, 6).picture(0).to_rgba8();
    clear.get_pixel_mut(1, 1).0[3] = 128;
    clear.save(set.path().join("c/0002.png")).unwrap();
    assert_eq!(
        message(set.path()),
        "SET/c/0002.png holds transparent pixels; paint it on a background"
    );
    let set = class_folders();
    arrays((4, 4, 1), 1, 1, 6).picture(0).to_luma16().save(set.path().join("c/0002.png")).unwrap();
    assert_eq!(
        message(set.path()),
        "SET/c/0002.png holds pixels of type L16; convert it to 8 bits per channel"
    );
}

#[test]
fn class_folders_in_disorder() {
    let set = class_folders();
    fs::create_dir(set.path().join("d")).unwrap();
    assert_eq!(
        message(set.path()),
        "SET/d: class d has no images; add some or number the classes without gaps"
    );
    assert_eq!(
        spoilt(class_folders(), "a/list.csv", b"1,2"),
        "SET/a/list.csv holds no picture by its name; keep nothing but .png, .jpg and .jpeg files in class folders"
    );
    assert!(
        spoilt(class_folders(), "stray.png", b"x")
            .contains("SET/stray.png: a picture outside the class folders")
    );

    let parts = tempfile::tempdir().unwrap();
    arrays((4, 4, 1), 2, 6, 7).folders(&parts.path().join("train"), ImageFormat::Png);
    arrays((4, 4, 1), 3, 1, 8).folders(&parts.path().join("test"), ImageFormat::Png);
    assert_eq!(
        message(parts.path()),
        "SET/test/c: class c does not occur in the training part; rename or remove it"
    );
    fs::remove_dir_all(parts.path().join("test")).unwrap();
    fs::create_dir(parts.path().join("test")).unwrap();
    assert_eq!(
        message(parts.path()),
        "SET/test has no class folders (it is empty); fetch the set again"
    );
    fs::create_dir(parts.path().join("dog")).unwrap();
    assert!(
        message(parts.path())
            .contains("SET/dog: beside train there may be validation, auxiliary and test")
    );
}

#[test]
fn archives_in_disorder() {
    let read = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("set.npz"), bytes);
        message(&folder.path().join("set.npz"))
    };
    let train = arrays((4, 4, 1), 3, 4, 9);
    let members = train.npy("train");
    let sound = npz(&members, false);
    assert_eq!(
        read(b"version https://git-lfs"),
        "SET is not a zip archive (it begins with \"version\"); remove it or fetch the set again"
    );
    assert!(read(&sound[..sound.len() / 2]).starts_with("SET: damaged zip archive ("));
    let mut flipped = sound.clone();
    let inside = sound.windows(4).position(|w| *w == train.pixels[..4]).unwrap();
    flipped[inside] ^= 1;
    assert!(
        read(&flipped).starts_with("SET:train_data: damaged zip entry ("),
        "{}",
        read(&flipped)
    );
    assert_eq!(
        read(&npz(&[members[0].clone()], false)),
        "SET has no train_labels (it holds train_data); fetch the set again"
    );
    let with = |data: Vec<u8>, labels: Vec<u8>| {
        read(&npz(&[("train_data".into(), data), ("train_labels".into(), labels)], true))
    };
    let labels = || members[1].1.clone();
    assert_eq!(
        with(npy(&[12, 4, 4], &[0.5f32; 192]), labels()),
        "SET:train_data holds elements of type <f4; store images as uint8, 0 to 255"
    );
    assert_eq!(
        with(npy(&[12, 3, 4, 4], &[0u8; 576]), labels()),
        "SET:train_data holds images of shape [12, 3, 4, 4], channels first; store them channels last: transpose(0, 2, 3, 1)"
    );
    assert_eq!(
        with(npy(&[12, 16], &[0u8; 192]), labels()),
        "SET:train_data holds images of shape [12, 16]; store [n, height, width] or [n, height, width, 1 or 3]"
    );
    let data = || members[0].1.clone();
    assert_eq!(
        with(data(), npy(&[12], &[0.0f64; 12])),
        "SET:train_labels holds elements of type <f8; store labels as integers"
    );
    assert_eq!(
        with(data(), npy(&[12, 3], &[0u8; 36])),
        "SET:train_labels holds labels of shape [12, 3]; store one class index per image"
    );
    assert_eq!(
        with(data(), npy(&[12], &[0i32, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, -1])),
        "SET:train_labels: image 11 has label -1, the classes are 0 to 2; correct the label or remove the image"
    );
    assert_eq!(
        with(data(), npy(&[2], &[0u8, 1])),
        "SET:train_data holds 12 images but SET:train_labels holds 2 labels; fetch both from the same place"
    );
    assert_eq!(
        with(b"not an array".to_vec(), labels()),
        "SET:train_data is not a NumPy array (it begins with \"not\"); remove it or fetch the set again"
    );
    let mut header = data();
    header[20] = b'?';
    assert_eq!(
        with(header, labels()),
        "SET:train_data: damaged NumPy header (it does not give descr, fortran_order and shape); fetch it again"
    );
}
