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

    /// Changes `image`, `[h, width, channels]` in `[0, 1]`; returns whether it is mirrored.
    pub(crate) fn apply(
        &self,
        image: &mut [f32],
        width: usize,
        channels: usize,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let mirrored = rng::unit(rng) < self.flip;
        if mirrored {
            flip(image, width, channels);
        }
        if let Some(jitter) = self.jitter {
            jitter.apply(image, channels, rng);
        }
        mirrored
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    fn close(got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 2e-6, "{got} for {want}");
        }
    }

    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = rng::stream(seed, "noise", 0, 0);
        (0..count).map(|_| f32::from(rng.next_u32() as u8) / 255.0).collect()
    }

    #[test]
    fn a_flip_mirrors_rows_and_keeps_pixels_together() {
        let mut grey = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        flip(&mut grey, 3, 1);
        assert_eq!(grey, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        let mut rgb = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        flip(&mut rgb, 2, 3);
        assert_eq!(rgb, [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    }

    /// Values by hand.
    #[test]
    fn brightness_and_contrast_by_hand() {
        let mut image = [0.0, 0.25, 0.5, 1.0];
        adjust_brightness(&mut image, 1.5);
        assert_eq!(image, [0.0, 0.375, 0.75, 1.0]);
        // Grey: the mean is 0.4375, each value moves a quarter of the way to it and then as much beyond.
        let mut image = [0.0, 0.25, 0.5, 1.0];
        adjust_contrast(&mut image, 1, 0.75);
        close(&image, &[0.109375, 0.296875, 0.484375, 0.859375]);
        // RGB: the mean luma of (1, 0, 0) and (0, 1, 0.5) is (0.2989 + 0.587 + 0.057) / 2 = 0.47145.
        let mut image = [1.0, 0.0, 0.0, 0.0, 1.0, 0.5];
        adjust_contrast(&mut image, 3, 0.8);
        close(&image, &[0.89429, 0.09429, 0.09429, 0.09429, 0.89429, 0.49429]);
        // The luma of (0.8, 0.4, 0.2) is 0.49672; factor 1.2 moves away from it by a fifth.
        let mut image = [0.8, 0.4, 0.2];
        adjust_saturation(&mut image, 1.2);
        close(&image, &[0.860656, 0.380656, 0.140656]);
    }

    /// `colorsys.hsv_to_rgb((h + turn) % 1, s, v)` of Python's standard library, with `h, s, v = colorsys.rgb_to_hsv(*rgb)`.
    #[test]
    fn hue_as_colorsys_turns_it() {
        for (rgb, turn, want) in HUES {
            let mut image = rgb;
            adjust_hue(&mut image, turn);
            close(&image, &want);
        }
    }
    #[rustfmt::skip]
    const HUES: [([f32; 3], f32, [f64; 3]); 14] = [
        ([0.8, 0.4, 0.2], 0.2, [0.480000, 0.800000, 0.200000]),
        ([0.8, 0.4, 0.2], -0.35, [0.340000, 0.200000, 0.800000]),
        ([0.1, 0.9, 0.3], 0.2, [0.100000, 0.540000, 0.900000]),
        ([0.1, 0.9, 0.3], -0.35, [0.900000, 0.220000, 0.100000]),
        ([0.2, 0.1, 0.7], 0.2, [0.700000, 0.100000, 0.480000]),
        ([0.2, 0.1, 0.7], -0.35, [0.100000, 0.700000, 0.140000]),
        ([0.6, 0.6, 0.1], 0.2, [0.100000, 0.600000, 0.200000]),
        ([0.6, 0.6, 0.1], -0.35, [0.550000, 0.100000, 0.600000]),
        ([0.5, 0.5, 0.5], 0.2, [0.500000, 0.500000, 0.500000]),
        ([1.0, 0.0, 0.0], 0.2, [0.800000, 1.000000, 0.000000]),
        ([1.0, 0.0, 0.0], -0.35, [0.000000, 0.100000, 1.000000]),
        ([0.0, 0.0, 0.0], 0.2, [0.000000, 0.000000, 0.000000]),
        ([0.3, 0.7, 0.7], 0.2, [0.380000, 0.300000, 0.700000]),
        ([0.3, 0.7, 0.7], -0.35, [0.700000, 0.660000, 0.300000]),
    ];

    /// Turning by parts of the circle and back: a third permutes the channels, a half twice is nothing.
    #[test]
    fn hue_turns_compose() {
        let original = noise(3 * 500, 1);
        let mut third = original.clone();
        adjust_hue(&mut third, 1.0 / 3.0);
        let permuted: Vec<f64> =
            original.chunks_exact(3).flat_map(|p| [p[2], p[0], p[1]]).map(f64::from).collect();
        close(&third, &permuted);
        for turn in [0.5, -0.5, 0.2, -0.13] {
            let mut image = original.clone();
            adjust_hue(&mut image, turn);
            adjust_hue(&mut image, -turn);
            close(&image, &original.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
        }
    }

    /// Amounts of zero change nothing, to the bit; grey images have no hue to turn.
    #[test]
    fn zero_jitter_is_nothing() {
        let still = ColourJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 };
        let original = noise(3 * 64, 2);
        let mut image = original.clone();
        still.apply(&mut image, 3, &mut rng::stream(1, "jitter", 0, 0));
        assert_eq!(image, original);
        let colours = ColourJitter { saturation: 0.9, hue: 0.5, ..still };
        colours.apply(&mut image, 1, &mut rng::stream(1, "jitter", 0, 0));
        assert_eq!(image, original);
    }

    /// Factors fill the announced range evenly and nothing beyond, seen through a single pixel.
    #[test]
    fn factors_fill_their_range() {
        let jitter = ColourJitter { brightness: 0.2, contrast: 0.0, saturation: 0.0, hue: 0.0 };
        let factors: Vec<f32> = (0..4_000)
            .map(|i| {
                let mut image = [0.5];
                jitter.apply(&mut image, 1, &mut rng::stream(1, "jitter", i, 0));
                image[0] / 0.5
            })
            .collect();
        let (low, high) = factors.iter().fold((2.0f32, 0.0f32), |(l, h), f| (l.min(*f), h.max(*f)));
        assert!((0.8..0.801).contains(&low) && (1.199..=1.2001).contains(&high), "{low} to {high}");
        let mean = factors.iter().sum::<f32>() / 4_000.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        // An amount beyond 1 stops at black.
        let jitter = ColourJitter { brightness: 3.0, ..jitter };
        for i in 0..200 {
            let mut image = [0.25];
            jitter.apply(&mut image, 1, &mut rng::stream(2, "jitter", i, 0));
            assert!((0.0..=1.0).contains(&image[0]));
        }
    }

    /// Half of the images flip when half should, and all or none when those are asked for.
    #[test]
    fn flips_come_as_often_as_asked() {
        let flipped = |flip| {
            let augment = Augment { flip, jitter: None };
            (0..2_000)
                .filter(|i| {
                    let mut image = [0.0, 1.0];
                    augment.apply(&mut image, 2, 1, &mut rng::stream(3, "flip", *i, 0));
                    image[0] == 1.0
                })
                .count()
        };
        assert_eq!((flipped(0.0), flipped(1.0)), (0, 2_000));
        assert!((900..1_100).contains(&flipped(0.5)), "{}", flipped(0.5));
    }

    /// The order of the four matters and is drawn: brightness before contrast gives another picture than after.
    #[test]
    fn the_order_of_the_steps_is_drawn() {
        let jitter = ColourJitter { brightness: 0.5, contrast: 0.5, saturation: 0.0, hue: 0.0 };
        let original = [0.9, 0.8, 0.1, 0.3];
        let (mut before, mut after) = (0, 0);
        for i in 0..200 {
            let key = || rng::stream(4, "order", i, 0);
            let (mut image, mut rng) = (original, key());
            jitter.apply(&mut image, 1, &mut rng);
            let mut draws = key();
            let brightness = 0.5 + rng::unit(&mut draws);
            let contrast = 0.5 + rng::unit(&mut draws);
            let (mut first, mut second) = (original, original);
            adjust_brightness(&mut first, brightness);
            adjust_contrast(&mut first, 1, contrast);
            adjust_contrast(&mut second, 1, contrast);
            adjust_brightness(&mut second, brightness);
            before += usize::from(image == first);
            after += usize::from(image == second);
            assert!(
                image == first || image == second,
                "{image:?}: neither {first:?} nor {second:?}"
            );
        }
        assert!(before > 60 && after > 60, "{before} and {after}");
    }
}
