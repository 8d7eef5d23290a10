"""PyTorch at the work of Lockstep's benchmarks: prints one JSON object.

    python peer.py train --model resnet18 --precision float32 --batch 128 --processes 1 --steps 4
    python peer.py allreduce --megabytes 44.7 --processes 2 --steps 20

Training takes random images from memory and uses what PyTorch has for this: channels_last, the fused optimizer, and of
several ways to cut the batch into micro-batches the fastest. Process k runs on core k with one thread.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from models import MODELS

WARM_UP = 2
CUTS = [16, 32, 64, 128]


class Trainer:
    def __init__(self, options):
        torch.manual_seed(1)
        self.options = options
        self.images = options.batch // options.processes
        model = MODELS[options.model]().to(memory_format=torch.channels_last)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        self.model = nn.parallel.DistributedDataParallel(model) if options.processes > 1 else model
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum")
        self.x = torch.randn(self.images, 3, 96, 96).to(memory_format=torch.channels_last)
        self.y = torch.randint(0, 10, (self.images,))

    def step(self, cut, exchange=True):
        """Milliseconds of one step, the slowest process's."""
        if self.options.processes > 1:
            dist.barrier()
        started = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(self.x.split(cut), self.y.split(cut)))
        for index, (x, y) in enumerate(parts):
            silent = self.options.processes > 1 and (index + 1 < len(parts) or not exchange)
            with self.model.no_sync() if silent else contextlib.nullcontext():
                with torch.autocast("cpu", torch.bfloat16, enabled=self.options.precision == "bf16"):
                    logits = self.model(x)
                (self.loss(logits.float(), y) / self.images).backward()
        self.optimizer.step()
        return slowest((time.perf_counter() - started) * 1e3, self.options.processes)

    def measure(self):
        cuts = [cut for cut in CUTS if cut <= self.images]
        for cut in cuts:
            self.step(cut)
        times = {cut: min(self.step(cut) for _ in range(2)) for cut in cuts}
        best = min(times, key=times.get)
        for _ in range(WARM_UP):
            self.step(best)
        steps = [self.step(best) for _ in range(self.options.steps)]
        alone = [self.step(best, exchange=False) for _ in range(self.options.steps)]
        result = {"stepMillis": statistics.median(steps), "cut": best, "parameters": self.parameters}
        return {**result, "exposedMillis": statistics.median(steps) - statistics.median(alone)}


def slowest(millis, processes):
    if processes == 1:
        return millis
    value = torch.tensor([millis], dtype=torch.float64)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value.item()


def allreduce(options):
    values = torch.ones(int(options.megabytes * 1e6 / 4))
    times = []
    for step in range(5 + options.steps):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(values)
        times.append(slowest((time.perf_counter() - started) * 1e3, options.processes))
        values.fill_(1.0)
    return {"stepMillis": statistics.median(times[5:])}


def work(rank, options, port):
    os.sched_setaffinity(0, {rank % os.cpu_count()})
    torch.set_num_threads(1)
    if options.processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
        dist.init_process_group("gloo", rank=rank, world_size=options.processes)
    result = allreduce(options) if options.what == "allreduce" else Trainer(options).measure()
    if rank == 0:
        print(json.dumps({**result, "torch": torch.__version__}), flush=True)
    if options.processes > 1:
        dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "allreduce"])
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--megabytes", type=float, default=44.7)
    chosen = parser.parse_args()
    if chosen.processes == 1:
        work(0, chosen, 0)
    else:
        multiprocessing.spawn(work, (chosen, free_port()), nprocs=chosen.processes)
