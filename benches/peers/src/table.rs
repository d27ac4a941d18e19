//! The printed result: circumstances, then one Markdown table per number of threads.

use crate::measure::Rates;

/// The libraries of the table's columns, ours first.
const COLUMNS: [&str; 4] = ["gpz", "candle", "burn", "gemm"];

/// Crates whose versions are printed.
const VERSIONS: [&str; 5] = ["candle-core", "burn-tensor", "burn-flex", "burn-autodiff", "gemm"];

/// The versions that were built are those of the lock file.
const LOCK: &str = include_str!("../Cargo.lock");

/// One line of the table.
struct Row {
    operation: String,
    pass: &'static str,
    limit: f64,
    rates: Vec<Rates>,
}

/// Rates of all libraries for one number of threads.
pub struct Table {
    threads: usize,
    rows: Vec<Row>,
}

impl Table {
    /// Without rows yet.
    pub fn new(threads: usize) -> Self {
        Table { threads, rows: Vec::new() }
    }

    /// Adds what was reached in one operation; `limit` in GFLOP/s. Libraries that were not measured keep an empty cell.
    pub fn add(&mut self, operation: &str, pass: &'static str, limit: f64, rates: Vec<Rates>) {
        self.rows.push(Row { operation: operation.to_owned(), pass, limit, rates });
    }

    /// Prints the table and where the first library is not ahead by either clock.
    pub fn print(&self) {
        println!("\n## {} thread{}\n", self.threads, if self.threads == 1 { "" } else { "s" });
        println!("| operation | pass | limit | {} | gpz over best peer |", COLUMNS.join(" | "));
        println!("|---|---|--:|{}--:|", "--:|".repeat(COLUMNS.len()));
        let mut behind = Vec::new();
        for row in &self.rows {
            let cells = COLUMNS.map(|column| row.rates.iter().find(|rates| rates.name == column));
            let cells = cells.map(|rates| rates.map_or_else(String::new, cell)).join(" | ");
            let Row { operation, pass, limit, .. } = row;
            let [wall, processor] =
                [row.lead(|rates| rates.wall), row.lead(|rates| rates.processor)];
            let lead = format!("{wall:.2}, {processor:.2}");
            println!("| {operation} | {pass} | {limit:.0} | {cells} | {lead} |");
            if wall.min(processor) <= 1.0 {
                behind.push(format!("{operation}, {pass} ({lead})"));
            }
        }
        let rows = self.rows.len();
        println!(
            "\ngpz is ahead of every peer by both clocks on {} of {rows} lines.",
            rows - behind.len()
        );
        if !behind.is_empty() {
            println!("Not ahead: {}.", behind.join("; "));
        }
    }
}

impl Row {
    /// Our fraction of the limit over the best other one, by one clock.
    fn lead(&self, fraction: impl Fn(&Rates) -> f64) -> f64 {
        let best = |ours: bool| {
            let side = self.rates.iter().filter(|rates| (rates.name == COLUMNS[0]) == ours);
            side.map(&fraction).fold(0.0, f64::max)
        };
        best(true) / best(false)
    }
}

/// Median rate and quartiles, fraction of the limit by both clocks.
fn cell(rates: &Rates) -> String {
    let [low, median, high] = rates.gflops;
    format!("{median:.1} ({low:.1}–{high:.1}) {:.2}, **{:.2}**", rates.wall, rates.processor)
}

/// Prints what was built and on which machine it runs.
pub fn print_circumstances(repetitions: usize) {
    let versions: Vec<String> =
        VERSIONS.iter().filter_map(|name| Some(format!("{name} {}", version(name)?))).collect();
    let gemm = if cfg!(feature = "x86-v4") { "with" } else { "without" };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "- Peers: {}; `gemm` {gemm} its feature `x86-v4` (AVX-512), for all who use it",
        versions.join(", ")
    );
    println!(
        "- Machine: {}, {cores} cores",
        processor().unwrap_or_else(|| "unknown processor".into())
    );
    println!("- Load before the start: {}", load());
    println!(
        "- A cell: GFLOP/s by the clock on the wall, median (quartiles) of {repetitions} interleaved repetitions, five times as many for \
         the product; the fraction of the multiply-add limit measured before and after each call, by the clock on the wall and, in bold, \
         by the time the threads were running"
    );
}

/// The version of a crate in the lock file.
fn version(name: &str) -> Option<&'static str> {
    let (_, after) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(after.split_once('"')?.0)
}

/// The processor's name.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.to_owned())
}

/// Processes that ran on average over the last 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let numbers: Vec<&str> = text.split_whitespace().take(3).collect();
    if numbers.is_empty() { "unknown".into() } else { numbers.join(", ") }
}
