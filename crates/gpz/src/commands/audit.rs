//! `gpz audit`: measure and attack every split, and say where to cut.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::summary;
use gpz_audit::sweep::{Circumstances, audit};
use gpz_audit::words::parse_bytes;

use crate::commands::print;
use crate::commands::run_options::{
    self, AttackerFlags, DeclarationFlags, RunFlags, TargetFlags, begin_progress, circumstances,
    or_stopped,
};
use crate::progress::stop_on_interrupt;

/// Folder of numbered runs.
const RUNS: &str = "runs";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz audit                                        the quick preset on the embedded images
  gpz audit --data photos/ --model cnn4:width=32   on a folder of class folders
  gpz audit --weights target.safetensors --model cnn4:width=16 --data photos/
  gpz audit --max-wire-bytes 16384 --max-ssim 0.5  recommend a split under limits
  gpz audit --preset paper --model cnn4:width=64 --data photos/   the published protocol: docs/protocol.md
  gpz audit --data mnist/ --aux kmnist/            an attacker who has other pictures than the audited set's
  gpz audit --labels ls:+0.3 --track-radius        label smoothing, and what it does to the features while the target learns
  gpz audit --channel bits:1 --prior-tau 0.1       send one bit for each number, and bound what any attacker can do
  gpz audit --out runs/007 --resume                go on where a run was stopped

The run's directory holds splits.json and splits.csv (every figure), report.html (for people), choice.json, run.json, config.toml, \
checkpoints and pictures. Your own model: docs/your-model.md.

The attacker learns from a part of the images that the target never saw: aux/ beside train/ and test/ if the folder has it, else a part cut \
from the training images, or with --aux another set, in which case the audited set's own part is used for nothing.

With --channel the attacks learn from, and are tested on, what crosses the wire: the feature with Gaussian noise of standard deviation SIGMA \
added, in B bits for each number, or cast to a narrower type; noise is drawn anew for each feature. With --prior-tau as well the report says \
below which mean error no attacker comes, known or unknown, or, behind noise, an estimate of it. A picture that is sent exactly, or of \
which anything may be expected, has no such bound. docs/declared-bounds.md says why, and what the bound is worth.")]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    run: RunFlags,
    /// Weights of the target: safetensors, or a state_dict saved by PyTorch; trained here unless given
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    /// Weights of LPIPS as scripts/make-lpips-weights makes them, to measure it too
    #[arg(long, value_name = "FILE")]
    lpips_weights: Option<String>,
    /// Directory of the run; a new runs/NNN unless given, and with --resume the latest of them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    attacker: AttackerFlags,
    #[command(flatten)]
    declaration: DeclarationFlags,
    /// Splits to measure and attack, by name or number, such as 13,26,30; all unless given
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    splits: Vec<String>,
    /// Memory for statistics, and for decoders that learn together with the target they attack, such as 4GiB; what does not fit is done in groups
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Keep the features that decoders learn from in a file in this folder while they do: the target runs over each picture once, not once in
    /// each epoch. How large it becomes is said beforehand
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
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
    #[arg(long, value_name = "SSIM", allow_negative_numbers = true)]
    max_ssim: Option<f64>,
    /// Limit: PSNR in decibels an attacker may reach
    #[arg(long, value_name = "DB", allow_negative_numbers = true)]
    max_psnr: Option<f64>,
}

impl AuditArgs {
    fn configuration(&self, dir: Option<&Path>) -> Result<AuditConfig> {
        let mut config = self.run.configuration(&self.run.source("audit", dir)?)?;
        self.run.set(&mut config);
        self.target.set(&mut config);
        self.attacker.set(&mut config);
        self.declaration.set(&mut config);
        if let Some(epochs) = self.target_epochs {
            config.target.training.set_epochs(epochs);
        }
        if let Some(epochs) = self.attack_epochs {
            config.attack.training.set_epochs(epochs);
        }
        config.weights = self.weights.clone().or(config.weights);
        if !self.splits.is_empty() {
            config.splits.clone_from(&self.splits);
        }
        config.lpips_weights = self.lpips_weights.clone().or(config.lpips_weights);
        let limits = &mut config.limits;
        limits.max_wire_bytes = self.max_wire_bytes.or(limits.max_wire_bytes);
        limits.max_edge_macs_fraction = self.max_edge_macs.or(limits.max_edge_macs_fraction);
        limits.min_mse_effective = self.min_mse.or(limits.min_mse_effective);
        limits.max_ssim = self.max_ssim.or(limits.max_ssim);
        limits.max_psnr_db = self.max_psnr.or(limits.max_psnr_db);
        config.validate()?;
        Ok(config)
    }

    fn command(&self, config: &AuditConfig, dir: &RunDir) -> String {
        self.run.command("audit", config, dir, |line| {
            let line = TargetFlags::words(config, line);
            let line = AttackerFlags::words(config, line);
            DeclarationFlags::words(config, line)
                .flag("--weights", config.weights.as_ref())
                .flag("--splits", (!config.splits.is_empty()).then(|| config.splits.join(",")))
                .flag("--lpips-weights", config.lpips_weights.as_ref())
                .flag("--target-epochs", self.target_epochs)
                .flag("--attack-epochs", self.attack_epochs)
                .flag("--max-wire-bytes", self.max_wire_bytes)
                .flag("--max-edge-macs", self.max_edge_macs)
                .flag("--min-mse", self.min_mse)
                .flag("--max-ssim", self.max_ssim)
                .flag("--max-psnr", self.max_psnr)
        })
    }

    fn open(&self) -> Result<RunDir> {
        Ok(match (&self.out, self.run.resume) {
            (Some(out), resume) => run_options::open(out, resume)?,
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
    let directories = std::fs::read_dir(runs).ok()?.flatten().filter(|entry| entry.path().is_dir());
    let names = directories.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| Some((name.parse::<u64>().ok()?, name)))
        .max()
        .map(|(_, name)| runs.join(name))
}

/// Runs the audit, prints its table and where its report is.
pub(crate) fn run(args: &AuditArgs) -> Result<()> {
    // What is wrong with the arguments is said before a directory is made.
    let existing = args.out.clone().or_else(|| latest(Path::new(RUNS)));
    let config = args.configuration(existing.as_deref())?;
    let opened = args.run.device.open()?;
    let dir = args.open()?;
    stop_on_interrupt();
    let circumstances = Circumstances {
        memory: args.memory,
        cache: args.cache.clone(),
        ..circumstances(args.command(&config, &dir), &opened)
    };
    let mut progress = begin_progress(&args.run, &config, &dir, &opened);
    let splits = audit(&config, &dir, &circumstances, &mut progress)
        .map_err(|error| or_stopped(error, "audit", &dir, (&args.run.device, &circumstances)))?;
    drop(progress);
    if args.run.json {
        return print(&splits.to_json()?);
    }
    print(&summary::table(&splits))?;
    for line in [summary::channel_line(&splits), summary::prior_line(&splits)].iter().flatten() {
        print(line)?;
    }
    print(&summary::verdict_line(&splits))?;
    print(&summary::choice_line(&splits))?;
    let report = dir.file(files::REPORT_HTML);
    print(&format!(
        "report: {}        your own model: gpz audit --help, docs/your-model.md",
        report.display()
    ))?;
    Ok(())
}
