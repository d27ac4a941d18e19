//! Weights from elsewhere: what is loaded is said in a line, what is not is refused in one.

use std::io::Write;

use crate::common::{MODEL, Place};

/// A text as a pickle of protocol 2 holds it.
fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn integers(values: &[usize]) -> Vec<u8> {
    let each = values.iter().flat_map(|v| [&b"J"[..], &(*v as i32).to_le_bytes()].concat());
    [&b"("[..], &each.collect::<Vec<u8>>(), b"t"].concat()
}

/// An archive as torch.save writes it.
fn archive(pickle: &[u8], storages: &[Vec<u8>]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        zip.start_file(format!("archive/{name}"), options).expect("an entry");
        zip.write_all(bytes).expect("its bytes");
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    for (key, bytes) in storages.iter().enumerate() {
        add(&format!("data/{key}"), bytes);
    }
    zip.finish().expect("an archive").into_inner()
}

/// The trained target as a training script of PyTorch saves it: `{"epoch": 3, "state_dict": {"module.NAME": ...}}`, in 64 bit floats.
fn trained(place: &Place) -> Vec<u8> {
    let file = place.read("target/target.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("weights");
    let mut pickle =
        [&b"\x80\x02}("[..], &text("epoch"), b"K\x03", &text("state_dict"), b"}("].concat();
    let mut storages = Vec::new();
    for (name, tensor) in tensors.iter() {
        let is_counter = tensor.dtype() == safetensors::Dtype::I64;
        let bytes: Vec<u8> = match is_counter {
            true => tensor.data().to_vec(),
            false => {
                let floats =
                    tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
                floats.flat_map(|value| f64::from(value).to_le_bytes()).collect()
            }
        };
        let class = if is_counter { "LongStorage" } else { "DoubleStorage" };
        let shape = tensor.shape();
        let strides: Vec<usize> =
            (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        pickle.extend(text(&format!("module.{name}")));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend([text("storage"), format!("ctorch\n{class}\n").into_bytes()].concat());
        pickle.extend([text(&storages.len().to_string()), text("cpu")].concat());
        pickle.extend([&b"J"[..], &(bytes.len() as i32 / 8).to_le_bytes(), b"tQK\0"].concat());
        pickle.extend([integers(shape), integers(&strides), b"\x89}tR".to_vec()].concat());
        storages.push(bytes);
    }
    pickle.extend(b"uu.");
    archive(&pickle, &storages)
}

fn features(weights: &str, out: &str) -> String {
    format!(
        "features --model {MODEL} --weights {weights} --input images --resolution 16 --split 1 --out {out}"
    )
}

#[test]
fn a_pytorch_file_is_the_same_target() {
    let place = Place::with_images();
    place.train_target();
    // The name tells nothing: the contents do.
    for name in ["model.pth", "model.safetensors"] {
        place.write(name, &trained(&place));
        let output = place.run(&features(name, "theirs.safetensors"));
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(0), "{said}");
        let want = format!(
            "gpz: {name}: weights under \"state_dict\", prefix \"module.\" dropped, 28 tensors of float64 converted to float32"
        );
        assert!(said.lines().any(|line| line == want), "{want:?} is missing in: {said}");
        place.ok(&features("target/target.safetensors", "ours.safetensors"));
        assert_eq!(place.read("theirs.safetensors"), place.read("ours.safetensors"));
    }
    // A run says it once, below its headline, and keeps the weights as it uses them.
    let invert = format!(
        "invert --config tiny.toml --model {MODEL} --weights model.pth --data images --split 1 --epochs 1 --out attack"
    );
    let output = place.run(&invert);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("weights under").count(), 1, "{said}");
    assert!(said.starts_with("gpz 0"), "{said}");
}

#[test]
fn what_is_no_state_dict_is_refused_in_a_line() {
    let place = Place::with_images();
    place.train_target();
    let whole = trained(&place);
    let calls = [
        &b"\x80\x02}"[..],
        &text("state_dict"),
        b"cposix\nsystem\n",
        &text("touch executed"),
        b"\x85Rs.",
    ]
    .concat();
    let network = b"\x80\x02c__main__\nNet\n)\x81}b.";
    let empty_dict = [&b"\x80\x02}"[..], &text("epoch"), b"K\x03s."].concat();
    let cases: [(&str, Vec<u8>, &[&str]); 11] = [
        (
            "calls.pth",
            archive(&calls, &[]),
            &["wants to call os.system", "nothing of it was executed", "state_dict()"],
        ),
        ("calls.pt", calls.clone(), &["wants to call os.system"]),
        (
            "whole.pth",
            archive(network, &[]),
            &["whole network was pickled (__main__.Net)", "model.state_dict()"],
        ),
        (
            "none.ckpt",
            archive(&empty_dict, &[]),
            &["a mapping without tensors; its keys are epoch"],
        ),
        (
            "cut.pth",
            whole[..whole.len() - 30].to_vec(),
            &["damaged PyTorch file", "fetch it again"],
        ),
        (
            "half.pth",
            whole[..whole.len() / 2].to_vec(),
            &["damaged PyTorch file", "fetch it again"],
        ),
        (
            "lfs.bin",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(),
            &["Git LFS pointer", "git lfs pull"],
        ),
        ("page.pth", b"<!DOCTYPE html>\n<html>".to_vec(), &["a web page", "fetch it again"]),
        ("picture.pth", b"\x89PNG\r\n\x1a\n".to_vec(), &["a PNG picture"]),
        ("empty.pth", Vec::new(), &["it is empty", "fetch it again"]),
        (
            "notes.txt",
            b"nothing\nto see".to_vec(),
            &["not a checkpoint", "safetensors", "torch.save"],
        ),
    ];
    for (name, bytes, parts) in cases {
        place.write(name, &bytes);
        let named = [&[name][..], parts].concat();
        place.refused_naming(&features(name, "z.safetensors"), &named);
        let run =
            format!("--config tiny.toml --model {MODEL} --weights {name} --data images --out run");
        place.refused_naming(&format!("audit {run}"), &named);
        place.refused_naming(&format!("invert {run} --split 1"), &named);
    }
}

#[test]
fn weights_of_another_network_name_what_differs() {
    let place = Place::with_images();
    place.train_target();
    place.write("model.pth", &trained(&place));
    let other = features("model.pth", "z.safetensors").replace(MODEL, "cnn4:width=4");
    place.refused_naming(
        &other,
        &[
            "model.pth",
            "of another shape: block1.0.weight is [2, 1, 3, 3] here, the model has [4, 1, 3, 3]",
            "width",
        ],
    );
    std::fs::remove_dir_all(place.path("images/train/class2")).expect("a folder");
    std::fs::remove_dir_all(place.path("images/test/class2")).expect("a folder");
    place.refused_naming(
        &features("model.pth", "z.safetensors"),
        &["model.pth", "4 tensors of another shape", "the file is of 3 classes, the model of 2"],
    );
}
