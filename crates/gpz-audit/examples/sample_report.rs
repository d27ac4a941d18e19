//! Writes reports of two made-up runs, to look at while working on the report:
//! `cargo run -p gpz-audit --example sample_report -- DIRECTORY`

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use common::Plan;
use gpz_audit::report;
use gpz_audit::run_dir::RunDir;

fn main() -> gpz_audit::Result<()> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (name, plan) in [("sample-quick", Plan::quick()), ("sample-deep", Plan::deep())] {
        let dir = RunDir::resume(&parent.join(name))?;
        common::write(&common::run(&plan), &dir)?;
        report::build(&dir)?;
    }
    Ok(())
}
