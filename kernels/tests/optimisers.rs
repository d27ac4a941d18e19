//! The optimisers' steps and the watch over them on the interpreter, against their references: the same bits.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::Kernel;
use gpz_kernels::optimisers::{
    ADAM_F32, Entry, NON_FINITE_F32, SGD_F32, TENSORS, Table, WATCH_LOSS_F32, WatchState,
};
use gpz_kernels::reference::{self, Adam};
use proptest::prelude::*;
use ptx_sim::{Arg, Buffer, Device, Error, Launch, Module, Work};

/// A tensor with what an optimiser keeps of it: the first is the parameter, the second its gradient.
type Tensors = Vec<[Option<Vec<f32>>; 5]>;

#[derive(Debug, Clone, Copy)]
enum Rule {
    Adam(Adam),
    Sgd([f32; 3]),
    NonFinite,
}

#[derive(Debug, Clone)]
struct Case {
    rule: Rule,
    tensors: Tensors,
    state: Option<WatchState>,
}

const ADAM: Adam = Adam {
    keep: [0.9, 0.999],
    take: [0.1, 0.001],
    l2: 0.01,
    shrink: 0.98,
    rate: 0.02,
    root: 1.5,
    eps: 1e-3,
};

/// The five arrays of a tensor of `n` elements, of which no two are alike; `kept` of the last three exist.
fn tensor(n: usize, kept: usize, seed: usize) -> [Option<Vec<f32>>; 5] {
    let value = |kind: usize, i: usize| {
        let value = ((seed + i * 7919 + kind * 104_729) % 1009) as f32 / 500.0 - 1.0;
        // Second moments are not negative.
        if kind > 2 { value.abs() } else { value }
    };
    std::array::from_fn(|kind| (kind < 2 + kept).then(|| (0..n).map(|i| value(kind, i)).collect()))
}

impl Case {
    fn kernel(&self) -> Kernel {
        match self.rule {
            Rule::Adam(_) => ADAM_F32,
            Rule::Sgd(_) => SGD_F32,
            Rule::NonFinite => NON_FINITE_F32,
        }
    }

    fn run(&self, text: &str, seed: u64) -> Result<(Tensors, Option<WatchState>, Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let reads_only = matches!(self.rule, Rule::NonFinite);
        let mut upload = |kind: usize, values: &Option<Vec<f32>>| -> Option<Buffer> {
            let values = values.as_ref()?;
            let fixed = reads_only || kind == 1;
            Some(if fixed { device.upload(values) } else { device.upload_mutable(values) })
        };
        let mut table = Table::default();
        let mut buffers = Vec::new();
        for tensor in &self.tensors {
            let own: Vec<Option<Buffer>> =
                tensor.iter().enumerate().map(|(kind, values)| upload(kind, values)).collect();
            let at = |kind: usize| own[kind].map_or(0, Buffer::address);
            let [param, grad, first, second, largest] = [0, 1, 2, 3, 4].map(at);
            let n = tensor[1].as_ref().map_or(0, Vec::len) as u32;
            let entry = Entry { param, grad, first, second, largest, first_block: 0, n };
            assert!(table.push(entry));
            buffers.push(own);
        }
        let state = self.state.map(|state| {
            let words = state.to_bytes();
            let words: Vec<u64> = words
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
                .collect();
            device.upload_mutable(&words)
        });
        let numbers: Vec<Arg> = match self.rule {
            Rule::Adam(Adam { keep, take, l2, shrink, rate, root, eps }) => {
                let rest = [l2, shrink, rate, root, eps];
                [keep, take].concat().into_iter().chain(rest).map(Arg::from).collect()
            }
            Rule::Sgd(numbers) => numbers.map(Arg::from).to_vec(),
            Rule::NonFinite => vec![Arg::from(STEP)],
        };
        let address = state.map_or(0, Buffer::address);
        let args: Vec<Arg> = [Arg::from(table.to_bytes().to_vec()), Arg::from(table.count())]
            .into_iter()
            .chain(numbers)
            .chain([Arg::from(address)])
            .collect();
        let kernel = self.kernel();
        let launch = Launch::new([table.blocks(), 1, 1], kernel.block).seed(seed).at_most(1_000);
        let work = device.launch(&module, kernel.entry, &launch, &args)?;
        let mut tensors = Vec::new();
        for own in buffers {
            let mut read = [const { None }; 5];
            for (read, buffer) in read.iter_mut().zip(own) {
                *read = buffer.map(|buffer| device.read(buffer)).transpose()?;
            }
            tensors.push(read);
        }
        let state = state.map(|state| device.read::<u8>(state)).transpose()?;
        let state = state.map(|bytes| WatchState::from_bytes(bytes.try_into().unwrap()));
        Ok((tensors, state, work))
    }

    fn expected(&self) -> (Tensors, Option<WatchState>) {
        let (mut tensors, mut state) = (self.tensors.clone(), self.state);
        let stopped = state.is_some_and(|state| state.bad_step != 0);
        for [param, grad, first, second, largest] in &mut tensors {
            let grad = grad.as_deref().unwrap();
            match self.rule {
                Rule::NonFinite => reference::non_finite(grad, STEP, state.as_mut().unwrap()),
                _ if stopped => {}
                Rule::Adam(numbers) => reference::adam(
                    &numbers,
                    param.as_deref_mut().unwrap(),
                    grad,
                    first.as_deref_mut().unwrap(),
                    second.as_deref_mut().unwrap(),
                    largest.as_deref_mut(),
                ),
                Rule::Sgd(numbers) => reference::sgd(
                    numbers,
                    param.as_deref_mut().unwrap(),
                    grad,
                    first.as_deref_mut(),
                ),
            }
        }
        (tensors, state)
    }

    fn check(&self, text: &str, seed: u64) -> Result<Work, String> {
        let (found, state, work) = self.run(text, seed).map_err(|error| error.to_string())?;
        let (want, want_state) = self.expected();
        if state != want_state {
            return Err(format!("{state:?} instead of {want_state:?}"));
        }
        for (at, (found, want)) in found.iter().zip(&want).enumerate() {
            for (kind, (found, want)) in found.iter().zip(want).enumerate() {
                let (Some(found), Some(want)) = (found, want) else { continue };
                let same =
                    |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                if let Some(i) = found.iter().zip(want).position(|pair| !same(pair)) {
                    let (found, want) = (found[i], want[i]);
                    return Err(format!("tensor {at}, {kind}, {i}: {found} instead of {want}"));
                }
            }
        }
        Ok(work)
    }
}

const STEP: u32 = 17;

fn rules() -> impl Strategy<Value = Rule> {
    let number = || 0.01..1.0_f32;
    prop_oneof![
        (proptest::array::uniform9(number())).prop_map(|[a, b, c, d, e, f, g, h, i]| {
            Rule::Adam(Adam {
                keep: [a, b],
                take: [c, d],
                l2: e,
                shrink: f,
                rate: g,
                root: h,
                eps: i,
            })
        }),
        proptest::array::uniform3(number()).prop_map(Rule::Sgd),
        Just(Rule::NonFinite),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_step_has_the_bits_of_the_reference(
        rule in rules(),
        sizes in proptest::collection::vec(
            (prop_oneof![1..9_usize, 1020..1030_usize, Just(2048)], any::<bool>(), 0..1009_usize),
            1..6,
        ),
        state in proptest::option::of(0..2_u32),
        odd in proptest::option::of((0..5_usize, 0..2048_usize, 0..4_usize)),
        seed: u64,
    ) {
        let mut tensors: Tensors = sizes
            .into_iter()
            .map(|(n, more, seed)| {
                let kept = match rule {
                    Rule::Adam(_) => 2 + usize::from(more),
                    Rule::Sgd(_) => usize::from(more),
                    Rule::NonFinite => 0,
                };
                tensor(n, kept, seed)
            })
            .collect();
        if let Some((at, element, kind)) = odd {
            let at = at % tensors.len();
            let grad = tensors[at][1].as_mut().unwrap();
            let element = element % grad.len();
            grad[element] = [f32::NAN, f32::INFINITY, -f32::INFINITY, -0.0][kind];
        }
        let watch = |bad_step| WatchState { bad_step, reason: bad_step, loss_sum: 1.5, last_loss: 2.5 };
        let state = state.or(matches!(rule, Rule::NonFinite).then_some(0)).map(watch);
        let case = Case { rule, tensors, state };
        case.check(case.kernel().text, seed).map_err(TestCaseError::fail)?;
    }
}

/// A full table, each tensor of another size.
#[test]
fn as_many_tensors_as_there_is_room_for() {
    let tensors: Tensors = (0..TENSORS).map(|at| tensor(1 + at * 29, 2 + at % 2, at)).collect();
    let case = Case { rule: Rule::Adam(ADAM), tensors, state: None };
    for seed in 0..3 {
        case.check(ADAM_F32.text, seed).unwrap();
    }
    let mut table = Table::default();
    for _ in 0..TENSORS {
        assert!(table.push(Entry { n: 1025, ..Entry::default() }));
    }
    assert!(table.push(Entry::default()), "one without elements is left out");
    assert!(!table.push(Entry { n: 1, ..Entry::default() }));
    assert_eq!((table.count(), table.blocks()), (80, 160));
    let mut large = Table::default();
    let most = Entry { n: u32::MAX, ..Entry::default() };
    assert_eq!((0..TENSORS).filter(|_| large.push(most)).count(), TENSORS);
}

#[test]
fn bytes_are_those_of_the_bounds() {
    let bytes = |rule, kept, state| {
        let case = Case { rule, tensors: vec![tensor(2048, kept, 0), tensor(7, kept, 1)], state };
        let work = case.check(case.kernel().text, 0).unwrap();
        (work.global_read / 2055, work.global_written / 2055)
    };
    assert_eq!(bytes(Rule::Adam(ADAM), 2, None), (16, 12));
    assert_eq!(bytes(Rule::Adam(ADAM), 3, None), (20, 16));
    assert_eq!(bytes(Rule::Sgd([0.9, 0.1, 0.1]), 0, None), (8, 4));
    assert_eq!(bytes(Rule::Sgd([0.9, 0.1, 0.1]), 1, None), (12, 8));
    assert_eq!(bytes(Rule::NonFinite, 0, Some(WatchState::default())), (4, 0));
}

#[test]
fn nothing_can_be_wrong_unnoticed() {
    let bad = WatchState { bad_step: 3, reason: 1, loss_sum: 0.5, last_loss: 1.5 };
    let none = WatchState::default();
    for (rule, kept) in [(Rule::Adam(ADAM), [2, 3]), (Rule::Sgd([0.9, 0.1, 0.2]), [0, 1])] {
        let case = |sizes: &[usize], state| {
            let tensors = sizes.iter().enumerate();
            let tensors = tensors.map(|(at, &n)| tensor(n, kept[at % 2], 31 * at)).collect();
            Case { rule, tensors, state }
        };
        let cases = [
            case(&[7, 1030, 3, 4], None),
            case(&[4, 7], Some(none)),
            case(&[1, 1, 1, 1, 1, 1, 1], None),
            case(&[5], Some(bad)),
        ];
        let checks: Vec<_> =
            cases.iter().map(|case| |text: &str, seed| case.check(text, seed)).collect();
        let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
        assert_no_mutant_survives(&cases[0].kernel(), &checks);
    }
    let case = |at: usize, element: usize, value: f32, state| {
        let mut tensors: Tensors = [7, 1026, 3, 4].map(|n| tensor(n, 0, n)).to_vec();
        tensors[at][1].as_mut().unwrap()[element] = value;
        Case { rule: Rule::NonFinite, tensors, state: Some(state) }
    };
    let mut cases = vec![case(2, 1, 1.0, none), case(1, 1023, f32::NAN, bad)];
    for (at, element) in [(0, 0), (0, 1), (0, 2), (0, 3), (0, 6), (1, 1025), (2, 2), (3, 3)] {
        cases.push(case(at, element, f32::INFINITY, none));
    }
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check(text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&NON_FINITE_F32, &checks);
}

fn watch(text: &str, loss: f32, before: WatchState) -> Result<Work, String> {
    let weight = 3.7;
    let run = || {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let words = before.to_bytes();
        let words: Vec<u64> = words
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let (loss, state) = (device.upload(&[loss]), device.upload_mutable(&words));
        let args = [Arg::from(loss), Arg::from(weight), Arg::from(STEP), Arg::from(state)];
        let launch = Launch::new([1, 1, 1], WATCH_LOSS_F32.block);
        let work = device.launch(&module, WATCH_LOSS_F32.entry, &launch, &args)?;
        Ok::<_, Error>((device.read::<u8>(state)?, work))
    };
    let (found, work) = run().map_err(|error| error.to_string())?;
    let found = WatchState::from_bytes(found.try_into().unwrap());
    let mut want = before;
    reference::watch_loss(loss, weight, STEP, &mut want);
    // Bit by bit: a loss that is NaN is noted as well.
    if found.to_bytes() == want.to_bytes() {
        Ok(work)
    } else {
        Err(format!("{found:?} instead of {want:?}"))
    }
}

#[test]
fn losses_are_added_until_one_is_bad() {
    let before = WatchState { bad_step: 0, reason: 0, loss_sum: 0.1, last_loss: 2.3 };
    let bad = WatchState { bad_step: 2, reason: 2, ..before };
    let cases = [
        (0.7, before),
        (-0.0, before),
        (f32::MAX, before),
        (f32::NAN, before),
        (f32::INFINITY, before),
        (-f32::INFINITY, before),
        (0.7, bad),
        (f32::NAN, bad),
    ];
    let checks: Vec<_> = cases
        .iter()
        .map(|&(loss, before)| move |text: &str, _: u64| watch(text, loss, before))
        .collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&WATCH_LOSS_F32, &checks);
}
