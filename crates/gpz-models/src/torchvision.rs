//! The layouts of torchvision's models, so that checkpoints of ImageNet and of whoever began from them load. Pictures are normalised as there.

use gpz_nn::blueprint::{Convolution, Layer, numbered, sequence};
use gpz_tensor::Pool2d;

use crate::error::Result;
use crate::network::Plan;
use crate::normalise::Normalisation;
use crate::registry::{Asked, ModelInfo};
use crate::vgg;

macro_rules! model {
    ($name:literal, $description:literal, $plan:expr) => {
        ModelInfo { name: $name, parameters: &[], description: $description, plan: $plan }
    };
}

pub(crate) const MODELS: &[ModelInfo] = &[
    model!(
        "torchvision-resnet18",
        "stem of 7×7 and max pool, 2·2·2·2 basic blocks, mean over all pixels",
        |asked| resnet(asked, [2, 2, 2, 2], false)
    ),
    model!("torchvision-resnet34", "3·4·6·3 basic blocks", |asked| resnet(
        asked,
        [3, 4, 6, 3],
        false
    )),
    model!("torchvision-resnet50", "3·4·6·3 bottleneck blocks", |asked| resnet(
        asked,
        [3, 4, 6, 3],
        true
    )),
    model!("torchvision-resnet101", "3·4·23·3 bottleneck blocks", |asked| resnet(
        asked,
        [3, 4, 23, 3],
        true
    )),
    model!("torchvision-resnet152", "3·8·36·3 bottleneck blocks", |asked| resnet(
        asked,
        [3, 8, 36, 3],
        true
    )),
    model!("torchvision-vgg11", "configuration A", |asked| vgg(asked, vgg::A, false)),
    model!("torchvision-vgg13", "configuration B", |asked| vgg(asked, vgg::B, false)),
    model!("torchvision-vgg16", "configuration D", |asked| vgg(asked, vgg::D, false)),
    model!("torchvision-vgg19", "configuration E", |asked| vgg(asked, vgg::E, false)),
    model!("torchvision-vgg11_bn", "configuration A with batch norm", |asked| vgg(
        asked,
        vgg::A,
        true
    )),
    model!("torchvision-vgg13_bn", "configuration B with batch norm", |asked| vgg(
        asked,
        vgg::B,
        true
    )),
    model!("torchvision-vgg16_bn", "configuration D with batch norm", |asked| vgg(
        asked,
        vgg::D,
        true
    )),
    model!("torchvision-vgg19_bn", "configuration E with batch norm", |asked| vgg(
        asked,
        vgg::E,
        true
    )),
    model!(
        "torchvision-mobilenet_v2",
        "inverted residuals with depthwise convolutions, 1280 channels at the end",
        mobilenet_v2
    ),
    model!("torchvision-alexnet", "five convolutions, the first of 11×11", alexnet),
];

fn begin(asked: &Asked<'_>) -> Result<Plan> {
    Ok(asked.begin().normalised(Normalisation::imagenet(asked.input[0])?))
}

fn pool(kernel: usize, stride: usize, padding: usize) -> Layer {
    Layer::MaxPool(Pool2d { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] })
}

fn resnet(asked: &Asked<'_>, blocks: [usize; 4], bottlenecks: bool) -> Result<Plan> {
    asked.sides_are_multiples_of(32)?;
    let mut plan = begin(asked)?;
    let stem = Convolution::same(64, 7).stride(2).unbiased();
    plan.stage(
        "stem",
        "",
        sequence([
            ("conv1", stem.into()),
            ("bn1", Layer::BatchNorm),
            ("relu", Layer::Relu),
            ("maxpool", pool(3, 2, 1)),
        ]),
    );
    let (mut inputs, mut count) = (64, 0);
    for (stage, blocks) in blocks.into_iter().enumerate() {
        let channels = 64 << stage;
        let outputs = if bottlenecks { 4 * channels } else { channels };
        for i in 0..blocks {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let layer = block(channels, [inputs, outputs], stride, bottlenecks);
            count += 1;
            plan.stage(format!("block{count}"), format!("layer{}.{i}", stage + 1), layer);
            inputs = outputs;
        }
    }
    let pooling = sequence([("", Layer::AdaptiveAvgPool([1, 1])), ("", Layer::Flatten)]);
    plan.stage("pooled", "", pooling);
    Ok(plan.ending_in(sequence([("fc", Layer::linear(asked.classes))])))
}

/// Convolutions and norms by their names there, `conv1`, `bn1`, …, and `downsample` where the shape changes.
fn block(channels: usize, [inputs, outputs]: [usize; 2], stride: usize, bottleneck: bool) -> Layer {
    let convolutions = if bottleneck {
        vec![
            Convolution::same(channels, 1),
            Convolution::same(channels, 3).stride(stride),
            Convolution::same(outputs, 1),
        ]
    } else {
        vec![Convolution::same(channels, 3).stride(stride), Convolution::same(outputs, 3)]
    };
    let last = convolutions.len();
    let mut long = Vec::new();
    for (i, convolution) in (1..).zip(convolutions) {
        long.push((format!("conv{i}"), convolution.unbiased().into()));
        long.push((format!("bn{i}"), Layer::BatchNorm));
        if i < last {
            long.push(("relu".to_owned(), Layer::Relu));
        }
    }
    let downsample = sequence([
        ("0", Convolution::same(outputs, 1).stride(stride).unbiased().into()),
        ("1", Layer::BatchNorm),
    ]);
    let changes = stride > 1 || inputs != outputs;
    let sum = Layer::residual(("", sequence(long)), changes.then_some(("downsample", downsample)));
    sequence([("", sum), ("", Layer::Relu)])
}

fn vgg(asked: &Asked<'_>, groups: [usize; 5], norms: bool) -> Result<Plan> {
    asked.sides_are_multiples_of(32)?;
    let mut plan = begin(asked)?;
    vgg::features(&mut plan, groups, norms);
    Ok(plan.ending_in(vgg::classifier(7, asked.classes, [0.5, 0.5])))
}

fn alexnet(asked: &Asked<'_>) -> Result<Plan> {
    let mut plan = begin(asked)?;
    let conv = |outputs, kernel| Convolution::same(outputs, kernel);
    // Convolutions by their place in `features`, each with its ReLU, which has no parameters, and the pooling after some of them.
    let layers = [
        ("0", Convolution { padding: 2, ..conv(64, 11).stride(4) }, true),
        ("3", conv(192, 5), true),
        ("6", conv(384, 3), false),
        ("8", conv(256, 3), false),
        ("10", conv(256, 3), true),
    ];
    for (i, (position, convolution, pooled)) in (1..).zip(layers) {
        let layer = sequence([(position, convolution.into()), ("", Layer::Relu)]);
        plan.stage(format!("relu{i}"), "features", layer);
        if pooled {
            plan.stage(format!("pool{i}"), "features", pool(3, 2, 0));
        }
    }
    Ok(plan.ending_in(sequence([
        ("", Layer::AdaptiveAvgPool([6; 2])),
        ("", Layer::Flatten),
        ("classifier.0", Layer::Dropout(0.5)),
        ("classifier.1", Layer::linear(4096)),
        ("classifier.2", Layer::Relu),
        ("classifier.3", Layer::Dropout(0.5)),
        ("classifier.4", Layer::linear(4096)),
        ("classifier.5", Layer::Relu),
        ("classifier.6", Layer::linear(asked.classes)),
    ])))
}

/// Inverted residuals: by how much channels are expanded, channels, blocks, stride of the first.
const INVERTED: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

fn mobilenet_v2(asked: &Asked<'_>) -> Result<Plan> {
    asked.sides_are_multiples_of(32)?;
    let mut plan = begin(asked)?;
    let activated = |convolution: Convolution| {
        sequence([
            ("0", convolution.unbiased().into()),
            ("1", Layer::BatchNorm),
            ("2", Layer::Relu6),
        ])
    };
    plan.stage("stem", "features.0", activated(Convolution::same(32, 3).stride(2)));
    let (mut inputs, mut count) = (32, 0);
    for (expansion, outputs, blocks, first_stride) in INVERTED {
        for i in 0..blocks {
            let stride = if i == 0 { first_stride } else { 1 };
            let hidden = expansion * inputs;
            let mut long = Vec::new();
            if expansion > 1 {
                long.push(activated(Convolution::same(hidden, 1)));
            }
            long.push(activated(Convolution::same(hidden, 3).stride(stride).depthwise()));
            long.push(Convolution::same(outputs, 1).unbiased().into());
            long.push(Layer::BatchNorm);
            let long = sequence([("conv", numbered(long))]);
            let layer = if stride == 1 && inputs == outputs {
                Layer::residual(("", long), None)
            } else {
                long
            };
            count += 1;
            plan.stage(format!("block{count}"), format!("features.{count}"), layer);
            inputs = outputs;
        }
    }
    plan.stage("last", format!("features.{}", count + 1), activated(Convolution::same(1280, 1)));
    let pooling = sequence([("", Layer::AdaptiveAvgPool([1, 1])), ("", Layer::Flatten)]);
    plan.stage("pooled", "", pooling);
    Ok(plan.ending_in(sequence([
        ("classifier.0", Layer::Dropout(0.2)),
        ("classifier.1", Layer::linear(asked.classes)),
    ])))
}
