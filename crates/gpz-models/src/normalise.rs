//! How pictures in [0, 1] are normalised before a target sees them.

use gpz_tensor::Tensor;

use crate::error::{Error, Result};

/// Mean and standard deviation per channel; part of the edge's half.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Normalisation {
    /// The method's choice: CIFAR-10's statistics for three channels, 0.5 and 0.5 for grey.
    ///
    /// # Errors
    /// [`Error::Input`] for another number of channels.
    pub fn for_channels(channels: usize) -> Result<Self> {
        match channels {
            1 => Ok(Normalisation { mean: vec![0.5], deviation: vec![0.5] }),
            3 => Ok(Normalisation {
                mean: vec![0.4914, 0.4822, 0.4465],
                deviation: vec![0.2023, 0.1994, 0.2010],
            }),
            _ => {
                let rule = "normalisation is defined for 1 and 3 channels".to_owned();
                Err(Error::Input { model: "any", channels, height: 0, width: 0, rule })
            }
        }
    }

    /// ImageNet's statistics, as torchvision's models were trained with; those of [`Normalisation::for_channels`] for grey pictures.
    ///
    /// # Errors
    /// [`Error::Input`] for another number of channels.
    pub fn imagenet(channels: usize) -> Result<Self> {
        if channels != 3 {
            return Self::for_channels(channels);
        }
        Ok(Normalisation { mean: vec![0.485, 0.456, 0.406], deviation: vec![0.229, 0.224, 0.225] })
    }

    /// `(x − mean) / deviation` per channel of pictures `[n, c, h, w]`.
    ///
    /// # Errors
    /// Another number of channels.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let scale: Vec<f64> = self.deviation.iter().map(|d| 1.0 / d).collect();
        let shift: Vec<f64> = self.mean.iter().zip(&scale).map(|(m, s)| -m * s).collect();
        let tensor = |v: &[f64]| {
            Tensor::from_slice(v, &[v.len()])?.to_dtype(x.dtype())?.to_device(&x.device())
        };
        Ok(x.channel_affine(&tensor(&scale)?, &tensor(&shift)?)?)
    }
}
