"""The journal of a study, on disk."""

from src.tune import journals


def test_a_last_line_that_a_crash_has_torn_is_cut_off(workspace):
    journal = workspace / "tune.journal"
    journal.write_bytes(b'{"op_code": 0}\n{"op_code": 4, "wor')
    assert journals.look(journal) == (1, 0, True)
    assert journal.read_bytes() == b'{"op_code": 0}\n{"op_code": 4, "wor'
    journals.mend(journal)
    assert journal.read_bytes() == b'{"op_code": 0}\n'
    journals.mend(journal)
    assert journal.read_bytes() == b'{"op_code": 0}\n'
    assert journals.look(journal) == (1, 0, False)


def test_a_damaged_line_ends_the_journal_and_a_copy_is_kept(workspace):
    journal = workspace / "tune.journal"
    content = b'{"op_code": 0}\n{"op_code": 4}\n[4, "op_code"\n{"op_code": 5}\n'
    journal.write_bytes(content)
    assert journals.look(journal) == (4, 3, False)
    journals.cut(journal, 3)
    assert journal.read_bytes() == b'{"op_code": 0}\n{"op_code": 4}\n'
    assert (workspace / "tune.journal.damaged").read_bytes() == content


def test_what_is_held_is_not_written(tmp_path):
    path = tmp_path / "tune.journal"
    path.touch()
    journal = journals.Journal(path)
    journal.held.add(0)
    journal.append_logs([{"op_code": 7, "trial_id": 0}, {"op_code": 7, "trial_id": 1}])
    journal.flush()
    assert path.read_text() == '{"op_code":7,"trial_id":1}\n'

    journal.let_go([2])
    journal.flush()
    assert path.read_text().count("\n") == 1

    journal.let_go([0])
    journal.flush()
    assert [log["trial_id"] for log in journal.read_logs(0)] == [1, 0]
    journals.check(path)
