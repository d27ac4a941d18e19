//! LPIPS with weights that the tests make up. With the weights themselves: `scripts/check-lpips`.

use serde_json::{Value, json};

use crate::common::{MODEL, Place, f64_bytes, noise, npy, picture, write_png};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-6, "{got} instead of {want}");
}

/// Number, input channels, output channels and side of AlexNet's convolutions.
const CONVOLUTIONS: [(usize, usize, usize, usize); 5] =
    [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)];

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Tensors of the right names and shapes, from a hash.
fn weights() -> Tensors {
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize], low: f32, high: f32| {
        let seed = (tensors.len() as u64) << 32;
        let uniform = |i: usize| (noise(seed + i as u64) >> 40) as f32 / (1u32 << 24) as f32;
        let count: usize = shape.iter().product();
        let values = (0..count).map(|i| low + (high - low) * uniform(i)).collect();
        tensors.push((name, shape.to_vec(), values));
    };
    for (k, (place, inputs, outputs, side)) in CONVOLUTIONS.into_iter().enumerate() {
        let bound = (6.0 / (inputs * side * side) as f32).sqrt();
        add(format!("features.{place}.weight"), &[outputs, inputs, side, side], -bound, bound);
        add(format!("features.{place}.bias"), &[outputs], -0.1, 0.1);
        add(format!("lin{k}.weight"), &[1, outputs, 1, 1], 0.0, 1.0);
    }
    tensors
}

fn safetensors_file(tensors: &Tensors) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|t| t.2.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("a tensor"))
    });
    safetensors::serialize(views, None).expect("a file")
}

#[test]
fn metrics_measure_it_on_request() {
    let place = Place::empty();
    place.write("w.safetensors", &safetensors_file(&weights()));
    for i in 0..3 {
        write_png(&place.path(&format!("a/{i}.png")), &picture(i % 3, i, 32), 32);
        write_png(&place.path(&format!("b/{i}.png")), &picture((i + 1) % 3, i, 32), 32);
    }
    let metrics = |rest: &str| place.json(&format!("metrics --json {rest}"));
    let with = metrics("--reference a --candidate b --lpips-weights w.safetensors");
    let lpips = number(&with["lpips"]);
    assert!(lpips > 0.001, "{lpips}");
    let mut without = with.clone();
    without.as_object_mut().expect("an object").remove("lpips");
    assert_eq!(metrics("--reference a --candidate b"), without);
    // Of a folder it is the mean over its pictures.
    let each = (0..3).map(|i| {
        let pair = format!("--reference a/{i}.png --candidate b/{i}.png");
        number(&metrics(&format!("{pair} --lpips-weights w.safetensors"))["lpips"])
    });
    near(each.sum::<f64>() / 3.0, lpips);
    let swapped = metrics("--reference b --candidate a --range 255 --lpips-weights w.safetensors");
    near(number(&swapped["lpips"]), lpips);
    let same = metrics("--reference a --candidate a --lpips-weights w.safetensors");
    assert_eq!(same["lpips"], json!(0.0));
    let line = place.ok("metrics --reference a --candidate b --lpips-weights w.safetensors");
    assert!(line.contains(&format!(", LPIPS {lpips:.4}, range 1")), "{line}");
}

#[test]
fn runs_measure_it_on_request() {
    let place = Place::with_images();
    place.write("w.safetensors", &safetensors_file(&weights()));
    let tiny = String::from_utf8(place.read("tiny.toml")).expect("UTF-8");
    place.write("lpips.toml", tiny.replace("resolution = 16", "resolution = 32").as_bytes());
    let run =
        format!("--config lpips.toml --model {MODEL} --data images --lpips-weights w.safetensors");
    let file =
        place.json(&format!("audit {run} --target-epochs 1 --attack-epochs 1 --out run --json"));
    for split in file["splits"].as_array().expect("splits") {
        let attack = &split["attack"];
        let (lpips, ci) = (number(&attack["lpips"]), &attack["ci"]["lpips"]);
        assert!(number(&ci[0]) < lpips && lpips < number(&ci[1]), "{lpips} in {ci}");
    }
    let csv = String::from_utf8(place.read("run/splits.csv")).expect("UTF-8");
    let cells: Vec<&str> = csv.lines().filter_map(|line| line.rsplit(',').next()).collect();
    assert_eq!((cells.len(), cells[0]), (5, "lpips"));
    assert_eq!(cells[4].parse(), Ok(number(&file["splits"][3]["attack"]["lpips"])));
    let page = String::from_utf8(place.read("run/report.html")).expect("UTF-8");
    assert!(page.contains("<th>LPIPS</th>") || page.contains(">LPIPS<"), "no column");
    let config = String::from_utf8(place.read("run/config.toml")).expect("UTF-8");
    assert!(config.contains("lpips_weights = \"w.safetensors\""), "{config}");
    let command = place.json_file("run/run.json")["command"].clone();
    assert!(
        command.as_str().is_some_and(|c| c.contains("--lpips-weights w.safetensors")),
        "{command}"
    );

    let weights = "--weights run/checkpoints/target.safetensors --split 4 --epochs 1";
    let metrics = place.json(&format!("invert {run} {weights} --out attack --json"));
    let lpips = number(&metrics["lpips"]);
    assert!(lpips > 0.0 && number(&metrics["ci"]["lpips"][1]) > lpips, "{metrics}");
    // A finished run needs the weights no more.
    std::fs::remove_file(place.path("w.safetensors")).expect("the file");
    assert_eq!(place.json("invert --out attack --resume --json"), metrics);
}

#[test]
fn weights_and_pictures_that_do_not_fit() {
    let place = Place::with_images();
    let good = weights();
    write_png(&place.path("a.png"), &picture(0, 0, 32), 32);
    write_png(&place.path("small.png"), &picture(0, 0, 30), 30);
    let metrics = |pictures: &str, weights: &str| {
        format!("metrics --reference {pictures} --candidate {pictures} --lpips-weights {weights}")
    };
    let with = |name: &str, tensors: &Tensors| {
        place.write(name, &safetensors_file(tensors));
        metrics("a.png", name)
    };
    let makes = "scripts/make-lpips-weights";
    place.refused_naming(
        &metrics("a.png", "none.safetensors"),
        &["none.safetensors", makes, "--lpips-weights"],
    );
    place.write("text.safetensors", b"no such file at all");
    place.refused_naming(
        &metrics("a.png", "text.safetensors"),
        &["text.safetensors", "LPIPS", makes],
    );
    let (first, rest) = (good[..1].to_vec(), good[1..].to_vec());
    place.refused_naming(
        &with("rest.safetensors", &rest),
        &["rest.safetensors", "lacks features.0.weight;", makes],
    );
    place.refused_naming(
        &with("first.safetensors", &first),
        &["lacks features.0.bias, features.10.bias", "11 more"],
    );
    let mut other = good.clone();
    other[0] = (other[0].0.clone(), vec![64, 3, 3, 3], vec![0.0; 1728]);
    place.refused_naming(
        &with("vgg.safetensors", &other),
        &["[64, 3, 3, 3] instead of [64, 3, 11, 11]"],
    );
    let mut bad = good.clone();
    bad[4].2[3] = f32::NAN;
    place.refused_naming(
        &with("nan.safetensors", &bad),
        &["nan.safetensors", "NaN", "features.3.bias"],
    );
    let mut more = good.clone();
    more.push(("lin5.weight".to_owned(), vec![1], vec![0.0]));
    place.refused_naming(&with("more.safetensors", &more), &["besides lin5.weight"]);

    place.write("w.safetensors", &safetensors_file(&good));
    place.refused_naming(&metrics("small.png", "w.safetensors"), &["small.png", "30x30", "31x31"]);
    place.write("small.npy", &npy("<f8", &[2, 64, 30], &f64_bytes(&[0.5; 3840])));
    place.refused_naming(&metrics("small.npy", "w.safetensors"), &["small.npy", "64x30", "31x31"]);
    // Before anything is trained.
    let run = format!("--config tiny.toml --model {MODEL} --data images");
    place.refused_naming(
        &format!("audit {run} --lpips-weights w.safetensors --out run"),
        &["lpips_weights", "31x31", "16"],
    );
    place.write("large.toml", b"resolution = 32\n");
    let run = format!("--config large.toml --model {MODEL} --data images");
    place.refused_naming(
        &format!("audit {run} --lpips-weights nan.safetensors --out run"),
        &["nan.safetensors"],
    );
    place.refused_naming(
        &format!("invert {run} --weights w.safetensors --split 1 --lpips-weights none.safetensors --out run"),
        &["none.safetensors"],
    );
}
