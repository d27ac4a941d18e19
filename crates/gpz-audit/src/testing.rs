//! A small sweep for the tests of this crate.

use gpz_estimators::Kind;

use crate::assemble::SplitInput;
use crate::declared::Declared;
use crate::intervals::Interval;
use crate::splits::{EntropyBounds, LeakageBound, RadiusRecord, VarianceRecord};

/// Per-image values with the given mean and a spread of ±20 %, the same for every caller.
pub(crate) fn spread(n: usize, mean: f64) -> Vec<f64> {
    (0..n).map(|i| mean * (1.0 + 0.4 * ((i * 37 % n) as f64 / (n - 1) as f64 - 0.5))).collect()
}

/// What a channel of one bit bounds, with a floor or without.
pub(crate) fn bound(floor: Option<f64>, kind: Kind) -> LeakageBound {
    LeakageBound {
        channel: Declared::Bits(1),
        information_nats: 90.0,
        information_kind: Kind::Upper,
        prior_tau: floor.map(|_| 0.1),
        mse_floor: floor,
        mse_floor_kind: floor.map(|_| kind),
        reason: floor.is_none().then(|| "why".to_owned()),
    }
}

/// Four splits: errors 2, 2, 4.5 and 12 thousandths (the first attack lags at 6), falling SSIM, rising cost.
pub(crate) fn four_splits() -> Vec<SplitInput> {
    let errors = [0.006, 0.002, 0.0045, 0.012];
    let ssim = [0.93, 0.96, 0.86, 0.66];
    let ratios = [0.80, 0.74, 0.72, 0.45];
    (0..4)
        .map(|k| {
            let width = 16384 >> k;
            let radius = 40.0 * ratios[k];
            SplitInput {
                index: k + 1,
                name: format!("block{}", k + 1),
                shape: vec![16 << k, 32 >> k, 32 >> k],
                wire_bytes: 4 * width,
                edge_params: 1000 << (2 * k),
                edge_params_fraction: [0.002, 0.01, 0.05, 0.2][k],
                edge_macs_fraction: [0.059, 0.421, 0.783, 0.991][k],
                radius_sq: RadiusRecord {
                    part: "target-train".into(),
                    value: radius,
                    ci: Interval { lo: 0.98 * radius, hi: 1.02 * radius },
                    per_dim: radius / width as f64,
                    unbiased: radius * 300.0 / 299.0,
                },
                variance: VarianceRecord {
                    part: "target-train".into(),
                    total: 40.0,
                    within: radius,
                    between: 40.0 - radius,
                },
                entropy_bounds_nats: EntropyBounds {
                    part: "target-train".into(),
                    isotropic: -100.0,
                    mixture: f64::NEG_INFINITY,
                },
                held_out: None,
                leakage_bound: None,
                accuracy_behind_channel: None,
                within_i: spread(300, radius),
                total_i: spread(300, 40.0),
                mse_i: spread(200, errors[k]),
                mse_closest_i: None,
                ssim_i: spread(200, ssim[k]),
                lpips_i: None,
            }
        })
        .collect()
}
