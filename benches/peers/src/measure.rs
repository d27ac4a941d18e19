//! Interleaved timing: one repetition of each library in turn, the machine's limit between any two of them.

use anyhow::Result;

use crate::clock::{Took, time};
use crate::fma::run_chains;

/// A library's name and the call that is timed.
pub struct Contender<'a> {
    /// The library.
    pub name: &'static str,
    call: Box<dyn Fn() -> Result<()> + 'a>,
}

impl<'a> Contender<'a> {
    /// Names a call.
    pub fn new(name: &'static str, call: impl Fn() -> Result<()> + 'a) -> Self {
        Contender { name, call: Box::new(call) }
    }
}

/// What one library reached.
pub struct Rates {
    /// The library.
    pub name: &'static str,
    /// Quartiles of the rate by the clock on the wall, in GFLOP/s.
    pub gflops: [f64; 3],
    /// Median fraction of the limit just before and after, both by the clock on the wall.
    pub wall: f64,
    /// The same by the time the threads were running, all together: other processes lengthen it little, and a thread that sleeps
    /// while another works does not lengthen it at all.
    pub processor: f64,
}

/// Times every contender `repetitions` times, in turn, starting with another one each time, and returns their rates at `flops` a
/// call, in the order given, after the median limit by the clock on the wall in GFLOP/s.
pub fn interleaved(
    contenders: &[Contender<'_>],
    flops: f64,
    repetitions: usize,
) -> Result<(f64, Vec<Rates>)> {
    let mut limits = Vec::new();
    let mut samples = vec![[Vec::new(), Vec::new(), Vec::new()]; contenders.len()];
    for repetition in 0..repetitions {
        let mut before = limit();
        for turn in 0..contenders.len() {
            let at = (turn + repetition) % contenders.len();
            let mut outcome = Ok(());
            let call = rates(flops, time(|| outcome = (contenders[at].call)()));
            outcome?;
            let after = limit();
            limits.push(after[0] * 1e-9);
            let [wall, processor] = [0, 1].map(|by| call[by] / (0.5 * (before[by] + after[by])));
            for (samples, sample) in samples[at].iter_mut().zip([call[0] * 1e-9, wall, processor]) {
                samples.push(sample);
            }
            before = after;
        }
    }
    let of = |(contender, [gflops, wall, processor]): (&Contender<'_>, &mut [Vec<f64>; 3])| Rates {
        name: contender.name,
        gflops: quartiles(gflops),
        wall: quartiles(wall)[1],
        processor: quartiles(processor)[1],
    };
    let rates = contenders.iter().zip(&mut samples).map(of).collect();
    Ok((quartiles(&mut limits)[1], rates))
}

/// The multiply-add limit now in FLOP/s: of all threads by the clock on the wall, of one by the time the threads ran.
fn limit() -> [f64; 2] {
    let mut flops = 0.0;
    let took = time(|| flops = run_chains());
    rates(flops, took)
}

/// FLOP/s by the clock on the wall and by the time the threads ran.
fn rates(flops: f64, took: Took) -> [f64; 2] {
    [flops / took.wall, flops / took.processor]
}

/// First quartile, median and third quartile, each the nearest sample; `values` must not be empty.
fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[((values.len() - 1) * quarter + 2) / 4])
}
