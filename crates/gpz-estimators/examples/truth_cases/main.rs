//! Answers a directory of cases with known truth from their tensors alone.
//!
//! `cargo run --release -p gpz-estimators --features lapack --example truth_cases -- DIR OUT.json`
//!
//! `OUT.json` is `{id: {quantity: number or [numbers], behaviour: word}}`; what no estimator answers is left out. Lines on stderr count
//! the answers and name what could not be read. How cases are read and answered: [`runner`].
#![allow(clippy::print_stderr)] // progress of a command

mod runner;

use std::path::Path;

use serde_json::{Map, Value};

fn main() -> runner::Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out] = arguments.as_slice() else {
        return Err("usage: truth_cases DIR OUT.json".into());
    };
    let folder = Path::new(folder);
    let truth: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json"))?)?;
    let entries = truth["cases"].as_array().ok_or("truth.json has no list `cases`")?;
    let mut results = Map::new();
    let (mut asked, mut answered) = (0, 0);
    for entry in entries {
        let id = entry["id"].as_str().ok_or("a case has no `id`")?;
        let case = runner::answer(folder, entry);
        for note in &case.notes {
            eprintln!("{id}: {note}");
        }
        asked += case.asked;
        answered += case.answered;
        results.insert(id.to_owned(), case.answers);
    }
    std::fs::write(out, serde_json::to_string_pretty(&results)? + "\n")?;
    eprintln!("{answered} of {asked} quantities answered in {} cases", results.len());
    Ok(())
}
