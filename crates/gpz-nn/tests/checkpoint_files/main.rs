//! Files of PyTorch and NumPy: what is read and how, what is refused by name, and damage. `checkpoints/make.py` wrote the files.

mod damage;
mod reading;
mod refusing;

use std::path::PathBuf;

use gpz_nn::checkpoint::{self, Checkpoint};
use gpz_nn::{BatchNorm, Conv2d, Linear, module, rng_for};
use gpz_tensor::Conv2dOptions;

struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    fc: Linear,
}
module!(Net { "conv" => conv, "norm" => norm, "fc" => fc });

fn net() -> Net {
    let rng = &mut rng_for(1, "net", 0);
    Net {
        conv: Conv2d::new([1, 2], 3, Conv2dOptions::square(1, 0), false, rng).unwrap(),
        norm: BatchNorm::new(2).unwrap(),
        fc: Linear::new([2, 3], true, rng).unwrap(),
    }
}

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read(name: &str) -> Checkpoint {
    checkpoint::read(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The one line of a refused file.
fn refused(bytes: &[u8]) -> String {
    let error = checkpoint::read(bytes).expect_err("a file that is refused");
    let line = error.to_string();
    assert!(!line.contains('\n') && line.len() < 500, "{line}");
    line
}

fn values(checkpoint: &Checkpoint, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = &checkpoint.tensors()[name];
    (tensor.shape().to_vec(), tensor.to_vec::<f64>().unwrap())
}

fn arange(n: usize) -> Vec<f64> {
    (0..n).map(|i| i as f64).collect()
}

/// An archive as torch.save writes it, of entries that are not packed.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    packed(entries, zip::CompressionMethod::Stored)
}

fn packed(entries: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A pickle of `{"w": tensor}` over storage 0 of `len` floats, with integers as their instructions.
fn one_tensor(len: &[u8], offset: &[u8], shape: &[&[u8]], strides: &[&[u8]]) -> Vec<u8> {
    let tuple = |items: &[&[u8]]| [&b"("[..], &items.concat(), b"t"].concat();
    [
        &b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"[..],
        len,
        b"tQ",
        offset,
        &tuple(shape),
        &tuple(strides),
        b"\x89}tRs.",
    ]
    .concat()
}
