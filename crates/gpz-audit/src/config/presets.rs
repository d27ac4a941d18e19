//! Presets: whole configurations by name. `docs/protocol.md` says where each figure of `paper` comes from.

use gpz_inversion::{AttackPlan, DecoderChoice, Keep, TrainingPlan};
use gpz_models::ModelSpec;
use gpz_nn::{Labels, Rule, Schedule};

use super::{AuditConfig, Augmentation, TargetPlan};
use crate::choice::Limits;
use crate::declared::Declared;
use crate::error::{Error, Result};

/// A preset's name and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
}

/// Every preset there is.
pub const PRESETS: [Preset; 3] = [
    Preset {
        name: "quick",
        description: "cnn4 of width 16, minutes on two cores; shows what an audit is",
    },
    Preset {
        name: "standard",
        description: "cnn4 of width 64, trained to rest; hours on two cores",
    },
    Preset {
        name: "paper",
        description: "the published protocol for the given model, cnn4 of width 64 by default; days on two cores",
    },
];

/// Models that the published protocol trains alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Cnn,
    ResNet,
    Vgg,
    Ir,
    Vit,
}

impl Family {
    /// By the beginning of the model's name; what the protocol does not know is trained as the plain CNN is.
    fn of(model: &ModelSpec) -> Self {
        let name = model.to_string();
        let families = [
            ("resnet", Family::ResNet),
            ("vgg", Family::Vgg),
            ("ir", Family::Ir),
            ("vit", Family::Vit),
        ];
        families
            .into_iter()
            .find(|(beginning, _)| name.starts_with(beginning))
            .map_or(Family::Cnn, |(_, family)| family)
    }

    fn target(self) -> TrainingPlan {
        let halved = |patience| Schedule::Plateau { factor: 0.5, patience };
        let (learning_rate, optimizer, schedule) = match self {
            Family::Cnn => (0.01, adam(0.5, 5e-4), halved(30)),
            Family::ResNet => (0.01, adam(0.5, 1e-3), halved(30)),
            Family::Vgg => (0.01, adam(0.5, 5e-4), halved(10)),
            Family::Ir => (0.01, adam(0.9, 1e-4), halved(15)),
            // The protocol says nothing of it: a usual recipe for small transformers, which 0.01 would not train.
            Family::Vit => (
                5e-4,
                Rule::AdamW { betas: [0.9, 0.999], amsgrad: false, weight_decay: 0.05 },
                Schedule::Cosine { epochs: EPOCHS.0, floor: 0.0 },
            ),
        };
        plan(EPOCHS.0, 128, learning_rate, optimizer, schedule)
    }

    fn attack(self) -> TrainingPlan {
        let patience = match self {
            Family::Cnn | Family::ResNet => 10,
            Family::Vgg | Family::Ir | Family::Vit => 8,
        };
        let optimizer = match self {
            // The decay is the usual one of this rule; the protocol names none.
            Family::Ir => Rule::AdamW { betas: [0.5, 0.999], amsgrad: true, weight_decay: 0.01 },
            _ => adam(0.5, 0.0),
        };
        plan(EPOCHS.1, 128, 0.01, optimizer, Schedule::Plateau { factor: 0.5, patience })
    }
}

/// Epochs of the published protocol: of the target, of the attacks.
const EPOCHS: (usize, usize) = (300, 100);

/// Adam with a second beta of 0.999 and amsgrad; the weight decay is an L2 penalty.
fn adam(first_beta: f64, weight_decay: f64) -> Rule {
    Rule::Adam { betas: [first_beta, 0.999], amsgrad: true, weight_decay }
}

fn plan(
    epochs: usize,
    batch: usize,
    learning_rate: f64,
    optimizer: Rule,
    schedule: Schedule,
) -> TrainingPlan {
    let keep = Keep::LowestLoss;
    TrainingPlan { epochs, batch, learning_rate, stop_after: None, keep, optimizer, schedule }
}

/// A learning rate that falls over all epochs.
fn falling((epochs, batch, learning_rate): (usize, usize, f64), weight_decay: f64) -> TrainingPlan {
    let schedule = Schedule::Cosine { epochs, floor: 0.0 };
    plan(epochs, batch, learning_rate, adam(0.5, weight_decay), schedule)
}

impl AuditConfig {
    /// The configuration of a preset for a model, or for the preset's own if none is given.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`] lists what there is.
    pub fn preset(name: &str, model: Option<&ModelSpec>) -> Result<Self> {
        let model_or = |own: &str| match model {
            Some(model) => Ok(*model),
            None => own.parse::<ModelSpec>().map_err(Error::config),
        };
        let (model, augmentation, target, attack, flip) = match name {
            "quick" => (
                model_or("cnn4:width=16")?,
                Augmentation::Flip,
                falling((12, 64, 0.004), 5e-4),
                falling((30, 32, 0.01), 0.0),
                true,
            ),
            "standard" => (
                model_or("cnn4:width=64")?,
                Augmentation::Flip,
                falling((60, 128, 0.01), 5e-4),
                falling((60, 128, 0.01), 0.0),
                true,
            ),
            "paper" => {
                let model = model_or("cnn4:width=64")?;
                let family = Family::of(&model);
                (model, Augmentation::FlipAndJitter, family.target(), family.attack(), false)
            }
            _ => return Err(Error::UnknownPreset { name: name.to_owned() }),
        };
        Ok(AuditConfig {
            model,
            data: "fashion-mnist".to_owned(),
            auxiliary: None,
            weights: None,
            lpips_weights: None,
            seed: 1,
            resolution: 64,
            resamples: 2000,
            channel: Declared::None,
            prior_tau: None,
            splits: Vec::new(),
            target: TargetPlan {
                labels: Labels::OneHot,
                augmentation,
                track_radius: None,
                training: target,
            },
            attack: AttackPlan { training: attack, flip, decoder: DecoderChoice::Auto },
            limits: Limits::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_read_back() -> Result<()> {
        for preset in PRESETS {
            let config = AuditConfig::preset(preset.name, None)?;
            config.validate()?;
            assert_eq!(AuditConfig::from_toml(&config.to_toml()?)?, config);
            assert_eq!(AuditConfig::preset(preset.name, Some(&config.model))?, config);
        }
        assert!(matches!(AuditConfig::preset("qiuck", None), Err(Error::UnknownPreset { .. })));
        let narrow = "cnn4:width=8".parse::<ModelSpec>().map_err(Error::config)?;
        assert_eq!(AuditConfig::preset("paper", Some(&narrow))?.model, narrow);
        Ok(())
    }

    /// The published figures, family by family: first beta, decay and patience of the target, patience of the attack.
    #[test]
    fn the_published_figures() {
        for (family, beta, decay, patience, attack_patience) in [
            (Family::Cnn, 0.5, 5e-4, 30, 10),
            (Family::ResNet, 0.5, 1e-3, 30, 10),
            (Family::Vgg, 0.5, 5e-4, 10, 8),
            (Family::Ir, 0.9, 1e-4, 15, 8),
        ] {
            let (target, attack) = (family.target(), family.attack());
            let plateau = |patience| Schedule::Plateau { factor: 0.5, patience };
            assert_eq!((target.epochs, target.batch, target.learning_rate), (300, 128, 0.01));
            assert_eq!(
                target.optimizer,
                Rule::Adam { betas: [beta, 0.999], amsgrad: true, weight_decay: decay }
            );
            assert_eq!(target.schedule, plateau(patience), "{family:?}");
            assert_eq!((attack.epochs, attack.batch, attack.learning_rate), (100, 128, 0.01));
            assert_eq!(attack.schedule, plateau(attack_patience), "{family:?}");
            let adam_w = matches!(attack.optimizer, Rule::AdamW { betas: [0.5, 0.999], .. });
            assert_eq!(adam_w, family == Family::Ir);
        }
    }
}
