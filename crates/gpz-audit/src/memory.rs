//! Whether what is asked for fits into memory: said in a line before the system ends the process without one.

use std::fs::read_to_string;

use crate::error::{Error, Result};

/// Taken for the memory of a system that does not tell.
const ASSUMED: u128 = 64 << 30;

/// Refuses what needs more memory than there is.
///
/// # Errors
/// [`Error::Memory`] with the name of what does, and the mend.
pub(crate) fn check(what: &str, needed: u128, mend: &'static str) -> Result<()> {
    let available = available();
    if needed > available {
        return Err(Error::Memory { what: what.to_owned(), needed, available, mend });
    }
    Ok(())
}

/// Bytes that can still be had, by the system's word and by the limit of a container.
pub(crate) fn available() -> u128 {
    let free = read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let limit =
        read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse().ok());
    [free, limit].into_iter().flatten().min().unwrap_or(ASSUMED)
}

/// `MemAvailable:   12345 kB`
fn mem_available(meminfo: &str) -> Option<u128> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u128 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        assert!(check("a bit", 1 << 10, "").is_ok());
        let said =
            check("the model", 1 << 80, "take a smaller one").expect_err("too much").to_string();
        assert!(
            said.starts_with("the model needs ") && said.ends_with("take a smaller one"),
            "{said}"
        );
    }

    #[test]
    fn the_systems_word_is_read() {
        let text = "MemTotal:  100 kB\nMemAvailable:      23 kB\n";
        assert_eq!(mem_available(text), Some(23 << 10));
        assert_eq!(mem_available("MemTotal: 100 kB"), None);
    }
}
