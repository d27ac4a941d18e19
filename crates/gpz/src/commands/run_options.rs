//! What the commands that make a run directory share: their directory, their configuration, the circumstances they record.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::run_record::Named;
use gpz_audit::sweep::Circumstances;
use gpz_models::ModelSpec;

use crate::failure::Stopped;

/// Device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The best there is
    Auto,
    /// The processor
    Cpu,
}

/// Flags of every command that fills a run directory.
#[derive(Debug, Args)]
pub(crate) struct RunFlags {
    /// Model and its parameters, such as cnn4:width=16; see gpz models
    #[arg(long)]
    pub(crate) model: Option<ModelSpec>,
    /// Built-in set or path; see gpz data list
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Preset whose plan is followed: quick (minutes; the default) or standard (hours)
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// TOML file that changes fields of the preset; a run's config.toml names them all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Device to compute on
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// Go on with the run in --out
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print JSON instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunFlags {
    /// Refuses a new run for which a flag is missing.
    pub(crate) fn require(&self, subcommand: &str, flags: &[(&str, bool)]) -> Result<()> {
        let missing: Vec<&str> =
            flags.iter().filter(|(_, given)| !given).map(|(flag, _)| *flag).collect();
        anyhow::ensure!(
            self.resume || self.config.is_some() || missing.is_empty(),
            "gpz {subcommand} needs {} (or --resume, or a --config that holds them); see gpz {subcommand} --help",
            missing.join(" and ")
        );
        Ok(())
    }

    /// The text of the configuration that a resumed run was begun with, unless flags replace it.
    pub(crate) fn begun(&self, dir: Option<&Path>) -> Result<Option<String>> {
        let replaced = self.preset.is_some() || self.config.is_some();
        let path = dir.filter(|_| self.resume && !replaced).map(|dir| dir.join(files::CONFIG));
        path.filter(|path| path.exists()).map(|path| read(&path)).transpose()
    }

    /// The file of `--config` and what stands in it.
    pub(crate) fn changes(&self) -> Result<Option<(&Path, String)>> {
        self.config.as_deref().map(|path| Ok((path, read(path)?))).transpose()
    }

    /// The preset with the changes of a file.
    pub(crate) fn planned(&self, changes: Option<(&Path, String)>) -> Result<AuditConfig> {
        let config = AuditConfig::preset(self.preset.as_deref().unwrap_or("quick"))?;
        let Some((path, text)) = changes else { return Ok(config) };
        config.overlaid(&text).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
    }

    /// The configuration a run begins from: a preset with a file's changes, or on a resume the one it was begun with.
    pub(crate) fn configuration(&self, dir: Option<&Path>) -> Result<AuditConfig> {
        match self.begun(dir)? {
            Some(text) => Ok(AuditConfig::from_toml(&text)?),
            None => self.planned(self.changes()?),
        }
    }

    /// Puts the flags over a configuration.
    pub(crate) fn set(&self, config: &mut AuditConfig) {
        set(&mut config.model, &self.model);
        set(&mut config.data, &self.data);
        set(&mut config.seed, &self.seed);
    }

    /// The command that repeats the run, with `more` flags of its own. One that was resumed is repeated from its own
    /// configuration.
    pub(crate) fn command(
        &self,
        subcommand: &str,
        config: &AuditConfig,
        dir: &RunDir,
        more: impl FnOnce(CommandLine) -> CommandLine,
    ) -> String {
        let line = CommandLine::new(subcommand);
        if self.resume && self.preset.is_none() && self.config.is_none() {
            return line.flag("--config", Some(dir.file(files::CONFIG).display())).text();
        }
        let line = line
            .flag("--preset", Some(self.preset.as_deref().unwrap_or("quick")))
            .flag("--config", self.config.as_ref().map(|path| path.display()))
            .flag("--model", Some(config.model))
            .flag("--data", Some(&config.data))
            .flag("--seed", Some(config.seed));
        more(line).text()
    }
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
fn read(path: &Path) -> Result<String> {
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
