//! `gpz devices`: what can compute.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpz_audit::words::{bytes, counted};
use gpz_tensor::cuda;
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
struct Cpu {
    name: &'static str,
    processor: String,
    threads: usize,
    instruction_set: &'static str,
}

#[derive(Serialize)]
struct Gpu {
    name: String,
    gpu: String,
    compute_capability: [u32; 2],
    memory_bytes: u64,
    software: String,
    /// Why the kernels do not run on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfit: Option<String>,
}

/// A library of CUDA's that networks need.
#[derive(Serialize)]
struct Library {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
}

/// The CUDA devices, or why there are none.
fn gpus() -> Result<Vec<Gpu>, String> {
    let found = cuda::list().map_err(|error| error.to_string())?;
    let described = found.into_iter().enumerate().map(|(number, properties)| Gpu {
        name: format!("cuda:{number}"),
        unfit: cuda::unfit(&properties),
        gpu: properties.name,
        compute_capability: properties.compute_capability,
        memory_bytes: properties.memory_bytes,
        software: properties.software,
    });
    Ok(described.collect())
}

fn libraries() -> Vec<Library> {
    let found = cuda::libraries().iter().map(|library| Library {
        name: library.name,
        version: library.version.as_ref().ok().cloned(),
        missing: library.version.as_ref().err().cloned(),
        path: library.path.clone(),
    });
    found.collect()
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
    let cpu = Cpu {
        name: "cpu",
        processor: processor(),
        threads,
        instruction_set: gpz_tensor::isa_name(),
    };
    let gpus = gpus();
    // Without a device nobody asks for its libraries.
    let libraries = if gpus.is_ok() { libraries() } else { Vec::new() };
    if args.json {
        let mut devices = vec![serde_json::to_value(&cpu)?];
        for gpu in gpus.iter().flatten() {
            devices.push(serde_json::to_value(gpu)?);
        }
        return print_json(&serde_json::json!({
            "devices": devices,
            "no_cuda": gpus.err(),
            "cuda_libraries": libraries,
        }));
    }
    print(&format!(
        "{}  {}, {}, {}",
        cpu.name,
        cpu.processor,
        counted(cpu.threads, "thread"),
        cpu.instruction_set
    ))?;
    match gpus {
        Err(reason) => print(&reason)?,
        Ok(gpus) => {
            for gpu in gpus {
                let [major, minor] = gpu.compute_capability;
                let memory = bytes(gpu.memory_bytes);
                let unfit = gpu.unfit.map_or_else(String::new, |why| format!("; unfit: {why}"));
                let Gpu { name, gpu, software, .. } = gpu;
                print(&format!("{name}  {gpu}, {memory}, sm_{major}{minor}, {software}{unfit}"))?;
            }
        }
    }
    for Library { name, version, missing, path } in libraries {
        let path = path.map_or_else(String::new, |path| format!(", {}", path.display()));
        print(&match (version, missing) {
            (Some(version), _) => format!("{name}  {version}{path}"),
            (None, missing) => format!("{name}  {}", missing.unwrap_or_default()),
        })?;
    }
    Ok(())
}
