//! Finds cuBLAS and cuDNN and opens them, in such a way that cudarc's own `dlopen` by name is given the library that was found.
//!
//! cudarc asks the dynamic linker for `libcublas.so`, `libcublas.so.13`, `.12` and so on. The linker looks for such a name among the
//! libraries that are open already before it looks into folders: a library that was opened by its path is what cudarc gets. Only a file
//! called `libcublas.so`, as development packages install it, in a folder of the linker's own goes before.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cudarc::{cublas::sys as cublas, cudnn::sys as cudnn};

use super::search::{FOLDERS, Places, find};
use crate::cuda::driver::{Failure, Outcome};

/// What NVIDIA's libraries are there: matrix products need cuBLAS, convolutions cuDNN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// As NVIDIA calls it.
    pub name: &'static str,
    /// Which version it is; or why it cannot be used, and where it comes from.
    pub version: Result<String, String>,
    /// File that was opened, unless the dynamic linker found one by name.
    pub path: Option<PathBuf>,
}

impl Library {
    /// Fails with the reason if the library cannot be used.
    pub(super) fn usable(&self) -> Outcome {
        self.version.as_ref().map(|_| ()).map_err(|reason| Failure::new(reason.clone()))
    }
}

/// A library, and others that it opens itself when they are needed.
struct Family {
    name: &'static str,
    /// File name without the version.
    file: &'static str,
    /// Versions in file names, the best first.
    versions: &'static [&'static str],
    /// Others of the same version, to be opened before. They are found beside it where a package is whole.
    parts: &'static [&'static str],
    /// Where it comes from.
    package: &'static str,
}

const CUBLAS: Family = Family {
    name: "cuBLAS",
    file: "libcublas.so",
    versions: &["13", "12", "11"],
    parts: &["libcublasLt.so"],
    package: "`pip install nvidia-cublas` (for a driver of CUDA 12 `nvidia-cublas-cu12`), `apt install libcublas-13-0` from NVIDIA's \
              repository, or any PyTorch for CUDA brings it",
};

/// Parts that convolutions have no use for are left out: attention and recurrent networks (`adv`), and the engine that builds on them.
const CUDNN: Family = Family {
    name: "cuDNN",
    file: "libcudnn.so",
    versions: &["9"],
    parts: &[
        "libcudnn_graph.so",
        "libcudnn_ops.so",
        "libcudnn_cnn.so",
        "libcudnn_heuristic.so",
        "libcudnn_engines_precompiled.so",
        "libcudnn_engines_runtime_compiled.so",
    ],
    package: "`pip install nvidia-cudnn-cu13` (for a driver of CUDA 12 `nvidia-cudnn-cu12`), `apt install libcudnn9-cuda-13` from NVIDIA's \
              repository, or any PyTorch for CUDA brings it",
};

/// Looks for cuBLAS and cuDNN, and opens them; once in a process.
///
/// They are looked for in the folders of the environment variable `GPZ_CUDA_LIBS`, then by the dynamic linker, then in the folders of
/// CUDA's toolkit, of conda and of pip's packages.
pub fn libraries() -> &'static [Library; 2] {
    static LIBRARIES: OnceLock<[Library; 2]> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let places = Places::of_process();
        // A library of a newer CUDA than the driver's does not run on it.
        let newest = super::driver_version().map_or(u32::MAX, |[major, _]| major);
        // Code that cuDNN compiles while it runs needs the compiler, which its own path need not lead to.
        for version in ["13", "12"] {
            if version.parse().is_ok_and(|major: u32| major <= newest) {
                let folders = [&places.named[..], &places.usual[..]].concat();
                let file = find(&folders, &format!("libnvrtc.so.{version}"));
                file.map(|file| hold(&file).ok());
            }
        }
        [
            open(&CUBLAS, &places, newest, cublas_version),
            open(&CUDNN, &places, newest, cudnn_version),
        ]
    })
}

/// cuBLAS, as [`libraries`] found it.
pub(super) fn blas() -> &'static Library {
    &libraries()[0]
}

/// cuDNN, as [`libraries`] found it.
pub(super) fn dnn() -> &'static Library {
    &libraries()[1]
}

/// Opens a library for at most this major version of CUDA. Its own version, and that of the CUDA it is for, are told by the call that is
/// given, or nothing if cudarc does not find it.
fn open(
    family: &Family,
    places: &Places,
    newest: u32,
    versions: impl FnOnce() -> Outcome<Option<(String, u32)>>,
) -> Library {
    let Family { name, file, package, .. } = family;
    let (path, trouble) = match open_first(family, places, newest) {
        Ok(path) => (path, None),
        Err(trouble) => (None, Some(trouble)),
    };
    let version = match versions() {
        // The linker may know a library by a name that leaves the version open.
        Ok(Some((version, cuda))) if cuda > newest => Err(format!(
            "{name} {version} is for CUDA {cuda}, the driver for CUDA {newest}: a newer driver, or {package}"
        )),
        Ok(Some((version, _))) => Ok(version),
        Ok(None) => {
            Err(trouble.unwrap_or_else(|| format!("{name} ({file}) is not found: {package}")))
        }
        Err(Failure { reason, .. }) => Err(reason),
    };
    Library { name, version, path }
}

/// Opens the first that opens: its path, or nothing where the dynamic linker knew one; else a sentence about what is missing.
fn open_first(family: &Family, places: &Places, newest: u32) -> Result<Option<PathBuf>, String> {
    let mut broken = String::new();
    let fits = |version: &&&str| {
        family.name != CUBLAS.name || version.parse().is_ok_and(|v: u32| v <= newest)
    };
    let versions: Vec<&str> = family.versions.iter().filter(fits).copied().collect();
    let mut in_folders = |folders: &[PathBuf]| {
        for version in &versions {
            let Some(path) = find(folders, &format!("{}.{version}", family.file)) else { continue };
            open_parts(family, version, &path);
            match hold(&path) {
                Ok(()) => return Some(path),
                // The linker's own words name the file.
                Err(error) => broken = format!("; {}", innermost(&error)),
            }
        }
        None
    };
    if let Some(path) = in_folders(&places.named) {
        return Ok(Some(path));
    }
    if versions.iter().any(|version| hold(Path::new(&format!("{}.{version}", family.file))).is_ok())
    {
        return Ok(None);
    }
    if let Some(path) = in_folders(&places.usual).or_else(|| in_folders(places.told_by_python())) {
        return Ok(Some(path));
    }
    let Family { name, file, package, .. } = family;
    let version = versions.first().copied().unwrap_or(family.versions[0]);
    Err(format!(
        "{name} ({file}.{version}) is not found: {package}; a folder that is not looked into can be named in {FOLDERS}{broken}"
    ))
}

/// Opens what lies beside a library and belongs to it. What is missing or broken is left to the library: it may do without.
fn open_parts(family: &Family, version: &str, path: &Path) {
    for part in family.parts {
        let part = path.with_file_name(format!("{part}.{version}"));
        if part.is_file() {
            hold(&part).ok();
        }
    }
}

/// Opens a library for as long as the process lives, with its names in sight of libraries that are opened later.
#[cfg(unix)]
fn hold(path: &Path) -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: what runs when one of NVIDIA's libraries is opened prepares the library and nothing else.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

/// Elsewhere cudarc's own search has to do.
#[cfg(not(unix))]
fn hold(_path: &Path) -> Result<(), libloading::Error> {
    Err(libloading::Error::DlOpenUnknown)
}

/// The words of the system.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// Fails if a library lacks a function: cudarc panics at the call of one.
pub(super) fn require(library: &libloading::Library, what: &str, functions: &[&str]) -> Outcome {
    for function in functions {
        // SAFETY: the function is only looked for.
        let found = unsafe { library.get::<unsafe extern "C" fn()>(*function) };
        found.map_err(|_| {
            Failure::new(format!("{what} has no function {function}: its version does not fit"))
        })?;
    }
    Ok(())
}

fn cublas_version() -> Outcome<Option<(String, u32)>> {
    // SAFETY: opens the library, and may close it again.
    if !unsafe { cublas::is_culib_present() } {
        return Ok(None);
    }
    // SAFETY: the library is present, as just seen.
    require(unsafe { cublas::culib() }, CUBLAS.name, super::blas::FUNCTIONS)?;
    let mut numbers = [0; 3];
    use cublas::libraryPropertyType_t::{MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL};
    for (number, part) in numbers.iter_mut().zip([MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL]) {
        // SAFETY: the function is there, and writes one number. It needs no device.
        unsafe { cublas::cublasGetProperty(part, number) };
    }
    let version = numbers.map(|number| number.to_string()).join(".");
    Ok(Some((version, numbers[0].unsigned_abs())))
}

fn cudnn_version() -> Outcome<Option<(String, u32)>> {
    // SAFETY: opens the library, and may close it again.
    if !unsafe { cudnn::is_culib_present() } {
        return Ok(None);
    }
    // SAFETY: the library is present, as just seen.
    let library = unsafe { cudnn::culib() };
    require(library, CUDNN.name, &["cudnnGetVersion"])?;
    // SAFETY: the function is there, and takes nothing. It needs no device.
    let version = unsafe { cudnn::cudnnGetVersion() };
    // 8.9.7 is 8907, 9.10.2 is 91002.
    if version < 90000 {
        let old = format!("{}.{}.{}", version / 1000, version / 100 % 10, version % 100);
        let package = CUDNN.package;
        return Err(Failure::new(format!(
            "cuDNN {old} is too old, version 9 is needed: {package}"
        )));
    }
    require(library, CUDNN.name, super::convolution::FUNCTIONS)?;
    // SAFETY: as for the version. It is that of the runtime within cuDNN: 13000.
    let cuda = unsafe { cudnn::cudnnGetCudartVersion() } / 1000;
    let version = format!("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
    Ok(Some((version, cuda as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Places {
        Places { ask_python: false, ..Places::new(&|_| None, Path::new("/nowhere")) }
    }

    fn missing(places: &Places) -> String {
        const NEVER: Family = Family {
            name: "a library",
            file: "libgpz_never_there.so",
            versions: &["7"],
            parts: &["libgpz_part.so"],
            package: "`pip install it`",
        };
        open_first(&NEVER, places, 13).unwrap_err()
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let places = nowhere();
        let sentence = missing(&places);
        assert!(sentence.contains("libgpz_never_there.so.7"), "{sentence}");
        assert!(sentence.contains("pip install it") && sentence.contains(FOLDERS), "{sentence}");
    }

    #[test]
    fn a_file_that_is_no_library_is_said_to_be_broken() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["libgpz_never_there.so.7", "libgpz_part.so.7"] {
            std::fs::write(folder.path().join(file), "no library").unwrap();
        }
        let places = Places { named: vec![folder.path().to_owned()], ..nowhere() };
        let sentence = missing(&places);
        assert!(sentence.contains("libgpz_never_there.so.7: "), "{sentence}");
    }

    /// A driver of CUDA 12 cannot run a library of CUDA 13.
    #[test]
    fn the_name_asked_for_is_one_the_driver_can_run() {
        let places = nowhere();
        if let Err(sentence) = open_first(&CUBLAS, &places, 12) {
            assert!(sentence.contains("libcublas.so.12"), "{sentence}");
        }
    }
}
