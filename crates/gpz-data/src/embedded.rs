//! The sets compiled into the program.

use serde::Serialize;

use crate::images::Origin;
use crate::read::{Input, RawSet, idx};
use crate::{ImageShape, Result};

/// A set that needs no files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltIn {
    /// The name [`Dataset::open`](crate::Dataset::open) understands.
    pub name: &'static str,
    /// One line for a list.
    pub description: &'static str,
    /// Whose it is and on what terms.
    pub licence: &'static str,
    /// Training and test images together.
    pub images: usize,
    /// Stored shape.
    pub shape: ImageShape,
    /// Class names in the order of the labels.
    pub classes: &'static [&'static str],
}

const FASHION_MNIST: &str = "fashion-mnist";

static BUILT_IN: [BuiltIn; 1] = [BuiltIn {
    name: FASHION_MNIST,
    description: "Fashion-MNIST, the first 500 training and 100 test images of each of its 10 classes",
    licence: "MIT, copyright 2017 Zalando SE",
    images: 6_000,
    shape: ImageShape { height: 28, width: 28, channels: 1 },
    classes: &[
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
}];

/// The sets compiled into the program.
pub fn built_in() -> &'static [BuiltIn] {
    &BUILT_IN
}

/// Their names, for a message.
pub(crate) fn names() -> String {
    BUILT_IN.iter().map(|set| set.name).collect::<Vec<_>>().join(", ")
}

macro_rules! asset {
    ($name:literal) => {
        (
            concat!("fashion-mnist (embedded) ", $name),
            include_bytes!(concat!("../assets/fashion-mnist/", $name)).as_slice(),
        )
    };
}

/// The built-in set of that name, unpacked.
pub(crate) fn open(name: &str) -> Result<Option<RawSet>> {
    if name != FASHION_MNIST {
        return Ok(None);
    }
    let input = |(file, bytes): (&str, &'static [u8])| Input::new(file.into(), bytes);
    let train = idx::pool(
        Origin::Train,
        input(asset!("train-images-idx3-ubyte.gz"))?,
        input(asset!("train-labels-idx1-ubyte.gz"))?,
    )?;
    let test = idx::pool(
        Origin::Test,
        input(asset!("t10k-images-idx3-ubyte.gz"))?,
        input(asset!("t10k-labels-idx1-ubyte.gz"))?,
    )?;
    let class_names = BUILT_IN[0].classes.iter().map(|name| (*name).to_owned()).collect();
    Ok(Some(RawSet { pools: vec![train, test], class_names: Some(class_names) }))
}
