//! Features of a network that gpz does not know: attacked from a file, and everything that can be wrong with one.

use serde_json::{Value, json};

use crate::common::{Place, f64_bytes, i64_bytes, noise, npy, npz, one_line};

const SIDE: usize = 16;
/// Epochs and batches with which a decoder learns in no time.
const QUICK: &str = "--decoder per-tap:width=10 --epochs 1 --batch 8";

/// Numbers in [0, 1).
fn numbers(n: usize, from: u64) -> Vec<f64> {
    (0..n as u64).map(|i| (noise(from + i) >> 11) as f64 / (1u64 << 53) as f64).collect()
}

fn z(rows: usize) -> Vec<u8> {
    npy("<f8", &[rows, 4, 4, 4], &f64_bytes(&numbers(rows * 64, 1)))
}

/// Grey pictures of 16×16, floats in [0, 1].
fn x(rows: usize, from: u64) -> Vec<u8> {
    npy("<f8", &[rows, 1, SIDE, SIDE], &f64_bytes(&numbers(rows * SIDE * SIDE, from)))
}

fn y(rows: usize) -> Vec<u8> {
    npy("<i8", &[rows], &i64_bytes(&(0..rows as i64).map(|i| i % 3).collect::<Vec<_>>()))
}

#[test]
fn features_from_a_file_are_attacked() {
    let place = Place::empty();
    place.write("dump.npz", &npz(&[("z", z(30)), ("x", x(30, 9)), ("y", y(30))]));
    let words = format!("invert --features dump.npz {QUICK}");
    let metrics = place.json(&format!("{words} --json --out attack"));
    assert_eq!(metrics, place.json_file("attack/metrics.json"));
    assert_eq!(
        (&metrics["model"], &metrics["index"], &metrics["split"], &metrics["n"]),
        (&json!("unknown"), &Value::Null, &json!("z"), &json!(6))
    );
    for name in ["mse_per_element", "mse_channel_sum", "psnr_db", "ssim"] {
        assert!(metrics[name].is_number(), "{name}: {metrics}");
    }
    let run = place.json_file("attack/run.json");
    assert_eq!(run["finished"], true);
    assert_eq!(run["decoder"], "per-tap:width=10");
    let images: Vec<_> =
        run["parts"].as_array().expect("parts").iter().map(|p| &p["images"]).collect();
    assert_eq!(images, [22, 2, 6]);
    // The first pictures are of different classes.
    let classes: Vec<&Value> =
        run["pictures"].as_array().expect("pictures").iter().map(|p| &p["class"]).collect();
    assert!(classes.len() >= 2 && classes[0] != classes[1], "{classes:?}");
    assert!(classes.iter().all(|class| ["0", "1", "2"].iter().any(|known| *class == known)));
    for file in [
        "checkpoints/decoder_z.safetensors",
        "pictures/grid.png",
        "pictures/original_000.png",
        "config.toml",
    ] {
        assert!(!place.read(&format!("attack/{file}")).is_empty());
    }
    // The command on record repeats the run.
    let command =
        run["command"].as_str().expect("a command").replace("--out attack", "--out again");
    place.ok(command.strip_prefix("gpz ").expect("gpz"));
    assert_eq!(place.read("again/metrics.json"), place.read("attack/metrics.json"));
    // Unless told otherwise, into a directory of its own; for people with the unmirrored cut on stderr.
    let output = place.run(&words);
    let (said, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("z of dump.npz: MSE ") && said.contains("runs/001"), "{said}");
    assert!(
        told.contains("22 rows to learn from, 2 to choose by, 6 to test on")
            && told.contains("not mirrored"),
        "{told}"
    );
    place.refused_naming(&format!("{words} --out attack"), &["attack", "already holds a run"]);
    place.refused_naming(
        "invert --out attack --resume",
        &["attack does not hold a run of gpz invert"],
    );
}

/// Layouts and types are one picture: channels first or last, floats or bytes, in one file or two.
#[test]
fn pictures_come_in_every_layout() {
    let place = Place::empty();
    let rows = 12;
    let bytes: Vec<u8> = (0..rows * SIDE * SIDE * 3).map(|i| noise(i as u64) as u8).collect();
    // [n, h, w, c] of bytes, and the same as [n, c, h, w] of floats.
    let pixels = SIDE * SIDE;
    let planes: Vec<f64> = (0..rows * 3 * pixels)
        .map(|i| {
            let (row, c, p) = (i / (3 * pixels), i / pixels % 3, i % pixels);
            f64::from(bytes[(row * pixels + p) * 3 + c]) / 255.0
        })
        .collect();
    place.write(
        "last.npz",
        &npz(&[("z", z(rows)), ("x", npy("|u1", &[rows, SIDE, SIDE, 3], &bytes))]),
    );
    place.write("z.npy", &z(rows));
    place.write("first.npy", &npy("<f8", &[rows, 3, SIDE, SIDE], &f64_bytes(&planes)));
    let last = place.json(&format!("invert --features last.npz {QUICK} --out a --json"));
    let first =
        place.json(&format!("invert --features z.npy --images first.npy {QUICK} --out b --json"));
    assert_eq!(last, first);
    let sum = last["mse_channel_sum"].as_f64().expect("a number");
    assert!((sum / last["mse_per_element"].as_f64().expect("a number") - 3.0).abs() < 1e-9);
    assert_eq!(
        place.read("a/pictures/original_000.png"),
        place.read("b/pictures/original_000.png")
    );
}

#[test]
fn flags_that_do_not_go_together() {
    let place = Place::empty();
    place.write("dump.npz", &npz(&[("z", z(30)), ("x", x(30, 9))]));
    for flag in [
        "--model cnn4",
        "--weights w.safetensors",
        "--data fashion-mnist",
        "--split 1",
        "--resume",
        "--config c.toml",
        "--aux photos",
        "--resolution 32",
        "--channel bits:1",
        "--prior-tau 0.1",
    ] {
        let name = flag.split(' ').next().expect("a flag");
        place.refused_naming(
            &format!("invert --features dump.npz {flag} --out a"),
            &["--features", name],
        );
    }
    for flag in ["--key z", "--images x.npy", "--test-features t.npz", "--labels-key y"] {
        let words = format!("invert --model cnn4 --weights w --data d --split 1 --out a {flag}");
        place.refused_naming(&words, &["--features"]);
    }
    place.refused_naming(
        "invert --features dump.npz --test-images x.npy --out a",
        &["--test-features"],
    );
    place.refused_naming("invert --features dump.npz --epochs 0 --out a", &["epochs"]);
    place.refused_naming("invert --features dump.npz --decoder mlp --out a", &["mlp", "per-tap"]);
    place.refused_naming("invert --model cnn4", &["--out"]);
}

#[test]
fn features_that_cannot_be_attacked() {
    let place = Place::empty();
    let refused = |arrays: &[(&str, Vec<u8>)], flags: &str, parts: &[&str]| {
        place.write("dump.npz", &npz(arrays));
        place.refused_naming(&format!("invert --features dump.npz {flags}"), parts);
    };
    place.refused_naming("invert --features missing.npz", &["missing.npz"]);
    place.write("text.npz", b"z\n1\n2\n");
    place.refused_naming("invert --features text.npz", &["text.npz", ".safetensors"]);
    // Keys.
    refused(&[("z", z(30)), ("pixels", x(30, 9))], "", &["dump.npz", "x", "pixels, z"]);
    refused(&[("f", z(30)), ("x", x(30, 9))], "", &["dump.npz", "z", "f, x"]);
    refused(&[("z", z(30)), ("x", x(30, 9))], "--labels-key l", &["dump.npz", "l", "x, z"]);
    // Numbers of rows.
    refused(&[("z", z(30)), ("x", x(29, 9))], "", &["dump.npz:x", "29 pictures", "30 rows"]);
    refused(&[("z", z(30)), ("x", x(30, 9)), ("y", y(31))], "", &["dump.npz:y", "31", "30"]);
    place.refused_naming("stats --features dump.npz", &["dump.npz:y", "31", "30"]);
    refused(&[("z", z(9)), ("x", x(9, 9))], "", &["dump.npz:z", "9 rows", "10"]);
    let alike = npy("|u1", &[30, SIDE, SIDE], &[7; 30 * SIDE * SIDE]);
    refused(&[("z", z(30)), ("x", alike)], "", &["dump.npz:z", "among those of the test part"]);
    // Shapes.
    let odd = npy("<f8", &[30, 2, SIDE, SIDE], &f64_bytes(&numbers(30 * 512, 3)));
    refused(&[("z", z(30)), ("x", odd)], "", &["dump.npz:x", "[30, 2, 16, 16]", "channels"]);
    let wide = npy("<f8", &[30, 1, SIDE, 24], &f64_bytes(&numbers(30 * 384, 3)));
    refused(
        &[("z", z(30)), ("x", wide)],
        "",
        &["dump.npz:z", "[4, 4, 4]", "[1, 16, 24]", "--decoder"],
    );
    let small = npy("<f8", &[30, 1, 8, 8], &f64_bytes(&numbers(30 * 64, 3)));
    refused(&[("z", z(30)), ("x", small)], "", &["dump.npz:x", "8x8", "11x11", "SSIM"]);
    refused(&[("z", y(30)), ("x", x(30, 9))], "", &["dump.npz:z", "[30]"]);
    // Values.
    let with = |mut values: Vec<f64>, at: usize, value: f64| {
        values[at] = value;
        values
    };
    let bad =
        |value| npy("<f8", &[30, 64], &f64_bytes(&with(numbers(30 * 64, 1), 5 * 64 + 3, value)));
    refused(
        &[("z", bad(f64::NAN)), ("x", x(30, 9))],
        "",
        &["dump.npz:z", "row 5", "column 3", "NaN"],
    );
    refused(&[("z", bad(1e60)), ("x", x(30, 9))], "", &["dump.npz:z", "row 5", "1e60", "rescale"]);
    let pixels = |values: &[f64]| npy("<f8", &[30, SIDE, SIDE], &f64_bytes(values));
    let inked = with(numbers(30 * 256, 9), 7 * 256, f64::INFINITY);
    refused(&[("z", z(30)), ("x", pixels(&inked))], "", &["dump.npz:x", "row 7", "inf"]);
    let bytes: Vec<f64> = numbers(30 * 256, 9).iter().map(|v| (v * 255.0).round()).collect();
    refused(
        &[("z", z(30)), ("x", pixels(&bytes))],
        "",
        &["dump.npz:x", "between 0 and 255", "divide them by 255"],
    );
    let normalised: Vec<f64> = numbers(30 * 256, 9).iter().map(|v| v * 4.0 - 2.0).collect();
    refused(
        &[("z", z(30)), ("x", pixels(&normalised))],
        "",
        &["dump.npz:x", "-1.99", "before they were normalised"],
    );
    let counts = npy("<i8", &[30, SIDE, SIDE], &i64_bytes(&[1; 30 * 256]));
    refused(&[("z", z(30)), ("x", counts)], "", &["dump.npz:x", "uint8"]);
    // More than there is memory, by the header's word.
    let vast = npy("<f8", &[30, 1 << 45], &f64_bytes(&[1.0; 60]));
    refused(&[("z", vast), ("x", x(30, 9))], "", &["dump.npz:z", "30 features", "memory", "pool"]);
    let vector = npy("<f8", &[30, 1 << 22], &f64_bytes(&[1.0; 60]));
    refused(&[("z", vector), ("x", x(30, 9))], "", &["dump.npz:z", "vit", "memory", "--decoder"]);
    // One array in a file.
    place.write("z.npy", &z(30));
    place.refused_naming("invert --features z.npy", &["z.npy", "pictures", "--images"]);
    place.refused_naming("invert --features z.npy --labels-key y", &["z.npy", "--labels-key"]);
    place.write("cut.npy", &z(30)[..900]);
    place.refused_naming("invert --features cut.npy --images z.npy", &["cut.npy", "truncated"]);
}

#[test]
fn test_features_that_do_not_fit() {
    let place = Place::empty();
    place.write("dump.npz", &npz(&[("z", z(30)), ("x", x(30, 9))]));
    let refused = |arrays: &[(&str, Vec<u8>)], parts: &[&str]| {
        place.write("test.npz", &npz(arrays));
        place.refused_naming(
            &format!("invert --features dump.npz --test-features test.npz {QUICK}"),
            parts,
        );
    };
    let other = npy("<f8", &[12, 64], &f64_bytes(&numbers(12 * 64, 3)));
    refused(
        &[("z", other), ("x", x(12, 70_000))],
        &["test.npz:z", "[64]", "dump.npz:z", "[4, 4, 4]"],
    );
    let wide = npy("<f8", &[12, 1, SIDE, 32], &f64_bytes(&numbers(12 * 512, 3)));
    refused(&[("z", z(12)), ("x", wide)], &["test.npz:x", "[1, 16, 32]", "dump.npz:x"]);
    refused(&[("z", z(12))], &["test.npz", "x"]);
    place.refused_naming(
        &format!("invert --features dump.npz --test-features dump.npz {QUICK}"),
        &["dump.npz:z", "0 rows whose pictures are not among those of the test part"],
    );
    place.write("test.npz", &npz(&[("z", z(12)), ("x", x(12, 70_000))]));
    let metrics =
        place.json(&format!("invert --features dump.npz --test-features test.npz {QUICK} --json"));
    assert_eq!(metrics["n"], 12);
}

/// Ctrl-C ends the run after its step: status 1, one last line, no directory.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let place = Place::empty();
    place.write("dump.npz", &npz(&[("z", z(200)), ("x", x(200, 9))]));
    let before = place.listing();
    let words =
        "invert --features dump.npz --decoder per-tap:width=10 --epochs 100000 --out attack";
    let mut child = place
        .command(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
    // The cut is said when the attack begins.
    let mut line = String::new();
    while !line.contains("to learn from") {
        line.clear();
        assert!(errors.read_line(&mut line).expect("text") > 0, "it ended too soon");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("text");
    let mut output = child.wait_with_output().expect("it ends");
    output.stderr =
        rest.lines().last().map(|line| format!("{line}\n")).unwrap_or_default().into_bytes();
    let line = one_line(&output, 1, words);
    assert!(line.contains("stopped") && line.contains("nothing was written"), "{line}");
    assert_eq!(place.listing(), before);
}
