//! What can go wrong, each in one line that names the file or value and the mend.

use std::io;

use crate::parts::Part;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can be wrong with a set, a plan or a request.
///
/// `file` is the place as a person finds it: a path, `path:array` inside an `.npz`, or `fashion-mnist (embedded)`. Control
/// characters in it are escaped, so that every message stays one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a built-in name nor something that exists.
    #[error(
        "{spec}: no such file or folder, and no built-in set of that name; built in: {built_in}"
    )]
    UnknownSet {
        /// What was asked for.
        spec: String,
        /// The names that would have been understood.
        built_in: String,
    },
    /// Whoever watched the reading ended it.
    #[error("stopped while reading {file}; nothing was kept, and the same command begins again")]
    Stopped {
        /// The file or folder that was being read.
        file: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {file} ({source}); check the path and its permissions")]
    Io {
        /// The file or folder.
        file: String,
        /// What was tried: "open", "read", "list".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The first bytes are not those of the format the name announces.
    #[error(
        "{file} is not {} (it begins with {begins}); remove it or fetch the set again", with_article(.expected)
    )]
    NotA {
        /// The file.
        file: String,
        /// The format its name or place announces.
        expected: &'static str,
        /// Its first bytes, quoted.
        begins: String,
    },
    /// A name that is no picture's.
    #[error("{file} is not named like a picture; name a .png, .jpg or .jpeg file")]
    NotAPicture {
        /// The file.
        file: String,
    },
    /// A picture of one format under the name of another.
    #[error("{file} is a {actual}, not a {expected} as its name says; rename it")]
    Misnamed {
        /// The file.
        file: String,
        /// The format of its name.
        expected: &'static str,
        /// The format of its bytes.
        actual: &'static str,
    },
    /// Shorter than the format or its own header promises.
    #[error("{file} is truncated: {found} bytes where {expected} are due; fetch it again")]
    Truncated {
        /// The file.
        file: String,
        /// Bytes due, after unpacking.
        expected: u128,
        /// Bytes there.
        found: u64,
    },
    /// Longer than its own header promises.
    #[error("{file} goes on after the {expected} bytes its header promises; fetch it again")]
    TooLong {
        /// The file.
        file: String,
        /// Bytes due, after unpacking.
        expected: u128,
    },
    /// The decoder stumbled.
    #[error("{file}: damaged {format} ({detail}); fetch it again")]
    Damaged {
        /// The file.
        file: String,
        /// The format that could not be decoded.
        format: &'static str,
        /// What the decoder said, in one line.
        detail: String,
    },
    /// Sound, but of a kind that is not read here.
    #[error("{file} holds {found}; {mend}")]
    Unsupported {
        /// The file.
        file: String,
        /// What it holds.
        found: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// As many labels as images, or neither is to be trusted.
    #[error(
        "{images_file} holds {images} images but {labels_file} holds {labels} labels; fetch both from the same place"
    )]
    CountMismatch {
        /// Where the images stand.
        images_file: String,
        /// How many there are.
        images: usize,
        /// Where the labels stand.
        labels_file: String,
        /// How many there are.
        labels: usize,
    },
    /// A label that names no class.
    #[error("{file}: image {index} has label {label}, the classes are 0 to {}; correct the label or remove the image", .classes.saturating_sub(1))]
    LabelRange {
        /// Where the label stands.
        file: String,
        /// Index of the image in the file.
        index: usize,
        /// The label found.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// A class nobody belongs to.
    #[error("{file}: class {class} has no images; add some or number the classes without gaps")]
    EmptyClass {
        /// The file or part.
        file: String,
        /// The class's number or name.
        class: String,
    },
    /// A class folder outside the training part that the training part does not have.
    #[error("{file}: class {class} does not occur in the training part; rename or remove it")]
    UnknownClass {
        /// The folder.
        file: String,
        /// Its class.
        class: String,
    },
    /// An image of another size than the rest.
    #[error("{file} is {}x{} (height x width), the others are {}x{}; resize or remove it", .found.0, .found.1, .expected.0, .expected.1)]
    ImageSize {
        /// The image or part.
        file: String,
        /// Its height and width.
        found: (usize, usize),
        /// Height and width of the rest.
        expected: (usize, usize),
    },
    /// An image of another channel count than the rest.
    #[error(
        "{file} has {found} channel(s), the others have {expected}; convert or remove it (1 is grey, 3 is RGB)"
    )]
    ImageChannels {
        /// The image or part.
        file: String,
        /// Its channels.
        found: usize,
        /// Channels of the rest.
        expected: usize,
    },
    /// A folder or file with nothing in it.
    #[error("{file} holds no images; fetch the set again or name another folder")]
    Empty {
        /// The folder or file.
        file: String,
    },
    /// Something the layout needs is absent.
    #[error("{file} has no {missing} ({found}); fetch the set again")]
    Missing {
        /// The folder or archive.
        file: String,
        /// What is absent.
        missing: String,
        /// What is there instead.
        found: String,
    },
    /// No layout that is known here.
    #[error(
        "{file}: {detail}; name a folder of class folders, of IDX files or of CIFAR-10 batches, or an .npz file"
    )]
    Unrecognised {
        /// The file or folder.
        file: String,
        /// Why it was not understood.
        detail: String,
    },
    /// A file that should hold arrays and is of no format that does.
    #[error("{file}: {detail}; name a .safetensors, .npz or .npy file")]
    NotArrays {
        /// The file.
        file: String,
        /// What it is instead.
        detail: String,
    },
    /// A name that no array of the file has.
    #[error("{file} has no array {name}; it holds {known}")]
    UnknownArray {
        /// The file.
        file: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Too few images of a class, or altogether, to cut the parts.
    #[error("{class} has too few images ({images}) for part {part}; add images to it")]
    TooFewImages {
        /// The class, or "the set".
        class: String,
        /// How many images there are to cut from.
        images: usize,
        /// The part that stays empty.
        part: Part,
    },
    /// A share of a split plan that is none.
    #[error(
        "{name} is {value}; shares lie between 0 and 1, and auxiliary_share and validation_share together below 1"
    )]
    Share {
        /// The field of [`SplitPlan`](crate::SplitPlan).
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A picture size nobody can draw.
    #[error(
        "resolution {height}x{width} is not usable; height and width lie between 1 and {limit}"
    )]
    Resolution {
        /// Height asked for.
        height: usize,
        /// Width asked for.
        width: usize,
        /// The largest side.
        limit: usize,
    },
    /// A smoothing by noise that is none, or nothing but noise.
    #[error(
        "a smoothing of {tau}: τ is the standard deviation of noise on pixels from 0 to 1; give 0.00001 to 10, such as 0.1"
    )]
    Smoothing {
        /// The standard deviation given.
        tau: f64,
    },
    /// A batch of nothing.
    #[error("batch size 0; use 1 or more")]
    BatchSize,
    /// A position beyond the end of a part.
    #[error("position {position} in part {part}, which holds {len} images; use 0 to {}", .len.saturating_sub(1))]
    Position {
        /// The part asked.
        part: Part,
        /// The position asked for.
        position: usize,
        /// Images in the part.
        len: usize,
    },
    /// An augmentation setting outside its range.
    #[error("augmentation {name} is {value}; it lies between 0 and {limit}")]
    Augmentation {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f32,
        /// The largest value that means something.
        limit: f32,
    },
}

/// "a PNG", "an IDX file".
fn with_article(name: &str) -> String {
    let article = if name.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// Text on one line: control characters as escapes.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// A path as it stands in a message.
pub(crate) fn place(path: &std::path::Path) -> String {
    one_line(&path.to_string_lossy())
}

/// The first bytes of a file, quoted for a message.
pub(crate) fn begins(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(8)];
    if head.is_empty() {
        return "nothing: it is empty".into();
    }
    // Readable as far as it is text; `<html>` says more than its bytes do.
    let text: String = head
        .iter()
        .take_while(|b| b.is_ascii_graphic() || **b == b' ')
        .map(|b| char::from(*b))
        .collect();
    if text.len() >= 4 || text.len() == head.len() {
        let text = text.split(['>', ' ']).next().unwrap_or(&text);
        return format!("\"{text}\"");
    }
    let hex: Vec<String> = head.iter().map(|b| format!("{b:02x}")).collect();
    format!("bytes {}", hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_quoted_as_text_or_hex() {
        assert_eq!(begins(b"<html><body>"), "\"<html\"");
        assert_eq!(begins(b"version https://"), "\"version\"");
        assert_eq!(begins(&[0x1f, 0x8b, 8, 0]), "bytes 1f 8b 08 00");
        assert_eq!(begins(b""), "nothing: it is empty");
    }

    #[test]
    fn a_line_break_in_a_name_stays_on_the_line() {
        assert_eq!(one_line("a\nb\u{1b}c"), "a\\nb\\u{1b}c");
    }
}
