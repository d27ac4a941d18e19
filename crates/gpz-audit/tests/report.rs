//! The report as a page: self-contained, escaped, whole, and the same when it is rebuilt from its directory.

mod common;

use std::sync::LazyLock;

use common::Plan;
use gpz_audit::Error;
use gpz_audit::declared::Declared;
use gpz_audit::pictures::{Picture, encode_png};
use gpz_audit::report::{self, ReportInput};
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::splits::LeakageBound;
use gpz_estimators::Kind;

/// A run and its page; the deep one takes a while, so all tests look at the same.
static QUICK: LazyLock<(ReportInput, String)> = LazyLock::new(|| page(&Plan::quick()));
static DEEP: LazyLock<(ReportInput, String)> = LazyLock::new(|| page(&Plan::deep()));

fn page(plan: &Plan) -> (ReportInput, String) {
    let input = common::run(plan);
    let page = report::render(&input).unwrap();
    (input, page)
}

/// The page with the embedded pictures, whose letters mean nothing, taken out.
fn without_pictures(page: &str) -> String {
    let mut pieces = page.split("src=\"");
    let first = pieces.next().unwrap_or_default().to_string();
    pieces.fold(first, |text, piece| text + piece.split_once('"').expect("a closing quote").1)
}

/// Checks that every element is closed in the order it was opened.
fn assert_balanced(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    // The style sheet holds no "<"; texts have theirs escaped.
    for tag in page.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').expect("a tag that ends");
        let name = inside.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes something else");
        } else if !VOID.contains(&name) && !inside.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    for (_, page) in [&*QUICK, &*DEEP] {
        assert_balanced(page);
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
        assert!(page.contains("default-src 'none'; img-src data:;"));
        for source in page.split("src=\"").skip(1) {
            assert!(source.starts_with("data:image/png;base64,"), "{}", &source[..40]);
        }
        let without_namespace =
            without_pictures(page).replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for forbidden in [
            "http:",
            "https:",
            "<script",
            "<link",
            "href=",
            "url(",
            "@import",
            "<iframe",
            "NaN",
            "undefined",
        ] {
            assert!(!without_namespace.contains(forbidden), "{forbidden}");
        }
    }
}

#[test]
fn four_taps_are_called_a_demonstration() {
    let (input, page) = &*QUICK;
    assert!(page.contains("No cut of cnn4 stands out. At the least leaky, block4,"));
    assert!(page.contains("Four taps: too few places to tell a turn from a trend. This is a demonstration, not an audit."));
    assert!(page.contains("No bound: no channel declared"));
    assert!(page.contains("this attack lags behind a deeper one"));
    for mark in ["<b>best</b>", "<b>worst</b>"] {
        assert_eq!(page.matches(mark).count(), input.splits.splits.len(), "{mark}");
    }
    for file in
        [files::SPLITS_JSON, files::SPLITS_CSV, files::RUN_JSON, files::CHOICE_JSON, files::CONFIG]
    {
        assert!(page.contains(file), "{file}");
    }
}

/// What was loaded may have learnt from anything; what was resumed has times of its last part alone; what is bounded is not unbounded.
#[test]
fn the_page_follows_what_is_known_of_the_run() {
    let (input, usual) = &*QUICK;
    let mut other = input.clone();
    other.run.target.loaded_from = Some("mine.safetensors".to_owned());
    other.run.provenance.resumed = true;
    other.run.provenance.threads = 1;
    for split in &mut other.splits.splits {
        split.leakage_bound = Some(bits(1));
    }
    let other = report::render(&other).unwrap();
    for (text, usually, now) in [
        ("test images nobody trained on", true, false),
        ("test images no attack trained on", false, true),
        ("neither the network nor an attacker was trained on", true, false),
        ("part, which the network was not trained on", true, false),
        ("was not trained here but loaded from mine.safetensors", false, true),
        ("Time since the run was last resumed: ", false, true),
        ("No bound: no channel declared", true, false),
        (", 1 thread (the figures", false, true),
    ] {
        assert_eq!((usual.contains(text), other.contains(text)), (usually, now), "{text}");
    }
}

/// Bits and a prior: a floor in sight at the first split, far below at the others.
fn bits(k: usize) -> LeakageBound {
    LeakageBound {
        channel: Declared::Bits(2),
        information_nats: 100.0,
        information_kind: Kind::Upper,
        prior_tau: Some(0.1),
        mse_floor: Some(if k == 0 { 1e-4 } else { 1e-12 }),
        mse_floor_kind: Some(Kind::Lower),
        reason: None,
    }
}

/// What was watched is drawn from the first epoch on, and what was not leaves no trace.
#[test]
fn the_radius_is_drawn_where_it_was_watched() {
    let (watched, unwatched) = (&QUICK.1, &DEEP.1);
    for text in [
        "id=\"history-radius-t\"",
        "id=\"history-share-t\"",
        files::RADIUS_HISTORY,
        "on the 500 images of the target-validation part",
    ] {
        assert!(watched.contains(text) && !unwatched.contains(text), "{text}");
    }
    // exp(−0.1) of the untrained one after an epoch, exp(−0.5) after five.
    assert!(watched.contains("block1: from 0.905 to 0.607 in epoch 5."), "{watched}");
    let mut many = DEEP.0.clone();
    many.radius = common::run(&Plan { history: true, pictures: 0, ..Plan::deep() }).radius;
    let page = report::render(&many).unwrap();
    assert_balanced(&page);
    assert!(page.contains("8 of 26 splits are shown") && page.contains("unit1: from"));
    assert!(page.contains("unit26: from") && !page.contains("unit2: from"));
    let mut short = QUICK.0.clone();
    short.radius.as_mut().unwrap().epochs.truncate(2);
    assert!(!report::render(&short).unwrap().contains("history-radius"), "one point is no line");
}

/// Conventions stand where the figures do.
#[test]
fn tables_name_their_conventions() {
    let (grey, coloured) = (&QUICK.1, &DEEP.1);
    for text in [
        "R_c² with 1&#x2f;N_c and, unbiased, with 1&#x2f;(N_c − 1), averaged over classes, 95 % jackknife intervals",
        "90.3 % on the training images, 83.4 % on validation, 83.1 % on test",
        "= 1.27 at the last tap, on the target-train part",
        "one-hot: 1 on the true class",
        "<td>target-validation</td>",
        "unbiased, by true labels, on the target-train part",
        "its loss is the MSE per element",
    ] {
        assert!(grey.contains(text) && coloured.contains(text), "{text}");
    }
    assert!(grey.contains("and is the same on grey pictures"));
    assert!(coloured.contains("and is 3 times that"));
    assert!(grey.contains("over four taps") && grey.contains("Over so few taps"));
    assert!(coloured.contains("over 26 taps") && !coloured.contains("Over so few taps"));
}

fn noise(_: usize) -> LeakageBound {
    let (channel, information_kind) = (Declared::Noise(0.5), Kind::Heuristic);
    LeakageBound { channel, information_kind, mse_floor_kind: Some(Kind::Heuristic), ..bits(0) }
}

fn no_prior(_: usize) -> LeakageBound {
    LeakageBound {
        prior_tau: None,
        mse_floor: None,
        mse_floor_kind: None,
        reason: Some("because".to_owned()),
        ..bits(0)
    }
}

/// What is proved is drawn and said to be so, an estimate is called one, and what is missing is named.
#[test]
fn lower_ends_are_drawn_where_there_are_any() {
    let (_, unbound) = &*QUICK;
    let behind =
        |bound: fn(usize) -> LeakageBound| page(&Plan { bound: Some(bound), ..Plan::quick() }).1;
    let (bits, noise, no_prior) = (behind(bits), behind(noise), behind(no_prior));
    for (text, places) in [
        ("No bound: no channel declared.", [true, false, false, false]),
        (
            "(--channel) and noise declared on the pictures (--prior-tau)",
            [true, false, false, false],
        ),
        ("No bound on leakage: for a feature", [true, false, false, false]),
        (">effective</text>", [true, false, false, false]),
        ("<th scope=\"col\">effective MSE</th>", [true, false, false, false]),
        ("<th scope=\"col\">attack lags</th>", [true, false, false, false]),
        ("<th scope=\"col\">closest MSE</th>", [false, true, true, false]),
        ("the effective error at least doubles", [true, false, false, false]),
        (
            "(b) the effective error per element on the test part is at least",
            [true, false, false, false],
        ),
        ("is the measured one: what arrives at a deeper split", [false, true, true, true]),
        (">no attacker comes below</text>", [false, true, false, false]),
        (
            "so much through at block4 that nothing of use is proven there",
            [false, true, false, false],
        ),
        ("<td>nothing of use</td>", [false, true, false, false]),
        (
            "network classifies 77.0 % of the test images right at block4, without it 83.1 %",
            [false, true, true, true],
        ),
        ("<td>a bound for any attacker</td>", [false, true, false, false]),
        (">estimated lower end</text>", [false, false, true, false]),
        ("an estimate, not a bound", [false, false, true, false]),
        ("<td>an estimate</td>", [false, false, true, false]),
        ("No bound on the error: no prior declared.", [false, false, false, true]),
        ("<td>because</td>", [false, false, false, true]),
        ("sent through the channel bits:2", [false, true, false, true]),
        ("it is 83.1 % without the channel", [false, true, true, true]),
        ("Features before the channel, on the target-train part", [false, true, true, true]),
        ("and κ is unknown and another at each layer", [true; 4]),
    ] {
        let pages = [unbound, &bits, &noise, &no_prior].map(|page| page.contains(text));
        assert_eq!(pages, places, "{text}");
    }
    let certain = behind(|_| self::bits(0));
    assert!(
        certain.contains("What is certain for any attacker at block4 is a mean error of 0.00010, ")
    );
    for page in [&bits, &noise, &no_prior, &certain] {
        assert_balanced(page);
        assert!(!page.contains("lags behind a deeper one"));
    }
    // The floors of 1e-12 are told by arrows and leave the axis alone; the one in sight has its mark.
    assert_eq!(bits.matches(">1.0e-12</text>").count(), 3);
    assert_eq!(bits.matches("mark bound").count(), 1 + 1, "one split, and the legend");
    assert!(!bits.contains(">1e-11</text>") && !bits.contains(">1e-6</text>"));
}

#[test]
fn a_zone_is_recommended_and_drawn() {
    let (input, page) = &*DEEP;
    assert_eq!(input.splits.zone.first_split.as_deref(), Some("unit19"));
    assert!(page.contains("From unit19 on, attacks on what ir26 sends make at least 2.8"));
    assert!(page.contains("Recommended cut") && page.contains(">zone</text>"));
    assert!(!page.contains("demonstration"));
    // A zone is no promise: what is still recognisable is said in the same breath, and is the strongest objection.
    assert!(
        page.contains("Zone found, but pictures remain recognisable")
            && page.contains("but still get shape, not detail")
    );
    assert!(page.contains(
        "<h2>The strongest objection</h2>\n<p>At unit19 pictures are still recognisable"
    ));
    // Of 26 rows nine are shown, those around the turn among them.
    assert!(page.contains("Shown: 8 of 8 pictures at 9 of 26 splits."));
    for split in ["unit18", "unit19", "unit26"] {
        assert!(
            page.contains(&format!(
                "reconstruction of original 1 (T-shirt&#x2f;top) from {split}\""
            )),
            "{split}"
        );
    }
}

#[test]
fn text_from_outside_stays_text() {
    let hostile = "<script>alert(\"1\")</script>'&amp;";
    let mut input = common::run(&Plan {
        names: ["a", hostile, "c", "d"].map(String::from).to_vec(),
        ..Plan::quick()
    });
    input.splits.model = hostile.into();
    input.run.data.name = hostile.into();
    input.run.provenance.command = hostile.into();
    input.run.notes = vec![hostile.into()];
    input.run.pictures.iter_mut().for_each(|p| p.class = hostile.into());
    let page = report::render(&input).unwrap();
    assert_balanced(&page);
    assert!(!page.contains("<script") && !page.contains("alert(\""));
    assert!(page.contains("&lt;script&gt;"));
}

/// Figures that are missing or infinite are gaps or words, and nothing is drawn at no place.
#[test]
fn figures_that_are_no_numbers_are_shown_as_such() {
    let mut input = QUICK.0.clone();
    let second = &mut input.splits.splits[1];
    second.radius_sq.value = f64::NAN;
    second.attack.psnr_db = f64::INFINITY;
    second.attack.mse_per_element = 0.0;
    second.attack.mse_effective = 0.0;
    second.attack.ci.mse_effective.lo = f64::NEG_INFINITY;
    second.entropy_bounds_nats.mixture = f64::NEG_INFINITY;
    input.run.mean_image = None;
    let page = report::render(&input).unwrap();
    assert_balanced(&page);
    let page = without_pictures(&page);
    for (text, there) in
        [("NaN", false), ("<td>inf</td>", true), ("<td>-inf</td>", true), ("<td>nan</td>", true)]
    {
        assert_eq!(page.contains(text), there, "{text}");
    }
    for coordinate in ["=\"inf", "=\"-inf", ",inf", ",-inf"] {
        assert!(!page.contains(coordinate), "{coordinate}");
    }
}

/// Pictures that cannot be compressed do not push the page over its limit.
#[test]
fn the_page_stays_small_whatever_the_pictures() {
    let mut input = DEEP.0.clone();
    let noise: Vec<f32> =
        (0..64 * 64 * 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32 / 255.0).collect();
    let mut png =
        encode_png(&Picture { height: 64, width: 64, channels: 3, pixels: &noise }).unwrap();
    png.resize(100_000, 0);
    for picture in &mut input.pictures {
        picture.original = Some(png.clone());
        picture.reconstructions.iter_mut().for_each(|r| *r = Some(png.clone()));
    }
    let page = report::render(&input).unwrap();
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(
        page.contains("Shown: 4 of 8 pictures at 3 of 26 splits."),
        "fewer columns first, then fewer rows"
    );
}

#[test]
fn a_report_is_rebuilt_from_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let (input, want) = &*QUICK;
    let dir = RunDir::create(&root.path().join("run")).unwrap();
    common::write(input, &dir).unwrap();
    assert_eq!(report::load(dir.path()).unwrap(), *input);
    let path = report::build(&dir).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), *want);

    std::fs::remove_file(dir.file(&files::original_picture(2))).unwrap();
    std::fs::write(dir.file(&files::reconstruction_picture("block2", 3)), "<html>").unwrap();
    report::rebuild(dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().matches("no picture</span>").count(), 2);

    std::fs::write(dir.file(files::CHOICE_JSON), "{\"split\": 3").unwrap();
    let err = report::rebuild(dir.path()).unwrap_err();
    assert!(
        matches!(&err, Error::Damaged { .. }) && err.to_string().contains("choice.json"),
        "{err}"
    );
    std::fs::remove_file(dir.file(files::SPLITS_JSON)).unwrap();
    let err = report::rebuild(dir.path()).unwrap_err();
    assert!(
        err.to_string().contains("splits.json")
            && err.to_string().ends_with("is this the directory of a run?"),
        "{err}"
    );

    // An attack, whatever it holds; and an audit that has not ended.
    std::fs::write(dir.file(files::CONFIG), "# the configuration of gpz invert\n").unwrap();
    let err = report::rebuild(dir.path()).unwrap_err();
    assert!(matches!(&err, Error::NotAudited { .. }), "{err}");
    std::fs::write(dir.file(files::CONFIG), "# the configuration of gpz audit\n").unwrap();
    std::fs::remove_file(dir.file(files::RUN_JSON)).unwrap();
    let err = report::rebuild(dir.path()).unwrap_err();
    assert!(matches!(&err, Error::NotAudited { .. }), "{err}");
}

/// Where LPIPS was measured it has a column, and its convention is named; elsewhere the page says that it was not.
#[test]
fn lpips_is_shown_where_it_was_measured() {
    let (input, without) = &*QUICK;
    assert!(without.contains("No perceptual distance (LPIPS)") && !without.contains("AlexNet"));
    let mut input = input.clone();
    for split in &mut input.splits.splits {
        split.attack.lpips = Some(0.4321);
        split.attack.ci.lpips = Some(gpz_audit::intervals::Interval { lo: 0.4, hi: 0.46 });
    }
    let with = report::render(&input).unwrap();
    for part in
        ["LPIPS is version 0.1 with AlexNet", "LPIPS (Zhang et al. 2018)", "0.432", "0.400 … 0.460"]
    {
        assert!(with.contains(part), "{part} is missing");
    }
    assert!(!with.contains("No perceptual distance"));
    assert_balanced(&with);
}
