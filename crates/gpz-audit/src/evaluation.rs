//! The attacks' figures on the test part, each image once, and the pictures a report shows.

use gpz_data::{Batch, BatchOptions, Batches, ImageSet, Part, Parts, Test};
use gpz_inversion::metrics::{self, ImageMetrics, ImageShape, Lpips};
use gpz_inversion::{Decoder, Observer, Sending, Wire, pictures, reconstruct_received};
use gpz_models::Target;
use gpz_nn::{Tape, Var, loss};
use gpz_tensor::Tensor;

use crate::error::{Error, Result};
use crate::pictures::{Picture, encode_png};
use crate::run_dir::{RunDir, files};
use crate::run_record::{Baseline, PictureRecord, PictureScore};
use crate::training::EVALUATION_BATCH;
use crate::words::counted;

/// Pictures have values from 0 to 1.
const RANGE: f64 = 1.0;
/// Pictures a report shows at most beside the best and the worst.
const SHOWN: usize = 8;

/// How close an attack came to one test image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageFigures {
    /// To the picture as the network saw it, the noise of a declared prior included: what a floor bounds.
    pub seen: ImageMetrics,
    /// Figure by figure the better of `seen` and of the figure against the picture without the prior's noise: whoever recovers either of
    /// the two pictures recognises it. The same as `seen` without a prior.
    pub closest: ImageMetrics,
}

impl ImageFigures {
    pub(crate) fn new(seen: ImageMetrics, clean: ImageMetrics) -> Self {
        let closest = ImageMetrics {
            mse_per_element: seen.mse_per_element.min(clean.mse_per_element),
            mse_channel_sum: seen.mse_channel_sum.min(clean.mse_channel_sum),
            psnr_db: seen.psnr_db.max(clean.psnr_db),
            ssim: seen.ssim.max(clean.ssim),
            lpips: seen.lpips.zip(clean.lpips).map(|(seen, clean)| seen.min(clean)),
        };
        Self { seen, closest }
    }
}

/// What the attacks do on the test part.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// For each attack, in the decoders' order, the figures of each test image.
    pub metrics: Vec<Vec<ImageFigures>>,
    /// An attacker who sees nothing and answers with the mean of its own pictures.
    pub mean_image: Baseline,
}

/// Attacks every test image at every split with the decoders in their chosen state, from what arrives through the wire.
///
/// - `lpips`: measured too where it is given, but not of the mean image
///
/// # Errors
/// Pictures smaller than the window of SSIM or than LPIPS takes; shapes that do not fit; a stop that was asked for.
pub fn evaluate(
    target: &dyn Target,
    decoders: &[(usize, Decoder)],
    wire: &dyn Wire,
    parts: &Parts,
    lpips: Option<&Lpips>,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let test = &parts.test;
    let mean = mean_picture(parts.auxiliary.train())?;
    let batches = Batches::new(test, BatchOptions::in_order(EVALUATION_BATCH), 0, "test")?;
    let mut attacks: Vec<Vec<ImageFigures>> = vec![Vec::new(); decoders.len()];
    let mut blind = Vec::new();
    observer.begin("evaluation", batches.per_epoch() as u64);
    for batch in batches.epoch(0) {
        let [n, h, w, c] = batch.shape;
        let shape = ImageShape::nhwc(n, h, w, c);
        let clean = test.without_smoothing(&batch.positions)?;
        let compared = |guess: &[f32], lpips| -> Result<Vec<ImageFigures>> {
            let seen = metrics::compare_with(&batch.images, guess, &shape, RANGE, lpips)?;
            let clean = match &clean {
                Some(clean) => metrics::compare_with(&clean.images, guess, &shape, RANGE, lpips)?,
                None => seen.clone(),
            };
            let both = seen.into_iter().zip(clean);
            Ok(both.map(|(seen, clean)| ImageFigures::new(seen, clean)).collect())
        };
        for (figures, guess) in attacks.iter_mut().zip(guesses(target, decoders, wire, &batch)?) {
            let guess = guess.to_channels_last_vec::<f32>()?;
            figures.extend(compared(&guess, lpips)?);
        }
        blind.extend(compared(&mean.repeat(n), None)?);
        observer.advance(1, "");
        if observer.stop_requested() {
            return Err(gpz_inversion::Error::Stopped.into());
        }
    }
    observer.end(&format!(
        "{} at {}",
        counted(test.len(), "test image"),
        counted(decoders.len(), "split")
    ));
    let average =
        |f: fn(&ImageFigures) -> f64| blind.iter().map(f).sum::<f64>() / blind.len().max(1) as f64;
    let mean_image = Baseline {
        mse_per_element: average(|m| m.seen.mse_per_element),
        ssim: average(|m| m.closest.ssim),
    };
    Ok(Evaluation { metrics: attacks, mean_image })
}

fn guesses(
    target: &dyn Target,
    decoders: &[(usize, Decoder)],
    wire: &dyn Wire,
    batch: &Batch,
) -> Result<Vec<Tensor>> {
    let normalisation = target.normalisation()?;
    let decoders = decoders.iter().map(|(split, decoder)| (*split, decoder));
    let through = (wire, &sending(batch));
    Ok(reconstruct_received(target, &normalisation, decoders, through, &pictures(batch)?)?)
}

/// Of a test image the same feature arrives for its figures, for its picture, and at the classifier: it is sent once.
fn sending(batch: &Batch) -> Sending<'_> {
    Sending { part: Part::Test, epoch: 0, positions: &batch.positions }
}

/// For each of `splits` (1-based, ascending), the fraction of the test images that the rest of the network classifies right from what arrives.
///
/// # Errors
/// Shapes that do not fit; a stop that was asked for.
pub fn accuracies(
    target: &dyn Target,
    splits: &[usize],
    wire: &dyn Wire,
    test: &Test,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>> {
    let normalisation = target.normalisation()?;
    let batches = Batches::new(test, BatchOptions::in_order(EVALUATION_BATCH), 0, "test")?;
    let mut right = vec![0.0; splits.len()];
    observer.begin("accuracy behind the channel", batches.per_epoch() as u64);
    for batch in batches.epoch(0) {
        let x = normalisation.apply(&pictures(&batch)?.to_device(&target.device())?)?;
        let last = splits.last().copied().unwrap_or(1);
        target.visit_taps(&x, last, |split, z| -> Result<()> {
            let Some(at) = splits.iter().position(|&asked| asked == split) else {
                return Ok(());
            };
            let z = Var::constant(wire.receive(split, z, &sending(&batch))?);
            let answers = target.tail(&Tape::eval(), split, &z)?;
            right[at] += batch.len() as f64 * loss::accuracy(answers.value(), &batch.labels)?;
            Ok(())
        })?;
        observer.advance(1, "");
        if observer.stop_requested() {
            return Err(gpz_inversion::Error::Stopped.into());
        }
    }
    observer.end("");
    Ok(right.into_iter().map(|right| right / test.len().max(1) as f64).collect())
}

/// Mean of a set's pictures, `[h, w, c]`.
fn mean_picture(set: &dyn ImageSet) -> Result<Vec<f32>> {
    let mut sums = vec![0.0f64; set.shape().elements()];
    let batches = Batches::new(set, BatchOptions::in_order(EVALUATION_BATCH), 0, "mean")?;
    for batch in batches.epoch(0) {
        for picture in batch.images.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(picture) {
                *sum += f64::from(*value);
            }
        }
    }
    let n = set.len().max(1) as f64;
    Ok(sums.into_iter().map(|sum| (sum / n) as f32).collect())
}

/// Positions of the test images a report shows: the first of each class, then the best and the worst of the deepest attack.
fn shown(test: &Test, evaluation: &Evaluation) -> Vec<usize> {
    let labels = test.labels();
    let firsts =
        (0..test.classes()).filter_map(|class| labels.iter().position(|&label| label == class));
    let mut positions: Vec<usize> = firsts.take(SHOWN).collect();
    if let Some(deepest) = evaluation.metrics.last() {
        let by_error = |a: &usize, b: &usize| {
            deepest[*a].seen.mse_per_element.total_cmp(&deepest[*b].seen.mse_per_element)
        };
        let (best, worst) =
            ((0..deepest.len()).min_by(by_error), (0..deepest.len()).max_by(by_error));
        for position in best.into_iter().chain(worst) {
            if !positions.contains(&position) {
                positions.push(position);
            }
        }
    }
    positions
}

/// Writes originals and reconstructions of the shown test images into the run's directory.
///
/// # Errors
/// [`Error::CannotWrite`].
pub fn write_pictures(
    dir: &RunDir,
    target: &dyn Target,
    (decoders, wire): (&[(usize, Decoder)], &dyn Wire),
    test: &Test,
    evaluation: &Evaluation,
) -> Result<Vec<PictureRecord>, Error> {
    let positions = shown(test, evaluation);
    let batch = test.batch(&positions)?;
    let [_, height, width, channels] = batch.shape;
    let write = |name: String, pixels: &[f32]| {
        dir.write(&name, &encode_png(&Picture { height, width, channels, pixels })?)
    };
    let pixels = height * width * channels;
    for (i, picture) in batch.images.chunks_exact(pixels).enumerate() {
        write(files::original_picture(i), picture)?;
    }
    let name = |split: usize| target.taps()[split - 1].name.clone();
    for ((split, _), guess) in decoders.iter().zip(guesses(target, decoders, wire, &batch)?) {
        let guess = guess.to_channels_last_vec::<f32>()?;
        for (i, picture) in guess.chunks_exact(pixels).enumerate() {
            write(files::reconstruction_picture(&name(*split), i), picture)?;
        }
    }
    let score = |position: usize| {
        decoders.iter().zip(&evaluation.metrics).map(move |((split, _), figures)| {
            let figures = &figures[position];
            let (mse_per_element, ssim) = (figures.seen.mse_per_element, figures.closest.ssim);
            PictureScore { split: target.taps()[split - 1].name.clone(), mse_per_element, ssim }
        })
    };
    let record = |&position: &usize| PictureRecord {
        test_index: position,
        class: test.class_names()[test.label(position)].clone(),
        splits: score(position).collect(),
    };
    Ok(positions.iter().map(record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of a gentle slope under a prior, and three attackers: who finds the picture, who finds it with its noise, who finds another.
    #[test]
    fn noise_of_the_prior_hides_nothing() {
        let shape = ImageShape::nhwc(1, 16, 16, 1);
        let clean: Vec<f32> = (0..256u32).map(|i| 0.4 + 0.001 * (i % 16) as f32).collect();
        let noise = |i: u32| ((i.wrapping_mul(2_654_435_761) >> 16) % 1000) as f32 / 2500.0 - 0.2;
        let noisy: Vec<f32> = (0..256).map(|i| clean[i as usize] + noise(i)).collect();
        let figures = |guess: &[f32]| {
            let [seen, clean] = [&noisy, &clean]
                .map(|picture| metrics::compare(picture, guess, &shape, RANGE).unwrap()[0]);
            (ImageFigures::new(seen, clean), clean)
        };
        let (found, _) = figures(&clean);
        assert!(found.seen.ssim < 0.3 && found.seen.psnr_db < 25.0, "{found:?}");
        assert!(found.closest.ssim == 1.0 && found.closest.mse_per_element == 0.0, "{found:?}");
        assert_eq!(found.closest.psnr_db, f64::INFINITY);
        let (with_noise, to_clean) = figures(&noisy);
        assert!(to_clean.ssim < 0.3, "{to_clean:?}");
        assert_eq!(with_noise.closest, with_noise.seen);
        let board: Vec<f32> = (0..256).map(|i| ((i + i / 16) % 2) as f32).collect();
        let (other, _) = figures(&board);
        assert!(other.closest.ssim < 0.3 && other.closest.mse_per_element > 0.2, "{other:?}");
    }
}
