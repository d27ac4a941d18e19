//! Weights of a target that somebody brings along.

use std::path::{Path, PathBuf};

use gpz_models::Target;
use gpz_nn::checkpoint::{self, Checkpoint, Loaded};

use crate::error::{Error, Result};

/// The tensors of a checkpoint, all of finite numbers.
pub struct Weights {
    path: PathBuf,
    checkpoint: Checkpoint,
}

impl Weights {
    /// Reads a safetensors file, a PyTorch file or a pickle of arrays; which, its contents tell. Nothing in it is executed.
    ///
    /// # Errors
    /// [`Error::CannotReadWeights`]; [`Error::Weights`] for what is no checkpoint; [`Error::WeightsNotFinite`] names the key.
    pub fn read(path: &Path) -> Result<Self> {
        let path = path.to_path_buf();
        let bytes = std::fs::read(&path)
            .map_err(|source| Error::CannotReadWeights { path: path.clone(), source })?;
        let checkpoint = checkpoint::read(&bytes)
            .map_err(|source| Error::Weights { path: path.clone(), source: Box::new(source) })?;
        for (key, tensor) in checkpoint.tensors() {
            if !tensor.all_finite()? {
                return Err(Error::WeightsNotFinite { path, key: key.escape_debug().to_string() });
            }
        }
        Ok(Weights { path, checkpoint })
    }

    /// Fills a target, and says what was done to the file's tensors for that.
    ///
    /// # Errors
    /// [`Error::Weights`] names the file and what does not fit.
    pub fn fill(&self, target: &mut dyn Target) -> Result<Loaded> {
        let loaded = self.checkpoint.load(target);
        loaded
            .map_err(|source| Error::Weights { path: self.path.clone(), source: Box::new(source) })
    }

    /// What a person should know of how the file was loaded: `model.pth: weights under "state_dict"`. `None` if it was taken as it is.
    pub fn in_words(&self, loaded: &Loaded) -> Option<String> {
        Some(format!("{}: {}", self.path.display(), loaded.in_words()?))
    }
}
