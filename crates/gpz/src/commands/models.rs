//! `gpz models`: models, and what each split of one costs.

use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use gpz_audit::words::{bytes, shape};
use gpz_models::{Architecture, ModelSpec, SplitCost, models};
use serde::Serialize;

use crate::commands::table::table;
use crate::commands::{print, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz models
  gpz models vgg19_bn --input 3x64x64
  gpz models cnn4 --input 3x64x64 --classes 100 --json

wire_bytes is what one image's feature takes as f32. MACs are those of convolutions, linear layers and attention for one image.")]
pub(crate) struct ModelsArgs {
    /// Model and its parameters, such as cnn4:width=16
    model: Option<ModelSpec>,
    /// Shape of an image: channels x height x width
    #[arg(long, value_name = "CxHxW", default_value = "1x64x64")]
    input: InputShape,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 10)]
    classes: usize,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Channels, height and width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputShape(pub(crate) [usize; 3]);

impl FromStr for InputShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<Option<usize>> =
            text.split(['x', '×']).map(|part| part.parse().ok()).collect();
        match parts[..] {
            [Some(c @ (1 | 3)), Some(h @ 1..=8192), Some(w @ 1..=8192)] => {
                Ok(InputShape([c, h, w]))
            }
            _ => {
                Err("give channels (1 or 3), height and width up to 8192, such as 3x64x64"
                    .to_owned())
            }
        }
    }
}

/// A model with its splits.
#[derive(Serialize)]
struct Described {
    model: String,
    input: [usize; 3],
    classes: usize,
    params: u64,
    macs: u64,
    splits: Vec<Split>,
}

#[derive(Serialize)]
struct Split {
    index: usize,
    name: String,
    shape: Vec<usize>,
    width: usize,
    #[serde(flatten)]
    cost: SplitCost,
}

fn describe(model: &Architecture) -> Result<Described> {
    let split = |tap: &gpz_models::Tap| -> Result<Split> {
        let cost = model.split_cost(tap.index)?;
        Ok(Split {
            index: tap.index,
            name: tap.name.clone(),
            shape: tap.shape.clone(),
            width: tap.width(),
            cost,
        })
    };
    Ok(Described {
        model: model.model.clone(),
        input: model.input,
        classes: model.classes,
        params: model.params(),
        macs: model.macs(),
        splits: model.taps.iter().map(split).collect::<Result<_>>()?,
    })
}

/// Lists models, or one model's splits.
pub(crate) fn run(args: &ModelsArgs) -> Result<()> {
    let Some(model) = args.model else {
        if args.json {
            return print_json(&models().collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = models()
            .map(|model| {
                vec![model.name.to_owned(), model.defaults(), model.description.to_owned()]
            })
            .collect();
        return print(&table(&["model", "parameters", "what it is"], &rows, &[]));
    };
    let described = describe(&model.architecture(args.input.0, args.classes)?)?;
    if args.json {
        return print_json(&described);
    }
    let percent = |fraction: f64| format!("{:.1} %", 100.0 * fraction);
    let rows: Vec<Vec<String>> = described
        .splits
        .iter()
        .map(|split| {
            vec![
                split.index.to_string(),
                split.name.clone(),
                shape(&split.shape),
                bytes(split.cost.wire_bytes),
                split.cost.edge_params.to_string(),
                percent(split.cost.edge_params_fraction),
                split.cost.edge_macs.to_string(),
                percent(split.cost.edge_macs_fraction),
            ]
        })
        .collect();
    print(&format!(
        "{}: pictures of {}, {} classes, {} parameters, {} MACs per image",
        described.model,
        shape(&described.input),
        described.classes,
        described.params,
        described.macs
    ))?;
    let headings = ["#", "split", "feature", "wire", "edge params", "share", "edge MACs", "share"];
    print(&table(&headings, &rows, &[0, 3, 4, 5, 6, 7]))
}
