use gpz_data::{Dataset, ImageShape, SplitPlan};

use super::*;

/// Parts of a set of one-pixel pictures with so many of each class.
fn parts(training: &[usize], test: Option<usize>) -> Parts {
    let labelled = |counts: &[usize]| {
        let labels: Vec<usize> =
            counts.iter().enumerate().flat_map(|(class, n)| vec![class; *n]).collect();
        (labels.iter().map(|label| *label as u8).collect(), labels)
    };
    let test = test.map(|n| labelled(&vec![n; training.len()]));
    let shape = ImageShape { height: 1, width: 1, channels: 1 };
    let set = Dataset::from_arrays("pixels", shape, labelled(training), None, test).unwrap();
    set.split(&SplitPlan::default()).unwrap()
}

/// As many training images of each class as the error asks for are enough, in sets even and uneven; one fewer is not always.
#[test]
fn the_fewest_images_of_a_class_are_enough() {
    for (least, test) in TRAINING_IMAGES.into_iter().zip([Some(4), None]) {
        let mut one_fewer_is_enough = true;
        for classes in 2..30 {
            for step in 0..4 {
                let counts = |least: usize| -> Vec<usize> {
                    (0..classes).map(|class| least + step * (class * 7 % 5)).collect()
                };
                assert!(check_classes(&parts(&counts(least), test)).is_ok(), "{classes} {step}");
                one_fewer_is_enough &= check_classes(&parts(&counts(least - 1), test)).is_ok();
            }
        }
        assert!(!one_fewer_is_enough, "{least} is more than is needed");
    }
}

#[test]
fn classes_of_one_and_of_two_are_named() {
    // With test images of its own a set validates on exactly a tenth of its training images.
    for (images, said) in [(1, "1 image in part target-validation"), (2, "2 images in part")] {
        let error = check_classes(&parts(&[10 * images; 3], Some(4))).expect_err("too few");
        assert!(error.to_string().contains(&format!("class 0 has {said}")), "{error}");
    }
    assert!(check_classes(&parts(&[30; 3], Some(4))).is_ok());
}

/// A disk that fails is told with the file's name, what a training failed with as it is; neither leaves a file, and what is not there is not read.
#[test]
fn states_say_whose_failure_it_was() {
    let place = tempfile::TempDir::new().unwrap();
    let dir = RunDir::create(&place.path().join("run")).unwrap();
    let full = || io::Error::other("the disk is full");
    let disk = write_state(&dir, "state", |out| {
        out.write_all(b"half").unwrap();
        Err(gpz_nn::Error::Write(full()).into())
    });
    assert!(matches!(disk, Err(Error::CannotWrite { path, .. }) if path.ends_with("state")));
    let stopped = write_state(&dir, "state", |_| Err(gpz_inversion::Error::Stopped));
    assert!(matches!(stopped, Err(Error::Inversion(gpz_inversion::Error::Stopped))));
    assert!(!dir.file("state").exists());
    read_state(&dir, "state", |_| panic!("there is none")).unwrap();
    write_state(&dir, "state", |out| {
        out.write_all(b"whole").unwrap();
        Ok(())
    })
    .unwrap();
    let mut text = String::new();
    read_state(&dir, "state", |file| {
        file.read_to_string(&mut text).unwrap();
        Ok(())
    })
    .unwrap();
    assert_eq!(text, "whole");
    let disk = read_state(&dir, "state", |_| Err(gpz_nn::Error::Read(full()).into()));
    assert!(matches!(disk, Err(Error::CannotRead { path, .. }) if path.ends_with("state")));
}
