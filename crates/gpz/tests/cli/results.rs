//! What each subcommand answers when all is well.

use serde_json::{Value, json};

use crate::common::{
    MODEL, Place, f64_bytes, i64_bytes, keys, noise, npy, npz, number, picture, quantity,
    write_class_folders, write_png,
};

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

    // Of some splits, the history of those is the same.
    place.ok(&format!(
        "audit --config tiny.toml --model {MODEL} --data images --target-epochs 60 --attack-epochs 1 --stop-after 3 --track-radius 4 \
         --labels ls:+0.3 --splits block4,block2 --out some"
    ));
    let some = place.json_file("some/radius_history.json");
    assert_eq!(some["splits"], json!([history["splits"][1], history["splits"][3]]));
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
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split 2 --epochs 1 --resolution 16 --out attack"
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
