//! What a file is by its first bytes.

use crate::error::{Error, one_line};

/// Longest header of a safetensors file, as its own reader has it.
const MAX_HEADER: u64 = 100_000_000;

/// Files that are mistaken for checkpoints: how they begin, what they are.
const OTHERS: [(&[u8], &str); 12] = [
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89HDF", "an HDF5 file, as Keras writes; save the weights with safetensors or torch.save"),
    (b"\x1f\x8b", "packed with gzip; unpack it first"),
    (b"\xfd7zXZ", "packed with xz; unpack it first"),
    (b"BZh", "packed with bzip2; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd; unpack it first"),
    (b"GGUF", "a GGUF file; save the weights with safetensors or torch.save"),
    (b"\x93NUMPY", "a single NumPy array; save named tensors with safetensors or torch.save"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"{", "a JSON text, and the weights are elsewhere"),
];

/// Whether a pickle may begin so: the newer protocols have a mark, the oldest begin with a container or a name.
pub(super) fn may_be_a_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 0..=5, ..] | [b'(' | b'}' | b'c', ..])
}

/// Whether a header of a believable length begins after eight bytes that say how long it is.
pub(super) fn may_be_safetensors(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    bytes.get(8) == Some(&b'{') && length.is_some_and(|length| length <= MAX_HEADER)
}

/// The error for a file that is none.
pub(super) fn refuse(bytes: &[u8]) -> Error {
    let begins = |start: &[u8]| {
        bytes.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    let found = if bytes.is_empty() {
        "it is empty; fetch it again".to_owned()
    } else if begins(b"version https://git-lfs") {
        let mend = "run git lfs pull where it lies";
        return Error::Unsupported { found: "a Git LFS pointer, not the file itself".into(), mend };
    } else if bytes.get(257..262) == Some(b"ustar") {
        let mend = "load it with an old PyTorch and save it again with torch.save";
        let found = "a tar archive, as PyTorch wrote before 0.2, or a packed folder".into();
        return Error::Unsupported { found, mend };
    } else if begins(b"<!doctype") || begins(b"<html") || begins(b"<?xml") {
        "a web page, such as a notice in place of a download; fetch it again".to_owned()
    } else if let Some((_, what)) = OTHERS.iter().find(|(start, _)| bytes.starts_with(start)) {
        (*what).to_owned()
    } else {
        let head: String =
            String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).chars().take(12).collect();
        format!("it begins with {:?}", one_line(&head))
    };
    Error::NotCheckpoint { found }
}
