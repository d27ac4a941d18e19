//! Weights of a target that somebody brings along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gpz_models::Target;
use gpz_nn::checkpoint;
use gpz_tensor::Tensor;

use crate::error::{Error, Result};

/// The tensors of a safetensors file, all of finite numbers.
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::CannotReadWeights`]; [`Error::Weights`] for what is no such file; [`Error::WeightsNotFinite`] names the key.
    pub fn read(path: &Path) -> Result<Self> {
        let path = path.to_path_buf();
        let bytes = std::fs::read(&path)
            .map_err(|source| Error::CannotReadWeights { path: path.clone(), source })?;
        let (tensors, _) = checkpoint::from_safetensors(&bytes)
            .map_err(|source| Error::Weights { path: path.clone(), source })?;
        for (key, tensor) in &tensors {
            if !tensor.all_finite()? {
                return Err(Error::WeightsNotFinite { path, key: key.clone() });
            }
        }
        Ok(Weights { path, tensors })
    }

    /// Fills a target.
    ///
    /// # Errors
    /// [`Error::Weights`] names the file and what does not fit.
    pub fn fill(&self, target: &mut dyn Target) -> Result<()> {
        checkpoint::load(target, &self.tensors)
            .map_err(|source| Error::Weights { path: self.path.clone(), source })
    }
}
