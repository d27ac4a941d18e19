//! Every model: its halves, its entries, and what its splits cost beside the figures of the literature.

use std::collections::BTreeSet;

use gpz_models::{Architecture, Error, ModelSpec, Network, Result, Target, models};
use gpz_nn::{Init, Kind, Module, Tape, Var, rng_for};
use gpz_tensor::{DType, Tensor};

fn architecture(model: &str, classes: usize) -> Result<Architecture> {
    model.parse::<ModelSpec>()?.architecture([3, 64, 64], classes)
}

/// A network whose running statistics are not the initial ones.
fn network(model: &str, input: [usize; 3]) -> Result<Network> {
    let mut rng = rng_for(7, model, 0);
    let mut network = model.parse::<ModelSpec>()?.plan(input, 5)?.build(&mut rng)?;
    for (_, entry) in network.entries_mut() {
        if entry.kind() == Kind::Buffer {
            let drawn = Init::Uniform(0.4).fill(entry.value().shape(), DType::F32, &mut rng)?;
            *entry.value_mut() = drawn.affine(1.0, 0.7)?;
        }
    }
    Ok(network)
}

/// What the cloud makes of what the edge sends is what the whole network makes of the picture, bit for bit, at every split.
#[test]
fn halves_compose_to_the_whole() -> Result<()> {
    for model in [
        "resnet18",
        "resnet50",
        "vgg16_bn",
        "ir152",
        "ir_se50",
        "vit:patch=8,width=32,depth=3,heads=2",
        "torchvision-resnet50",
        "torchvision-mobilenet_v2",
        "torchvision-alexnet",
    ] {
        let side = if model == "torchvision-alexnet" { 64 } else { 32 };
        let target: Box<dyn Target> = Box::new(network(model, [3, side, side])?);
        let pictures =
            Init::Uniform(1.0).fill(&[2, 3, side, side], DType::F32, &mut rng_for(1, "x", 0))?;
        let whole = target.forward(&Tape::eval(), &Var::constant(pictures.clone()))?;
        let whole = whole.value().to_vec::<f32>()?;
        assert!(whole.iter().all(|v| v.is_finite()), "{model}");
        assert!(whole.iter().any(|v| *v != whole[0]), "{model}: the picture has no say");
        let last = target.taps().len();
        target.visit_taps(&pictures, last, |split, z| -> Result<()> {
            assert_eq!(z.shape()[1..], target.taps()[split - 1].shape, "{model} split {split}");
            let tail = target.tail(&Tape::eval(), split, &Var::constant(z.clone()))?;
            assert_eq!(tail.value().to_vec::<f32>()?, whole, "{model} split {split}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What is told of a model without building it is what building it gives.
#[test]
fn descriptions_are_of_what_is_built() -> Result<()> {
    for model in ["cnn4:width=8", "resnet18", "ir50", "ir_se50", "vit", "torchvision-alexnet"] {
        let network = network(model, [3, 64, 64])?;
        let told = model.parse::<ModelSpec>()?.architecture([3, 64, 64], 5)?;
        assert_eq!(network.parameter_count() as u64, told.params(), "{model}");
        assert_eq!(network.taps(), told.taps, "{model}");
    }
    Ok(())
}

/// Shapes, bytes on the wire and shares of parameters and multiply-accumulates as published, to the published digits.
#[test]
fn costs_are_those_of_the_literature() -> Result<()> {
    // Tap, shape, KiB on the wire, parameters and multiply-accumulates in percent.
    type Row = (usize, [usize; 3], u64, f64, f64);
    let vgg: [Row; 6] = [
        (13, [128, 32, 32], 512, 0.58, 23.8),
        (26, [256, 16, 16], 256, 5.15, 56.4),
        (30, [512, 8, 8], 128, 7.76, 61.1),
        (39, [512, 8, 8], 128, 23.4, 89.1),
        (43, [512, 4, 4], 32, 28.6, 91.4),
        (52, [512, 4, 4], 32, 44.3, 98.4),
    ];
    let ir: [Row; 5] = [
        (8, [128, 16, 16], 128, 2.16, 17.1),
        (40, [256, 8, 8], 64, 56.9, 78.2),
        (48, [256, 8, 8], 64, 72.1, 93.3),
        (49, [512, 4, 4], 32, 78.0, 96.1),
        (50, [512, 4, 4], 32, 85.6, 98.0),
    ];
    for (model, taps, rows) in [("vgg19_bn", 53, &vgg[..]), ("ir152", 51, &ir)] {
        let told = architecture(model, 10)?;
        assert_eq!(told.taps.len(), taps, "{model}");
        for &(tap, shape, kibibytes, params, macs) in rows {
            let cost = told.split_cost(tap)?;
            assert_eq!(told.taps[tap - 1].shape, shape, "{model} tap {tap}");
            assert_eq!(cost.wire_bytes, kibibytes << 10, "{model} tap {tap}");
            let near = |fraction: f64, percent: f64| {
                // Half of the last digit there is.
                let unit = if percent < 10.0 { 0.01 } else { 0.1 };
                (100.0 * fraction - percent).abs() <= 0.5 * unit + 1e-9
            };
            assert!(near(cost.edge_params_fraction, params), "{model} {tap}: {cost:?}");
            assert!(near(cost.edge_macs_fraction, macs), "{model} {tap}: {cost:?}");
        }
    }
    let share = |head: &str| -> Result<f64> {
        Ok(100.0 * architecture(head, 10)?.split_cost(30)?.edge_params_fraction)
    };
    assert!((share("vgg19_bn:head=7")? - 2.5).abs() < 0.05);
    assert!((share("vgg19_bn:head=2")? - 7.8).abs() < 0.05);
    Ok(())
}

/// Parameters of torchvision's models with 1000 classes, as its documentation gives them.
#[test]
fn torchvisions_layouts_have_its_parameters() -> Result<()> {
    for (model, params) in [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg11_bn", 132_868_840),
        ("vgg13_bn", 133_053_736),
        ("vgg16_bn", 138_365_992),
        ("vgg19_bn", 143_678_248),
        ("alexnet", 61_100_840),
        ("mobilenet_v2", 3_504_872),
    ] {
        let told = architecture(&format!("torchvision-{model}"), 1000)?;
        assert_eq!(told.params(), params, "{model}");
    }
    Ok(())
}

/// Every model has a name of its own that reads back, and says which pictures it takes.
#[test]
fn every_model_is_described() -> Result<()> {
    let mut names = BTreeSet::new();
    for info in models() {
        assert!(names.insert(info.name), "{} twice", info.name);
        let spec: ModelSpec = info.name.parse()?;
        assert_eq!(spec.to_string().parse::<ModelSpec>()?, spec);
        let told = spec.architecture([3, 64, 64], 10)?;
        assert!(told.taps.len() >= 4, "{}", info.name);
        let tap_names: BTreeSet<&String> = told.taps.iter().map(|tap| &tap.name).collect();
        assert_eq!(tap_names.len(), told.taps.len(), "{}: tap names", info.name);
        assert_eq!(told.stages.len(), told.taps.len() + 1);
        assert!(matches!(spec.architecture([3, 64, 64], 1), Err(Error::Parameter { .. })));
        assert!(spec.architecture([3, 64, 0], 10).is_err(), "{}", info.name);
    }
    assert!(matches!(
        "vit:heads=3".parse::<ModelSpec>()?.architecture([3, 64, 64], 10),
        Err(Error::Parameter { .. })
    ));
    Ok(())
}

/// What released checkpoints of IR hold and nobody uses is kept if it is there, and missed by nobody if it is not.
#[test]
fn unused_entries_may_be_missing_and_are_kept() -> Result<()> {
    let mut target = network("ir50", [3, 32, 32])?;
    let unused = |target: &Network| -> Vec<(String, Tensor)> {
        let entries = target.entries().into_iter().filter(|(_, e)| e.kind() == Kind::Unused);
        entries.map(|(name, entry)| (name, entry.value().clone())).collect()
    };
    let saved = gpz_nn::checkpoint::save(&target, None)?;
    let (mut tensors, _) = gpz_nn::checkpoint::from_safetensors(&saved)?;
    assert!(tensors.keys().all(|key| !key.starts_with("feature.output_layer")));
    gpz_nn::checkpoint::load(&mut target, &tensors)?;
    let key = "feature.output_layer.3.weight";
    tensors.insert(key.to_owned(), Tensor::full(&[5, 512 * 14 * 14], 0.5, DType::F32)?);
    gpz_nn::checkpoint::load(&mut target, &tensors)?;
    let kept = unused(&target).into_iter().find(|(name, _)| name == key).map(|(_, value)| value);
    let kept = kept.map(|value| value.to_vec::<f32>()).transpose()?;
    assert!(kept.is_some_and(|values| values.iter().all(|v| *v == 0.5)));
    let (again, _) =
        gpz_nn::checkpoint::from_safetensors(&gpz_nn::checkpoint::save(&target, None)?)?;
    assert!(again.contains_key(key));
    Ok(())
}

/// A name that is nearly a model's, or part of one, gets a suggestion; another gets the list alone.
#[test]
fn an_unknown_model_may_be_meant_otherwise() {
    for (asked, meant) in [
        ("alexnet", Some("torchvision-alexnet")),
        ("resnet-18", Some("resnet18")),
        ("VGG19_BN", Some("vgg19_bn")),
        ("mobilenetv2", Some("torchvision-mobilenet_v2")),
        ("vgg-16", Some("torchvision-vgg16")),
        ("resnet-101", Some("torchvision-resnet101")),
        ("torchvision-densenet121", None),
        ("r", None),
        ("transformer", None),
    ] {
        let message = asked.parse::<ModelSpec>().expect_err(asked).to_string();
        let said = message.contains("did you mean");
        let says = meant.is_none_or(|meant| message.contains(&format!("did you mean {meant}?")));
        assert!(said == meant.is_some() && says && message.contains("; known: cnn4"), "{message}");
    }
}
