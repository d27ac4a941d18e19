//! Which device tests and figures run on.

use std::env;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use gpz_tensor::cuda::driver::{Driver, Failure, Outcome};
use gpz_tensor::{CudaDevice, Device};

use crate::{Poisoned, Simulator};

/// NVIDIA's driver of the first device.
///
/// # Errors
/// Says what is missing.
pub fn nvidia() -> Outcome<Arc<dyn Driver>> {
    let opened = gpz_tensor::cuda::open_driver(0, gpz_tensor::cuda::Options::default());
    opened.map_err(|error| Failure::new(error.to_string()))
}

/// The driver that tests run on, by the environment's `GPZ_TEST_CUDA`: `simulated`, which is also the default; `poisoned`, the
/// simulator as [`Poisoned`]; or `real`, NVIDIA's first device as [`Poisoned`].
///
/// A poisoned driver lists the kernels it launches in the file that `GPZ_TEST_LAUNCHES` names.
///
/// # Panics
/// If a real device is asked for and cannot be opened, and for any other value.
pub fn driver_of_tests() -> Arc<dyn Driver> {
    let chosen = env::var("GPZ_TEST_CUDA").unwrap_or_default();
    let driver: Arc<dyn Driver> = match chosen.as_str() {
        "" | "simulated" => return Arc::new(Simulator::new()),
        "poisoned" => Arc::new(Simulator::new()),
        "real" => nvidia().unwrap_or_else(|failure| panic!("GPZ_TEST_CUDA=real, but {failure}")),
        other => panic!("GPZ_TEST_CUDA={other}: it is simulated, poisoned or real"),
    };
    let poisoned = Poisoned::new(driver);
    match env::var_os("GPZ_TEST_LAUNCHES") {
        None => Arc::new(poisoned),
        Some(file) => {
            let listing = poisoned.listing(Path::new(&file));
            Arc::new(listing.unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        }
    }
}

/// The device that tests of operations run on: that of [`driver_of_tests`].
///
/// # Panics
/// As [`driver_of_tests`].
pub fn device_of_tests() -> Device {
    Device::Cuda(CudaDevice::with_driver(driver_of_tests()))
}

/// The number in the environment's `GPZ_TEST_SEED`, which is said once; 0 without it. Tests mix it into their own seeds, so that another
/// number gives other values.
///
/// # Panics
/// If it is no number.
pub fn seed_of_tests() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let Ok(text) = env::var("GPZ_TEST_SEED") else { return 0 };
        let seed = text.parse().unwrap_or_else(|_| panic!("GPZ_TEST_SEED={text}: no number"));
        // Past the capture of a test's output, which would keep it unless the test fails.
        let _ = writeln!(std::io::stderr(), "values drawn from GPZ_TEST_SEED={seed}");
        seed
    })
}
