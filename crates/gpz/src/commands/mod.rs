//! One file for each subcommand.

pub(crate) mod audit;
pub(crate) mod data;
pub(crate) mod decoders;
pub(crate) mod device_options;
pub(crate) mod devices;
pub(crate) mod features;
pub(crate) mod invert;
mod invert_features;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod report;
mod run_options;
pub(crate) mod stats;
mod table;
pub(crate) mod train;

use anyhow::Result;
use serde::Serialize;

use crate::cli::{Cli, Command};

/// Runs a subcommand on the number of threads asked for.
pub(crate) fn run(cli: Cli) -> Result<()> {
    if let Some(threads) = cli.threads {
        anyhow::ensure!(threads > 0, "--threads 0: at least one thread is needed");
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    match cli.command {
        Command::Audit(args) => audit::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Features(args) => features::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Invert(args) => invert::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Decoders(args) => decoders::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Devices(args) => devices::run(&args),
    }
}

/// Prints a result to stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    Ok(out.flush()?)
}

/// Prints a result to stdout as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}
