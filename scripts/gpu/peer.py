#!/usr/bin/env python3
"""PyTorch doing the work of gpu-figures on the same card, timed by events.

    peer.py FIGURES OUT      FIGURES is what gpu-figures wrote: shapes and names are taken from it

Each figure is the median of as many repetitions, after as many runs that do not count; of fewer where a run takes more than 80 ms, of nine for
networks.
Operations are those of plain eager PyTorch: no torch.compile, convolutions with cudnn.benchmark. Products and convolutions multiply in f32
as gpz does; with TF32 beside it, under a name that says so. What a card has no memory for, or this PyTorch does not know, is left out
with its reason.
"""

import json
import sys

import networks
import torch
import torch.nn.functional as F

WARM_UPS = 3
# Of a formulation so slow that it is out of the running.
MOST_SECONDS, LEAST_REPETITIONS = 2.0, 5


def uniform(*shape):
    return torch.empty(*shape, device="cuda").uniform_(-1, 1)


def timed(work):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e-3


def reason(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


class Peer:
    def __init__(self, ours):
        self.ours = {figure["name"]: figure for figure in ours["figures"]}
        self.figures = []

    def shape(self, name):
        return self.ours[name]["shape"]

    def time(self, name, work, formulation=None, figure=None):
        """Adds the times of `work` for a figure of ours. None of them if it fails."""
        entry = {"name": name, "formulation": formulation or "eager"}
        try:
            took = min(timed(work) for _ in range(WARM_UPS))
            wanted = (figure or self.ours[name]).get("repetitions", 25)
            wanted = min(wanted, max(LEAST_REPETITIONS, int(MOST_SECONDS / max(took, 1e-6))))
            seconds = [timed(work) for _ in range(wanted)]
            seconds.sort()
            last = len(seconds) - 1
            entry["seconds_quartiles"] = [seconds[last * quarter // 4] for quarter in (1, 2, 3)]
            entry["repetitions"] = len(seconds)
        except Exception as error:  # whatever it is, the others go on
            entry["failed"] = reason(error)
        self.figures.append(entry)
        print(f"  {name} ({entry['formulation']})", file=sys.stderr)

    def operations(self):
        n = self.shape("add")[0]
        x = uniform(n)
        y = torch.rand(n, device="cuda") + 0.5
        out = torch.empty_like(x)
        self.time("copy, at the beginning", lambda: out.copy_(x), "copy_")
        del out
        self.time("add", lambda: x + y)
        self.time("relu", lambda: torch.relu(x))
        self.time("tanh", lambda: torch.tanh(x))
        self.time("gelu", lambda: F.gelu(x))
        self.time("tanh backward", lambda: torch.ops.aten.tanh_backward(y, x))
        # Two passes of eager mode; a fused multiply and add exists for tensors alone.
        self.time("affine", lambda: x * 1.5 - 0.5)

        shape = self.shape("softmax")
        rows, dy = x.view(shape), y.view(shape)
        scale = torch.rand(shape[1], device="cuda") + 0.5
        soft = torch.softmax(rows, 1)
        self.time("transpose", lambda: rows.t().contiguous())
        self.time("add of a row", lambda: rows + scale)
        self.time("softmax", lambda: torch.softmax(rows, 1))
        self.time("softmax backward", lambda: torch.ops.aten._softmax_backward_data(dy, soft, 1, torch.float32))
        self.time("log softmax", lambda: torch.log_softmax(rows, 1))
        self.time("layer norm", lambda: F.layer_norm(rows, shape[1:], scale, scale))
        self.time("row sums", lambda: rows.sum(1))
        del soft

        shape = self.shape("batch norm")
        n, c, h, w = shape
        picture = x.view(n, h, w, c).permute(0, 3, 1, 2)  # channels-last, as ours
        gradient = y.view(n, h, w, c).permute(0, 3, 1, 2)
        scale = torch.rand(c, device="cuda") + 0.5
        self.time("batch norm", lambda: F.batch_norm(picture, None, None, scale, scale, training=True))
        leaf, weight = picture.detach().requires_grad_(), scale.clone().requires_grad_()
        made = F.batch_norm(leaf, None, None, weight, weight, training=True)
        self.time("batch norm backward", lambda: torch.autograd.grad(made, (leaf, weight), gradient, retain_graph=True))
        del made
        self.time("channel sums", lambda: picture.sum((0, 2, 3)))
        self.time("max pool", lambda: F.max_pool2d(picture, 2))
        self.time("average pool", lambda: F.avg_pool2d(picture, 2))
        pooled = F.max_pool2d(leaf, 2)
        dy = F.max_pool2d(gradient, 2)
        self.time("max pool backward", lambda: torch.autograd.grad(pooled, leaf, dy, retain_graph=True))
        del pooled, dy, leaf

        value = torch.nn.Parameter(x.clone())
        value.grad = y
        for formulation in ("fused", "foreach"):
            adam = torch.optim.Adam([value], lr=1e-3, **{formulation: True})
            self.time("Adam", adam.step, formulation)
            del adam
        momentum = torch.optim.SGD([value], lr=1e-3, momentum=0.9)
        self.time("momentum", momentum.step)
        del momentum, value

    def product(self):
        n = self.shape("product")[0]
        a, b = (uniform(n, n) for _ in range(2))
        for name in ("product", "product, TF32"):
            torch.backends.cuda.matmul.allow_tf32 = name.endswith("TF32")
            self.time(name, lambda: a @ b, figure=self.ours["product"])
        torch.backends.cuda.matmul.allow_tf32 = False

    def moments(self):
        """Sum and sum of squares of each class, which is what ours keeps (about a pivot, and in f64). The best counts."""
        rows, width = self.shape("class moments, 10 classes")
        x = uniform(rows, width)
        for classes in (10, 100):
            name = f"class moments, {classes} classes"
            labels = torch.randint(classes, (rows,), device="cuda")
            zeros = lambda: torch.zeros(classes, width, device="cuda")

            def index_add():
                return zeros().index_add_(0, labels, x), zeros().index_add_(0, labels, x * x)

            def scatter():
                index = labels[:, None].expand(rows, width)
                return zeros().scatter_reduce_(0, index, x, "sum"), zeros().scatter_reduce_(0, index, x * x, "sum")

            def one_hot():
                hot = F.one_hot(labels, classes).to(x.dtype).t()
                return hot @ x, hot @ (x * x)

            def sort_and_segment():
                order = torch.argsort(labels, stable=True)
                lengths = torch.bincount(labels, minlength=classes)
                grouped = x[order]
                sums = torch.segment_reduce(grouped, "sum", lengths=lengths, axis=0)
                return sums, torch.segment_reduce(grouped.square_(), "sum", lengths=lengths, axis=0)

            def loop_over_classes():
                sums, squares = zeros(), zeros()
                for label in range(classes):
                    part = x[labels == label]
                    sums[label] = part.sum(0)
                    squares[label] = part.square_().sum(0)
                return sums, squares

            def loop_with_var_mean():
                return [torch.var_mean(x[labels == label], 0, correction=0) for label in range(classes)]

            self.time(name, index_add, "index_add_")
            self.time(name, scatter, "scatter_reduce_")
            self.time(name, one_hot, "one-hot product")
            torch.backends.cuda.matmul.allow_tf32 = True
            self.time(name, one_hot, "one-hot product, TF32")
            torch.backends.cuda.matmul.allow_tf32 = False
            self.time(name, sort_and_segment, "sort and segment_reduce")
            self.time(name, loop_over_classes, "loop over classes, sums")
            self.time(name, loop_with_var_mean, "loop over classes, var_mean")
            torch.cuda.empty_cache()

    def decoder(self):
        ours = self.ours["decoder training"]
        batch, channels, height, width, *picture = ours["shape"]
        steps = max(1, round(ours.get("images", 10 * batch) / batch))
        for name, tf32 in (("decoder training", False), ("decoder training, TF32", True)):
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            for layout in (torch.channels_last, torch.contiguous_format):
                layers, inputs, side = [], channels, height
                while side * 2 < picture[1]:
                    outputs = max(1, inputs // 2)
                    layers += [torch.nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), torch.nn.BatchNorm2d(outputs), torch.nn.Tanh()]
                    inputs, side = outputs, side * 2
                layers += [torch.nn.ConvTranspose2d(inputs, picture[0], 4, 2, 1), torch.nn.Sigmoid()]
                network = torch.nn.Sequential(*layers).cuda().to(memory_format=layout)
                z = torch.rand(batch, channels, height, width, device="cuda").to(memory_format=layout)
                x = torch.rand(batch, *picture, device="cuda").to(memory_format=layout)
                for formulation in ("fused", "foreach"):
                    adam = torch.optim.Adam(network.parameters(), lr=1e-3, **{formulation: True})

                    def train():
                        for _ in range(steps):
                            adam.zero_grad(set_to_none=True)
                            F.mse_loss(network(z), x).backward()
                            adam.step()

                    order = "channels-last" if layout is torch.channels_last else "row-major"
                    self.time(name, train, f"{order}, {formulation} Adam", figure=ours)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def networks(self):
        builders = {"cnn4": networks.cnn4, "resnet18": networks.resnet18, "vgg19_bn": networks.vgg19_bn}
        builders |= {"ir152": networks.ir152, "vit": networks.Vit}
        for name, build in builders.items():
            trained = next((f for f in self.ours.values() if f["name"].split(":")[0].split()[0] == name and "training" in f["name"]), None)
            if not trained:
                continue
            evaluated = self.ours[trained["name"].replace("training", "evaluation")]
            # Steps are long, and hardly vary.
            trained, evaluated = ({**figure, "repetitions": 9} for figure in (trained, evaluated))
            batch = trained["shape"][0]
            for layout in (torch.channels_last, torch.contiguous_format):
                network = build().cuda().to(memory_format=layout)
                x = torch.rand(*trained["shape"], device="cuda").to(memory_format=layout)
                y = torch.arange(batch, device="cuda") % networks.CLASSES
                adam = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.5, 0.999), amsgrad=True, weight_decay=5e-4, fused=True)

                def evaluate():
                    with torch.no_grad():
                        network(x)

                def train():
                    adam.zero_grad(set_to_none=True)
                    F.cross_entropy(network(x), y).backward()
                    adam.step()

                order = "channels-last" if layout is torch.channels_last else "row-major"
                for tf32 in (False, True) if layout is torch.channels_last else (False,):
                    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
                    for figure, mode, step in ((evaluated, False, evaluate), (trained, True, train)):
                        network.train(mode)
                        self.time(figure["name"] + (", TF32" if tf32 else ""), step, order, figure=figure)
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
                del network, adam, x
                torch.cuda.empty_cache()


def main():
    figures, out = sys.argv[1:]
    if not torch.cuda.is_available():
        sys.exit("peer.py: PyTorch sees no GPU")
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with open(figures, encoding="utf-8") as file:
        peer = Peer(json.load(file))
    result = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name(),
        "figures": peer.figures,
    }
    for work in (peer.moments, peer.decoder, peer.networks, peer.product, peer.operations):
        try:
            work()
        except Exception as error:  # whatever it is, the others go on
            peer.figures.append({"name": work.__name__, "formulation": "", "failed": reason(error)})
        torch.cuda.empty_cache()
        # After each part, so that one that takes too long takes nothing with it.
        with open(out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
