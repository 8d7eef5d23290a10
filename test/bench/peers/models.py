"""The models of worker/compute/models, layer by layer, for PyTorch."""

import torch
from torch import nn


def unit(inputs, outputs, size, stride=1):
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Pooled(nn.Sequential):
    """A body, global average pooling, dropout and one dense layer."""

    def __init__(self, body, width, dropout):
        super().__init__(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, 10))


def alexnet():
    body = nn.Sequential(
        unit(3, 64, 5, 2), nn.MaxPool2d(2), unit(64, 160, 3), nn.MaxPool2d(2), unit(160, 256, 5)
    )
    return Pooled(body, 256, 0.1)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = unit(inputs, outputs, 3, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        shortcut = [nn.AvgPool2d(2)] if stride > 1 else []
        if inputs != outputs:
            shortcut += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x):
        return torch.relu(self.norm(self.second(self.first(x))) + self.shortcut(x))


def resnet(blocks, widths):
    layers = [unit(3, widths[0], 3, 2)]
    before = widths[0]
    for stack, (count, width) in enumerate(zip(blocks, widths)):
        for block in range(count):
            layers.append(Block(before, width, 2 if stack > 0 and block == 0 else 1))
            before = width
    return Pooled(nn.Sequential(*layers), before, 0.0)


MODELS = {
    "alexnet": alexnet,
    "resnet": lambda: resnet([2, 3, 4, 2], [32, 64, 128, 256]),
    "resnet18": lambda: resnet([2, 2, 2, 2], [64, 128, 256, 512]),
}
