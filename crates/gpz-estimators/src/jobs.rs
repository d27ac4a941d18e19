//! Work for the threads of rayon's pool, cut by problem size so that no bit depends on their number.
//!
//! With one thread nothing is handed to the pool: a call of a fraction of a millisecond would wait for another thread to wake up,
//! several times over. With more it is handed over once, by [`enter`].

use rayon::prelude::*;

fn alone() -> bool {
    rayon::current_num_threads() == 1
}

/// Runs `f` inside the pool, so that what it shares out is near at hand.
pub(crate) fn enter<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    if alone() { f() } else { rayon::scope(|_| f()) }
}

/// Both results, side by side.
pub(crate) fn join<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    if alone() { (a(), b()) } else { rayon::join(a, b) }
}

/// Calls `f` with the number of each chunk of `size` elements, the last one perhaps shorter, and the chunk.
pub(crate) fn chunks<T: Send>(out: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if alone() {
        out.chunks_mut(size).enumerate().for_each(|(job, out)| f(job, out));
    } else {
        out.par_chunks_mut(size).enumerate().for_each(|(job, out)| f(job, out));
    }
}

/// `f` of each item, in their order.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if alone() { items.iter().map(f).collect() } else { items.par_iter().map(f).collect() }
}

/// The first of `0..n` for which `f` holds.
pub(crate) fn find_first(n: usize, f: impl Fn(usize) -> bool + Sync) -> Option<usize> {
    if alone() { (0..n).find(|&at| f(at)) } else { (0..n).into_par_iter().find_first(|&at| f(at)) }
}
