//! A whole audit on a CUDA device, beside the same one on the processor.

use std::path::Path;

use gpz_audit::config::AuditConfig;
use gpz_audit::run_dir::{RunDir, files};
use gpz_audit::splits::SplitsFile;
use gpz_audit::sweep::{Circumstances, audit};
use gpz_cuda_sim::Simulator;
use gpz_inversion::Silent;
use gpz_tensor::{CudaDevice, Device};
use tempfile::TempDir;

/// Two classes of pictures of 16×16 that differ by their gradient, each with noise of its own.
fn write_pictures(root: &Path) {
    for (part, count) in [("train", 38), ("test", 4)] {
        for class in 0..2_u32 {
            let folder = root.join(part).join(format!("class{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                let picture = image::GrayImage::from_fn(16, 16, |x, y| {
                    let slope = if class == 0 { x } else { y };
                    let noise = (x * 7919 + y * 104_729 + number * 613 + class * 37) % 61;
                    image::Luma([(slope * 12 + noise) as u8])
                });
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

fn configuration(root: &Path) -> AuditConfig {
    let text = format!(
        "model = \"cnn4:width=2\"\ndata = {:?}\nresolution = 16\nresamples = 100\n\
         [target.training]\nepochs = 1\nbatch = 16\n[attack.training]\nepochs = 1\nbatch = 16\n",
        root.display().to_string()
    );
    AuditConfig::preset("quick", None).unwrap().overlaid(&text).unwrap()
}

fn circumstances(device: &Device) -> Circumstances {
    Circumstances {
        command: "a test".to_owned(),
        device: device.clone(),
        threads: 1,
        memory: None,
        cache: None,
        versions: Vec::new(),
    }
}

fn run(config: &AuditConfig, dir: &Path, device: &Device) -> gpz_audit::Result<SplitsFile> {
    let dir = RunDir::resume(dir)?;
    audit(config, &dir, &circumstances(device), &mut Silent)
}

#[test]
fn an_audit_on_a_device_finds_what_one_on_the_processor_does() {
    let place = TempDir::new().unwrap();
    write_pictures(&place.path().join("pictures"));
    let config = configuration(&place.path().join("pictures"));
    let cpu = run(&config, &place.path().join("cpu"), &Device::Cpu).unwrap();
    let driver = Simulator::new();
    let device = Device::Cuda(CudaDevice::with_driver(driver.clone()));
    let cuda = run(&config, &place.path().join("cuda"), &device).unwrap();
    let calls = driver.calls();
    assert!(calls.launches > 1000 && calls.convolutions > 100, "{calls:?}");
    let record = std::fs::read_to_string(place.path().join("cuda").join(files::RUN_JSON)).unwrap();
    assert!(record.contains("cuda (simulated device)"));
    for (here, there) in cpu.splits.iter().zip(&cuda.splits) {
        let pairs = [
            ("radius", here.radius_sq.value, there.radius_sq.value),
            ("total", here.variance.total, there.variance.total),
            ("within", here.variance.within, there.variance.within),
            ("error", here.attack.mse_per_element, there.attack.mse_per_element),
        ];
        for (what, here_is, there_is) in pairs {
            // Training amplifies what rounding differs in.
            let close = (here_is - there_is).abs() <= 2e-2 * here_is.abs();
            assert!(close, "{} of {}: {here_is} and {there_is}", what, here.name);
        }
    }
}

#[test]
fn a_declared_channel_works_on_a_device_too() {
    let place = TempDir::new().unwrap();
    write_pictures(&place.path().join("pictures"));
    let mut config = configuration(&place.path().join("pictures"));
    config.channel = "bits:4".parse().unwrap();
    let cpu = run(&config, &place.path().join("cpu"), &Device::Cpu).unwrap();
    let device = Device::Cuda(CudaDevice::with_driver(Simulator::new()));
    let cuda = run(&config, &place.path().join("cuda"), &device).unwrap();
    for (here, there) in cpu.splits.iter().zip(&cuda.splits) {
        let (here_is, there_is) = (here.attack.mse_per_element, there.attack.mse_per_element);
        assert!(
            (here_is - there_is).abs() <= 5e-2 * here_is,
            "{}: {here_is} {there_is}",
            here.name
        );
        assert!(there.accuracy_behind_channel.is_some());
    }
}

/// A device that is lost leaves a run that another device, or the processor, finishes.
#[test]
fn a_run_whose_device_was_lost_goes_on() {
    let place = TempDir::new().unwrap();
    write_pictures(&place.path().join("pictures"));
    let config = configuration(&place.path().join("pictures"));
    let whole = Simulator::new();
    let device = Device::Cuda(CudaDevice::with_driver(whole.clone()));
    let want = run(&config, &place.path().join("whole"), &device).unwrap();
    let calls = whole.calls();
    let all = calls.launches + calls.products + calls.convolutions;
    let driver = Simulator::new();
    driver.lose_after(all * 3 / 4);
    let lost = Device::Cuda(CudaDevice::with_driver(driver));
    let dir = place.path().join("run");
    let error = run(&config, &dir, &lost).unwrap_err();
    assert!(error.is_lost_device() && error.to_string().contains("the device is lost"), "{error}");
    let got = run(&config, &dir, &Device::Cpu).unwrap();
    assert_eq!(got.splits.len(), want.splits.len());
}

#[test]
fn too_little_memory_names_a_batch_that_may_fit() {
    let place = TempDir::new().unwrap();
    write_pictures(&place.path().join("pictures"));
    let config = configuration(&place.path().join("pictures"));
    let small = Device::Cuda(CudaDevice::with_driver(Simulator::with_memory(128 << 10)));
    let error = run(&config, &place.path().join("run"), &small).map(drop).unwrap_err().to_string();
    assert!(error.contains("a step of 16 images needs more than"), "{error}");
    assert!(error.contains("are there; begin anew with --batch "), "{error}");
}
