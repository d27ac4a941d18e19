//! The texts agree with what is said of them: names, arguments, threads, headers.

use std::collections::BTreeSet;
use std::path::Path;

use ptx_sim::Module;

/// The value of a header line such as `// Args:     …`.
fn header<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let start = format!("// {key}:");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(str::trim)
}

#[test]
fn every_text_is_a_kernel_of_that_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ptx");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .strip_suffix(".ptx")
                .map(str::to_owned)
        })
        .collect();
    let entries: BTreeSet<String> =
        gpz_kernels::all().map(|kernel| kernel.entry.to_owned()).collect();
    assert_eq!(files, entries);
    for kernel in gpz_kernels::all() {
        let module = Module::parse(kernel.text).unwrap();
        let names: Vec<&str> = module.kernels().map(ptx_sim::Kernel::name).collect();
        assert_eq!(names, [kernel.entry]);
        assert_eq!(module.target(), "sm_80", "{}", kernel.entry);
        assert!(kernel.text.contains("\n.version 7.8\n"), "{}", kernel.entry);
        let threads = kernel.block.map(|threads| threads.to_string()).join(", ");
        assert!(kernel.text.contains(&format!("\n.reqntid {threads}\n")), "{}", kernel.entry);
    }
}

#[test]
fn headers_name_every_argument_with_its_type() {
    for kernel in gpz_kernels::all() {
        let place = kernel.entry;
        let first = kernel.text.lines().next().unwrap();
        assert!(first.starts_with(&format!("// {place}.ptx -- ")), "{place}: {first}");
        for key in ["Oracle", "Launch", "Bound", "Numerics"] {
            assert!(
                header(kernel.text, key).is_some_and(|value| !value.is_empty()),
                "{place}: {key}"
            );
        }
        let args = header(kernel.text, "Args").unwrap();
        // `sum, squares: f64[k, d]` are two arguments of one type.
        let mut said = Vec::new();
        for group in args.split(';') {
            let (names, ty) = group.split_once(':').unwrap();
            for name in names.split(',') {
                let ty = ty.trim();
                // What a kernel takes by its address; an array of bytes is passed itself.
                let by_address = ty.contains('[') && !ty.starts_with("b8[");
                let ty = if by_address { "u64" } else { ty };
                said.push((format!("p_{}", name.trim()), ty.to_owned()));
            }
        }
        let module = Module::parse(kernel.text).unwrap();
        let params = module.kernel(place).unwrap().params();
        let found: Vec<(String, String)> =
            params.iter().map(|param| (param.name.clone(), param.ty.clone())).collect();
        assert_eq!(found, said, "{place}");
    }
}

/// The launch that a header describes is the one that the code makes.
#[test]
fn launches_are_those_of_the_headers() {
    for kernel in gpz_kernels::all() {
        let launch = header(kernel.text, "Launch").unwrap();
        let [x, y, z] = kernel.block;
        let block =
            if z == 1 { format!("block ({x}, {y})") } else { format!("block ({x}, {y}, {z})") };
        assert!(launch.starts_with(&block), "{}: {launch}", kernel.entry);
        // Where a block is not for so many of anything, the header says how many there are.
        let tile = if kernel.tile == 1 { "grid (".into() } else { format!("/ {})", kernel.tile) };
        assert!(launch.contains(&tile), "{}: {launch}", kernel.entry);
    }
}
