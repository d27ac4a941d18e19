//! Answers a directory of cases with known truth from their tensors alone.
//!
//! `cargo run --release -p gpz-estimators --features lapack --example truth_cases -- DIR OUT.json`
//!
//! `DIR` holds `truth.json` (`{cases: [{id, group, doc, file, truth: [{quantity, kind, how, accept}], scalars…}]}`) and the tensors as
//! safetensors. Of an entry of `truth` the quantity's name, `how` and the accepted words are read, never a value; an `id` names the
//! answers and nothing else. `OUT.json` is `{id: {quantity: number or [numbers], behaviour: word}}`; what no estimator here
//! answers is left out. One line of counts goes to stderr.
#![allow(clippy::print_stderr)] // progress of a command

mod answers;
mod case;
mod channels;
mod classes;
mod dependence;
mod gaussian;
mod kernels;
mod mixtures;
mod neighbours;
mod symbols;

use std::error::Error;
use std::path::Path;

use serde_json::{Map, Value};

use answers::Answers;
use case::Case;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What answers which quantities. Each takes what applies to it from the case's tensors; an answer given is not replaced, so the
/// estimator that knows most about a case stands first.
const TOPICS: [fn(&Case, &mut Answers); 8] = [
    classes::answer,
    symbols::answer,
    mixtures::answer,
    dependence::answer,
    kernels::answer,
    channels::answer,
    gaussian::answer,
    neighbours::answer,
];

fn main() -> Outcome<()> {
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
        let case = match Case::load(folder, entry) {
            Ok(case) => case,
            Err(reason) => {
                eprintln!("{id}: {reason}");
                continue;
            }
        };
        let mut answers = Answers::new(&case);
        for topic in TOPICS {
            topic(&case, &mut answers);
        }
        asked += case.asked.len();
        answered += answers.count();
        results.insert(id.to_owned(), answers.finish());
    }
    std::fs::write(out, serde_json::to_string_pretty(&results)? + "\n")?;
    eprintln!("{answered} of {asked} quantities answered in {} cases", results.len());
    Ok(())
}
