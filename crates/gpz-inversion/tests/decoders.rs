//! Decoders: one for every tap of every model, as described, with gradients as finite differences have them.

use gpz_inversion::{Decoder, DecoderChoice, DecoderSpec, Error, Keep, TrainingPlan, decoders};
use gpz_models::{ModelSpec, models};
use gpz_nn::{
    BatchNorm, ConvTranspose2d, Kind, Module, Optimizer, Rule, Schedule, Tape, Var, loss, rng_for,
};
use gpz_tensor::{ConvTranspose2dOptions, DType, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn uniform(shape: &[usize], rng: &mut ChaCha8Rng) -> Fallible<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random::<f64>()).collect();
    Ok(Tensor::from_slice(&values, shape)?)
}

fn spec(text: &str) -> Result<DecoderSpec, Error> {
    text.parse()
}

#[test]
fn names_read_back_and_mistakes_are_named() -> Fallible {
    for (text, canonical) in [
        ("cnn", "cnn:width=100"),
        ("per-tap:width=50", "per-tap:width=50"),
        ("residual:depth=2", "residual:width=100,depth=2"),
    ] {
        assert_eq!(spec(text)?.to_string(), canonical);
        assert_eq!(spec(canonical)?, spec(text)?);
    }
    for (text, named) in [
        ("cnn5", "known: per-tap, cnn, vit"),
        ("cnn:depth=1", "no parameter \"depth\""),
        ("vit:width=0", "width=0"),
        ("residual:depth=99", "0 to 16"),
        ("residual:width", "width="),
    ] {
        let message = spec(text).expect_err(text).to_string();
        assert!(message.contains(named), "{text}: {message}");
    }
    assert_eq!("auto".parse::<DecoderChoice>()?, DecoderChoice::Auto);
    let choice: DecoderChoice = serde_json::from_str("\"residual:width=25\"")?;
    assert_eq!(serde_json::to_string(&choice)?, "\"residual:width=25,depth=0\"");
    assert!(serde_json::from_str::<DecoderChoice>("\"none\"").is_err());
    Ok(())
}

/// Whatever a model is cut at, each family leads from there to the picture; where the sizes do not fit, the message says what would.
#[test]
fn every_tap_of_every_model_has_decoders() -> Fallible {
    let mut refused = std::collections::BTreeSet::new();
    for model in models() {
        let model: ModelSpec = model.name.parse()?;
        for picture in [[1, 16, 16], [1, 32, 32], [3, 64, 64], [3, 128, 128]] {
            // Small pictures are not for every model.
            let Ok(target) = model.architecture(picture, 10) else { continue };
            for tap in target.taps {
                let auto = DecoderSpec::auto_for(model.family(), &tap.shape);
                let named = decoders().map(|decoder| spec(decoder.name));
                for decoder in named.chain([Ok(auto)]) {
                    match decoder?.plan(&tap.shape, picture) {
                        Ok(plan) => {
                            assert!(plan.cost().params > 0 && plan.cost().macs > 0);
                            assert_eq!(plan.picture(), picture);
                        }
                        Err(Error::Decoder { rule, .. }) => {
                            assert!(rule.contains("the picture must be"), "{rule}");
                            refused.insert(model.family());
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
    // Its first convolution of 11×11 leaves sizes that no doubling leads back from.
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), ["torchvision-alexnet"]);
    Ok(())
}

#[test]
fn each_tap_has_the_decoder_of_the_literature() -> Fallible {
    let auto = |family: &str, feature: &[usize]| DecoderSpec::auto_for(family, feature).family();
    assert_eq!(auto("cnn4", &[128, 4, 4]), "cnn");
    assert_eq!(auto("vgg19_bn", &[512, 4, 4]), "per-tap");
    assert_eq!(auto("ir152", &[512, 4, 4]), "inverse-ir");
    assert_eq!(auto("ir_se50", &[64, 64, 64]), "inverse-ir");
    assert_eq!(auto("vit", &[257, 128]), "vit");
    assert_eq!(auto("resnet18", &[2048]), "vit");
    // The published channels.
    let channels = |text: &str, feature: &[usize]| -> Fallible<Vec<usize>> {
        let plan = spec(text)?.plan(feature, [3, 64, 64])?;
        Ok(plan.stages().iter().map(|stage| stage.outputs).collect())
    };
    assert_eq!(channels("per-tap", &[512, 4, 4])?, [256, 128, 64, 64, 3]);
    assert_eq!(channels("per-tap", &[256, 8, 8])?, [128, 64, 32, 3]);
    assert_eq!(channels("cnn", &[64, 8, 8])?, [32, 16, 3]);
    assert_eq!(channels("inverse-ir", &[512, 4, 4])?, [256, 128, 64, 64, 3]);
    assert_eq!(channels("vit", &[257, 128])?, [512, 256, 128, 64, 3]);
    // Nothing to be doubled: one stage at the picture's size before the last.
    assert_eq!(channels("per-tap", &[64, 64, 64])?, [32, 3]);
    assert_eq!(channels("cnn", &[64, 64, 64])?, [32, 3]);
    assert_eq!(channels("residual:width=50", &[2048])?, [256, 128, 64, 32, 16]);
    Ok(())
}

/// Features of each kind that small decoders take, with their pictures.
const KINDS: [(&[usize], [usize; 3]); 6] = [
    (&[4, 2, 2], [1, 8, 8]),
    (&[3, 8, 8], [3, 8, 8]),
    (&[4, 1, 1], [1, 4, 4]),
    (&[6], [3, 8, 8]),
    (&[5, 3], [1, 8, 8]),
    (&[4, 3], [1, 8, 8]),
];

/// Each family at a few channels.
fn small() -> Result<Vec<DecoderSpec>, Error> {
    let few = |decoder: &gpz_inversion::DecoderInfo| match decoder.parameters.len() {
        2 => format!("{}:width=4,depth=1", decoder.name),
        _ => format!("{}:width=1", decoder.name),
    };
    decoders().map(|decoder| spec(&few(decoder))).collect()
}

#[test]
fn what_is_described_is_what_is_built() -> Fallible {
    for decoder in small()? {
        for (feature, picture) in KINDS {
            let mut rng = rng_for(3, "built", 0);
            let plan = decoder.plan(feature, picture)?;
            let built = plan.build(&mut rng)?;
            let params = plan.cost().params;
            assert_eq!(built.parameter_count() as u64, params, "{decoder} {feature:?}");
            let z = uniform(&[&[2], feature].concat(), &mut rng)?.to_dtype(DType::F32)?;
            for tape in [Tape::eval(), Tape::train(0)] {
                let guess = built.forward(&tape, &Var::constant(z.clone()))?;
                assert_eq!(guess.shape(), [&[2], &picture[..]].concat());
                let pixels = guess.value().to_vec::<f32>()?;
                assert!(pixels.iter().all(|v| (0.0..=1.0).contains(v)), "{decoder} {feature:?}");
            }
        }
    }
    Ok(())
}

/// The derivative along a random direction of each entry and of the feature, against a central difference in f64.
#[test]
fn gradients_agree_with_finite_differences() -> Fallible {
    const STEP: f64 = 1e-6;
    for decoder in small()? {
        for (feature, picture) in KINDS {
            let mut rng = rng_for(5, "gradients", 0);
            let mut network = Decoder::new(decoder, feature, picture, &mut rng)?;
            network.convert(DType::F64)?;
            let z = uniform(&[&[3], feature].concat(), &mut rng)?;
            let goal = uniform(&[&[3], &picture[..]].concat(), &mut rng)?;
            let error = |network: &Decoder| -> Fallible<f64> {
                let guess = network.forward(&Tape::train(0), &Var::constant(z.clone()))?;
                Ok(loss::mse(&guess, &goal)?.value().item()?)
            };
            let tape = Tape::train(0);
            let guess = network.forward(&tape, &Var::constant(z.clone()))?;
            let step = tape.backward(&loss::mse(&guess, &goal)?)?;
            let mut largest = 0.0f64;
            let names: Vec<String> = network
                .entries()
                .into_iter()
                .filter(|(_, entry)| entry.kind() == Kind::Parameter)
                .map(|(name, _)| name)
                .collect();
            for name in names {
                let find = |network: &Decoder| -> Option<(Tensor, Option<Tensor>)> {
                    let entries = network.entries();
                    let (_, entry) = entries.into_iter().find(|(other, _)| *other == name)?;
                    Some((entry.value().clone(), step.gradient(entry).cloned()))
                };
                let (value, gradient) = find(&network).ok_or("entry")?;
                let gradient = gradient.ok_or_else(|| format!("{name}: no gradient"))?;
                // One direction may cross a kink; a rule that is wrong is wrong along each.
                let mut tried = Vec::new();
                for _ in 0..4 {
                    let direction = uniform(value.shape(), &mut rng)?.affine(2.0, -1.0)?;
                    let want = gradient.dot(&direction)?;
                    let mut moved = |by: f64| -> Fallible<f64> {
                        let there = value.add(&direction.affine(by, 0.0)?)?;
                        for (other, entry) in network.entries_mut() {
                            if other == name {
                                *entry.value_mut() = there.clone();
                            }
                        }
                        error(&network)
                    };
                    let got = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
                    moved(0.0)?;
                    largest = largest.max(got.abs());
                    let agrees = (got - want).abs() <= 1e-8 + 1e-6 * want.abs();
                    tried.push((agrees, got, want));
                    if agrees {
                        break;
                    }
                }
                let agrees = tried.last().is_some_and(|(agrees, ..)| *agrees);
                assert!(agrees, "{decoder} {feature:?} {name}: {tried:?}");
            }
            assert!(largest > 1e-3, "{decoder} {feature:?}: no derivative to speak of");
        }
    }
    Ok(())
}

/// More width or depth is more parameters and more work, at whatever tap.
#[test]
fn capacity_grows_along_the_ladder() -> Fallible {
    let taps: [(&[usize], usize); 5] = [
        (&[512, 4, 4], 64),
        (&[64, 64, 64], 64),
        (&[16, 16, 16], 32),
        (&[2048], 64),
        (&[257, 128], 64),
    ];
    for (feature, side) in taps {
        let cost = |text: String| -> Fallible<(u64, u64)> {
            let cost = spec(&text)?.plan(feature, [3, side, side])?.cost();
            Ok((cost.params, cost.macs))
        };
        let residual =
            |width: usize, depth: usize| cost(format!("residual:width={width},depth={depth}"));
        let grows = |less: (u64, u64), more: (u64, u64)| {
            assert!(less.0 < more.0 && less.1 < more.1, "{feature:?}: {less:?} {more:?}");
        };
        for widths in [25, 50, 100, 200, 400].windows(2) {
            for depth in 0..4 {
                grows(residual(widths[0], depth)?, residual(widths[1], depth)?);
                grows(residual(widths[0], depth)?, residual(widths[0], depth + 1)?);
            }
            // A cnn decoder of one doubling has no channels of its own.
            for family in decoders() {
                let at = |width: usize| cost(format!("{}:width={width}", family.name));
                let (less, more) = (at(widths[0])?, at(widths[1])?);
                if family.name != "cnn" || feature != [16, 16, 16] {
                    grows(less, more);
                }
            }
        }
        grows(cost("inverse-ir".into())?, cost("inverse-ir:depth=1".into())?);
    }
    Ok(())
}

/// Random pictures from random vectors: nothing but capacity tells how well they are learnt by heart.
#[test]
fn a_higher_rung_learns_more_by_heart() -> Fallible {
    let learnt = |text: &str| -> Fallible<f64> {
        let mut rng = rng_for(1, "by heart", 0);
        let z = Var::constant(uniform(&[24, 8, 2, 2], &mut rng)?.to_dtype(DType::F32)?);
        let x = uniform(&[24, 1, 8, 8], &mut rng)?.to_dtype(DType::F32)?;
        let mut decoder = Decoder::new(spec(text)?, &[8, 2, 2], [1, 8, 8], &mut rng)?;
        let rule = Rule::Adam { betas: [0.9, 0.999], amsgrad: false, weight_decay: 0.0 };
        let (mut optimizer, mut last) = (Optimizer::new(rule, 0.005), 0.0);
        for i in 0..150 {
            let tape = Tape::train(i);
            let error = loss::mse(&decoder.forward(&tape, &z)?, &x)?;
            last = error.value().item()?;
            optimizer.step(&mut decoder, &tape.backward(&error)?)?;
        }
        Ok(last)
    };
    let rungs = ["residual:width=4", "residual:width=15", "residual:width=50,depth=1"];
    let errors = rungs.map(learnt);
    let [low, middle, high] = errors;
    let (low, middle, high) = (low?, middle?, high?);
    // Uniform values guessed by their mean: 1/12.
    assert!(low < 0.09 && middle < 0.85 * low && high < 0.5 * middle, "{low} {middle} {high}");
    Ok(())
}

/// Results of the four-block network must stay the same to the bit: as its decoder was put together by hand before there were several.
#[test]
fn the_cnn_decoder_is_the_one_it_always_was() -> Fallible {
    let mut rng = rng_for(7, "decoder", 3);
    let doubling = ConvTranspose2dOptions::square(2, 1);
    let first = ConvTranspose2d::new([12, 6], 4, doubling, true, &mut rng)?;
    let norm = BatchNorm::new(6)?;
    let last = ConvTranspose2d::new([6, 1], 4, doubling, true, &mut rng)?;
    let auto = DecoderSpec::auto_for("cnn4", &[12, 3, 3]);
    let decoder = Decoder::new(auto, &[12, 3, 3], [1, 12, 12], &mut rng_for(7, "decoder", 3))?;
    let z = uniform(&[4, 12, 3, 3], &mut rng)?.to_dtype(DType::F32)?;
    let z = Var::constant(z);
    for tape in [Tape::eval(), Tape::train(0)] {
        let by_hand = norm.forward(&tape, &first.forward(&tape, &z)?)?.tanh()?;
        let by_hand = last.forward(&tape, &by_hand)?.sigmoid()?;
        let got = decoder.forward(&tape, &z)?;
        assert_eq!(got.value().to_vec::<f32>()?, by_hand.value().to_vec::<f32>()?);
    }
    Ok(())
}

#[test]
fn features_without_a_decoder_are_refused_with_what_would_do() -> Fallible {
    let huge = usize::MAX;
    let cases: [(&str, &[usize], [usize; 3], &str); 12] = [
        ("cnn", &[8, 7, 7], [3, 64, 64], "times 1, 2, 4, 8"),
        ("per-tap", &[8, 8, 16], [3, 64, 64], "the same in both directions"),
        ("residual", &[8, 128, 128], [3, 64, 64], "times 1, 2, 4, 8"),
        ("per-tap", &[8, 0, 8], [3, 64, 64], "no extent may be 0"),
        ("cnn", &[8, 8, 8], [0, 64, 64], "no extent may be 0"),
        ("cnn", &[], [3, 64, 64], "[c, h, w]"),
        ("vit", &[1, 2, 3, 4], [3, 64, 64], "[c, h, w]"),
        ("per-tap", &[250, 16], [3, 64, 64], "one for each square patch"),
        ("vit", &[100], [3, 48, 48], "a square of 4, 8, 16"),
        ("residual", &[100], [3, 64, 32], "a square of 4, 8, 16"),
        ("vit", &[huge, huge], [3, 64, 64], "[t, d]"),
        ("vit", &[huge, 2, 2], [3, 64, 64], "[t, d]"),
    ];
    for (text, feature, picture, named) in cases {
        let error = spec(text)?.plan(feature, picture).err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(named)),
            "{text} {feature:?}: {error:?}"
        );
    }
    // Described at no cost, and refused by whoever sets memory aside.
    for (text, feature) in [("vit", &[huge / 2][..]), ("per-tap", &[huge, 8, 8])] {
        let plan = spec(text)?.plan(feature, [3, 64, 64])?;
        assert!(plan.cost().params > 1 << 60 && plan.build(&mut rng_for(0, "huge", 0)).is_err());
    }
    Ok(())
}

/// The published decoder of ViT features: a weight of 1 GiB, and each moment of it another.
#[test]
fn memory_counts_weights_moments_and_the_best_state() -> Fallible {
    let plan = |optimizer| TrainingPlan {
        epochs: 1,
        batch: 2,
        learning_rate: 0.01,
        optimizer,
        schedule: Schedule::Constant,
        stop_after: None,
        keep: Keep::LowestLoss,
    };
    let cost = spec("vit")?.plan(&[257, 128], [3, 64, 64])?.cost();
    let amsgrad = Rule::Adam { betas: [0.5, 0.999], amsgrad: true, weight_decay: 0.0 };
    let sgd = Rule::Sgd { momentum: 0.0, weight_decay: 0.0 };
    let weights = 4 * u128::from(cost.params);
    assert!(weights >= 1 << 30);
    // Weights, best, three moments; gradients, and twice the largest feature of two images, 64 channels of 32×32.
    let need = plan(amsgrad).least_bytes(&[cost]);
    assert_eq!(need.learning, 6 * weights + 4 * 2 * 2 * 64 * 32 * 32);
    assert_eq!(need.reading, 5 * weights);
    assert!(plan(sgd).least_bytes(&[cost]).learning < need.learning / 2 + weights);
    let two = plan(amsgrad).least_bytes(&[cost, cost]);
    // Two are read over two, which is more than one of them takes to learn.
    assert_eq!(two.learning, 2 * 6 * weights);
    assert_eq!(plan(sgd).least_bytes(&[]).learning, 0);
    Ok(())
}
