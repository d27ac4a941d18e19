//! Steps of optimisers over many tensors at once, and the watch over what training goes through.

use crate::cuda;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::dispatch;
use crate::{Element, Tensor};

/// A tensor that is learnt, with its gradient and what the optimiser keeps of it.
pub struct Learnt<'a> {
    /// What is learnt; changed in place if nothing else shares its memory, else on a copy.
    pub value: &'a mut Tensor,
    /// Of the value's shape.
    pub gradient: &'a Tensor,
    /// Tensors of the value's shape, as many as the step takes.
    pub moments: &'a mut [Tensor],
}

/// A step of Adam or AdamW; with three moments, of AMSGrad (Reddi et al., 2018).
///
/// With `g` the gradient plus `l2` times the value: `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
/// `p ← shrink · p − rate · m / (√v · root + eps)`; the third moment is the largest `v` so far and stands in its place.
///
/// # Source
/// Kingma and Ba, 2015; Loshchilov and Hutter, 2019.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Decay of the first and second moment.
    pub betas: [f64; 2],
    /// Share of the value that is added to its gradient.
    pub l2: f64,
    /// What the value is multiplied by.
    pub shrink: f64,
    /// Learning rate, divided by what the first moment lacks of its average.
    pub rate: f64,
    /// Reciprocal root of what the second moment lacks of its average.
    pub root: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// A step of gradient descent: `p ← p − rate · (g + decay · p)`; with one moment `v ← momentum · v + (g + decay · p)` and
/// `p ← p − rate · v`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Share of the last step that is kept.
    pub momentum: f64,
    /// Share of the value that is added to its gradient.
    pub decay: f64,
    /// Learning rate.
    pub rate: f64,
}

/// A step of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimiserStep {
    /// Two moments, or three.
    Adam(AdamStep),
    /// One moment, or none.
    Sgd(SgdStep),
}

impl OptimiserStep {
    /// Takes the step for each tensor; on a CUDA device in one launch for each eighty of them. Does nothing from the first step on that
    /// `watch` found not to be finite.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::DTypeMismatch`] or [`Error::DeviceMismatch`] if a gradient or moment differs from its value, or a
    /// value or the watch lies on another device than the first value; [`Error::Shape`] for another number of moments than the step takes;
    /// what a CUDA device fails with.
    pub fn take(&self, learnt: &mut [Learnt<'_>], watch: Option<&Watch>) -> Result<()> {
        let Some(device) = learnt.first().map(|first| first.value.device()) else {
            return Ok(());
        };
        let elsewhere = |lhs: &Device, rhs: &Device| Error::DeviceMismatch {
            op: "optimiser",
            lhs: lhs.to_string(),
            rhs: rhs.to_string(),
        };
        if let Some(watch) = watch
            && watch.device() != device
        {
            return Err(elsewhere(&device, &watch.device()));
        }
        for Learnt { value, gradient, moments } in &*learnt {
            if value.device() != device {
                return Err(elsewhere(&device, &value.device()));
            }
            value.check_same("optimiser", gradient)?;
            moments.iter().try_for_each(|moment| value.check_same("optimiser", moment))?;
            self.check_moments(moments.len())?;
        }
        if device != Device::Cpu {
            return cuda::optimise(self, learnt, watch);
        }
        if watch.is_some_and(|watch| watch.found_bad()) {
            return Ok(());
        }
        learnt.iter_mut().try_for_each(|Learnt { value, gradient, moments }| {
            dispatch!(value.dtype(), T => self.take_one::<T>(value, gradient, moments))
        })
    }

    fn check_moments(&self, count: usize) -> Result<()> {
        let (known, rule) = match self {
            OptimiserStep::Adam(_) => (2..=3, "Adam keeps two moments of a tensor, or three"),
            OptimiserStep::Sgd(_) => {
                (0..=1, "gradient descent keeps one moment of a tensor, or none")
            }
        };
        if known.contains(&count) { Ok(()) } else { Err(Error::shape("optimiser", &[count], rule)) }
    }

    fn take_one<T: Element>(
        &self,
        value: &mut Tensor,
        gradient: &Tensor,
        moments: &mut [Tensor],
    ) -> Result<()> {
        match self {
            OptimiserStep::Adam(step) => step.take_one::<T>(value, gradient, moments),
            OptimiserStep::Sgd(step) => step.take_one::<T>(value, gradient, moments),
        }
    }
}

impl SgdStep {
    fn take_one<T: Element>(
        &self,
        value: &mut Tensor,
        gradient: &Tensor,
        moments: &mut [Tensor],
    ) -> Result<()> {
        let [rate, decay, momentum] = [self.rate, self.decay, self.momentum].map(T::from_f64);
        let Some(velocity) = moments.first_mut() else {
            return value.update::<T, 1>([gradient], |p, [g]| {
                for i in 0..p.len() {
                    p[i] = p[i] - rate * (g[i] + decay * p[i]);
                }
            });
        };
        velocity.update::<T, 2>([gradient, value], |v, [g, p]| {
            for i in 0..v.len() {
                v[i] = momentum * v[i] + (g[i] + decay * p[i]);
            }
        })?;
        value.update::<T, 1>([velocity], |p, [v]| {
            for i in 0..p.len() {
                p[i] = p[i] - rate * v[i];
            }
        })
    }
}

impl AdamStep {
    fn take_one<T: Element>(
        &self,
        value: &mut Tensor,
        gradient: &Tensor,
        moments: &mut [Tensor],
    ) -> Result<()> {
        let c = T::from_f64;
        let [b1, b2] = self.betas.map(c);
        let [r1, r2] = self.betas.map(|beta| c(1.0 - beta));
        let [l2, shrink, rate, root, eps] =
            [self.l2, self.shrink, self.rate, self.root, self.eps].map(c);
        let [first, second, rest @ ..] = moments else {
            return OptimiserStep::Adam(*self).check_moments(moments.len());
        };
        first.update::<T, 2>([gradient, value], |m, [g, p]| {
            for i in 0..m.len() {
                m[i] = b1 * m[i] + r1 * (g[i] + l2 * p[i]);
            }
        })?;
        second.update::<T, 2>([gradient, value], |v, [g, p]| {
            for i in 0..v.len() {
                let g = g[i] + l2 * p[i];
                v[i] = b2 * v[i] + r2 * (g * g);
            }
        })?;
        let divisor = match rest {
            [largest, ..] => {
                largest.update::<T, 1>([second], |largest, [v]| {
                    for i in 0..v.len() {
                        largest[i] = if v[i] > largest[i] { v[i] } else { largest[i] };
                    }
                })?;
                &*largest
            }
            [] => &*second,
        };
        value.update::<T, 2>([first, divisor], |p, [m, v]| {
            for i in 0..p.len() {
                p[i] = p[i] * shrink - rate * m[i] / (v[i].sqrt() * root + eps);
            }
        })
    }
}

/// What was not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// The loss of a step.
    Loss,
    /// A gradient of a step whose loss was finite.
    Gradient,
}

/// What [`Watch::read`] finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watched {
    /// Sum of the losses times their weights, up to the first step that was not finite; its loss is there if that was.
    pub loss_sum: f64,
    /// Loss of the last step, or of the first that was not finite.
    pub last_loss: f64,
    /// That step, counted from 1, and what was wrong with it.
    pub bad: Option<(u32, Bad)>,
}

/// Looks at the losses and gradients of training steps where they lie. On a CUDA device nobody waits for the answer: an optimiser that
/// heeds the watch moves no parameter and no moment from the first step on that was not finite, and whoever reads it later finds those as
/// they were before.
#[derive(Debug)]
pub struct Watch(Place);

#[derive(Debug)]
enum Place {
    Cpu(Watched, u32),
    Cuda(cuda::Watch),
}

impl Watch {
    /// A watch over training on a device, whose losses add up to `loss_sum` already.
    ///
    /// # Errors
    /// No memory on a CUDA device.
    pub fn new(device: &Device, loss_sum: f64) -> Result<Self> {
        Ok(Watch(match device {
            Device::Cpu => Place::Cpu(Watched { loss_sum, last_loss: 0.0, bad: None }, 0),
            Device::Cuda(device) => Place::Cuda(cuda::Watch::new(device, loss_sum)?),
        }))
    }

    /// Where it looks.
    pub fn device(&self) -> Device {
        match &self.0 {
            Place::Cpu(..) => Device::Cpu,
            Place::Cuda(watch) => Device::Cuda(watch.device().clone()),
        }
    }

    /// Whether reading the watch waits for nothing.
    pub fn reads_at_once(&self) -> bool {
        matches!(self.0, Place::Cpu(..))
    }

    /// Takes the next step's loss, with its weight in the sum, and its gradients.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for tensors of another device; [`Error::Shape`] for a loss that is not one number.
    pub fn observe(&mut self, loss: &Tensor, weight: f64, gradients: &[&Tensor]) -> Result<()> {
        if loss.numel() != 1 {
            let rule = "a loss is a single number";
            return Err(Error::shape("watch", loss.shape(), rule));
        }
        let own = self.device();
        for tensor in gradients.iter().copied().chain([loss]) {
            if tensor.device() != own {
                let (lhs, rhs) = (own.to_string(), tensor.device().to_string());
                return Err(Error::DeviceMismatch { op: "watch", lhs, rhs });
            }
        }
        match &mut self.0 {
            Place::Cuda(watch) => watch.observe(loss, weight, gradients),
            Place::Cpu(watched, step) => {
                *step += 1;
                if watched.bad.is_some() {
                    return Ok(());
                }
                let value = loss.item()?;
                watched.last_loss = value;
                if !value.is_finite() {
                    watched.bad = Some((*step, Bad::Loss));
                    return Ok(());
                }
                watched.loss_sum += value * weight;
                for gradient in gradients {
                    if !gradient.all_finite()? {
                        watched.bad = Some((*step, Bad::Gradient));
                        return Ok(());
                    }
                }
                Ok(())
            }
        }
    }

    fn found_bad(&self) -> bool {
        matches!(&self.0, Place::Cpu(watched, _) if watched.bad.is_some())
    }

    pub(crate) fn on_cuda(&self) -> Option<&cuda::Watch> {
        match &self.0 {
            Place::Cuda(watch) => Some(watch),
            Place::Cpu(..) => None,
        }
    }

    /// What was found so far. Waits for a CUDA device.
    ///
    /// # Errors
    /// What a CUDA device fails with.
    pub fn read(&self) -> Result<Watched> {
        match &self.0 {
            Place::Cpu(watched, _) => Ok(*watched),
            Place::Cuda(watch) => watch.read(),
        }
    }
}
