//! Networks and decoders against reference values of an independent implementation, in f64 and f32, and on a GPU where there is one.
//!
//! The cases lie in `parity/`, or where `GPZ_PARITY_DIR` says. In f64 every sampled value is within 1e-8 of its entry's largest magnitude. In
//! f32 the bounds follow from how far a run of the reference implementation in f32 strays, as the cases note it.
//!
//! An activation whose argument is zero but for rounding falls on either side of its kink, and then a gradient differs by much more than
//! rounding. Whether it did in the reference's one run is chance. Where a value is beyond its bound, the case is therefore also run in f64 with
//! input and weights off by a rounding of f32, a few times: a value may stray twice as far as it does there, for that is what the network does
//! to any rounding.

#[path = "parity_cases/decoders.rs"]
mod decoders;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gpz_inversion::Decoder;
use gpz_models::{ModelSpec, Target};
use gpz_nn::{Kind, Labels, Module, Optimizer, Rule, Step, Tape, Var, loss, rng_for};
use gpz_tensor::{DType, Device, Tensor, cuda};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// `value(name, i)` of the cases: SplitMix64 seeded with FNV-1a of the name, 24 bits of it as a fraction.
fn fractions(salt: &str, name: &str) -> impl Fn(usize) -> f64 + use<> {
    let hash = salt
        .bytes()
        .chain(name.bytes())
        .fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    move |i| {
        let mut x = hash.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        (x >> 40) as f64 / 16_777_216.0
    }
}

/// Rounded to f32, as the cases' authors did.
fn filled(salt: &str, name: &str, shape: &[usize], rule: impl Fn(f64) -> f64) -> Fallible<Tensor> {
    let fraction = fractions(salt, name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| rule(fraction(i)) as f32).collect();
    Ok(Tensor::from_slice(&values, shape)?)
}

fn entry_value(salt: &str, name: &str, shape: &[usize]) -> Fallible<Tensor> {
    let n: usize = shape.iter().product();
    let last = name.rsplit('.').next().unwrap_or(name);
    filled(salt, name, shape, |u| match last {
        "running_var" => 0.5 + u,
        "cls_token" | "pos_embed" => 0.02 * (2.0 * u - 1.0),
        _ if last == "running_mean" || last.ends_with("bias") => 0.1 * (2.0 * u - 1.0),
        _ if shape.len() >= 2 => (2.0 * u - 1.0) * (3.0 / (n as f64 / shape[0] as f64)).sqrt(),
        _ => 0.25 + 0.5 * u,
    })
}

/// What a case is built into.
enum Network {
    Target(Box<dyn Target>),
    Decoder(Box<Decoder>),
}

impl Network {
    fn module(&self) -> &dyn Module {
        match self {
            Network::Target(target) => &**target,
            Network::Decoder(decoder) => &**decoder,
        }
    }

    fn module_mut(&mut self) -> &mut dyn Module {
        match self {
            Network::Target(target) => &mut **target,
            Network::Decoder(decoder) => &mut **decoder,
        }
    }
}

struct Case {
    json: Value,
    name: String,
    salt: String,
}

impl Case {
    fn read(path: &Path) -> Fallible<Self> {
        let json: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let name = json["case"].as_str().ok_or("a case has a name")?.to_owned();
        let salt = json["salt"].as_str().unwrap_or_default().to_owned();
        Ok(Case { json, name, salt })
    }

    fn size(&self, key: &str) -> Fallible<usize> {
        Ok(self.json[key].as_u64().ok_or_else(|| format!("{}: {key} is missing", self.name))?
            as usize)
    }

    fn key_shape(&self, key: &str) -> Fallible<Vec<usize>> {
        Ok(serde_json::from_value(self.json["keys"][key].clone())?)
    }

    /// The model of a family with the parameters that the case's shapes tell.
    fn model(&self, family: &str) -> Fallible<String> {
        Ok(match family {
            "cnn4" => format!("cnn4:width={}", self.key_shape("block1.0.weight")?[0]),
            "vgg19" => "vgg19_bn:head=2".to_owned(),
            "vit" => {
                let patch = self.key_shape("patch_embed.proj.weight")?;
                let keys = self.json["keys"].as_object().ok_or("keys")?;
                let depth = keys.keys().filter(|key| key.ends_with(".norm1.weight")).count();
                let heads = patch[0] / 16;
                format!("vit:patch={},width={},depth={depth},heads={heads}", patch[2], patch[0])
            }
            other => other.to_owned(),
        })
    }

    /// A network with the formula's weights, its keys and shapes compared with the case's.
    fn build(&self, dtype: DType) -> Fallible<Network> {
        let mut rng = rng_for(0, "parity", 0);
        let mut network = match self.name.split('_').collect::<Vec<_>>()[..] {
            [family @ ("cnn4" | "resnet18" | "vgg19" | "ir152" | "vit"), ..] => {
                let size = self.size("size")?;
                let model: ModelSpec = self.model(family)?.parse()?;
                let mut plan = model.plan([self.size("nc")?, size, size], self.size("classes")?)?;
                plan.set_dropout(0.0);
                Network::Target(Box::new(plan.build(&mut rng)?))
            }
            ["decoder", ..] => {
                let feature: Vec<usize> = serde_json::from_value(self.json["in_shape"].clone())?;
                let picture: Vec<usize> =
                    serde_json::from_value(self.json["eval"]["shape"].clone())?;
                let picture = [picture[1], picture[2], picture[3]];
                let keys = serde_json::from_value(self.json["keys"].clone())?;
                let plan = decoders::plan(&self.name, &keys, &feature, picture)?;
                Network::Decoder(Box::new(plan.build(&mut rng)?))
            }
            _ => {
                return Err(
                    format!("{}: no network of this project is called so", self.name).into()
                );
            }
        };
        let mut keys = BTreeMap::new();
        let mut failure = None;
        network.module_mut().visit_mut("", &mut |name, entry| {
            let shape = entry.value().shape().to_vec();
            if entry.kind() != Kind::Counter {
                match entry_value(&self.salt, &name, &shape) {
                    Ok(value) => *entry.value_mut() = value.to_dtype(dtype).unwrap(),
                    Err(error) => failure = Some(error),
                }
            }
            keys.insert(name, shape);
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let want: BTreeMap<String, Vec<usize>> = serde_json::from_value(self.json["keys"].clone())?;
        assert_eq!(keys, want, "{}: keys and shapes", self.name);
        Ok(network)
    }

    /// Names the reference leaves open: biases in front of a batch norm, whose gradients are zero but for rounding.
    fn undetermined(&self) -> Vec<&str> {
        let list = self.json["undetermined"].as_array();
        list.map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// How far the reference strays in f32, relative to the entry's largest magnitude.
    fn deviation(&self, part: &str, key: &str) -> f64 {
        let entry = &self.json["float32_deviation"][part];
        entry.as_f64().or_else(|| entry[key].as_f64()).unwrap_or(0.0)
    }

    /// What is to be compared, by name.
    fn expected(&self) -> Fallible<Vec<Expected>> {
        let mut expected = Vec::new();
        let bound = |dev: f64| Bound::Elements((5.0 * dev).max(1e-5));
        let eval = &self.json["eval"];
        let deviations = &self.json["float32_deviation"]["eval"];
        if let Some(taps) = eval["taps"].as_array() {
            for (i, tap) in taps.iter().enumerate() {
                let deviation = deviations["taps"][i].as_f64().unwrap_or(0.0);
                expected.push(Expected::new(format!("tap {}", i + 1), tap, bound(deviation))?);
            }
            for key in ["log_probs", "nll"] {
                let deviation = deviations[key].as_f64().unwrap_or(0.0);
                expected.push(Expected::new(key.to_owned(), &eval[key], bound(deviation))?);
            }
        } else {
            let deviation = deviations.as_f64().unwrap_or(0.0);
            expected.push(Expected::new("reconstruction".to_owned(), eval, bound(deviation))?);
        }
        let bound = |part, key| Bound::RelativeL2((10.0 * self.deviation(part, key)).max(1e-4));
        let undetermined = self.undetermined();
        for (key, want) in self.json["grad"].as_object().ok_or("grad")? {
            if !undetermined.contains(&key.as_str()) {
                let name = format!("gradient of {key}");
                expected.push(Expected::new(name, want, bound("grad", key))?);
            }
        }
        for (i, want) in self.json["train"]["losses"].as_array().ok_or("losses")?.iter().enumerate()
        {
            expected.push(Expected::new(format!("loss {i}"), want, bound("train", "losses"))?);
        }
        let means: Vec<String> = undetermined.iter().flat_map(|bias| norms_after(bias)).collect();
        for (key, want) in self.json["after"].as_object().ok_or("after")? {
            // A bias before a batch norm drifts by rounding alone, and carries the norm's running mean with it.
            let drifts = undetermined.contains(&key.as_str()) || means.contains(key);
            if !drifts && !key.ends_with("num_batches_tracked") {
                expected.push(Expected::new(format!("{key} after"), want, bound("after", key))?);
            }
        }
        Ok(expected)
    }

    /// Evaluates and trains a network, and notes everything under the names of [`Case::expected`].
    fn observe(
        &self,
        network: &mut Network,
        expected: &[Expected],
        changed: &dyn Fn(Tensor) -> Fallible<Tensor>,
    ) -> Fallible<BTreeMap<String, Seen>> {
        let mut samples = Samples { expected, seen: BTreeMap::new() };
        let batch = self.size("batch")?;
        let dtype = network.module().entries()[0].1.value().dtype();
        let device = network.module().device();
        let placed = |tensor: Tensor| -> Fallible<Tensor> {
            Ok(changed(tensor)?.to_dtype(dtype)?.to_device(&device)?)
        };
        let (input, goal, rule);
        match &*network {
            Network::Target(target) => {
                let [c, h, w] = target.input_shape();
                input = placed(filled(&self.salt, "input", &[batch, c, h, w], |u| u)?)?;
                let classes = target.classes();
                let labels: Vec<usize> = (0..batch)
                    .map(|i| (fractions(&self.salt, "labels")(i) * classes as f64) as usize)
                    .collect();
                assert_eq!(serde_json::to_value(&labels)?, self.json["labels"]);
                goal = Labels::OneHot.distributions(&labels, classes, dtype)?.to_device(&device)?;
                rule = Rule::Sgd { momentum: 0.9, weight_decay: 5e-4 };
                let last = target.taps().len();
                target.visit_taps(&input, last, |i, z| -> Result<(), gpz_models::Error> {
                    Ok(samples.take(&format!("tap {i}"), z)?)
                })?;
                let log_probs = target.forward(&Tape::eval(), &Var::constant(input.clone()))?;
                let nll = loss::cross_entropy(&log_probs, &goal)?;
                samples.take("log_probs", log_probs.value())?;
                samples.take("nll", nll.value())?;
            }
            Network::Decoder(decoder) => {
                let shape: Vec<usize> = serde_json::from_value(self.json["in_shape"].clone())?;
                let shape = [&[batch][..], &shape].concat();
                input = placed(filled(&self.salt, "feature", &shape, |u| 2.0 * u - 1.0)?)?;
                let guess = decoder.forward(&Tape::eval(), &Var::constant(input.clone()))?;
                let image = filled(&self.salt, "image", guess.shape(), |u| u)?;
                goal = image.to_dtype(dtype)?.to_device(&device)?;
                samples.take("reconstruction", guess.value())?;
                rule = match self.json["train"]["optimizer"].as_str() {
                    Some("adamw") => {
                        Rule::AdamW { betas: [0.9, 0.999], amsgrad: false, weight_decay: 0.01 }
                    }
                    Some("adam_amsgrad") => {
                        Rule::Adam { betas: [0.5, 0.999], amsgrad: true, weight_decay: 0.0 }
                    }
                    other => return Err(format!("unknown optimizer {other:?}").into()),
                };
            }
        }
        let mut optimizer = Optimizer::new(rule, 0.01);
        for i in 0..self.json["train"]["losses"].as_array().map_or(0, Vec::len) {
            let (loss, step) = train_step(network, &input, &goal)?;
            samples.take(&format!("loss {i}"), &loss)?;
            if i == 0 {
                for (name, entry) in network.module().entries() {
                    if let Some(gradient) = step.gradient(entry) {
                        samples.take(&format!("gradient of {name}"), gradient)?;
                    }
                }
            }
            optimizer.step(network.module_mut(), &step)?;
        }
        for (name, entry) in network.module().entries() {
            samples.take(&format!("{name} after"), entry.value())?;
        }
        Ok(samples.seen)
    }

    fn run(&self, dtype: DType, device: &Device) -> Fallible<()> {
        let mut network = self.build(dtype)?;
        network.module_mut().to_device(device)?;
        let expected = self.expected()?;
        let seen = self.observe(&mut network, &expected, &Ok)?;
        drop(network);
        let mut beyond = Vec::new();
        for want in &expected {
            let name = format!("{} {dtype} {}", self.name, want.name);
            let got = seen.get(&want.name).ok_or_else(|| format!("{name}: there is none"))?;
            if let Some(shape) = &want.shape {
                assert_eq!(&got.shape, shape, "{name}");
            }
            let errors = want.errors(got);
            // A maximum would drop a NaN.
            assert!(errors.iter().all(|error| error.is_finite()), "{name} is not finite");
            let (error, limit) = want.compared(&errors, dtype);
            if error > limit {
                assert!(dtype == DType::F32, "{name}: off by {error:e}, allowed {limit:e}");
                beyond.push((want, error, limit));
            }
        }
        // What rounding does to this network: in f64, from inputs and weights that are off by a rounding of f32.
        for draw in 0..DRAWS {
            if beyond.is_empty() {
                return Ok(());
            }
            let mut network = self.build(DType::F64)?;
            let mut rng = rng_for(draw, "roundings", 0);
            for (_, entry) in network.module_mut().entries_mut() {
                if entry.kind() != Kind::Counter {
                    *entry.value_mut() = rounded_off(entry.value(), &mut rng)?;
                }
            }
            let rng = std::cell::RefCell::new(rng);
            let off = |tensor: Tensor| rounded_off(&tensor, &mut rng.borrow_mut());
            let seen = self.observe(&mut network, &expected, &off)?;
            let mut still = Vec::new();
            for (want, error, limit) in beyond {
                let (strayed, _) = want.compared(&want.errors(&seen[&want.name]), DType::F32);
                if error > 2.0 * strayed {
                    still.push((want, error, limit));
                }
            }
            beyond = still;
        }
        let listed: Vec<String> = beyond
            .iter()
            .map(|(want, error, limit)| {
                format!("{}: off by {error:e}, allowed {limit:e}", want.name)
            })
            .collect();
        assert!(beyond.is_empty(), "{} {dtype} on {device}: {}", self.name, listed.join("; "));
        Ok(())
    }
}

/// Runs with roundings by which a value beyond its bound is judged.
const DRAWS: u64 = 8;

/// Each element off by up to two roundings of f32.
fn rounded_off(value: &Tensor, rng: &mut ChaCha8Rng) -> Fallible<Tensor> {
    let off = 2.0 * f64::from(f32::EPSILON);
    let values: Vec<f64> = value
        .to_vec::<f64>()?
        .into_iter()
        .map(|v| v * (1.0 + off * (rng.random::<f64>() - 0.5)))
        .collect();
    Ok(Tensor::from_slice(&values, value.shape())?)
}

/// What a network gave for an entry: a whole one may be a gigabyte.
struct Seen {
    shape: Vec<usize>,
    /// At the entry's samples.
    values: Vec<f64>,
}

/// Samples of the entries that are expected.
struct Samples<'a> {
    expected: &'a [Expected],
    seen: BTreeMap<String, Seen>,
}

impl Samples<'_> {
    /// Keeps the samples of an entry, if any are expected of it.
    fn take(&mut self, name: &str, tensor: &Tensor) -> gpz_tensor::Result<()> {
        if let Some(want) = self.expected.iter().find(|want| want.name == name) {
            let index = &want.index;
            let values = if let Some(all) = tensor.as_row_major_slice::<f64>() {
                index.iter().map(|&i| all[i]).collect()
            } else if let Some(all) = tensor.as_row_major_slice::<f32>() {
                index.iter().map(|&i| f64::from(all[i])).collect()
            } else {
                let all = tensor.to_vec::<f64>()?;
                index.iter().map(|&i| all[i]).collect()
            };
            let seen = Seen { shape: tensor.shape().to_vec(), values };
            self.seen.insert(name.to_owned(), seen);
        }
        Ok(())
    }
}

/// One entry of a case.
struct Expected {
    name: String,
    shape: Option<Vec<usize>>,
    absmax: f64,
    index: Vec<usize>,
    value: Vec<f64>,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    /// Of each element, relative to the entry's largest magnitude.
    Elements(f64),
    /// Of the sampled values' Euclidean norm.
    RelativeL2(f64),
}

impl Expected {
    /// - `want`: a summary with shape, absmax, index and value, or one number
    fn new(name: String, want: &Value, bound: Bound) -> Fallible<Self> {
        if let Some(number) = want.as_f64() {
            let (absmax, index, value) = (number.abs().max(1e-3), vec![0], vec![number]);
            return Ok(Expected { name, shape: None, absmax, index, value, bound });
        }
        let shape =
            Some(serde_json::from_value(want["shape"].clone())?).filter(|s: &Vec<_>| !s.is_empty());
        let absmax = want["absmax"].as_f64().ok_or("absmax")?;
        let index: Vec<usize> = serde_json::from_value(want["index"].clone())?;
        let value: Vec<f64> = serde_json::from_value(want["value"].clone())?;
        assert!(!index.is_empty() && index.len() == value.len(), "{name}: samples");
        Ok(Expected { name, shape, absmax, index, value, bound })
    }

    /// Of each sampled value.
    fn errors(&self, got: &Seen) -> Vec<f64> {
        got.values.iter().zip(&self.value).map(|(got, want)| (got - want).abs()).collect()
    }

    /// The error that is compared, and what is allowed.
    fn compared(&self, errors: &[f64], dtype: DType) -> (f64, f64) {
        let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let worst = errors.iter().copied().fold(0.0, f64::max);
        match (dtype, self.bound) {
            (DType::F64, _) => (worst, 1e-8 * self.absmax),
            (DType::F32, Bound::Elements(bound)) => (worst, bound * self.absmax),
            (DType::F32, Bound::RelativeL2(bound)) => (norm(errors), bound * norm(&self.value)),
        }
    }
}

/// The running means that carry the drift of a bias: of the next norm in the same sequence, or in the next unit of a chain.
fn norms_after(bias: &str) -> Vec<String> {
    let parts: Vec<&str> = bias.split('.').collect();
    let number = |part: &str| part.parse::<usize>().ok();
    let mut means = Vec::new();
    let mut mean =
        |parts: Vec<String>| means.push([parts.join("."), "running_mean".into()].join("."));
    let owned = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    if let [path @ .., position, _] = &parts[..]
        && let Some(position) = number(position)
    {
        mean([owned(path), vec![(position + 1).to_string()]].concat());
    }
    if let [path @ .., unit, "res_layer" | "shortcut_layer", _, _] = &parts[..]
        && let Some(unit) = number(unit)
    {
        for norm in [["res_layer", "0"], ["shortcut_layer", "1"]] {
            mean([owned(path), vec![(unit + 1).to_string()], owned(&norm)].concat());
        }
        mean(owned(&["output_layer", "0"]));
    }
    means.push("output_layer.4.running_mean".to_owned());
    means
}

/// The loss of a training step, and what it learnt.
fn train_step(network: &Network, input: &Tensor, goal: &Tensor) -> Fallible<(Tensor, Step)> {
    let tape = Tape::train(0);
    let x = Var::constant(input.clone());
    let loss = match network {
        Network::Target(target) => loss::cross_entropy(&target.forward(&tape, &x)?, goal)?,
        Network::Decoder(decoder) => loss::mse(&decoder.forward(&tape, &x)?, goal)?,
    };
    let step = tape.backward(&loss)?;
    Ok((loss.into_value(), step))
}

fn cases() -> Fallible<Vec<PathBuf>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let directory = std::env::var_os("GPZ_PARITY_DIR").map_or(own, PathBuf::from);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    assert!(!paths.is_empty(), "no cases");
    Ok(paths)
}

/// The largest case, a ViT's decoder, takes fourteen gigabytes in f64: one at a time.
static TURN: Mutex<()> = Mutex::new(());

fn run_all(dtype: DType, device: &Device) -> Fallible<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let failures: Vec<String> = cases()?
        .iter()
        .filter_map(|path| Case::read(path).and_then(|case| case.run(dtype, device)).err())
        .map(|failure| failure.to_string())
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

#[test]
fn networks_agree_with_the_reference_in_f64() -> Fallible<()> {
    run_all(DType::F64, &Device::Cpu)
}

#[test]
fn networks_agree_with_the_reference_in_f32() -> Fallible<()> {
    run_all(DType::F32, &Device::Cpu)
}

/// Where there is no GPU, there is nothing to compare; with `GPZ_TEST_CUDA=real` there has to be one.
#[test]
fn networks_agree_with_the_reference_on_a_gpu() -> Fallible<()> {
    if std::env::var("GPZ_TEST_CUDA").is_ok_and(|chosen| chosen == "real") {
        return run_all(DType::F32, &gpz_cuda_sim::device_of_tests());
    }
    match cuda::open(0, cuda::Options::default()) {
        Ok(device) => run_all(DType::F32, &Device::Cuda(device)),
        Err(_) => Ok(()),
    }
}
