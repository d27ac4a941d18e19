//! What is refused, and by which name.

use gpz_nn::checkpoint;

use crate::{arange, archive, file, one_tensor, packed, refused, values};

#[test]
fn what_would_run_code_is_refused_by_name() {
    for (name, function) in [
        ("calls-system.pth", "os.system"),
        ("calls-system-legacy.pth", "os.system"),
        ("calls-protocol0.pkl", "os.system"),
        ("calls-exec.pth", "builtins.exec"),
        ("calls-eval.pth", "builtins.eval"),
    ] {
        let line = refused(&file(name));
        let want = format!(
            "it wants to call {function}: nothing of it was executed; save the network's state_dict() instead"
        );
        assert_eq!(line, want, "{name}");
    }
    let line = refused(&file("model.pth"));
    assert!(line.contains("a whole network was pickled (__main__.Net)"), "{line}");
    assert!(line.contains("torch.save(model.state_dict(), FILE)"), "{line}");
    let line = refused(&file("object-beside.pth"));
    assert!(line.contains("it holds __main__.Config, which is no data"), "{line}");
    let line = refused(&file("script.pt"));
    assert!(line.contains("a TorchScript program"), "{line}");
}

#[test]
fn tensors_that_are_not_read_are_refused_by_name() {
    for (name, parts) in [
        ("sparse.pth", ["fc.weight is a sparse tensor", "to_dense()"]),
        ("quantised.pth", ["fc.weight is a quantised tensor", "save the float network"]),
        ("complex.pth", ["w is of type", "save it as float32"]),
        ("uint16.pth", ["w is of type uint16", "save it as float32"]),
        ("float8.pth", ["w is of type float8_e4m3fn", "save it as float32"]),
        ("expanded.pth", ["w of shape [4, 3] overlaps itself", "save it again"]),
        ("big-endian-array.pkl", ["w is a big-endian NumPy array", "astype"]),
    ] {
        let line = refused(&file(name));
        assert!(parts.iter().all(|part| line.contains(part)), "{name}: {line}");
    }
}

#[test]
fn files_that_are_no_checkpoints_are_named() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let tar = [&[b'a'; 257][..], b"ustar", &[0; 300]].concat();
    for (bytes, named) in [
        (&b""[..], "it is empty"),
        (lfs, "a Git LFS pointer, not the file itself; run git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<html>\n", "a web page"),
        (b"hello there\nand more", r#"it begins with "hello there"#),
        (b"config = 1\n", "it begins with"),
        (b"(a note)\n", "it begins with"),
        (b"\x1f\x8b\x08\0", "packed with gzip; unpack it first"),
        (&tar, "a tar archive"),
        (b"{\"a\": 1}", "a JSON text"),
        (b"\x10\0\0\0", "it begins with"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "a zip archive without data.pkl"),
        (b"\x80\x02K\x01.", "no mapping of names to tensors"),
        (b"\x80\x02}.", "an empty mapping"),
        (b"\x80\x02}X\x05\0\0\0epochK\x01s.", "a mapping without tensors; its keys are epoch"),
    ] {
        let line = refused(bytes);
        assert!(line.contains(named), "{named:?} is missing in: {line}");
    }
}

/// Keys that tell nobody's weights from another's.
#[test]
fn several_mappings_of_tensors_are_not_guessed_among() {
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let array = b"\x8c\x16numpy._core.multiarray\x8c\x0c_reconstruct\x93)R";
    let inner = [&b"}"[..], &text("w"), array, b"s"].concat();
    let one = [&b"\x80\x04}"[..], &text("generator"), &inner, b"s."].concat();
    // The one mapping of tensors is taken, and its array found malformed.
    assert!(refused(&one).contains("w is a malformed NumPy array"), "{}", refused(&one));
    let two = [&one[..one.len() - 1], &text("critic"), &inner, b"s."].concat();
    assert!(
        refused(&two).contains("several mappings of tensors: critic, generator"),
        "{}",
        refused(&two)
    );
}

/// Before PyTorch 1.6 a network's class was referred to as storages are.
#[test]
fn whole_networks_of_the_old_format() {
    let state = file("state-legacy.pth");
    let pickles: Vec<usize> =
        state.windows(2).enumerate().filter(|(_, w)| w == b"\x80\x02").map(|(at, _)| at).collect();
    let text =
        |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let class = [
        &b"("[..],
        &text("module"),
        b"c__main__\nNet\n",
        &text("net.py"),
        &text("class Net: ..."),
        b"tQ",
    ]
    .concat();
    let object = [&b"\x80\x02"[..], &class, b")\x81}b."].concat();
    let whole = [&state[..pickles[3]], &object[..], b"\x80\x02]."].concat();
    let line = refused(&whole);
    assert!(line.contains("a whole network was pickled (__main__.Net)"), "{line}");
}

#[test]
fn big_endian_files_are_refused_by_name() {
    let mut state = file("state-legacy.pth");
    let at = state.windows(13).position(|w| w == b"little_endian").unwrap();
    let flag = at + state[at..].iter().position(|b| *b == 0x88).unwrap();
    state[flag] = 0x89;
    assert!(refused(&state).contains("a big-endian file; load it with torch.load"));
    let bytes = archive(&[("byteorder", b"big"), ("data.pkl", b"\x80\x02}.")]);
    assert!(refused(&bytes).contains("a big-endian file; load it with torch.load"));
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let data: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let with = |pickle: &[u8]| archive(&[("data.pkl", pickle), ("data/0", &data)]);
    let [zero, one, two, three, six] =
        [b"K\0", b"K\x01", b"K\x02", b"K\x03", b"K\x06"].map(|b| &b[..]);
    let huge = &b"\x8a\x08\0\0\0\0\0\0\0\x40"[..]; // 2^62
    let (minus, wide) = (&b"J\xff\xff\xff\xff"[..], &b"\x8a\x09\0\0\0\0\0\0\0\0\x01"[..]);
    let sound = one_tensor(six, zero, &[two, three], &[three, one]);
    let read = checkpoint::read(&with(&sound)).unwrap();
    assert_eq!(values(&read, "w"), (vec![2, 3], arange(6)));
    for (pickle, named) in [
        (
            one_tensor(six, one, &[two, three], &[three, one]),
            "reaches beyond its storage of 6 values",
        ),
        (one_tensor(six, zero, &[three, three], &[three, one]), "reaches beyond its storage"),
        (one_tensor(six, zero, &[two, three], &[six, one]), "reaches beyond its storage"),
        (one_tensor(six, zero, &[two, three], &[one, one]), "overlaps itself"),
        (one_tensor(six, zero, &[two, three], &[zero, one]), "overlaps itself"),
        (one_tensor(six, zero, &[huge], &[one]), "larger than the file"),
        (one_tensor(six, zero, &[huge, huge], &[one, one]), "larger than the file"),
        (one_tensor(huge, zero, &[huge], &[one]), "w is a malformed tensor"),
        (one_tensor(six, huge, &[two], &[one]), "reaches beyond"),
        (one_tensor(six, zero, &[two], &[huge]), "reaches beyond"),
        (one_tensor(six, zero, &[zero, huge, huge], &[one, one, one]), "larger than the file"),
        (one_tensor(six, minus, &[two], &[one]), "a negative size, stride or offset"),
        (one_tensor(six, zero, &[minus], &[one]), "a negative size"),
        (one_tensor(six, zero, &[two], &[minus]), "a negative size"),
        (one_tensor(six, zero, &[wide], &[one]), "a negative size"),
        (one_tensor(six, zero, &[two], &[one, one]), "1 sizes and 2 strides"),
        (one_tensor(six, zero, &[one; 7], &[one; 7]), "has 7 axes"),
        (one_tensor(three, zero, &[two], &[one]), "storage 0 has 24 bytes instead of 12"),
    ] {
        let line = refused(&with(&pickle));
        assert!(line.contains(named), "{named:?} is missing in: {line}");
    }
    let line = refused(&archive(&[("data.pkl", &sound)]));
    assert!(line.contains("storage 0 is not there"), "{line}");
}

/// A thousand names for one tensor, and a packed storage of zeros: little to send, much to hold.
#[test]
fn files_that_swell_are_refused() {
    let zeros = vec![0u8; 4 << 20];
    let len = [&b"J"[..], &(1u32 << 20).to_le_bytes()].concat();
    let pickle = one_tensor(&len, b"K\0", &[&len], &[b"K\x01"]);
    let bytes =
        packed(&[("data.pkl", &pickle), ("data/0", &zeros)], zip::CompressionMethod::Deflated);
    assert!(bytes.len() < 10_000);
    let line = refused(&bytes);
    assert!(line.contains("unpacks to more than 4 times the file's size"), "{line}");

    let start = b"\x80\x02}X\x01\0\0\0w".len();
    let tensor = &pickle[start..pickle.len() - 2];
    let mut many = [&b"\x80\x02}X\x01\0\0\0w"[..], tensor, b"q\x01s"].concat();
    for i in 0..1000u32 {
        many.extend([&b"X\x04\0\0\0"[..], format!("{i:04}").as_bytes(), b"h\x01s"].concat());
    }
    many.push(b'.');
    let line = refused(&archive(&[("data.pkl", &many), ("data/0", &zeros)]));
    assert!(line.contains("larger than the file can hold"), "{line}");
}

#[test]
fn hostile_pickles_end_in_an_error() {
    let deep = [&b"\x80\x02"[..], &vec![b'('; 1 << 16], &vec![b't'; 1 << 16], b"."].concat();
    // A list that holds itself, under a name.
    let circular = b"\x80\x02}q\0X\x05\0\0\0modelh\0s.".to_vec();
    let named_long =
        [&b"\x80\x02}X"[..], &(1u32 << 20).to_le_bytes(), &vec![b'a'; 1 << 20], b"Ns."].concat();
    for pickle in [
        deep,
        circular,
        named_long,
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), // a text of 2^63 bytes
        b"\x80\x05\x96\0\0\0\0\0\0\0\x40".to_vec(),               // a byte array of 2^62 bytes
        b"\x80\x02\x8b\xff\xff\xff\x7f".to_vec(),
        b"\x80\x02t.".to_vec(),
        b"\x80\x02R.".to_vec(),
        b"\x80\x02(0000.".to_vec(),
        b"\x80\x02]K\x01K\x02u.".to_vec(),
        b"\x80\x02(K\x01d.".to_vec(),
        b"\x80\x02h\x07.".to_vec(),
        b"\x80\x02q\x07.".to_vec(),
        b"\x80\x04K\x01K\x02\x93.".to_vec(),
        b"\x80\x02K\x01}b.".to_vec(),
        b"\x80\x02\x82\x01.".to_vec(),
        b"\x80\x05\x97.".to_vec(),
        b"\x80\x02\xff.".to_vec(),
        b"\x80\x02.".to_vec(),
        b"\x80\x02(o.".to_vec(),
        b"\x80\x02X\x01\0\0\0\xff.".to_vec(),
        [&b"\x80\x02"[..], &vec![b'N'; 3 << 20]].concat(),
        [&b"\x80\x02N"[..], &vec![b'2'; 3 << 20]].concat(),
        [&b"\x80\x02"[..], &vec![b'('; 3 << 20]].concat(),
    ] {
        refused(&pickle);
        refused(&archive(&[("data.pkl", &pickle)]));
    }
}
