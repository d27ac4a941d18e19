//! A launch of a kernel and what must come of it.

use gpz_kernels::Kernel;
use ptx_sim::{Arg, Device, Launch, Module, Work};

use crate::common::{Check, assert_no_mutant_survives};

/// An argument of a launch.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    F32s(Vec<f32>),
    F64s(Vec<f64>),
    /// Values to be changed in place.
    InOut32(Vec<f32>),
    /// Address 0, for an array that is absent.
    Absent,
    /// So many unwritten `f32` to be filled.
    Out32(usize),
    /// So many unwritten `f64` to be filled.
    Out64(usize),
    U32(usize),
    F32(f32),
    F64(f64),
}

/// What an output must hold, and how far it may be off: absolutely, and as a share of the value. Where both are zero, equal means equal
/// bits.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) values: Vec<f64>,
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

impl Want {
    pub(crate) fn exactly(values: Vec<f64>) -> Self {
        Self { values, absolute: 0.0, relative: 0.0 }
    }

    /// To a share of 10⁻⁶ and an absolute slack.
    pub(crate) fn within(values: Vec<f64>, absolute: f64) -> Self {
        Self { values, absolute, relative: 1e-6 }
    }

    fn check(&self, found: &[f64]) -> Result<(), String> {
        assert_eq!(found.len(), self.values.len(), "the case's own lengths");
        for (at, (&found, &want)) in found.iter().zip(&self.values).enumerate() {
            let slack = self.absolute + self.relative * want.abs();
            let right = if want.is_nan() {
                found.is_nan()
            } else if slack == 0.0 {
                found.to_bits() == want.to_bits()
            } else {
                found == want || (found - want).abs() <= slack && want.is_finite()
            };
            if !right {
                return Err(format!("value {at}: {found} instead of {want}"));
            }
        }
        Ok(())
    }
}

/// A launch with arguments, and what must stand in its outputs, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) kernel: Kernel,
    /// Blocks along y; those along x follow from the tile.
    pub(crate) down: usize,
    /// What the grid covers along x, by tiles.
    pub(crate) across: usize,
    pub(crate) args: Vec<Value>,
    pub(crate) want: Vec<Want>,
}

impl Case {
    /// Outputs in their order, widened to `f64`, and the work done.
    pub(crate) fn run(&self, text: &str, seed: u64) -> Result<(Vec<Vec<f64>>, Work), String> {
        let said = |error: ptx_sim::Error| error.to_string();
        let module = Module::parse(text).map_err(said)?;
        let mut device = Device::new();
        let mut outputs = Vec::new();
        let args: Vec<Arg> = self
            .args
            .iter()
            .map(|arg| match arg {
                Value::F32s(values) => Arg::from(device.upload(values)),
                Value::F64s(values) => Arg::from(device.upload(values)),
                Value::InOut32(values) => {
                    let buffer = device.upload_mutable(values);
                    outputs.push((buffer, false));
                    Arg::from(buffer)
                }
                Value::Absent => Arg::from(0_u64),
                Value::Out32(n) => {
                    let buffer = device.unwritten::<f32>(*n);
                    outputs.push((buffer, false));
                    Arg::from(buffer)
                }
                Value::Out64(n) => {
                    let buffer = device.unwritten::<f64>(*n);
                    outputs.push((buffer, true));
                    Arg::from(buffer)
                }
                Value::U32(value) => Arg::from(*value as u32),
                Value::F32(value) => Arg::from(*value),
                Value::F64(value) => Arg::from(*value),
            })
            .collect();
        let grid = [(self.across as u32).div_ceil(self.kernel.tile), self.down as u32, 1];
        // Far more than any case needs: of the mutants many do not end.
        let launch = Launch::new(grid, self.kernel.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, self.kernel.entry, &launch, &args).map_err(said)?;
        let mut found = Vec::new();
        for (buffer, wide) in outputs {
            found.push(if wide {
                device.read::<f64>(buffer).map_err(said)?
            } else {
                device.read::<f32>(buffer).map_err(said)?.into_iter().map(f64::from).collect()
            });
        }
        Ok((found, work))
    }

    /// Runs a text and compares.
    pub(crate) fn check(&self, text: &str, seed: u64) -> Result<Work, String> {
        let (found, work) = self.run(text, seed)?;
        assert_eq!(found.len(), self.want.len(), "the case's own outputs");
        for (at, (found, want)) in found.iter().zip(&self.want).enumerate() {
            want.check(found).map_err(|what| format!("output {at}, {what}"))?;
        }
        Ok(work)
    }

    /// Runs the kernel itself and compares.
    pub(crate) fn right(&self, seed: u64) -> Result<Work, String> {
        self.check(self.kernel.text, seed).map_err(|what| format!("{}: {what}", self.kernel.entry))
    }

    /// Asserts that seeds change no bit of what only exact instructions made.
    pub(crate) fn assert_same_bits(&self) {
        let bits = |seed| {
            let (found, _) = self.run(self.kernel.text, seed).unwrap();
            found.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        let first = bits(0);
        for seed in 1..5 {
            assert!(bits(seed) == first, "{}: seed {seed}", self.kernel.entry);
        }
    }
}

/// Asserts that no mutant of the cases' kernel passes all of them.
pub(crate) fn assert_all_needed(cases: &[Case]) {
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check(text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&cases[0].kernel, &checks);
}

/// Numbers that look random, no two neighbours alike, from −4 to 4.
pub(crate) fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n)
        .map(|at| ((at + 17 * seed + 1) * 7919 % 1009 * (at % 13 + seed + 3) % 1013) as f32)
        .map(|value| value / 1013.0 * 8.0 - 4.0)
        .collect()
}

/// Numbers from `f32` to `f64`.
pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
