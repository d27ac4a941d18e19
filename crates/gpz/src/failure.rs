//! How a failure reaches a person: one line on stderr, and an exit status.
//!
//! 0 done, 1 failed or stopped, 2 wrong usage or unusable input.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use gpz_inversion::Error as Inversion;

/// The computation itself went wrong, or was stopped; the input was fine.
const FAILED: u8 = 1;
/// Wrong usage, or input that cannot be used.
const UNUSABLE: u8 = 2;

/// A line on stderr. Whoever closed it wants to hear nothing; that ends no run.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints help where it was asked for, and what is wrong with the arguments in one line otherwise.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that went away is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(UNUSABLE)
        }
        _ => {
            let text = error.to_string();
            let paragraphs =
                text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "));
            let said: Vec<String> = paragraphs
                .filter(|p| {
                    !p.is_empty()
                        && !p.starts_with("Usage:")
                        && !p.starts_with("For more information")
                })
                .map(|p| p.trim_start_matches("error: ").to_owned())
                .collect();
            say(&format!("gpz: {}; see {} --help", said.join("; "), command(&text)));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// The command whose usage clap shows: the words before its flags and values.
fn command(text: &str) -> String {
    let usage = text.split("Usage: ").nth(1).unwrap_or("gpz");
    let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let words: Vec<&str> = usage.split_whitespace().take_while(is_name).collect();
    if words.is_empty() { "gpz".to_owned() } else { words.join(" ") }
}

/// Prints the failure and tells its kind by the exit status.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let reader_went_away = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe);
    if reader_went_away {
        return ExitCode::SUCCESS;
    }
    let message = error.to_string();
    say(&format!("gpz: {}", message.split_whitespace().collect::<Vec<_>>().join(" ")));
    ExitCode::from(if is_failure(error) { FAILED } else { UNUSABLE })
}

fn is_failure(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let audit = cause.downcast_ref::<gpz_audit::Error>();
        let training = cause.downcast_ref::<Inversion>().or(match audit {
            Some(gpz_audit::Error::Inversion(error)) => Some(error),
            _ => None,
        });
        let reading = cause.downcast_ref::<gpz_data::Error>().or(match audit {
            Some(gpz_audit::Error::Data(error)) => Some(error),
            _ => None,
        });
        matches!(
            training,
            Some(
                Inversion::NonFiniteLoss { .. }
                    | Inversion::NonFiniteGradient { .. }
                    | Inversion::Stopped
            )
        ) || matches!(reading, Some(gpz_data::Error::Stopped { .. }))
            || cause.is::<Stopped>()
            || cause.is::<LostDevice>()
            || matches!(audit, Some(gpz_audit::Error::DeviceMemory { .. }))
    })
}

/// A run whose device was lost, and how it goes on.
#[derive(Debug)]
pub(crate) struct LostDevice {
    /// What was found.
    pub(crate) error: gpz_audit::Error,
    /// The command that continues it.
    pub(crate) command: String,
}

impl std::fmt::Display for LostDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; what was done before is saved. To go on: {}", self.error, self.command)
    }
}

impl std::error::Error for LostDevice {}

/// A run that was stopped on request, and how it goes on.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The command that continues it.
    pub(crate) command: String,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped; everything up to here is saved. To go on: {}", self.command)
    }
}

impl std::error::Error for Stopped {}
