//! `gpz metrics`: compare reconstructions with their originals.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpz_audit::feature_statistics::Real;
use gpz_audit::image_comparison::{Images, compare_images};
use gpz_audit::lpips::read_lpips;
use gpz_audit::words::counted;
use gpz_tensor::Device;
use serde::Serialize;

use crate::commands::{print, print_json};
use crate::progress::{Progress, stop_on_interrupt};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz metrics --reference original.png --candidate reconstruction.png
  gpz metrics --reference originals/ --candidate reconstructions/ --json
  gpz metrics --reference x.npy --candidate guess.npy --range 255
  gpz metrics --reference originals/ --candidate reconstructions/ --lpips-weights lpips-alex.safetensors

Folders are matched by the names of their PNG and JPEG files without the ending, arrays by position. Arrays are [n, h, w, c], [n, c, h, w] or \
[n, h, w], or one image, [h, w, c], [c, h, w] or [h, w]; where both readings are possible, 8-bit arrays have their channels last and others \
first. 8-bit values are scaled to --range, floats are taken as they are. SSIM: Gaussian window of 11x11, sigma 1.5, per image and channel. \
psnr_db is that of the mean error. LPIPS: version 0.1 with AlexNet, of pictures of 31x31 or more, a grey one as three equal channels; 0 for \
equal pictures, larger the less alike; scripts/make-lpips-weights makes its weights. More: docs/metrics.md.")]
pub(crate) struct MetricsArgs {
    /// Originals: a picture, a folder of pictures, or a .npy, .npz or .safetensors file
    #[arg(long, value_name = "A")]
    reference: PathBuf,
    /// Reconstructions, of the same kind
    #[arg(long, value_name = "B")]
    candidate: PathBuf,
    /// Name of the array of originals in a file of several; x unless given
    #[arg(long, value_name = "KEY")]
    reference_key: Option<String>,
    /// Name of the array of reconstructions in a file of several; x unless given
    #[arg(long, value_name = "KEY")]
    candidate_key: Option<String>,
    /// Distance from black to white: 1, or 255 to keep 8-bit values as they are
    #[arg(long, default_value_t = 1.0)]
    range: f64,
    /// Weights of LPIPS as scripts/make-lpips-weights makes them; without them LPIPS is not measured
    #[arg(long, value_name = "FILE")]
    lpips_weights: Option<PathBuf>,
    /// Print JSON instead of a line
    #[arg(long)]
    json: bool,
}

/// The figures as they are printed.
#[derive(Serialize)]
struct Figures {
    n: usize,
    mse_per_element: Real,
    mse_channel_sum: Real,
    psnr_db: Real,
    ssim: Real,
    #[serde(skip_serializing_if = "Option::is_none")]
    lpips: Option<Real>,
    range: Real,
}

/// Compares and prints.
pub(crate) fn run(args: &MetricsArgs) -> Result<()> {
    anyhow::ensure!(
        args.range.is_finite() && args.range > 0.0,
        "--range {}: give a positive number, 1 for pixels in [0, 1] and 255 for 8-bit pixels",
        args.range
    );
    let reference = Images { path: &args.reference, key: args.reference_key.as_deref() };
    let candidate = Images { path: &args.candidate, key: args.candidate_key.as_deref() };
    let weights = args.lpips_weights.as_deref();
    let lpips = weights.map(|path| read_lpips(path, &Device::Cpu)).transpose()?;
    stop_on_interrupt();
    let mut progress = Progress::new();
    let summary = compare_images(reference, candidate, args.range, lpips.as_ref(), &mut progress)?;
    drop(progress);
    if args.json {
        return print_json(&Figures {
            n: summary.n,
            mse_per_element: Real(summary.mse_per_element),
            mse_channel_sum: Real(summary.mse_channel_sum),
            psnr_db: Real(summary.psnr_db),
            ssim: Real(summary.ssim),
            lpips: summary.lpips.map(Real),
            range: Real(summary.range),
        });
    }
    let lpips = summary.lpips.map_or_else(String::new, |lpips| format!(", LPIPS {lpips:.4}"));
    print(&format!(
        "{}: MSE {} per element ({} summed over channels), PSNR {:.3} dB, SSIM {:.4}{lpips}, range {}",
        counted(summary.n, "image"),
        summary.mse_per_element,
        summary.mse_channel_sum,
        summary.psnr_db,
        summary.ssim,
        summary.range,
    ))
}
