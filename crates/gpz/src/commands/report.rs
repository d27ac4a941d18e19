//! `gpz report`: make the report of a run again.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpz_audit::report::rebuild;

use crate::commands::print;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  gpz report runs/001

The page is made from splits.json, choice.json, run.json and pictures/ alone, in one file that loads nothing.")]
pub(crate) struct ReportArgs {
    /// Directory of a finished run
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
}

/// Makes the report and says where it is.
pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    print(&format!("report: {}", rebuild(&args.run)?.display()))
}
