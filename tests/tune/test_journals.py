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
