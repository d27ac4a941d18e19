//! The same bytes whatever happens: repeated, on other threads, stopped, killed, resumed.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{MODEL, Place, one_line};

/// What a resumed run says where there was nothing to go on with.
const NEW_RUN: &str = "holds no run yet: this is a new one";

/// An audit of tiny settings with enough epochs to be caught in the middle.
fn audit(rest: &str) -> String {
    format!(
        "audit --config tiny.toml --model {MODEL} --data images --target-epochs 40 --attack-epochs 40 {rest}"
    )
}

/// Starts a command and waits until it has saved something.
fn started(place: &Place, words: &str, saved: &str) -> Child {
    let mut child = place
        .command(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let begun = Instant::now();
    while !place.path(saved).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{saved} was never written");
        if let Some(status) = child.try_wait().expect("a status") {
            panic!("it ended before it could be interrupted: {status}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let place = Place::with_images();
    let short = |rest: &str| {
        format!(
            "audit --config tiny.toml --model {MODEL} --data images --target-epochs 2 --attack-epochs 2 {rest}"
        )
    };
    place.ok(&short("--seed 3 --out a --threads 1"));
    place.ok(&short("--seed 3 --out b --threads 2"));
    place.ok(&short("--seed 4 --out c"));
    for file in [
        "splits.json",
        "splits.csv",
        "checkpoints/target.safetensors",
        "checkpoints/decoder_block2.safetensors",
    ] {
        assert_eq!(place.read(&format!("a/{file}")), place.read(&format!("b/{file}")), "{file}");
    }
    assert_ne!(place.read("a/splits.json"), place.read("c/splits.json"), "the seed matters");
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let place = Place::with_images();
    place.ok(&audit("--out whole"));
    for state in ["checkpoints/target.state.safetensors", "checkpoints/attacks.state.safetensors"] {
        let out = state.replace(['/', '.'], "_");
        let mut child = started(&place, &audit(&format!("--out {out}")), &format!("{out}/{state}"));
        child.kill().expect("a signal");
        child.wait().expect("an end");
        assert!(!place.path(&format!("{out}/run.json")).exists(), "it was caught in the middle");
        // A killed process leaves no lock; without --resume the run is protected.
        place.refused_naming(&audit(&format!("--out {out}")), &[&out, "--resume"]);
        let resumed = place.run(&format!("audit --out {out} --resume"));
        let errors = String::from_utf8(resumed.stderr).expect("UTF-8");
        assert!(resumed.status.success() && !errors.contains(NEW_RUN), "{errors}");
        assert!(errors.contains(&out), "the first line stands there: {errors}");
        assert_eq!(place.json_file(&format!("{out}/run.json"))["resumed"], true);
        for file in [
            "splits.json",
            "config.toml",
            "checkpoints/target.safetensors",
            "checkpoints/decoder_block1.safetensors",
        ] {
            assert_eq!(
                place.read(&format!("{out}/{file}")),
                place.read(&format!("whole/{file}")),
                "{file}"
            );
        }
    }
}

/// What ended early ends at the same epoch, and the radii are those of an undisturbed training, whenever the process died.
#[test]
fn a_killed_run_that_stops_early_and_watches_its_radius_resumes_to_the_same_bytes() {
    let place = Place::with_images();
    let watched =
        |out: &str| audit(&format!("--stop-after 12 --track-radius 3 --seed 5 --out {out}"));
    place.ok(&watched("whole"));
    for state in ["target", "attacks"] {
        let saved = format!("{state}/checkpoints/{state}.state.safetensors");
        let mut child = started(&place, &watched(state), &saved);
        child.kill().expect("a signal");
        child.wait().expect("an end");
        place.ok(&format!("audit --out {state} --resume"));
        for file in ["splits.json", "radius_history.json", "checkpoints/decoder_block1.safetensors"]
        {
            assert_eq!(
                place.read(&format!("{state}/{file}")),
                place.read(&format!("whole/{file}")),
                "{file}"
            );
        }
        let target = |run: &str| place.json_file(&format!("{run}/run.json"))["target"].clone();
        assert_eq!(target(state), target("whole"));
    }
}

/// Noise is drawn by place, not by turn: an attack that was killed amid its noise goes on with the same.
#[test]
fn a_killed_attack_behind_noise_resumes_to_the_same_bytes() {
    let place = Place::with_images();
    let noisy = |out: &str| audit(&format!("--channel noise:0.3 --prior-tau 0.1 --out {out}"));
    place.ok(&noisy("whole"));
    let mut child = started(&place, &noisy("part"), "part/checkpoints/attacks.state.safetensors");
    child.kill().expect("a signal");
    child.wait().expect("an end");
    place.ok("audit --out part --resume");
    for file in ["splits.json", "config.toml", "checkpoints/decoder_block1.safetensors"] {
        assert_eq!(place.read(&format!("part/{file}")), place.read(&format!("whole/{file}")));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let place = Place::with_images();
    let train = |rest: &str| {
        format!("train --config tiny.toml --model {MODEL} --data images --epochs 40 {rest}")
    };
    place.ok(&train("--out whole"));
    let words =
        interrupted(&place, &train("--out part"), "part/checkpoints/target.state.safetensors");
    place.ok(&words);
    assert_eq!(place.read("part/target.safetensors"), place.read("whole/target.safetensors"));
}

/// Decoders that are stopped go on in the same way, with what their features were kept in, behind a wire that adds noise.
#[cfg(unix)]
#[test]
fn what_was_asked_for_is_asked_for_again() {
    let place = Place::with_images();
    place.ok(&audit("--channel noise:0.1 --out whole"));
    let words = interrupted(
        &place,
        &audit("--channel noise:0.1 --memory 1GiB --cache . --out part"),
        "part/checkpoints/attacks.state.safetensors",
    );
    assert!(words.contains("--memory 1073741824B --cache . "), "{words}");
    place.ok(&words);
    assert_eq!(place.read("part/splits.json"), place.read("whole/splits.json"));
}

/// Interrupts a command once it has saved something; returns the arguments of the command that it says goes on.
#[cfg(unix)]
fn interrupted(place: &Place, words: &str, saved: &str) -> String {
    let child = started(place, words, saved);
    let id = child.id().to_string();
    assert!(
        std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success()
    );
    let output = child.wait_with_output().expect("an end");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let line = errors.lines().last().expect("a line");
    let (_, command) = line.split_once(" To go on: ").expect("the command that continues");
    // The first word is the program as it was called.
    command.split_once(' ').expect("a program and its arguments").1.to_owned()
}

#[test]
fn resuming_nothing_is_beginning() {
    let place = Place::with_images();
    let train = |rest: &str| {
        format!("train --config tiny.toml --model {MODEL} --data images --epochs 1 {rest}")
    };
    let begun = place.run(&train("--out missing --resume"));
    let errors = String::from_utf8(begun.stderr).expect("UTF-8");
    assert!(begun.status.success() && errors.contains(&format!("missing {NEW_RUN}")), "{errors}");
    assert_eq!(place.json_file("missing/run.json")["resumed"], false);
    std::fs::create_dir(place.path("empty")).expect("a folder");
    place.ok(&train("--out empty --resume"));
    let weights = place.read("empty/target.safetensors");
    assert_eq!(weights, place.read("missing/target.safetensors"));
    place.ok(&train("--out empty --resume"));
    place.ok("train --out empty --resume");
    assert_eq!(weights, place.read("empty/target.safetensors"), "a finished run is left alone");
    // Another configuration is another run.
    let line = one_line(&place.run(&train("--out empty --resume --seed 9")), 2, "train");
    assert!(line.contains("empty") && line.contains("seed"), "{line}");
}

#[test]
fn two_processes_do_not_share_a_run() {
    let place = Place::with_images();
    let mut first =
        started(&place, &audit("--out run"), "run/checkpoints/target.state.safetensors");
    let line = one_line(&place.run(&audit("--out run --resume")), 2, "audit");
    let still_running = first.try_wait().expect("a status").is_none();
    first.kill().expect("a signal");
    first.wait().expect("an end");
    assert!(still_running && line.contains("run is in use"), "{line}");
}
