//! The command line's outline; each subcommand's flags stand in its own file.

use clap::{Parser, Subcommand};

use crate::commands::audit::AuditArgs;
use crate::commands::data::DataArgs;
use crate::commands::decoders::DecodersArgs;
use crate::commands::devices::DevicesArgs;
use crate::commands::features::FeaturesArgs;
use crate::commands::invert::InvertArgs;
use crate::commands::metrics::MetricsArgs;
use crate::commands::models::ModelsArgs;
use crate::commands::report::ReportArgs;
use crate::commands::stats::StatsArgs;
use crate::commands::train::TrainArgs;

/// Where to cut a vision network between edge device and cloud, so that what crosses the wire cannot be turned back into the picture.
#[derive(Debug, Parser)]
#[command(
    name = "gpz",
    version,
    args_override_self = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Try it:  gpz audit\nResults go to stdout, progress and messages to stderr. Exit status: 0 done, 1 failed or stopped, 2 wrong usage or unusable input."
)]
pub(crate) struct Cli {
    /// Threads to compute on; all processors unless given. Results do not depend on it
    #[arg(long, global = true, value_name = "N")]
    pub(crate) threads: Option<usize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure and attack every split of a model and say where to cut
    Audit(AuditArgs),
    /// Train a target
    Train(TrainArgs),
    /// Write the features of images at a split, or at all, to a file
    Features(FeaturesArgs),
    /// Statistics of features in a file
    Stats(StatsArgs),
    /// Attack one split of a trained target, or features of any network in a file
    Invert(InvertArgs),
    /// Compare reconstructions with their originals
    Metrics(MetricsArgs),
    /// Make the report of a run again
    Report(ReportArgs),
    /// List models, or the splits of one and what each costs
    Models(ModelsArgs),
    /// List decoders, or those that attack a model's splits and what each costs
    Decoders(DecodersArgs),
    /// List built-in data sets, or read a set and say what it holds
    Data(DataArgs),
    /// List the devices that can compute
    Devices(DevicesArgs),
}
