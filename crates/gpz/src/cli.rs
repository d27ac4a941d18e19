//! The command line's outline; each subcommand's flags stand in its own file.

use clap::{Parser, Subcommand};

use crate::commands::audit::AuditArgs;

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
}
