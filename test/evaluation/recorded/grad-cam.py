"""Maps of pytorch-grad-cam for test/evaluation/grad-cam.test.ts, printed as JSON.

pip install torch==2.15.0 grad-cam==1.5.7
python grad-cam.py > grad-cam.json

A tiny network whose weights and images come from formulas that stand in the test too: 3x3 convolution of 3 to 8 channels, relu, 2x2 max
pooling, 3x3 convolution to 12 channels, relu; then the ending "cam" (global average pooling, dense) or "mlp" (flatten, dense,
relu, dense), whose maps only gradients can give. Recorded are the features behind the last relu, weighted and summed, before
the library cuts off and scales: [class][sample][height][width].
"""
import json
import sys

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

SIDE, CLASSES, SAMPLES = 12, 4, 3


def made(shape, seed):
    """The same formula stands in the test."""
    i = np.arange(np.prod(shape), dtype=np.int64)
    values = ((i * 7919 + i * i % 1009 * 31 + seed * 104729) % 1009) / 504.5 - 1
    return torch.tensor(values.reshape(shape).astype(np.float32))


class Network(torch.nn.Module):
    def __init__(self, ending):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 12, 3, padding=1)
        self.ending = ending
        if ending == "cam":
            self.dense = torch.nn.Linear(12, CLASSES)
        else:
            self.hidden = torch.nn.Linear(12 * (SIDE // 2) ** 2, 10)
            self.dense = torch.nn.Linear(10, CLASSES)
        with torch.no_grad():
            # Kernels in TensorFlow's layout [height, width, in, out] and [in, out].
            self.first.weight.copy_(made((3, 3, 3, 8), 1).permute(3, 2, 0, 1) * 0.4)
            self.first.bias.copy_(made((8,), 2) * 0.2)
            self.second.weight.copy_(made((3, 3, 8, 12), 3).permute(3, 2, 0, 1) * 0.3)
            self.second.bias.copy_(made((12,), 4) * 0.2)
            if ending == "cam":
                self.dense.weight.copy_(made((12, CLASSES), 5).T)
                self.dense.bias.copy_(made((CLASSES,), 6) * 0.2)
            else:
                self.hidden.weight.copy_(made((12 * (SIDE // 2) ** 2, 10), 7).T * 0.1)
                self.hidden.bias.copy_(made((10,), 8) * 0.2)
                self.dense.weight.copy_(made((10, CLASSES), 9).T)
                self.dense.bias.copy_(made((CLASSES,), 10) * 0.2)
        self.relu = torch.nn.ReLU()
        self.pool = torch.nn.MaxPool2d(2)
        self.features = torch.nn.ReLU()

    def forward(self, x):
        x = self.features(self.second(self.pool(self.relu(self.first(x)))))
        if self.ending == "cam":
            return self.dense(x.mean((2, 3)))
        # TensorFlow flattens [height, width, channels].
        return self.dense(torch.relu(self.hidden(x.permute(0, 2, 3, 1).flatten(1))))


class Raw(GradCAM):
    """Keeps what the library cuts off and scales afterwards."""

    def get_cam_image(self, *args, **kwargs):
        image = super().get_cam_image(*args, **kwargs)
        self.raw = image
        return image


images = made((SAMPLES, SIDE, SIDE, 3), 11).permute(0, 3, 1, 2)
result = {"torch": torch.__version__, "python": sys.version.split()[0], "networks": {}}
for ending in ("cam", "mlp"):
    network = Network(ending).eval()
    with Raw(model=network, target_layers=[network.features]) as cam:
        maps = []
        for label in range(CLASSES):
            cam(input_tensor=images, targets=[ClassifierOutputTarget(label)] * SAMPLES)
            maps.append(cam.raw.astype(float).round(7).tolist())
    with torch.no_grad():
        logits = network(images)
    result["networks"][ending] = {"logits": logits.double().numpy().round(6).tolist(), "maps": maps}
print(json.dumps(result, separators=(",", ":")))
