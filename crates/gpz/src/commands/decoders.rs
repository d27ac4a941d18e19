//! `gpz decoders`: decoders, and those that attack the splits of a model.

use anyhow::Result;
use clap::Args;
use gpz_audit::words::shape;
use gpz_inversion::{DecoderChoice, decoders};
use gpz_models::ModelSpec;
use serde::Serialize;

use crate::commands::models::InputShape;
use crate::commands::table::table;
use crate::commands::{print, print_json};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz decoders
  gpz decoders vgg19_bn --input 3x64x64
  gpz decoders cnn4:width=16 --decoder residual:width=200,depth=2 --json

width is per cent of a decoder's channels, depth a number of further units in each stage: together a ladder of capacities. MACs are \
those of convolutions for one image. docs/decoders.md says which decoder auto takes, and why.")]
pub(crate) struct DecodersArgs {
    /// Model whose splits are attacked, such as cnn4:width=16
    model: Option<ModelSpec>,
    /// Shape of an image: channels x height x width
    #[arg(long, value_name = "CxHxW", default_value = "1x64x64")]
    input: InputShape,
    /// Decoder and its parameters; auto follows the model
    #[arg(long, value_name = "SPEC", default_value = "auto")]
    decoder: DecoderChoice,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// The decoder of a split; without one, why there is none.
#[derive(Serialize)]
struct Attacker {
    index: usize,
    name: String,
    shape: Vec<usize>,
    decoder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    macs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Lists decoders, or those of one model's splits.
pub(crate) fn run(args: &DecodersArgs) -> Result<()> {
    let Some(model) = args.model else {
        if args.json {
            return print_json(&decoders().collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = decoders()
            .map(|decoder| {
                vec![decoder.name.to_owned(), decoder.defaults(), decoder.description.to_owned()]
            })
            .collect();
        return print(&table(&["decoder", "parameters", "what it is"], &rows, &[]));
    };
    let picture = args.input.0;
    let attackers: Vec<Attacker> = model
        .architecture(picture, 2)?
        .taps
        .into_iter()
        .map(|tap| {
            let spec = args.decoder.at(model.family(), &tap.shape);
            let plan = spec.plan(&tap.shape, picture);
            Attacker {
                index: tap.index,
                name: tap.name,
                shape: tap.shape,
                decoder: spec.to_string(),
                params: plan.as_ref().ok().map(|plan| plan.cost().params),
                macs: plan.as_ref().ok().map(|plan| plan.cost().macs),
                error: plan.err().map(|error| error.to_string()),
            }
        })
        .collect();
    if args.json {
        return print_json(&attackers);
    }
    let number = |n: Option<u64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let rows: Vec<Vec<String>> = attackers
        .iter()
        .map(|a| {
            let decoder = a.error.as_ref().unwrap_or(&a.decoder).clone();
            let (params, macs) = (number(a.params), number(a.macs));
            vec![a.index.to_string(), a.name.clone(), shape(&a.shape), params, macs, decoder]
        })
        .collect();
    print(&table(&["#", "split", "feature", "params", "MACs", "decoder"], &rows, &[0, 3, 4]))
}
