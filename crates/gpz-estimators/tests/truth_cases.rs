//! The example `truth_cases` answers every entry of the stored cases, within its tolerance.
#![cfg(feature = "lapack-base")]

#[path = "../examples/truth_cases/runner/mod.rs"]
mod runner;

use std::path::{Path, PathBuf};

use serde_json::Value;

fn numbers(value: &Value) -> Option<Vec<f64>> {
    let number = |value: &Value| match value.as_str() {
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        Some("nan") => Some(f64::NAN),
        _ => value.as_f64(),
    };
    match value.as_array() {
        Some(values) => values.iter().map(number).collect(),
        None => number(value).map(|value| vec![value]),
    }
}

/// Whether an answer meets an entry. Bounds have a slack of 1e-9.
fn meets(entry: &Value, answers: &Value) -> bool {
    if entry["kind"] == "behaviour" {
        let accepted = entry["accept"].as_array().map(Vec::as_slice).unwrap_or_default();
        return accepted.contains(&answers["behaviour"]);
    }
    let got = entry["quantity"].as_str().and_then(|quantity| numbers(&answers[quantity]));
    let Some((got, want)) = got.zip(numbers(&entry["value"])) else { return false };
    let allowed = |name: &str| entry[name].as_f64().unwrap_or(0.0);
    match (entry["kind"].as_str(), entry["op"].as_str()) {
        (Some("bound"), Some("<=")) => got[0] <= want[0] + 1e-9,
        (Some("bound"), Some(">=")) => got[0] >= want[0] - 1e-9,
        _ => {
            let close = |(got, want): (&f64, &f64)| {
                got == want || (got - want).abs() <= allowed("atol") + allowed("rtol") * want.abs()
            };
            got.len() == want.len() && got.iter().zip(&want).all(close)
        }
    }
}

#[test]
fn every_entry_of_the_stored_cases_is_answered() -> runner::Outcome<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let truth: Value = serde_json::from_slice(&std::fs::read(folder.join("truth.json"))?)?;
    let cases = truth["cases"].as_array().ok_or("no cases")?;
    let mut missed = Vec::new();
    for case in cases {
        let answered = runner::answer(&folder, case);
        for note in &answered.notes {
            missed.push(format!("{}: {note}", case["id"]));
        }
        assert_eq!(answered.answered, answered.asked, "{}", case["id"]);
        for entry in case["truth"].as_array().ok_or("no truth")? {
            if !meets(entry, &answered.answers) {
                let got = match entry["quantity"].as_str() {
                    Some(quantity) => &answered.answers[quantity],
                    None => &answered.answers["behaviour"],
                };
                missed.push(format!("{}: {got} for {entry}", case["id"]));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    Ok(())
}

/// Answers to one made case: its tensors as `(name, shape, values)` in `f64`.
fn answers(
    name: &str,
    tensors: &[(&str, &[usize], Vec<f64>)],
    entry: &Value,
) -> runner::Outcome<Value> {
    let folder = std::env::temp_dir().join(format!("gpz-truth-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), data)| {
        let dtype = safetensors::Dtype::F64;
        safetensors::tensor::TensorView::new(dtype, shape.to_vec(), data).map(|view| (*name, view))
    });
    let path: &Path = &folder.join("case.safetensors");
    safetensors::serialize_to_file(views.collect::<Result<Vec<_>, _>>()?, None, path)?;
    let answered = runner::answer(&folder, entry);
    std::fs::remove_dir_all(&folder)?;
    assert!(answered.notes.is_empty(), "{:?}", answered.notes);
    Ok(answered.answers)
}

fn entry(group: &str, quantities: &[&str]) -> Value {
    let asked: Vec<Value> =
        quantities.iter().map(|quantity| serde_json::json!({ "quantity": quantity })).collect();
    serde_json::json!({ "group": group, "file": "case.safetensors", "truth": asked })
}

#[test]
fn listed_inputs_behind_a_count() -> runner::Outcome<()> {
    // All images of three binary pixels, of which the channel sends the sum.
    let pixel = |image: usize, pixel: usize| (image >> pixel & 1) as f64;
    let images = (0..8).flat_map(|image| (0..3).map(move |j| pixel(image, j))).collect();
    let sums = (0..8).map(|image| (0..3).map(|j| pixel(image, j)).sum()).collect();
    let asked = [
        "H_x",
        "H_z",
        "H_x_given_z",
        "plugin_H_z",
        "guess_probability",
        "mmse_per_pixel",
        "mmse_rank",
        "signal_rank",
    ];
    let tensors = [("x", &[8, 3][..], images), ("z", &[8, 1][..], sums)];
    let found = answers("sum", &tensors, &entry("conditional_entropy", &asked))?;
    let left = 0.75 * 3.0_f64.ln();
    let want =
        [8.0_f64.ln(), 8.0_f64.ln() - left, left, 8.0_f64.ln() - left, 0.5, 1.0 / 6.0, 2.0, 1.0];
    for (name, want) in asked.iter().zip(want) {
        let got = found[name].as_f64().ok_or(*name)?;
        assert!((got - want).abs() < 1e-12, "{name}: {got} for {want}");
    }
    Ok(())
}

#[test]
fn a_classifier_with_a_row_for_an_empty_class_fits() -> runner::Outcome<()> {
    let labels = vec![0.0, 0.0, 2.0, 2.0];
    let rows = vec![1.0, 0.1, 1.0, -0.1, -1.0, 0.1, -1.0, -0.1];
    let weights = vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0];
    let tensors = [
        ("z", &[4, 2][..], rows),
        ("labels", &[4][..], labels),
        ("w", &[3, 2][..], weights),
        ("b", &[3][..], vec![0.0, -9.0, 0.0]),
    ];
    let asked = ["nc3_self_duality", "nc4_agreement"];
    let found = answers("collapse", &tensors, &entry("neural_collapse", &asked))?;
    assert!(found["nc3_self_duality"].as_f64().is_some_and(|value| value < 1e-12), "{found}");
    assert_eq!(found["nc4_agreement"].as_f64(), Some(1.0));
    Ok(())
}

#[test]
fn sparse_labels_and_rows_beyond_squares() -> runner::Outcome<()> {
    let tensors = [
        ("z", &[4, 1][..], vec![1.0, 3.0, f64::NAN, 5.0]),
        ("labels", &[4][..], vec![-7.0, 1e12, 3.0, 1e12]),
    ];
    let asked = ["class_counts", "radius2", "bad_rows", "empty_classes", "singleton_classes"];
    let found = answers("sparse", &tensors, &entry("labels", &asked))?;
    assert_eq!(numbers(&found["class_counts"]), Some(vec![1.0, 2.0]));
    assert_eq!(numbers(&found["radius2"]), Some(vec![0.0, 1.0]));
    assert_eq!(numbers(&found["bad_rows"]), Some(vec![2.0]));
    assert_eq!(numbers(&found["singleton_classes"]), Some(vec![-7.0]));
    // Nobody knows which labels there are.
    assert!(found["empty_classes"].is_null());
    // A value whose square overflows is no NaN, and the rows after it are looked at.
    let tensors = [("z", &[3, 1][..], vec![1e200, 1.0, f64::INFINITY])];
    let found = answers("large", &tensors, &entry("labels", &["bad_rows"]))?;
    assert_eq!(numbers(&found["bad_rows"]), Some(vec![2.0]));
    Ok(())
}

/// An unbiased bound is a warning whatever words a key accepts; they pick a synonym and no other estimator.
#[test]
fn accepted_words_change_no_finding() -> runner::Outcome<()> {
    let behaviour = |name: &str, group: &str, tensors: &[_], accept: &[&str]| {
        let asked = serde_json::json!([{ "kind": "behaviour", "accept": accept }]);
        let entry =
            serde_json::json!({ "group": group, "file": "case.safetensors", "truth": asked });
        answers(name, tensors, &entry).map(|found| found["behaviour"].clone())
    };
    let map = [("a", &[2, 2][..], vec![1.0, 0.0, 0.0, 2.0])];
    for accept in [&["value"][..], &["refuse", "value"], &["value", "warn"], &[]] {
        let word = if accept.contains(&"warn") { "warn" } else { "flag" };
        assert_eq!(behaviour("map", "reconstruction", &map, accept)?, word, "{accept:?}");
    }
    // Three rows have no third neighbour.
    let rows = [("z", &[3, 1][..], vec![1.0, 2.0, 4.0]), ("labels", &[3][..], vec![0.0, 0.0, 0.0])];
    for accept in [&["value"][..], &["flag"], &["inf", "value"]] {
        let word = behaviour("few", "labels", &rows, accept)?;
        assert!(word == "refuse" || word == "error", "{accept:?}: {word}");
    }
    Ok(())
}

/// `reaches` asks for no `each`.
#[test]
fn how_a_quantity_is_meant_is_read_by_whole_words() -> runner::Outcome<()> {
    let tensors = [
        ("z", &[4, 2][..], vec![0.0, 0.0, 2.0, 4.0, 0.0, 0.0, 2.0, 4.0]),
        ("labels", &[4][..], vec![0.0, 0.0, 1.0, 1.0]),
    ];
    for (how, want) in
        [("reaches all listed rows", vec![2.5]), ("an array, each dimension", vec![1.0, 4.0])]
    {
        let asked = serde_json::json!([{ "quantity": "variance_per_dim", "how": how }]);
        let entry =
            serde_json::json!({ "group": "labels", "file": "case.safetensors", "truth": asked });
        let found = answers("words", &tensors, &entry)?;
        assert_eq!(numbers(&found["variance_per_dim"]), Some(want), "{how}");
    }
    Ok(())
}
