//! What is read, where in a file it is found, and how it is made to fit.

use std::collections::BTreeMap;

use gpz_nn::checkpoint::{self, Converted, Element, Format, Loaded};
use gpz_nn::{BatchNorm, Conv2d, Error, Linear, Module, Result, module, rng_for};
use gpz_tensor::{Conv2dOptions, DType, Tensor};

use crate::{Net, arange, archive, net, one_tensor, read, refused, values};

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

#[test]
fn mismatches_name_the_mend() {
    let state = read("state.pth");
    let mut other = net();
    other.fc = Linear::new([2, 10], true, &mut rng_for(2, "other", 0)).unwrap();
    let line = state.load(&mut other).unwrap_err().to_string();
    assert_eq!(
        line,
        "the checkpoint is of another network: 2 tensors of another shape: fc.weight is [3, 2] here, the model has [10, 2], fc.bias is [3] \
         here, the model has [10]; the file is of 3 classes, the model of 10: choose data of 3 classes, or give the file a head for 10"
    );
    let rng = &mut rng_for(3, "other", 0);
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
    let mut other = net();
    other.fc = Linear::new([8, 3], true, &mut rng_for(2, "other", 0)).unwrap();
    let line = state.load(&mut other).unwrap_err().to_string();
    assert!(
        line.ends_with("of pictures of another size: choose the resolution it was trained at"),
        "{line}"
    );
    other.fc = Linear::new([2, 10], true, &mut rng_for(2, "other", 0)).unwrap();
    other.conv = Conv2d::new([3, 2], 3, Conv2dOptions::square(1, 0), false, rng).unwrap();
    let line = state.load(&mut other).unwrap_err().to_string();
    assert!(
        line.contains("the file is of grey pictures: choose such data; the file is of 3 classes"),
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
    let mut layer = Linear::new([2, 1], true, &mut rng_for(1, "other", 0))?;
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
