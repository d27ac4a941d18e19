//! The weights of LPIPS that somebody brings along.

use std::path::{Path, PathBuf};

use gpz_inversion::metrics::Lpips;
use gpz_tensor::{DType, Device};

use crate::error::{Error, Result};

/// The metric from a file that `scripts/make-lpips-weights` made, in 32-bit floats on a device.
///
/// # Errors
/// [`Error::CannotReadLpips`]; [`Error::Lpips`] names the file and what does not fit.
pub fn read_lpips(path: &Path, device: &Device) -> Result<Lpips> {
    let place = || PathBuf::from(path);
    let bytes =
        std::fs::read(path).map_err(|source| Error::CannotReadLpips { path: place(), source })?;
    Lpips::from_safetensors(&bytes, DType::F32, device).map_err(|source| match source {
        gpz_inversion::Error::LpipsWeights { .. } => {
            Error::Lpips { path: place(), source: Box::new(source) }
        }
        // A device without memory is not the file's fault.
        other => other.into(),
    })
}

/// The metric that a configuration names weights for.
pub(crate) fn given_lpips(weights: Option<&str>, device: &Device) -> Result<Option<Lpips>> {
    weights.map(|path| read_lpips(Path::new(path), device)).transpose()
}
