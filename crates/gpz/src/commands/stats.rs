//! `gpz stats`: statistics of features in a file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpz_audit::declared::{Declared, Sweep};
use gpz_audit::feature_estimates::{Limits, Request, SweepPoint};
use gpz_audit::feature_statistics::{FeatureStatistics, MemoryPlan, Real, Value, describe};
use gpz_audit::words::{self, parse_bytes};
use gpz_data::ArrayFile;

use crate::commands::table::table;
use crate::commands::{print, print_json};
use crate::progress::{Progress, stop_on_interrupt};

/// Name of the labels' array unless another is given.
const LABELS: &str = "y";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gpz stats --features z.safetensors
  gpz stats --features all.safetensors --key z.block3 --json
  gpz stats --features features.npz --key features --labels-key labels
  gpz stats --features z.safetensors --channel noise:0.1
  gpz stats --features z.safetensors --channel bits:8 --json
  gpz stats --features z.safetensors --sweep noise:0.01,0.1,1

Rows are [n, ...], flattened in their stored order; half, single and double precision and integers are read. Without labels only what needs \
none is printed. Lists over classes are in the order of the labels that occur; classes without rows are absent. Entropies are in nats, \
variances and radii in squared units of the feature, with the divisor N unless a name says unbiased. Kinds: exact of these rows; upper and \
lower bound the population's value; heuristic may err either way. Bounds of h(Z) bound neither what leaks nor rank layers. Information is what Z tells about the input at most, and finite only \
behind a channel. The range of bits:B and the scale of int8 are those of the file's rows, and printed: the bound is for other rows that \
are sent over the same range.")]
pub(crate) struct StatsArgs {
    /// Features: a .safetensors, .npz or .npy file
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Name of the features' array; a .npy file has only one
    #[arg(long, default_value = "z")]
    key: String,
    /// Name of the array of class indices; y, where there is one, unless given
    #[arg(long, value_name = "KEY")]
    labels_key: Option<String>,
    /// What stands between the feature and the wire: none, noise:SIGMA, bits:B, bf16, f16 or int8
    #[arg(long, default_value_t)]
    channel: Declared,
    /// Rows for estimates that want rows side by side: at most so many, evenly spaced
    #[arg(long, value_name = "N", default_value_t = Limits::default().rows)]
    rows: usize,
    /// Memory, such as 4GiB or a number of MiB, planned and printed first: the moments of the classes must fit, and estimates that do not are left out and named.
    /// Unless given, estimates take 2 GiB at most
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Channels to compare: noise:SIGMA,SIGMA,… or bits:B,B,…
    #[arg(long, value_name = "CHANNELS")]
    sweep: Option<Sweep>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints the statistics.
pub(crate) fn run(args: &StatsArgs) -> Result<()> {
    let file = ArrayFile::open(&args.features)?;
    let features = file.find(&args.key)?;
    let labels = match &args.labels_key {
        Some(_) if file.is_nameless() => {
            anyhow::bail!(
                "{}: a .npy file holds one array and no labels; leave --labels-key out or store both in one .npz",
                file.file()
            )
        }
        Some(key) => Some(file.find(key)?),
        None if file.is_nameless() => None,
        None if file.holds(LABELS) => Some(file.find(LABELS)?),
        None => None,
    };
    stop_on_interrupt();
    let mut limits = Limits { rows: args.rows, ..Limits::default() };
    if let Some(bytes) = args.memory {
        limits = Limits { bytes, strict: true, ..limits };
    }
    let sweep = args.sweep.clone().unwrap_or_default();
    let request = Request { channel: args.channel, sweep, limits };
    let mut announce = |plan: &MemoryPlan| {
        if args.memory.is_some() {
            crate::failure::say(&format!("memory:\n{plan}"));
        }
    };
    let progress = &mut Progress::new();
    let statistics = describe(&file, features, labels, &request, &mut announce, progress)?;
    if args.json { print_json(&statistics) } else { print(&for_people(&statistics)) }
}

fn for_people(statistics: &FeatureStatistics) -> String {
    let rows: Vec<Vec<String>> = statistics
        .estimates
        .iter()
        .map(|estimate| {
            vec![
                estimate.quantity.to_owned(),
                value(&estimate.value),
                words::kind(estimate.kind).to_owned(),
                estimate.std_err.as_ref().map_or(String::new(), value),
                estimate.flags.join(", "),
            ]
        })
        .collect();
    let classes = match statistics.classes {
        None => "no labels".to_owned(),
        Some(1) => "1 class".to_owned(),
        Some(k) => format!("{k} classes"),
    };
    let bound = match statistics.channel {
        Declared::None => ": no bound on leakage",
        _ => "",
    };
    let missing: String = statistics
        .not_estimated
        .iter()
        .map(|missing| format!("\n{} is not given: {}", missing.quantity, missing.reason))
        .collect();
    let sweep = sweep_table(&statistics.sweep);
    format!(
        "{} row{} of width {}, {classes}, channel {}{bound}\n{}{missing}{sweep}",
        statistics.n,
        if statistics.n == 1 { "" } else { "s" },
        statistics.d,
        statistics.channel,
        table(&["quantity", "value", "kind", "std. error", "flags"], &rows, &[])
    )
}

/// One line for each channel that is compared.
fn sweep_table(sweep: &[SweepPoint]) -> String {
    if sweep.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = sweep
        .iter()
        .map(|point| {
            let find = |name| point.estimates.iter().find(|estimate| estimate.quantity == name);
            let cell = |name| find(name).map_or("–".to_owned(), |found| value(&found.value));
            let information = find("information_upper_nats");
            vec![
                point.channel.to_string(),
                cell("information_upper_nats"),
                information.map_or("", |found| words::kind(found.kind)).to_owned(),
                cell("plugin_entropy_sum"),
            ]
        })
        .collect();
    let columns = ["channel", "information_upper_nats", "kind", "plugin_entropy_sum"];
    let missing: String = sweep
        .iter()
        .flat_map(|point| point.not_estimated.iter().map(move |missing| (point, missing)))
        .map(|(point, missing)| {
            format!("\n{} is not given for {}: {}", missing.quantity, point.channel, missing.reason)
        })
        .collect();
    format!("\n\n{}{missing}", table(&columns, &rows, &[]).trim_end())
}

/// Members of a list that a table shows; JSON has them all.
const SHOWN: usize = 4;

fn value(value: &Value) -> String {
    let number = |v: f64| if v.is_nan() { "nan".to_owned() } else { format!("{:.6}", Short(v)) };
    match value {
        Value::Number(Real(v)) => number(*v),
        Value::List(list) => {
            listed(list.iter().map(|v| v.map_or("–".to_owned(), |Real(v)| number(v))))
        }
        Value::Indices(list) => listed(list.iter().map(ToString::to_string)),
    }
}

fn listed(mut items: impl ExactSizeIterator<Item = String>) -> String {
    let n = items.len();
    if n == 0 {
        return "none".to_owned();
    }
    let mut shown: Vec<String> = items.by_ref().take(SHOWN).collect();
    if n > SHOWN {
        shown.push(format!("… ({n})"));
    }
    shown.join(", ")
}

/// A number in as many digits as the precision asks for, with an exponent where it is very large or very small.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (v, digits) = (self.0, f.precision().unwrap_or(6));
        if v == 0.0 || !v.is_finite() {
            return write!(f, "{v}");
        }
        let magnitude = v.abs().log10().floor() as i32;
        if (-4..digits as i32 + 3).contains(&magnitude) {
            let places = (digits as i32 - 1 - magnitude).max(0) as usize;
            return write!(f, "{v:.places$}");
        }
        write!(f, "{v:.places$e}", places = digits.saturating_sub(1))
    }
}
