//! What the commands that make a run directory share: their directory, their configuration, the circumstances they record.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::run_record::Named;
use gpz_audit::sweep::Circumstances;

use crate::failure::Stopped;

/// Device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The best there is
    Auto,
    /// The processor
    Cpu,
}

/// The configuration a run begins from: a preset with a file's changes, or on a resume the one it was begun with.
pub(crate) fn configuration(
    preset: Option<&str>,
    changes: Option<&Path>,
    begun: Option<PathBuf>,
) -> Result<AuditConfig> {
    if let (Some(path), None, None) = (begun, preset, changes) {
        return Ok(AuditConfig::from_toml(&read(&path)?)?);
    }
    let config = AuditConfig::preset(preset.unwrap_or("quick"))?;
    let Some(path) = changes else { return Ok(config) };
    config.overlaid(&read(path)?).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}

/// The configuration file of a run that is to be resumed, if it has begun.
pub(crate) fn begun(dir: Option<&Path>, resume: bool) -> Option<PathBuf> {
    dir.filter(|_| resume).map(|dir| dir.join(files::CONFIG)).filter(|path| path.exists())
}

/// The directory of a run, new or continued.
pub(crate) fn open(path: &Path, resume: bool) -> Result<RunDir> {
    Ok(if resume { RunDir::resume(path)? } else { RunDir::create(path)? })
}

/// Replaces a field where a flag was given.
pub(crate) fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        field.clone_from(value);
    }
}

/// A text file that the user named.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| anyhow::anyhow!("cannot read {}: {e}; check the path", path.display()))
}

/// What the run's record says beside its results.
pub(crate) fn circumstances(command: String) -> Circumstances {
    let named = |name: &str, value: &str| Named { name: name.to_owned(), value: value.to_owned() };
    Circumstances {
        command,
        threads: rayon::current_num_threads(),
        versions: vec![
            named("gpz", env!("CARGO_PKG_VERSION")),
            named("system", std::env::consts::OS),
            named("processor", std::env::consts::ARCH),
            named("instruction set", gpz_tensor::isa_name()),
        ],
    }
}

/// Turns a stop into the command that goes on.
pub(crate) fn or_stopped(error: gpz_audit::Error, subcommand: &str, dir: &RunDir) -> anyhow::Error {
    if !error.is_stop() {
        return error.into();
    }
    let out = quoted(&dir.path().display().to_string());
    anyhow::Error::new(Stopped {
        command: format!("{} {subcommand} --out {out} --resume", program()),
    })
}

/// How this program was called.
fn program() -> String {
    std::env::args().next().map_or_else(|| "gpz".to_owned(), |word| quoted(&word))
}

/// A command line under construction.
pub(crate) struct CommandLine(Vec<String>);

impl CommandLine {
    pub(crate) fn new(subcommand: &str) -> Self {
        CommandLine(vec!["gpz".to_owned(), subcommand.to_owned()])
    }

    /// A flag with its value, if there is one.
    pub(crate) fn flag(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.extend([name.to_owned(), quoted(&value.to_string())]);
        }
        self
    }

    pub(crate) fn text(self) -> String {
        self.0.join(" ")
    }
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The first line of a run: what is computed, where and how.
pub(crate) fn headline(config: &AuditConfig, dir: &RunDir) -> String {
    let threads = rayon::current_num_threads();
    let built_in = gpz_data::built_in().iter().any(|set| set.name == config.data);
    format!(
        "gpz {} · {} · {}{} · cpu, {} thread{} · seed {} · {}",
        env!("CARGO_PKG_VERSION"),
        config.model.to_string().replace([':', '='], " "),
        if built_in { "embedded " } else { "" },
        config.data,
        threads,
        if threads == 1 { "" } else { "s" },
        config.seed,
        dir.path().display(),
    )
}
