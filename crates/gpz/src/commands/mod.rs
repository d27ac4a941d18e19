//! One file for each subcommand.

pub(crate) mod audit;

use anyhow::Result;

use crate::cli::{Cli, Command};

/// Runs a subcommand on the number of threads asked for.
pub(crate) fn run(cli: Cli) -> Result<()> {
    if let Some(threads) = cli.threads {
        anyhow::ensure!(threads > 0, "--threads 0: at least one thread is needed");
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    match cli.command {
        Command::Audit(args) => audit::run(&args),
    }
}

/// Prints a result to stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    Ok(out.flush()?)
}
