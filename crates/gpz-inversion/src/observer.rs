//! What a long computation tells its caller, and asks of it.

/// Watches a computation and may end it. All methods have defaults that do nothing.
pub trait Observer {
    /// A phase begins: `steps` of them will be reported.
    fn begin(&mut self, phase: &str, steps: u64) {
        let _ = (phase, steps);
    }

    /// Steps are done; `detail` says where the phase stands, such as `3/8 epochs`.
    fn advance(&mut self, steps: u64, detail: &str) {
        let _ = (steps, detail);
    }

    /// The phase is over; `summary` says what came of it, nothing if empty.
    fn end(&mut self, summary: &str) {
        let _ = summary;
    }

    /// Something a person should know of and that is no error, in one line.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// Whether to stop after the present step. What was learnt so far is saved.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Watches nothing.
pub struct Silent;

impl Observer for Silent {}
