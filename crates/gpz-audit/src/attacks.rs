//! The attacks of a run: which decoders learn together, what they need, and their training.

use std::path::PathBuf;

use gpz_data::{ImageSet, Parts};
use gpz_inversion::{
    CachePlan, Decoder, DecoderPlan, InversionTrainer, LeastBytes, Observer, Wire,
};
use gpz_models::{Architecture, Target};
use gpz_nn::checkpoint;

use crate::config::{AuditConfig, plan_in_words};
use crate::error::{Error, Result};
use crate::memory;
use crate::run_dir::{RunDir, files};
use crate::run_record::{AttackTraining, converged};
use crate::sweep::{Circumstances, epochs, losses, read_state, state_file, write_state};
use crate::words::{bytes, counted, thousands};

/// The splits of a run in groups whose decoders learn together, so that no group takes more memory than there is.
///
/// Splits come in their order, as many to a group as fit; what a decoder learns does not depend on the others of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttackGroups {
    groups: Vec<Vec<usize>>,
    /// Parameters of all decoders.
    params: u64,
    /// Of the group that needs most.
    least_bytes: u128,
    /// Folder in which features are kept while decoders learn, if they are.
    cache: Option<PathBuf>,
}

/// Where decoders learn, and where their states are read.
#[derive(Debug, Clone, Copy)]
struct Room {
    host: u128,
    /// Of the CUDA device, if they learn on one.
    device: Option<u128>,
}

impl Room {
    /// What a group needs and what there is, if that is less.
    ///
    /// - `others`: bytes of the target and of decoders that have learnt before
    fn lacks(self, least: LeastBytes, others: u128) -> Option<(u128, u128)> {
        let (learning, room) = (least.learning + others, self.device.unwrap_or(self.host));
        if learning > room {
            return Some((learning, room));
        }
        let unread = self.device.is_some() && least.reading > self.host;
        unread.then_some((least.reading, self.host))
    }
}

/// Above this what the attacks need is said before they begin.
const WORTH_SAYING: u128 = 1 << 30;

impl AttackGroups {
    /// The decoders of a run, before its data is read: for pictures of one channel, whose decoders are the smallest.
    ///
    /// # Errors
    /// [`Error::Inversion`] for a split no decoder is defined for; [`Error::Memory`] names the first split whose decoder is too large by
    /// itself.
    pub(crate) fn foresee(
        config: &AuditConfig,
        target: &Architecture,
        splits: &[usize],
        circumstances: &Circumstances,
    ) -> Result<Self> {
        let mut plans = Vec::new();
        for &split in splits {
            let tap = &target.taps[split - 1];
            let spec = config.attack.decoder.at(config.model.family(), &tap.shape);
            plans.push((split, tap.name.clone(), spec.plan(&tap.shape, target.input)?));
        }
        let cuda = circumstances.device.as_cuda();
        let device = cuda.map(|device| u128::from(device.properties().memory_bytes));
        let there = Room { host: memory::available(), device };
        let mut allowed = there;
        if let Some(budget) = circumstances.memory {
            let room = allowed.device.as_mut().unwrap_or(&mut allowed.host);
            *room = u128::from(budget).min(*room);
        }
        let target = target.least_bytes(config.attack.training.batch);
        let groups = Self::new(config, &plans, target, [there, allowed])?;
        Ok(AttackGroups { cache: circumstances.cache.clone(), ..groups })
    }

    /// Features that a group's decoders learn from.
    fn features(
        config: &AuditConfig,
        target: &dyn Target,
        group: &[usize],
        parts: &Parts,
    ) -> Result<CachePlan> {
        let (train, held_out) = (parts.auxiliary.train(), parts.auxiliary.held_out());
        let images = (train.len(), held_out.len());
        Ok(CachePlan::new(target, group, images, config.attack.flip)?)
    }

    /// Says how large a cache of features becomes, if one was asked for, and that it can be had.
    ///
    /// # Errors
    /// [`Error::Inversion`] for a folder that cannot be written to, or too little room.
    pub(crate) fn announce_cache(
        &self,
        config: &AuditConfig,
        target: &dyn Target,
        parts: &Parts,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Some(folder) = &self.cache else { return Ok(()) };
        let plans = self.groups.iter().map(|group| Self::features(config, target, group, parts));
        let plans = plans.collect::<Result<Vec<_>>>()?;
        let Some(largest) = plans.iter().max_by_key(|plan| plan.bytes()) else { return Ok(()) };
        // Made and given back: what a disk refuses, it refuses before the target has learnt for hours.
        largest.create(folder)?;
        observer.note(&format!(
            "features are kept in {} while decoders learn: {} of its disk",
            folder.display(),
            bytes(largest.bytes())
        ));
        Ok(())
    }

    /// - `target`: bytes of the target and its passes, beside which a group learns; a decoder too large for the machine is so without them
    /// - `there`: what one decoder alone may need; `allowed`: what a group may
    fn new(
        config: &AuditConfig,
        plans: &[(usize, String, DecoderPlan)],
        target: u128,
        [there, allowed]: [Room; 2],
    ) -> Result<Self> {
        let params: u64 = plans.iter().map(|(.., plan)| plan.cost().params).sum();
        let least = |group: &[&DecoderPlan]| {
            let costs: Vec<_> = group.iter().map(|plan| plan.cost()).collect();
            let own: u64 = costs.iter().map(|cost| cost.params).sum();
            (config.attack.training.least_bytes(&costs), 4 * u128::from(params - own))
        };
        let (mut groups, mut together): (Vec<Vec<usize>>, Vec<&DecoderPlan>) = Default::default();
        let mut least_bytes = 0;
        for (split, name, plan) in plans {
            let (alone, others) = least(&[plan]);
            if let Some((needed, available)) = there.lacks(alone, others) {
                let what = format!(
                    "the attack on {name} by the decoder {} of {} parameters",
                    plan.spec(),
                    thousands(plan.cost().params)
                );
                let mend = "choose a smaller one, such as --decoder per-tap:width=50, or attack other splits";
                return Err(Error::Memory { what, needed, available, mend });
            }
            together.push(plan);
            let (all, others) = least(&together);
            match groups.last_mut() {
                Some(group) if allowed.lacks(all, target + others).is_none() => group.push(*split),
                _ => {
                    groups.push(vec![*split]);
                    together = vec![plan];
                }
            }
            let (all, others) = least(&together);
            least_bytes = least_bytes.max(all.learning + target + others);
        }
        Ok(AttackGroups { groups, params, least_bytes, cache: None })
    }

    /// Says what the attacks need, if it is much.
    pub(crate) fn announce(&self, observer: &mut dyn Observer) {
        if self.least_bytes <= WORTH_SAYING && self.groups.len() < 2 {
            return;
        }
        let decoders = self.groups.iter().map(Vec::len).sum();
        let groups = match self.groups.len() {
            1 => String::new(),
            n => format!(", which learn in {n} groups: the target runs over the images as often"),
        };
        observer.note(&format!(
            "the attacks need {} of memory at least, for {} of {} parameters{groups}",
            bytes(u64::try_from(self.least_bytes).unwrap_or(u64::MAX)),
            counted(decoders, "decoder"),
            thousands(self.params)
        ));
    }

    /// State of an unfinished training of a group, beside the checkpoints.
    fn state_file(&self, group: &[usize]) -> String {
        match (self.groups.len(), group) {
            (2.., [first, .., last]) => state_file(&format!("{STATES}-{first}-{last}")),
            (2.., [only]) => state_file(&format!("{STATES}-{only}")),
            _ => state_file(STATES),
        }
    }
}

/// What the names of states begin with.
const STATES: &str = "attacks";

/// Removes the states of attacks. What cannot be removed stays; the results do not depend on it.
pub(crate) fn remove_states(dir: &RunDir) {
    let Ok(entries) = std::fs::read_dir(dir.file(files::CHECKPOINTS)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_state = name
            .to_str()
            .and_then(|name| name.strip_suffix(".state.safetensors"))
            .is_some_and(|name| name == STATES || name.starts_with(&format!("{STATES}-")));
        if is_state {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(crate) type Attacks = (Vec<(usize, Decoder)>, Vec<AttackTraining>);

/// Trains a decoder for each split of the groups, on what arrives through the wire, from wherever an earlier attempt in the directory
/// ended, and writes them.
pub(crate) fn train_attacks(
    config: &AuditConfig,
    dir: &RunDir,
    target: &dyn Target,
    (groups, wire): (&AttackGroups, &dyn Wire),
    parts: &Parts,
    observer: &mut dyn Observer,
) -> Result<Attacks> {
    let (mut decoders, mut records) = (Vec::new(), Vec::new());
    for group in &groups.groups {
        let state = groups.state_file(group);
        let mut trainer =
            InversionTrainer::new(target, group, config.attack, config.seed)?.behind(wire);
        read_state(dir, &state, |file| trainer.restore_from(file))?;
        let finished = trainer.attacks().iter().all(|(_, learner)| learner.is_finished());
        if let Some(folder) = groups.cache.as_ref().filter(|_| !finished) {
            let features = AttackGroups::features(config, target, group, parts)?;
            trainer = trainer.caching(features.create(folder)?);
        }
        let auxiliary = &parts.auxiliary;
        trainer
            .train(auxiliary.train(), auxiliary.held_out(), observer, |trainer| -> Result<()> {
                write_state(dir, &state, |out| trainer.write_state(out))
            })
            .map_err(|error| error.of_steps(config.attack.training.batch))?;
        let plan = &config.attack.training;
        for (split, learner) in trainer.attacks() {
            let (curve, decoder) = (epochs(learner.curve()), learner.module());
            records.push(AttackTraining {
                split: target.taps()[split - 1].name.clone(),
                attack: "inverse network".to_owned(),
                decoder: decoder.spec().to_string(),
                decoder_params: decoder.cost().params,
                decoder_macs: decoder.cost().macs,
                optimiser: plan_in_words(plan),
                batch: plan.batch,
                epochs: curve.len(),
                chosen_epoch: learner.best_epoch().unwrap_or(0),
                stopped_early: learner.stopped_early(),
                converged: converged(&losses(&curve)),
                curve,
            });
        }
        for (split, decoder) in trainer.into_decoders()? {
            let file = files::decoder_checkpoint(&target.taps()[split - 1].name);
            dir.write(&file, &checkpoint::save(&decoder, Some(&target.name()))?)?;
            decoders.push((split, decoder));
        }
    }
    Ok((decoders, records))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Result<Vec<(usize, String, DecoderPlan)>> {
        let spec: gpz_inversion::DecoderSpec = "per-tap".parse()?;
        let plan = |split: usize| -> Result<_> {
            Ok((split, format!("block{split}"), spec.plan(&[64, 8, 8], [1, 64, 64])?))
        };
        [1, 2, 3, 5, 8].map(plan).into_iter().collect()
    }

    /// Bytes of a target beside which decoders learn.
    const TARGET: u128 = 1000;

    fn room(host: u128) -> Room {
        Room { host, device: None }
    }

    /// Groups hold each split once and in order, none is beyond what is allowed, and none could take the next.
    #[test]
    fn groups_are_as_large_as_fits() -> Result<()> {
        let (config, plans) = (AuditConfig::preset("quick", None)?, plans()?);
        let cost = plans[0].2.cost();
        let least = |n: usize| config.attack.training.least_bytes(&vec![cost; n]);
        let total =
            |n: usize| least(n).learning + TARGET + 4 * u128::from(cost.params) * (5 - n as u128);
        for (allowed, want) in [
            (total(5), vec![vec![1, 2, 3, 5, 8]]),
            (total(5) - 1, vec![vec![1, 2, 3, 5], vec![8]]),
            (total(2), vec![vec![1, 2], vec![3, 5], vec![8]]),
            (total(2) - 1, vec![vec![1], vec![2], vec![3], vec![5], vec![8]]),
            (0, vec![vec![1], vec![2], vec![3], vec![5], vec![8]]),
        ] {
            let groups =
                AttackGroups::new(&config, &plans, TARGET, [room(1 << 60), room(allowed)])?;
            assert_eq!(groups.groups, want, "{allowed} bytes");
            assert_eq!(groups.params, 5 * cost.params);
            let names: std::collections::BTreeSet<String> =
                groups.groups.iter().map(|group| groups.state_file(group)).collect();
            assert_eq!(names.len(), groups.groups.len(), "a state of its own for each group");
        }
        Ok(())
    }

    #[test]
    fn a_decoder_beyond_the_machine_is_named_with_the_mend() -> Result<()> {
        let config = AuditConfig::preset("quick", None)?;
        let spec: gpz_inversion::DecoderSpec = "vit".parse()?;
        let plans = [(6, "block6".to_owned(), spec.plan(&[257, 128], [3, 64, 64])?)];
        let gibibytes = |n: u128| n << 30;
        let within = |there| AttackGroups::new(&config, &plans, TARGET, [there, there]);
        assert!(within(room(gibibytes(7))).is_ok());
        let device = Room { host: gibibytes(64), device: Some(gibibytes(5)) };
        for small in [room(gibibytes(6)), device] {
            let error = within(small).expect_err("too large");
            let message = error.to_string();
            assert!(message.starts_with("the attack on block6 by the decoder vit:width=100"));
            assert!(message.contains("--decoder per-tap:width=50"), "{message}");
        }
        Ok(())
    }

    /// What decoders of these groups wrote and recorded. States are there to go on from, one for each group, until they are removed.
    fn learnt_in(groups: &[&[usize]], cached: bool) -> Result<(Vec<Vec<u8>>, Vec<AttackTraining>)> {
        let pixels: Vec<u8> = (0..80usize * 256).map(|i| (i * i % 251) as u8).collect();
        let labels = (0..80).map(|i| i % 2).collect();
        let shape = gpz_data::ImageShape { height: 16, width: 16, channels: 1 };
        let set = gpz_data::Dataset::from_arrays("set", shape, (pixels, labels), None, None)?;
        let resolution = (16, 16);
        let parts = set.split(&gpz_data::SplitPlan { resolution, ..Default::default() })?;
        let mut config = AuditConfig::preset("quick", None)?;
        config.attack.training.set_epochs(3);
        let model: gpz_models::ModelSpec = "cnn4:width=2".parse()?;
        let target = model.build([1, 16, 16], 2, &mut gpz_nn::rng_for(1, "target", 0))?;
        let folder = tempfile::TempDir::new().expect("a temporary directory");
        let dir = RunDir::create(&folder.path().join("run"))?;
        let groups = groups.iter().map(|group| group.to_vec()).collect();
        let cache = cached.then(|| folder.path().to_owned());
        let groups = AttackGroups { groups, params: 0, least_bytes: 0, cache };
        let attacked = (&groups, &gpz_inversion::Exact as &dyn Wire);
        let observer = &mut gpz_inversion::Silent;
        let (decoders, records) =
            train_attacks(&config, &dir, &*target, attacked, &parts, observer)?;
        let states =
            || groups.groups.iter().filter(|g| dir.file(&groups.state_file(g)).exists()).count();
        assert_eq!(states(), groups.groups.len());
        remove_states(&dir);
        assert_eq!(states(), 0);
        let file = |split: usize| files::decoder_checkpoint(&target.taps()[split - 1].name);
        let written = decoders
            .iter()
            .map(|(split, _)| std::fs::read(dir.file(&file(*split))).expect("it was written"))
            .collect();
        Ok((written, records))
    }

    /// A decoder learns the same beside others, beside some of them, and alone.
    #[test]
    fn groups_change_nothing_but_the_memory() -> Result<()> {
        let together = learnt_in(&[&[1, 2, 4]], false)?;
        let apart = learnt_in(&[&[1, 2], &[4]], false)?;
        assert_eq!(together.1, apart.1);
        assert!(together.0 == apart.0, "the decoders differ");
        assert_eq!(together.1[2].decoder, "cnn:width=100");
        Ok(())
    }

    /// Decoders learn the same from features that were kept, mirrored ones among them.
    #[test]
    fn a_cache_changes_nothing_but_the_time() -> Result<()> {
        let (fresh, kept) =
            (learnt_in(&[&[1, 2], &[4]], false)?, learnt_in(&[&[1, 2], &[4]], true)?);
        assert_eq!(fresh.1, kept.1);
        assert!(fresh.0 == kept.0, "the decoders differ");
        Ok(())
    }
}
