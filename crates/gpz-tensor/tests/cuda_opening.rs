//! Opening a CUDA device on a machine that need not have one: what is missing is said in a sentence, and nothing panics.

use std::process::Command;

use gpz_tensor::cuda::{self, Options, Precision};
use gpz_tensor::{Device, Error};

fn reason(error: Error) -> String {
    match error {
        Error::NoCuda { reason } => reason,
        other => panic!("{other} is no reason why there is no device"),
    }
}

#[test]
fn a_machine_without_driver_names_it_and_its_package() {
    if cuda::driver_version().is_some() {
        return;
    }
    let opened = [
        Device::cuda(0).unwrap_err(),
        Device::cuda_with(1, Options { precision: Precision::Tf32 }).unwrap_err(),
        cuda::open(usize::MAX, Options::default()).unwrap_err(),
        cuda::list().unwrap_err(),
    ];
    for error in opened {
        let sentence = reason(error);
        assert!(sentence.contains("libcuda.so.1"), "{sentence}");
        assert!(sentence.contains("nvidia-driver") && sentence.contains("--gpus"), "{sentence}");
    }
}

#[test]
fn a_device_that_does_not_exist_is_an_error_with_or_without_driver() {
    let sentence = reason(Device::cuda(usize::MAX).unwrap_err());
    assert!(!sentence.is_empty());
    if let Ok(devices) = cuda::list() {
        assert!(sentence.contains("there is no CUDA device"), "{sentence}");
        assert!(!devices.is_empty());
    }
}

#[test]
fn auto_is_the_processor_where_anything_is_missing_and_says_why() {
    match Device::auto() {
        (Device::Cpu, reason) => {
            let reason = reason.expect("the processor has a reason");
            assert!(reason.starts_with("no CUDA device can be used: "), "{reason}");
            assert_eq!(reason.lines().count(), 1);
        }
        (Device::Cuda(_), reason) => assert_eq!(reason, None),
    }
}

/// Runs a test of this file in a process with other folders for libraries.
fn with_folders(folders: &str, test: &str) {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", test, "--ignored"])
        .env("GPZ_CUDA_LIBS", folders)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn folders_that_hold_nothing_change_nothing() {
    let empty = tempfile::tempdir().unwrap();
    with_folders("/nowhere:", "in_its_own_process");
    with_folders(empty.path().to_str().unwrap(), "in_its_own_process");
}

#[test]
fn a_file_that_is_no_library_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["libcublas.so.13", "libcublas.so.12", "libcublasLt.so.13", "libcudnn.so.9"] {
        std::fs::write(folder.path().join(file), "no library").unwrap();
    }
    with_folders(folder.path().to_str().unwrap(), "in_its_own_process");
}

/// Each library is there and has a version, or the sentence says where it comes from.
#[test]
#[ignore = "other tests start it with an environment"]
fn in_its_own_process() {
    let libraries = cuda::libraries();
    assert_eq!(libraries.each_ref().map(|library| library.name), ["cuBLAS", "cuDNN"]);
    for library in libraries {
        match &library.version {
            Ok(version) => assert!(version.contains('.'), "{version}"),
            Err(sentence) => {
                assert!(sentence.contains(library.name), "{sentence}");
                assert!(sentence.contains("pip install nvidia-cu"), "{sentence}");
                let absent = sentence.contains("is not found");
                assert!(!absent || sentence.contains("GPZ_CUDA_LIBS"), "{sentence}");
            }
        }
    }
    Device::auto();
    if cuda::driver_version().is_none() {
        assert!(reason(Device::cuda(0).unwrap_err()).contains("libcuda.so.1"));
    }
}
