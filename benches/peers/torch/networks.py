#!/usr/bin/env python3
"""Images per second of the networks of benches/benches/networks.rs in PyTorch, on the processor.

    python3 benches/peers/torch/networks.py [NAME ...]      # cnn4 resnet18 vgg19_bn ir152 vit attack

Needs torch. Batch 32, 64x64 RGB, two threads (GPZ_TORCH_THREADS sets another number), channels-first as PyTorch has it by default.
"""

import os
import statistics
import sys
import time

import torch
from torch import nn

BATCH, SIDE, STEPS, CLASSES = 32, 64, 6, 10


def normed(inputs, outputs, kernel, stride=1):
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]


def cnn4(width=64):
    layers, inputs = [], 3
    for i in range(4):
        outputs = width << i
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.MaxPool2d(2), nn.ReLU()]
        inputs = outputs
    head = [nn.Flatten(), nn.Linear(inputs * 16, 5 * CLASSES), nn.Dropout(0.5), nn.Linear(5 * CLASSES, CLASSES)]
    return nn.Sequential(*layers, *head)


class Sum(nn.Module):
    """Two ways of one feature, added up."""

    def __init__(self, long, short, after):
        super().__init__()
        self.long, self.short, self.after = long, short, after

    def forward(self, x):
        return self.after(self.long(x) + self.short(x))


def resnet18():
    layers, inputs = normed(3, 64, 3) + [nn.ReLU()], 64
    for stage in range(4):
        for i in range(2):
            outputs, stride = 64 << stage, 2 if stage and not i else 1
            long = nn.Sequential(*normed(inputs, outputs, 3, stride), nn.ReLU(), *normed(outputs, outputs, 3))
            straight = stride == 1 and inputs == outputs
            short = nn.Identity() if straight else nn.Sequential(*normed(inputs, outputs, 1, stride))
            layers.append(Sum(long, short, nn.ReLU()))
            inputs = outputs
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(2048, CLASSES))


def vgg19_bn():
    layers, inputs = [], 3
    for outputs, count in zip([64, 128, 256, 512, 512], [2, 2, 4, 4, 4]):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(2048, 4096), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, *head, nn.Dropout(0.2), nn.Linear(4096, CLASSES))


def ir_units():
    units, inputs = [], 64
    for stage, count in enumerate([3, 8, 36, 3]):
        outputs = 64 << stage
        for i in range(count):
            stride = 1 if i else 2
            long = nn.Sequential(
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
                nn.PReLU(outputs),
                nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
            short = nn.MaxPool2d(1, stride) if inputs == outputs else nn.Sequential(*normed(inputs, outputs, 1, stride))
            units.append(Sum(long, short, nn.Identity()))
            inputs = outputs
    return units


def ir152():
    stem = normed(3, 64, 3) + [nn.PReLU(64)]
    head = [nn.BatchNorm2d(512), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8192, 512), nn.BatchNorm1d(512)]
    return nn.Sequential(*stem, *ir_units(), *head, nn.Linear(512, CLASSES))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.drop = nn.Dropout(0.1)
        mlp = [nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width), nn.Dropout(0.1)]
        self.mlp = nn.Sequential(*mlp)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.drop(self.attention(y, y, y, need_weights=False)[0])
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, patch=4, width=128, depth=6, heads=8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (SIDE // patch) ** 2 + 1, width))
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(self.drop(x)))[:, 0])


def inverse_unit(inputs, outputs, upsampling):
    last = (4, 2, 1) if upsampling else (3, 1, 1)
    long = nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ConvTranspose2d(inputs, outputs, 3, 1, 1, bias=False),
        nn.PReLU(outputs),
        nn.ConvTranspose2d(outputs, outputs, *last, bias=False),
        nn.BatchNorm2d(outputs),
    )
    if upsampling:
        return Sum(long, nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.Identity())
    short = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    return Sum(long, short, nn.Identity())


def decoder():
    """The inverse IR-152 of 512 channels at 4x4, which gpz takes there."""
    widths = [512, 256, 128, 64, 64]
    units = [inverse_unit(inputs, outputs, True) for inputs, outputs in zip(widths, widths[1:])]
    return nn.Sequential(*units, inverse_unit(64, 3, False), nn.ConvTranspose2d(3, 3, 3, 1, 1), nn.Sigmoid())


def rate(step):
    took = []
    for i in range(STEPS):
        begin = time.perf_counter()
        step()
        if i:
            took.append(time.perf_counter() - begin)
    return BATCH / statistics.median(took), BATCH / min(took)


def optimiser(module):
    return torch.optim.Adam(module.parameters(), lr=1e-3, betas=(0.5, 0.999), amsgrad=True, weight_decay=5e-4)


def measure(name, build):
    x, y = torch.rand(BATCH, 3, SIDE, SIDE), torch.arange(BATCH) % CLASSES
    network = build().eval()

    def evaluation():
        with torch.no_grad():
            network(x)

    print("{:<15} evaluation   {:8.1f} {:8.1f}".format(name, *rate(evaluation)), flush=True)
    network.train()
    adam = optimiser(network)

    def training():
        adam.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        adam.step()

    print("{:<15} training     {:8.1f} {:8.1f}".format(name, *rate(training)), flush=True)


def attack():
    x = torch.rand(BATCH, 3, SIDE, SIDE)
    # Tap 50: the stem and 49 units.
    edge = nn.Sequential(*normed(3, 64, 3), nn.PReLU(64), *ir_units()[:49]).eval()
    attacker = decoder()
    adam = optimiser(attacker)

    def step():
        with torch.no_grad():
            z = edge(x)
        adam.zero_grad()
        nn.functional.mse_loss(attacker(z), x).backward()
        adam.step()

    print("attack on ir152 at block50: {:.1f} images/s, best {:.1f}".format(*rate(step)))


def main():
    torch.manual_seed(1)
    torch.set_num_threads(int(os.environ.get("GPZ_TORCH_THREADS", "2")))
    networks = {"cnn4": cnn4, "resnet18": resnet18, "vgg19_bn": vgg19_bn, "ir152": ir152, "vit": Vit}
    asked = sys.argv[1:] or [*networks, "attack"]
    unknown = [name for name in asked if name not in networks and name != "attack"]
    if unknown:
        sys.exit(f"unknown network {unknown[0]}; there are {', '.join(networks)} and attack")
    print(f"PyTorch {torch.__version__}, batch {BATCH}, {SIDE}x{SIDE} RGB, {torch.get_num_threads()} threads")
    print("{:<15} {:<12} {:>8} {:>8}".format("network", "", "images/s", "best"))
    for name in asked:
        attack() if name == "attack" else measure(name, networks[name])


if __name__ == "__main__":
    main()
