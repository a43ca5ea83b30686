"""Classes of command lines that must train alike, step for step, through the real command line (TRL's method).

Batches hold rows of very different numbers of trained tokens and sizes are odd, so that a mean of means would show.
"""

import pytest

from tests.support.trajectory import assert_equivalent, drive

REMAT = {f"remat {name}": [f"model.remat={name}"] for name in ("none", "wide", "full")}
ONE_DEVICE = {
  "2 micro-batches of 4": ["training.micro_batches=2"],
  "8 micro-batches of 1": ["training.micro_batches=8"],
  "unpacked": ["training.packed=False"],
  "unpacked, 4 micro-batches": ["training.packed=False", "training.micro_batches=4"],
  "chunks of 64": ["training.loss_chunk=64"],
  "one chunk": ["training.loss_chunk=100000"],
  "unrolled layers": ["model.scan_layers=False"],
  **REMAT,
}
EIGHT_DEVICES = {
  "fsdp 8": ["mesh.fsdp=8"],
  "fsdp 4 × tensor 2": ["mesh.fsdp=4", "mesh.tensor=2"],
  "data 8": ["mesh.data=8", "mesh.fsdp=1"],
  "data 2 × fsdp 2 × tensor 2, 2 micro-batches": [
    "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2", "training.micro_batches=2"
  ],
  "fsdp 8, unpacked, 8 micro-batches": ["mesh.fsdp=8", "training.packed=False", "training.micro_batches=8"],
}  # fmt: skip
MIXED = ["training.micro_batches=8", "training.packed=False", "training.loss_chunk=64", "model.scan_layers=False"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
  """One device, one micro-batch of eight packed rows, scanned layers; and everything at once that may not matter."""
  return drive({"reference": [], "mixed": [*MIXED, "model.remat=none"]}, tmp_path_factory.mktemp("reference"))


def test_everything_that_may_not_matter_at_once(reference):
  losses = [row["loss"] for row in reference["reference"]]
  assert len(losses) >= 10 and losses[-1] < 0.9 * losses[0]  # it does train
  assert_equivalent(reference["mixed"], reference["reference"], "mixed")


def test_a_mesh_of_eight_devices_with_two_micro_batches(reference, tmp_path):
  variant = {"mesh": ["mesh.fsdp=4", "mesh.tensor=2", "training.micro_batches=2"]}
  assert_equivalent(drive(variant, tmp_path, devices=8)["mesh"], reference["reference"], "mesh")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_variant_on_one_device(reference, tmp_path):
  for name, found in drive(ONE_DEVICE, tmp_path).items():
    assert_equivalent(found, reference["reference"], name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_mesh(reference, tmp_path):
  for name, found in drive(EIGHT_DEVICES, tmp_path, devices=8).items():
    assert_equivalent(found, reference["reference"], name)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_example_weighting_is_invariant_too(tmp_path):
  weighting = "training.loss_weighting=example"
  found = drive({"plain": [weighting], "mixed": [weighting, *MIXED]}, tmp_path)
  assert_equivalent(found["mixed"], found["plain"], "example weighting")
