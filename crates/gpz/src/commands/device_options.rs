//! The device that a command computes on.

use std::str::FromStr;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpz_audit::config::AuditConfig;
use gpz_audit::words::counted;
use gpz_tensor::{Device, cuda};

use crate::commands::run_options::CommandLine;

/// What `--device` can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Choice::Auto),
            "cpu" => return Ok(Choice::Cpu),
            "cuda" => return Ok(Choice::Cuda(0)),
            _ => {}
        }
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        number.map(Choice::Cuda).ok_or_else(|| "known are auto, cpu, cuda and cuda:N".to_owned())
    }
}

/// What factors of matrix products and convolutions are rounded to on a CUDA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// Nothing: 24 bits, as on the processor
    F32,
    /// 11 bits
    Tf32,
    /// 8 bits in matrix products, 11 in convolutions
    Bf16,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Flags of every command that runs a network.
#[derive(Debug, Args)]
pub(crate) struct DeviceFlags {
    /// Device to compute on: cpu, cuda, cuda:N, or auto (a CUDA device if there is one, else the processor); see gpz devices
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Choice,
    /// On a CUDA device: what factors of products and convolutions are rounded to
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// On a CUDA device: most memory to take, in MiB; all there is unless set
    #[arg(long, value_name = "MIB")]
    device_memory: Option<u64>,
}

/// A device that is open.
pub(crate) struct Opened {
    /// The device.
    pub(crate) device: Device,
    /// Why it is the processor, where a CUDA device was looked for.
    note: Option<String>,
    precision: Precision,
}

impl DeviceFlags {
    /// The flags that ask for the same, where they differ from what is done without them.
    pub(crate) fn words(&self, line: CommandLine) -> CommandLine {
        let device = match self.device {
            Choice::Cpu => None,
            Choice::Auto => Some("auto".to_owned()),
            Choice::Cuda(0) => Some("cuda".to_owned()),
            Choice::Cuda(number) => Some(format!("cuda:{number}")),
        };
        let precision = (self.precision != Precision::F32).then(|| self.precision.name());
        line.flag("--device", device)
            .flag("--precision", precision)
            .flag("--device-memory", self.device_memory)
    }

    /// Opens the device.
    pub(crate) fn open(&self) -> Result<Opened> {
        let precision = match self.precision {
            Precision::F32 => cuda::Precision::F32,
            Precision::Tf32 => cuda::Precision::Tf32,
            Precision::Bf16 => cuda::Precision::Bf16,
        };
        let options = cuda::Options { precision };
        let (device, note) = match self.device {
            Choice::Cpu => (Device::Cpu, None),
            Choice::Auto => Device::auto_with(options),
            Choice::Cuda(number) => {
                let device = Device::cuda_with(number, options)?;
                // A network needs all of them; better known now than at its first layer.
                cuda::complete()?;
                (device, None)
            }
        };
        if let (Some(device), Some(mebibytes)) = (device.as_cuda(), self.device_memory) {
            device.set_memory_limit(mebibytes.saturating_mul(1 << 20));
        }
        Ok(Opened { device, note, precision: self.precision })
    }
}

impl Opened {
    /// The device in the first line of a run.
    pub(crate) fn in_words(&self) -> String {
        match self.device.as_cuda() {
            None => format!("cpu, {}", counted(rayon::current_num_threads(), "thread")),
            Some(device) => {
                format!("cuda, {}, {}", device.properties().name, self.precision.name())
            }
        }
    }

    /// The device in a run's record: which it is, with what software, and to what it rounds.
    pub(crate) fn versions(&self) -> Vec<(&'static str, String)> {
        match self.device.as_cuda() {
            None => Vec::new(),
            Some(device) => {
                let properties = device.properties();
                let [major, minor] = properties.compute_capability;
                vec![
                    ("cuda device", format!("{}, sm_{major}{minor}", properties.name)),
                    ("cuda software", properties.software.clone()),
                    ("precision of products", self.precision.name().to_owned()),
                ]
            }
        }
    }

    /// A headline, after a line that says why the processor computes where that was not asked for.
    pub(crate) fn above(&self, headline: String) -> String {
        match &self.note {
            Some(note) => format!("{note}; computing on the cpu\n{headline}"),
            None => headline,
        }
    }
}

/// Batches of both trainings.
pub(crate) fn set_batch(config: &mut AuditConfig, batch: Option<usize>) {
    if let Some(batch) = batch {
        (config.target.training.batch, config.attack.training.batch) = (batch, batch);
    }
}
