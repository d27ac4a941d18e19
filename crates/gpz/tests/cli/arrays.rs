//! What `gpz stats` and `gpz metrics` find in arrays and pictures: figures that can be worked out by hand.

use serde_json::{Value, json};

use crate::common::{
    Place, f64_bytes, i64_bytes, keys, near, noise, npy, npz, number, picture, quantity, write_png,
};

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
