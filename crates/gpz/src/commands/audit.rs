//! `gpz audit`: measure and attack every split, and say where to cut.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::run_record::Named;
use gpz_audit::sweep::{Circumstances, audit};
use gpz_audit::summary;
use gpz_models::ModelSpec;

use crate::commands::print;
use crate::failure::Stopped;
use crate::progress::{Progress, stop_on_interrupt};

/// Folder of numbered runs.
const RUNS: &str = "runs";

/// Device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The best there is
    Auto,
    /// The processor
    Cpu,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz audit                                        the quick preset on the embedded images
  gpz audit --data photos/ --model cnn4:width=32   on a folder of class folders
  gpz audit --weights target.safetensors --model cnn4:width=16 --data photos/
  gpz audit --max-wire-bytes 16384 --max-ssim 0.5  recommend a split under limits
  gpz audit --out runs/007 --resume                go on where a run was stopped

The run's directory holds splits.json and splits.csv (every figure), report.html (for people), choice.json, run.json, config.toml,
checkpoints and pictures. Your own model: docs/your-model.md.")]
pub(crate) struct AuditArgs {
    /// quick (minutes; the default) or standard (hours)
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// Model and its parameters, such as cnn4:width=16; see gpz models
    #[arg(long)]
    model: Option<ModelSpec>,
    /// Built-in set or path; see gpz data list
    #[arg(long)]
    data: Option<String>,
    /// Weights of the target as safetensors; trained here unless given
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    /// Directory of the run; a new runs/NNN unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Device to compute on
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on with the run in --out, or with the latest in runs/
    #[arg(long)]
    resume: bool,
    /// TOML file that changes fields of the preset; a run's config.toml names them all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Epochs of the target's training
    #[arg(long, value_name = "N")]
    target_epochs: Option<usize>,
    /// Epochs of the attacks' training
    #[arg(long, value_name = "N")]
    attack_epochs: Option<usize>,
    /// Limit: bytes on the wire per image
    #[arg(long, value_name = "BYTES")]
    max_wire_bytes: Option<u64>,
    /// Limit: share of the multiply-accumulates on the edge, 0 to 1
    #[arg(long, value_name = "FRACTION")]
    max_edge_macs: Option<f64>,
    /// Limit: effective error per element an attacker must be left with
    #[arg(long, value_name = "MSE")]
    min_mse: Option<f64>,
    /// Limit: similarity (SSIM) an attacker may reach
    #[arg(long, value_name = "SSIM")]
    max_ssim: Option<f64>,
    /// Print splits.json instead of the table
    #[arg(long)]
    json: bool,
}

impl AuditArgs {
    fn configuration(&self, dir: Option<&Path>) -> Result<AuditConfig> {
        let stored = dir.map(|dir| dir.join(files::CONFIG)).filter(|path| self.resume && path.exists());
        let mut config = match (stored, &self.config) {
            (Some(path), None) => AuditConfig::from_toml(&read(&path)?)?,
            _ => AuditConfig::preset(self.preset.as_deref().unwrap_or("quick"))?,
        };
        if let Some(path) = &self.config {
            let named = || format!("{}", path.display());
            config = config.overlaid(&read(path)?).map_err(|e| anyhow::anyhow!("{}: {e}", named()))?;
        }
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                field.clone_from(value);
            }
        }
        set(&mut config.model, &self.model);
        set(&mut config.data, &self.data);
        set(&mut config.seed, &self.seed);
        set(&mut config.target.training.epochs, &self.target_epochs);
        set(&mut config.attack.training.epochs, &self.attack_epochs);
        config.weights = self.weights.clone().or(config.weights);
        let limits = &mut config.limits;
        limits.max_wire_bytes = self.max_wire_bytes.or(limits.max_wire_bytes);
        limits.max_edge_macs_fraction = self.max_edge_macs.or(limits.max_edge_macs_fraction);
        limits.min_mse_effective = self.min_mse.or(limits.min_mse_effective);
        limits.max_ssim = self.max_ssim.or(limits.max_ssim);
        config.validate()?;
        Ok(config)
    }

    /// The command that repeats the run.
    fn command(&self, config: &AuditConfig) -> String {
        let mut words = vec!["gpz".to_owned(), "audit".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), quoted(&value)]);
        flag("--preset", self.preset.clone().unwrap_or_else(|| "quick".to_owned()));
        if let Some(path) = &self.config {
            flag("--config", path.display().to_string());
        }
        flag("--model", config.model.to_string());
        flag("--data", config.data.clone());
        if let Some(weights) = &config.weights {
            flag("--weights", weights.clone());
        }
        flag("--seed", config.seed.to_string());
        if let Some(epochs) = self.target_epochs {
            flag("--target-epochs", epochs.to_string());
        }
        if let Some(epochs) = self.attack_epochs {
            flag("--attack-epochs", epochs.to_string());
        }
        if let Some(value) = self.max_wire_bytes {
            flag("--max-wire-bytes", value.to_string());
        }
        if let Some(value) = self.max_edge_macs {
            flag("--max-edge-macs", value.to_string());
        }
        if let Some(value) = self.min_mse {
            flag("--min-mse", value.to_string());
        }
        if let Some(value) = self.max_ssim {
            flag("--max-ssim", value.to_string());
        }
        words.join(" ")
    }

    fn open(&self) -> Result<RunDir> {
        Ok(match (&self.out, self.resume) {
            (Some(out), true) => RunDir::resume(out)?,
            (Some(out), false) => RunDir::create(out)?,
            (None, true) => match latest(Path::new(RUNS)) {
                Some(path) => RunDir::resume(&path)?,
                None => RunDir::numbered(Path::new(RUNS))?,
            },
            (None, false) => RunDir::numbered(Path::new(RUNS))?,
        })
    }
}

/// The run of the highest number.
fn latest(runs: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(runs).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| Some((name.parse::<u64>().ok()?, name))).max().map(|(_, name)| runs.join(name))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| anyhow::anyhow!("cannot read {}: {e}; check the path", path.display()))
}

/// Runs the audit, prints its table and where its report is.
#[allow(clippy::print_stderr)]
pub(crate) fn run(args: &AuditArgs) -> Result<()> {
    // What is wrong with the arguments is said before a directory is made.
    let existing = args.out.clone().or_else(|| latest(Path::new(RUNS)));
    let config = args.configuration(existing.as_deref())?;
    let dir = args.open()?;
    let threads = rayon::current_num_threads();
    let built_in = gpz_data::built_in().iter().any(|set| set.name == config.data);
    eprintln!(
        "gpz {} · {} · {}{} · cpu, {} thread{} · seed {} · {}",
        env!("CARGO_PKG_VERSION"),
        config.model.to_string().replace(':', " ").replace('=', " "),
        if built_in { "embedded " } else { "" },
        config.data,
        threads,
        if threads == 1 { "" } else { "s" },
        config.seed,
        dir.path().display(),
    );
    stop_on_interrupt();
    let command = args.command(&config);
    let named = |name: &str, value: &str| Named { name: name.to_owned(), value: value.to_owned() };
    let circumstances = Circumstances {
        command: command.clone(),
        threads,
        versions: vec![
            named("gpz", env!("CARGO_PKG_VERSION")),
            named("system", std::env::consts::OS),
            named("processor", std::env::consts::ARCH),
            named("instruction set", gpz_tensor::isa_name()),
        ],
    };
    let mut progress = Progress::new();
    let splits = audit(&config, &dir, &circumstances, &mut progress).map_err(|error| {
        if error.is_stop() {
            let out = quoted(&dir.path().display().to_string());
            return anyhow::Error::new(Stopped { command: format!("{command} --out {out} --resume") });
        }
        error.into()
    })?;
    drop(progress);
    if args.json {
        return print(&splits.to_json().context("splits.json")?);
    }
    print(&summary::table(&splits))?;
    print(&summary::verdict_line(&splits))?;
    print(&summary::choice_line(&splits))?;
    let report = dir.file(files::REPORT_HTML);
    print(&format!("report: {}        your own model: gpz audit --help, docs/your-model.md", report.display()))?;
    Ok(())
}
