//! Limits of the machine, measured beside every benchmark.
