//! `gpz invert --features`: attack features of any network, from a file.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use gpz_audit::foreign_run::{FileNames, ForeignConfig, invert_features};
use gpz_audit::run_dir::RunDir;

use crate::commands::invert::{InvertArgs, in_words, where_it_stands};
use crate::commands::print;
use crate::commands::run_options::{self, circumstances};
use crate::progress::{Progress, stop_on_interrupt};

/// Name of the features' array unless another is given.
const FEATURES: &str = "z";
/// Where runs without a directory of their own go.
const RUNS: &str = "runs";

/// Features in place of a model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Features of a model that gpz does not know")]
pub(crate) struct FeatureFlags {
    /// Features of any network, in place of a model: a .npz, .safetensors or .npy file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "model", "data", "weights", "split", "config", "resume", "aux", "channel", "prior_tau", "resolution", "cache"
        ]
    )]
    features: Option<String>,
    /// Name of the features' array; z unless given. A .npy file has only one
    #[arg(long, value_name = "KEY", requires = "features")]
    key: Option<String>,
    /// File of the pictures, if it is another
    #[arg(long, value_name = "FILE", requires = "features")]
    images: Option<String>,
    /// Name of the pictures' array; x unless given
    #[arg(long, value_name = "KEY", requires = "features")]
    images_key: Option<String>,
    /// Name of the array of class indices, by which pictures to show are chosen; y, where there is one, unless given
    #[arg(long, value_name = "KEY", requires = "features")]
    labels_key: Option<String>,
    /// Features to test on, under the same names; unless given, a fifth of the rows
    #[arg(long, value_name = "FILE", requires = "features")]
    test_features: Option<String>,
    /// File of the test pictures, if it is another
    #[arg(long, value_name = "FILE", requires = "test_features")]
    test_images: Option<String>,
}

impl FeatureFlags {
    /// The file of features, if there is one.
    pub(crate) fn file(&self) -> Option<&str> {
        self.features.as_deref()
    }

    /// Refuses flags of features beside a model. The parser asks for no `--features` where something stands that conflicts with it.
    pub(crate) fn check(&self) -> Result<()> {
        let given = [
            ("--key", &self.key),
            ("--images", &self.images),
            ("--images-key", &self.images_key),
            ("--labels-key", &self.labels_key),
            ("--test-features", &self.test_features),
            ("--test-images", &self.test_images),
        ];
        let lonely = given.iter().find(|(_, value)| value.is_some() && self.features.is_none());
        if let Some((flag, _)) = lonely {
            anyhow::bail!(
                "{flag} belongs to features in a file; name them with --features, or leave it out"
            );
        }
        Ok(())
    }

    fn configuration(&self, args: &InvertArgs) -> Result<ForeignConfig> {
        let mut audit = args.run.attack_alone()?;
        args.attacker.set(&mut audit);
        if let Some(epochs) = args.epochs {
            audit.attack.training.set_epochs(epochs);
        }
        audit.validate()?;
        let names = |features: &Option<String>, images: &Option<String>| {
            features.clone().map(|features| FileNames { features, images: images.clone() })
        };
        let from = names(&self.features, &self.images);
        Ok(ForeignConfig {
            key: self.key.clone().unwrap_or_else(|| FEATURES.to_owned()),
            images_key: self.images_key.clone(),
            labels_key: self.labels_key.clone(),
            lpips_weights: args.lpips_weights.clone(),
            seed: audit.seed,
            resamples: audit.resamples,
            decoder: audit.attack.decoder,
            from: from.ok_or_else(|| anyhow::anyhow!("name a file of features with --features"))?,
            test: names(&self.test_features, &self.test_images),
            training: audit.attack.training,
        })
    }

    fn command(&self, args: &InvertArgs, config: &ForeignConfig, dir: &RunDir) -> String {
        args.run.command_alone("invert", config.seed, dir, |line| {
            let decoder = (!config.decoder.is_auto()).then_some(config.decoder);
            line.flag("--features", self.features.as_ref())
                .flag("--key", self.key.as_ref())
                .flag("--images", self.images.as_ref())
                .flag("--images-key", self.images_key.as_ref())
                .flag("--labels-key", self.labels_key.as_ref())
                .flag("--test-features", self.test_features.as_ref())
                .flag("--test-images", self.test_images.as_ref())
                .flag("--decoder", decoder)
                .flag("--lpips-weights", config.lpips_weights.as_ref())
                .flag("--epochs", Some(config.training.epochs))
        })
    }
}

/// Attacks the features and says what came of it.
pub(crate) fn run(args: &InvertArgs, flags: &FeatureFlags) -> Result<()> {
    let config = flags.configuration(args)?;
    let opened = args.run.device.open()?;
    let dir = match &args.out {
        Some(out) => run_options::open(out, false)?,
        None => RunDir::numbered(Path::new(RUNS))?,
    };
    stop_on_interrupt();
    let circumstances = circumstances(flags.command(args, &config, &dir), &opened);
    let headline = opened.above(format!(
        "gpz {} · {} of {} · {} · seed {} · {}",
        env!("CARGO_PKG_VERSION"),
        config.key,
        config.from.features,
        opened.in_words(),
        config.seed,
        dir.path().display(),
    ));
    let mut progress = Progress::headed(headline);
    let metrics =
        invert_features(&config, &dir, &circumstances, &mut progress).map_err(|error| {
            let stopped = error.is_stop();
            let error = anyhow::Error::new(error);
            match stopped {
                true => {
                    error.context("stopped; nothing was written, and the same command begins again")
                }
                false => error,
            }
        })?;
    drop(progress);
    if args.run.json {
        return print(&metrics.to_json()?);
    }
    let what = format!("{} of {}", metrics.split, config.from.features);
    print(&in_words(&metrics, &what))?;
    print(&where_it_stands(&dir))
}
