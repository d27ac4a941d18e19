//! A declared channel and a declared prior, from the flags to the report.

use serde_json::{Value, json};

use crate::common::{MODEL, Place};

/// An audit of tiny settings.
fn audit(rest: &str) -> String {
    format!(
        "audit --config tiny.toml --model {MODEL} --data images --target-epochs 2 --attack-epochs 2 {rest}"
    )
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn page(place: &Place, run: &str) -> String {
    String::from_utf8(place.read(&format!("{run}/report.html"))).expect("UTF-8")
}

/// Under bits and a prior everything that a person reads says what is proved, and what is measured lies above it.
#[test]
fn bits_and_a_prior_bound_any_attacker() {
    let place = Place::with_images();
    let table = place.ok(&audit("--channel bits:2 --prior-tau 0.1 --out a --threads 1"));
    for part in ["no attacker below", "channel: bits:2, prior τ = 0.1 — the lower ends hold"] {
        assert!(table.contains(part), "{part} in: {table}");
    }
    assert!(!table.contains("effective"), "{table}");
    let splits = place.json_file("a/splits.json");
    for split in splits["splits"].as_array().expect("splits") {
        let (bound, attack) = (&split["leakage_bound"], &split["attack"]);
        let width = number(&split["width"]);
        let information = 2.0 * width * std::f64::consts::LN_2;
        assert_eq!(bound["channel"], "bits:2");
        assert!((number(&bound["information_nats"]) / information - 1.0).abs() < 1e-12);
        assert_eq!(
            (&bound["information_kind"], &bound["mse_floor_kind"]),
            (&json!("upper"), &json!("lower"))
        );
        assert_eq!((&bound["prior_tau"], &bound["reason"]), (&json!(0.1), &Value::Null));
        // Pictures of 16 by 16 are shown as they are stored: τ²·exp(−2C/d).
        let floor = 0.01 * (-2.0 * information / 256.0).exp();
        assert!((number(&bound["mse_floor"]) / floor - 1.0).abs() < 1e-12, "{bound}");
        assert!(number(&attack["mse_per_element"]) >= floor);
        // What is recognised is judged without the prior's noise where that is closer.
        let (closest, seen) = (number(&attack["mse_closest"]), number(&attack["mse_per_element"]));
        assert!(closest < seen, "{closest} {seen}");
        assert!((number(&attack["psnr_db"]) + 10.0 * closest.log10()).abs() < 1e-9);
        assert_eq!(attack["mse_effective"], attack["mse_per_element"]);
        assert_eq!(
            (&attack["ssim_effective"], &attack["attack_limited"]),
            (&attack["ssim"], &json!(false))
        );
        assert_eq!(number(&split["wire_bytes"]), (2.0 * width / 8.0).ceil());
        assert!((0.0..=1.0).contains(&number(&split["accuracy_behind_channel"])));
    }
    let csv = String::from_utf8(place.read("a/splits.csv")).expect("UTF-8");
    assert!(csv.contains(",mse_floor,mse_floor_kind,") && csv.contains(",bits:2,"), "{csv}");
    let report = page(&place, "a");
    for part in [
        ">no attacker comes below</text>",
        "sent through the channel bits:2",
        "τ = 0.1",
        ">closest MSE<",
    ] {
        assert!(report.contains(part), "{part}");
    }
    // The same bytes on other threads, by the recorded command, and when begun anew from its own configuration.
    place.ok(&audit("--channel bits:2 --prior-tau 0.1 --out b --threads 2"));
    let record = place.json_file("a/run.json");
    assert_eq!((&record["channel"], &record["prior_tau"]), (&json!("bits:2"), &json!(0.1)));
    let command = record["command"].as_str().expect("a command");
    assert!(command.contains("--channel bits:2 --prior-tau 0.1"), "{command}");
    place.ok(&format!("{} --out c", command.strip_prefix("gpz ").expect("the program")));
    for other in ["b", "c"] {
        for file in
            ["splits.json", "checkpoints/decoder_block2.safetensors", "pictures/block1_000.png"]
        {
            assert_eq!(
                place.read(&format!("{other}/{file}")),
                place.read(&format!("a/{file}")),
                "{other} {file}"
            );
        }
    }
    // A run that has begun keeps its declaration.
    let resumed = |flags: &str| format!("audit --out a --resume {flags}");
    place.refused_naming(&resumed("--channel bits:3"), &["a was begun", "channel differs"]);
    place.refused_naming(&resumed("--prior-tau 0.2"), &["a was begun", "prior_tau differs"]);
    assert_eq!(place.json(&resumed("--json")), splits);
}

/// Behind noise the floor rests on estimated variances and says so; without the prior there is none, nor without the channel.
#[test]
fn what_is_no_bound_is_not_called_one() {
    let place = Place::with_images();
    let bounds = |run: &str| -> Vec<Value> {
        let splits = place.json_file(&format!("{run}/splits.json"));
        let splits = splits["splits"].as_array().expect("splits").clone();
        splits.into_iter().map(|split| split["leakage_bound"].clone()).collect()
    };
    let table = place.ok(&audit("--channel noise:0.5 --prior-tau 0.1 --out noise"));
    assert!(
        table.contains("lower end (estimate)") && table.contains("estimates, not bounds"),
        "{table}"
    );
    for bound in bounds("noise") {
        let kinds = (&bound["information_kind"], &bound["mse_floor_kind"]);
        assert_eq!(kinds, (&json!("heuristic"), &json!("heuristic")));
        assert!(number(&bound["mse_floor"]) > 0.0 && number(&bound["mse_floor"]) < 0.01);
    }
    assert!(page(&place, "noise").contains(">estimated lower end</text>"));
    let wire = &place.json_file("noise/splits.json")["splits"][0]["wire_bytes"];
    assert_eq!(wire, &json!(512), "noisy numbers are sent as they were");

    let table = place.ok(&audit("--channel bf16 --out no-prior"));
    assert!(table.contains("channel: bf16 — no error is bounded: no prior is declared"), "{table}");
    for bound in bounds("no-prior") {
        assert_eq!((&bound["mse_floor"], &bound["mse_floor_kind"]), (&Value::Null, &Value::Null));
        assert!(bound["reason"].as_str().is_some_and(|reason| reason.contains("--prior-tau")));
    }
    assert!(page(&place, "no-prior").contains("No bound on the error: no prior declared."));

    let table = place.ok(&audit("--prior-tau 0.1 --out no-channel"));
    assert!(table.contains("channel: none, prior τ = 0.1 — no error is bounded"), "{table}");
    assert!(table.contains("prior: errors are in the picture with its noise"), "{table}");
    assert_eq!(place.json_file("no-channel/splits.json")["prior_tau"], 0.1);
    assert!(bounds("no-channel").iter().all(Value::is_null));
    let report = page(&place, "no-channel");
    assert!(
        report.contains("No bound: no channel declared.")
            && report.contains("A prior is declared, but")
    );
}

/// The attack sees what arrives: noise that drowns the feature leaves it with the mean picture.
/// What `invert` bounds at a split is what `audit` bounds there.
#[test]
fn attacks_stand_behind_the_channel() {
    let place = Place::with_images();
    place.train_target();
    let invert = |rest: &str| {
        place.json(&format!(
            "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split block1 --json {rest}"
        ))
    };
    let error = |metrics: &Value| {
        number(&metrics["mse_per_element"]) / number(&metrics["mean_image"]["mse_per_element"])
    };
    let exact = invert("--epochs 60 --out exact");
    let drowned = invert("--epochs 60 --channel noise:30 --out drowned");
    assert_eq!(exact["leakage_bound"], Value::Null);
    // What each learns beyond the mean picture: through noise at most a fifth of what an exact feature gives away.
    let learnt = |metrics: &Value| (1.0 - error(metrics)).max(0.0);
    let (exact, drowned) = (learnt(&exact), learnt(&drowned));
    assert!(exact > 5.0 * drowned, "{exact} {drowned}");

    let declared = "--channel int8 --prior-tau 0.05";
    let metrics = invert(&format!("--epochs 2 {declared} --out attack"));
    let record = place.json_file("attack/run.json");
    assert_eq!((&record["channel"], &record["prior_tau"]), (&json!("int8"), &json!(0.05)));
    assert_eq!(metrics["prior_tau"], 0.05);
    assert!(number(&metrics["mse_closest"]) < number(&metrics["mse_per_element"]));
    place.ok(&audit(&format!("--weights target/target.safetensors {declared} --out run")));
    assert_eq!(
        metrics["leakage_bound"],
        place.json_file("run/splits.json")["splits"][0]["leakage_bound"]
    );
    let words = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split 2 --epochs 1 {declared} --out said"
    );
    let said = place.ok(&words);
    assert!(
        said.contains("channel int8: at most")
            && said.contains("no attacker's mean error is below"),
        "{said}"
    );
    place.refused_naming(
        "invert --out attack --resume --channel bits:8",
        &["audit.channel differs"],
    );
}

#[test]
fn declarations_that_cannot_be() {
    let place = Place::with_images();
    place.train_target();
    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split 1 --epochs 1 --out run"
    );
    for words in [audit("--out run"), invert] {
        for wrong in
            ["fp8", "noise:0", "noise:-1", "noise:nan", "noise:inf", "noise:", "bits:0", "bits:33"]
        {
            place.refused_naming(
                &format!("{words} --channel {wrong}"),
                &["--channel", wrong, "noise:SIGMA"],
            );
        }
        for wrong in ["0", "-0.1", "nan", "inf", "1e9", "much"] {
            place.refused_naming(
                &format!("{words} --prior-tau {wrong}"),
                &["--prior-tau", wrong, "0.1"],
            );
        }
    }
    for (text, parts) in [
        ("channel = \"bits:0\"", ["channel \"bits:0\"", "from 1 to 32"]),
        ("prior_tau = -1.0", ["prior_tau", "such as 0.1"]),
    ] {
        place.write("wrong.toml", text.as_bytes());
        place.refused_naming(
            "audit --config wrong.toml --out run",
            &["wrong.toml", parts[0], parts[1]],
        );
    }
}
