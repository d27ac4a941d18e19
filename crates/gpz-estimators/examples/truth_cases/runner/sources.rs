//! Listed inputs behind a channel: codes without noise by enumeration, features with declared noise by simulation.

use gpz_estimators::channel::{
    Channel, Given, NoisySource, Received, high_rate_approx_nats, rounded_codes,
};
use gpz_estimators::entropy::discrete::{Codes, miller_madow_entropy_nats, plugin_entropy_nats};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::entropy::mixture::{GaussianMixture, noise_information_bounds_nats};
use gpz_estimators::spectrum::Spectrum;
use gpz_estimators::{Error, Metric, Neighbours};
use ndarray::{Array2, Array3, Axis, s};

use super::answers::{Answer, Answers, Finding};
use super::case::Case;
use super::labels;

/// Products of inputs, widths and draws that a simulation may take.
const WORK: f64 = 4e9;
/// The seed of simulated noise.
const SEED: u64 = 20_240_229;
/// Distinct values of an input's elements, such as grey levels, up to which a sample of it can be a list.
const LEVELS: usize = 256;

const QUANTITIES: [&str; 12] = [
    "H_x",
    "H_z",
    "H_x_given_z",
    "plugin_H_z",
    "guess_probability",
    "mmse_per_pixel",
    "mmse_per_dim",
    "mmse_rank",
    "signal_rank",
    "mi",
    "mi_saturated",
    "kt_lower_bd",
];

/// Inputs, each once, with what the channel is given of each.
struct Source {
    /// `[inputs, D]`
    points: Array2<f64>,
    /// `[inputs, d]`; none where rows stand for their inputs.
    values: Option<Array2<f64>>,
    /// None where all are the same.
    probabilities: Option<Vec<f64>>,
    /// Whether rows of the same input differ.
    noisy: bool,
}

impl Source {
    fn of(case: &Case) -> Option<Self> {
        let points = case.first_of(&["codes", "bits", "z"])?;
        let labels = || {
            let labels = case.labels()?;
            Array2::from_shape_vec((labels.len(), 1), labels.iter().map(|&y| y as f64).collect())
                .ok()
        };
        let values = case.matrix("x").or_else(labels);
        let given = ["p", "p_x", "probs", "probabilities", "prior", "weights"];
        let given = given.iter().find_map(|name| case.vector(name));
        let Some(values) = values else {
            let probabilities = given.filter(|given| given.len() == points.nrows());
            return Some(Self { points, values: None, probabilities, noisy: false });
        };
        if values.nrows() != points.nrows() {
            return None;
        }
        let inputs = Codes::of_rows(values.view()).ok()?;
        let (n, listed) = (points.nrows(), inputs.unique());
        let mut first = vec![usize::MAX; listed];
        let mut noisy = false;
        let mut means = Array2::<f64>::zeros((listed, points.ncols()));
        for (row, &input) in inputs.symbols().iter().enumerate() {
            let at = &mut first[input];
            if *at == usize::MAX {
                *at = row;
            }
            noisy |= points.row(*at) != points.row(row);
            means.row_mut(input).scaled_add(1.0 / inputs.counts()[input] as f64, &points.row(row));
        }
        if listed == n {
            let probabilities = given.filter(|given| given.len() == n);
            return Some(Self { points, values: Some(values), probabilities, noisy });
        }
        let shares = || inputs.counts().iter().map(|&count| count as f64 / n as f64).collect();
        let even = inputs.counts().iter().all(|&count| count == inputs.counts()[0]);
        let probabilities =
            given.filter(|given| given.len() == listed).or_else(|| (!even).then(shares));
        // Behind noise: the points themselves if they are stored, else the means of their rows.
        let width = points.ncols();
        let stored = || {
            let fits = |name: &&str| {
                !["x", "z", "y"].contains(name) && case.dims(name) == Some((listed, width))
            };
            case.names().find(fits).and_then(|name| case.matrix(name))
        };
        let points = if noisy { stored().unwrap_or(means) } else { points.select(Axis(0), &first) };
        let values = Some(values.select(Axis(0), &first));
        Some(Self { points, values, probabilities, noisy })
    }
}

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    high_rate(case, answers);
    let about = case.group == "conditional_entropy";
    let asked = QUANTITIES.iter().any(|name| answers.wants(name)) || answers.wants("kt_upper_kl");
    // Densities of classes, pairs of samples and rows of a continuous input are no lists.
    let listed = about
        || case.holds_integers("x")
        || ["H_x", "H_z", "H_x_given_z", "plugin_H_z", "mmse_per_pixel", "mi_saturated"]
            .iter()
            .any(|name| answers.asks(|asked| asked == *name))
        || few_levels(case);
    let other = case.has("y") || matches!(case.group.as_str(), "mi" | "mixture" | "labels");
    let wanted = asked || (about && answers.wants_behaviour());
    if !wanted || !listed || (other && !about) {
        return;
    }
    let Some(source) = Source::of(case) else { return };
    let discrete = ["codes", "bits"].iter().any(|name| case.has(name)) || case.holds_integers("z");
    let sigma = case.noise_variance().map(f64::sqrt).filter(|&sigma| sigma > 0.0 && !discrete);
    match sigma {
        Some(sigma) => behind_noise(answers, &source, sigma),
        None if source.noisy => noisy_codes(case, answers),
        None => enumerated(case, answers, &source),
    }
}

fn few_levels(case: &Case) -> bool {
    let Some(x) = case.matrix("x").filter(|_| case.has("z") || case.has("codes")) else {
        return false;
    };
    let mut levels: Vec<f64> = x.iter().take(1 << 20).copied().collect();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    levels.len() <= LEVELS.min(x.len() / 8)
}

/// Codes of the rows: integers as they are, floats by a stored step, else each float a symbol.
fn codes(case: &Case, rows: &Array2<f64>) -> Option<Array2<i64>> {
    let integers = ["codes", "bits"].iter().any(|name| case.has(name)) || case.holds_integers("z");
    match step(case).filter(|_| !integers) {
        Some(step) => rounded_codes(rows.view(), step).ok(),
        // Adding zero turns −0 into 0.
        None => Some(rows.mapv(|value| (value + 0.0).to_bits().cast_signed())),
    }
}

/// Width of a quantiser's cells.
pub(crate) fn step(case: &Case) -> Option<f64> {
    let named = ["step", "delta", "bin_width", "scale"];
    named.iter().find_map(|name| case.scalar(name)).filter(|&step| step > 0.0 && step.is_finite())
}

/// `Z` follows from `X`.
fn enumerated(case: &Case, answers: &mut Answers<'_>, source: &Source) {
    let Some(codes) = codes(case, &source.points) else { return };
    let Ok(received) = Received::enumerated(codes.view(), source.probabilities.as_deref()) else {
        return answers.behave(Finding::Error);
    };
    let continuous = received.outputs() == codes.nrows()
        && step(case).is_none()
        && !["codes", "bits", "z"].iter().any(|name| case.holds_integers(name));
    if case.group == "conditional_entropy" {
        if continuous {
            // Each real number sent as it is: no bound without a channel.
            answers.behave_by(|| Channel::None.information_nats(source.points.view()));
        }
        answers.behave_by(|| received.mi_nats());
    }
    answers.put("H_x", || received.h_x_nats());
    answers.put("plugin_H_z", || received.h_z_nats());
    answers.put("H_z", || received.h_z_nats());
    answers.put("H_x_given_z", || received.h_x_given_z_nats());
    answers.put("mi", || received.mi_nats());
    if source.values.is_some() || answers.asks(|name| name == "H_x") {
        answers.put("guess_probability", || received.guess_probability());
    }
    let Some(values) = &source.values else { return };
    for name in ["mmse_per_pixel", "mmse_per_dim"] {
        answers.put(name, || received.mmse_per_dim(values.view()));
    }
    if let Ok(rank) = received.mmse_rank(values.view()) {
        answers.put_all("mmse_rank", || vec![rank as f64]);
    }
    if answers.wants("signal_rank")
        && let Some(rank) = signal_rank(&codes, values, source.probabilities.as_deref())
    {
        answers.put_all("signal_rank", || vec![rank as f64]);
    }
}

/// Rank of the covariance of `E[x|z]`.
fn signal_rank(
    codes: &Array2<i64>,
    values: &Array2<f64>,
    probabilities: Option<&[f64]>,
) -> Option<usize> {
    let rows: Vec<Vec<i64>> = codes.rows().into_iter().map(|row| row.to_vec()).collect();
    let outputs = Codes::of_symbols(&rows).ok()?;
    let weight = |row: usize| probabilities.map_or(1.0, |given| given[row]);
    let mut sums = vec![0.0; outputs.unique()];
    let mut means = Array2::<f64>::zeros((outputs.unique(), values.ncols()));
    for (row, &output) in outputs.symbols().iter().enumerate() {
        sums[output] += weight(row);
        means.row_mut(output).scaled_add(weight(row), &values.row(row));
    }
    let occur: Vec<usize> = (0..sums.len()).filter(|&output| sums[output] > 0.0).collect();
    for (mut mean, sum) in means.rows_mut().into_iter().zip(&sums) {
        mean /= *sum;
    }
    Spectrum::of(means.select(Axis(0), &occur).view()).map(|spectrum| spectrum.rank()).ok()
}

/// Rows of one input differ and no noise is declared: from the pairs that occurred.
fn noisy_codes(case: &Case, answers: &mut Answers<'_>) {
    let (Some(x), Some(z)) = (case.matrix("x"), case.first_of(&["codes", "bits", "z"])) else {
        return;
    };
    let Ok(inputs) = Codes::of_rows(x.view()) else { return };
    let Ok(outputs) = Codes::of_rows(z.view()) else { return };
    answers.put("H_x", || plugin_entropy_nats(&inputs));
    if outputs.unique() == outputs.rows() {
        // A density: the inputs are classes.
        let Some(mi) = labels::information(case, inputs.symbols(), inputs.unique()) else { return };
        answers.put_all("mi", || vec![mi]);
        answers.put_all("H_x_given_z", || vec![plugin_entropy_nats(&inputs).value - mi]);
        return;
    }
    let Ok(pairs) = inputs.paired_with(&outputs) else { return };
    let [h_z, h_pairs] = [&outputs, &pairs].map(|codes| miller_madow_entropy_nats(codes).value);
    let h_x = miller_madow_entropy_nats(&inputs).value;
    answers.put("plugin_H_z", || plugin_entropy_nats(&outputs));
    answers.put_all("H_z", || vec![h_z]);
    answers.put_all("H_x_given_z", || vec![h_pairs - h_z]);
    answers.put_all("mi", || vec![h_x + h_z - h_pairs]);
    // The most frequent pair of each output.
    let mut best = vec![0_u64; outputs.unique()];
    for (&pair, &output) in pairs.symbols().iter().zip(outputs.symbols()) {
        best[output] = best[output].max(pairs.counts()[pair]);
    }
    answers.put_all("guess_probability", || {
        vec![best.iter().sum::<u64>() as f64 / outputs.rows() as f64]
    });
}

/// `Z + N(0, σ²)`.
fn behind_noise(answers: &mut Answers<'_>, source: &Source, sigma: f64) {
    let (points, probabilities) = (source.points.view(), source.probabilities.as_deref());
    let (inputs, width) = points.dim();
    if answers.asks(|name| name == "mi_saturated" || name.starts_with("kt_"))
        || answers.wants_behaviour()
    {
        match bounds(source, sigma) {
            Ok(Some(bounds)) => {
                // Of two bounds the worse news.
                answers.behave_as(&bounds.upper);
                answers.put("kt_lower_bd", || bounds.lower.clone());
                answers.put("kt_upper_kl", || bounds.upper.clone());
                answers.put("mi_saturated", || bounds.lower);
            }
            Ok(None) => {}
            Err(_) => answers.behave(Finding::Error),
        }
    }
    let simulated =
        ["H_x", "H_x_given_z", "mi", "guess_probability", "mmse_per_pixel", "mmse_per_dim"];
    if !simulated.iter().any(|name| answers.wants(name)) {
        return;
    }
    let draws = (WORK / (inputs as f64).powi(2) / width.max(1) as f64) as usize;
    if draws < 2 {
        return;
    }
    let draws = draws.min(4096);
    let found = match &source.values {
        Some(values) => NoisySource::simulate_with_values(
            points,
            values.view(),
            probabilities,
            sigma,
            draws,
            SEED,
        ),
        None => NoisySource::simulate(points, probabilities, sigma, draws, SEED),
    };
    let Ok(found) = found else { return answers.behave(Finding::Error) };
    answers.put("H_x", || found.h_x_nats());
    answers.put("H_x_given_z", || found.h_x_given_z_nats());
    answers.put("mi", || found.mi_nats());
    answers.put("guess_probability", || found.guess_probability());
    for name in ["mmse_per_pixel", "mmse_per_dim"] {
        answers.put(name, || found.mmse_per_dim());
    }
}

/// Pairwise bounds of what gets through.
fn bounds(
    source: &Source,
    sigma: f64,
) -> Result<Option<gpz_estimators::entropy::mixture::Bounds>, Error> {
    let Some(weights) = &source.probabilities else {
        return noise_information_bounds_nats(source.points.view(), sigma).map(Some);
    };
    let (inputs, width) = source.points.dim();
    if (inputs as f64).powi(2) * (width as f64).powi(3) > WORK {
        return Ok(None);
    }
    let shape = (inputs, width, width);
    let covariances =
        Array3::from_shape_fn(shape, |(_, i, j)| if i == j { sigma * sigma } else { 0.0 });
    let mixture = GaussianMixture::new(weights, source.points.view(), covariances.view())?;
    Ok(Some(mixture.information_bounds_nats()))
}

/// `h + ln(1/step)` per dimension: `h` of the law that the doc names, else estimated from the columns.
fn high_rate(case: &Case, answers: &mut Answers<'_>) {
    if !answers.wants("high_rate_approx") {
        return;
    }
    let Some(step) = step(case) else { return };
    let continuous = ["x", "z"].into_iter().filter(|name| !case.holds_integers(name));
    let estimated = || {
        let rows = continuous.filter_map(|name| case.matrix(name)).next()?;
        let column = |j: usize| {
            let column = rows.slice(s![.., j..=j]);
            let options = Neighbours::nth(3).without_std_err();
            kozachenko_leonenko_nats(column, Metric::Euclidean, options).split().0
        };
        let found: Vec<f64> = (0..rows.ncols()).map(column).collect::<Option<_>>()?;
        Some(found.iter().sum::<f64>() / found.len() as f64)
    };
    if let Some(entropy) = entropy_in(&case.doc) {
        answers.put("high_rate_approx", || high_rate_approx_nats(Given::Known(entropy), 1, step));
    } else if let Some(entropy) = estimated().filter(|entropy| entropy.is_finite()) {
        answers
            .put("high_rate_approx", || high_rate_approx_nats(Given::Estimated(entropy), 1, step));
    } else if let Some(rows) = case.first_of(&["codes", "bits", "z", "x"]) {
        // Rows that are multiples of the step already: what is approximated is all that can be had.
        let column = |j: usize| Codes::of_rows(rows.slice(s![.., j..=j]));
        let found =
            (0..rows.ncols()).map(|j| column(j).map(|c| miller_madow_entropy_nats(&c).value));
        if let Ok(found) = found.collect::<Result<Vec<f64>, _>>() {
            answers.put_all("high_rate_approx", || {
                vec![found.iter().sum::<f64>() / found.len() as f64]
            });
        }
    }
}

/// Differential entropy of one dimension of the law that a doc names: `N(m,v)`, `U[a,b]`, `Exp(rate r)`, `Laplace(b)`.
fn entropy_in(doc: &str) -> Option<f64> {
    let numbers = |start: &str, end: char| -> Option<Vec<f64>> {
        let inside = doc.split_once(start)?.1.split_once(end)?.0;
        inside
            .split(',')
            .map(|number| number.trim().trim_start_matches("rate ").parse().ok())
            .collect()
    };
    let gaussian =
        |variance: f64| 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E * variance).ln();
    if let Some([_, variance]) = numbers("N(", ')').as_deref() {
        return Some(gaussian(*variance));
    }
    if doc.contains("standard normal") {
        return Some(gaussian(1.0));
    }
    if let Some([low, high]) = numbers("U[", ']').as_deref() {
        return Some((high - low).ln());
    }
    if let Some([rate]) = numbers("Exp(", ')').as_deref() {
        return Some(1.0 - rate.ln());
    }
    numbers("Laplace(", ')')
        .as_deref()
        .and_then(<[f64]>::last)
        .map(|scale| 1.0 + (2.0 * scale).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_in_words() {
        for (doc, entropy) in [
            ("N(0,1) rounded to steps", Some(1.418_938_533_204_672_7)),
            ("U[0, 2]^3", Some(2.0_f64.ln())),
            ("Exp(rate 4)", Some(1.0 - 4.0_f64.ln())),
            ("a mixture", None),
        ] {
            let close = |(a, b): (f64, f64)| (a - b).abs() < 1e-15;
            let found = entropy_in(doc);
            assert!(found == entropy || found.zip(entropy).is_some_and(close), "{doc}: {found:?}");
        }
    }
}
