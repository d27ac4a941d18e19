//! Progress on stderr: bars with the time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gpz_audit::sweep::READING;
use gpz_inversion::Observer;
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::say;

/// Without a terminal, a phase says where it stands this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

static STOP: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// The first Ctrl-C asks for a stop after the present step, the second ends the process.
pub(crate) fn stop_on_interrupt() {
    HANDLER.get_or_init(|| {
        // Without a handler Ctrl-C ends the process at once, and the run can still be resumed from its last epoch.
        let _ = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
    });
}

/// Shows the phases of a run.
pub(crate) struct Progress {
    terminal: bool,
    /// Printed when the first phase after reading begins: whatever fails before has the screen for itself.
    headline: Option<String>,
    /// Printed below it.
    notes: Vec<String>,
    phase: String,
    steps: u64,
    done: u64,
    detail: String,
    began: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Progress {
            terminal: std::io::stderr().is_terminal(),
            headline: None,
            notes: Vec::new(),
            phase: String::new(),
            steps: 0,
            done: 0,
            detail: String::new(),
            began: now,
            last_line: now,
            bar: None,
        }
    }

    /// With a line above the phases.
    pub(crate) fn headed(headline: String) -> Self {
        let mut progress = Self::new();
        progress.headline = Some(headline);
        progress
    }

    fn line(&self, text: &str) {
        say(&format!("  {:<11} {text}", self.phase));
    }

    fn say_headline(&mut self) {
        if let Some(headline) = self.headline.take() {
            say(&headline);
            self.notes.drain(..).for_each(|note| say(&note));
        }
    }

    fn seconds_left(&self) -> Option<f64> {
        let passed = self.began.elapsed().as_secs_f64();
        (self.done > 0)
            .then(|| passed / self.done as f64 * self.steps.saturating_sub(self.done) as f64)
    }
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

impl Observer for Progress {
    fn begin(&mut self, phase: &str, steps: u64) {
        // What is read may turn out to be of no use, and then the one line that says so stands alone.
        if phase != READING {
            self.say_headline();
        }
        phase.clone_into(&mut self.phase);
        (self.steps, self.done) = (steps, 0);
        self.detail.clear();
        (self.began, self.last_line) = (Instant::now(), Instant::now());
        if self.terminal {
            let style = ProgressStyle::with_template("  {prefix:<11} {bar:16} {msg}");
            let style =
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▌░");
            let bar = ProgressBar::new(steps).with_style(style).with_prefix(phase.to_owned());
            bar.tick();
            self.bar = Some(bar);
        }
    }

    fn advance(&mut self, steps: u64, detail: &str) {
        self.done += steps;
        if !detail.is_empty() {
            detail.clone_into(&mut self.detail);
        }
        let left = self.seconds_left().filter(|_| self.began.elapsed().as_secs_f64() > 1.0);
        let left = left.map_or(String::new(), |seconds| format!(" · {} left", clock(seconds)));
        let text = format!("{}{left}", self.detail);
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            bar.set_position(self.done.min(self.steps));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.line(&format!("{}/{} steps   {text}", self.done, self.steps));
        }
    }

    fn end(&mut self, summary: &str) {
        let passed = clock(self.began.elapsed().as_secs_f64());
        if summary.is_empty() {
            // Nothing to say: the result speaks for itself.
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
        } else if let Some(bar) = self.bar.take() {
            bar.set_position(self.steps);
            bar.finish_with_message(format!("{summary}   {passed}"));
        } else {
            self.line(&format!("{summary}   {passed}"));
        }
    }

    fn note(&mut self, text: &str) {
        let note = format!("gpz: {text}");
        if self.headline.is_some() { self.notes.push(note) } else { say(&note) }
    }

    fn stop_requested(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}

/// A bar that was not ended stays where it stood.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}
