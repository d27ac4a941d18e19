//! `gpz features`: the features at a split, before any channel, as a file.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpz_audit::features::Features;
use gpz_audit::sweep::open_dataset;
use gpz_audit::training::{build_target, foresee_target};
use gpz_audit::weights::Weights;
use gpz_audit::words::{bytes, counted, shape};
use gpz_data::{ImageSet, Parts, SplitPlan};
use gpz_inversion::Observer;
use gpz_models::ModelSpec;

use crate::commands::device_options::DeviceFlags;
use crate::commands::{print, print_json};
use crate::progress::{Progress, stop_on_interrupt};

/// Images of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PartChoice {
    /// What the target learnt from
    TargetTrain,
    /// What its checkpoint was chosen on
    TargetValidation,
    /// The attacker's
    Auxiliary,
    /// What figures are measured on
    Test,
    /// Every image, in the order in which the set stores them
    All,
}

impl PartChoice {
    fn sets(self, parts: &Parts) -> Vec<&dyn ImageSet> {
        let Parts { target_train, target_validation, auxiliary, test } = parts;
        match self {
            PartChoice::TargetTrain => vec![target_train],
            PartChoice::TargetValidation => vec![target_validation],
            PartChoice::Auxiliary => vec![auxiliary],
            PartChoice::Test => vec![test],
            PartChoice::All => vec![target_train, target_validation, auxiliary, test],
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz features --model cnn4:width=16 --weights target/target.safetensors --input fashion-mnist --split block4 --out z.safetensors
  gpz features --model cnn4:width=16 --weights target/target.safetensors --input photos/ --part test --split all --out all.safetensors

The file holds z [n, ...] (z.block1, z.block2, ... with --split all), y [n] and x [n, channels, height, width]: z and x are f32 in \
row-major NCHW order, x in [0, 1] as the model sees it before normalisation, y the label as i64. Memory does not grow with the images.")]
pub(crate) struct FeaturesArgs {
    /// Model and its parameters, such as cnn4:width=16; see gpz models
    #[arg(long)]
    model: ModelSpec,
    /// Weights of the model: safetensors, or a state_dict saved by PyTorch
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Images: a built-in set or a path; see gpz data list
    #[arg(long, value_name = "IMAGES")]
    input: String,
    /// Which of them, by the parts an audit cuts them into
    #[arg(long, value_enum, default_value = "all")]
    part: PartChoice,
    /// Name or 1-based index of a split, or all
    #[arg(long, value_name = "SPLIT")]
    split: String,
    /// Height and width in which images are shown to the model
    #[arg(long, value_name = "PIXELS", default_value_t = 64)]
    resolution: usize,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceFlags,
    /// Print the arrays' names and shapes as JSON
    #[arg(long)]
    json: bool,
}

/// Writes the features and says what the file holds.
pub(crate) fn run(args: &FeaturesArgs) -> Result<()> {
    let resolution = (args.resolution, args.resolution);
    stop_on_interrupt();
    // What can be known to be wrong is said before a long reading.
    let model = foresee_target(args.model, args.resolution)?;
    let splits = match args.split.as_str() {
        "all" => model.taps.iter().map(|tap| tap.index).collect(),
        one => vec![model.find_split(one)?],
    };
    let weights = Weights::read(&args.weights)?;
    let opened = args.device.open()?;
    let dataset = open_dataset(&args.input, &mut Progress::new())?;
    let parts = dataset.split(&SplitPlan { resolution, ..SplitPlan::default() })?;
    let mut target = build_target(args.model, &parts.target_train, 0)?;
    let loaded = weights.fill(&mut *target)?;
    target.to_device(&opened.device)?;
    let features = Features::new(&*target, &splits, &args.part.sets(&parts))?;
    let headline = format!(
        "{} at {}: {} to write",
        counted(features.images(), "image"),
        counted(splits.len(), "split"),
        bytes(features.bytes())
    );
    let mut progress = Progress::headed(opened.above(headline));
    if let Some(words) = weights.in_words(&loaded) {
        progress.note(&words);
    }
    features.write(&args.out, &mut progress)?;
    drop(progress);
    let arrays = features.arrays();
    if args.json {
        let shapes: serde_json::Map<String, serde_json::Value> =
            arrays.into_iter().map(|(name, shape)| (name, shape.into())).collect();
        return print_json(
            &serde_json::json!({ "file": args.out, "n": features.images(), "shapes": shapes }),
        );
    }
    let arrays: Vec<String> =
        arrays.iter().map(|(name, extents)| format!("{name} {}", shape(extents))).collect();
    print(&format!("{}: {}", args.out.display(), arrays.join(", ")))
}
