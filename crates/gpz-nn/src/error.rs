//! What can go wrong when a network is built, run, trained, saved or loaded.

use crate::checkpoint::Format;

/// Result of a network operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A network could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation was given operands it cannot compute with.
    #[error(transparent)]
    Tensor(#[from] gpz_tensor::Error),
    /// Gradients were asked of something no gradient reaches.
    #[error(
        "backward: the value does not depend on a recorded parameter; run the forward pass on a training tape"
    )]
    NoGradient,
    /// A value was used with a tape that is not its own, or no longer holds it.
    #[error(
        "backward: the value was recorded on another tape, or its tape is used up; record the forward pass on one tape and run it backward once"
    )]
    OtherTape,
    /// Gradients can only be asked of one number.
    #[error(
        "backward: the value has shape {shape:?}; gradients are taken of a single number, such as a loss"
    )]
    NotScalar {
        /// Shape of the value.
        shape: Box<[usize]>,
    },
    /// An option outside its range.
    #[error("{what} = {value} is not possible: {rule}")]
    Value {
        /// Name of the option.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What is possible.
        rule: &'static str,
    },
    /// A feature that a layer of a blueprint does not take.
    #[error("{layer}: a feature of shape {input:?} is not possible: {rule}")]
    Layer {
        /// Name of the layer.
        layer: &'static str,
        /// Shape of one image's feature.
        input: Box<[usize]>,
        /// What is possible.
        rule: &'static str,
    },
    /// A label that names no class.
    #[error("label {label} of sample {index} is out of range: there are {classes} classes, 0 to {}", classes.saturating_sub(1))]
    Label {
        /// Position of the sample.
        index: usize,
        /// Its label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A name that is no label distribution's.
    #[error(
        "unknown label distribution {text:?}; known: one-hot, ls:ALPHA and ls-uniform:ALPHA with ALPHA below 1, such as ls:+0.3"
    )]
    Labels {
        /// The name.
        text: String,
    },
    /// A state that an optimiser of this rule did not save.
    #[error(
        "the optimiser's state does not fit its rule: {reason}; resume with the configuration it was saved under"
    )]
    State {
        /// What is missing or too much.
        reason: String,
    },
    /// A file that is not a safetensors file, or a damaged one.
    #[error("not a readable safetensors file: {reason}; save it again, or fetch it again")]
    Format {
        /// What the reader found.
        reason: String,
    },
    /// A checkpoint that could not be read.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// A checkpoint that could not be written.
    #[error("cannot be written: {0}")]
    Write(std::io::Error),
    /// A file that is no checkpoint.
    #[error(
        "not a checkpoint: {found}; a checkpoint is a safetensors file, or a state_dict that torch.save wrote"
    )]
    NotCheckpoint {
        /// What it is instead.
        found: String,
    },
    /// A checkpoint that ends early, or contradicts itself.
    #[error("a damaged {format}: {reason}; fetch it again, or save it again")]
    Damaged {
        /// What it is.
        format: Format,
        /// What the reader found.
        reason: String,
    },
    /// A checkpoint, or a tensor in it, of a kind that is not read.
    #[error("{found}; {mend}")]
    Unsupported {
        /// What it is.
        found: String,
        /// What to do.
        mend: &'static str,
    },
    /// A pickle that would run code.
    #[error(
        "it wants to call {function}: nothing of it was executed; save the network's state_dict() instead"
    )]
    Calls {
        /// The function.
        function: String,
    },
    /// A network pickled with its classes.
    #[error(
        "a whole network was pickled ({class}), and nothing of it was executed; save its weights alone: torch.save(model.state_dict(), FILE)"
    )]
    WholeNetwork {
        /// A class of it.
        class: String,
    },
    /// Beside the weights, an object of a class that means nothing here.
    #[error(
        "it holds {class}, which is no data, and nothing of it was executed; save the network's state_dict() alone"
    )]
    Object {
        /// The class or function.
        class: String,
    },
    /// A checkpoint in which no weights are found.
    #[error(
        "it holds {found}; save the network's state_dict(), alone or under the key \"state_dict\""
    )]
    NoStateDict {
        /// What there is instead.
        found: String,
    },
    /// A checkpoint of another network.
    #[error("{}", mismatch(missing, unexpected, wrong_shape))]
    Mismatch {
        /// Keys the network has and the file lacks.
        missing: Vec<String>,
        /// Keys the file has and the network lacks.
        unexpected: Vec<String>,
        /// Keys of another shape: name, shape in the network, shape in the file.
        wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    },
}

/// Most keys of a kind that a message names.
const NAMED: usize = 3;
/// Longest name of a file's that a message repeats, in bytes.
const LONGEST_NAME: usize = 120;
/// Longest reason in a message.
const LONGEST_REASON: usize = 400;

/// A name from a file as it may stand in a message: without control characters, and not too long.
pub(crate) fn one_line(name: &str) -> String {
    shortened(name, LONGEST_NAME)
}

/// As [`one_line`], for a sentence that may hold such names.
pub(crate) fn reason(text: &str) -> String {
    shortened(text, LONGEST_REASON)
}

fn shortened(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= longest {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// `1 key`, `3 keys`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

type WrongShape = (String, Vec<usize>, Vec<usize>);

fn mismatch(missing: &[String], unexpected: &[String], wrong_shape: &[WrongShape]) -> String {
    let list = |count: usize, noun: &str, what: &str, named: Vec<String>| {
        let rest = count - named.len();
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{}{what}: {}{more}", counted(count, noun), named.join(", "))
    };
    let names = |names: &[String]| names.iter().take(NAMED).map(|name| one_line(name)).collect();
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(list(missing.len(), "key", " missing", names(missing)));
    }
    if !unexpected.is_empty() {
        parts.push(list(unexpected.len(), "key", " unexpected", names(unexpected)));
    }
    if !wrong_shape.is_empty() {
        let shapes = wrong_shape.iter().take(NAMED).map(|(name, network, file)| {
            format!("{} is {file:?} here, the model has {network:?}", one_line(name))
        });
        parts.push(list(wrong_shape.len(), "tensor", " of another shape", shapes.collect()));
    }
    let mend = if missing.is_empty() && unexpected.is_empty() { mend(wrong_shape) } else { None };
    let mend = mend.unwrap_or_else(|| "check the model's name and parameters".to_owned());
    format!("the checkpoint is of another network: {}; {mend}", parts.join("; "))
}

/// What explains that all these shapes differ, if something does.
fn mend(wrong_shape: &[WrongShape]) -> Option<String> {
    let channels = |(_, network, file): &WrongShape| match (&network[..], &file[..]) {
        ([out, ours @ (1 | 3), a, b], [o, theirs @ (1 | 3), c, d])
            if ours != theirs && (out, a, b) == (o, c, d) =>
        {
            Some(*theirs)
        }
        _ => None,
    };
    let (first, rest): (Vec<_>, Vec<_>) =
        wrong_shape.iter().cloned().partition(|wrong| channels(wrong).is_some());
    let pictures = match &first[..] {
        [] => None,
        [wrong] => channels(wrong).map(|theirs| match theirs {
            1 => "the file is of grey pictures: choose such data".to_owned(),
            _ => "the file is of coloured pictures: choose such data".to_owned(),
        }),
        _ => return None,
    };
    let others =
        || other_size(&rest).or_else(|| other_classes(&rest)).or_else(|| other_width(&rest));
    match (pictures, rest.is_empty()) {
        (pictures, true) => pictures,
        (None, false) => others(),
        (Some(pictures), false) => Some(format!("{pictures}; {}", others()?)),
    }
}

/// If one layer alone differs, and only in the values it takes, those are of pictures of another size.
fn other_size(wrong_shape: &[WrongShape]) -> Option<String> {
    let [(_, network, file)] = wrong_shape else { return None };
    let alike = match (&network[..], &file[..]) {
        ([a, _], [c, _]) => a == c,
        // Embeddings of the places of tokens.
        ([a, _, b], [c, _, d]) => (a, b) == (c, d),
        _ => false,
    };
    alike.then(|| {
        "the file is of pictures of another size: choose the resolution it was trained at"
            .to_owned()
    })
}

/// If the linear layers of one part differ alone, and its last one in its outputs, that part is the head.
fn other_classes(wrong_shape: &[WrongShape]) -> Option<String> {
    let part = |name: &str| name.split('.').next().map(str::to_owned);
    let head = part(&wrong_shape.first()?.0);
    let mut all = wrong_shape.iter();
    let in_head = all.all(|(name, network, file)| {
        part(name) == head && network.len() <= 2 && network.len() == file.len()
    });
    let (_, network, file) = wrong_shape.iter().rev().find(|(_, shape, _)| shape.len() == 2)?;
    let (ours, theirs) = (network[0], *file.first()?);
    (in_head && ours != theirs).then(|| {
        format!(
            "the file is of {theirs} classes, the model of {ours}: choose data of {theirs} classes, or give the file a head for {ours}"
        )
    })
}

/// If every axis that differs does so by one factor, the layers are wider.
fn other_width(wrong_shape: &[WrongShape]) -> Option<String> {
    let mut factor = None;
    for (_, network, file) in wrong_shape {
        if network.len() != file.len() {
            return None;
        }
        for (ours, theirs) in network.iter().zip(file).filter(|(ours, theirs)| ours != theirs) {
            let of_both = gcd(*ours, *theirs).max(1);
            let this = (theirs / of_both, ours / of_both);
            if *factor.get_or_insert(this) != this {
                return None;
            }
        }
    }
    let (theirs, ours) = factor?;
    let times = if ours == 1 { format!("{theirs} times") } else { format!("{theirs}/{ours} of") };
    Some(format!(
        "the file's layers have {times} the model's width: choose the model's width to match"
    ))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
