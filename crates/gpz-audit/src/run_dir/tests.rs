use std::process::{Command, Stdio};

use super::*;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn listing(path: &Path) -> Vec<String> {
    entries(path).unwrap()
}

#[test]
fn runs_are_numbered() {
    let root = temp();
    let runs = root.path().join("runs");
    let first = RunDir::numbered(&runs).unwrap();
    first.write(files::CONFIG, b"").unwrap();
    let second = RunDir::numbered(&runs).unwrap();
    second.write(files::CONFIG, b"").unwrap();
    assert_eq!(
        (first.path(), second.path()),
        (runs.join("001").as_path(), runs.join("002").as_path())
    );
    fs::create_dir(runs.join("1234")).unwrap();
    fs::create_dir(runs.join("notes")).unwrap();
    assert!(RunDir::numbered(&runs).unwrap().path().ends_with("1235"));
}

#[test]
fn a_run_that_wrote_nothing_leaves_nothing() {
    let root = temp();
    drop(RunDir::numbered(&root.path().join("a/runs")).unwrap());
    drop(RunDir::create(&root.path().join("b/c")).unwrap());
    assert_eq!(listing(root.path()), [""; 0]);
    // A directory that was there before stays.
    let own = root.path().join("own");
    fs::create_dir(&own).unwrap();
    drop(RunDir::create(&own).unwrap());
    assert!(own.is_dir());
    assert_eq!(listing(&own), [""; 0], "without a lock's file");
}

#[test]
fn a_directory_with_a_run_is_refused_unless_resumed() {
    let root = temp();
    let path = root.path().join("run");
    RunDir::create(&path).unwrap().write(files::CONFIG, b"seed = 1\n").unwrap();
    let err = RunDir::create(&path).unwrap_err();
    assert!(matches!(err, Error::HoldsRun { .. }));
    assert!(err.to_string().contains("continue it with --resume"), "{err}");
    assert_eq!(RunDir::resume(&path).unwrap().state(), RunState::Unfinished);
    assert_eq!(fs::read(path.join(files::CONFIG)).unwrap(), b"seed = 1\n");
}

#[test]
fn resume_takes_missing_empty_and_finished_directories() {
    let root = temp();
    let missing = root.path().join("missing");
    assert_eq!(RunDir::resume(&missing).unwrap().state(), RunState::Empty);
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(RunDir::resume(&empty).unwrap().state(), RunState::Empty);
    fs::write(empty.join(files::RUN_JSON), r#"{"finished": true, "seed": 1}"#).unwrap();
    assert_eq!(RunDir::resume(&empty).unwrap().state(), RunState::Finished);
    fs::write(empty.join(files::RUN_JSON), r#"{"finished": tr"#).unwrap();
    assert_eq!(RunDir::resume(&empty).unwrap().state(), RunState::Unfinished);
}

#[test]
fn files_of_others_are_left_alone() {
    let root = temp();
    fs::write(root.path().join("thesis.tex"), "x").unwrap();
    for open in [RunDir::create, RunDir::resume] {
        let err = open(root.path()).unwrap_err().to_string();
        assert!(err.contains("holds thesis.tex"), "{err}");
    }
    assert_eq!(listing(root.path()), ["thesis.tex"]);
}

/// Hidden files are somebody's as well: a repository, an editor's.
#[test]
fn hidden_files_are_files_of_others() {
    let root = temp();
    fs::create_dir(root.path().join(".git")).unwrap();
    let err = RunDir::resume(root.path()).unwrap_err().to_string();
    assert!(err.contains("holds .git"), "{err}");
    assert_eq!(listing(root.path()), [".git"]);
}

#[test]
fn what_could_not_be_made_whole_is_not_left_in_part() {
    let root = temp();
    let too_long = "x".repeat(300);
    for name in [format!("a/b/{too_long}"), format!("a/{too_long}/b")] {
        assert!(matches!(RunDir::create(&root.path().join(name)), Err(Error::CannotWrite { .. })));
        assert_eq!(listing(root.path()), [""; 0]);
    }
    assert!(RunDir::numbered(&root.path().join("runs").join(too_long)).is_err());
    assert_eq!(listing(root.path()), [""; 0]);
}

#[test]
fn a_path_below_a_file_is_no_directory() {
    let root = temp();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("run")] {
        let err = RunDir::create(&path).unwrap_err().to_string();
        assert!(err.contains(&path.display().to_string()), "{err}");
    }
    let err = RunDir::create(&file.join("run")).unwrap_err();
    assert!(
        matches!(&err, Error::CannotWrite { .. })
            && err.to_string().contains("choose another directory"),
        "{err}"
    );
}

#[test]
fn writes_are_whole_or_not_at_all() {
    let root = temp();
    let dir = RunDir::create(&root.path().join("run")).unwrap();
    dir.write("checkpoints/target.safetensors", b"old").unwrap();
    let err = dir
        .write_with("checkpoints/target.safetensors", |out| {
            out.write_all(b"new and half")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err();
    assert!(err.to_string().contains("target.safetensors: disk full"), "{err}");
    assert_eq!(fs::read(dir.file(files::TARGET_CHECKPOINT)).unwrap(), b"old");
    assert_eq!(listing(&dir.file(files::CHECKPOINTS)), ["target.safetensors"]);
    for name in ["", "/etc/passwd", "../x", "pictures/../../x"] {
        assert!(matches!(dir.write(name, b""), Err(Error::FileName { .. })), "{name:?}");
    }
}

#[test]
fn leftovers_of_a_killed_process_are_swept_up() {
    let root = temp();
    let path = root.path().join("run");
    RunDir::create(&path).unwrap().write("checkpoints/a.safetensors", b"x").unwrap();
    fs::write(path.join("checkpoints/.a.safetensors.partial"), b"half").unwrap();
    fs::write(path.join(".splits.json.partial"), b"half").unwrap();
    let dir = RunDir::resume(&path).unwrap();
    assert_eq!(listing(&dir.file(files::CHECKPOINTS)), ["a.safetensors"]);
    assert_eq!(listing(&path), [LOCK, files::CHECKPOINTS]);
}

#[test]
fn one_writer_at_a_time() {
    let root = temp();
    let path = root.path().join("run");
    let holder = RunDir::create(&path).unwrap();
    holder.write(files::CONFIG, b"").unwrap();
    assert!(matches!(RunDir::resume(&path), Err(Error::Locked { .. })));
    drop(holder);
    assert!(RunDir::resume(&path).is_ok());
}

/// The lock dies with its process: this test starts itself as a child that takes the lock and is then killed.
#[test]
fn a_killed_process_holds_no_lock() {
    const CHILD: &str = "GPZ_TEST_LOCK_CHILD";
    if let Some(path) = std::env::var_os(CHILD) {
        let dir = RunDir::resume(Path::new(&path)).unwrap();
        dir.write(files::CONFIG, b"").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let root = temp();
    let path = root.path().join("run");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "run_dir::tests::a_killed_process_holds_no_lock"])
        .env(CHILD, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    while !path.join(files::CONFIG).exists() {
        assert!(
            started.elapsed().as_secs() < 30 && child.try_wait().unwrap().is_none(),
            "the child took no lock"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(matches!(RunDir::resume(&path), Err(Error::Locked { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(RunDir::resume(&path).unwrap().state(), RunState::Unfinished);
}

#[test]
fn names_of_splits_become_names_of_files() {
    assert_eq!(files::decoder_checkpoint("block1"), "checkpoints/decoder_block1.safetensors");
    assert_eq!(files::reconstruction_picture("layer1.0/relu", 7), "pictures/layer1.0_relu_007.png");
    assert_eq!(files::reconstruction_picture("../x", 0), "pictures/_x_000.png");
    assert_eq!(files::original_picture(12), "pictures/original_012.png");
}
