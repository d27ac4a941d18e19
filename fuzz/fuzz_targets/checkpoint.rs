//! Any bytes as a checkpoint: an error in one line, or tensors of a bounded size. Seeds: `crates/gpz-nn/tests/checkpoints`.

#![no_main]

use gpz_nn::checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match checkpoint::read(bytes) {
        Ok(checkpoint) => {
            let values: usize = checkpoint.tensors().values().map(|tensor| tensor.numel()).sum();
            assert!(
                values <= (1 << 20) + 40 * bytes.len(),
                "{values} values of {} bytes",
                bytes.len()
            );
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
