//! Checkpoints: round trips, other writers' dtypes, files of other networks and damaged files.

mod common;

use std::collections::BTreeMap;

use common::{rng, uniform};
use gpz_nn::{BatchNorm, Conv2d, Error, Linear, Module, Result, checkpoint, module};
use gpz_tensor::{Conv2dOptions, DType, Tensor};
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

struct Network {
    blocks: Vec<(Conv2d, BatchNorm)>,
    head: Linear,
}

/// Blocks are numbered and their parts have names.
impl Module for Network {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a gpz_nn::Entry)) {
        for (i, (conv, norm)) in self.blocks.iter().enumerate() {
            let block = gpz_nn::join(prefix, &format!("blocks.{i}"));
            conv.visit(&gpz_nn::join(&block, "conv"), f);
            norm.visit(&gpz_nn::join(&block, "norm"), f);
        }
        self.head.visit(&gpz_nn::join(prefix, "head"), f);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut gpz_nn::Entry)) {
        for (i, (conv, norm)) in self.blocks.iter_mut().enumerate() {
            let block = gpz_nn::join(prefix, &format!("blocks.{i}"));
            conv.visit_mut(&gpz_nn::join(&block, "conv"), f);
            norm.visit_mut(&gpz_nn::join(&block, "norm"), f);
        }
        self.head.visit_mut(&gpz_nn::join(prefix, "head"), f);
    }
}

struct Wrapped(Network);
module!(Wrapped { "" => 0 });

fn network(seed: u64) -> Result<Network> {
    let rng = &mut rng(seed);
    let mut block = |from, to| -> Result<(Conv2d, BatchNorm)> {
        let conv = Conv2d::new([from, to], 3, Conv2dOptions::square(1, 1), false, rng)?;
        Ok((conv, BatchNorm::new(to)?))
    };
    let blocks = vec![block(1, 2)?, block(2, 3)?];
    Ok(Network { blocks, head: Linear::new([3, 2], true, rng)? })
}

fn values(module: &dyn Module) -> Vec<(String, DType, Vec<usize>, Vec<u64>)> {
    let of = |t: &Tensor| t.to_vec::<f64>().unwrap().iter().map(|v| v.to_bits()).collect();
    let entries = module.entries().into_iter();
    entries
        .map(|(n, e)| (n, e.value().dtype(), e.value().shape().to_vec(), of(e.value())))
        .collect()
}

#[test]
fn a_network_comes_back_bit_for_bit_under_pytorch_s_names() -> Result<()> {
    let mut saved = network(1)?;
    *saved.blocks[0].1.num_batches_tracked.value_mut() = Tensor::scalar(123_456.0, DType::F64);
    *saved.blocks[1].1.running_mean.value_mut() =
        uniform(&mut rng(2), &[3], -1.0..1.0).to_dtype(DType::F32).unwrap();
    // A weight that lies otherwise in memory is saved in row-major order all the same.
    let weight = saved.blocks[1].0.weight.value_mut();
    *weight = weight.channels_last()?;
    let bytes = checkpoint::save(&saved, Some(r#"{"width": 2}"#))?;
    let (tensors, metadata) = checkpoint::from_safetensors(&bytes)?;
    assert_eq!(metadata.as_deref(), Some(r#"{"width": 2}"#));
    let mut loaded = network(3)?;
    assert_ne!(values(&loaded), values(&saved));
    checkpoint::load(&mut loaded, &tensors)?;
    assert_eq!(values(&loaded), values(&saved));
    assert_eq!(checkpoint::save(&loaded, Some(r#"{"width": 2}"#))?, bytes, "the same bytes again");
    let mut wrapped = Wrapped(network(4)?);
    checkpoint::load(&mut wrapped, &tensors)?;
    assert_eq!(values(&wrapped), values(&saved), "an empty name passes the inner names on");

    let file = SafeTensors::deserialize(&bytes).unwrap();
    let counter = file.tensor("blocks.0.norm.num_batches_tracked").unwrap();
    assert_eq!((counter.dtype(), counter.shape()), (Dtype::I64, &[][..]));
    assert_eq!(counter.data(), 123_456i64.to_le_bytes());
    let weight = file.tensor("blocks.1.conv.weight").unwrap();
    assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[3, 2, 3, 3][..]));
    Ok(())
}

#[test]
fn named_tensors_come_back_in_their_dtype() -> Result<()> {
    let rng = &mut rng(5);
    let wide = uniform(rng, &[2, 3, 4], -1.0..1.0).affine(1.0 / 3.0, 0.0).unwrap();
    let tensors = [
        ("wide".to_owned(), wide.clone()),
        ("narrow".to_owned(), wide.permute(&[2, 0, 1])?.to_dtype(DType::F32).unwrap()),
        ("empty".to_owned(), Tensor::zeros(&[0, 3], DType::F32)?),
        ("scalar".to_owned(), Tensor::scalar(-0.0, DType::F64)),
        ("odd".to_owned(), Tensor::from_slice(&[f64::NAN, f64::INFINITY, 5e-324], &[3])?),
    ];
    let (back, metadata) =
        checkpoint::from_safetensors(&checkpoint::to_safetensors(&tensors, None)?)?;
    assert_eq!((back.len(), metadata), (tensors.len(), None));
    for (name, tensor) in &tensors {
        let other = &back[name];
        assert_eq!((other.dtype(), other.shape()), (tensor.dtype(), tensor.shape()), "{name}");
        let bits =
            |t: &Tensor| t.to_vec::<f64>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(other), bits(tensor), "{name}");
    }
    let twice = [tensors[0].clone(), tensors[0].clone()];
    let text = checkpoint::to_safetensors(&twice, None).unwrap_err().to_string();
    assert!(text.contains("two tensors are called wide"), "{text}");
    Ok(())
}

/// Takes so many bytes and fails then.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(std::io::Error::other("full")) } else { Ok(taken) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is written tensor by tensor is what the format's own library writes, and is read tensor by tensor; a file that ends early, goes on,
/// or promises more than memory holds is refused, and so is a disk that is full at any byte.
#[test]
fn files_are_written_and_read_in_pieces() -> Result<()> {
    let long: Vec<f32> = (0..50_000).map(|i| (i as f32).sin()).collect();
    let tensors = [
        ("b".to_owned(), Tensor::from_slice(&long, &[50, 1000])?),
        ("a".to_owned(), Tensor::from_slice(&[1.5f64, -0.0], &[2])?),
        ("c".to_owned(), Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], &[2, 2])?.permute(&[1, 0])?),
    ];
    let bytes = checkpoint::to_safetensors(&tensors, None)?;
    let le = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let wide = [1.5f64, -0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let want = file(&[
        ("b", Dtype::F32, &[50, 1000], le(&long)),
        ("a", Dtype::F64, &[2], wide),
        ("c", Dtype::F32, &[2, 2], le(&[1.0, 3.0, 2.0, 4.0])),
    ]);
    assert!(bytes == want, "the library writes other bytes");
    let (back, metadata) = checkpoint::read_safetensors(&mut &bytes[..])?;
    assert_eq!((back.len(), metadata), (3, None));
    assert_eq!(back["b"].to_vec::<f32>()?, long);
    assert_eq!(back["c"].to_vec::<f32>()?, [1.0, 3.0, 2.0, 4.0]);
    for cut in [0, 7, 8, 60, bytes.len() - 1] {
        let refused = checkpoint::read_safetensors(&mut &bytes[..cut]);
        assert!(matches!(refused, Err(Error::Format { .. })), "{cut} bytes");
        let full = checkpoint::write_safetensors(&tensors, None, &mut Full(cut));
        assert!(matches!(full, Err(Error::Write(_))), "{cut} bytes");
    }
    let more = [&bytes[..], &[0]].concat();
    let error = checkpoint::read_safetensors(&mut &more[..]).expect_err("a byte too many");
    assert!(error.to_string().contains("goes on after its last tensor"), "{error}");
    let huge = r#"{"a":{"dtype":"F32","shape":[1152921504606846975],"data_offsets":[0,4611686018427387900]}}"#;
    let promises = [&(huge.len() as u64).to_le_bytes()[..], huge.as_bytes(), &[0; 64]].concat();
    assert!(checkpoint::read_safetensors(&mut &promises[..]).is_err());
    let header_alone = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(checkpoint::read_safetensors(&mut &header_alone[..]).is_err());
    Ok(())
}

fn file(entries: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views: BTreeMap<&str, TensorView<'_>> = entries
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn sixteen_bit_floats_and_integers_are_converted() -> Result<()> {
    let numbers = [0.1f32, -65504.0, 1e-7, f32::INFINITY, 1.0];
    let bytes = file(&[
        (
            "half",
            Dtype::F16,
            &[5],
            numbers.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        ),
        (
            "brain",
            Dtype::BF16,
            &[5],
            numbers.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        ),
        (
            "count",
            Dtype::I64,
            &[2],
            [-7i64, 1 << 40].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ),
    ]);
    let (tensors, _) = checkpoint::from_safetensors(&bytes)?;
    assert_eq!(
        tensors["half"].to_vec::<f32>().unwrap(),
        numbers.map(|v| f16::from_f32(v).to_f32())
    );
    assert_eq!(
        tensors["brain"].to_vec::<f32>().unwrap(),
        numbers.map(|v| bf16::from_f32(v).to_f32())
    );
    assert_eq!(tensors["half"].dtype(), DType::F32);
    assert_eq!(tensors["count"].to_vec::<f64>().unwrap(), [-7.0, (1u64 << 40) as f64]);

    // A network takes what a file holds in its own dtype.
    let mut layer = Linear::new([2, 1], true, &mut rng(6))?;
    let halves = |v: &[f32]| v.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    let bytes = file(&[
        ("weight", Dtype::F16, &[1, 2], halves(&[0.5, -2.0])),
        ("bias", Dtype::F64, &[1], 0.1f64.to_le_bytes().to_vec()),
    ]);
    checkpoint::load(&mut layer, &checkpoint::from_safetensors(&bytes)?.0)?;
    assert_eq!(layer.weight.value().to_vec::<f32>().unwrap(), [0.5, -2.0]);
    let bias = layer.bias.as_ref().unwrap().value();
    assert_eq!((bias.dtype(), bias.to_vec::<f32>().unwrap()), (DType::F32, vec![0.1]));

    let text = checkpoint::from_safetensors(&file(&[("mask", Dtype::U16, &[1], vec![0, 1])]))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("mask is of type U16; floats of 16, 32 or 64 bits and integers are read"),
        "{text}"
    );
    let deep = file(&[("deep", Dtype::F32, &[1; 7], vec![0; 4])]);
    assert!(checkpoint::from_safetensors(&deep).is_err(), "more axes than a tensor has");
    Ok(())
}

#[test]
fn files_of_other_networks_are_refused_key_by_key() -> Result<()> {
    let (mut tensors, _) = checkpoint::from_safetensors(&checkpoint::save(&network(1)?, None)?)?;
    let mut other = network(2)?;
    let before = values(&other);
    // Counters may be missing: files of inference weights leave them out.
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    checkpoint::load(&mut other, &tensors)?;
    let mut other = network(2)?;
    tensors.remove("head.bias");
    tensors.insert("extra".to_owned(), Tensor::scalar(0.0, DType::F32));
    tensors.insert("head.weight".to_owned(), Tensor::zeros(&[2, 4], DType::F32)?);
    let error = checkpoint::load(&mut other, &tensors).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint is of another network: 1 key missing: head.bias; 1 key unexpected: extra; 1 tensor of another shape: head.weight is \
         [2, 4] here, the model has [2, 3]; check the model's name and parameters"
    );
    assert_eq!(values(&other), before, "a refused file changes nothing");
    let error = checkpoint::load(&mut other, &BTreeMap::new()).unwrap_err();
    let Error::Mismatch { missing, .. } = &error else { panic!("{error}") };
    assert_eq!(missing.len(), 12);
    let text = error.to_string();
    let want = "12 keys missing: blocks.0.conv.weight, blocks.0.norm.weight, blocks.0.norm.bias and 9 more;";
    assert!(text.contains(want), "{text}");
    Ok(())
}

fn sound() -> Vec<u8> {
    checkpoint::save(&network(1).unwrap(), Some("{}")).unwrap()
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sound();
    for len in 0..bytes.len() {
        let text = match checkpoint::from_safetensors(&bytes[..len]) {
            Ok(_) => panic!("{len} of {} bytes were read", bytes.len()),
            Err(error) => error.to_string(),
        };
        assert!(text.starts_with("not a readable safetensors file: "), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Damage is an error or another set of tensors, never a panic.
    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = sound();
        for (at, value) in flips {
            // Most of the file is numbers, most of what can break is the header.
            let len = bytes.len();
            let end = if value % 4 == 0 { len } else { len.min(1000) };
            bytes[at.index(end)] ^= value;
        }
        if let Ok((tensors, _)) = checkpoint::from_safetensors(&bytes) {
            let mut other = network(2).unwrap();
            if checkpoint::load(&mut other, &tensors).is_ok() {
                prop_assert_eq!(other.entries().len(), network(2).unwrap().entries().len());
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), header in 0u64..300) {
        prop_assert!(checkpoint::from_safetensors(&bytes).is_err());
        let framed = [&header.to_le_bytes()[..], &bytes].concat();
        prop_assert!(checkpoint::from_safetensors(&framed).is_err());
    }
}
