//! `gpz train`: train a target.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::target_run::{WEIGHTS, train};

use crate::commands::run_options::{
    self, RunFlags, TargetFlags, begin_progress, circumstances, or_stopped,
};
use crate::commands::{print, print_json};
use crate::progress::stop_on_interrupt;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz train --model cnn4:width=16 --data fashion-mnist --out target/
  gpz train --model cnn4:width=16 --data photos/ --labels ls:+0.3 --epochs 30 --out target/
  gpz train --out target/ --resume                 go on where training was stopped

The directory holds target.safetensors, config.toml and run.json (training curve, accuracy on training, validation and test images, NC1), \
and with --track-radius radius_history.json. Label \
distributions: one-hot; ls:A puts 1-A on the true class and A/(K-1) on each other, A may be negative; ls-uniform:A puts 1-A+A/K on the true class.

A channel in the file of --config changes nothing here, because a training sends nothing; a prior_tau there puts its noise on the pictures.")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    target: TargetFlags,
    /// Epochs of training
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Directory of the run: new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl TrainArgs {
    fn configuration(&self) -> Result<AuditConfig> {
        let run = &self.run;
        let source = run.source("train", Some(&self.out))?;
        run.require(
            "train",
            &source,
            &[("model", run.model.is_some()), ("data", run.data.is_some())],
        )?;
        let mut config = run.configuration(&source)?;
        run.set(&mut config);
        self.target.set(&mut config);
        if let Some(epochs) = self.epochs {
            config.target.training.set_epochs(epochs);
        }
        // A target that is given is not trained.
        config.weights = None;
        config.validate()?;
        Ok(config)
    }

    fn command(&self, config: &AuditConfig, dir: &RunDir) -> String {
        self.run.command("train", config, dir, |line| {
            TargetFlags::words(config, line).flag("--epochs", Some(config.target.training.epochs))
        })
    }
}

/// Trains the target, says how good it is and where it is.
pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    let config = args.configuration()?;
    let opened = args.run.device.open()?;
    let dir = run_options::open(&args.out, args.run.resume)?;
    stop_on_interrupt();
    let circumstances = circumstances(args.command(&config, &dir), &opened);
    let mut progress = begin_progress(&args.run, &config, &dir, &opened);
    let run = train(&config, &dir, &circumstances, &mut progress)
        .map_err(|error| or_stopped(error, "train", &dir, (&args.run.device, &circumstances)))?;
    drop(progress);
    if args.run.json {
        return print_json(&run);
    }
    let target = &run.target;
    print(&format!(
        "accuracy {:.1} % on training images, {:.1} % on validation images, {:.1} % on test images; epoch {} of {} kept{}",
        100.0 * target.accuracy_train,
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
