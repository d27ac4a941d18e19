//! What a poisoned device hands out, and the list it keeps.

use std::sync::Arc;

use gpz_cuda_sim::{Poisoned, Simulator};
use gpz_tensor::cuda::driver::Driver;
use gpz_tensor::{CudaDevice, DType, Device, Tensor, UnaryOp};

fn held(driver: &dyn Driver, address: u64, bytes: usize) -> Vec<u8> {
    let mut held = vec![0; bytes];
    // SAFETY: each test asks for bytes of a block it holds.
    unsafe { driver.download(address, &mut held) }.unwrap();
    held
}

#[test]
fn blocks_are_poisoned_when_new_and_when_used_again() {
    let driver = Poisoned::new(Simulator::new());
    let address = driver.allocate(64).unwrap().unwrap();
    assert_eq!(held(&driver, address, 64), [0xFF; 64]);
    // SAFETY: the block has 64 bytes.
    unsafe { driver.zero(address, 64) }.unwrap();
    assert_eq!(held(&driver, address, 64), [0; 64]);
    driver.reused(address);
    assert_eq!(held(&driver, address, 64), [0xFF; 64]);
}

#[test]
fn copies_stay_on_the_device() {
    let driver = Poisoned::new(Simulator::new());
    let [from, to] = [0, 1].map(|_| driver.allocate(8).unwrap().unwrap());
    // SAFETY: both blocks have eight bytes.
    unsafe {
        driver.upload(from, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        driver.copy(from + 4, to, 4).unwrap();
    }
    assert_eq!(held(&driver, to, 8), [5, 6, 7, 8, 0xFF, 0xFF, 0xFF, 0xFF]);
}

#[test]
fn each_kernel_is_listed_once() {
    let place = tempfile::tempdir().unwrap();
    let list = place.path().join("launches");
    let driver = Arc::new(Poisoned::new(Simulator::new()).listing(&list).unwrap());
    let device = Device::Cuda(CudaDevice::with_driver(driver));
    let x = Tensor::zeros(&[5], DType::F32).unwrap().to_device(&device).unwrap();
    for _ in 0..2 {
        let y = x.unary(UnaryOp::Exp).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0; 5]);
    }
    assert_eq!(std::fs::read_to_string(list).unwrap(), "exp_f32\n");
}

#[test]
fn work_is_timed_and_its_error_comes_back() {
    let device = CudaDevice::with_driver(Simulator::new());
    let x = Tensor::zeros(&[5], DType::F32).unwrap();
    let x = x.to_device(&Device::Cuda(device.clone())).unwrap();
    let took = device.timed(|| x.unary(UnaryOp::Exp).map(drop)).unwrap();
    assert!(!took.is_zero());
    assert_eq!(device.clock(), "host");
    let error = device.timed(|| x.matmul(&x).map(drop)).unwrap_err();
    assert!(error.to_string().starts_with("matmul"), "{error}");
}
