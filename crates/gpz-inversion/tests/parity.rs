//! Networks and decoders agree with an independent implementation.
//!
//! Weights and inputs follow from a formula over their names, so the cases store none. In f64 every sampled value must be within 1e-8 of
//! its entry's largest magnitude; in f32 within the larger of a fixed bound and a multiple of the reference's own f32 deviation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gpz_inversion::Decoder;
use gpz_models::{ModelSpec, Target};
use gpz_nn::{Kind, Labels, Module, Optimizer, Rule, Step, Tape, Var, loss, rng_for};
use gpz_tensor::{DType, Tensor};
use serde_json::Value;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// `value(name, i)` of the cases: SplitMix64 seeded with FNV-1a of the name, 24 bits of it as a fraction.
fn fraction(salt: &str, name: &str, i: usize) -> f64 {
    let hash = salt
        .bytes()
        .chain(name.bytes())
        .fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    let mut x = hash.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    (x >> 40) as f64 / 16_777_216.0
}

/// Rounded to f32, as the cases' authors did.
fn filled(salt: &str, name: &str, shape: &[usize], rule: impl Fn(f64) -> f64) -> Fallible<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|i| f64::from(rule(fraction(salt, name, i)) as f32))
        .collect();
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
            ["decoder", "cnn4", ..] => {
                let feature: Vec<usize> = serde_json::from_value(self.json["in_shape"].clone())?;
                let picture: Vec<usize> =
                    serde_json::from_value(self.json["eval"]["shape"].clone())?;
                let picture = [picture[1], picture[2], picture[3]];
                Network::Decoder(Box::new(Decoder::new(&feature, picture, &mut rng)?))
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

    fn compare(
        &self,
        dtype: DType,
        what: &str,
        got: &Tensor,
        want: &Value,
        bound: Bound,
    ) -> Fallible<()> {
        if let Some(shape) = want["shape"].as_array() {
            let shape: Vec<usize> =
                shape.iter().filter_map(|v| v.as_u64().map(|v| v as usize)).collect();
            assert_eq!(got.shape(), shape, "{} {what}", self.name);
        }
        let absmax = want["absmax"].as_f64().ok_or("absmax")?;
        let index: Vec<usize> = serde_json::from_value(want["index"].clone())?;
        let value: Vec<f64> = serde_json::from_value(want["value"].clone())?;
        assert!(!index.is_empty() && index.len() == value.len());
        let all = got.to_vec::<f64>().unwrap();
        let (mut worst, mut square, mut norm) = (0f64, 0.0, 0.0);
        for (&i, &v) in index.iter().zip(&value) {
            // `max` would drop a NaN.
            let error = (all[i] - v).abs();
            assert!(error.is_finite(), "{} {what}[{i}] is {}", self.name, all[i]);
            worst = worst.max(error);
            square += error * error;
            norm += v * v;
        }
        let (error, limit) = match (dtype, bound) {
            (DType::F64, _) => (worst, 1e-8 * absmax),
            (DType::F32, Bound::Elements(bound)) => (worst, bound * absmax),
            (DType::F32, Bound::RelativeL2(bound)) => (square.sqrt(), bound * norm.sqrt()),
        };
        assert!(
            error <= limit,
            "{} {dtype} {what}: off by {error:e}, allowed {limit:e}",
            self.name
        );
        Ok(())
    }

    fn deviation(&self, pointer: &str, key: &str) -> f64 {
        let entry = &self.json["float32_deviation"][pointer];
        entry.as_f64().or_else(|| entry[key].as_f64()).unwrap_or(0.0)
    }

    fn eval_bound(&self) -> Bound {
        Bound::Elements((5.0 * self.deviation("eval", "")).max(1e-5))
    }

    fn step_bound(&self, pointer: &str, key: &str) -> Bound {
        Bound::RelativeL2((10.0 * self.deviation(pointer, key)).max(1e-4))
    }

    fn undetermined(&self) -> Vec<&str> {
        let list = self.json["undetermined"].as_array();
        list.map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    fn run(&self, dtype: DType) -> Fallible<()> {
        let mut network = self.build(dtype)?;
        let batch = self.size("batch")?;
        let eval = &self.json["eval"];
        let (input, goal, rule);
        match &network {
            Network::Target(target) => {
                let [c, h, w] = target.input_shape();
                input =
                    filled(&self.salt, "input", &[batch, c, h, w], |u| u)?.to_dtype(dtype).unwrap();
                let classes = target.classes();
                let labels: Vec<usize> = (0..batch)
                    .map(|i| (fraction(&self.salt, "labels", i) * classes as f64) as usize)
                    .collect();
                assert_eq!(serde_json::to_value(&labels)?, self.json["labels"]);
                goal = Labels::OneHot.distributions(&labels, classes, dtype)?;
                rule = Rule::Sgd { momentum: 0.9, weight_decay: 5e-4 };
                let mut taps = Vec::new();
                let last = target.taps().len();
                target.visit_taps(&input, last, |_, z| -> gpz_models::Result<()> {
                    taps.push(z.clone());
                    Ok(())
                })?;
                let x = Var::constant(input.clone());
                let log_probs = target.forward(&Tape::eval(), &x)?.into_value();
                let want = eval["taps"].as_array().ok_or("taps")?;
                assert_eq!(taps.len(), want.len());
                for (i, (tap, want)) in taps.iter().zip(want).enumerate() {
                    self.compare(dtype, &format!("tap {}", i + 1), tap, want, self.eval_bound())?;
                }
                self.compare(
                    dtype,
                    "log_probs",
                    &log_probs,
                    &eval["log_probs"],
                    self.eval_bound(),
                )?;
            }
            Network::Decoder(decoder) => {
                let shape: Vec<usize> = serde_json::from_value(self.json["in_shape"].clone())?;
                let shape = [&[batch][..], &shape].concat();
                input = filled(&self.salt, "feature", &shape, |u| 2.0 * u - 1.0)?
                    .to_dtype(dtype)
                    .unwrap();
                let guess =
                    decoder.forward(&Tape::eval(), &Var::constant(input.clone()))?.into_value();
                goal = filled(&self.salt, "image", guess.shape(), |u| u)?.to_dtype(dtype).unwrap();
                rule = match self.json["train"]["optimizer"].as_str() {
                    Some("adamw") => {
                        Rule::AdamW { betas: [0.9, 0.999], amsgrad: false, weight_decay: 0.01 }
                    }
                    Some("adam_amsgrad") => {
                        Rule::Adam { betas: [0.5, 0.999], amsgrad: true, weight_decay: 0.0 }
                    }
                    other => return Err(format!("unknown optimizer {other:?}").into()),
                };
                self.compare(dtype, "reconstruction", &guess, eval, self.eval_bound())?;
            }
        }
        let mut optimizer = Optimizer::new(rule, 0.01);
        let losses = self.json["train"]["losses"].as_array().ok_or("losses")?;
        for (i, want) in losses.iter().filter_map(Value::as_f64).enumerate() {
            let (loss, step) = train_step(&network, &input, &goal)?;
            let limit = match dtype {
                DType::F64 => 1e-8 * want.abs().max(1e-3),
                DType::F32 => {
                    (10.0 * self.deviation("train", "losses")).max(1e-4) * want.abs().max(1e-3)
                }
            };
            let name = &self.name;
            assert!((loss - want).abs() <= limit, "{name} {dtype}: loss {i} is {loss}, not {want}");
            if i == 0 {
                self.compare_gradients(dtype, &network, &step)?;
            }
            optimizer.step(network.module_mut(), &step)?;
        }
        let after = self.json["after"].as_object().ok_or("after")?;
        let entries: BTreeMap<String, _> = network.module().entries().into_iter().collect();
        for (key, want) in after {
            // A bias before a batch norm drifts by rounding alone, and carries the norm's running mean with it.
            let drifting =
                self.undetermined().iter().any(|bias| key == bias || norm_after(bias) == *key);
            if !drifting && !key.ends_with("num_batches_tracked") {
                let bound = self.step_bound("after", key);
                self.compare(dtype, &format!("{key} after"), entries[key].value(), want, bound)?;
            }
        }
        Ok(())
    }

    fn compare_gradients(&self, dtype: DType, network: &Network, step: &Step) -> Fallible<()> {
        let want = self.json["grad"].as_object().ok_or("grad")?;
        let mut compared = 0;
        for (name, entry) in network.module().entries() {
            if let Some(want) = want.get(&name)
                && !self.undetermined().contains(&name.as_str())
            {
                let gradient =
                    step.gradient(entry).ok_or_else(|| format!("{name} has no gradient"))?;
                let bound = self.step_bound("grad", &name);
                self.compare(dtype, &format!("gradient of {name}"), gradient, want, bound)?;
                compared += 1;
            }
        }
        assert_eq!(compared, want.len(), "{}: every gradient has a parameter", self.name);
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Bound {
    /// Of each element, relative to the entry's largest magnitude.
    Elements(f64),
    /// Of the sampled values' Euclidean norm.
    RelativeL2(f64),
}

/// The running mean of the norm that follows a bias: the next number in the same sequence.
fn norm_after(bias: &str) -> String {
    let parts: Vec<&str> = bias.split('.').collect();
    let (path, position) = (&parts[..parts.len() - 2], parts[parts.len() - 2]);
    let next = position.parse::<usize>().map_or(String::new(), |i| (i + 1).to_string());
    [path.join("."), next, "running_mean".to_owned()].join(".")
}

fn train_step(network: &Network, input: &Tensor, goal: &Tensor) -> Fallible<(f64, Step)> {
    let tape = Tape::train(0);
    let x = Var::constant(input.clone());
    let loss = match network {
        Network::Target(target) => loss::cross_entropy(&target.forward(&tape, &x)?, goal)?,
        Network::Decoder(decoder) => loss::mse(&decoder.forward(&tape, &x)?, goal)?,
    };
    Ok((loss.value().item()?, tape.backward(&loss)?))
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

fn run_all(dtype: DType) -> Fallible<()> {
    for path in cases()? {
        Case::read(&path)?.run(dtype)?;
    }
    Ok(())
}

#[test]
fn networks_agree_with_the_reference_in_f64() -> Fallible<()> {
    run_all(DType::F64)
}

#[test]
fn networks_agree_with_the_reference_in_f32() -> Fallible<()> {
    run_all(DType::F32)
}
