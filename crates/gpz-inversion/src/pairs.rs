//! Features of a network that nobody here knows, in pairs with their pictures; and a decoder that learns from them.
//!
//! Whoever cannot run a target can still be attacked by its features: a decoder needs pairs and nothing else. As the feature of another
//! picture cannot be had, pictures are neither mirrored nor changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use gpz_nn::{Tape, Var, derive_seed, loss};
use gpz_tensor::{Device, Tensor};

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::learner::{Learner, TrainingPlan};
use crate::observer::Observer;
use crate::trainer::decoder_step;

/// Features, each with the picture it was computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    feature: Vec<usize>,
    picture: [usize; 3],
    features: Vec<f32>,
    pictures: Vec<f32>,
}

impl Pairs {
    /// - `feature`: shape of one feature; `picture`: of one picture, `[c, h, w]`
    /// - `features`: `[n]` followed by the feature's shape, row-major
    /// - `pictures`: `[n, h, w, c]`, channels last, in [0, 1]
    ///
    /// # Errors
    /// [`Error::Pairs`] for numbers that do not make as many of both.
    pub fn new(
        feature: Vec<usize>,
        picture: [usize; 3],
        features: Vec<f32>,
        pictures: Vec<f32>,
    ) -> Result<Self> {
        let rows = |values: usize, shape: &[usize]| {
            let len = shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))?;
            (len > 0 && values.is_multiple_of(len)).then(|| values / len)
        };
        let n = rows(features.len(), &feature);
        if n.is_none() || n != rows(pictures.len(), &picture) {
            let (features, pictures) = (features.len(), pictures.len());
            return Err(Error::Pairs { features, pictures, feature, picture });
        }
        Ok(Pairs { feature, picture, features, pictures })
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pictures.len() / self.pixels()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// Shape of one feature.
    #[must_use]
    pub fn feature(&self) -> &[usize] {
        &self.feature
    }

    /// Shape of one picture, `[c, h, w]`.
    #[must_use]
    pub fn picture(&self) -> [usize; 3] {
        self.picture
    }

    /// Numbers of one picture; at least 1.
    fn pixels(&self) -> usize {
        self.picture.iter().product()
    }

    /// Pictures of some rows, channels last: `[rows, h, w, c]`.
    ///
    /// # Panics
    /// For a row that is not there.
    #[must_use]
    pub fn pixels_of(&self, rows: &[usize]) -> Vec<f32> {
        gathered(&self.pictures, self.pixels(), rows)
    }

    /// Features of some rows, `[rows, ...]`, on a device.
    ///
    /// # Errors
    /// A device without memory.
    ///
    /// # Panics
    /// For a row that is not there.
    pub fn features_of(&self, rows: &[usize], device: &Device) -> Result<Tensor> {
        let shape: Vec<usize> = [rows.len()].iter().chain(&self.feature).copied().collect();
        let values = gathered(&self.features, self.feature.iter().product(), rows);
        Ok(Tensor::from_slice(&values, &shape)?.to_device(device)?)
    }

    /// Pictures of some rows as a tensor `[rows, c, h, w]` on a device.
    ///
    /// # Errors
    /// A device without memory.
    ///
    /// # Panics
    /// For a row that is not there.
    pub fn pictures_of(&self, rows: &[usize], device: &Device) -> Result<Tensor> {
        let [c, h, w] = self.picture;
        let values = self.pixels_of(rows);
        Ok(Tensor::from_channels_last(&values, [rows.len(), c, h, w])?.to_device(device)?)
    }

    /// Whether two rows show the same picture, to the bit.
    fn same_picture(&self, a: usize, b: usize) -> bool {
        self.bits(a).eq(self.bits(b))
    }

    fn bits(&self, row: usize) -> impl Iterator<Item = u32> + '_ {
        let len = self.pixels();
        self.pictures[row * len..][..len].iter().map(|value| value.to_bits())
    }

    fn hash_of(&self, row: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.bits(row).for_each(|bits| bits.hash(&mut hasher));
        hasher.finish()
    }
}

fn gathered(values: &[f32], len: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|row| &values[row * len..][..len]).copied().collect()
}

macro_rules! rows {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Vec<usize>);

        impl $name {
            /// The rows, ascending.
            #[must_use]
            pub fn rows(&self) -> &[usize] {
                &self.0
            }
        }
    };
}

rows! {
    /// Rows that a decoder learns from.
    TrainRows
}
rows! {
    /// Rows that a decoder's state is chosen by.
    HeldOutRows
}
rows! {
    /// Rows that a decoder is judged on, once.
    TestRows
}

/// Rows of [`Pairs`] in three disjoint parts, each of a type of its own: no test row can choose anything.
///
/// ```compile_fail,E0308
/// use gpz_inversion::{Decoder, Learner, PairCut, Pairs, TrainingPlan, train_on_pairs};
///
/// fn chosen_on_test(learner: &mut Learner<Decoder>, pairs: &Pairs, cut: &PairCut, plan: &TrainingPlan) -> gpz_inversion::Result<()> {
///     train_on_pairs(learner, pairs, (&cut.train, &cut.test), plan, 1, &mut gpz_inversion::Silent)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairCut {
    /// What is learnt from.
    pub train: TrainRows,
    /// A tenth of what is not test, to choose by.
    pub held_out: HeldOutRows,
    /// What is judged on.
    pub test: TestRows,
}

impl PairCut {
    /// Cuts `rows` rows: a fifth is test, of the others a tenth is held out. Where a row goes follows from the seed and its position.
    #[must_use]
    pub fn new(rows: usize, seed: u64) -> Self {
        let mut order = in_random_order((0..rows).collect(), derive_seed(seed, "pair cut", 0));
        let test = order.split_off(rows - rows / 5);
        Self::of(order, test)
    }

    /// Cuts `rows` rows that are followed by `tests` more, which are the test part.
    #[must_use]
    pub fn with_test(rows: usize, tests: usize, seed: u64) -> Self {
        let order = in_random_order((0..rows).collect(), derive_seed(seed, "pair cut", 0));
        Self::of(order, (rows..rows.saturating_add(tests)).collect())
    }

    fn of(mut attack: Vec<usize>, mut test: Vec<usize>) -> Self {
        // One at least, if there is one to spare.
        let held_out = (attack.len() / 10).max(usize::from(attack.len() > 1));
        let mut held_out = attack.split_off(attack.len() - held_out);
        for rows in [&mut attack, &mut held_out, &mut test] {
            rows.sort_unstable();
        }
        PairCut { train: TrainRows(attack), held_out: HeldOutRows(held_out), test: TestRows(test) }
    }

    /// Takes from the attacker every row whose picture is one of the test part, to the bit; returns how many there were.
    ///
    /// # Panics
    /// For a cut of other pairs, with rows that are not there.
    pub fn leave_out_shared(&mut self, pairs: &Pairs) -> usize {
        let mut tested: HashMap<u64, Vec<usize>> = HashMap::new();
        for &row in &self.test.0 {
            tested.entry(pairs.hash_of(row)).or_default().push(row);
        }
        let own = |row: &usize| {
            let alike = tested.get(&pairs.hash_of(*row));
            !alike.is_some_and(|rows| rows.iter().any(|test| pairs.same_picture(*row, *test)))
        };
        let before = self.train.0.len() + self.held_out.0.len();
        self.train.0.retain(own);
        self.held_out.0.retain(own);
        before - self.train.0.len() - self.held_out.0.len()
    }
}

/// Rows in an order in which each stands at a place drawn for it alone.
fn in_random_order(mut rows: Vec<usize>, seed: u64) -> Vec<usize> {
    rows.sort_by_cached_key(|&row| (derive_seed(seed, "place", row as u64), row));
    rows
}

/// Trains a decoder on pairs to the end of the plan, or until it stops early by it; it keeps the state of the lowest error on the
/// held-out rows.
///
/// - `plan`: the one the learner was made with
///
/// # Errors
/// [`Error::NonFiniteLoss`] and [`Error::NonFiniteGradient`] name the step; [`Error::Stopped`] after a stop was asked for; a device
/// without memory.
pub fn train_on_pairs(
    learner: &mut Learner<Decoder>,
    pairs: &Pairs,
    (train, held_out): (&TrainRows, &HeldOutRows),
    plan: &TrainingPlan,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<()> {
    let (device, batch, epochs) = (learner.device(), plan.batch.max(1), plan.epochs);
    let per_epoch = train.0.len().div_ceil(batch);
    observer.begin("attack", (epochs * per_epoch) as u64);
    while !learner.is_finished() {
        let epoch = learner.epochs_done();
        let order = in_random_order(train.0.clone(), derive_seed(seed, "pair order", epoch as u64));
        for rows in order.chunks(batch) {
            let (z, x) = (pairs.features_of(rows, &device)?, pairs.pictures_of(rows, &device)?);
            decoder_step(learner, (seed, epoch), &z, &x)?;
            observer.advance(1, &format!("{}/{epochs} epochs", epoch + 1));
            if observer.stop_requested() {
                return Err(Error::Stopped);
            }
        }
        let error = mean_error(learner.module(), pairs, held_out, batch, &device)?;
        learner.end_epoch(error, None)?;
    }
    let best = learner.best_epoch().and_then(|epoch| learner.curve().get(epoch - 1));
    let error = best.map_or(f64::NAN, |record| record.held_out_loss);
    let early = match learner.stopped_early() {
        true => format!(", ended after epoch {}", learner.epochs_done()),
        false => String::new(),
    };
    observer.end(&format!("MSE {error:.4} on held-out pairs{early}"));
    Ok(())
}

/// Mean squared error per element, by which states are chosen.
fn mean_error(
    decoder: &Decoder,
    pairs: &Pairs,
    held_out: &HeldOutRows,
    batch: usize,
    device: &Device,
) -> Result<f64> {
    let (tape, mut sum) = (Tape::eval(), 0.0);
    for rows in held_out.0.chunks(batch) {
        let guess = decoder.forward(&tape, &Var::constant(pairs.features_of(rows, device)?))?;
        let loss = loss::mse(&guess, &pairs.pictures_of(rows, device)?)?;
        sum += loss.value().item()? * rows.len() as f64;
    }
    Ok(sum / held_out.0.len().max(1) as f64)
}
