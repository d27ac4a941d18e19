//! Training on a CUDA device: the same numbers as on the processor, and nobody who waits.

mod common;

use common::{rng, uniform};
use gpz_cuda_sim::Simulator;
use gpz_nn::{
    BatchNorm, Conv2d, ConvTranspose2d, Dropout, Module, Optimizer, PRelu, Result, Rule, Step,
    Tape, Var, checkpoint, loss, module,
};
use gpz_tensor::{
    Bad, Conv2dOptions, ConvTranspose2dOptions, CudaDevice, DType, Device, Error, Tensor, Watch,
};

/// A bit of everything that decoders are made of.
struct Net {
    down: Conv2d,
    norm: BatchNorm,
    slope: PRelu,
    up: ConvTranspose2d,
    dropout: Dropout,
}

module!(Net { "down" => down, "norm" => norm, "slope" => slope, "up" => up });

impl Net {
    fn new() -> Result<Self> {
        let rng = &mut rng(3);
        Ok(Net {
            // A bias before a norm has no gradient but rounding, which Adam would blow up.
            down: Conv2d::new([3, 8], 3, Conv2dOptions::square(2, 1), false, rng)?,
            norm: BatchNorm::new(8)?,
            slope: PRelu::new(1)?,
            up: ConvTranspose2d::new([8, 3], 4, ConvTranspose2dOptions::square(2, 1), true, rng)?,
            dropout: Dropout { p: 0.25 },
        })
    }

    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let x = self.down.forward_normed(tape, x, &self.norm)?;
        let x = self.dropout.forward(tape, &self.slope.forward(tape, &x)?)?;
        self.up.forward(tape, &x)?.sigmoid()
    }
}

fn pictures(seed: u64) -> Tensor {
    uniform(&mut rng(seed), &[4, 3, 6, 6], 0.0..1.0).to_dtype(DType::F32).unwrap()
}

/// Steps of training on a device; the losses come at the end, from the watch.
fn train(
    net: &mut Net,
    optimizer: &mut Optimizer,
    device: &Device,
    steps: std::ops::Range<u64>,
) -> Result<f64> {
    let mut watch = Watch::new(device, 0.0)?;
    for step in steps {
        let x = pictures(step % 3).to_device(device)?;
        one_step(net, optimizer, &mut watch, &x, step)?;
    }
    Ok(watch.read()?.loss_sum)
}

fn one_step(
    net: &mut Net,
    optimizer: &mut Optimizer,
    watch: &mut Watch,
    x: &Tensor,
    key: u64,
) -> Result<Step> {
    let tape = Tape::train(key);
    let loss = loss::mse(&net.forward(&tape, &Var::constant(x.clone()))?, x)?;
    let step = tape.backward(&loss)?;
    watch.observe(loss.value(), 1.0, &step.gradients())?;
    optimizer.step_under(net, &step, Some(watch))?;
    Ok(step)
}

fn values(net: &Net) -> Vec<(String, Vec<f64>)> {
    let entries = net.entries().into_iter();
    entries.map(|(name, entry)| (name, entry.value().to_vec().unwrap())).collect()
}

fn rules() -> [Rule; 4] {
    let betas = [0.9, 0.99];
    [
        Rule::Sgd { momentum: 0.0, weight_decay: 0.0 },
        Rule::Sgd { momentum: 0.9, weight_decay: 1e-3 },
        Rule::Adam { betas, amsgrad: true, weight_decay: 1e-3 },
        Rule::AdamW { betas, amsgrad: false, weight_decay: 1e-2 },
    ]
}

#[test]
fn a_few_steps_of_every_rule_lead_to_the_same_network() -> Result<()> {
    for rule in rules() {
        let mut results = Vec::new();
        for device in [Device::Cpu, common::cuda()] {
            let (mut net, mut optimizer) = (Net::new()?, Optimizer::new(rule, 1e-2));
            net.to_device(&device)?;
            assert_eq!(net.device(), device);
            let loss = train(&mut net, &mut optimizer, &device, 0..4)?;
            let x = Var::constant(pictures(9).to_device(&device)?);
            let y = net.forward(&Tape::eval(), &x)?.value().to_vec::<f64>()?;
            results.push((loss, values(&net), y));
        }
        let [(loss, here, y), (loss_there, there, y_there)] = &results[..] else { panic!() };
        assert!((loss - loss_there).abs() < 1e-5 * loss, "{rule:?}: {loss} {loss_there}");
        for ((name, here), (_, there)) in here.iter().zip(there) {
            for (a, b) in here.iter().zip(there) {
                // Where a gradient is near zero, Adam divides noise by noise.
                assert!((a - b).abs() < 2e-3 * (1.0 + a.abs()), "{rule:?}, {name}: {a} {b}");
            }
        }
        for (a, b) in y.iter().zip(y_there) {
            assert!((a - b).abs() < 1e-3, "{rule:?}: {a} {b}");
        }
    }
    Ok(())
}

/// After its first steps training takes no memory from the driver and never waits for the device.
#[test]
fn a_steady_step_neither_allocates_nor_waits() -> Result<()> {
    let driver = Simulator::new();
    let device = Device::Cuda(CudaDevice::with_driver(driver.clone()));
    for rule in rules() {
        let (mut net, mut optimizer) = (Net::new()?, Optimizer::new(rule, 1e-2));
        net.to_device(&device)?;
        let mut watch = Watch::new(&device, 0.0)?;
        let x = pictures(1).to_device(&device)?;
        for key in 0..2 {
            one_step(&mut net, &mut optimizer, &mut watch, &x, key)?;
        }
        let before = driver.calls();
        one_step(&mut net, &mut optimizer, &mut watch, &x, 2)?;
        let after = driver.calls();
        assert_eq!(after.allocations, before.allocations, "{rule:?}");
        assert_eq!((after.waits, after.uploads), (before.waits, before.uploads), "{rule:?}");
        assert!(after.launches > before.launches && after.convolutions == before.convolutions + 5);
    }
    Ok(())
}

/// A loss that is not finite is found when the watch is read, however late; parameters, moments and the sum are as before it.
#[test]
fn nothing_moves_from_the_first_bad_step_on() -> Result<()> {
    for device in [Device::Cpu, common::cuda()] {
        let rule = Rule::Adam { betas: [0.9, 0.99], amsgrad: true, weight_decay: 0.0 };
        let (mut net, mut optimizer) = (Net::new()?, Optimizer::new(rule, 1e-2));
        net.to_device(&device)?;
        let mut watch = Watch::new(&device, 0.5)?;
        let good = pictures(1).to_device(&device)?;
        let bad = good.affine(f64::from(f32::MAX), f64::from(f32::MAX))?;
        one_step(&mut net, &mut optimizer, &mut watch, &good, 0)?;
        let (before, sum) = (values(&net), watch.read()?);
        assert!(sum.bad.is_none() && sum.loss_sum > 0.5 && sum.last_loss == sum.loss_sum - 0.5);
        let learnt = |all: Vec<(String, Vec<f64>)>| {
            let is_learnt = |name: &str| !name.contains("running") && !name.contains("tracked");
            all.into_iter().filter(|(name, _)| is_learnt(name)).collect::<Vec<_>>()
        };
        let moments = |optimizer: &Optimizer| {
            let state = optimizer.state().into_iter();
            let tensors = state.filter(|(name, _)| !name.ends_with("steps"));
            tensors.map(|(_, tensor)| tensor.to_vec::<f64>().unwrap()).collect::<Vec<_>>()
        };
        let moments_before = moments(&optimizer);
        one_step(&mut net, &mut optimizer, &mut watch, &bad, 1)?;
        one_step(&mut net, &mut optimizer, &mut watch, &good, 2)?;
        let watched = watch.read()?;
        assert_eq!(watched.bad, Some((2, Bad::Loss)), "{device}");
        assert!(!watched.last_loss.is_finite() && watched.loss_sum == sum.loss_sum, "{device}");
        assert_eq!(learnt(values(&net)), learnt(before), "{device}");
        assert_eq!(moments(&optimizer), moments_before, "{device}");
    }
    Ok(())
}

#[test]
fn a_gradient_that_is_not_finite_is_told_from_the_loss() -> Result<()> {
    for device in [Device::Cpu, common::cuda()] {
        let mut watch = Watch::new(&device, 0.0)?;
        let put = |values: &[f32]| {
            Tensor::from_slice(values, &[values.len()]).unwrap().to_device(&device).unwrap()
        };
        let loss = put(&[0.5]).reshape(&[])?;
        let gradients = [put(&[1.0; 9]), put(&[0.0, f32::INFINITY, 1.0])];
        watch.observe(&loss, 2.0, &[&gradients[0]])?;
        assert_eq!(watch.read()?.bad, None);
        watch.observe(&loss, 2.0, &[&gradients[0], &gradients[1]])?;
        watch.observe(&loss, 2.0, &[&gradients[0]])?;
        let watched = watch.read()?;
        assert_eq!((watched.bad, watched.last_loss), (Some((2, Bad::Gradient)), 0.5), "{device}");
        assert!(gradients[0].all_finite()? && !gradients[1].all_finite()?);
    }
    Ok(())
}

/// A network goes to a device and comes back, through a file as well, and training goes on from it to the same numbers.
#[test]
fn a_state_is_the_same_wherever_it_lies() -> Result<()> {
    let device = common::cuda();
    let rule = rules()[2];
    let (mut net, mut optimizer) = (Net::new()?, Optimizer::new(rule, 1e-2));
    net.to_device(&device)?;
    train(&mut net, &mut optimizer, &device, 0..2)?;
    let file = checkpoint::save(&net, None)?;
    let (tensors, _) = checkpoint::from_safetensors(&file)?;
    let state = checkpoint::to_safetensors(&optimizer.state(), None)?;
    let (state, _) = checkpoint::from_safetensors(&state)?;
    let mut other = Net::new()?;
    other.to_device(&device)?;
    checkpoint::load(&mut other, &tensors)?;
    assert_eq!(other.device(), device);
    let mut resumed = Optimizer::new(rule, 1.0);
    resumed.load_state(&other, &state)?;
    train(&mut net, &mut optimizer, &device, 2..4)?;
    train(&mut other, &mut resumed, &device, 2..4)?;
    assert_eq!(values(&net), values(&other));
    net.to_device(&Device::Cpu)?;
    assert_eq!(values(&net), values(&other));
    Ok(())
}

#[test]
fn what_a_device_cannot_do_is_said() -> Result<()> {
    let device = common::cuda();
    let mut net = Net::new()?;
    net.convert(DType::F64)?;
    let error = net.to_device(&device).unwrap_err().to_string();
    assert!(error.contains("computes in f32, not in f64"), "{error}");
    let x = pictures(1);
    let error = x.add(&x.to_device(&device)?).unwrap_err();
    assert!(error.to_string().contains("one operand lies on cpu, another on cuda"), "{error}");

    let small = Simulator::with_memory(1 << 20);
    let device = CudaDevice::with_driver(small.clone());
    let there = Device::Cuda(device.clone());
    let held = Tensor::full_on(&[1 << 17], 1.0, DType::F32, &there)?;
    let error = Tensor::full_on(&[1 << 18], 1.0, DType::F32, &there).unwrap_err();
    let Error::DeviceMemory { needed_bytes, free_bytes, used_bytes, limited } = error else {
        panic!("{error}")
    };
    assert_eq!((needed_bytes, used_bytes, limited), (1 << 20, 1 << 19, false));
    assert_eq!(free_bytes, 1 << 19);
    let said = error.to_string();
    assert!(
        said.contains("no 1.0 MiB in one piece: 512.0 KiB are free")
            && said.contains("smaller batch")
    );
    // What was freed is used before an error is made of it, whatever its size.
    drop(held);
    drop(Tensor::full_on(&[1 << 18], 1.0, DType::F32, &there)?);
    device.set_memory_limit(1 << 19);
    let error = Tensor::full_on(&[1 << 18], 1.0, DType::F32, &there).unwrap_err().to_string();
    assert!(error.contains("within the limit"), "{error}");

    small.lose_after(2);
    let x = Tensor::full_on(&[8], 1.0, DType::F32, &there)?.affine(2.0, 0.0)?;
    let error = x.affine(2.0, 0.0).unwrap_err().to_string();
    assert_eq!(error, "affine_f32: the device is lost");
    assert!(x.to_vec::<f32>().is_err());
    Ok(())
}
