//! Horizontal flip and colour jitter, with the semantics of torchvision's `RandomHorizontalFlip` and `ColorJitter` on float
//! images.

use rand_chacha::ChaCha8Rng;

use crate::{Error, Result, rng};

/// What happens to a training image, differently in every epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// Probability of a horizontal flip, 0 to 1.
    pub flip: f32,
    /// Colours, if they change.
    pub jitter: Option<ColourJitter>,
}

/// How far colours may move, as torchvision's `ColorJitter` counts it.
///
/// For an amount `a`, brightness, contrast and saturation are each multiplied by a factor uniform in `[max(0, 1 - a), 1 + a]`;
/// hue turns by a share of the colour circle uniform in `[-a, a]`. The four are applied in a random order, each followed by a
/// clamp to `[0, 1]`:
/// - brightness `f`: `f x`
/// - contrast `f`: `f x + (1 - f) m`, m the mean of the image's luma
/// - saturation `f`: `f x + (1 - f) l`, l the pixel's luma
/// - hue `f`: the hue of HSV plus `f`
///
/// Luma is `0.2989 R + 0.587 G + 0.114 B`. Grey images have neither saturation nor hue: those two leave them as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourJitter {
    /// 0 or more.
    pub brightness: f32,
    /// 0 or more.
    pub contrast: f32,
    /// 0 or more.
    pub saturation: f32,
    /// 0 to 0.5.
    pub hue: f32,
}

/// The largest factor that is still a jitter; torchvision sets no limit, infinity has to have one.
const LARGEST_AMOUNT: f32 = 100.0;

impl Augment {
    /// Nothing happens.
    pub const fn none() -> Self {
        Self { flip: 0.0, jitter: None }
    }

    /// As the method's authors train targets: flips of probability 0.5, jitter of 0.2 in all four.
    pub const fn paper() -> Self {
        Self {
            flip: 0.5,
            jitter: Some(ColourJitter {
                brightness: 0.2,
                contrast: 0.2,
                saturation: 0.2,
                hue: 0.2,
            }),
        }
    }

    /// Whether any image can change.
    pub(crate) fn does_something(&self) -> bool {
        self.flip > 0.0 || self.jitter.is_some()
    }

    /// That every strength is in its range.
    pub(crate) fn check(&self) -> Result<()> {
        let jitter = self.jitter.unwrap_or(ColourJitter {
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
        });
        for (name, value, limit) in [
            ("flip", self.flip, 1.0),
            ("brightness", jitter.brightness, LARGEST_AMOUNT),
            ("contrast", jitter.contrast, LARGEST_AMOUNT),
            ("saturation", jitter.saturation, LARGEST_AMOUNT),
            ("hue", jitter.hue, 0.5),
        ] {
            if !(0.0..=limit).contains(&value) {
                return Err(Error::Augmentation { name, value, limit });
            }
        }
        Ok(())
    }

    /// Changes `image`, `[h, width, channels]` in `[0, 1]`.
    pub(crate) fn apply(
        &self,
        image: &mut [f32],
        width: usize,
        channels: usize,
        rng: &mut ChaCha8Rng,
    ) {
        if rng::unit(rng) < self.flip {
            flip(image, width, channels);
        }
        if let Some(jitter) = self.jitter {
            jitter.apply(image, channels, rng);
        }
    }
}

impl Default for Augment {
    fn default() -> Self {
        Self::none()
    }
}

impl ColourJitter {
    fn apply(self, image: &mut [f32], channels: usize, rng: &mut ChaCha8Rng) {
        // Every factor is drawn whatever the channels, so that the order of draws is one for all images.
        let mut factor = |amount: f32| {
            let low = (1.0 - amount).max(0.0);
            low + (1.0 + amount - low) * rng::unit(rng)
        };
        let brightness = factor(self.brightness);
        let contrast = factor(self.contrast);
        let saturation = factor(self.saturation);
        let hue = self.hue * (2.0 * rng::unit(rng) - 1.0);
        let mut order = [0, 1, 2, 3];
        rng::shuffle(&mut order, rng);
        for step in order {
            match step {
                0 => adjust_brightness(image, brightness),
                1 => adjust_contrast(image, channels, contrast),
                2 if channels == 3 => adjust_saturation(image, saturation),
                3 if channels == 3 && hue != 0.0 => adjust_hue(image, hue),
                _ => {}
            }
        }
    }
}

/// Mirrors every row.
fn flip(image: &mut [f32], width: usize, channels: usize) {
    for row in image.chunks_exact_mut(width * channels) {
        for column in 0..width / 2 {
            for channel in 0..channels {
                row.swap(column * channels + channel, (width - 1 - column) * channels + channel);
            }
        }
    }
}

fn adjust_brightness(image: &mut [f32], factor: f32) {
    for value in image {
        *value = (*value * factor).clamp(0.0, 1.0);
    }
}

fn adjust_contrast(image: &mut [f32], channels: usize, factor: f32) {
    let lumas = image.chunks_exact(channels);
    let count = lumas.len();
    let sum: f64 = match channels {
        3 => lumas.map(|pixel| f64::from(luma([pixel[0], pixel[1], pixel[2]]))).sum(),
        _ => image.iter().map(|value| f64::from(*value)).sum(),
    };
    let towards = (1.0 - factor) * (sum / count as f64) as f32;
    for value in image {
        *value = (*value * factor + towards).clamp(0.0, 1.0);
    }
}

fn adjust_saturation(image: &mut [f32], factor: f32) {
    let (pixels, _) = image.as_chunks_mut::<3>();
    for pixel in pixels {
        let towards = (1.0 - factor) * luma(*pixel);
        *pixel = pixel.map(|value| (value * factor + towards).clamp(0.0, 1.0));
    }
}

/// Turns the hue by `turn` of the circle, saturation and value of HSV kept.
fn adjust_hue(image: &mut [f32], turn: f32) {
    let (pixels, _) = image.as_chunks_mut::<3>();
    for pixel in pixels {
        let [r, g, b] = *pixel;
        let max = r.max(g).max(b);
        let chroma = max - r.min(g).min(b);
        // Sixths of the circle, red at 0, green at 2, blue at 4. Grey has no hue, and without chroma none is needed.
        let scale = if chroma > 0.0 { 1.0 / chroma } else { 0.0 };
        let hue = if max == r {
            (g - b) * scale
        } else if max == g {
            (b - r) * scale + 2.0
        } else {
            (r - g) * scale + 4.0
        };
        let hue = around(hue + 6.0 * turn + 6.0);
        // A channel lies at the maximum for a third of the circle, falls over a sixth, stays low for a third and rises.
        let channel = |offset: f32| {
            let k = around(offset + hue);
            (max - chroma * k.min(4.0 - k).clamp(0.0, 1.0)).clamp(0.0, 1.0)
        };
        *pixel = [channel(5.0), channel(3.0), channel(1.0)];
    }
}

/// An angle in `[0, 18)` brought into one turn of 6.
fn around(angle: f32) -> f32 {
    let angle = if angle >= 12.0 { angle - 12.0 } else { angle };
    if angle >= 6.0 { angle - 6.0 } else { angle }
}

fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}
