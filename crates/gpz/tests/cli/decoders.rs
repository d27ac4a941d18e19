//! Decoders on the command line: which there are, and which a run takes.

use serde_json::json;

use crate::common::{MODEL, Place};

#[test]
fn decoders_and_what_they_cost() {
    let place = Place::empty();
    assert!(place.ok("decoders").contains("residual"));
    let families = place.json("decoders --json");
    assert!(families.as_array().is_some_and(|all| all.iter().any(|d| d["name"] == "per-tap")));
    let vgg = place.json("decoders vgg19_bn --input 3x64x64 --json");
    assert_eq!(vgg[51]["shape"], json!([512, 4, 4]));
    assert_eq!(vgg[51]["decoder"], "per-tap:width=100");
    // Weights of 4×4 from 512 to 256, 128, 64 and 64 channels with biases, norms and slopes, and of 3×3 to the picture.
    let weights: u64 = [(512, 256), (256, 128), (128, 64), (64, 64)]
        .iter()
        .map(|(inputs, outputs)| inputs * outputs * 16 + 3 * outputs)
        .sum();
    assert_eq!(vgg[51]["params"], weights + 3 + 64 * 3 * 9);
    let ladder = |spec: &str| {
        let split = &place.json(&format!("decoders cnn4:width=16 --decoder {spec} --json"))[3];
        (split["params"].as_u64(), split["macs"].as_u64())
    };
    let (low, high) = (ladder("residual:width=50"), ladder("residual:width=50,depth=1"));
    assert!(low.0 < high.0 && low.1 < high.1, "{low:?} {high:?}");
    // A split without a decoder is listed with the reason.
    let alexnet = place.ok("decoders torchvision-alexnet --input 3x64x64");
    assert!(alexnet.contains("times 1, 2, 4, 8"), "{alexnet}");
}

#[test]
fn an_attack_by_the_decoder_that_is_asked_for() {
    let place = Place::with_images();
    place.train_target();
    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split block3 --epochs 1"
    );
    place.ok(&format!("{invert} --decoder residual:width=10,depth=1 --out strong"));
    let run = place.json_file("strong/run.json");
    assert_eq!(run["attack"]["decoder"], "residual:width=10,depth=1");
    assert!(run["attack"]["decoder_macs"].as_u64() > Some(0));
    let command = run["command"].as_str().unwrap_or_default();
    assert!(command.contains("--decoder residual:width=10,depth=1"), "{command}");
    place.ok(&format!("{invert} --out plain"));
    assert_eq!(place.json_file("plain/run.json")["attack"]["decoder"], "cnn:width=100");
    let config = String::from_utf8(place.read("strong/config.toml")).expect("UTF-8");
    assert!(config.contains("decoder = \"residual:width=10,depth=1\""), "{config}");
    for (spec, named) in [("cnn5", "known: per-tap"), ("cnn:width=0", "1 to 1000")] {
        place.refused_naming(&format!("{invert} --decoder {spec} --out other"), &[named]);
    }
}

/// The file for features has no name, so that nothing of it is left; what comes out is the same.
#[test]
fn features_that_are_kept_change_nothing() {
    let place = Place::with_images();
    std::fs::create_dir(place.path("kept")).expect("a folder");
    let audit = format!(
        "audit --config tiny.toml --model {MODEL} --data images --target-epochs 1 --attack-epochs 3"
    );
    place.ok(&format!("{audit} --out fresh"));
    let output = place.run(&format!("{audit} --cache kept --out cached"));
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("features are kept in kept while decoders learn: "), "{said}");
    assert!(place.read("fresh/splits.json") == place.read("cached/splits.json"), "other figures");
    assert_eq!(std::fs::read_dir(place.path("kept")).expect("the folder").count(), 0);
    place.refused_naming(
        &format!("{audit} --cache nowhere --out other"),
        &["the cache of features in nowhere", "leave the cache out"],
    );
}
