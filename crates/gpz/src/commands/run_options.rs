//! What the commands that make a run directory share: their directory, their configuration, the circumstances they record.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use gpz_audit::config::{AuditConfig, parse_prior_tau};
use gpz_audit::declared::Declared;
use gpz_audit::run_dir::{RunDir, RunState, files};
use gpz_audit::run_record::Named;
use gpz_audit::sweep::{Circumstances, begun_in};
use gpz_inversion::{DecoderChoice, Observer as _};
use gpz_models::ModelSpec;
use gpz_nn::Labels;

use crate::commands::device_options::{DeviceFlags, Opened, set_batch};
use crate::failure::{LostDevice, Stopped};
use crate::progress::Progress;

/// Flags of every command that fills a run directory.
#[derive(Debug, Args)]
pub(crate) struct RunFlags {
    /// Model and its parameters, such as cnn4:width=16; see gpz models
    #[arg(long)]
    pub(crate) model: Option<ModelSpec>,
    /// Built-in set or path; see gpz data list
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Preset whose plan is followed: quick (minutes; the default), standard (hours) or paper (the published protocol; days); paper
    /// follows the model
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// TOML file that changes fields of the preset; a run's config.toml names them all
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Height and width in which images are shown to the networks; 64 unless given
    #[arg(long, value_name = "PIXELS")]
    resolution: Option<usize>,
    /// Images of a training step, of the target and of the attacks
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// End a training early after so many epochs without a new best on held-out images; the target's and each attack's
    #[arg(long, value_name = "EPOCHS")]
    stop_after: Option<usize>,
    #[command(flatten)]
    pub(crate) device: DeviceFlags,
    /// Go on with the run in --out; from the directory it was begun in, if its paths are relative
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print JSON instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a target is trained, beside its plan.
#[derive(Debug, Args)]
pub(crate) struct TargetFlags {
    /// Label distribution of the target's training: one-hot, ls:+0.3, ls:-0.05
    #[arg(long)]
    labels: Option<Labels>,
    /// Measure the radius of each split on the validation part during the target's training, every so many epochs (1 if no number is given)
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "1")]
    track_radius: Option<usize>,
}

impl TargetFlags {
    /// Puts the flags over a configuration.
    pub(crate) fn set(&self, config: &mut AuditConfig) {
        set(&mut config.target.labels, &self.labels);
        config.target.track_radius = self.track_radius.or(config.target.track_radius);
    }

    /// The flags that train a target as a configuration does.
    pub(crate) fn words(config: &AuditConfig, line: CommandLine) -> CommandLine {
        line.flag("--labels", Some(config.target.labels))
            .flag("--track-radius", config.target.track_radius)
    }
}

/// What the attacker has.
#[derive(Debug, Args)]
pub(crate) struct AttackerFlags {
    /// Pictures the attacker learns from, in place of a part of the audited set: a built-in set or path, in any size and with 1 or 3 channels
    #[arg(long, value_name = "DATA")]
    aux: Option<String>,
    /// Decoder that learns the picture from the feature, such as residual:width=200,depth=2; auto follows the model. See gpz decoders
    #[arg(long, value_name = "SPEC")]
    decoder: Option<DecoderChoice>,
}

impl AttackerFlags {
    /// Puts the flags over a configuration.
    pub(crate) fn set(&self, config: &mut AuditConfig) {
        config.auxiliary = self.aux.clone().or(config.auxiliary.take());
        set(&mut config.attack.decoder, &self.decoder);
    }

    /// The flags that arm an attacker as a configuration does.
    pub(crate) fn words(config: &AuditConfig, line: CommandLine) -> CommandLine {
        let decoder = (!config.attack.decoder.is_auto()).then_some(config.attack.decoder);
        line.flag("--aux", config.auxiliary.as_ref()).flag("--decoder", decoder)
    }
}

/// What is declared of the wire and of the pictures.
#[derive(Debug, Args)]
pub(crate) struct DeclarationFlags {
    /// What crosses the wire in place of the feature, for the attacks too: none, noise:SIGMA, bits:B, bf16, f16 or int8
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<Declared>,
    /// Read each picture with noise of this standard deviation (pixels from 0 to 1): what a lower end of any attacker's error needs
    #[arg(long, value_name = "TAU", value_parser = parse_prior_tau, allow_negative_numbers = true)]
    prior_tau: Option<f64>,
}

impl DeclarationFlags {
    /// Puts the flags over a configuration.
    pub(crate) fn set(&self, config: &mut AuditConfig) {
        set(&mut config.channel, &self.channel);
        config.prior_tau = self.prior_tau.or(config.prior_tau);
    }

    /// The flags that declare what a configuration does.
    pub(crate) fn words(config: &AuditConfig, line: CommandLine) -> CommandLine {
        let channel = (!config.channel.is_none()).then_some(config.channel);
        line.flag("--channel", channel).flag("--prior-tau", config.prior_tau)
    }
}

/// What a configuration begins from.
pub(crate) enum Source {
    /// The configuration of the run that is resumed.
    Begun {
        /// Its file.
        path: PathBuf,
        /// What stands in it.
        text: String,
    },
    /// A file that changes fields of a preset.
    Changes {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        text: String,
    },
    /// A preset.
    Preset,
}

/// Names the file in which a configuration cannot be used.
pub(crate) fn in_file(path: &Path) -> impl Fn(gpz_audit::Error) -> anyhow::Error {
    move |error| anyhow::anyhow!("{}: {error}", path.display())
}

impl RunFlags {
    /// What the configuration begins from: on a resume the one the run in `dir` was begun with, unless flags replace it.
    pub(crate) fn source(&self, subcommand: &'static str, dir: Option<&Path>) -> Result<Source> {
        let replaced = self.preset.is_some() || self.config.is_some();
        if let Some(dir) = dir.filter(|_| self.resume && !replaced)
            && let Some(text) = begun_in(dir, subcommand)?
        {
            return Ok(Source::Begun { path: dir.join(files::CONFIG), text });
        }
        Ok(match self.config.clone() {
            Some(path) => Source::Changes { text: read(&path)?, path },
            None => Source::Preset,
        })
    }

    /// Refuses a run to which nothing gives what it cannot do without: for each of `needed` the key of a configuration, and whether
    /// its flag was given.
    pub(crate) fn require(
        &self,
        subcommand: &str,
        source: &Source,
        needed: &[(&str, bool)],
    ) -> Result<()> {
        let known = match source {
            Source::Begun { .. } => return Ok(()),
            Source::Changes { text, .. } => match text.parse::<toml::Table>() {
                Ok(table) => table,
                // What is wrong with it is reported by whoever reads it for its values.
                Err(_) => return Ok(()),
            },
            Source::Preset => toml::Table::new(),
        };
        let missing: Vec<String> = needed
            .iter()
            .filter(|(key, given)| !given && !known.contains_key(*key))
            .map(|(key, _)| format!("--{key}"))
            .collect();
        anyhow::ensure!(
            missing.is_empty(),
            "gpz {subcommand} needs {} (or a --config that holds {}, or --resume with the --out of a run that has begun); see gpz {subcommand} --help",
            missing.join(" and "),
            if missing.len() == 1 { "it" } else { "them" }
        );
        Ok(())
    }

    /// The configuration a run begins from: a preset with a file's changes, or the one it was begun with.
    pub(crate) fn configuration(&self, source: &Source) -> Result<AuditConfig> {
        let preset = |model: Option<&ModelSpec>| {
            let name = self.preset.as_deref().unwrap_or("quick");
            AuditConfig::preset(name, self.model.as_ref().or(model))
        };
        match source {
            Source::Begun { path, text } => AuditConfig::from_toml(text).map_err(in_file(path)),
            Source::Changes { path, text } => {
                // A preset may depend on the model. One that cannot be read is reported where the changes are made.
                let table = text.parse::<toml::Table>().ok();
                let model =
                    table.as_ref().and_then(|table| table.get("model")?.as_str()?.parse().ok());
                preset(model.as_ref())?.overlaid(text).map_err(in_file(path))
            }
            Source::Preset => Ok(preset(None)?),
        }
    }

    /// The configuration of a run without a model, of whose fields those of the attack count.
    pub(crate) fn attack_alone(&self) -> Result<AuditConfig> {
        let mut config = self.configuration(&Source::Preset)?;
        self.set(&mut config);
        Ok(config)
    }

    /// Puts the flags over a configuration.
    pub(crate) fn set(&self, config: &mut AuditConfig) {
        set(&mut config.model, &self.model);
        set(&mut config.data, &self.data);
        set(&mut config.seed, &self.seed);
        set(&mut config.resolution, &self.resolution);
        set_batch(config, self.batch);
        for plan in [&mut config.target.training, &mut config.attack.training] {
            plan.stop_after = self.stop_after.or(plan.stop_after);
        }
    }

    /// The command that repeats the run, with `more` flags of its own. One that was resumed is repeated from its own
    /// configuration. Where a directory must be named it is the run's own: whoever keeps this one names another.
    pub(crate) fn command(
        &self,
        subcommand: &str,
        config: &AuditConfig,
        dir: &RunDir,
        more: impl FnOnce(CommandLine) -> CommandLine,
    ) -> String {
        let out = (subcommand != "audit").then(|| dir.path().display());
        let line = self.device.words(CommandLine::new(subcommand).flag("--out", out));
        if self.resume && self.preset.is_none() && self.config.is_none() {
            return line.flag("--config", Some(dir.file(files::CONFIG).display())).text();
        }
        let line = line
            .flag("--preset", Some(self.preset.as_deref().unwrap_or("quick")))
            .flag("--config", self.config.as_ref().map(|path| path.display()))
            .flag("--model", Some(config.model))
            .flag("--data", Some(&config.data))
            .flag("--seed", Some(config.seed))
            .flag("--resolution", self.resolution)
            .flag("--batch", self.batch)
            .flag("--stop-after", self.stop_after);
        more(line).text()
    }
}

impl RunFlags {
    /// The command that repeats a run without a model; see [`RunFlags::command`].
    pub(crate) fn command_alone(
        &self,
        subcommand: &str,
        seed: u64,
        dir: &RunDir,
        more: impl FnOnce(CommandLine) -> CommandLine,
    ) -> String {
        let line = CommandLine::new(subcommand).flag("--out", Some(dir.path().display()));
        let line = self
            .device
            .words(line)
            .flag("--preset", Some(self.preset.as_deref().unwrap_or("quick")))
            .flag("--seed", Some(seed))
            .flag("--batch", self.batch)
            .flag("--stop-after", self.stop_after);
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
pub(crate) fn circumstances(command: String, opened: &Opened) -> Circumstances {
    let named = |name: &str, value: &str| Named { name: name.to_owned(), value: value.to_owned() };
    let mut versions = vec![
        named("gpz", env!("CARGO_PKG_VERSION")),
        named("system", std::env::consts::OS),
        named("processor", std::env::consts::ARCH),
        named("instruction set", gpz_tensor::isa_name()),
    ];
    versions.extend(opened.versions().iter().map(|(name, value)| named(name, value)));
    let threads = rayon::current_num_threads();
    let device = opened.device.clone();
    Circumstances { command, device, threads, memory: None, cache: None, versions }
}

/// Turns a stop into the command that goes on; and names that command where a device was lost.
pub(crate) fn or_stopped(
    error: gpz_audit::Error,
    subcommand: &str,
    dir: &RunDir,
    (device, circumstances): (&DeviceFlags, &Circumstances),
) -> anyhow::Error {
    let out = quoted(&dir.path().display().to_string());
    let rest = device
        .words(CommandLine::new(subcommand))
        .flag("--memory", circumstances.memory.map(|bytes| format!("{bytes}B")))
        .flag("--cache", circumstances.cache.as_ref().map(|folder| folder.display()))
        .text();
    let rest = rest.strip_prefix("gpz ").unwrap_or(&rest);
    let command = format!("{} {rest} --out {out} --resume", program());
    if error.is_stop() {
        return anyhow::Error::new(Stopped { command });
    }
    if error.is_lost_device() && dir.file(files::CONFIG).exists() {
        return anyhow::Error::new(LostDevice { error, command });
    }
    error.into()
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

/// Progress below the run's first line; where `--resume` found nothing to go on with, it says that the run is a new one.
pub(crate) fn begin_progress(
    flags: &RunFlags,
    config: &AuditConfig,
    dir: &RunDir,
    opened: &Opened,
) -> Progress {
    let mut progress = Progress::headed(headline(config, dir, opened));
    if flags.resume && dir.state() == RunState::Empty {
        progress.note(&format!("{} holds no run yet: this is a new one", dir.path().display()));
    }
    progress
}

/// The first line of a run: what is computed, where and how.
fn headline(config: &AuditConfig, dir: &RunDir, opened: &Opened) -> String {
    let built_in = gpz_data::built_in().iter().any(|set| set.name == config.data);
    let channel = match config.channel {
        Declared::None => String::new(),
        channel => format!(" · channel {channel}"),
    };
    let prior = config.prior_tau.map_or_else(String::new, |tau| format!(" · prior τ = {tau}"));
    opened.above(format!(
        "gpz {} · {} · {}{}{channel}{prior} · {} · seed {} · {}",
        env!("CARGO_PKG_VERSION"),
        config.model.to_string().replace([':', '='], " "),
        if built_in { "embedded " } else { "" },
        config.data,
        opened.in_words(),
        config.seed,
        dir.path().display(),
    ))
}
