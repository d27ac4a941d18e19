//! What is said of devices where there is no GPU: the tests of what one computes run on the simulated device.

use crate::common::{MODEL, Place};

/// Why this machine has no CUDA device; none where it has one, and these tests have nothing to say.
fn reason(place: &Place) -> Option<String> {
    place.json("devices --json")["no_cuda"].as_str().map(str::to_owned)
}

#[test]
fn a_device_that_is_not_there_is_refused_and_named() {
    let place = Place::with_images();
    let Some(reason) = reason(&place) else { return };
    assert!(reason.starts_with("no CUDA device can be used: "), "{reason}");
    assert!(place.ok("devices").contains(&reason));
    let train = format!("train --model {MODEL} --data images --config tiny.toml --out run");
    for command in ["audit --data images", &train] {
        let said = place.refused(&format!("{command} --device cuda"));
        assert!(said.contains(&reason), "{said}");
    }
}

/// Who asks for the best device gets the processor, and one line that says why; who asks for the processor gets no such line.
#[test]
fn the_processor_stands_in() {
    let place = Place::with_images();
    let Some(reason) = reason(&place) else { return };
    let train = |flags: &str| {
        let command = format!(
            "train --model {MODEL} --data images --config tiny.toml --epochs 1 --batch 8 {flags}"
        );
        let output = place.run(&command);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let said = train("--out auto --device auto");
    let line = format!("{reason}; computing on the cpu");
    assert_eq!(said.lines().filter(|said| *said == line).count(), 1, "{said}");
    assert!(!train("--out cpu").contains(&reason));
    let record = place.json_file("auto/run.json");
    assert_eq!(record["device"], "cpu");
    assert_eq!(record["target"]["batch"], 8);
    assert_eq!(place.read("auto/target.safetensors"), place.read("cpu/target.safetensors"));
}
