//! The directory of a run: its numbering, its lock, its files, and writing them so that none is ever half there.
//!
//! ```text
//! runs/001/
//!   config.toml       the resolved configuration
//!   splits.json       figures of every split; the same bytes whenever the run is repeated
//!   splits.csv        the same as a table
//!   run.json          times, versions, training curves, host's device: what may differ between repetitions
//!   choice.json       the recommended split with what ruled the others out
//!   report.html       everything for people, rebuilt from the files above
//!   checkpoints/      target.safetensors, decoder_<split>.safetensors
//!   pictures/         original_000.png, <split>_000.png, …
//! ```
//!
//! A [`RunDir`] holds an advisory lock on `.lock` inside its directory for as long as it lives. The lock belongs to the open
//! file, so it ends with the process however that ends; the empty file may stay behind and means nothing. What is refused, or ends
//! before it has written anything, leaves neither the file nor a directory it made.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// Names of the files in a run directory.
pub mod files {
    /// The resolved configuration.
    pub const CONFIG: &str = "config.toml";
    /// Figures of every split.
    pub const SPLITS_JSON: &str = "splits.json";
    /// The same as a table.
    pub const SPLITS_CSV: &str = "splits.csv";
    /// What was done, where and how long it took.
    pub const RUN_JSON: &str = "run.json";
    /// The radius of each split while the target was trained, where that was asked for.
    pub const RADIUS_HISTORY: &str = "radius_history.json";
    /// The recommended split.
    pub const CHOICE_JSON: &str = "choice.json";
    /// The report.
    pub const REPORT_HTML: &str = "report.html";
    /// Directory of the networks.
    pub const CHECKPOINTS: &str = "checkpoints";
    /// Directory of the pictures.
    pub const PICTURES: &str = "pictures";
    /// The target network.
    pub const TARGET_CHECKPOINT: &str = "checkpoints/target.safetensors";

    /// The decoder that attacks a split.
    #[must_use]
    pub fn decoder_checkpoint(split: &str) -> String {
        format!("{CHECKPOINTS}/decoder_{}.safetensors", file_stem(split))
    }

    /// The `i`-th picture shown to the attackers.
    #[must_use]
    pub fn original_picture(i: usize) -> String {
        format!("{PICTURES}/original_{i:03}.png")
    }

    /// What the attack on a split made of the `i`-th picture.
    #[must_use]
    pub fn reconstruction_picture(split: &str, i: usize) -> String {
        format!("{PICTURES}/{}_{i:03}.png", file_stem(split))
    }

    /// A split's name with everything but letters, digits, `-`, `_` and inner dots replaced by `_`.
    fn file_stem(split: &str) -> String {
        let keep = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }
        };
        split.trim_start_matches('.').chars().map(keep).collect()
    }
}

const LOCK: &str = ".lock";
const PARTIAL: &str = ".partial";

/// Entries that mark a directory as that of a run.
const MARKS: [&str; 6] = [
    files::CONFIG,
    files::SPLITS_JSON,
    files::RUN_JSON,
    files::CHOICE_JSON,
    files::REPORT_HTML,
    files::CHECKPOINTS,
];

/// How far the run in a directory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Nothing has been written yet.
    Empty,
    /// It has begun and not ended.
    Unfinished,
    /// `run.json` says that it ended.
    Finished,
}

/// A run directory that this process alone may write to.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    state: RunState,
    /// Directories this process made, outermost first; removed again if the run never writes anything.
    made: Vec<PathBuf>,
    /// Holds the lock; never read.
    _lock: File,
}

impl RunDir {
    /// A new directory `parent/NNN`, one above the highest number in use.
    ///
    /// # Errors
    /// [`Error::CannotWrite`].
    pub fn numbered(parent: &Path) -> Result<RunDir> {
        let mut made = make_all(parent)?;
        Self::next_number(parent, &mut made).inspect_err(|_| unmake(&made))
    }

    fn next_number(parent: &Path, made: &mut Vec<PathBuf>) -> Result<RunDir> {
        loop {
            let path = parent.join(format!("{:03}", highest_number(parent)? + 1));
            match fs::create_dir(&path) {
                Ok(()) => {
                    made.push(path.clone());
                    return Self::lock(path, made.clone());
                }
                // Another process took the number in between.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::CannotWrite { path, source }),
            }
        }
    }

    /// The directory `path` for a new run: missing or empty.
    ///
    /// # Errors
    /// [`Error::HoldsRun`], [`Error::ForeignFiles`], [`Error::Locked`], [`Error::CannotWrite`].
    pub fn create(path: &Path) -> Result<RunDir> {
        let dir = Self::resume(path)?;
        match dir.state {
            RunState::Empty => Ok(dir),
            RunState::Unfinished | RunState::Finished => {
                Err(Error::HoldsRun { path: path.to_path_buf() })
            }
        }
    }

    /// The directory `path`, whether it is missing, empty, or holds a run, finished or not.
    ///
    /// # Errors
    /// [`Error::ForeignFiles`], [`Error::Locked`], [`Error::CannotWrite`].
    pub fn resume(path: &Path) -> Result<RunDir> {
        let made = make_all(path)?;
        Self::lock(path.to_path_buf(), made.clone()).inspect_err(|_| unmake(&made))
    }

    /// Takes the lock, removes what an interrupted write left and looks at what is there.
    fn lock(path: PathBuf, made: Vec<PathBuf>) -> Result<RunDir> {
        // Look before the lock file is made: a directory of somebody else's files is left as it was.
        inspect(&path)?;
        let lock_path = path.join(LOCK);
        let cannot = |source| Error::CannotWrite { path: lock_path.clone(), source };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path }),
            Err(TryLockError::Error(source)) => {
                return Err(Error::CannotWrite { path: lock_path, source });
            }
        }
        let state = inspect(&path)?;
        let dir = RunDir { path, state, made, _lock: lock };
        dir.remove_partial_files()?;
        Ok(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it held when it was opened.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state
    }

    /// The path of the file `name` in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the file `name`, whole or not at all. Directories in `name` are made.
    ///
    /// # Errors
    /// [`Error::FileName`], [`Error::CannotWrite`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(name, |out| out.write_all(bytes))
    }

    /// Writes the file `name` by `fill`, whole or not at all: into a temporary file beside it, renamed when `fill` has
    /// succeeded and the bytes are on disk.
    ///
    /// # Errors
    /// [`Error::FileName`], [`Error::CannotWrite`].
    pub fn write_with(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        write_atomically(&self.path, name, fill)
    }

    /// Removes temporary files of a process that was killed while it wrote.
    fn remove_partial_files(&self) -> Result<()> {
        for folder in [self.path.clone(), self.file(files::CHECKPOINTS), self.file(files::PICTURES)]
        {
            for name in entries(&folder)? {
                if is_partial(&name) {
                    let path = folder.join(name);
                    fs::remove_file(&path).map_err(|source| Error::CannotWrite { path, source })?;
                }
            }
        }
        Ok(())
    }
}

/// A run that never wrote anything takes its lock's file with it, and the directories made for it.
impl Drop for RunDir {
    fn drop(&mut self) {
        let untouched = entries(&self.path).is_ok_and(|names| names.iter().all(|n| n == LOCK));
        if untouched {
            // What cannot be removed stays, empty; there is nobody left to tell.
            let _ = fs::remove_file(self.path.join(LOCK));
            unmake(&self.made);
        }
    }
}

/// Writes `folder/name` whole or not at all; see [`RunDir::write_with`].
pub(crate) fn write_atomically(
    folder: &Path,
    name: &str,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let relative = Path::new(name);
    let inside =
        !name.is_empty() && relative.components().all(|c| matches!(c, Component::Normal(_)));
    let (true, Some(file_name)) = (inside, relative.file_name()) else {
        return Err(Error::FileName { name: name.to_string() });
    };
    let path = folder.join(relative);
    let temporary = path.with_file_name(format!(".{}{PARTIAL}", file_name.to_string_lossy()));
    let write = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = BufWriter::new(File::create(&temporary)?);
        fill(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, &path)
    };
    write().map_err(|source| {
        // The error that is reported is the first one; a temporary file that cannot be removed is removed on resume.
        let _ = fs::remove_file(&temporary);
        Error::CannotWrite { path: path.clone(), source }
    })
}

/// Reads a text file of a run.
pub(crate) fn read_text(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|source| Error::CannotRead { path, source })
}

/// Makes a directory and what is missing above it; returns those it made, outermost first.
fn make_all(path: &Path) -> Result<Vec<PathBuf>> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut at = Some(path);
    while let Some(p) = at.filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        missing.push(p.to_path_buf());
        at = p.parent();
    }
    missing.reverse();
    fs::create_dir_all(path).map_err(|source| {
        unmake(&missing);
        Error::CannotWrite { path: path.to_path_buf(), source }
    })?;
    Ok(missing)
}

/// Removes directories, given outermost first, as far as they are there and empty.
fn unmake(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let _ = fs::remove_dir(path);
    }
}

/// Names in a directory, sorted; none if there is no such directory.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let cannot = |source| Error::CannotRead { path: folder.to_path_buf(), source };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(cannot(source)),
    };
    let mut names = Vec::new();
    for entry in listing {
        names.push(entry.map_err(cannot)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PARTIAL)
}

/// Tells an empty directory from one with a run and from one with other files. What this program leaves behind when it is killed
/// counts as nothing.
fn inspect(path: &Path) -> Result<RunState> {
    let names = entries(path)?;
    if !names.iter().any(|n| MARKS.contains(&n.as_str())) {
        return match names.into_iter().find(|n| n != LOCK && !is_partial(n)) {
            Some(found) => Err(Error::ForeignFiles { path: path.to_path_buf(), found }),
            None => Ok(RunState::Empty),
        };
    }
    #[derive(Deserialize)]
    struct Mark {
        finished: bool,
    }
    let mark = fs::read_to_string(path.join(files::RUN_JSON))
        .ok()
        .and_then(|text| serde_json::from_str::<Mark>(&text).ok());
    Ok(if mark.is_some_and(|m| m.finished) { RunState::Finished } else { RunState::Unfinished })
}

/// The highest number that names an entry of `parent`, 0 if there is none.
fn highest_number(parent: &Path) -> Result<u64> {
    Ok(entries(parent)?.iter().filter_map(|n| n.parse().ok()).max().unwrap_or(0))
}

#[cfg(test)]
mod tests;
