//! Folders that may hold NVIDIA's libraries where the dynamic linker does not look: a toolkit's, conda's, and those of pip's packages,
//! which a PyTorch brings along.

use std::cell::OnceCell;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Environment variable with folders to look in first, separated by colons.
pub(super) const FOLDERS: &str = "GPZ_CUDA_LIBS";

/// Where to look for libraries. Everything comes from outside, so that tests have places of their own.
pub(super) struct Places {
    /// Folders named by the user.
    pub(super) named: Vec<PathBuf>,
    /// Folders of toolkits and of conda, and those of pip's packages in the usual places.
    pub(super) usual: Vec<PathBuf>,
    /// Whether Python may be asked for its packages.
    pub(super) ask_python: bool,
    /// What it said.
    pub(super) told: OnceCell<Vec<PathBuf>>,
}

impl Places {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        Self::new(&|name| env::var_os(name), Path::new("/"))
    }

    /// Those that environment variables name, and the usual ones below a root.
    pub(super) fn new(variable: &dyn Fn(&str) -> Option<OsString>, root: &Path) -> Self {
        let folders = |name: &str| {
            let value = variable(name).unwrap_or_default();
            env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>()
        };
        let mut usual: Vec<PathBuf> = Vec::new();
        for name in ["CUDA_HOME", "CUDA_PATH"] {
            usual.extend(folders(name).iter().map(|toolkit| toolkit.join("lib64")));
        }
        usual.extend(folders("CONDA_PREFIX").iter().map(|prefix| prefix.join("lib")));
        usual.push(root.join("usr/local/cuda/lib64"));

        // An environment that is switched on goes before the Python that is found on the way.
        let mut prefixes = [folders("VIRTUAL_ENV"), folders("CONDA_PREFIX")].concat();
        for folder in folders("PATH") {
            // `bin/python3` of a virtual environment is a link to another Python: its packages lie beside the link.
            let python = folder.join("python3");
            if python.exists() {
                prefixes.extend(python.ancestors().nth(2).map(Path::to_owned));
                let real = fs::canonicalize(&python).unwrap_or_default();
                prefixes.extend(real.ancestors().nth(2).map(Path::to_owned));
                break;
            }
        }
        prefixes.extend(folders("HOME").iter().map(|home| home.join(".local")));
        prefixes.extend([root.join("usr/local"), root.join("usr")]);
        let packages = prefixes.iter().flat_map(|prefix| packages_below(prefix));
        usual.extend(packages.flat_map(|packages| pip_folders(&packages)));
        Places { named: folders(FOLDERS), usual, ask_python: true, told: OnceCell::new() }
    }

    /// Folders of packages that Python names, where it lies somewhere else. Starting it takes a moment: a last resort.
    pub(super) fn told_by_python(&self) -> &[PathBuf] {
        if !self.ask_python {
            return &[];
        }
        self.told.get_or_init(|| {
            let program = r"import sys; print('\n'.join(sys.path))";
            let python =
                Command::new("python3").args(["-c", program]).stdin(Stdio::null()).output();
            let lines = python.map(|output| output.stdout).unwrap_or_default();
            let lines = String::from_utf8_lossy(&lines).into_owned();
            let paths = lines.lines().filter(|line| !line.is_empty()).map(Path::new);
            paths.flat_map(pip_folders).collect()
        })
    }
}

/// `lib/python3*/site-packages` and Debian's `dist-packages` below a prefix, the newest Python first.
fn packages_below(prefix: &Path) -> Vec<PathBuf> {
    let mut pythons = Vec::new();
    for lib in ["lib", "lib64"] {
        let names = children(&prefix.join(lib));
        pythons.extend(names.into_iter().filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
        }));
    }
    let minor = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix("python3.").and_then(|minor| minor.parse::<u32>().ok()).unwrap_or(0)
    };
    pythons.sort_by_key(|path| std::cmp::Reverse(minor(path)));
    let kinds = ["site-packages", "dist-packages"];
    let packages = pythons.iter().flat_map(|python| kinds.map(|kind| python.join(kind)));
    packages.filter(|path| path.is_dir()).collect()
}

/// `nvidia/*/lib` among the packages of a Python: each library has a folder of its own in wheels for CUDA 12, those for CUDA 13 share
/// `nvidia/cu13`.
fn pip_folders(packages: &Path) -> Vec<PathBuf> {
    let folders = children(&packages.join("nvidia"));
    folders.into_iter().map(|folder| folder.join("lib")).filter(|lib| lib.is_dir()).collect()
}

/// What a folder holds, in order of name; nothing if it does not exist.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The file of this name in the first folder that has one.
pub(super) fn find(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "no library").unwrap();
    }

    /// Places below `root` with these variables; a path that begins with `/` lies below `root` as well.
    fn places(root: &Path, variables: &[(&str, &str)]) -> Places {
        let below = |path: &str| root.join(path.trim_start_matches('/')).into_os_string();
        let variable = |name: &str| {
            let value = variables.iter().find(|(other, _)| *other == name)?.1;
            Some(env::join_paths(value.split(':').map(below)).unwrap())
        };
        Places { ask_python: false, ..Places::new(&variable, root) }
    }

    #[test]
    fn named_folders_are_kept_in_order_and_need_not_exist() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        file(&root.join("b/libx.so.1"));
        let places = places(root, &[(FOLDERS, "/nowhere:/b")]);
        assert_eq!(places.named, [root.join("nowhere"), root.join("b")]);
        assert_eq!(find(&places.named, "libx.so.1"), Some(root.join("b/libx.so.1")));
        assert_eq!(find(&places.named, "libx.so.2"), None);
    }

    #[test]
    fn an_empty_variable_names_no_folder() {
        let variable = |name: &str| (name == FOLDERS).then(|| OsString::from(":"));
        assert!(Places::new(&variable, Path::new("/nowhere")).named.is_empty());
    }

    /// Wheels for CUDA 12 have a folder for each library, those for CUDA 13 one for all but cuDNN.
    #[test]
    fn wheels_lie_beside_the_python_of_an_environment() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let packages = root.join("env/lib/python3.12/site-packages/nvidia");
        file(&packages.join("cu13/lib/libcublas.so.13"));
        file(&packages.join("cudnn/lib/libcudnn.so.9"));
        file(&root.join("usr/lib/python3/dist-packages/nvidia/cublas/lib/libcublas.so.12"));
        let of_environment = places(root, &[("VIRTUAL_ENV", "/env")]);
        let found = |name| find(&of_environment.usual, name);
        assert_eq!(found("libcublas.so.13"), Some(packages.join("cu13/lib/libcublas.so.13")));
        assert_eq!(found("libcudnn.so.9"), Some(packages.join("cudnn/lib/libcudnn.so.9")));
        assert!(found("libcublas.so.12").is_some(), "the system's packages come after");
        assert_eq!(find(&places(root, &[]).usual, "libcudnn.so.9"), None);
    }

    #[test]
    fn the_first_python_on_the_path_counts_even_where_it_is_a_link() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        file(&root.join("opt/bin/python3.11"));
        file(&root.join("opt/lib/python3.9/site-packages/nvidia/cudnn/lib/libcudnn.so.9"));
        file(&root.join("opt/lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9"));
        file(&root.join("other/bin/python3"));
        file(&root.join("other/lib/python3.12/site-packages/nvidia/x/lib/libx.so.1"));
        fs::create_dir_all(root.join("bin")).unwrap();
        std::os::unix::fs::symlink(root.join("opt/bin/python3.11"), root.join("bin/python3"))
            .unwrap();
        let places = places(root, &[("PATH", "/empty:/bin:/other/bin")]);
        let folders: Vec<_> = places.usual.iter().filter(|path| path.ends_with("lib")).collect();
        let newest = root.join("opt/lib/python3.11/site-packages/nvidia/cudnn/lib");
        let older = root.join("opt/lib/python3.9/site-packages/nvidia/cudnn/lib");
        let newest = newest.canonicalize().unwrap();
        assert_eq!(folders.len(), 2, "{folders:?}");
        assert_eq!(folders[0].canonicalize().unwrap(), newest);
        assert_eq!(folders[1].canonicalize().unwrap(), older.canonicalize().unwrap());
    }

    #[test]
    fn toolkits_and_conda_come_before_wheels() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for folder in ["cuda/lib64", "conda/lib", "conda/lib/python3.10/site-packages/nvidia/a/lib"]
        {
            file(&root.join(folder).join("libx.so.1"));
        }
        let places = places(root, &[("CUDA_HOME", "/cuda"), ("CONDA_PREFIX", "/conda")]);
        let holding = places.usual.iter().filter(|folder| folder.join("libx.so.1").exists());
        let holding: Vec<_> = holding.map(|folder| folder.strip_prefix(root).unwrap()).collect();
        let wheel = Path::new("conda/lib/python3.10/site-packages/nvidia/a/lib");
        assert_eq!(holding, [Path::new("cuda/lib64"), Path::new("conda/lib"), wheel]);
    }
}
