//! What each subcommand answers when all is well.

use serde_json::{Value, json};

use crate::common::{
    MODEL, Place, f64_bytes, i64_bytes, noise, npy, npz, picture, write_class_folders, write_png,
};

/// Keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> =
        value.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
    keys.sort_unstable();
    keys
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got} instead of {want}");
}

#[test]
fn every_help_shows_an_example() {
    let place = Place::empty();
    let subcommands = [
        "audit", "train", "features", "stats", "invert", "metrics", "report", "models", "data",
        "decoders", "devices",
    ];
    let help = place.ok("--help");
    for name in subcommands {
        assert!(help.contains(&format!("  {name}")), "{name} in: {help}");
        let help = place.ok(&format!("{name} --help"));
        assert!(help.contains(&format!("gpz {name}")) && help.contains("Example"), "{help}");
        // Nobody is promised a bound where there is an estimate.
        if help.contains("no attacker") || help.contains("which error") {
            let text = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                text.contains("mean error") && text.contains("behind noise, an estimate"),
                "{help}"
            );
        }
    }
    assert!(place.ok("--version").starts_with("gpz "));
}

#[test]
fn an_audit_from_data_to_report() {
    let place = Place::with_images();
    let words = format!(
        "audit --config tiny.toml --model {MODEL} --data images --target-epochs 2 --attack-epochs 2 --out run"
    );
    let table = place.ok(&words);
    for part in ["split", "block1", "block4", "verdict: ", "report: run/report.html"] {
        assert!(table.contains(part), "{part} in: {table}");
    }
    let splits = place.json_file("run/splits.json");
    assert_eq!(splits["model"], "cnn4:width=2");
    assert_eq!(splits["splits"].as_array().map(Vec::len), Some(4));
    let first = &splits["splits"][0];
    assert_eq!(first["shape"], json!([2, 8, 8]));
    assert_eq!((&first["width"], &first["wire_bytes"]), (&json!(128), &json!(512)));
    assert_eq!(first["leakage_bound"], Value::Null);
    assert!(
        number(&first["attack"]["mse_effective"]) <= number(&first["attack"]["mse_per_element"])
    );
    let last = place.json(&format!("{words} --resume --json"));
    assert_eq!(last, splits, "a finished run is left alone, and --json prints its splits.json");
    for file in [
        "splits.csv",
        "choice.json",
        "run.json",
        "config.toml",
        "report.html",
        "checkpoints/target.safetensors",
    ] {
        assert!(!place.read(&format!("run/{file}")).is_empty(), "{file}");
    }
    assert_eq!(place.json_file("run/run.json")["finished"], true);
    // Neither a time nor a path in what must not depend on them: from elsewhere, under other names, the same bytes.
    let text = String::from_utf8(place.read("run/splits.json")).expect("UTF-8");
    assert!(!text.contains("seconds"));
    let elsewhere = Place::empty();
    let from = |name: &str| place.path(name).display().to_string();
    std::fs::rename(place.path("images"), place.path("unheardof")).expect("another name");
    elsewhere.ok(&format!(
        "audit --config {} --model {MODEL} --data {} --target-epochs 2 --attack-epochs 2 --out {}",
        from("tiny.toml"),
        from("unheardof"),
        elsewhere.path("unheardof").display()
    ));
    let again = String::from_utf8(elsewhere.read("unheardof/splits.json")).expect("UTF-8");
    assert!(again == text && !again.contains("unheardof"), "{again}");

    std::fs::remove_file(place.path("run/report.html")).expect("the report");
    assert_eq!(place.ok("report run"), "report: run/report.html\n");
    assert!(String::from_utf8(place.read("run/report.html")).expect("UTF-8").contains("<html"));
}

#[test]
fn a_target_its_features_their_statistics_and_an_attack() {
    let place = Place::with_images();
    let train = format!(
        "train --config tiny.toml --model {MODEL} --data images --labels ls:+0.3 --epochs 2 --out target"
    );
    assert!(place.ok(&train).contains("accuracy"));
    let record = place.json_file("target/run.json");
    assert_eq!(record["target"]["labels"], "ls:+0.3");
    assert_eq!(record["target"]["curve"].as_array().map(Vec::len), Some(2));
    for part in ["accuracy_validation", "accuracy_test"] {
        assert!((0.0..=1.0).contains(&number(&record["target"][part])), "{part}");
    }

    let features = format!(
        "features --model {MODEL} --weights target/target.safetensors --input images --resolution 16"
    );
    let said = place.json(&format!("{features} --split all --out all.safetensors --json"));
    assert_eq!(said["n"], 105);
    assert_eq!(said["shapes"]["z.block2"], json!([105, 4, 4, 4]));
    place.ok(&format!("{features} --split block2 --out one.safetensors"));
    place.ok(&format!("{features} --split 2 --part test --out test.safetensors"));
    let (all, one, test) = (
        place.read("all.safetensors"),
        place.read("one.safetensors"),
        place.read("test.safetensors"),
    );
    let tensors = |bytes: &[u8]| -> Vec<String> {
        let file = safetensors::SafeTensors::deserialize(bytes).expect("a safetensors file");
        let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(tensors(&all), ["x", "y", "z.block1", "z.block2", "z.block3", "z.block4"]);
    assert_eq!(tensors(&one), ["x", "y", "z"]);
    let tensor = |bytes: &[u8], name: &str| -> Vec<u8> {
        let file = safetensors::SafeTensors::deserialize(bytes).expect("a safetensors file");
        file.tensor(name).expect(name).data().to_vec()
    };
    assert_eq!(tensor(&all, "z.block2"), tensor(&one, "z"));
    // The test images come last in the stored order.
    assert!(tensor(&one, "z").ends_with(&tensor(&test, "z")));
    assert!(tensor(&one, "y").ends_with(&tensor(&test, "y")));
    let x: Vec<f32> =
        tensor(&test, "x").as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let first = picture(0, 1000 * 5, 16);
    assert!(
        first.iter().zip(&x).all(|(&byte, &value)| (f32::from(byte) / 255.0 - value).abs() < 1e-6),
        "x is the picture"
    );

    let stats = place.json("stats --features all.safetensors --key z.block2 --json");
    assert_eq!((&stats["n"], &stats["d"], &stats["classes"]), (&json!(105), &json!(64), &json!(3)));
    assert!(place.ok("stats --features one.safetensors").contains("radius2"));

    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split block3 --attack inverse --epochs 2"
    );
    let metrics = place.json(&format!("{invert} --out attack --json"));
    assert_eq!(
        (&metrics["n"], &metrics["split"], &metrics["attack"]),
        (&json!(15), &json!("block3"), &json!("inverse"))
    );
    assert!(number(&metrics["mse_per_element"]) > 0.0);
    assert_eq!(metrics, place.json_file("attack/metrics.json"));
    assert!(!place.read("attack/checkpoints/decoder_block3.safetensors").is_empty());
    assert!(!place.read("attack/pictures/block3_000.png").is_empty());
    assert_eq!(
        place.json("invert --out attack --resume --json"),
        metrics,
        "a finished attack is left alone"
    );
}

/// The published plan follows the model wherever it is named, and flags change parts of it.
#[test]
fn the_paper_preset_is_what_it_says() {
    let place = Place::with_images();
    let plan = |words: &str| -> toml::Table {
        place.ok(&format!(
            "audit {words} --data images --target-epochs 1 --attack-epochs 1 --out run"
        ));
        let text = String::from_utf8(place.read("run/config.toml")).expect("UTF-8");
        std::fs::remove_dir_all(place.path("run")).expect("the run");
        text.parse().expect("TOML")
    };
    place.write("small.toml", format!("resamples = 100\nmodel = \"{MODEL}\"\n").as_bytes());
    let config = plan(&format!("--preset paper --model {MODEL} --config small.toml"));
    assert_eq!(config, plan(&format!("--config small.toml --model {MODEL} --preset paper")));
    assert_eq!(config, plan("--preset paper --config small.toml"));
    let at = |path: &str| {
        let first = config.get(path.split('.').next().expect("a key")).expect("a table");
        path.split('.').skip(1).fold(first.clone(), |value, key| value[key].clone())
    };
    for (field, want) in [
        ("resolution", "64"),
        ("target.augmentation", "\"flip-and-jitter\""),
        ("target.training.epochs", "1"),
        ("target.training.batch", "128"),
        ("target.training.learning_rate", "0.01"),
        ("target.training.optimizer.weight_decay", "0.0005"),
        ("target.training.schedule.patience", "30"),
        ("attack.flip", "false"),
        ("attack.training.schedule.patience", "10"),
        ("attack.training.optimizer.name", "\"adam\""),
    ] {
        assert_eq!(at(field).to_string(), want, "{field}");
    }
}

/// Every figure that a table of results needs, of a target that ended early and was watched.
#[test]
fn what_a_run_says_of_its_target() {
    let place = Place::with_images();
    place.ok(&format!(
        "audit --config tiny.toml --model {MODEL} --data images --target-epochs 60 --attack-epochs 3 --stop-after 3 --track-radius 4 \
         --labels ls:+0.3 --out run"
    ));
    let record = place.json_file("run/run.json");
    let target = &record["target"];
    let epochs = number(&target["epochs"]);
    assert!(epochs < 60.0 && target["stopped_early"] == true, "{epochs} epochs");
    assert_eq!(number(&target["chosen_epoch"]), epochs - 3.0);
    assert!(
        target["optimiser"].as_str().is_some_and(|text| text.contains("ends early after 3 epochs"))
    );
    for part in ["accuracy_train", "accuracy_validation", "accuracy_test"] {
        assert!((0.0..=1.0).contains(&number(&target[part])), "{part}");
    }
    assert!(cfg!(not(feature = "lapack")) || number(&target["nc1"]) > 0.0);
    let history = place.json_file("run/radius_history.json");
    assert_eq!(
        (&history["part"], &history["labels"]),
        (&json!("target-validation"), &json!("ls:+0.3"))
    );
    let measured: Vec<f64> =
        history["epochs"].as_array().expect("a list").iter().map(number).collect();
    let mut want: Vec<f64> = (0..).map(|k| f64::from(4 * k)).take_while(|e| *e < epochs).collect();
    want.push(epochs);
    assert_eq!(measured, want);
    for split in history["splits"].as_array().expect("a list") {
        let (radii, per_dim) = (&split["radius_sq"], &split["radius_sq_per_dim"]);
        assert_eq!(radii.as_array().map(Vec::len), Some(measured.len()));
        let ratio = number(&radii[0]) / number(&per_dim[0]);
        assert!((ratio - number(&split["width"])).abs() < 1e-9 * ratio);
    }
    let report = String::from_utf8(place.read("run/report.html")).expect("UTF-8");
    assert!(report.contains("ls:+0.3: 1 − α on the true class, α&#x2f;(K − 1) on each"));
    assert!(report.contains("id=\"history-radius-t\"") && report.contains("radius_history.json"));
    let checks = place.json_file("run/splits.json")["rank_checks"].clone();
    assert_eq!(checks.as_array().map(Vec::len), Some(4), "{checks}");
    assert_eq!((&checks[0]["probe"], &checks[0]["taps"]), (&json!("radius_sq_per_dim"), &json!(4)));

    // A target alone is watched as well, and is the same.
    place.ok(&format!(
        "train --config tiny.toml --model {MODEL} --data images --epochs 60 --stop-after 3 --track-radius 4 --labels ls:+0.3 --out target"
    ));
    assert_eq!(place.read("target/radius_history.json"), place.read("run/radius_history.json"));
    assert_eq!(place.json_file("target/run.json")["target"], *target);
}

/// An attacker with other pictures: named on record, and the target is none the worse for it.
#[test]
fn an_attacker_may_bring_pictures_of_its_own() {
    let place = Place::with_images();
    // Grey as well, of another size, with classes of their own.
    for (class, side) in [("x", 20), ("y", 20)] {
        for index in 0..25 {
            let path = place.path(&format!("others/{class}/{index}.png"));
            write_png(
                &path,
                &picture(class.len(), 7_000 + index * 3 + class.as_bytes()[0] as usize * 100, side),
                side,
            );
        }
    }
    let audit = |rest: &str| {
        format!(
            "audit --config tiny.toml --model {MODEL} --data images --target-epochs 2 --attack-epochs 2 {rest}"
        )
    };
    place.ok(&audit("--out own"));
    place.ok(&audit("--aux others --out other"));
    let file = |run: &str, name: &str| place.read(&format!("{run}/{name}"));
    let target = "checkpoints/target.safetensors";
    assert_eq!(file("own", target), file("other", target));
    let decoder = "checkpoints/decoder_block1.safetensors";
    assert_ne!(file("own", decoder), file("other", decoder));
    let data = |run: &str| place.json_file(&format!("{run}/run.json"))["data"].clone();
    assert_eq!(data("own")["auxiliary"], Value::Null);
    let record = &data("other")["auxiliary"];
    assert_eq!(
        (&record["name"], &record["native_shape"], &record["shared"], &record["left_out"]),
        (&json!("others"), &json!([1, 20, 20]), &json!(0), &json!(27))
    );
    let images = |run: &str, part: &str| -> f64 {
        let parts = data(run)["parts"].as_array().expect("parts").clone();
        parts.iter().find(|p| p["name"] == part).map_or(f64::NAN, |p| number(&p["images"]))
    };
    assert_eq!(images("other", "auxiliary-train") + images("other", "auxiliary-held-out"), 50.0);
    assert_eq!(images("other", "target-train"), images("own", "target-train"));
    let report = String::from_utf8(file("other", "report.html")).expect("UTF-8");
    assert!(report.contains("others, its training images"));
    // The attack alone has the same choice, and the audited pictures are no others.
    place.ok(&format!(
        "invert --config tiny.toml --model {MODEL} --weights other/{target} --data images --split 1 --epochs 2 --aux others --out attack"
    ));
    assert_eq!(file("attack", decoder), file("other", decoder));
    place.refused_naming(&audit("--aux images --out same"), &["what images holds beyond images"]);
    place.refused_naming(&audit("--aux nowhere --out same"), &["nowhere"]);
}

/// A class of two rows is in a mean and has no error of its own, so the mean has none; of three rows each, there is one.
#[test]
fn a_mean_and_its_error_are_of_the_same_classes() {
    let place = Place::empty();
    let z: Vec<f64> = (0..16).map(|i| (noise(i) % 100) as f64).collect();
    for (name, labels, known) in
        [("mixed", [0, 0, 0, 0, 0, 0, 1, 1], false), ("alike", [0, 0, 0, 0, 0, 1, 1, 1], true)]
    {
        place.write(
            "z.npz",
            &npz(&[
                ("z", npy("<f8", &[8, 2], &f64_bytes(&z))),
                ("y", npy("<i8", &[8], &i64_bytes(&labels))),
            ]),
        );
        let stats = place.json("stats --features z.npz --json");
        for mean in ["radius2_mean", "radius2_mean_per_dim", "radius2_mean_unbiased"] {
            assert_eq!(quantity(&stats, mean)["std_err"].is_number(), known, "{name} {mean}");
        }
        let radii = &quantity(&stats, "radius2")["std_err"];
        assert!(radii[0].is_number() && radii[1].is_number() == known, "{name} {radii}");
    }
}

/// The recorded command is one that runs, into any directory.
#[test]
fn recorded_commands_repeat_their_runs() {
    let place = Place::with_images();
    place.train_target();
    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split 2 --epochs 1 --out attack"
    );
    place.ok(&invert);
    for (run, result) in [("target", "target.safetensors"), ("attack", "metrics.json")] {
        let record = place.json_file(&format!("{run}/run.json"));
        assert_eq!(record["resumed"], false);
        let command = record["command"].as_str().expect("a command");
        let words = command.strip_prefix("gpz ").expect("the program");
        assert!(words.contains(&format!("--out {run}")), "{words}");
        place.ok(&words.replace(&format!("--out {run}"), &format!("--out again-{run}")));
        let again = place.read(&format!("again-{run}/{result}"));
        assert_eq!(again, place.read(&format!("{run}/{result}")), "{words}");
    }
}

/// Weights from elsewhere: nobody here knows what they have seen, and the report does not claim to.
#[test]
fn a_report_claims_nothing_of_weights_it_did_not_train() {
    let place = Place::with_images();
    place.train_target();
    let audit = |rest: &str| {
        format!(
            "audit --config tiny.toml --model {MODEL} --data images --target-epochs 1 --attack-epochs 1 {rest}"
        )
    };
    place.ok(&audit("--out own"));
    place.ok(&audit("--out given --weights target/target.safetensors"));
    let page =
        |run: &str| String::from_utf8(place.read(&format!("{run}/report.html"))).expect("UTF-8");
    let claims = ["images nobody trained on", "neither the network nor an attacker was trained on"];
    let (own, given) = (page("own"), page("given"));
    assert!(claims.iter().all(|claim| own.contains(claim)));
    assert!(!claims.iter().any(|claim| given.contains(claim)));
    assert!(
        given.contains("was not trained here but loaded from") && !own.contains("but loaded from")
    );
}

/// Whoever closes stderr, or sends it to a full disk, gets the result all the same.
#[cfg(target_os = "linux")]
#[test]
fn nobody_need_listen_to_messages() {
    let place = Place::with_images();
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let train =
        format!("train --config tiny.toml --model {MODEL} --data images --epochs 1 --out t");
    for (words, status) in [(train.as_str(), 0), ("models cnn5", 2), ("data verify nowhere", 2)] {
        let output = place.command(words).stderr(full()).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(status), "{words}");
    }
}

fn quantity<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let all = stats["estimates"].as_array().expect("estimates");
    all.iter()
        .find(|estimate| estimate["quantity"] == name)
        .unwrap_or_else(|| panic!("{name} in {stats}"))
}

/// Four rows, worked out by hand: class 0 is (0,1), (2,1); class 2 is (5,1) alone; class 3 is (9,1) twice.
#[test]
fn statistics_agree_with_hand_arithmetic() {
    let place = Place::empty();
    let z = [0.0, 1.0, 2.0, 1.0, 5.0, 1.0, 9.0, 1.0, 9.0, 1.0];
    let array = npy("<f8", &[5, 2], &f64_bytes(&z));
    place.write(
        "z.npz",
        &npz(&[
            ("features", array.clone()),
            ("labels", npy("<i8", &[5], &i64_bytes(&[0, 0, 2, 3, 3]))),
        ]),
    );
    let stats = place.json("stats --features z.npz --key features --labels-key labels --json");
    assert_eq!(keys(&stats), ["channel", "classes", "d", "estimates", "n", "not_estimated"]);
    assert_eq!(
        (&stats["n"], &stats["d"], &stats["classes"], &stats["channel"]),
        (&json!(5), &json!(2), &json!(4), &json!("none"))
    );
    for estimate in stats["estimates"].as_array().expect("estimates") {
        let (keys, always) = (keys(estimate), ["flags", "kind", "quantity", "std_err", "value"]);
        assert!(always.iter().all(|key| keys.contains(key)), "{estimate}");
        let has = |key: &str| keys.contains(&key);
        assert_eq!(has("uncertainty"), !estimate["std_err"].is_null(), "{estimate}");
    }
    let value = |name: &str| quantity(&stats, name)["value"].clone();
    assert_eq!(value("class_labels"), json!([0, 2, 3]));
    assert_eq!(value("class_counts"), json!([2, 1, 2]));
    assert_eq!(value("empty_classes"), json!([1]));
    assert_eq!(value("singleton_classes"), json!([2]));
    assert_eq!(value("constant_columns"), json!([1]));
    assert_eq!(value("radius2"), json!([1.0, 0.0, 0.0]));
    assert_eq!(value("radius2_unbiased"), json!([2.0, null, 0.0]));
    assert!(
        quantity(&stats, "radius2")["flags"]
            .as_array()
            .is_some_and(|flags| flags.contains(&json!("singleton-class")))
    );
    near(number(&value("radius2_mean")), 0.5, 1e-12);
    // It averages over classes of two rows, for which there is no error.
    assert_eq!(quantity(&stats, "radius2_mean")["std_err"], Value::Null);
    near(number(&value("within")), 2.0 / 5.0, 1e-12);
    // Mean 5; squared distances 25, 9, 0, 16, 16.
    near(number(&value("global_trace_var")), 66.0 / 5.0, 1e-12);
    near(number(&value("between")), 64.0 / 5.0, 1e-12);
    near(number(&value("global_sigma2")), 33.0 / 5.0, 1e-12);
    let entropy = (2.0 * std::f64::consts::PI * std::f64::consts::E * 6.6).ln();
    near(number(&value("entropy_upper_iso")), entropy, 1e-12);
    let by_class = value("class_entropy_upper_iso");
    near(
        number(&by_class[0]),
        (2.0 * std::f64::consts::PI * std::f64::consts::E * 0.5).ln(),
        1e-12,
    );
    assert_eq!((&by_class[1], &by_class[2]), (&json!("-inf"), &json!("-inf")));

    place.write("z.npy", &array);
    let bare = place.json("stats --features z.npy --json");
    assert_eq!(bare["classes"], Value::Null);
    near(number(&quantity(&bare, "global_trace_var")["value"]), 66.0 / 5.0, 1e-12);
    let names: Vec<&str> = bare["estimates"]
        .as_array()
        .expect("estimates")
        .iter()
        .filter_map(|e| e["quantity"].as_str())
        .collect();
    assert_eq!(names[..3], ["global_trace_var", "global_sigma2", "entropy_upper_iso"]);
    assert!(!names.iter().any(|name| name.contains("class") || name.contains("mixture")));
    assert_eq!(quantity(&bare, "duplicate_rows")["value"], json!(1.0));
    // Of a column that never changes, the entropy is that of a point.
    let diagonal = quantity(&bare, "entropy_upper_diag");
    assert_eq!(diagonal["value"], json!("-inf"));
    assert_eq!(diagonal["flag_figures"]["constant-dimensions"], json!(1));
    // Rows that repeat have an entropy of their values: two of five are equal.
    let plugin = -(2.0 / 5.0 * (2.0 / 5.0_f64).ln() + 3.0 / 5.0 * (1.0 / 5.0_f64).ln());
    near(number(&quantity(&bare, "plugin_entropy")["value"]), plugin, 1e-12);
    let missing = &bare["not_estimated"];
    let reason = missing
        .as_array()
        .expect("a list")
        .iter()
        .find(|m| m["quantity"] == "information_upper_nats");
    assert!(reason.is_some_and(|m| {
        m["reason"].as_str().is_some_and(|r| r.contains("no channel is declared"))
    }));
}

/// Classes are named by the file's labels, a flag of several classes is said once, and small classes are no sign of collapse.
#[test]
fn statistics_speak_of_the_files_own_classes() {
    let place = Place::empty();
    let rows: Vec<f64> = (0..40).map(|i| f64::from(i * 7919 % 101)).collect();
    let mut labels = vec![9; 20];
    labels[0] = 7;
    place.write(
        "z.npz",
        &npz(&[
            ("z", npy("<f8", &[20, 2], &f64_bytes(&rows))),
            ("y", npy("<i8", &[20], &i64_bytes(&labels))),
        ]),
    );
    let table = place.ok("stats --features z.npz");
    assert!(table.contains("of class 7") && !table.contains("class 0"), "{table}");
    let twice: Vec<f64> = (0..80).map(|i| f64::from(i % 40 * 7919 % 101)).collect();
    let labels: Vec<i64> = (0..40).map(|i| i % 2).collect();
    place.write(
        "twice.npz",
        &npz(&[
            ("z", npy("<f8", &[40, 2], &f64_bytes(&twice))),
            ("y", npy("<i8", &[40], &i64_bytes(&labels))),
        ]),
    );
    for estimate in
        place.json("stats --features twice.npz --json")["estimates"].as_array().expect("estimates")
    {
        let flags = estimate["flags"].as_array().expect("flags");
        let once = |flag: &&Value| flags.iter().filter(|other| other == flag).count() == 1;
        assert!(flags.iter().all(|flag| once(&flag)), "{estimate}");
    }
    let noise: Vec<f64> = (0..12 * 30).map(|i| f64::from(i * i * 7919 % 1013)).collect();
    let labels: Vec<i64> = (0..12).map(|i| i % 3).collect();
    place.write(
        "wide.npz",
        &npz(&[
            ("z", npy("<f8", &[12, 30], &f64_bytes(&noise))),
            ("y", npy("<i8", &[12], &i64_bytes(&labels))),
        ]),
    );
    let stats = place.json("stats --features wide.npz --channel noise:0.5 --json");
    if cfg!(feature = "lapack") {
        let flags = &quantity(&stats, "nearest_mean_accuracy")["flags"];
        assert!(flags.as_array().is_some_and(|flags| flags.contains(&json!("few-rows-per-class"))));
    }
    let missing = stats["not_estimated"].as_array().expect("a list");
    assert!(missing.iter().any(|missing| missing["quantity"] == "information_upper_full_nats"));
}

/// Under a declared channel there is a bound, of the right kind; without one the table says that there is none.
#[test]
fn channels_bound_what_features_tell() {
    let place = Place::empty();
    let z = [0.0, 1.0, 2.0, 1.0, 5.0, 1.0, 9.0, 1.0, 9.0, 1.0];
    place.write("z.npy", &npy("<f8", &[5, 2], &f64_bytes(&z)));
    let bound = |channel: &str| {
        let stats = place.json(&format!("stats --features z.npy --channel {channel} --json"));
        assert_eq!(stats["channel"], json!(channel));
        quantity(&stats, "information_upper_nats").clone()
    };
    // Variances 66/4 and 0 beside 0.25; a column that never changes is said.
    let noise = bound("noise:0.5");
    near(number(&noise["value"]), 0.5 * (1.0 + 16.5 / 0.25_f64).ln(), 1e-12);
    assert_eq!(
        (&noise["kind"], &noise["flags"]),
        (&json!("heuristic"), &json!(["plug-in-of-upper-bound", "constant-dimensions"]))
    );
    let ln_2 = std::f64::consts::LN_2;
    for (channel, limit) in [
        ("bits:3", 6.0 * ln_2),
        ("bf16", 32.0 * ln_2),
        ("f16", 32.0 * ln_2),
        ("int8", 2.0 * 255f64.ln()),
    ] {
        let bound = bound(channel);
        near(number(&bound["value"]), limit, 1e-12);
        assert_eq!(bound["kind"], "upper");
    }
    let few = place.json("stats --features z.npy --channel bits:3 --rows 3 --json");
    assert_eq!(quantity(&few, "channel_step")["value"], json!(1.125));
    let flags = &quantity(&few, "plugin_entropy_joint")["flags"];
    assert!(flags.as_array().is_some_and(|flags| flags.contains(&json!("rows:3-of-5"))), "{flags}");
    assert!(place.ok("stats --features z.npy").contains("no bound on leakage"));
    let table = place.ok("stats --features z.npy --channel bits:3 --memory 1");
    assert!(!table.contains("no bound") && table.contains("upper"));
    let sweep = place.json("stats --features z.npy --sweep bits:1,2,8 --json");
    let points = sweep["sweep"].as_array().expect("a sweep");
    for (point, bits) in points.iter().zip([1.0, 2.0, 8.0]) {
        assert_eq!(point["channel"], json!(format!("bits:{bits}")));
        let bound = &quantity(point, "information_upper_nats")["value"];
        near(number(bound), 2.0 * bits * ln_2, 1e-12);
    }
    // Rows that are all the same have no range to quantise.
    place.write("same.npy", &npy("<f8", &[3, 2], &f64_bytes(&[1.0; 6])));
    let table = place.ok("stats --features same.npy --sweep bits:1,2");
    assert!(table.contains("\ninformation_upper_nats is not given for bits:2: "), "{table}");
    let bits = bound("bits:3");
    assert_eq!(bits["flags"], json!(["range-of-these-rows"]));
    let table = place.ok("stats --features z.npy --sweep noise:0.5,5");
    assert!(table.contains("noise:0.5") && table.contains("noise:5"), "{table}");
}

/// A shift by one grey level has a closed form for the error; the same images in three containers give the same figures.
#[test]
fn metrics_agree_with_closed_forms_and_between_containers() {
    let place = Place::empty();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for i in 0..3 {
        let pixels = picture(i % 3, i, 16);
        let shifted: Vec<u8> = pixels.iter().map(|v| v + 1).collect();
        write_png(&place.path(&format!("a/{i}.png")), &pixels, 16);
        write_png(&place.path(&format!("b/{i}.png")), &shifted, 16);
        a.extend(pixels);
        b.extend(shifted);
    }
    place.write("a.npy", &npy("|u1", &[3, 16, 16], &a));
    place.write("b.npy", &npy("|u1", &[3, 16, 16, 1], &b));
    let floats =
        |bytes: &[u8]| f64_bytes(&bytes.iter().map(|v| f64::from(*v) / 255.0).collect::<Vec<_>>());
    place.write("a.npz", &npz(&[("x", npy("<f8", &[3, 1, 16, 16], &floats(&a)))]));
    place.write(
        "b.npz",
        &npz(&[
            ("x", npy("<f8", &[3, 1, 16, 16], &floats(&b))),
            ("y", npy("<i8", &[3], &i64_bytes(&[0, 1, 2]))),
        ]),
    );
    let of = |a: &str, b: &str, rest: &str| {
        place.json(&format!("metrics --reference {a} --candidate {b} --json {rest}"))
    };
    let raw = of("a", "b", "--range 255");
    assert_eq!(keys(&raw), ["mse_channel_sum", "mse_per_element", "n", "psnr_db", "range", "ssim"]);
    assert_eq!((&raw["n"], &raw["range"]), (&json!(3), &json!(255.0)));
    near(number(&raw["mse_per_element"]), 1.0, 1e-12);
    near(number(&raw["psnr_db"]), 20.0 * 255f64.log10(), 1e-9);
    let scaled = of("a", "b", "");
    near(number(&scaled["mse_per_element"]), 1.0 / 65025.0, 1e-15);
    near(number(&scaled["psnr_db"]), number(&raw["psnr_db"]), 1e-9);
    near(number(&scaled["ssim"]), number(&raw["ssim"]), 1e-9);
    for (a, b) in [("a.npy", "b.npy"), ("a.npz", "b.npz"), ("a.npy", "b.npz")] {
        let other = of(a, b, "");
        for key in ["mse_per_element", "psnr_db", "ssim"] {
            near(number(&other[key]), number(&scaled[key]), 1e-9);
        }
    }
    let same = of("a/0.png", "a/0.png", "");
    assert_eq!(
        (&same["psnr_db"], &same["ssim"], &same["n"]),
        (&json!("inf"), &json!(1.0), &json!(1))
    );
}

/// Channels first and channels last are the same images; the error summed over channels is three times the mean.
#[test]
fn metrics_know_where_channels_are() {
    let place = Place::empty();
    let value = |seed: u64, i: usize| (noise(seed ^ i as u64) % 256) as u8;
    let last: Vec<u8> = (0..2 * 12 * 14 * 3).map(|i| value(1, i)).collect();
    let guess: Vec<u8> = (0..2 * 12 * 14 * 3).map(|i| value(1 << 32, i)).collect();
    let first: Vec<f64> = (0..2)
        .flat_map(|n| {
            (0..3).flat_map(move |c| (0..12 * 14).map(move |p| (n * 12 * 14 + p) * 3 + c))
        })
        .map(|i| f64::from(last[i]) / 255.0)
        .collect();
    place.write("last.npy", &npy("|u1", &[2, 12, 14, 3], &last));
    place.write("first.npy", &npy("<f8", &[2, 3, 12, 14], &f64_bytes(&first)));
    place.write("guess.npy", &npy("|u1", &[2, 12, 14, 3], &guess));
    let equal = place.json("metrics --reference last.npy --candidate first.npy --json");
    near(number(&equal["mse_per_element"]), 0.0, 1e-30);
    let figures = place.json("metrics --reference first.npy --candidate guess.npy --json");
    let want: f64 = last
        .iter()
        .zip(&guess)
        .map(|(a, b)| ((f64::from(*a) - f64::from(*b)) / 255.0).powi(2))
        .sum::<f64>()
        / last.len() as f64;
    near(number(&figures["mse_per_element"]), want, 1e-12);
    near(number(&figures["mse_channel_sum"]), 3.0 * want, 1e-12);
}

#[test]
fn models_and_what_their_splits_cost() {
    let place = Place::empty();
    assert_eq!(place.json("models --json")[0]["name"], "cnn4");
    let model = place.json("models cnn4:width=16 --input 3x64x64 --classes 10 --json");
    assert_eq!(model["input"], json!([3, 64, 64]));
    let splits = model["splits"].as_array().expect("splits");
    assert_eq!(splits.len(), 4);
    let keys_wanted = [
        "edge_macs",
        "edge_macs_fraction",
        "edge_params",
        "edge_params_fraction",
        "index",
        "name",
        "shape",
        "width",
        "wire_bytes",
    ];
    assert_eq!(keys(&splits[0]), keys_wanted);
    assert_eq!(splits[0]["shape"], json!([16, 32, 32]));
    assert_eq!(splits[0]["wire_bytes"], 65536);
    // conv 3×3 of 3 to 16 channels with bias, and batch norm; 64×64 places.
    assert_eq!(splits[0]["edge_params"], 3 * 16 * 9 + 16 + 32);
    assert_eq!(splits[0]["edge_macs"], 64 * 64 * 3 * 16 * 9);
    // What no memory holds has its price all the same.
    let vast = place.json("models cnn4:width=512 --input 3x8192x8192 --classes 4096 --json");
    assert_eq!(vast["splits"][0]["wire_bytes"], 4u64 * 512 * 4096 * 4096);
    let text = place.ok("models cnn4:width=16");
    assert!(text.contains("block4") && text.contains("8.0 KiB"), "{text}");
}

#[test]
fn sets_and_devices() {
    let place = Place::with_images();
    assert_eq!(place.json("data list --json")[0]["name"], "fashion-mnist");
    let summary = place.json("data verify images --json");
    assert_eq!((&summary["format"], &summary["images"]), (&json!("class-folders"), &json!(105)));
    assert_eq!(summary["audit_refuses"], Value::Null);
    let said = place.ok("data verify images");
    assert!(said.contains("images: sound,") && said.contains("target-validation"), "{said}");
    // Readable, and too small: the same reason as an audit's.
    write_class_folders(&place.path("few/train"), 20);
    write_class_folders(&place.path("few/test"), 5);
    let said = place.ok("data verify few");
    assert!(
        said.contains("too small to audit")
            && said.contains("target-validation, and its spread needs 3"),
        "{said}"
    );
    let devices = place.json("devices --json --threads 1");
    assert_eq!(
        (&devices["devices"][0]["name"], &devices["devices"][0]["threads"]),
        (&json!("cpu"), &json!(1))
    );
    assert!(devices["devices"][0]["instruction_set"].is_string());
}

#[test]
fn of_a_repeated_flag_the_last_wins() {
    let place = Place::empty();
    let model = place
        .json("models cnn4 --classes 3 --input 1x16x16 --classes 7 --input 1x32x32 --json --json");
    assert_eq!((&model["classes"], &model["input"]), (&json!(7), &json!([1, 32, 32])));
    assert_eq!(place.json("--threads 2 devices --threads 1 --json")["devices"][0]["threads"], 1);
}
