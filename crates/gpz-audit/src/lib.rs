//! The audit: sweep over splits, zone location, choice, run directory and report
