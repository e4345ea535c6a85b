"""Retrofits that are compiled, copied, replicated over threads, or trained in two processes."""

import copy
import pickle
import threading
from typing import Any

import torch
from retrofits import (
    DRIVING,
    SOURCE,
    assert_equal,
    call,
    each_family,
    networks,
    open_gates,
    retrofitted,
)
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

SMALL_DEPTH = {"encoder": "test_resnet.r160_in1k", "decoder_channels": (4, 4, 8, 8, 4)}


@each_family
@torch.no_grad()
def test_compiled_it_is_the_same(name):
    nets = retrofitted(name)
    open_gates(nets)
    compiled = [torch.compile(net, backend="eager", fullgraph=True) for net in nets[:2]]
    for source, driving in ((SOURCE, DRIVING), (DRIVING, SOURCE)):  # the depth of the second is not that of the first
        expected = call(nets, source, driving)
        found = call([*compiled, *nets[2:]], source, driving)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_compiled_it_trains():
    nets = retrofitted("fomm")
    open_gates(nets, 0.1)
    grads = []
    for pair in (nets, [nets[0], torch.compile(nets[1], backend="aot_eager")]):
        nets[0].zero_grad(), nets[1].zero_grad()
        call(pair)["prediction"].square().mean().backward()
        grads.append([p.grad.clone() for net in nets for p in net.trainable_parameters("all")])
    torch.testing.assert_close(grads[1], grads[0], atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_a_compiled_pair_can_be_retrofitted_and_called_by_keyword():
    nets = networks("fomm")
    expected = call(retrofitted("fomm", copy.deepcopy(nets)))
    kp_detector, generator = retrofitted("fomm", [torch.compile(net, backend="eager") for net in nets])
    kp_source, kp_driving = kp_detector(x=SOURCE), kp_detector(x=DRIVING)
    out = generator(source_image=SOURCE, kp_driving=kp_driving, kp_source=kp_source)
    torch.testing.assert_close(out["prediction"], expected["prediction"], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_both_halves_export_as_one_module():
    """They share one depth network."""
    model = Both(retrofitted("fomm")).eval()
    open_gates(list(model.nets))
    exported = torch.export.export(model, (SOURCE, DRIVING)).module()
    for batch in ((SOURCE, DRIVING), (DRIVING, SOURCE)):
        torch.testing.assert_close(exported(*batch), model(*batch), atol=1e-6, rtol=1e-5)


@each_family
@torch.no_grad()
def test_copies_and_pickles_are_whole(name):
    nets = retrofitted(name)
    open_gates(nets)
    expected = call(nets)
    for again in (copy.deepcopy(nets), pickle.loads(pickle.dumps(nets))):
        for net in nets[:2]:
            for parameter in net.additions.parameters():
                parameter.zero_()
        assert_equal(call(again), expected)
        open_gates(nets)


def replicas(network: nn.Module, count: int) -> list[nn.Module]:
    """Replicas as DataParallel makes them for each GPU; here all tensors stay in place."""
    modules = list(network.modules())
    made = []
    for _ in range(count):
        copies = {module: module._replicate_for_data_parallel() for module in modules}
        for module, replica in copies.items():
            replica._modules = {name: child and copies[child] for name, child in module._modules.items()}
            replica._parameters = dict(module._parameters)
        made.append(copies[network])
    return made


@each_family
def test_replicas_in_threads_do_not_mix_up_their_images(name):
    nets = retrofitted(name)
    open_gates(nets)
    pairs = list(zip(*(replicas(net, 2) for net in nets), strict=True))
    batches = [(SOURCE, DRIVING), (DRIVING, SOURCE)]
    with torch.no_grad():
        expected = [call(nets, *batch) for batch in batches]
        found: list[Any] = [None, None]

        def run(i: int) -> None:
            with torch.no_grad():  # of each thread
                found[i] = [call(pairs[i], *batches[i]) for _ in range(4)]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i in range(2):
        for result in found[i]:
            assert_equal(result, expected[i])


class Both(nn.Module):
    """Both networks in one module, as in training scripts."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        return (call(list(self.nets), source, driving)["prediction"] - driving).square().mean()


def gradients(model: Both) -> list[Tensor]:
    return [p.grad for net in model.nets[:2] for p in net.trainable_parameters("all")]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/gloo", rank=rank, world_size=2)
    model = Both(retrofitted("fomm"))
    open_gates(list(model.nets), 0.1)
    wrapped = DistributedDataParallel(model)
    for _ in range(2):  # a parameter without gradient is an error in the second
        wrapped.zero_grad()
        wrapped(SOURCE[rank : rank + 1], DRIVING[rank : rank + 1]).backward()
    if rank == 0:
        torch.save(gradients(model), f"{folder}/gradients.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_like_one(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    model = Both(retrofitted("fomm"))
    open_gates(list(model.nets), 0.1)
    model(SOURCE, DRIVING).backward()
    torch.testing.assert_close(torch.load(tmp_path / "gradients.pt"), gradients(model), atol=1e-6, rtol=1e-3)
