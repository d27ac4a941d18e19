//! `gpz devices`: what can compute.

use anyhow::Result;
use clap::Args;
use gpz_audit::words::counted;
use serde::Serialize;

use crate::commands::{print, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gpz devices --json")]
pub(crate) struct DevicesArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Device {
    name: &'static str,
    processor: String,
    threads: usize,
    instruction_set: &'static str,
}

/// The processor's name where the system tells it, its architecture elsewhere.
fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").ok();
    let named = told.as_deref().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Lists the devices.
pub(crate) fn run(args: &DevicesArgs) -> Result<()> {
    let threads = rayon::current_num_threads();
    let cpu = Device {
        name: "cpu",
        processor: processor(),
        threads,
        instruction_set: gpz_tensor::isa_name(),
    };
    if args.json {
        return print_json(&serde_json::json!({ "devices": [cpu] }));
    }
    print(&format!(
        "{}  {}, {}, {}",
        cpu.name,
        cpu.processor,
        counted(cpu.threads, "thread"),
        cpu.instruction_set
    ))
}
