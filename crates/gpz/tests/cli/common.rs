//! A place of its own for each test, tiny data, and what every answer must satisfy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Settings with which every network is trained in milliseconds.
const TINY: &str = "resolution = 16\nresamples = 100\n[target.training]\nbatch = 16\n[attack.training]\nbatch = 16\n";
/// The model of the tests.
pub(crate) const MODEL: &str = "cnn4:width=2";
const CLASSES: usize = 3;

/// A temporary directory in which the binary runs.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        Place { dir: TempDir::new().expect("a temporary directory") }
    }

    /// One with `images/` (class folders below train and test) and `tiny.toml`.
    pub(crate) fn with_images() -> Self {
        let place = Self::empty();
        write_class_folders(&place.path("images/train"), 30);
        write_class_folders(&place.path("images/test"), 5);
        place.write("tiny.toml", TINY.as_bytes());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn json_file(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Every file and folder, to see that nothing was left behind.
    pub(crate) fn listing(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, found);
                }
                found.push(path);
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        found.sort();
        found
    }

    /// The command, not yet started. Words are separated by spaces.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gpz"));
        command.args(words.split_whitespace()).current_dir(self.dir.path());
        command
    }

    pub(crate) fn run(&self, words: &str) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    /// What a command that must succeed prints to stdout.
    pub(crate) fn ok(&self, words: &str) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "gpz {words}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The JSON a command that must succeed prints, and nothing else.
    pub(crate) fn json(&self, words: &str) -> Value {
        let text = self.ok(words);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("gpz {words}: {e}: {text}"))
    }

    /// The one line of a command that must be refused with status 2, print nothing to stdout and leave nothing behind.
    pub(crate) fn refused(&self, words: &str) -> String {
        let before = self.listing();
        let line = one_line(&self.run(words), 2, words);
        let after = self.listing();
        let made: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
        assert!(made.is_empty(), "gpz {words} left behind: {made:?}");
        // What a killed process had half written may go.
        let half = |path: &Path| path.extension().is_some_and(|end| end == "partial");
        let lost: Vec<_> = before.iter().filter(|p| !after.contains(p) && !half(p)).collect();
        assert!(lost.is_empty(), "gpz {words} removed: {lost:?}");
        line
    }

    /// Asserts that a refused command's line names all of `parts`.
    pub(crate) fn refused_naming(&self, words: &str, parts: &[&str]) {
        let line = self.refused(words);
        for part in parts {
            assert!(line.contains(part), "gpz {words}: {part:?} is missing in: {line}");
        }
    }

    /// Trains a target for one epoch into `target/`.
    pub(crate) fn train_target(&self) {
        self.ok(&format!(
            "train --config tiny.toml --model {MODEL} --data images --epochs 1 --out target"
        ));
    }
}

/// Checks the form of a failure, and returns its line.
pub(crate) fn one_line(output: &Output, status: i32, words: &str) -> String {
    let errors = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(status), "gpz {words}: {errors}");
    assert!(output.stdout.is_empty(), "gpz {words}: stdout is not empty");
    let line = errors.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "gpz {words}: more than a line: {errors}");
    assert!(line.starts_with("gpz: ") && line.len() > 20, "gpz {words}: {line}");
    line.to_owned()
}

/// A number that depends on nothing but its place: the finaliser of splitmix64.
pub(crate) fn noise(at: u64) -> u64 {
    let mut z = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A grey picture of a class: a bar whose place is the class's, on noise.
pub(crate) fn picture(class: usize, index: usize, side: usize) -> Vec<u8> {
    let pixel = |i: usize| {
        let noise = (noise((index * side * side + i) as u64 ^ (class as u64) << 40) % 90) as u8;
        if (i % side) * CLASSES / side == class { 160 + noise } else { noise }
    };
    (0..side * side).map(pixel).collect()
}

/// Writes a grey PNG.
pub(crate) fn write_png(path: &Path, pixels: &[u8], side: usize) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    let image = image::GrayImage::from_raw(side as u32, side as u32, pixels.to_vec());
    image.expect("as many pixels").save(path).expect("a picture");
}

pub(crate) fn write_class_folders(folder: &Path, per_class: usize) {
    for class in 0..CLASSES {
        for index in 0..per_class {
            let path = folder.join(format!("class{class}/{index:03}.png"));
            // Pictures of different folders differ: the folder's length enters the noise.
            write_png(&path, &picture(class, index + 1000 * per_class, 16), 16);
        }
    }
}

/// The bytes of a NumPy array file.
pub(crate) fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header += &" ".repeat(length - header.len() - 1);
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// The bytes of a NumPy archive.
pub(crate) fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(format!("{name}.npy"), options).expect("an entry");
        archive.write_all(bytes).expect("its bytes");
    }
    archive.finish().expect("an archive").into_inner()
}

/// Little-endian bytes.
pub(crate) fn f64_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Little-endian bytes.
pub(crate) fn i64_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The files of an IDX set: training and test images of 16×16 with their labels.
pub(crate) fn write_idx(place: &Place, folder: &str, train: &[u8], test: &[u8]) {
    for (name, labels) in [("train", train), ("t10k", test)] {
        let images: Vec<u8> = labels
            .iter()
            .enumerate()
            .flat_map(|(i, label)| picture(usize::from(*label), i + 7 * labels.len(), 16))
            .collect();
        place.write(
            &format!("{folder}/{name}-images-idx3-ubyte"),
            &idx(3, &[labels.len(), 16, 16], &images),
        );
        place
            .write(&format!("{folder}/{name}-labels-idx1-ubyte"), &idx(1, &[labels.len()], labels));
    }
}

fn idx(rank: u8, sizes: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, rank];
    bytes.extend(sizes.iter().flat_map(|size| (*size as u32).to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Keys of an object, sorted.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> =
        value.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
    keys.sort_unstable();
    keys
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

pub(crate) fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got} instead of {want}");
}

pub(crate) fn quantity<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let all = stats["estimates"].as_array().expect("estimates");
    all.iter()
        .find(|estimate| estimate["quantity"] == name)
        .unwrap_or_else(|| panic!("{name} in {stats}"))
}
