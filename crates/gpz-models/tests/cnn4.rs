//! The four-block network: halves, costs, names, and what it refuses.

use gpz_models::{Error, ModelSpec, Normalisation, Result, Target};
use gpz_nn::{Module, Tape, Var, rng_for};
use gpz_tensor::{DType, Tensor};
use proptest::prelude::*;
use rand::RngExt;

fn cnn4(width: usize) -> Result<ModelSpec> {
    format!("cnn4:width={width}").parse()
}

fn pictures(shape: [usize; 4], dtype: DType) -> Result<Tensor> {
    let mut rng = rng_for(5, "pictures", 0);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random::<f64>()).collect();
    Ok(Tensor::from_slice(&values, &shape)?.to_dtype(dtype).unwrap())
}

/// A network whose running statistics are not the initial ones, so that evaluation has something to fold.
fn network(width: usize, input: [usize; 3], dtype: DType) -> Result<Box<dyn Target>> {
    let mut rng = rng_for(3, "network", 0);
    let mut target = cnn4(width)?.build(input, 7, &mut rng)?;
    target.visit_mut("", &mut |name, entry| {
        if name.ends_with("running_var") || name.ends_with("running_mean") {
            let values: Vec<f64> =
                (0..entry.value().numel()).map(|_| 0.5 + rng.random::<f64>()).collect();
            if let Ok(value) = Tensor::from_slice(&values, &[values.len()]) {
                *entry.value_mut() = value;
            }
        }
    });
    target.convert(dtype).unwrap();
    Ok(target)
}

/// What the cloud makes of what the edge sends is what the whole network makes of the picture, bit for bit.
#[test]
fn halves_compose_to_the_whole_at_every_split() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for (width, input, batch) in
            [(4, [1, 32, 32], 3), (16, [3, 64, 64], 2), (5, [2, 16, 48], 1)]
        {
            let target = network(width, input, dtype)?;
            let x = Var::constant(pictures([batch, input[0], input[1], input[2]], dtype)?);
            let whole = target.forward(&Tape::eval(), &x)?.into_value();
            assert!(whole.all_finite().unwrap());
            target.visit_taps(x.value(), target.taps().len(), |split, z| -> Result<()> {
                let head = target.head(&Tape::eval(), split, &x)?;
                assert_eq!(
                    head.value().to_vec::<f64>().unwrap(),
                    z.to_vec::<f64>().unwrap(),
                    "split {split}"
                );
                assert_eq!(head.shape()[1..], target.taps()[split - 1].shape);
                let halves = target.tail(&Tape::eval(), split, &head)?;
                assert_eq!(
                    halves.value().to_vec::<f64>().unwrap(),
                    whole.to_vec::<f64>().unwrap(),
                    "split {split}"
                );
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Counted by hand for 1×64×64, ten classes, width 16.
#[test]
fn costs_are_those_of_the_layers() -> Result<()> {
    let target = cnn4(16)?.build([1, 64, 64], 10, &mut rng_for(1, "n", 0))?;
    let macs = [
        64 * 64 * 9 * 16,
        32 * 32 * 9 * 16 * 32,
        16 * 16 * 9 * 32 * 64,
        8 * 8 * 9 * 64 * 128,
        2048 * 50 + 50 * 10,
    ];
    let params = [
        9 * 16 + 48,
        9 * 16 * 32 + 96,
        9 * 32 * 64 + 192,
        9 * 64 * 128 + 384,
        2048 * 50 + 50 + 500 + 10,
    ];
    let described = cnn4(16)?.architecture([1, 64, 64], 10)?;
    assert_eq!((described.params(), described.macs()), (params.iter().sum(), macs.iter().sum()));
    assert_eq!(described.taps, target.taps());
    let (all_macs, all_params): (u64, u64) = (macs.iter().sum(), params.iter().sum());
    assert_eq!(all_params as usize, target.parameter_count());
    for split in 1..=4 {
        let cost = target.split_cost(split)?;
        assert_eq!(cost.edge_macs, macs[..split].iter().sum::<u64>());
        assert_eq!(cost.edge_params, params[..split].iter().sum::<u64>());
        assert_eq!(cost.edge_macs_fraction, cost.edge_macs as f64 / all_macs as f64);
        assert_eq!(cost.edge_params_fraction, cost.edge_params as f64 / all_params as f64);
        assert_eq!(cost.wire_bytes, 4 * (16 << (split - 1)) * (64 >> split) * (64 >> split));
    }
    Ok(())
}

/// A network that no memory holds has its price all the same.
#[test]
fn costs_need_no_weights() -> Result<()> {
    let vast = cnn4(512)?.architecture([3, 8192, 8192], 4096)?;
    assert_eq!(vast.split_cost(1)?.wire_bytes, 4 * 512 * 4096 * 4096);
    assert_eq!(vast.largest_feature, 512 * 8192 * 8192);
    assert_eq!(vast.least_bytes(2), 4 * (u128::from(vast.params()) + 4 * 512 * 8192 * 8192));
    assert!(vast.params() > 1 << 42);
    assert_eq!(vast.find_split("block4")?, 4);
    assert!(matches!(vast.split_cost(5), Err(Error::UnknownSplit { .. })));
    Ok(())
}

#[test]
fn splits_are_found_by_name_and_number() -> Result<()> {
    let target = network(4, [1, 16, 16], DType::F32)?;
    assert_eq!(target.find_split("block3")?, 3);
    assert_eq!(target.find_split("3")?, 3);
    for unknown in ["0", "5", "block5", "", "-1"] {
        let message = target.find_split(unknown).expect_err(unknown).to_string();
        assert!(message.contains("block1, block2, block3, block4"), "{message}");
    }
    let x = Var::constant(pictures([1, 1, 16, 16], DType::F32)?);
    assert!(matches!(target.head(&Tape::eval(), 0, &x), Err(Error::UnknownSplit { .. })));
    assert!(matches!(target.tail(&Tape::eval(), 5, &x), Err(Error::UnknownSplit { .. })));
    Ok(())
}

#[test]
fn taps_are_visited_in_order_and_no_further_than_asked() -> Result<()> {
    let target = network(4, [1, 32, 32], DType::F32)?;
    let x = pictures([1, 1, 32, 32], DType::F32)?;
    for last in 1..=4 {
        let mut visited = Vec::new();
        target.visit_taps(&x, last, |split, _| -> Result<()> {
            visited.push(split);
            Ok(())
        })?;
        assert_eq!(visited, (1..=last).collect::<Vec<_>>());
    }
    for last in [0, 5] {
        let none = target.visit_taps(&x, last, |_, _| -> Result<()> { Ok(()) });
        assert!(matches!(none, Err(Error::UnknownSplit { .. })), "{last}");
    }
    Ok(())
}

/// A smaller picture would go through the convolutions and contradict what the taps say of themselves.
#[test]
fn other_shapes_than_the_network_s_are_named() -> Result<()> {
    let target = network(4, [1, 64, 64], DType::F32)?;
    let tape = Tape::eval();
    let small = Var::constant(pictures([2, 1, 48, 48], DType::F32)?);
    let want = "model cnn4:width=4 takes pictures of shape [n, 1, 64, 64], not [2, 1, 48, 48]; \
                resize the pictures, or build the model for theirs";
    let visited = target.visit_taps(small.value(), 1, |_, _| -> Result<()> { Ok(()) });
    for error in
        [target.forward(&tape, &small).err(), target.head(&tape, 1, &small).err(), visited.err()]
    {
        assert_eq!(error.map(|e| e.to_string()).as_deref(), Some(want));
    }
    for shape in [[2, 8, 16, 8], [2, 16, 8, 8]] {
        let z = Var::constant(pictures(shape, DType::F32)?);
        let error = target.tail(&tape, 2, &z).err().map(|e| e.to_string());
        let want = format!(
            "model cnn4:width=4 takes features of block2 of shape [n, 8, 16, 16], not {shape:?}; \
             pass what the head gives at this split"
        );
        assert_eq!(error, Some(want));
    }
    let x = Var::constant(pictures([1, 1, 64, 64], DType::F32)?);
    let error = target.stage(&tape, 5, &x).err().map(|e| e.to_string());
    assert_eq!(error.as_deref(), Some("model cnn4:width=4 has no stage 5; its stages are 0 to 4"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What an attacker sees of a picture does not depend on the pictures it came with.
    #[test]
    fn a_feature_is_the_same_bits_alone_and_in_any_batch(
        batch in 2usize..20, place in 0usize..20, wide: bool, colour: bool, double: bool
    ) {
        let dtype = if double { DType::F64 } else { DType::F32 };
        let (width, channels) = (if wide { 16 } else { 3 }, if colour { 3 } else { 1 });
        let place = place % batch;
        let target = network(width, [channels, 32, 16], dtype).unwrap();
        let together = pictures([batch, channels, 32, 16], dtype).unwrap();
        let alone = together.narrow(0, place, 1).unwrap();
        let features = |x: &Tensor| {
            let mut features = Vec::new();
            target
                .visit_taps(x, 4, |_, z| -> Result<()> {
                    features.push(z.clone());
                    Ok(())
                })
                .unwrap();
            let x = Var::constant(x.clone());
            features.push(target.forward(&Tape::eval(), &x).unwrap().into_value());
            features
        };
        for (stage, (own, all)) in features(&alone).iter().zip(features(&together)).enumerate() {
            let all = all.narrow(0, place, 1).unwrap();
            prop_assert_eq!(own.to_vec::<f64>().unwrap(), all.to_vec::<f64>().unwrap(), "stage {}", stage);
        }
    }
}

#[test]
fn names_read_back_and_mistakes_are_named() -> Result<()> {
    for (text, canonical) in [("cnn4", "cnn4:width=64"), ("cnn4:width=16", "cnn4:width=16")] {
        assert_eq!(text.parse::<ModelSpec>()?.to_string(), canonical);
    }
    for (text, named) in [
        ("resnet", "known: cnn4"),
        ("cnn4:widht=3", "widht"),
        ("cnn4:width=0", "width=0"),
        ("cnn4:width=abc", "abc"),
        ("cnn4:width", "width"),
    ] {
        let message = text.parse::<ModelSpec>().expect_err(text).to_string();
        assert!(message.contains(named), "{text}: {message}");
    }
    Ok(())
}

#[test]
fn pictures_the_network_does_not_take_are_refused() -> Result<()> {
    for input in [[1, 28, 28], [0, 64, 64], [1, 64, 40], [1, 0, 16]] {
        let built = cnn4(4)?.build(input, 10, &mut rng_for(1, "n", 0));
        assert!(matches!(built, Err(Error::Input { .. })), "{input:?}");
    }
    let built = cnn4(4)?.build([1, 16, 16], 1, &mut rng_for(1, "n", 0));
    assert!(matches!(built, Err(Error::Parameter { .. })));
    Ok(())
}

#[test]
fn normalisation_follows_the_channels() -> Result<()> {
    let grey =
        Normalisation::for_channels(1)?.apply(&Tensor::full(&[1, 1, 2, 2], 0.75, DType::F64)?)?;
    assert_eq!(grey.to_vec::<f64>().unwrap(), [0.5; 4]);
    let colour =
        Normalisation::for_channels(3)?.apply(&Tensor::full(&[1, 3, 1, 1], 0.5, DType::F64)?)?;
    let want = [(0.5 - 0.4914) / 0.2023, (0.5 - 0.4822) / 0.1994, (0.5 - 0.4465) / 0.2010];
    for (got, want) in colour.to_vec::<f64>().unwrap().into_iter().zip(want) {
        assert!((got - want).abs() < 1e-12);
    }
    assert!(matches!(Normalisation::for_channels(2), Err(Error::Input { .. })));
    Ok(())
}
