"""Writes the checkpoint files beside this script, with PyTorch 2.15 and NumPy 2: python make.py

Value i of the k-th tensor of the network is k + (i mod 32) / 32, which float16 and bfloat16 hold exactly (k < 8).
The hostile files call nothing when they are made, only if somebody unpickles them.
"""

import argparse
import collections
import os
import pathlib
import pickle
import zipfile

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.factor


class Config:
    def __init__(self):
        self.width = 3


class Calls:
    """Unpickles into a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def net():
    model = Net()
    with torch.no_grad():
        for k, tensor in enumerate(model.state_dict().values()):
            if tensor.is_floating_point():
                values = k + (torch.arange(tensor.numel()) % 32) / 32
                tensor.copy_(values.reshape(tensor.shape))
    model.norm.num_batches_tracked.fill_(7)
    return model


def save(name, value, legacy=False, **options):
    torch.save(value, HERE / name, _use_new_zipfile_serialization=not legacy, **options)


def both(stem, value):
    save(f"{stem}.pth", value)
    save(f"{stem}-legacy.pth", value, legacy=True)


def deflated(source, name):
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / name, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))


def weights():
    state = net().state_dict()
    both("state", state)
    deflated("state.pth", "deflated.pth")
    for protocol in (3, 4, 5):
        save(f"protocol{protocol}.pth", state, pickle_protocol=protocol)
    save("float16.pth", net().half().state_dict())
    save("bfloat16.pth", net().bfloat16().state_dict())
    save("float64.pth", net().double().state_dict())


def training():
    state = net().state_dict()
    model = net()
    model(torch.ones(2, 1, 5, 5)).sum().backward()
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    sgd.step()
    # As the ImageNet example of PyTorch saves it.
    parallel = collections.OrderedDict(("module." + key, value) for key, value in state.items())
    save("imagenet.pth.tar", {"epoch": 3, "arch": "net", "state_dict": parallel, "best_acc1": torch.tensor(76.5), "optimizer": sgd.state_dict()})
    adam = torch.optim.AdamW(model.parameters(), 0.1)
    adam.step()
    wrapped = {f"_orig_mod.module.{key}": value.half() if value.is_floating_point() else value for key, value in state.items()}
    both(
        "training",
        {
            "model": wrapped,
            "model_ema": state,
            "optimizer": adam.state_dict(),
            "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(adam, 10).state_dict(),
            "args": argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("out"), classes={"cat", "dog"}, none=None),
            "epoch": np.int64(3),
            "loss": np.float64(0.25),
            "history": np.array([1.0, 0.5]),
            "device": torch.device("cpu"),
            "dtype": torch.float16,
            "size": torch.Size([1, 5, 5]),
            "big": 1 << 100,
            "counts": collections.Counter("abca"),
            "raw": b"\x00\xff",
        },
    )


def tensors():
    base = torch.arange(24.0).reshape(4, 6)
    both(
        "views",
        {
            "rows": base[1:3],
            "transposed": base.t(),
            "every_other": base[:, 1::2],
            "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
            "tied": base,
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
        },
    )
    dtypes = "float16 bfloat16 float32 float64 int64 int32 int16 int8 uint8 bool".split()
    both("dtypes", {name: torch.tensor([0, 1, 100, 1]).to(getattr(torch, name)) for name in dtypes})
    parameter = nn.Parameter(torch.arange(3.0))
    parameter.note = "kept"
    tensor = torch.arange(3.0)
    tensor.note = "kept"
    save("parameters.pth", {"plain": nn.Parameter(torch.arange(3.0)), "noted": parameter, "tensor": tensor})


def arrays():
    values = {
        "f4": np.arange(6, dtype="<f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3)),
        "f2": np.arange(3, dtype="<f2"),
        "i8": np.arange(3, dtype="<i8"),
        "bytes": np.array([0, 128, 255], dtype="u1"),
        "scalar": np.float32(2.5),
        "rank0": np.array(1.5),
    }
    save("arrays.pth", {"model": values})
    for protocol in (2, 4, 5):
        (HERE / f"arrays{protocol}.pkl").write_bytes(pickle.dumps({"model": values}, protocol))


def refused():
    state = net().state_dict()
    save("expanded.pth", {"w": torch.ones(1, 3).expand(4, 3)})
    save("uint16.pth", {"w": torch.tensor([1, 2]).to(torch.uint16)})
    save("float8.pth", {"w": torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn)})
    save("complex.pth", {"w": torch.tensor([1j])})
    save("sparse.pth", {"fc.weight": torch.eye(3).to_sparse()})
    save("quantised.pth", {"fc.weight": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)})
    (HERE / "big-endian-array.pkl").write_bytes(pickle.dumps({"w": np.arange(3, dtype=">f4")}, 4))
    save("model.pth", net())
    torch.jit.script(Scale()).save(HERE / "script.pt")
    save("object-beside.pth", {"state_dict": state, "config": Config()})
    save("calls-system.pth", {"state_dict": state, "extra": Calls(os.system, "true")})
    save("calls-system-legacy.pth", Calls(os.system, "true"), legacy=True)
    save("calls-exec.pth", {"fc.weight": Calls(exec, "pass")})
    hidden = [[[{"deep": (Calls(eval, "0"),)}]]]
    save("calls-eval.pth", {"state_dict": state, "optimizer": {"state": {0: hidden}}})
    (HERE / "calls-protocol0.pkl").write_bytes(pickle.dumps(Calls(os.system, "true"), 0))


if __name__ == "__main__":
    torch.manual_seed(1)
    weights()
    training()
    tensors()
    arrays()
    refused()
