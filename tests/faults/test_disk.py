"""A disk that is really full: the training stops in words, loses nothing, and goes on once there is room."""

import pytest

from tests.faults import disk

pytestmark = pytest.mark.pipeline


@pytest.mark.long
def test_a_full_disk_stops_the_training_in_words_and_with_room_it_goes_on(workshop, tmp_path):
    full = disk.full_disk(workshop) if disk.can_mount(tmp_path / "mounted") else disk.limited_files(workshop)
    assert full.wrong == []
