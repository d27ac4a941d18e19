//! Files cut short, files with flipped bytes, programs of random instructions.

use std::path::PathBuf;

use gpz_nn::checkpoint;
use proptest::prelude::*;

use crate::{archive, file, net};

/// Every file beside the script, in the order of their names.
fn all() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.unwrap()).collect();
    names.retain(|name| name != "make.py");
    names.sort();
    names.into_iter().map(|name| (name.clone(), file(&name))).collect()
}

/// The entries of an archive; a pickle alone for another file.
fn parts(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    use std::io::Read;
    let Ok(mut zip) = zip::ZipArchive::new(std::io::Cursor::new(bytes)) else {
        return vec![("data.pkl".to_owned(), bytes.to_vec())];
    };
    let mut entries = Vec::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).unwrap();
        let name = entry.name().unwrap().split_once('/').unwrap().1.to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        entries.push((name, bytes));
    }
    entries
}

/// What a damaged file is: an error in one line, or tensors.
fn survives(bytes: &[u8]) {
    match checkpoint::read(bytes) {
        Ok(checkpoint) => {
            let _ = checkpoint.load(&mut net());
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

#[test]
fn every_truncation_is_an_error() {
    for (name, bytes) in all() {
        // The last entries of an archive, and what follows a pickle, are in nobody's way; all that is read is.
        for len in 0..bytes.len() {
            let Ok(_) = checkpoint::read(&bytes[..len]) else { continue };
            panic!("{len} of {} bytes of {name} were read", bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Damage is an error or other tensors, never a panic and never a long wait.
    #[test]
    fn damaged_files_never_panic(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let files = all();
        let (_, mut bytes) = files[which.index(files.len())].clone();
        for (at, value) in &flips {
            let len = bytes.len();
            bytes[at.index(len)] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }

    /// The same inside of an archive whose checksums are right.
    #[test]
    fn damaged_pickles_never_panic(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let files = all();
        let mut parts = parts(&files[which.index(files.len())].1);
        for (name, bytes) in &mut parts {
            if name == "data.pkl" {
                for (at, value) in &flips {
                    let len = bytes.len();
                    bytes[at.index(len)] = *value;
                }
            }
        }
        let parts: Vec<(&str, &[u8])> = parts.iter().map(|(n, b)| (&**n, &b[..])).collect();
        survives(&archive(&parts));
    }

    /// Instructions in any order.
    #[test]
    fn random_programs_never_panic(program in prop::collection::vec(prop::sample::select(PROGRAM.to_vec()), 0..60)) {
        let pickle = [&b"\x80\x04"[..], &program.concat(), b"."].concat();
        survives(&pickle);
        survives(&archive(&[("data.pkl", &pickle), ("data/0", &[0; 24])]));
    }
}

/// Instructions, texts and names.
const PROGRAM: [&[u8]; 40] = [
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"t",
    b"l",
    b"d",
    b"e",
    b"u",
    b"s",
    b"a",
    b"R",
    b"b",
    b"Q",
    b"0",
    b"1",
    b"2",
    b"\x81",
    b"\x85",
    b"\x86",
    b"\x87",
    b"\x89",
    b"\x93",
    b"\x94",
    b"h\0",
    b"h\x01",
    b"q\x01",
    b"K\0",
    b"K\x06",
    b"J\xff\xff\xff\xff",
    b"X\x01\0\0\x000",
    b"X\x07\0\0\0storage",
    b"X\x05\0\0\0model",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
];
