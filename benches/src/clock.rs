//! Time that passes and time that is worked.

use std::time::Instant;

/// How long something took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds the threads of this process were running, all together: not lengthened by other processes that take their turns.
    pub processor: f64,
}

/// Runs `f` and measures it.
pub fn time(f: impl FnOnce()) -> Took {
    let (wall, processor) = (Instant::now(), processor_seconds());
    f();
    let wall = wall.elapsed().as_secs_f64();
    Took {
        wall,
        processor: processor_seconds().zip(processor).map_or(wall, |(end, start)| end - start),
    }
}

/// Processor time of this process, where the system tells.
#[cfg(unix)]
fn processor_seconds() -> Option<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the one structure it is given, which outlives it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    (status == 0).then_some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
fn processor_seconds() -> Option<f64> {
    None
}
