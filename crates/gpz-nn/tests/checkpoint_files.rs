//! Files of PyTorch and NumPy: what is read and how, what is refused by name, and damage. `checkpoints/make.py` wrote the files.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::rng;
use gpz_nn::checkpoint::{self, Checkpoint, Converted, Element, Format, Loaded};
use gpz_nn::{BatchNorm, Conv2d, Error, Linear, Module, Result, module};
use gpz_tensor::{Conv2dOptions, DType, Tensor};
use proptest::prelude::*;

struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    fc: Linear,
}
module!(Net { "conv" => conv, "norm" => norm, "fc" => fc });

fn net() -> Net {
    let rng = &mut rng(1);
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

/// Fills a network, and asserts that it holds the values of make.py.
fn load(name: &str) -> Loaded {
    let mut net = net();
    let loaded = read(name).load(&mut net).unwrap_or_else(|error| panic!("{name}: {error}"));
    let wanted =
        ["conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"];
    let wanted = wanted.iter().enumerate().chain([(6, &"fc.weight"), (7, &"fc.bias")]);
    let entries: BTreeMap<String, Tensor> =
        net.entries().into_iter().map(|(name, entry)| (name, entry.value().clone())).collect();
    for (k, key) in wanted {
        let values = entries[*key].to_vec::<f64>().unwrap();
        let want: Vec<f64> = (0..values.len()).map(|i| k as f64 + (i % 32) as f64 / 32.0).collect();
        assert_eq!(values, want, "{name}: {key}");
        assert_eq!(entries[*key].dtype(), DType::F32, "{name}: {key}");
    }
    assert_eq!(entries["norm.num_batches_tracked"].item().unwrap(), 7.0, "{name}");
    loaded
}

#[test]
fn state_dicts_of_every_format_and_protocol() {
    let files = ["state.pth", "deflated.pth", "protocol3.pth", "protocol4.pth", "protocol5.pth"];
    for name in files {
        let loaded = load(name);
        assert_eq!((loaded.format, loaded.in_words()), (Format::Torch, None), "{name}");
    }
    let loaded = load("state-legacy.pth");
    assert_eq!((loaded.format, loaded.in_words()), (Format::TorchLegacy, None));
}

#[test]
fn other_element_types_are_converted_and_said() {
    for (name, from) in [
        ("float16.pth", Element::Float16),
        ("bfloat16.pth", Element::BFloat16),
        ("float64.pth", Element::Float64),
    ] {
        let loaded = load(name);
        assert_eq!(loaded.converted, [Converted { tensors: 7, from, to: "float32" }], "{name}");
        let want = format!("7 tensors of {from} converted to float32");
        assert_eq!(loaded.in_words(), Some(want));
    }
    for name in ["dtypes.pth", "dtypes-legacy.pth"] {
        let checkpoint = read(name);
        assert_eq!(checkpoint.tensors().len(), 10, "{name}");
        for (key, tensor) in checkpoint.tensors() {
            let want = if key == "bool" { [0.0, 1.0, 1.0, 1.0] } else { [0.0, 1.0, 100.0, 1.0] };
            assert_eq!(tensor.to_vec::<f64>().unwrap(), want, "{name}: {key}");
            assert_eq!(checkpoint.element(key).map(Element::name), Some(key.as_str()));
        }
    }
}

#[test]
fn weights_among_the_state_of_a_training() {
    let loaded = load("imagenet.pth.tar");
    assert_eq!(
        (&loaded.wrapped_in[..], &*loaded.stripped),
        (&["state_dict".to_owned()][..], "module.")
    );
    assert_eq!(
        loaded.in_words().unwrap(),
        r#"weights under "state_dict", prefix "module." dropped"#
    );
    for name in ["training.pth", "training-legacy.pth"] {
        let loaded = load(name);
        assert_eq!(
            loaded.in_words().unwrap(),
            r#"weights under "model", "model_ema" beside them not used, prefix "_orig_mod.module." dropped, 7 tensors of float16 converted to float32"#,
            "{name}"
        );
    }
}

#[test]
fn views_of_shared_storages() {
    for name in ["views.pth", "views-legacy.pth"] {
        let checkpoint = read(name);
        let base = arange(24);
        assert_eq!(values(&checkpoint, "tied"), (vec![4, 6], base.clone()), "{name}");
        assert_eq!(values(&checkpoint, "rows"), (vec![2, 6], base[6..18].to_vec()), "{name}");
        let transposed: Vec<f64> = (0..24).map(|i| base[i % 4 * 6 + i / 4]).collect();
        assert_eq!(values(&checkpoint, "transposed"), (vec![6, 4], transposed), "{name}");
        let every_other: Vec<f64> = (0..12).map(|i| base[i / 3 * 6 + i % 3 * 2 + 1]).collect();
        assert_eq!(values(&checkpoint, "every_other"), (vec![4, 3], every_other), "{name}");
        assert_eq!(values(&checkpoint, "channels_last"), (vec![1, 2, 3, 4], base), "{name}");
        assert_eq!(values(&checkpoint, "scalar"), (vec![], vec![2.5]), "{name}");
        assert_eq!(values(&checkpoint, "empty"), (vec![0, 3], vec![]), "{name}");
    }
}

#[test]
fn parameters_and_arrays_of_numpy() {
    let checkpoint = read("parameters.pth");
    for name in ["plain", "noted", "tensor"] {
        assert_eq!(values(&checkpoint, name), (vec![3], arange(3)), "{name}");
    }
    for name in ["arrays.pth", "arrays2.pkl", "arrays4.pkl", "arrays5.pkl"] {
        let checkpoint = read(name);
        assert_eq!(checkpoint.wrapped_in(), ["model"], "{name}");
        for key in ["f4", "fortran"] {
            assert_eq!(values(&checkpoint, key), (vec![2, 3], arange(6)), "{name}: {key}");
        }
        for key in ["f2", "i8"] {
            assert_eq!(values(&checkpoint, key), (vec![3], arange(3)), "{name}: {key}");
        }
        assert_eq!(values(&checkpoint, "bytes"), (vec![3], vec![0.0, 128.0, 255.0]), "{name}");
        assert_eq!(values(&checkpoint, "scalar"), (vec![], vec![2.5]), "{name}");
        assert_eq!(values(&checkpoint, "rank0"), (vec![], vec![1.5]), "{name}");
    }
}

#[test]
fn what_would_run_code_is_refused_by_name() {
    for (name, function) in [
        ("calls-system.pth", "os.system"),
        ("calls-system-legacy.pth", "os.system"),
        ("calls-protocol0.pkl", "os.system"),
        ("calls-exec.pth", "builtins.exec"),
        ("calls-eval.pth", "builtins.eval"),
    ] {
        let line = refused(&file(name));
        let want = format!(
            "it wants to call {function}: nothing of it was executed; save the network's state_dict() instead"
        );
        assert_eq!(line, want, "{name}");
    }
    let line = refused(&file("model.pth"));
    assert!(line.contains("a whole network was pickled (__main__.Net)"), "{line}");
    assert!(line.contains("torch.save(model.state_dict(), FILE)"), "{line}");
    let line = refused(&file("object-beside.pth"));
    assert!(line.contains("it holds __main__.Config, which is no data"), "{line}");
    let line = refused(&file("script.pt"));
    assert!(line.contains("a TorchScript program"), "{line}");
}

#[test]
fn tensors_that_are_not_read_are_refused_by_name() {
    for (name, parts) in [
        ("sparse.pth", ["fc.weight is a sparse tensor", "to_dense()"]),
        ("quantised.pth", ["fc.weight is a quantised tensor", "save the float network"]),
        ("complex.pth", ["w is of type", "save it as float32"]),
        ("uint16.pth", ["w is of type uint16", "save it as float32"]),
        ("float8.pth", ["w is of type float8_e4m3fn", "save it as float32"]),
        ("expanded.pth", ["w of shape [4, 3] overlaps itself", "save it again"]),
        ("big-endian-array.pkl", ["w is a big-endian NumPy array", "astype"]),
    ] {
        let line = refused(&file(name));
        assert!(parts.iter().all(|part| line.contains(part)), "{name}: {line}");
    }
}

#[test]
fn files_that_are_no_checkpoints_are_named() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let tar = [&[b'a'; 257][..], b"ustar", &[0; 300]].concat();
    for (bytes, named) in [
        (&b""[..], "it is empty"),
        (lfs, "a Git LFS pointer, not the file itself; run git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<html>\n", "a web page"),
        (b"hello there\nand more", r#"it begins with "hello there"#),
        (b"config = 1\n", "it begins with"),
        (b"(a note)\n", "it begins with"),
        (b"\x1f\x8b\x08\0", "packed with gzip; unpack it first"),
        (&tar, "a tar archive"),
        (b"{\"a\": 1}", "a JSON text"),
        (b"\x10\0\0\0", "it begins with"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "a zip archive without data.pkl"),
        (b"\x80\x02K\x01.", "no mapping of names to tensors"),
        (b"\x80\x02}.", "an empty mapping"),
        (b"\x80\x02}X\x05\0\0\0epochK\x01s.", "a mapping without tensors; its keys are epoch"),
    ] {
        let line = refused(bytes);
        assert!(line.contains(named), "{named:?} is missing in: {line}");
    }
}

/// Keys that tell nobody's weights from another's.
#[test]
fn several_mappings_of_tensors_are_not_guessed_among() {
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let array = b"\x8c\x16numpy._core.multiarray\x8c\x0c_reconstruct\x93)R";
    let inner = [&b"}"[..], &text("w"), array, b"s"].concat();
    let one = [&b"\x80\x04}"[..], &text("generator"), &inner, b"s."].concat();
    // The one mapping of tensors is taken, and its array found malformed.
    assert!(refused(&one).contains("w is a malformed NumPy array"), "{}", refused(&one));
    let two = [&one[..one.len() - 1], &text("critic"), &inner, b"s."].concat();
    assert!(
        refused(&two).contains("several mappings of tensors: critic, generator"),
        "{}",
        refused(&two)
    );
}

/// Before PyTorch 1.6 a network's class was referred to as storages are.
#[test]
fn whole_networks_of_the_old_format() {
    let state = file("state-legacy.pth");
    let pickles: Vec<usize> =
        state.windows(2).enumerate().filter(|(_, w)| w == b"\x80\x02").map(|(at, _)| at).collect();
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let class = [
        &b"("[..],
        &text("module"),
        b"c__main__\nNet\n",
        &text("net.py"),
        &text("class Net: ..."),
        b"tQ",
    ]
    .concat();
    let object = [&b"\x80\x02"[..], &class, b")\x81}b."].concat();
    let whole = [&state[..pickles[3]], &object[..], b"\x80\x02]."].concat();
    let line = refused(&whole);
    assert!(line.contains("a whole network was pickled (__main__.Net)"), "{line}");
}

#[test]
fn big_endian_files_are_refused_by_name() {
    let mut state = file("state-legacy.pth");
    let at = state.windows(13).position(|w| w == b"little_endian").unwrap();
    let flag = at + state[at..].iter().position(|b| *b == 0x88).unwrap();
    state[flag] = 0x89;
    assert!(refused(&state).contains("a big-endian file; load it with torch.load"));
    let bytes = archive(&[("byteorder", b"big"), ("data.pkl", b"\x80\x02}.")]);
    assert!(refused(&bytes).contains("a big-endian file; load it with torch.load"));
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

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let data: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let with = |pickle: &[u8]| archive(&[("data.pkl", pickle), ("data/0", &data)]);
    let [zero, one, two, three, six] =
        [b"K\0", b"K\x01", b"K\x02", b"K\x03", b"K\x06"].map(|b| &b[..]);
    let huge = &b"\x8a\x08\0\0\0\0\0\0\0\x40"[..]; // 2^62
    let (minus, wide) = (&b"J\xff\xff\xff\xff"[..], &b"\x8a\x09\0\0\0\0\0\0\0\0\x01"[..]);
    let sound = one_tensor(six, zero, &[two, three], &[three, one]);
    let read = checkpoint::read(&with(&sound)).unwrap();
    assert_eq!(values(&read, "w"), (vec![2, 3], arange(6)));
    for (pickle, named) in [
        (
            one_tensor(six, one, &[two, three], &[three, one]),
            "reaches beyond its storage of 6 values",
        ),
        (one_tensor(six, zero, &[three, three], &[three, one]), "reaches beyond its storage"),
        (one_tensor(six, zero, &[two, three], &[six, one]), "reaches beyond its storage"),
        (one_tensor(six, zero, &[two, three], &[one, one]), "overlaps itself"),
        (one_tensor(six, zero, &[two, three], &[zero, one]), "overlaps itself"),
        (one_tensor(six, zero, &[huge], &[one]), "larger than the file"),
        (one_tensor(six, zero, &[huge, huge], &[one, one]), "larger than the file"),
        (one_tensor(huge, zero, &[huge], &[one]), "w is a malformed tensor"),
        (one_tensor(six, huge, &[two], &[one]), "reaches beyond"),
        (one_tensor(six, zero, &[two], &[huge]), "reaches beyond"),
        (one_tensor(six, zero, &[zero, huge, huge], &[one, one, one]), "larger than the file"),
        (one_tensor(six, minus, &[two], &[one]), "a negative size, stride or offset"),
        (one_tensor(six, zero, &[minus], &[one]), "a negative size"),
        (one_tensor(six, zero, &[two], &[minus]), "a negative size"),
        (one_tensor(six, zero, &[wide], &[one]), "a negative size"),
        (one_tensor(six, zero, &[two], &[one, one]), "1 sizes and 2 strides"),
        (one_tensor(six, zero, &[one; 7], &[one; 7]), "has 7 axes"),
        (one_tensor(three, zero, &[two], &[one]), "storage 0 has 24 bytes instead of 12"),
    ] {
        let line = refused(&with(&pickle));
        assert!(line.contains(named), "{named:?} is missing in: {line}");
    }
    let line = refused(&archive(&[("data.pkl", &sound)]));
    assert!(line.contains("storage 0 is not there"), "{line}");
}

/// Mappings within mappings, and an ordered one as Python 2 writes it: a list of pairs, its strings without an encoding.
#[test]
fn weights_are_found_wherever_scripts_put_them() {
    let data: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let whole = one_tensor(b"K\x06", b"K\0", &[b"K\x06"], &[b"K\x01"]);
    let tensor = &whole[b"\x80\x02}X\x01\0\0\0w".len()..whole.len() - 2];
    let key = |key: &str| [&b"U"[..], &[key.len() as u8], key.as_bytes()].concat();
    let holding = |name: &str, value: &[u8]| [&b"}"[..], &key(name), value, b"s"].concat();
    let dict = holding("w", tensor);
    let ordered =
        [&b"ccollections\nOrderedDict\n]]"[..], &key("w"), b"a", tensor, b"aa\x85R"].concat();
    let beside =
        |inner: &[u8]| [inner, &key("ema")[..], &dict, b"s", &key("best"), tensor, b"s"].concat();
    for (root, wrapped_in, said) in [
        (dict.clone(), &[][..], None),
        (ordered.clone(), &[], None),
        (holding("net", &ordered), &["net"], Some(r#"weights under "net""#)),
        (holding("own name", &dict), &["own name"], Some(r#"weights under "own name""#)),
        (
            holding("model", &holding("state_dict", &dict)),
            &["model", "state_dict"],
            Some(r#"weights under "state_dict" in "model""#),
        ),
        (
            beside(&holding("state_dict", &dict)),
            &["state_dict"],
            Some(r#"weights under "state_dict", "ema" beside them not used"#),
        ),
    ] {
        let pickle = [&b"\x80\x02"[..], &root, b"."].concat();
        let checkpoint =
            checkpoint::read(&archive(&[("data.pkl", &pickle), ("data/0", &data)])).unwrap();
        assert_eq!(checkpoint.wrapped_in(), wrapped_in);
        assert_eq!(values(&checkpoint, "w"), (vec![6], arange(6)));
        let mut six = Six(gpz_nn::Entry::parameter(Tensor::zeros(&[6], DType::F32).unwrap()));
        assert_eq!(checkpoint.load(&mut six).unwrap().in_words().as_deref(), said);
        assert_eq!(six.0.value().to_vec::<f64>().unwrap(), arange(6));
    }
    // What is deeper than anybody's is not looked for, nor does a circle keep the search busy.
    let deep = ["model"; 9].iter().fold(dict, |inner, name| holding(name, &inner));
    let circle = [
        &b"}q\0"[..],
        &["net", "model", "state"].map(|name| [&key(name)[..], b"h\0s"].concat()).concat(),
    ]
    .concat();
    for root in [deep, circle] {
        let pickle = [&b"\x80\x02"[..], &root, b"."].concat();
        let line = refused(&archive(&[("data.pkl", &pickle), ("data/0", &data)]));
        assert!(line.contains("a mapping without tensors; its keys are"), "{line}");
    }
}

struct Six(gpz_nn::Entry);
module!(Six { "w" => 0 });

/// A thousand names for one tensor, and a packed storage of zeros: little to send, much to hold.
#[test]
fn files_that_swell_are_refused() {
    let zeros = vec![0u8; 4 << 20];
    let len = [&b"J"[..], &(1u32 << 20).to_le_bytes()].concat();
    let pickle = one_tensor(&len, b"K\0", &[&len], &[b"K\x01"]);
    let bytes =
        packed(&[("data.pkl", &pickle), ("data/0", &zeros)], zip::CompressionMethod::Deflated);
    assert!(bytes.len() < 10_000);
    let line = refused(&bytes);
    assert!(line.contains("unpacks to more than 4 times the file's size"), "{line}");

    let start = b"\x80\x02}X\x01\0\0\0w".len();
    let tensor = &pickle[start..pickle.len() - 2];
    let mut many = [&b"\x80\x02}X\x01\0\0\0w"[..], tensor, b"q\x01s"].concat();
    for i in 0..1000u32 {
        many.extend([&b"X\x04\0\0\0"[..], format!("{i:04}").as_bytes(), b"h\x01s"].concat());
    }
    many.push(b'.');
    let line = refused(&archive(&[("data.pkl", &many), ("data/0", &zeros)]));
    assert!(line.contains("larger than the file can hold"), "{line}");
}

#[test]
fn hostile_pickles_end_in_an_error() {
    let deep = [&b"\x80\x02"[..], &vec![b'('; 1 << 16], &vec![b't'; 1 << 16], b"."].concat();
    // A list that holds itself, under a name.
    let circular = b"\x80\x02}q\0X\x05\0\0\0modelh\0s.".to_vec();
    let named_long =
        [&b"\x80\x02}X"[..], &(1u32 << 20).to_le_bytes(), &vec![b'a'; 1 << 20], b"Ns."].concat();
    for pickle in [
        deep,
        circular,
        named_long,
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), // a text of 2^63 bytes
        b"\x80\x05\x96\0\0\0\0\0\0\0\x40".to_vec(),               // a byte array of 2^62 bytes
        b"\x80\x02\x8b\xff\xff\xff\x7f".to_vec(),
        b"\x80\x02t.".to_vec(),
        b"\x80\x02R.".to_vec(),
        b"\x80\x02(0000.".to_vec(),
        b"\x80\x02]K\x01K\x02u.".to_vec(),
        b"\x80\x02(K\x01d.".to_vec(),
        b"\x80\x02h\x07.".to_vec(),
        b"\x80\x02q\x07.".to_vec(),
        b"\x80\x04K\x01K\x02\x93.".to_vec(),
        b"\x80\x02K\x01}b.".to_vec(),
        b"\x80\x02\x82\x01.".to_vec(),
        b"\x80\x05\x97.".to_vec(),
        b"\x80\x02\xff.".to_vec(),
        b"\x80\x02.".to_vec(),
        b"\x80\x02(o.".to_vec(),
        b"\x80\x02X\x01\0\0\0\xff.".to_vec(),
        [&b"\x80\x02"[..], &vec![b'N'; 3 << 20]].concat(),
        [&b"\x80\x02N"[..], &vec![b'2'; 3 << 20]].concat(),
        [&b"\x80\x02"[..], &vec![b'('; 3 << 20]].concat(),
    ] {
        refused(&pickle);
        refused(&archive(&[("data.pkl", &pickle)]));
    }
}

#[test]
fn mismatches_name_the_mend() {
    let state = read("state.pth");
    let mut other = net();
    other.fc = Linear::new([2, 10], true, &mut rng(2)).unwrap();
    let line = state.load(&mut other).unwrap_err().to_string();
    assert_eq!(
        line,
        "the checkpoint is of another network: 2 tensors of another shape: fc.weight is [3, 2] here, the model has [10, 2], fc.bias is [3] \
         here, the model has [10]; the file is of 3 classes, the model of 10: choose data of 3 classes, or give the file a head for 10"
    );
    let rng = &mut rng(3);
    let mut wide = Net {
        conv: Conv2d::new([1, 4], 3, Conv2dOptions::square(1, 0), false, rng).unwrap(),
        norm: BatchNorm::new(4).unwrap(),
        fc: Linear::new([4, 3], true, rng).unwrap(),
    };
    let line = state.load(&mut wide).unwrap_err().to_string();
    assert!(
        line.contains("6 tensors of another shape: conv.weight is [2, 1, 3, 3] here"),
        "{line}"
    );
    assert!(
        line.ends_with(
            "the file's layers have 1/2 of the model's width: choose the model's width to match"
        ),
        "{line}"
    );
    let line = read("views.pth").load(&mut net()).unwrap_err().to_string();
    assert!(
        line.contains(
            "7 keys missing: conv.weight, norm.weight, norm.bias and 4 more; 7 keys unexpected"
        ),
        "{line}"
    );
}

#[test]
fn integers_are_no_weights_and_some_names_may_be_spare() -> Result<()> {
    let float = |value: f64, shape: &[usize]| Tensor::full(shape, value, DType::F32).unwrap();
    let tensors = [
        ("weight".to_owned(), float(2.0, &[1, 2])),
        ("bias".to_owned(), float(1.0, &[1])),
        ("aux.weight".to_owned(), float(3.0, &[4])),
    ];
    let tensors = tensors.map(|(name, tensor)| (format!("module.{name}"), tensor));
    let file = checkpoint::read(&checkpoint::to_safetensors(&tensors, None)?)?;
    let mut layer = Linear::new([2, 1], true, &mut rng(1))?;
    let line = file.load(&mut layer).unwrap_err().to_string();
    assert!(line.contains("1 key unexpected: aux.weight;"), "{line}");
    let loaded = file.load_except(&mut layer, &|name| name.starts_with("aux."))?;
    assert_eq!((loaded.format, &*loaded.stripped), (Format::Safetensors, "module."));
    assert_eq!(loaded.in_words().unwrap(), r#"prefix "module." dropped, "aux.weight" left out"#);
    assert_eq!(layer.weight.value().to_vec::<f64>().unwrap(), [2.0, 2.0]);

    let line = read("dtypes.pth").load(&mut Bytes(layer.bias.take().unwrap())).unwrap_err();
    assert!(matches!(line, Error::Mismatch { .. }), "{line}");
    let mut spare = Bytes(gpz_nn::Entry::parameter(float(0.0, &[4])));
    let line = read("dtypes.pth").load_except(&mut spare, &|_| true).unwrap_err().to_string();
    assert!(
        line.contains("uint8 is of type uint8, where the model has floats; save the float network"),
        "{line}"
    );
    Ok(())
}

struct Bytes(gpz_nn::Entry);
module!(Bytes { "uint8" => 0 });

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
