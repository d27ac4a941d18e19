//! Decoders of the cases: family, channels and doublings as their keys and shapes tell.

use std::collections::BTreeMap;

use gpz_inversion::{DecoderPlan, DecoderSpec, Growth, Stage};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Prefixes of the keys of each family, in the order in which they are looked for.
const PREFIXES: [(&str, &str); 4] = [
    ("deconv_block", "augmented"),
    ("deconv_layers.", "inverse-ir"),
    ("deconv.", "per-tap"),
    ("decoder.", "cnn"),
];

/// The decoder of a case.
///
/// - `name`: `decoder_` and what it decodes; `keys`: every entry's shape
/// - `feature`: of one image; `picture`: `[c, h, w]`
pub(crate) fn plan(
    name: &str,
    keys: &BTreeMap<String, Vec<usize>>,
    feature: &[usize],
    picture: [usize; 3],
) -> Fallible<DecoderPlan> {
    let (prefix, family) = PREFIXES
        .into_iter()
        .find(|(prefix, _)| keys.keys().any(|key| key.starts_with(prefix)))
        .ok_or_else(|| format!("{name}: the keys are no decoder's"))?;
    let family = if name.starts_with("decoder_vit") { "vit" } else { family };
    // By position: the first convolution of a stage, or what stands for it beside a unit.
    let mut stages: BTreeMap<usize, Stage> = BTreeMap::new();
    for (key, shape) in keys {
        let Some((position, rest)) = key.strip_prefix(prefix).and_then(|key| key.split_once('.'))
        else {
            continue;
        };
        let Ok(position) = position.parse::<usize>() else { continue };
        let decides = match family {
            "inverse-ir" => matches!(rest, "shortcut_layer.weight" | "shortcut_layer.0.weight"),
            "cnn" | "vit" => rest == "weight" && shape.len() == 4,
            _ => rest == "0.weight",
        };
        if let (true, &[_, outputs, kernel, _]) = (decides, &shape[..]) {
            let growth = if kernel == 4 { Growth::Double } else { Growth::Same };
            stages.insert(position, Stage { outputs, growth });
        }
    }
    let mut stages: Vec<Stage> = stages.into_values().collect();
    let doublings = stages.iter().filter(|stage| stage.growth == Growth::Double).count() as u32;
    let rows = match *feature {
        [_, rows, _] if family != "vit" => rows,
        _ => 1,
    };
    // Stages that double would not come to the picture: the first lays a vector out over 4×4.
    if rows == 1
        && 1usize.checked_shl(doublings).is_some_and(|size| 2 * size == picture[1])
        && let Some(first) = stages.first_mut()
    {
        first.growth = Growth::Spread;
    }
    let spec: DecoderSpec = family.parse()?;
    Ok(DecoderPlan::from_stages(spec, feature, picture, stages)?)
}
