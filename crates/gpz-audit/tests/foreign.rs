//! Features of a network that gpz does not know, attacked from a file.

use std::fs;
use std::path::Path;

use gpz_audit::Result;
use gpz_audit::config::AuditConfig;
use gpz_audit::foreign_run::{
    FileNames, ForeignConfig, ForeignRun, UNKNOWN_MODEL, invert_features,
};
use gpz_audit::inversion_run::{InversionMetrics, METRICS};
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::sweep::{Circumstances, READING};
use gpz_inversion::{Observer, Silent};
use gpz_tensor::Device;

const SIDE: usize = 16;
const PIXELS: usize = SIDE * SIDE;

/// A number in [0, 1) that depends on its place alone.
fn noise(at: usize) -> f32 {
    let mut z = (at as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 27)) >> 40) as f32 / (1u64 << 24) as f32
}

/// 8×8 squares of grey, each of 2×2 pixels: as many free numbers as the feature has.
fn squares(row: usize) -> Vec<f32> {
    (0..PIXELS).map(|i| noise(row * 64 + (i / SIDE / 2) * 8 + i % SIDE / 2)).collect()
}

fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// Writes features and pictures, and returns the configuration that attacks them.
fn stored(folder: &Path, shape: &[usize], z: &[f32], x: &[f32]) -> ForeignConfig {
    let n = shape[0];
    fs::write(folder.join("z.npy"), npy(shape, z)).unwrap();
    fs::write(folder.join("x.npy"), npy(&[n, 1, SIDE, SIDE], x)).unwrap();
    let mut audit = AuditConfig::preset("quick", None).unwrap();
    audit.attack.training.set_epochs(30);
    let path = |name: &str| folder.join(name).display().to_string();
    ForeignConfig {
        key: "z".to_owned(),
        images_key: None,
        labels_key: None,
        lpips_weights: None,
        seed: 3,
        resamples: 100,
        decoder: "per-tap:width=1000".parse().unwrap(),
        from: FileNames { features: path("z.npy"), images: Some(path("x.npy")) },
        test: None,
        training: audit.attack.training,
    }
}

fn attacked(
    folder: &Path,
    config: &ForeignConfig,
    observer: &mut dyn Observer,
) -> Result<InversionMetrics> {
    let dir = RunDir::create(&folder.join("run"))?;
    let circumstances = Circumstances {
        command: "gpz invert".to_owned(),
        device: Device::Cpu,
        threads: 1,
        memory: None,
        cache: None,
        versions: Vec::new(),
    };
    invert_features(config, &dir, &circumstances, observer)
}

/// A feature from which the picture follows, a fixed mixture of its squares over a map of 8×8, is inverted; one that says nothing leaves
/// the mean picture. Both are told by the same figures.
#[test]
fn what_the_feature_says_is_found_and_nothing_else() {
    let n = 400;
    let x: Vec<f32> = (0..n).flat_map(squares).collect();
    // Two channels: the squares turned upside in contrast, and mixed with their neighbours to the right.
    let feature = |row: usize| -> Vec<f32> {
        let square = |y: usize, x: usize| noise(row * 64 + y * 8 + x % 8);
        let map = |f: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..64).map(|i| f(i / 8, i % 8)).collect()
        };
        let mut z = map(&|y, x| 1.0 - 3.0 * square(y, x));
        z.extend(map(&|y, x| square(y, x) - 2.0 * square(y, x + 1)));
        z
    };
    let telling: Vec<f32> = (0..n).flat_map(feature).collect();
    let silent = vec![0.5; n * 128];
    let measure = |z: &[f32]| {
        let folder = tempfile::tempdir().unwrap();
        let config = stored(folder.path(), &[n, 2, 8, 8], z, &x);
        attacked(folder.path(), &config, &mut Silent).unwrap()
    };
    let (told, untold) = (measure(&telling), measure(&silent));
    let mean = told.mean_image.mse_per_element;
    // The variance of a number drawn evenly from [0, 1].
    assert!((mean - 1.0 / 12.0).abs() < 0.004, "{mean}");
    assert!(told.mse_per_element < 0.1 * mean, "{} of {mean}", told.mse_per_element);
    assert!(told.ci.mse_per_element.hi < 0.1 * mean && told.ssim > 0.8, "{told:?}");
    let ratio = untold.mse_per_element / mean;
    assert!((0.9..1.2).contains(&ratio), "{ratio}");
    assert_eq!(untold.mean_image, told.mean_image, "it depends on the pictures alone");
    assert_eq!((told.model.as_str(), told.index, told.n), (UNKNOWN_MODEL, None, n / 5));
    assert_eq!(told.part, "test");
}

/// The same pairs cut by hand give the figures of a test file of its own, whose rows nothing was learnt from; and rows of the attacker's
/// that show its pictures are left out.
#[test]
fn a_test_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let n = 30;
    let x: Vec<f32> = (0..n).flat_map(squares).collect();
    let z: Vec<f32> = (0..n * 128).map(noise).collect();
    let mut config = stored(folder.path(), &[n, 2, 8, 8], &z, &x);
    config.training.set_epochs(1);
    // Rows 4 to 8, of which the attacker has every one, and 12 rows of others.
    let rows: Vec<usize> = (4..9).chain(1000..1012).collect();
    let tests: Vec<f32> = rows.iter().flat_map(|row| squares(*row)).collect();
    fs::write(folder.path().join("xt.npy"), npy(&[17, SIDE, SIDE], &tests)).unwrap();
    fs::write(folder.path().join("zt.npy"), npy(&[17, 2, 8, 8], &z[..17 * 128])).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    config.test = Some(FileNames { features: path("zt.npy"), images: Some(path("xt.npy")) });
    let metrics = attacked(folder.path(), &config, &mut Silent).unwrap();
    assert_eq!(metrics.n, 17);
    let text = fs::read_to_string(folder.path().join("run/run.json")).unwrap();
    let run: ForeignRun = serde_json::from_str(&text).unwrap();
    assert_eq!(run.shared, 5);
    let images: Vec<usize> = run.parts.iter().map(|part| part.images).collect();
    assert_eq!((images[0] + images[1], images[2]), (25, 17));
    assert!(run.notes.iter().any(|note| note.starts_with("5 rows of the attacker's")));
    assert_eq!(run.pictures[0].test_index, 0);
    let grid = image::open(folder.path().join("run/pictures/grid.png")).unwrap().into_luma8();
    let shown = run.pictures.len() as u32;
    assert_eq!(grid.dimensions(), (shown * 18 - 2, 34));
    // The first original stands at the upper left.
    let want = (squares(4)[5] * 255.0).round() as u8;
    assert_eq!(grid.get_pixel(5, 0).0, [want]);
}

/// Asks for a stop after so many steps of a phase.
struct Impatient {
    phase: &'static str,
    now: bool,
    steps: u64,
}

impl Observer for Impatient {
    fn begin(&mut self, phase: &str, _: u64) {
        self.now = phase == self.phase;
    }
    fn advance(&mut self, steps: u64, _: &str) {
        self.steps += if self.now { steps } else { 0 };
    }
    fn stop_requested(&self) -> bool {
        self.steps > 0
    }
}

#[test]
fn a_stop_leaves_nothing() {
    let n = 40;
    let x: Vec<f32> = (0..n).flat_map(squares).collect();
    let z: Vec<f32> = (0..n * 128).map(noise).collect();
    for phase in [READING, "attack", "evaluation"] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = stored(folder.path(), &[n, 2, 8, 8], &z, &x);
        config.training.set_epochs(1);
        let mut observer = Impatient { phase, now: false, steps: 0 };
        let stopped = attacked(folder.path(), &config, &mut observer);
        assert!(stopped.is_err_and(|error| error.is_stop()), "{phase}");
        assert!(!folder.path().join("run").exists(), "{phase}");
    }
}

/// Equal configurations give equal bytes; another seed another cut.
#[test]
fn runs_repeat() {
    let n = 40;
    let x: Vec<f32> = (0..n).flat_map(squares).collect();
    let z: Vec<f32> = (0..n * 128).map(noise).collect();
    let run = |seed: u64| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = stored(folder.path(), &[n, 2, 8, 8], &z, &x);
        config.training.set_epochs(2);
        config.seed = seed;
        attacked(folder.path(), &config, &mut Silent).unwrap();
        let read = |name: &str| fs::read(folder.path().join("run").join(name)).unwrap();
        [read(METRICS), read(&files::decoder_checkpoint("z")), read("pictures/z_000.png")]
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first[0], run(2)[0]);
}
