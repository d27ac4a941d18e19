//! Random damage to every format: an error on one line or a set, never a panic. Damage that a checksum covers is always an
//! error.

mod common;

use std::path::Path;

use common::*;
use gpz_data::ArrayFile;
use image::ImageFormat;
use proptest::prelude::*;

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    /// It ends at this fraction.
    Cut(f64),
    /// At these fractions bytes are exchanged with these.
    Bytes(Vec<(f64, u8)>),
    /// At this fraction these bytes come in between.
    Insert(f64, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    // Headers are where damage matters most, so half the places are near the beginning.
    let place = || prop_oneof![0.0..1.0f64, (0.0..1.0f64).prop_map(|x| x * x * x * 0.1)];
    prop_oneof![
        place().prop_map(Damage::Cut),
        prop::collection::vec((place(), any::<u8>()), 1..6).prop_map(Damage::Bytes),
        (place(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn apply(damage: &Damage, bytes: &[u8]) -> Vec<u8> {
    let at = |fraction: f64| (fraction * bytes.len() as f64) as usize;
    let mut bytes = bytes.to_vec();
    match damage {
        Damage::Cut(fraction) => bytes.truncate(at(*fraction)),
        Damage::Bytes(changes) => {
            changes.iter().for_each(|(fraction, byte)| bytes[at(*fraction)] = *byte)
        }
        Damage::Insert(fraction, new) => {
            let at = at(*fraction);
            bytes.splice(at..at, new.iter().copied());
        }
    }
    bytes
}

/// Opens what is at `path`: an error must be one line, a set must be one that can be cut and read.
fn try_open(path: &Path) -> Result<bool, TestCaseError> {
    match open(path) {
        Ok(set) => {
            prop_assert!(set.classes() > 0);
            Ok(true)
        }
        Err(error) => {
            let text = error.to_string();
            prop_assert!(!text.contains('\n') && !text.is_empty(), "{text}");
            Ok(false)
        }
    }
}

/// Writes a set of one or more files, the one called `spoilt` damaged, and opens `target` below the folder.
fn check(
    files: &[(&str, Vec<u8>)],
    spoilt: &str,
    damage: &Damage,
    target: &str,
) -> Result<bool, TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let bytes = if *name == spoilt { apply(damage, bytes) } else { bytes.clone() };
        write(folder.path().join(name), &bytes);
    }
    try_open(&folder.path().join(target))
}

fn changes(damage: &Damage, bytes: &[u8]) -> bool {
    apply(damage, bytes) != bytes
}

/// One array `z` of 12 rows and 5 columns.
fn safetensors(values: &[f32]) -> Vec<u8> {
    let table = format!(
        r#"{{"z":{{"dtype":"F32","shape":[12,5],"data_offsets":[0,{}]}}}}"#,
        4 * values.len()
    );
    let mut bytes = (table.len() as u64).to_le_bytes().to_vec();
    bytes.extend(table.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Reads every array, a few rows at a time, and counts what comes.
fn read_all(path: &Path) -> gpz_data::Result<()> {
    let file = ArrayFile::open(path)?;
    for array in file.arrays() {
        let mut values = 0;
        file.each_block(array, 5, |first, block| -> gpz_data::Result<()> {
            assert_eq!(Some(values), array.row_len().map(|len| first * len));
            values += block.into_f64().len();
            Ok(())
        })?;
        assert_eq!(values, array.shape.iter().product::<usize>());
    }
    Ok(())
}

/// Rows of nothing, as many as there are numbers: nothing to read, and no time spent on it.
#[test]
fn endless_empty_rows_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = npy::<f32>(&[1_000_000_000_000_000_000, 0], &[]);
    write(folder.path().join("empty.npy"), &bytes);
    read_all(&folder.path().join("empty.npy")).unwrap();
    bytes = npy(&[12, 5], &[0.5f32; 60]);
    write(folder.path().join("sound.npy"), &bytes);
    read_all(&folder.path().join("sound.npy")).unwrap();
    write(folder.path().join("sound.safetensors"), &safetensors(&[0.5; 60]));
    read_all(&folder.path().join("sound.safetensors")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn idx(damage in damage(), images in any::<bool>()) {
        let train = arrays((4, 4, 1), 3, 4, 1);
        let files = [("train-images-idx3-ubyte", train.idx_images()), ("train-labels-idx1-ubyte", train.idx_labels())];
        check(&files, files[usize::from(!images)].0, &damage, "")?;
    }

    #[test]
    fn gzipped_idx(damage in damage(), images in any::<bool>()) {
        let train = arrays((4, 4, 1), 3, 4, 1);
        let files =
            [("train-images-idx3-ubyte", gzip(&train.idx_images())), ("train-labels-idx1-ubyte", gzip(&train.idx_labels()))];
        let (name, sound) = &files[usize::from(!images)];
        let opened = check(&files, name, &damage, "")?;
        // Bytes 4 to 9 of gzip are a time, flags of taste and a system; the rest is covered by length and checksum.
        let matters = apply(&damage, sound).get(10..) != sound.get(10..);
        prop_assert!(!(opened && matters), "damage passed unseen");
    }

    #[test]
    fn cifar(damage in damage()) {
        let files = [("data_batch_1.bin", arrays((32, 32, 3), 10, 1, 1).cifar())];
        check(&files, "data_batch_1.bin", &damage, "")?;
    }

    #[test]
    fn npz(damage in damage(), compressed in any::<bool>()) {
        let members: Vec<_> =
            ["train", "test"].into_iter().flat_map(|part| arrays((4, 4, 1), 3, 4, 1).npy(part)).collect();
        let files = [("set.npz", common::npz(&members, compressed))];
        check(&files, "set.npz", &damage, "set.npz")?;
    }

    /// The checksum of the archive forgives nothing, so arrays are damaged before they are packed too.
    #[test]
    fn arrays_in_npz(damage in damage(), which in 0..2usize) {
        let mut members = arrays((4, 4, 1), 3, 4, 1).npy("train");
        members[which].1 = apply(&damage, &members[which].1);
        let files = [("set.npz", common::npz(&members, true))];
        check(&files, "", &damage, "set.npz")?;
    }

    #[test]
    fn pictures(damage in damage(), jpeg in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let (format, name) = if jpeg { (ImageFormat::Jpeg, "a/0000.jpg") } else { (ImageFormat::Png, "a/0000.png") };
        arrays((8, 9, 3), 2, 2, 1).folders(folder.path(), format);
        let path = folder.path().join(name);
        let sound = std::fs::read(&path).unwrap();
        write(&path, &apply(&damage, &sound));
        let opened = try_open(folder.path())?;
        let cut = matches!(damage, Damage::Cut(_)) && changes(&damage, &sound);
        prop_assert!(!(opened && cut), "a picture that ends early passed unseen");
    }

    /// The three formats of plain arrays: an error on one line, or every value that the sizes promise.
    #[test]
    fn plain_arrays(damage in damage(), format in 0..3usize) {
        let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let sound = match format {
            0 => npy(&[12, 5], &values),
            1 => common::npz(&[("z".into(), npy(&[12, 5], &values)), ("y".into(), npy(&[12], &[1i64; 12]))], false),
            _ => safetensors(&values),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays");
        write(&path, &apply(&damage, &sound));
        if let Err(error) = read_all(&path) {
            prop_assert!(!error.to_string().contains('\n') && !error.to_string().is_empty(), "{error}");
        }
    }

    /// Bytes that were never a set, under the names of one.
    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in 0..5usize) {
        let magics: [&[u8]; 5] = [b"", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", &[0x1f, 0x8b, 8], &[0, 0, 8, 3]];
        let bytes = [magics[magic], &bytes].concat();
        for name in ["set.npz", "train-images-idx3-ubyte", "data_batch_1.bin", "a/0.png", "a/0.jpg"] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path().join(name), &bytes);
            prop_assert!(!try_open(folder.path())?);
            prop_assert!(!try_open(&folder.path().join(name))?);
        }
    }
}
