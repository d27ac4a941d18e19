//! Steps of optimisers, and the watch over losses and gradients.

use gpz_kernels::Kernel;
use gpz_kernels::optimisers::{self as kernels, Entry, Table, WatchState};

use super::driver::Argument;
use super::{CudaDevice, DeviceBuffer, at, device_of};
use crate::Tensor;
use crate::error::Result;
use crate::optimise::{Bad, Learnt, OptimiserStep, Watched};

/// Tables for any number of tensors, each as full as can be.
fn tables(entries: impl Iterator<Item = Entry>) -> Vec<Table> {
    let mut tables = vec![Table::default()];
    for entry in entries {
        let last = tables.len() - 1;
        if !tables[last].push(entry) {
            let mut next = Table::default();
            // An empty table has room for any tensor there is.
            let _ = next.push(entry);
            tables.push(next);
        }
    }
    tables
}

/// Launches a kernel on each table: the table, its count, and what else it takes.
///
/// # Safety
/// As [`CudaDevice::launch`].
unsafe fn launch(
    device: &CudaDevice,
    kernel: &Kernel,
    tables: &[Table],
    rest: &[Argument<'_>],
) -> Result<()> {
    for table in tables.iter().filter(|table| table.blocks() > 0) {
        let bytes = table.to_bytes();
        let mut arguments = vec![Argument::Bytes(&bytes), Argument::U32(table.count())];
        arguments.extend_from_slice(rest);
        // SAFETY: as the caller promises.
        unsafe { device.launch(kernel, [table.blocks() as usize, 1, 1], &arguments) }?;
    }
    Ok(())
}

fn address(tensor: &Tensor) -> u64 {
    tensor.on_cuda().map_or(0, |(_, address)| address)
}

/// Takes a step for tensors that agree in shape and device with what belongs to them.
pub(crate) fn optimise(
    step: &OptimiserStep,
    learnt: &mut [Learnt<'_>],
    watch: Option<&crate::optimise::Watch>,
) -> Result<()> {
    let mut gradients = Vec::with_capacity(learnt.len());
    for Learnt { value, gradient, moments } in &mut *learnt {
        value.make_unique()?;
        let strides = value.strides();
        for moment in moments.iter_mut() {
            *moment = moment.in_strides(strides)?;
            moment.make_unique()?;
        }
        gradients.push(gradient.in_strides(strides)?);
    }
    let Some(device) = learnt.first().map(|first| device_of(first.value).clone()) else {
        return Ok(());
    };
    let tables = tables(learnt.iter().zip(&gradients).map(|(one, gradient)| {
        let moment = |i: usize| one.moments.get(i).map_or(0, address);
        Entry {
            param: address(one.value),
            grad: address(gradient),
            first: moment(0),
            second: moment(1),
            largest: moment(2),
            first_block: 0,
            n: one.value.numel() as u32,
        }
    }));
    let state = watch.and_then(|watch| watch.on_cuda()).map_or(0, |watch| watch.state.address());
    let state = Argument::Address(state);
    let f = |value: f64| Argument::F32(value as f32);
    match step {
        OptimiserStep::Adam(step) => {
            let [b1, b2] = step.betas;
            let rest = [
                f(b1),
                f(b2),
                f(1.0 - b1),
                f(1.0 - b2),
                f(step.l2),
                f(step.shrink),
                f(step.rate),
                f(step.root),
                f(step.eps),
                state,
            ];
            // SAFETY: argument order and types as in the header of adam_f32.ptx; all tensors of an entry hold n elements in one order, and
            // parameters and moments are nobody else's.
            unsafe { launch(&device, &kernels::ADAM_F32, &tables, &rest) }
        }
        OptimiserStep::Sgd(step) => {
            let rest = [f(step.momentum), f(step.decay), f(step.rate), state];
            // SAFETY: argument order and types as in the header of sgd_f32.ptx; all tensors of an entry hold n elements in one order, and
            // parameters and moments are nobody else's.
            unsafe { launch(&device, &kernels::SGD_F32, &tables, &rest) }
        }
    }
}

/// Notes in a state whether a tensor holds what is not finite.
fn look(device: &CudaDevice, state: &DeviceBuffer, tensors: &[Tensor], step: u32) -> Result<()> {
    let tables = tables(tensors.iter().map(|tensor| Entry {
        grad: address(tensor),
        n: tensor.numel() as u32,
        ..Entry::default()
    }));
    let rest = [Argument::U32(step), Argument::Address(state.address())];
    // SAFETY: argument order and types as in the header of non_finite_f32.ptx; each tensor holds n elements.
    unsafe { launch(device, &kernels::NON_FINITE_F32, &tables, &rest) }
}

fn read(state: &DeviceBuffer) -> Result<WatchState> {
    let bytes = state.read::<u8>(0, size_of::<WatchState>())?;
    let mut own = [0; size_of::<WatchState>()];
    own.copy_from_slice(&bytes);
    Ok(WatchState::from_bytes(own))
}

/// Whether no element of a dense tensor is infinite or NaN.
pub(crate) fn all_finite(tensor: &Tensor) -> Result<bool> {
    let device = device_of(tensor);
    let state = device.zeroed(size_of::<WatchState>())?;
    look(device, &state, std::slice::from_ref(tensor), 1)?;
    Ok(read(&state)?.bad_step == 0)
}

/// The state of a watch in a device's memory.
#[derive(Debug)]
pub(crate) struct Watch {
    state: DeviceBuffer,
    steps: u32,
}

impl Watch {
    pub(crate) fn new(device: &CudaDevice, loss_sum: f64) -> Result<Self> {
        let state = WatchState { loss_sum, ..WatchState::default() };
        Ok(Watch { state: device.upload(&state.to_bytes())?, steps: 0 })
    }

    pub(crate) fn observe(
        &mut self,
        loss: &Tensor,
        weight: f64,
        gradients: &[&Tensor],
    ) -> Result<()> {
        let device = self.state.device().clone();
        // The loss first: where it is not finite, that is what is reported.
        let gradients =
            gradients.iter().map(|gradient| gradient.densely()).collect::<Result<Vec<_>>>()?;
        self.steps += 1;
        let arguments = [
            at(loss),
            Argument::F64(weight),
            Argument::U32(self.steps),
            Argument::Address(self.state.address()),
        ];
        // SAFETY: argument order and types as in the header of watch_loss_f32.ptx; the loss is one number.
        unsafe { device.launch(&kernels::WATCH_LOSS_F32, [1, 1, 1], &arguments) }?;
        look(&device, &self.state, &gradients, self.steps)
    }

    pub(crate) fn device(&self) -> &CudaDevice {
        self.state.device()
    }

    pub(crate) fn read(&self) -> Result<Watched> {
        let state = read(&self.state)?;
        let bad = if state.reason == 1 { Bad::Loss } else { Bad::Gradient };
        Ok(Watched {
            loss_sum: state.loss_sum,
            last_loss: state.last_loss,
            bad: (state.bad_step != 0).then_some((state.bad_step, bad)),
        })
    }
}
