//! `gpz train`: train a target.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::target_run::{WEIGHTS, train};
use gpz_models::ModelSpec;
use gpz_nn::Labels;

use crate::commands::run_options::{
    self, CommandLine, Device, circumstances, headline, or_stopped, set,
};
use crate::commands::{print, print_json};
use crate::progress::{Progress, stop_on_interrupt};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz train --model cnn4:width=16 --data fashion-mnist --out target/
  gpz train --model cnn4:width=16 --data photos/ --labels ls:+0.3 --epochs 30 --out target/
  gpz train --out target/ --resume                 go on where training was stopped

The directory holds target.safetensors, config.toml and run.json (training curve, accuracy on validation and test images). Label
distributions: one-hot; ls:A puts 1-A on the true class and A/(K-1) on each other, A may be negative; ls-uniform:A puts 1-A+A/K on the true class.")]
pub(crate) struct TrainArgs {
    /// Model and its parameters, such as cnn4:width=16; see gpz models
    #[arg(long, required_unless_present_any = ["resume", "config"])]
    model: Option<ModelSpec>,
    /// Built-in set or path; see gpz data list
    #[arg(long, required_unless_present_any = ["resume", "config"])]
    data: Option<String>,
    /// Label distribution: one-hot, ls:+0.3, ls:-0.05
    #[arg(long)]
    labels: Option<Labels>,
    /// Preset whose plan is followed: quick (the default) or standard
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// TOML file that changes fields of the preset; a run's config.toml names them all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Epochs of training
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
    /// Go on with the training in --out
    #[arg(long)]
    resume: bool,
    /// Print run.json instead of a line
    #[arg(long)]
    json: bool,
}

impl TrainArgs {
    fn configuration(&self) -> Result<AuditConfig> {
        let begun = run_options::begun(Some(&self.out), self.resume);
        let mut config =
            run_options::configuration(self.preset.as_deref(), self.config.as_deref(), begun)?;
        set(&mut config.model, &self.model);
        set(&mut config.data, &self.data);
        set(&mut config.target.labels, &self.labels);
        set(&mut config.seed, &self.seed);
        if let Some(epochs) = self.epochs {
            config.target.training.set_epochs(epochs);
        }
        // A target that is given is not trained.
        config.weights = None;
        config.validate()?;
        Ok(config)
    }

    /// The command that repeats the run. One that was resumed is repeated from its own configuration.
    fn command(&self, config: &AuditConfig, dir: &RunDir) -> String {
        let line = CommandLine::new("train");
        if self.resume && self.preset.is_none() && self.config.is_none() {
            return line.flag("--config", Some(dir.file(files::CONFIG).display())).text();
        }
        line.flag("--preset", Some(self.preset.as_deref().unwrap_or("quick")))
            .flag("--config", self.config.as_ref().map(|path| path.display()))
            .flag("--model", Some(config.model))
            .flag("--data", Some(&config.data))
            .flag("--labels", Some(config.target.labels))
            .flag("--epochs", Some(config.target.training.epochs))
            .flag("--seed", Some(config.seed))
            .text()
    }
}

/// Trains the target, says how good it is and where it is.
pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    let config = args.configuration()?;
    let dir = run_options::open(&args.out, args.resume)?;
    stop_on_interrupt();
    let circumstances = circumstances(args.command(&config, &dir));
    let mut progress = Progress::headed(headline(&config, &dir));
    let run = train(&config, &dir, &circumstances, &mut progress)
        .map_err(|error| or_stopped(error, "train", &dir))?;
    drop(progress);
    if args.json {
        return print_json(&run);
    }
    let target = &run.target;
    print(&format!(
        "accuracy {:.1} % on validation images, {:.1} % on test images; epoch {} of {} kept{}",
        100.0 * target.accuracy_validation,
        100.0 * target.accuracy_test,
        target.chosen_epoch,
        target.epochs,
        if target.converged { "" } else { "; not yet at rest, more epochs may help" },
    ))?;
    let quoted = |name: &str| run_options::quoted(&dir.file(name).display().to_string());
    print(&format!(
        "weights: {weights}        audit it: gpz audit --config {} --weights {weights}",
        quoted(files::CONFIG),
        weights = quoted(WEIGHTS),
    ))
}
