//! Everything a person can get wrong: one line on stderr, nothing on stdout, status 2, nothing left behind.

use std::fs;

use crate::common::{
    MODEL, Place, f64_bytes, i64_bytes, npy, npz, one_line, picture, write_class_folders,
    write_idx, write_png,
};

/// An audit of tiny settings.
fn audit(rest: &str) -> String {
    format!("audit --config tiny.toml --model {MODEL} --target-epochs 1 --attack-epochs 1 {rest}")
}

#[test]
fn data_that_is_not_there_or_not_data() {
    let place = Place::with_images();
    place.refused_naming("data verify nowhere/at/all", &["nowhere/at/all", "fashion-mnist"]);
    place.refused_naming(&audit("--data nowhere --out run"), &["nowhere"]);
    fs::create_dir(place.path("empty")).expect("a folder");
    place.refused_naming(&audit("--data nowhere --out empty"), &["nowhere"]);
    place.refused_naming("data verify tiny.toml", &["tiny.toml"]);
    fs::create_dir(place.path("hollow")).expect("a folder");
    place.refused_naming("data verify hollow", &["hollow"]);
}

#[test]
fn damaged_and_truncated_files_of_a_set() {
    let place = Place::empty();
    let labels: Vec<u8> = (0..60).map(|i| i % 3).collect();
    write_idx(&place, "set", &labels, &labels[..12]);
    place.ok("data verify set");
    let images = "set/train-images-idx3-ubyte";
    let whole = place.read(images);
    place.write(images, &whole[..whole.len() / 2]);
    place.refused_naming("data verify set", &[images, "truncated"]);
    place.write(images, &[0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    place.refused_naming("data verify set", &[images, "gzip"]);
}

#[test]
fn counts_and_labels_that_cannot_be() {
    let place = Place::empty();
    let labels: Vec<u8> = (0..60).map(|i| i % 3).collect();
    write_idx(&place, "short", &labels, &labels[..12]);
    write_idx(&place, "other", &labels[..57], &labels[..12]);
    let name = "train-labels-idx1-ubyte";
    place.write(&format!("short/{name}"), &place.read(&format!("other/{name}")));
    place.refused_naming("data verify short", &["60", "57", name]);
    write_idx(&place, "range", &labels, &[0, 1, 2, 7]);
    place.refused_naming("data verify range", &["t10k-labels", "label 7"]);
    let gap: Vec<u8> = labels.iter().map(|label| label * 2).collect();
    write_idx(&place, "gap", &gap, &gap[..12]);
    place.refused_naming("data verify gap", &["class 1", "no images"]);
}

#[test]
fn pictures_that_do_not_fit() {
    let place = Place::with_images();
    let one = place.path("images/train/class1/003.png");
    let whole = fs::read(&one).expect("a picture");
    fs::write(&one, &whole[..whole.len() / 2]).expect("a file");
    place.refused_naming("data verify images", &["class1/003.png"]);
    fs::write(&one, b"<html>not found</html>").expect("a file");
    place.refused_naming("data verify images", &["class1/003.png", "PNG", "<html"]);
    write_png(&one, &picture(1, 3, 8), 8);
    place.refused_naming("data verify images", &["class1/003.png", "8x8"]);
    image::RgbImage::new(16, 16).save(&one).expect("a picture");
    place.refused_naming("data verify images", &["class1/003.png", "channel"]);
    fs::write(&one, whole).expect("a file");
    fs::create_dir(place.path("images/train/class3")).expect("a folder");
    place.refused_naming("data verify images", &["class3"]);
}

#[test]
fn names_that_nothing_has() {
    let place = Place::with_images();
    place.train_target();
    place.refused_naming("models cnn5", &["cnn5", "cnn4"]);
    place.refused_naming("models cnn4:depth=3", &["depth", "width"]);
    place.refused_naming("models cnn4:width=0", &["width", "0"]);
    place.refused_naming("models cnn4 --input 1x60x64", &["60", "16"]);
    place.refused_naming("models cnn4 --classes 1", &["classes", "1"]);
    place.refused_naming("audit --preset qiuck", &["qiuck", "quick"]);
    place.refused_naming("audit --quick", &["--quick"]);
    place.refused_naming("adit", &["adit", "audit"]);
    place.refused_naming(&audit("--model cnn5 --data images"), &["cnn5"]);
    let features = format!(
        "features --model {MODEL} --weights target/target.safetensors --input images --resolution 16"
    );
    place.refused_naming(
        &format!("{features} --split block9 --out z.safetensors"),
        &["block9", "block1", "block4"],
    );
    place.refused_naming(&format!("{features} --split 0 --out z.safetensors"), &["0", "1 to 4"]);
    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --out attack"
    );
    place.refused_naming(&format!("{invert} --split block9"), &["block9"]);
    place.refused_naming(&format!("{invert} --split 1 --attack rmle"), &["rmle", "inverse"]);
    for wrong in ["noise:-1", "noise:", "bits:0", "bits:33", "fp8"] {
        let words = format!("stats --features tiny.toml --channel {wrong}");
        place.refused_naming(&words, &[wrong, "noise:SIGMA", "none"]);
    }
    place.refused_naming(
        &format!("train --model {MODEL} --data images --labels ls:2 --out t"),
        &["ls:2"],
    );
    place.refused_naming("data fetch", &["fetch"]);
    place.refused_naming("audit --device gpu", &["gpu", "auto, cpu, cuda and cuda:N"]);
    place.refused_naming("audit --device cuda:first", &["cuda:first", "cuda:N"]);
    place.refused_naming("audit --precision f16", &["f16", "tf32"]);
    place.refused_naming("audit --batch none", &["--batch"]);
}

#[test]
fn configurations_that_cannot_be() {
    let place = Place::with_images();
    for (text, named) in [
        ("sede = 1", "sede"),
        ("[target.training]\nepoch = 1", "epoch"),
        ("resolution = 0", "resolution"),
        ("resamples = 3", "resamples"),
        ("resamples = 1000000000000", "take 1000000 at most"),
        ("[attack.training]\nbatch = 1", "attack.training.batch"),
        ("seed =", "line 1"),
    ] {
        place.write("wrong.toml", text.as_bytes());
        place.refused_naming("audit --config wrong.toml --out run", &[named]);
    }
    place.refused_naming("audit --config missing.toml", &["missing.toml"]);
    place.refused_naming("audit --seed -1", &["-1"]);
    place.refused_naming("audit --target-epochs 0", &["epochs"]);
    place.refused_naming("--threads 0 devices", &["--threads"]);
    place.refused_naming("audit --max-ssim 7", &["ssim", "7"]);
    place.refused_naming("audit --max-ssim -7", &["ssim", "-7"]);
    place.refused_naming("audit --max-psnr inf", &["psnr", "inf"]);
}

/// Twenty training images of a class leave two to validate, whose spread has no interval: said before the training.
#[test]
fn classes_too_small_to_be_measured() {
    let place = Place::with_images();
    write_class_folders(&place.path("few/train"), 20);
    write_class_folders(&place.path("few/test"), 5);
    place.refused_naming(
        &audit("--data few --out run"),
        &["class class", "2 images in part target-validation", "needs 3", "30 training images"],
    );
    // Without test images a class needs more.
    write_class_folders(&place.path("alone"), 30);
    place.refused_naming(&audit("--data alone --out run"), &["target-validation", "38"]);
}

/// Sizes that are legal each for itself and that no machine holds.
#[test]
fn more_than_fits_into_memory() {
    let place = Place::with_images();
    place.train_target();
    let wide = "cnn4:width=512";
    let memory = ["cnn4:width=512", "8192×8192", "memory", "resolution"];
    place.refused_naming(
        &format!("features --model {wide} --weights target/target.safetensors --input images --resolution 8192 --split 1 --out z.safetensors"),
        &memory,
    );
    place.write("vast.toml", b"resolution = 8192");
    place.refused_naming(
        &format!("audit --config vast.toml --model {wide} --data images --out run"),
        &memory,
    );
    place.refused_naming(
        &format!("train --config vast.toml --model {wide} --data images --out run"),
        &memory,
    );
    place.write("wide.npz", &npz(&[("z", npy("<f4", &[2, 1 << 45], &[0; 64]))]));
    place.refused_naming("stats --features wide.npz", &["wide.npz:z", "memory", "pool"]);
}

/// What goes on must have begun, and what begins must be told with what.
#[test]
fn runs_that_nothing_describes() {
    let place = Place::with_images();
    place.train_target();
    place.refused_naming("train --out typo --resume", &["--model and --data", "--resume"]);
    place.refused_naming("invert --out typo --resume", &["--weights", "--split"]);
    place.refused_naming("train --config tiny.toml --out run", &["--model and --data"]);
    place
        .write("half.toml", b"resolution = 16\ndata = \"images\"\n[target.training]\nbatch = 16\n");
    place.write("wrong.toml", b"seed =");
    place.refused_naming("train --config wrong.toml --out run", &["wrong.toml", "line 1"]);
    place.refused_naming("train --config half.toml --out run", &["needs --model (or"]);
    place.ok(&format!("train --config half.toml --model {MODEL} --epochs 1 --out run"));
    // Another command's directory, whatever stands in its configuration.
    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights target/target.safetensors --data images --split 1 --epochs 1 --out attack"
    );
    place.ok(&invert);
    place.refused_naming(
        "train --out attack --resume",
        &["attack does not hold a run of gpz train"],
    );
    place.refused_naming(
        "audit --out attack --resume",
        &["attack does not hold a run of gpz audit"],
    );
    place.refused_naming(
        "audit --out target --resume",
        &["target does not hold a run of gpz audit"],
    );
    place.refused_naming(
        "invert --out target --resume",
        &["target does not hold a run of gpz invert"],
    );
    let text = String::from_utf8(place.read("attack/config.toml")).expect("UTF-8");
    place.write("rmle.toml", text.replace("\"inverse\"", "\"rmle\"").as_bytes());
    place
        .refused_naming("invert --config rmle.toml --out other", &["rmle.toml", "rmle", "inverse"]);
    // A configuration that somebody has spoilt is named.
    place.write("attack/config.toml", text.replace("seed", "sede").as_bytes());
    place.refused_naming("invert --out attack --resume", &["attack/config.toml", "sede"]);
}

#[test]
fn places_that_cannot_be_written() {
    let place = Place::with_images();
    place.train_target();
    place.write("file", b"in the way");
    for out in ["file", "file/below", "file/far/below"] {
        place.refused_naming(&audit(&format!("--data images --out {out}")), &[out]);
        place.refused_naming(&format!("train --model {MODEL} --data images --out {out}"), &[out]);
    }
    let features = format!(
        "features --model {MODEL} --weights target/target.safetensors --input images --resolution 16 --split 1"
    );
    place.refused_naming(&format!("{features} --out file/z.safetensors"), &["file/z.safetensors"]);
    place.refused_naming(&format!("{features} --out images"), &["images"]);
    place.refused_naming(
        &format!("{features} --out nowhere/z.safetensors"),
        &["nowhere/z.safetensors"],
    );
    // A directory that holds a run, or somebody else's files.
    place.refused_naming(
        &format!("train --model {MODEL} --data images --out target"),
        &["target", "--resume"],
    );
    place.refused_naming(&audit("--data images --out target"), &["target", "--resume"]);
    place.refused_naming(&audit("--data images --out images"), &["images"]);
}

#[test]
fn weights_that_do_not_fit() {
    let place = Place::with_images();
    place.train_target();
    let with = |model: &str, weights: &str| {
        format!(
            "features --model {model} --weights {weights} --input images --resolution 16 --split 1 --out z.safetensors"
        )
    };
    place
        .refused_naming(&with(MODEL, "missing.safetensors"), &["missing.safetensors", "--weights"]);
    // Before a set is read that may take minutes.
    place.refused_naming(
        &audit("--data nowhere --weights missing.safetensors --out run"),
        &["missing.safetensors"],
    );
    let early =
        with(MODEL, "target/target.safetensors").replace("--input images", "--input nowhere");
    place.refused_naming(&early.replace("--split 1", "--split 9"), &["unknown split"]);
    place.refused_naming(
        &early.replace("--resolution 16", "--resolution 20"),
        &["20", "multiples of 16"],
    );
    place.refused_naming(
        &with("cnn4:width=4", "target/target.safetensors"),
        &["target.safetensors", "another network"],
    );
    place.refused_naming(&with(MODEL, "tiny.toml"), &["tiny.toml", "safetensors"]);
    let whole = place.read("target/target.safetensors");
    let mut spoilt = whole.clone();
    let key = {
        let tensors = safetensors::SafeTensors::deserialize(&whole).expect("weights");
        let (bias, place_of) =
            (tensors.tensor("fc.2.bias").expect("a bias"), whole.as_ptr() as usize);
        let at = bias.data().as_ptr() as usize - place_of;
        spoilt[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        "fc.2.bias"
    };
    place.write("nan.safetensors", &spoilt);
    place.refused_naming(&with(MODEL, "nan.safetensors"), &["nan.safetensors", key, "NaN"]);
    place.write("cut.safetensors", &whole[..whole.len() - 9]);
    place.refused_naming(&with(MODEL, "cut.safetensors"), &["cut.safetensors"]);
    place.refused_naming(
        &audit("--data images --weights cut.safetensors --out run"),
        &["cut.safetensors"],
    );
    place.refused_naming(
        &format!("invert --config tiny.toml --model {MODEL} --weights cut.safetensors --data images --split 1 --out run"),
        &["cut.safetensors"],
    );
}

#[test]
fn features_that_have_no_statistics() {
    let place = Place::empty();
    let z = |values: &[f64]| npy("<f8", &[values.len() / 2, 2], &f64_bytes(values));
    let y = |labels: &[i64]| npy("<i8", &[labels.len()], &i64_bytes(labels));
    let good = [1.0, 2.0, 3.0, 5.0, 4.0, 4.0];
    place.write("good.npz", &npz(&[("z", z(&good)), ("y", y(&[0, 1, 0]))]));
    place.ok("stats --features good.npz");
    place.refused_naming(
        "stats --features good.npz --memory 1B",
        &["good.npz:z", "--memory", "pool"],
    );
    for wrong in ["bf16", "bits:", "bits:1,0", "noise:1,x"] {
        place.refused_naming(&format!("stats --features good.npz --sweep {wrong}"), &["--sweep"]);
    }
    place.refused_naming("stats --features good.npz --key w", &["good.npz", "w", "y, z"]);
    place.refused_naming("stats --features good.npz --labels-key l", &["good.npz", "l"]);
    place.refused_naming("stats --features missing.npz", &["missing.npz"]);
    place.write("count.npz", &npz(&[("z", z(&good)), ("y", y(&[0, 1]))]));
    place.refused_naming("stats --features count.npz", &["count.npz:y", "2", "3"]);
    place.write("label.npz", &npz(&[("z", z(&good)), ("y", y(&[0, -1, 0]))]));
    place.refused_naming("stats --features label.npz", &["label.npz:y", "-1", "row 1"]);
    place.write("huge.npz", &npz(&[("z", z(&good)), ("y", y(&[0, i64::MAX, 0]))]));
    place.refused_naming("stats --features huge.npz", &["huge.npz:y", "row 1"]);
    place.write("nan.npy", &z(&[1.0, 2.0, 3.0, f64::NAN, 4.0, 4.0]));
    place.refused_naming("stats --features nan.npy", &["nan.npy", "row 1", "column 1", "NaN"]);
    place.write("short.npy", &z(&good)[..140]);
    place.refused_naming("stats --features short.npy", &["short.npy", "truncated"]);
    place.write("none.npy", &npy("<f8", &[0, 2], &[]));
    place.refused_naming("stats --features none.npy", &["none.npy", "[0, 2]"]);
    place.refused_naming("stats --features nan.npy --labels-key y", &["--labels-key"]);
    place.write("text.npy", b"z\n1\n2\n");
    place.refused_naming("stats --features text.npy", &["text.npy", ".safetensors"]);
    // A shape that multiplies to more than there is memory.
    place.write("large.npy", &npy("<f8", &[1 << 40, 1 << 40], &f64_bytes(&good)));
    place.refused("stats --features large.npy");
}

#[test]
fn images_that_cannot_be_compared() {
    let place = Place::empty();
    write_png(&place.path("a/0.png"), &picture(0, 0, 16), 16);
    write_png(&place.path("a/1.png"), &picture(1, 1, 16), 16);
    write_png(&place.path("b/0.png"), &picture(0, 2, 16), 16);
    write_png(&place.path("small.png"), &picture(0, 2, 8), 8);
    place.write("x.npy", &npy("|u1", &[2, 16, 16], &[7; 512]));
    place.write("wide.npy", &npy("|u1", &[2, 16, 32], &[7; 1024]));
    place.write("odd.npy", &npy("|u1", &[2, 16, 16, 2], &[7; 1024]));
    place.write("cut.png", &place.read("a/0.png")[..60]);
    let metrics = |a: &str, b: &str| format!("metrics --reference {a} --candidate {b}");
    place.refused_naming(&metrics("a", "b"), &["a/1.png"]);
    place.refused_naming(&metrics("a/0.png", "small.png"), &["small.png", "8x8"]);
    place.refused_naming(&metrics("small.png", "small.png"), &["11"]);
    place.refused_naming(&metrics("a", "x.npy"), &["a", "x.npy"]);
    place.refused_naming(&metrics("x.npy", "wide.npy"), &["wide.npy", "16x32"]);
    place.refused_naming(&metrics("odd.npy", "odd.npy"), &["odd.npy", "[2, 16, 16, 2]"]);
    place.refused_naming(&metrics("missing.npy", "x.npy"), &["missing.npy"]);
    place.refused_naming(&metrics("cut.png", "a/0.png"), &["cut.png"]);
    let mut values = vec![0.5; 256];
    place.write("fine.npy", &npy("<f8", &[1, 16, 16], &f64_bytes(&values)));
    values[3] = f64::NAN;
    place.write("nan.npy", &npy("<f8", &[1, 16, 16], &f64_bytes(&values)));
    place.refused_naming(&metrics("fine.npy", "nan.npy"), &["nan.npy", "image 0", "NaN"]);
    place.refused_naming(&metrics("nan.npy", "fine.npy"), &["nan.npy", "image 0", "NaN"]);
    place.refused_naming(&format!("{} --range 0", metrics("x.npy", "x.npy")), &["--range 0"]);
    place.refused_naming(&format!("{} --range nan", metrics("x.npy", "x.npy")), &["--range"]);
}

#[test]
fn a_report_of_nothing() {
    let place = Place::with_images();
    place.train_target();
    place.refused_naming("report nowhere", &["nowhere"]);
    place.refused_naming("report target", &["target holds no finished audit", "run.json"]);
}

/// NaN in a loss is no fault of the input's form: status 1, with the step.
#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let place = Place::with_images();
    place.write(
        "tiny.toml",
        b"resolution = 16\n[target.training]\nbatch = 16\nlearning_rate = 1e300\n",
    );
    let words =
        format!("train --config tiny.toml --model {MODEL} --data images --epochs 3 --out run");
    let output = place.run(&words);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(output.stdout.is_empty());
    let line = errors.lines().last().unwrap_or_default();
    assert!(
        line.starts_with("gpz: ") && line.contains("step") && line.contains("target"),
        "{line}"
    );
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn no_arguments_and_bad_ones() {
    let place = Place::empty();
    let help = place.run("");
    assert_eq!(help.status.code(), Some(2));
    assert!(help.stdout.is_empty(), "help that was not asked for is a message");
    let line = one_line(&place.run("train --out x"), 2, "train");
    assert!(line.contains("--model") && line.contains("--data"), "{line}");
}
