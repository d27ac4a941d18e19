//! `gpz invert`: attack one split of a trained target, or features in a file.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpz_audit::inversion_run::{self, InversionConfig, InversionMetrics, METRICS, invert};
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::sweep::Circumstances;

use crate::commands::invert_features::{self, FeatureFlags};
use crate::commands::print;
use crate::commands::run_options::{
    self, AttackerFlags, DeclarationFlags, RunFlags, Source, begin_progress, circumstances,
    in_file, or_stopped, set,
};
use crate::progress::stop_on_interrupt;

/// Kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// A network that learns the picture from the feature
    Inverse,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz invert --model cnn4:width=16 --weights target/target.safetensors --data fashion-mnist --split block4 --attack inverse --out attack/
  gpz invert --model cnn4:width=16 --weights target/target.safetensors --data fashion-mnist --split block4 --channel bits:1 --prior-tau 0.1 --out attack/
  gpz invert --out attack/ --resume                go on where the attack was stopped
  gpz invert --features dump.npz                   features z and pictures x of any network, from any framework
  gpz invert --features z.npy --images x.npy --test-features zt.npy --test-images xt.npy --out attack/

The decoder learns on the auxiliary part, its checkpoint is chosen on a held-out tenth of it, and the test part is attacked once. The \
directory holds metrics.json, checkpoints/decoder_<split>.safetensors, pictures/, config.toml and run.json.

With --channel the attack learns from, and is tested on, what crosses the wire: the feature with Gaussian noise of standard deviation SIGMA \
added, in B bits for each number, or cast to a narrower type. With --prior-tau as well metrics.json says below which mean error no \
attacker comes, known or unknown, or, behind noise, an estimate of it: docs/declared-bounds.md.

With --features no model is needed: the file holds features [n, ...] and, under x, their pictures, [n, c, h, w] or [n, h, w, c], floats from \
0 to 1 or uint8. A fifth of the rows is the test part, drawn by the seed, unless --test-features names others; a tenth of the rest is held \
out. Pictures are not mirrored, as the feature of a mirrored one is not known. docs/your-features.md says how to store features.")]
pub(crate) struct InvertArgs {
    #[command(flatten)]
    pub(crate) run: RunFlags,
    #[command(flatten)]
    features: FeatureFlags,
    /// Weights of the model: safetensors, or a state_dict saved by PyTorch
    #[arg(long, value_name = "FILE")]
    weights: Option<String>,
    /// Weights of LPIPS as scripts/make-lpips-weights makes them, to measure it too
    #[arg(long, value_name = "FILE")]
    pub(crate) lpips_weights: Option<String>,
    /// Name or 1-based index of the split
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// Kind of attack
    #[arg(long, value_enum, default_value = "inverse")]
    attack: Attack,
    #[command(flatten)]
    pub(crate) attacker: AttackerFlags,
    #[command(flatten)]
    declaration: DeclarationFlags,
    /// Epochs of the attack's training
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Keep the features that the decoder learns from in a file in this folder while it does: the target runs over each picture once, not once
    /// in each epoch. How large it becomes is said beforehand
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Directory of the run: new or empty; with --features a new runs/NNN unless given
    #[arg(long, value_name = "DIR", required_unless_present = "features")]
    pub(crate) out: Option<PathBuf>,
}

impl InvertArgs {
    fn configuration(&self) -> Result<InversionConfig> {
        let run = &self.run;
        let Attack::Inverse = self.attack;
        let mut config = match run.source("invert", self.out.as_deref())? {
            Source::Begun { path, text } => {
                InversionConfig::from_toml(&text).map_err(in_file(&path))?
            }
            // The configuration of an earlier run of this command, whole.
            Source::Changes { path, text } if InversionConfig::is_one(&text) => {
                InversionConfig::from_toml(&text).map_err(in_file(&path))?
            }
            source => {
                let needed = [
                    ("model", run.model.is_some()),
                    ("weights", self.weights.is_some()),
                    ("data", run.data.is_some()),
                    ("split", self.split.is_some()),
                ];
                run.require("invert", &source, &needed)?;
                InversionConfig {
                    split: String::new(),
                    attack: inversion_run::Attack::Inverse,
                    audit: run.configuration(&source)?,
                }
            }
        };
        let audit = &mut config.audit;
        run.set(audit);
        self.attacker.set(audit);
        self.declaration.set(audit);
        audit.weights = self.weights.clone().or_else(|| audit.weights.take());
        audit.lpips_weights = self.lpips_weights.clone().or_else(|| audit.lpips_weights.take());
        if let Some(epochs) = self.epochs {
            audit.attack.training.set_epochs(epochs);
        }
        set(&mut config.split, &self.split);
        config.audit.validate()?;
        Ok(config)
    }

    fn command(&self, config: &InversionConfig, dir: &RunDir) -> String {
        let audit = &config.audit;
        self.run.command("invert", audit, dir, |line| {
            let line = AttackerFlags::words(audit, line);
            DeclarationFlags::words(audit, line)
                .flag("--weights", audit.weights.as_ref())
                .flag("--lpips-weights", audit.lpips_weights.as_ref())
                .flag("--split", Some(&config.split))
                .flag("--attack", Some("inverse"))
                .flag("--epochs", Some(audit.attack.training.epochs))
        })
    }
}

/// Attacks the split and says what came of it.
pub(crate) fn run(args: &InvertArgs) -> Result<()> {
    args.features.check()?;
    let (None, Some(out)) = (args.features.file(), &args.out) else {
        return invert_features::run(args, &args.features);
    };
    let config = args.configuration()?;
    let opened = args.run.device.open()?;
    let dir: RunDir = run_options::open(out, args.run.resume)?;
    stop_on_interrupt();
    let circumstances = Circumstances {
        cache: args.cache.clone(),
        ..circumstances(args.command(&config, &dir), &opened)
    };
    let mut progress = begin_progress(&args.run, &config.audit, &dir, &opened);
    let metrics = invert(&config, &dir, &circumstances, &mut progress)
        .map_err(|error| or_stopped(error, "invert", &dir, (&args.run.device, &circumstances)))?;
    drop(progress);
    if args.run.json {
        return print(&metrics.to_json()?);
    }
    print(&in_words(&metrics, &format!("{} of {}", metrics.split, metrics.model)))?;
    if let Some(bound) = &metrics.leakage_bound {
        print(&bound.in_words())?;
    }
    print(&where_it_stands(&dir))
}

/// The figures of an attack on `what`.
pub(crate) fn in_words(metrics: &InversionMetrics, what: &str) -> String {
    let lpips = metrics.lpips.map_or_else(String::new, |lpips| format!(", LPIPS {lpips:.3}"));
    format!(
        "{what}: MSE {:.4} ±{:.4} per element (mean image {:.4}), PSNR {:.2} dB, SSIM {:.3}{lpips}, on {} {} images",
        metrics.mse_per_element,
        metrics.ci.mse_per_element.half_width(),
        metrics.mean_image.mse_per_element,
        metrics.psnr_db,
        metrics.ssim,
        metrics.n,
        metrics.part,
    )
}

pub(crate) fn where_it_stands(dir: &RunDir) -> String {
    format!(
        "figures: {}        pictures: {}",
        dir.file(METRICS).display(),
        dir.file(files::PICTURES).display()
    )
}
