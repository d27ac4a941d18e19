//! `gpz invert`: attack one split of a trained target.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpz_audit::inversion_run::{InversionConfig, METRICS, invert};
use gpz_audit::run_dir::{RunDir, files};
use gpz_models::ModelSpec;

use crate::commands::print;
use crate::commands::run_options::{
    self, CommandLine, Device, circumstances, headline, or_stopped, set,
};
use crate::progress::{Progress, stop_on_interrupt};

/// Kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// A network that learns the picture from the feature
    Inverse,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz invert --model cnn4:width=16 --weights target/target.safetensors --data fashion-mnist --split block4 --attack inverse --out attack/
  gpz invert --out attack/ --resume                go on where the attack was stopped

The decoder learns on the auxiliary part, its checkpoint is chosen on a held-out tenth of it, and the test part is attacked once. The
directory holds metrics.json, checkpoints/decoder_<split>.safetensors, pictures/, config.toml and run.json.")]
pub(crate) struct InvertArgs {
    /// Model and its parameters, such as cnn4:width=16; see gpz models
    #[arg(long, required_unless_present = "resume")]
    model: Option<ModelSpec>,
    /// Weights of the model as safetensors
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    weights: Option<String>,
    /// Built-in set or path; see gpz data list
    #[arg(long, required_unless_present = "resume")]
    data: Option<String>,
    /// Name or 1-based index of the split
    #[arg(long, value_name = "SPLIT", required_unless_present = "resume")]
    split: Option<String>,
    /// Kind of attack
    #[arg(long, value_enum, default_value = "inverse")]
    attack: Attack,
    /// Preset whose plan is followed: quick (the default) or standard
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// TOML file that changes fields of the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Epochs of the attack's training
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Directory of the run: new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Device to compute on
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// Go on with the attack in --out
    #[arg(long)]
    resume: bool,
    /// Print metrics.json instead of a line
    #[arg(long)]
    json: bool,
}

impl InvertArgs {
    fn configuration(&self) -> Result<InversionConfig> {
        let begun = run_options::begun(Some(&self.out), self.resume);
        let begun = begun.filter(|_| self.preset.is_none() && self.config.is_none());
        let begun = begun.map(|path| -> Result<InversionConfig> {
            Ok(InversionConfig::from_toml(&run_options::read(&path)?)?)
        });
        let Attack::Inverse = self.attack;
        let mut config = match begun.transpose()? {
            Some(config) => config,
            None => InversionConfig {
                split: String::new(),
                attack: "inverse".to_owned(),
                audit: run_options::configuration(
                    self.preset.as_deref(),
                    self.config.as_deref(),
                    None,
                )?,
            },
        };
        let audit = &mut config.audit;
        set(&mut audit.model, &self.model);
        set(&mut audit.data, &self.data);
        set(&mut audit.seed, &self.seed);
        audit.weights = self.weights.clone().or_else(|| audit.weights.take());
        if let Some(epochs) = self.epochs {
            audit.attack.training.set_epochs(epochs);
        }
        set(&mut config.split, &self.split);
        anyhow::ensure!(
            !config.split.is_empty(),
            "{} holds no attack to go on with; begin one with --model, --weights, --data and --split",
            self.out.display()
        );
        config.audit.validate()?;
        Ok(config)
    }

    /// The command that repeats the run.
    fn command(&self, config: &InversionConfig) -> String {
        let audit = &config.audit;
        CommandLine::new("invert")
            .flag("--preset", Some(self.preset.as_deref().unwrap_or("quick")))
            .flag("--config", self.config.as_ref().map(|path| path.display()))
            .flag("--model", Some(audit.model))
            .flag("--weights", audit.weights.as_ref())
            .flag("--data", Some(&audit.data))
            .flag("--split", Some(&config.split))
            .flag("--attack", Some(&config.attack))
            .flag("--epochs", Some(audit.attack.training.epochs))
            .flag("--seed", Some(audit.seed))
            .text()
    }
}

/// Attacks the split and says what came of it.
pub(crate) fn run(args: &InvertArgs) -> Result<()> {
    let config = args.configuration()?;
    let dir: RunDir = run_options::open(&args.out, args.resume)?;
    stop_on_interrupt();
    let circumstances = circumstances(args.command(&config));
    let mut progress = Progress::headed(headline(&config.audit, &dir));
    let metrics = invert(&config, &dir, &circumstances, &mut progress)
        .map_err(|error| or_stopped(error, "invert", &dir))?;
    drop(progress);
    if args.json {
        return print(&metrics.to_json()?);
    }
    print(&format!(
        "{} of {}: MSE {:.4} ±{:.4} per element (mean image {:.4}), PSNR {:.2} dB, SSIM {:.3}, on {} {} images",
        metrics.split,
        metrics.model,
        metrics.mse_per_element,
        metrics.ci.mse_per_element.half_width(),
        metrics.mean_image.mse_per_element,
        metrics.psnr_db,
        metrics.ssim,
        metrics.n,
        metrics.part,
    ))?;
    print(&format!(
        "figures: {}        pictures: {}",
        dir.file(METRICS).display(),
        dir.file(files::PICTURES).display()
    ))
}
