//! The declared channel between the network and whoever receives its features.

use std::collections::BTreeMap;

use gpz_estimators::NotIdentifiable;
use gpz_estimators::channel::{Cast, Channel, Spread};
use gpz_inversion::{Error as NotSent, Sending, Wire};
use gpz_models::Target;
use gpz_nn::{derive_seed, rng_for};
use gpz_tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::declared::Declared;
use crate::error::{Error, Result};

/// What is known to everybody of the features of a split, from the target's training part: what a channel is calibrated on, and what the
/// information it lets through is estimated from.
#[derive(Debug, Clone, PartialEq)]
pub struct SentFeatures {
    /// 1-based index of the split.
    pub split: usize,
    /// Elements of one image's feature.
    pub width: usize,
    /// The smallest and the largest of all elements, in units of the feature.
    pub range: (f64, f64),
    /// Variance of each dimension, in squared units of the feature.
    pub spread: Result<Spread, NotIdentifiable>,
}

impl SentFeatures {
    /// The declared channel as it is at this split.
    ///
    /// # Errors
    /// [`Error::Statistics`] for features that do not vary where a range is needed.
    pub fn channel(&self, declared: Declared, target: &dyn Target, part: &str) -> Result<Channel> {
        declared.channel(self.range).map_err(|source| Error::Statistics {
            split: target.taps()[self.split - 1].name.clone(),
            part: part.to_owned(),
            source: Box::new(source),
        })
    }
}

/// A declared channel at each of several splits. Its noise is drawn afresh for each feature sent, from the seed, the split, the part, the
/// epoch and the position of the image: whatever the batch, the threads, and what was sent before.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelWire {
    seed: u64,
    channels: BTreeMap<usize, Channel>,
}

impl ChannelWire {
    /// - `channels`: split (1-based) and its channel; a split without one receives what was sent
    #[must_use]
    pub fn new(seed: u64, channels: impl IntoIterator<Item = (usize, Channel)>) -> Self {
        Self { seed, channels: channels.into_iter().collect() }
    }
}

impl Wire for ChannelWire {
    fn receive(
        &self,
        split: usize,
        z: &Tensor,
        sending: &Sending<'_>,
    ) -> gpz_inversion::Result<Tensor> {
        match self.channels.get(&split) {
            Some(&Channel::Noise { sigma }) => {
                let purpose = format!("channel/{split}/{}", sending.part.name());
                let seed = derive_seed(self.seed, &purpose, sending.epoch);
                each_image(split, z, sending, "declare a smaller SIGMA", |position, values| {
                    let mut rng = rng_for(seed, "image", position as u64);
                    for value in values {
                        let noise: f64 = StandardNormal.sample(&mut rng);
                        *value = (f64::from(*value) + sigma * noise) as f32;
                    }
                })
            }
            Some(Channel::Bits(quantiser)) => {
                each_image(split, z, sending, "declare bf16", |_, values| {
                    for value in values {
                        *value = quantiser.decoded(quantiser.code(f64::from(*value))) as f32;
                    }
                })
            }
            Some(Channel::Cast(cast)) => {
                let mend = match cast {
                    Cast::F16 => "declare bf16, which has the range of f32",
                    _ => "declare bits:B, whose cells cover the features",
                };
                each_image(split, z, sending, mend, |_, values| {
                    for value in values {
                        *value = cast.decoded(cast.code(f64::from(*value))) as f32;
                    }
                })
            }
            None | Some(Channel::None) => Ok(z.clone()),
            // A channel that is passed over would leave the attacks with more than what the bound counts.
            Some(channel) => Err(NotSent::Wire {
                split,
                reason: format!(
                    "nothing here sends through {channel:?}; declare noise:SIGMA, bits:B, bf16, f16 or int8"
                ),
            }),
        }
    }
}

/// Changes the feature of each image, given the image's position: feature maps in the order rows, columns, channels. `mend` is for values
/// that leave the range of their type.
fn each_image(
    split: usize,
    z: &Tensor,
    sending: &Sending<'_>,
    mend: &str,
    change: impl Fn(usize, &mut [f32]) + Sync,
) -> gpz_inversion::Result<Tensor> {
    let (shape, positions) = (z.shape(), sending.positions);
    let refuse = |reason: String| NotSent::Wire { split, reason };
    if shape.first() != Some(&positions.len()) {
        let n = positions.len();
        return Err(refuse(format!(
            "features {shape:?} of {n} images; pass one position for each"
        )));
    }
    let mut values = match shape {
        [_, _, _, _] => z.to_channels_last_vec::<f32>()?,
        _ => z.to_vec::<f32>()?,
    };
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    if values.is_empty() {
        return Ok(z.clone());
    }
    // A code would make a number of what is none.
    if !finite(&values) {
        let reason = "a value is not finite, so the network has diverged or its weights are damaged; train it at a lower rate, or give other \
                      weights";
        return Err(refuse(reason.to_owned()));
    }
    let width = values.len() / positions.len();
    let images = values.par_chunks_exact_mut(width).zip(positions);
    images.for_each(|(values, position)| change(*position, values));
    if !finite(&values) {
        return Err(refuse(format!("a value is beyond the range of its type; {mend}")));
    }
    let received = match *shape {
        [n, c, h, w] => Tensor::from_channels_last(&values, [n, c, h, w])?,
        _ => Tensor::from_slice(&values, shape)?,
    };
    Ok(received.to_device(&z.device())?)
}

#[cfg(test)]
mod tests {
    use gpz_data::Part;
    use gpz_estimators::channel::Quantiser;

    use super::*;

    const SHAPE: [usize; 4] = [3, 2, 4, 5];

    fn features(layout: fn(Tensor) -> Tensor) -> Tensor {
        let values: Vec<f32> = (0..120).map(|i| ((i * 37 % 120) as f32 - 60.0) / 30.0).collect();
        layout(Tensor::from_slice(&values, &SHAPE).unwrap())
    }

    fn received(channel: Channel, seed: u64, z: &Tensor, sending: &Sending<'_>) -> Vec<f32> {
        ChannelWire::new(seed, [(2, channel)]).receive(2, z, sending).unwrap().to_vec().unwrap()
    }

    /// Codes are those of the estimators, whatever the layout in memory; other splits get what was sent.
    #[test]
    fn codes_are_what_the_bound_counts() {
        let quantiser = Quantiser::new(2, -2.0, 2.0).unwrap();
        let sending = Sending { part: Part::Test, epoch: 0, positions: &[0, 1, 2] };
        for z in [features(|z| z), features(|z| z.channels_last().unwrap())] {
            let sent = z.to_vec::<f32>().unwrap();
            let wire = ChannelWire::new(1, [(2, Channel::Bits(quantiser))]);
            let got: Vec<f32> = wire.receive(2, &z, &sending).unwrap().to_vec().unwrap();
            let levels = [-1.5, -0.5, 0.5, 1.5];
            for (got, sent) in got.iter().zip(&sent) {
                assert!(levels.contains(got) && (got - sent).abs() <= 0.5, "{sent} as {got}");
            }
            assert_eq!(wire.receive(1, &z, &sending).unwrap().to_vec::<f32>().unwrap(), sent);
            let halves = received(Channel::Cast(Cast::Bf16), 1, &z, &sending);
            assert!(halves.iter().all(|v| v.to_bits() & 0xffff == 0) && halves != sent);
        }
        let large = Tensor::full(&[1, 2], 1e6, gpz_tensor::DType::F32).unwrap();
        let one = Sending { positions: &[0], ..sending };
        let wire = ChannelWire::new(1, [(1, Channel::Cast(Cast::F16))]);
        let error = wire.receive(1, &large, &one).unwrap_err().to_string();
        assert!(error.contains("split 1") && error.contains("bf16"), "{error}");
        assert!(wire.receive(1, &large, &sending).is_err(), "three positions for one image");
    }

    /// What cannot be sent is refused with a mend that helps, and one such value lets nothing through as it was.
    #[test]
    fn what_no_channel_carries_is_refused() {
        let one = Sending { part: Part::Test, epoch: 0, positions: &[0] };
        let refused = |channel: Channel, value: f32| {
            let z = Tensor::from_slice(&[0.5, value], &[1, 2]).unwrap();
            ChannelWire::new(1, [(1, channel)]).receive(1, &z, &one).unwrap_err().to_string()
        };
        let quantiser = Channel::Bits(Quantiser::new(2, -2.0, 2.0).unwrap());
        for channel in [Channel::Noise { sigma: 0.1 }, quantiser, Channel::Cast(Cast::F16)] {
            for value in [f32::NAN, f32::INFINITY] {
                let error = refused(channel, value);
                assert!(error.contains("not finite") && error.contains("split 1"), "{error}");
            }
        }
        let error = refused(Channel::Cast(Cast::Bf16), f32::MAX);
        assert!(error.contains("beyond the range") && error.contains("declare bits:B"), "{error}");
        let error = refused(Channel::Noise { sigma: 1e300 }, 0.0);
        assert!(error.contains("smaller SIGMA"), "{error}");
    }

    /// Fresh for each image, part, epoch, split and seed; the same for an image in whatever batch and on whatever thread; N(0, σ²).
    #[test]
    fn noise_is_an_images_own() {
        let channel = Channel::Noise { sigma: 0.5 };
        let (row_major, last) = (features(|z| z), features(|z| z.channels_last().unwrap()));
        let all = Sending { part: Part::Test, epoch: 0, positions: &[4, 0, 7] };
        let want = received(channel, 1, &row_major, &all);
        assert_eq!(received(channel, 1, &last, &all), want);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| received(channel, 1, &last, &all)), want);
        }
        let alone = Sending { positions: &[7], ..all };
        let third = row_major.narrow(0, 2, 1).unwrap();
        assert_eq!(received(channel, 1, &third, &alone), want[80..]);
        let noise = |received: &[f32]| -> Vec<f32> {
            received.iter().zip(row_major.to_vec::<f32>().unwrap()).map(|(a, b)| a - b).collect()
        };
        let first = noise(&want);
        assert!(first[..40] != first[40..80] && first[40..80] != first[80..]);
        for other in [
            received(channel, 2, &row_major, &all),
            received(channel, 1, &row_major, &Sending { epoch: 1, ..all }),
            received(channel, 1, &row_major, &Sending { part: Part::AuxiliaryTrain, ..all }),
            received(channel, 1, &row_major, &Sending { positions: &[1, 2, 3], ..all }),
        ] {
            assert!(noise(&other).iter().zip(&first).all(|(a, b)| a != b));
        }
        let positions: Vec<usize> = (0..2000).collect();
        let zeros = Tensor::zeros(&[2000, 50], gpz_tensor::DType::F32).unwrap();
        let sending = Sending { positions: &positions, ..all };
        let many = received(channel, 1, &zeros, &sending);
        let n = many.len() as f64;
        let mean = many.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = many.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * 0.5 / n.sqrt(), "{mean}");
        assert!((variance / 0.25 - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{variance}");
    }
}
