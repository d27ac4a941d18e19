//! The functions and classes that a checkpoint may name.
//!
//! Nothing is ever called, so the list protects nobody from this reader: it keeps a file that would run somebody's code when PyTorch
//! reads it from passing for weights. What stands on the list and means no tensor is left alone where it is no weight.

/// What a name is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Understood, or harmless beside the weights.
    Harmless,
    /// Part of a network that was pickled whole.
    Network,
    /// Anything else.
    Unknown,
}

/// Modules as Python 3 calls them, and one name for the functions of every system.
pub(super) fn modern(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        "posix" | "nt" => "os",
        other => other,
    }
}

/// What a name is to the reader; `module` as [`modern`] calls it.
pub(super) fn verdict(module: &str, name: &str) -> Verdict {
    let one_of = |names: &[&str]| names.contains(&name);
    let harmless = match module {
        "collections" => one_of(&["OrderedDict", "defaultdict", "Counter", "deque"]),
        "argparse" => name == "Namespace",
        "types" => name == "SimpleNamespace",
        "typing" => name == "Any",
        "pathlib" | "pathlib._local" => one_of(&[
            "Path",
            "PosixPath",
            "WindowsPath",
            "PurePath",
            "PurePosixPath",
            "PureWindowsPath",
        ]),
        "datetime" => one_of(&["date", "datetime", "time", "timedelta", "timezone"]),
        "decimal" => name == "Decimal",
        "fractions" => name == "Fraction",
        "uuid" => name == "UUID",
        "builtins" => one_of(&[
            "set",
            "frozenset",
            "list",
            "dict",
            "tuple",
            "int",
            "float",
            "complex",
            "bool",
            "str",
            "bytes",
            "bytearray",
            "slice",
            "range",
            "object",
        ]),
        "copyreg" => name == "_reconstructor",
        "_codecs" => name == "encode",
        "numpy" => {
            let number = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
            one_of(&["ndarray", "dtype"])
                || ["float", "int", "uint", "bool", "complex", "str"].contains(&number)
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" => one_of(&["_reconstruct", "scalar"]),
        "numpy.core.numeric" | "numpy._core.numeric" => name == "_frombuffer",
        "torch" => {
            name.ends_with("Storage")
                || one_of(&["Size", "device", "Tensor"])
                || is_torch_constant(name)
        }
        "torch.cuda" => name.ends_with("Storage"),
        "torch.storage" => name.ends_with("Storage"),
        "torch._utils" => name.starts_with("_rebuild_"),
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch.serialization" => name == "_get_layout",
        "torch.nn.parameter" => one_of(&["Parameter", "Buffer"]),
        "pytorch_lightning.utilities.parsing" | "lightning_fabric.utilities.data" => {
            name == "AttributeDict"
        }
        _ => module.starts_with("omegaconf."),
    };
    let network = ["torch.nn.", "torch.fx.", "__torch__."];
    match harmless {
        true => Verdict::Harmless,
        false if network.iter().any(|start| module.starts_with(start)) => Verdict::Network,
        false => Verdict::Unknown,
    }
}

/// Element types, memory formats, layouts and schemes of quantisation.
fn is_torch_constant(name: &str) -> bool {
    let starts = [
        "float",
        "bfloat",
        "half",
        "double",
        "int",
        "uint",
        "long",
        "short",
        "bool",
        "complex",
        "cfloat",
        "cdouble",
        "qint",
        "quint",
        "per_tensor_",
        "per_channel_",
        "sparse_",
        "strided",
        "contiguous_format",
        "channels_last",
        "preserve_format",
    ];
    starts.iter().any(|start| name.starts_with(start))
}

/// What is wrong with a value that one of PyTorch's functions makes, and the mend, as words after the value's name.
pub(super) fn unusable(function: &str) -> (&'static str, &'static str) {
    if function.contains("sparse") {
        ("a sparse tensor", "save it dense, by its to_dense()")
    } else if function.contains("qtensor") {
        ("a quantised tensor", "save the float network, or the tensor's dequantize()")
    } else if function.contains("nested") {
        ("a nested tensor", "save its parts as tensors of their own")
    } else if function.contains("meta_tensor") {
        ("a tensor without values", "save the network after its weights were loaded")
    } else {
        ("no plain tensor", "save it as a tensor of floats")
    }
}
