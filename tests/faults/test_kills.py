"""Real trainings, really killed: they go on and end as if nothing had happened. `make faults` is the long form."""

import pytest

from tests.faults import kills
from tests.faults.kills import BOUNDARIES

pytestmark = pytest.mark.pipeline

# A file of each kind, before, within and after it becomes durable; in the order of a training, so that a chain of
# stages, each going on from the one before, meets them all.
CHAIN = (
    "SIGKILL torn fsync models/checkpoints/*/.epoch-000001-step-00000001.pt.partial",
    "SIGKILL after replace models/checkpoints/*/epoch-000001-step-00000001.pt.sha256",
    "SIGKILL torn fsync models/checkpoints/*/history.jsonl",
    "SIGKILL after replace models/checkpoints/*/epoch-000002-step-00000001.pt",
    "SIGKILL before replace models/checkpoints/*/epoch-000002.pt",
    "SIGKILL before unlink models/checkpoints/*/epoch-000002-step-00000001.pt",
    "SIGKILL before replace models/checkpoints/*/history.jsonl",
    "SIGKILL after replace models/model.safetensors",
    "SIGKILL before fsync reports/.history.csv.*.partial",
    "SIGKILL after replace reports/train.json",
)


@pytest.mark.faults
@pytest.mark.parametrize(("training", "seed", "times"), [("regression", 1, 3), ("cnn", 2, 3)])
def test_killed_at_random_and_gone_on_with_equals_never_killed(workshop, training, seed, times):
    verdict = kills.random_kills(workshop, seed, times, training)
    assert verdict.wrong + verdict.untold == []
    assert verdict.kills >= 1


@pytest.mark.long
def test_killed_at_what_becomes_durable_and_gone_on_with_equals_never_killed(workshop):
    verdict = kills.chain(workshop, [f"{fault} in stages.train" for fault in CHAIN])
    assert verdict.wrong + verdict.untold == []
    assert verdict.kills == len(CHAIN)


def test_every_kind_of_boundary_is_found_by_listing(workshop):
    found = kills.boundaries(workshop.reference(BOUNDARIES))
    assert len(found) == len(set(found))
    for name in ("epoch-000002.pt", "epoch-000002.pt.sha256", "model.safetensors", "train.json", "history.csv"):
        for moment in ("before", "after"):
            assert any(fault.startswith(f"SIGKILL {moment} replace") and f"/{name} #1" in fault for fault in found), (
                name
            )
    assert any("torn fsync" in fault and "history.jsonl #2" in fault for fault in found)
