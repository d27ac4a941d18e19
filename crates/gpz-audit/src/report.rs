//! `report.html`: the audit for people, in one file that loads nothing.
//!
//! It is made from the files of a run directory alone (`splits.json`, `choice.json`, `run.json`, `pictures/` and, where
//! there is one, `radius_history.json`), so that it can be
//! made again at any time. Text that comes from outside is escaped, pictures are embedded, and a content security policy forbids
//! the page to fetch anything.

mod charts;
mod curves;
mod done;
mod grid;
mod headline;
mod svg;
mod tables;
mod view;

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment};

use crate::choice::ChoiceRecord;
use crate::error::{Error, Result};
use crate::radius_history::RadiusHistory;
use crate::run_dir::{RunDir, files, read_text, write_atomically};
use crate::run_record::RunRecord;
use crate::splits::SplitsFile;
use crate::sweep::{TASK, begun_in};

/// Everything a report shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportInput {
    /// `splits.json`.
    pub splits: SplitsFile,
    /// `choice.json`.
    pub choice: ChoiceRecord,
    /// `run.json`.
    pub run: RunRecord,
    /// `radius_history.json`, where the target's training was watched.
    pub radius: Option<RadiusHistory>,
    /// PNG files by position in [`RunRecord::pictures`]; shorter lists and absent files leave gaps in the grid.
    pub pictures: Vec<PicturePngs>,
}

/// The PNG files of one picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PicturePngs {
    /// What the attackers were after.
    pub original: Option<Vec<u8>>,
    /// What the attack on each split made of it, in the order of the splits.
    pub reconstructions: Vec<Option<Vec<u8>>>,
}

/// Makes the report of the run in `directory` and writes it there; returns its path.
///
/// # Errors
/// [`Error::CannotRead`] and [`Error::Damaged`] name a file that is missing or does not parse; [`Error::CannotWrite`].
pub fn rebuild(directory: &Path) -> Result<PathBuf> {
    let page = render(&load(directory)?)?;
    write_atomically(directory, files::REPORT_HTML, |out| out.write_all(page.as_bytes()))?;
    Ok(directory.join(files::REPORT_HTML))
}

/// [`rebuild`] from inside the run.
///
/// # Errors
/// As [`rebuild`].
pub fn build(run: &RunDir) -> Result<PathBuf> {
    rebuild(run.path())
}

/// Reads what a report shows from the directory of a run.
///
/// # Errors
/// [`Error::NotAudited`], [`Error::CannotRead`] and [`Error::Damaged`]. A missing picture is no error.
pub fn load(directory: &Path) -> Result<ReportInput> {
    if !directory.join(files::SPLITS_JSON).exists() {
        let begun = begun_in(directory, TASK);
        let unfinished = !directory.join(files::RUN_JSON).exists();
        if matches!(begun, Err(Error::OtherTask { .. })) || unfinished && begun?.is_some() {
            return Err(Error::NotAudited { path: directory.to_path_buf() });
        }
    }
    let splits: SplitsFile = parse(directory, files::SPLITS_JSON)?;
    let run: RunRecord = parse(directory, files::RUN_JSON)?;
    let png = |name: String| fs::read(directory.join(name)).ok();
    let pictures = (0..run.pictures.len())
        .map(|i| PicturePngs {
            original: png(files::original_picture(i)),
            reconstructions: splits
                .splits
                .iter()
                .map(|s| png(files::reconstruction_picture(&s.name, i)))
                .collect(),
        })
        .collect();
    let choice = parse(directory, files::CHOICE_JSON)?;
    Ok(ReportInput { splits, choice, run, radius: radius(directory)?, pictures })
}

fn radius(directory: &Path) -> Result<Option<RadiusHistory>> {
    let path = directory.join(files::RADIUS_HISTORY);
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(directory, files::RADIUS_HISTORY)?;
    RadiusHistory::from_json(&text).map(Some).map_err(|source| Error::Damaged { path, source })
}

fn parse<T: serde::de::DeserializeOwned>(directory: &Path, name: &str) -> Result<T> {
    let text = read_text(directory, name)?;
    serde_json::from_str(&text)
        .map_err(|source| Error::Damaged { path: directory.join(name), source })
}

/// The page as HTML.
///
/// # Errors
/// [`Error::Render`]; does not occur for values of these types.
pub fn render(input: &ReportInput) -> Result<String> {
    let fail = |source| Error::Render { source };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment
        .add_template("report.html", include_str!("report/report.html.jinja"))
        .map_err(fail)?;
    let template = environment.get_template("report.html").map_err(fail)?;
    template.render(minijinja::value::Serde(view::View::new(input))).map_err(fail)
}
