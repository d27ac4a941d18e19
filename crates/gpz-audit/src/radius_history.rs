//! `radius_history.json`: the radius of each split that a run is about while the target was trained.
//!
//! The published account of why positive label smoothing resists inversion, the "neural vortex", is one of training: step by step the
//! intra-class radius of deep features shrinks further. This file shows it happen, or not.

use gpz_data::{ImageSet, TargetValidation};
use gpz_inversion::Silent;
use serde::{Deserialize, Serialize};

use crate::config::AuditConfig;
use crate::error::{Error, Result};
use crate::json;
use crate::run_dir::{RunDir, files, read_text};
use crate::statistics::{self, Radius};
use crate::training::TargetLearner;

/// The contents of `radius_history.json`. All lists have one entry for each of `epochs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RadiusHistory {
    /// The part whose features were measured, the target in evaluation mode, by true labels.
    pub part: String,
    /// Images in it.
    pub images: usize,
    /// Label distribution the target learned from, such as `ls:+0.3`.
    pub labels: String,
    /// Epochs between two measurements; the last epoch is measured in any case.
    pub every: usize,
    /// Epochs that were done at each measurement; 0 is the untrained target.
    pub epochs: Vec<usize>,
    /// The splits that the run is about, shallowest first.
    pub splits: Vec<SplitHistory>,
}

/// One split over the epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitHistory {
    /// Name of the split.
    pub split: String,
    /// Number of values in its feature, D.
    pub width: usize,
    /// R_c² with 1/N_c, averaged over the classes with images, in squared units of the feature.
    #[serde(with = "crate::number::list")]
    pub radius_sq: Vec<f64>,
    /// The same divided by D.
    #[serde(with = "crate::number::list")]
    pub radius_sq_per_dim: Vec<f64>,
    /// Share of the variance that lies within classes.
    #[serde(with = "crate::number::list")]
    pub within_over_total: Vec<f64>,
}

impl RadiusHistory {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// The parser's; lists of different lengths are an error as well.
    pub fn from_json(text: &str) -> std::result::Result<Self, serde_json::Error> {
        let history: Self = serde_json::from_str(text)?;
        let n = history.epochs.len();
        let fits = |split: &SplitHistory| {
            [&split.radius_sq, &split.radius_sq_per_dim, &split.within_over_total]
                .iter()
                .all(|list| list.len() == n)
        };
        if history.splits.iter().all(fits) {
            return Ok(history);
        }
        Err(serde::de::Error::custom("its lists are not of one length"))
    }

    fn truncate(&mut self, done: usize) {
        let n = self.epochs.iter().take_while(|epoch| **epoch <= done).count();
        self.epochs.truncate(n);
        for split in &mut self.splits {
            for list in
                [&mut split.radius_sq, &mut split.radius_sq_per_dim, &mut split.within_over_total]
            {
                list.truncate(n);
            }
        }
    }

    fn push(&mut self, epoch: usize, radii: &[Radius]) {
        self.epochs.push(epoch);
        for (split, radius) in self.splits.iter_mut().zip(radii) {
            split.radius_sq.push(radius.radius_sq);
            split.radius_sq_per_dim.push(radius.radius_sq / split.width as f64);
            split.within_over_total.push(radius.within_over_total);
        }
    }
}

/// Writes the history while a target learns.
///
/// The file is written before the state of the epoch it belongs to. A run that is interrupted between the two goes on from the earlier
/// state, and what the file says of later epochs is dropped and measured again, to the same bits.
pub(crate) struct Tracker<'a> {
    dir: &'a RunDir,
    set: &'a TargetValidation,
    /// 1-based.
    splits: Vec<usize>,
    history: RadiusHistory,
}

impl<'a> Tracker<'a> {
    /// For a target about to learn, or to go on; none unless the configuration asks for it.
    pub(crate) fn new(
        config: &AuditConfig,
        dir: &'a RunDir,
        learner: &TargetLearner,
        set: &'a TargetValidation,
    ) -> Result<Option<Self>> {
        let Some(every) = config.target.track_radius else { return Ok(None) };
        let target = learner.module();
        let taps = target.taps();
        let splits = config.chosen_splits(taps.len(), |name| target.find_split(name))?;
        let begun = learner.epochs_done() > 0 || learner.steps_done() > 0;
        let history = if begun {
            let text = read_text(dir.path(), files::RADIUS_HISTORY)?;
            let mut history = RadiusHistory::from_json(&text).map_err(|source| Error::Damaged {
                path: dir.file(files::RADIUS_HISTORY),
                source,
            })?;
            history.truncate(learner.epochs_done());
            history
        } else {
            let of = |&split: &usize| SplitHistory {
                split: taps[split - 1].name.clone(),
                width: taps[split - 1].width(),
                radius_sq: Vec::new(),
                radius_sq_per_dim: Vec::new(),
                within_over_total: Vec::new(),
            };
            RadiusHistory {
                part: set.part().name().to_owned(),
                images: set.len(),
                labels: config.target.labels.to_string(),
                every,
                epochs: Vec::new(),
                splits: splits.iter().map(of).collect(),
            }
        };
        let mut tracker = Tracker { dir, set, splits, history };
        if !begun {
            tracker.measure(learner)?;
        }
        Ok(Some(tracker))
    }

    /// To be called whenever the learner's state is about to be saved.
    pub(crate) fn before_save(&mut self, learner: &TargetLearner) -> Result<()> {
        let done = learner.epochs_done();
        let due = done.is_multiple_of(self.history.every) || learner.is_finished();
        // Within an epoch there is nothing new to say of those before it.
        if learner.steps_done() > 0 || !due || self.history.epochs.last() == Some(&done) {
            return Ok(());
        }
        self.measure(learner)
    }

    fn measure(&mut self, learner: &TargetLearner) -> Result<()> {
        let radii = statistics::radii(&**learner.module(), &self.splits, self.set, &mut Silent)?;
        self.history.push(learner.epochs_done(), &radii);
        let text = json::to_text(&self.history, files::RADIUS_HISTORY)?;
        self.dir.write(files::RADIUS_HISTORY, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_the_state_is_dropped() {
        let mut history = RadiusHistory {
            part: "target-validation".into(),
            images: 9,
            labels: "one-hot".into(),
            every: 2,
            epochs: Vec::new(),
            splits: vec![SplitHistory {
                split: "a".into(),
                width: 4,
                radius_sq: Vec::new(),
                radius_sq_per_dim: Vec::new(),
                within_over_total: Vec::new(),
            }],
        };
        for epoch in [0, 2, 4, 5] {
            let radius = Radius { radius_sq: 8.0 * epoch as f64, within_over_total: f64::NAN };
            history.push(epoch, &[radius]);
        }
        let text = serde_json::to_string(&history).expect("text");
        let mut read = RadiusHistory::from_json(&text).expect("its own text");
        assert_eq!(read.splits[0].radius_sq_per_dim, [0.0, 4.0, 8.0, 10.0]);
        read.truncate(3);
        assert_eq!((&read.epochs[..], read.splits[0].radius_sq.len()), (&[0, 2][..], 2));
        read.splits[0].within_over_total.pop();
        let uneven = serde_json::to_string(&read).expect("text");
        assert!(RadiusHistory::from_json(&uneven).is_err());
    }
}
