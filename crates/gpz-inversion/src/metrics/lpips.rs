//! LPIPS: how far apart two pictures lie in the features of a network that people's judgements were fitted to.

use std::collections::BTreeMap;

use gpz_nn::checkpoint;
use gpz_tensor::{Conv2dOptions, ConvEpilogue, DType, Device, Element, Pool2d, Tensor, UnaryOp};

use super::{ImageShape, Pixel, checked_in_range, non_finite};
use crate::error::{Error, Result};

/// Least height and width of a picture: below, the second pooling has no window that fits.
pub const LPIPS_LEAST: usize = 31;
/// Pixels of each set that go through the network at once.
const PIXELS_AT_ONCE: usize = 1 << 18;
/// What a pixel of [-1, 1] is shifted and divided by, channel by channel.
const SHIFT: [f64; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f64; 3] = [0.458, 0.448, 0.450];
/// Added to the norm that features are divided by.
const EPS: f64 = 1e-10;

/// A convolution of AlexNet.
struct Plan {
    /// Its number among the layers of torchvision's `features`, by which its tensors are called.
    place: usize,
    inputs: usize,
    outputs: usize,
    side: usize,
    stride: usize,
    padding: usize,
    /// Whether what comes in is pooled first.
    pooled: bool,
}

const fn plan(
    (place, pooled): (usize, bool),
    [inputs, outputs]: [usize; 2],
    [side, stride, padding]: [usize; 3],
) -> Plan {
    Plan { place, inputs, outputs, side, stride, padding, pooled }
}

/// The five convolutions.
const PLANS: [Plan; 5] = [
    plan((0, false), [3, 64], [11, 4, 2]),
    plan((3, true), [64, 192], [5, 1, 2]),
    plan((6, true), [192, 384], [3, 1, 1]),
    plan((8, false), [384, 256], [3, 1, 1]),
    plan((10, false), [256, 256], [3, 1, 1]),
];
/// The pooling between them.
const POOL: Pool2d = Pool2d { kernel: [3; 2], stride: [2; 2], padding: [0; 2] };

/// A convolution with its weights, and what each of its channels counts.
struct Layer {
    weight: Tensor,
    bias: Tensor,
    /// `[1, c, 1, 1]`
    linear: Tensor,
}

/// Learned Perceptual Image Patch Similarity, version 0.1, with AlexNet.
///
/// Pixels of [0, 1] are brought to [-1, 1] and normalised; both pictures go through the convolutions of AlexNet. After the ReLU of each
/// of the five, the features of each place are divided by their norm over channels (plus 1e-10); squared differences, weighted
/// channel by channel, are summed over channels and averaged over places, and the five averages are added up. 0 for equal pictures,
/// larger is less alike, and there is no upper end. Of a grey picture all three channels are its one.
///
/// # Source
/// Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, and their
/// package `lpips`, `LPIPS(net="alex", version="0.1")`.
pub struct Lpips {
    layers: [Layer; 5],
    /// `[3]` each: from [0, 1] to what the network sees.
    scale: Tensor,
    shift: Tensor,
}

impl Lpips {
    /// The metric from the bytes of a safetensors file, as `scripts/make-lpips-weights` writes it.
    ///
    /// # Errors
    /// As [`Lpips::new`]; [`Error::LpipsWeights`] too for what is no such file.
    pub fn from_safetensors(bytes: &[u8], dtype: DType, device: &Device) -> Result<Self> {
        let read = checkpoint::from_safetensors(bytes);
        let (tensors, _) = read.map_err(|error| {
            let reason = match error {
                gpz_nn::Error::Format { reason } => format!("no readable safetensors: {reason}"),
                other => other.to_string(),
            };
            Error::LpipsWeights { reason }
        })?;
        Self::new(&tensors, dtype, device)
    }

    /// The metric from named tensors. It computes in `dtype` on `device`; CUDA devices compute in `f32` alone.
    ///
    /// - `features.P.weight` `[out, in, side, side]` and `features.P.bias` `[out]` with P = 0, 3, 6, 8, 10: torchvision's AlexNet
    /// - `lin0.weight` to `lin4.weight`, `[1, out, 1, 1]`: what each channel's squared difference counts
    ///
    /// # Errors
    /// [`Error::LpipsWeights`] names the first tensors that are missing, too many, of another shape or not finite; no memory on a device.
    pub fn new(tensors: &BTreeMap<String, Tensor>, dtype: DType, device: &Device) -> Result<Self> {
        check(tensors)?;
        let tensor = |name: String| tensors[&name].to_dtype(dtype)?.to_device(device);
        let layer = |k: usize| -> gpz_tensor::Result<Layer> {
            let [weight, bias, linear] = names(k);
            Ok(Layer { weight: tensor(weight)?, bias: tensor(bias)?, linear: tensor(linear)? })
        };
        let vector = |value: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..3).map(value).collect();
            Tensor::from_slice(&values, &[3])?.to_dtype(dtype)?.to_device(device)
        };
        Ok(Lpips {
            layers: [layer(0)?, layer(1)?, layer(2)?, layer(3)?, layer(4)?],
            scale: vector(&|c| 2.0 / SCALE[c])?,
            shift: vector(&|c| (-1.0 - SHIFT[c]) / SCALE[c])?,
        })
    }

    /// The type it computes in.
    pub fn dtype(&self) -> DType {
        self.scale.dtype()
    }

    /// The device it computes on.
    pub fn device(&self) -> Device {
        self.scale.device()
    }

    /// The distance of each picture of `a` to the picture of `b` at the same place.
    ///
    /// - `a`, `b`: `[n, c, h, w]` with c 1 or 3, pixels in [0, 1], brought to the metric's type and device
    ///
    /// # Errors
    /// [`Error::LpipsPictures`]; [`Error::NonFinitePixel`]; shapes that differ; what a device fails with.
    pub fn distances(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        if a.shape() != b.shape() {
            let (lhs, rhs) = (a.shape().into(), b.shape().into());
            let rule = "both sets must hold as many pictures of one size";
            return Err(gpz_tensor::Error::ShapeMismatch { op: "lpips", lhs, rhs, rule }.into());
        }
        let &[n, channels, height, width] = a.shape() else {
            let (op, shape, rule) = ("lpips", a.shape().into(), "[n, c, h, w] is needed");
            return Err(gpz_tensor::Error::Shape { op, shape, rule }.into());
        };
        check_size(height, width, channels)?;
        if n == 0 {
            return Ok(Vec::new());
        }
        for (which, pictures) in [("reference", a), ("candidate", b)] {
            if !pictures.all_finite()? {
                let values = pictures.to_vec::<f64>()?;
                let at = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
                let image = at / (channels * height * width);
                return Err(Error::NonFinitePixel { which, image, value: values[at] });
            }
        }
        self.between(a, b)
    }

    /// The distance of each image of `candidate` to the image of the same index in `reference`.
    ///
    /// - `reference`, `candidate`: `shape.n` images each, in the memory order of `shape`
    /// - `range`: white in the pixels' units, black being 0
    ///
    /// # Errors
    /// [`Error::PixelCount`], [`Error::ImageShape`], [`Error::LpipsPictures`], [`Error::NonFinitePixel`], [`Error::Range`]; what a device
    /// fails with.
    pub fn per_image<T: Pixel>(
        &self,
        reference: &[T],
        candidate: &[T],
        shape: &ImageShape,
        range: f64,
    ) -> Result<Vec<f64>> {
        let len = checked_in_range(reference, candidate, shape, range)?;
        check_size(shape.height, shape.width, shape.channels)?;
        let at_once = len * (PIXELS_AT_ONCE / (shape.height * shape.width)).max(1);
        let mut distances = Vec::with_capacity(shape.n);
        for (x, y) in reference.chunks(at_once).zip(candidate.chunks(at_once)) {
            let first = distances.len();
            let bad = x.iter().zip(y).position(|(&x, &y)| {
                let (x, y): (f64, f64) = (x.into(), y.into());
                !(x.is_finite() && y.is_finite())
            });
            if let Some(at) = bad {
                return Err(non_finite(first + at / len, &x[at..=at], &y[at..=at]));
            }
            let tensor = |pixels: &[T]| match self.dtype() {
                DType::F32 => pictures::<f32, T>(pixels, shape, range),
                DType::F64 => pictures::<f64, T>(pixels, shape, range),
            };
            distances.extend(self.between(&tensor(x)?, &tensor(y)?)?);
        }
        match distances.iter().position(|distance| !distance.is_finite()) {
            Some(image) => {
                let (which, value) = ("a feature of LPIPS", distances[image]);
                Err(Error::NonFinitePixel { which, image, value })
            }
            None => Ok(distances),
        }
    }

    /// The distances of pictures that have been looked at.
    fn between(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        let (mut a, mut b) = (self.input(a)?, self.input(b)?);
        let mut distances = vec![0.0; a.shape()[0]];
        for (plan, layer) in PLANS.iter().zip(&self.layers) {
            (a, b) = (layer.forward(plan, &a)?, layer.forward(plan, &b)?);
            let difference = unit(&a)?.sub(&unit(&b)?)?.unary(UnaryOp::Square)?;
            let sums = difference.mul(&layer.linear)?.sum(&[1, 2, 3])?.to_vec::<f64>()?;
            let places = (a.shape()[2] * a.shape()[3]) as f64;
            for (distance, sum) in distances.iter_mut().zip(sums) {
                *distance += sum / places;
            }
        }
        Ok(distances)
    }

    /// Pictures with pixels in [0, 1] as the network sees them, `[n, 3, h, w]`.
    fn input(&self, pictures: &Tensor) -> Result<Tensor> {
        let pictures = pictures.to_dtype(self.dtype())?.to_device(&self.device())?;
        let mut shape = pictures.shape().to_vec();
        shape[1] = 3;
        let coloured = pictures.broadcast_to(&shape)?;
        Ok(coloured.channel_affine(&self.scale, &self.shift)?)
    }
}

impl std::fmt::Debug for Lpips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lpips({}, on {})", self.dtype(), self.device())
    }
}

impl Layer {
    /// Features after the ReLU, from those of the layer before.
    fn forward(&self, plan: &Plan, x: &Tensor) -> Result<Tensor> {
        let epilogue =
            ConvEpilogue { bias: Some(&self.bias), relu: true, ..ConvEpilogue::default() };
        let options = Conv2dOptions::square(plan.stride, plan.padding);
        let pooled = if plan.pooled { x.max_pool2d(POOL)? } else { x.clone() };
        Ok(pooled.conv2d_fused(&self.weight, epilogue, options)?)
    }
}

/// Features `[n, c, h, w]` divided by their norm over channels at each place.
fn unit(x: &Tensor) -> Result<Tensor> {
    let norm = x.unary(UnaryOp::Square)?.sum(&[1])?.unary(UnaryOp::Sqrt)?;
    Ok(x.div(&norm.affine(1.0, EPS)?.unsqueeze(1)?)?)
}

/// Whole images of a slice as `[n, c, h, w]`, their pixels in [0, 1].
fn pictures<E: Element, T: Pixel>(pixels: &[T], shape: &ImageShape, range: f64) -> Result<Tensor> {
    let values: Vec<E> = pixels.iter().map(|&v| E::from_f64(v.into() / range)).collect();
    let ImageShape { height: h, width: w, channels: c, order, .. } = *shape;
    let n = pixels.len() / (h * w * c);
    Ok(match order {
        super::PixelOrder::Nhwc => Tensor::from_channels_last(&values, [n, c, h, w])?,
        super::PixelOrder::Nchw => Tensor::from_slice(&values, &[n, c, h, w])?,
    })
}

/// Whether pictures are such as the network takes.
pub(super) fn check_size(height: usize, width: usize, channels: usize) -> Result<()> {
    if height.min(width) < LPIPS_LEAST || !(channels == 1 || channels == 3) {
        return Err(Error::LpipsPictures { height, width, channels, least: LPIPS_LEAST });
    }
    Ok(())
}

/// Names of the tensors of the layer of that index: weight, bias, what channels count.
fn names(layer: usize) -> [String; 3] {
    let place = PLANS[layer].place;
    [
        format!("features.{place}.weight"),
        format!("features.{place}.bias"),
        format!("lin{layer}.weight"),
    ]
}

/// Whether tensors are those of the network, by name and shape, and numbers.
fn check(tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let mut wanted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (k, plan) in PLANS.iter().enumerate() {
        let [weight, bias, linear] = names(k);
        wanted.insert(weight, vec![plan.outputs, plan.inputs, plan.side, plan.side]);
        wanted.insert(bias, vec![plan.outputs]);
        wanted.insert(linear, vec![1, plan.outputs, 1, 1]);
    }
    let (mut missing, mut other_shape, mut not_finite) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape) in &wanted {
        match tensors.get(name) {
            None => missing.push(name.clone()),
            Some(found) if found.shape() != shape => {
                other_shape.push(format!("{name} is {:?} instead of {shape:?}", found.shape()));
            }
            Some(found) if !found.all_finite()? => not_finite.push(name.clone()),
            Some(_) => {}
        }
    }
    let unexpected: Vec<String> =
        tensors.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    let reasons: Vec<String> = [
        ("it lacks ", missing),
        ("", other_shape),
        ("it holds besides ", unexpected),
        ("NaN or an infinity stands in ", not_finite),
    ]
    .into_iter()
    .filter(|(_, found)| !found.is_empty())
    .map(|(what, found)| format!("{what}{}", first_of(&found)))
    .collect();
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(Error::LpipsWeights { reason: reasons.join("; ") })
    }
}

/// The first few of a list, and how many more there are.
fn first_of(found: &[String]) -> String {
    const NAMED: usize = 3;
    let named = found[..found.len().min(NAMED)].join(", ");
    match found.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
