//! Every figure is there and finite on the simulated device; without a GPU the program says so.

use std::process::Command;

use serde_json::Value;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gpu-figures"))
}

#[test]
fn all_figures_are_there_and_finite() {
    let output = program().arg("--simulate").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["simulated"], true);
    assert_eq!(all["moments_checked"].as_array().map(Vec::len), Some(2));
    let figures = all["figures"].as_array().unwrap();
    let mut names: Vec<&str> = Vec::new();
    for figure in figures {
        let name = figure["name"].as_str().unwrap();
        let quartiles =
            figure["seconds_quartiles"].as_array().unwrap_or_else(|| panic!("{figure}"));
        let quartiles: Vec<f64> = quartiles.iter().map(|v| v.as_f64().unwrap()).collect();
        assert!(quartiles.len() == 3 && quartiles.is_sorted() && quartiles[0] > 0.0, "{figure}");
        let rates = ["bytes_per_second", "flops_per_second", "images_per_second"];
        let rates: Vec<f64> = rates.iter().filter_map(|rate| figure[*rate].as_f64()).collect();
        assert!(rates.len() == 1 && rates[0].is_finite() && rates[0] > 0.0, "{figure}");
        names.push(name);
    }
    for name in [
        "copy, at the beginning",
        "add",
        "tanh",
        "batch norm",
        "batch norm backward",
        "softmax",
        "max pool",
        "Adam",
        "momentum",
        "product",
        "class moments, 10 classes",
        "class moments, 100 classes",
        "class moments, 100 classes, kernel alone",
        "decoder training",
        "cnn4:width=1 evaluation",
        "cnn4:width=1 training",
        "copy, at the end",
    ] {
        assert_eq!(names.iter().filter(|other| **other == name).count(), 1, "{name}: {names:?}");
    }
}

#[test]
fn arguments_that_are_none_are_refused() {
    let output = program().arg("--fast").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--simulate"));
}
