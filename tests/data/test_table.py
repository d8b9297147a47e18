import datetime
import decimal
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from src.data import table
from src.data.table import ROWS, Frame, Spool, check_names, in_order
from src.errors import InputError


def numbered(rows):
    return pa.table({"n": np.arange(rows), "word": pa.array([f"w{row % 7}" for row in range(rows)])})


@given(st.lists(st.integers(0, 40), max_size=30))
def test_blocks_do_not_depend_on_how_the_source_came_in_pieces(lengths):
    whole = numbered(sum(lengths))
    ends = np.cumsum([0, *lengths])
    pieces = [whole.slice(start, length) for start, length in zip(ends, lengths, strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "ROWS", 16)
        found = [block["n"].tolist() for block in Spool(pieces).blocks()]
    assert found == [list(range(start, min(start + 16, len(whole)))) for start in range(0, len(whole), 16)]


def test_a_spool_gives_its_rows_as_often_as_asked_in_blocks_with_their_places():
    rows = 2 * ROWS + 5
    spool = Spool([numbered(rows).slice(start, 30_000) for start in range(0, rows, 30_000)])
    for _ in range(2):
        blocks = list(spool.blocks())
        assert [len(block) for block in blocks] == [ROWS, ROWS, 5]
        assert np.concatenate([block.index for block in blocks]).tolist() == list(range(rows))
        assert (pd.concat(blocks)["n"] == np.arange(rows)).all()
    assert (spool.rows, spool.names) == (rows, ["n", "word"])
    assert spool.frame()["word"].tolist() == [f"w{row % 7}" for row in range(rows)]


def test_what_was_read_for_the_last_time_is_given_back(monkeypatch):
    monkeypatch.setattr(table, "ROWS", 10)
    spool = Spool([numbered(10 * table.BLOCKS * 2 + 1)])
    assert len(spool.files) == 3
    assert len(Spool([numbered(10 * 2000)]).files) < 40
    lengths = spool.each(len, last=True)
    assert next(lengths) == 10
    assert not spool.files[0].closed
    assert [*lengths][-1] == 1
    assert all(file.closed for file in spool.files)


def test_a_frame_in_memory_and_a_spool_give_equal_blocks():
    frame = numbered(ROWS + 3).to_pandas()
    for one, other in zip(Frame(frame).blocks(), Spool([pa.table(frame)]).blocks(), strict=True):
        assert_frame_equal(one, other.astype({"word": one["word"].dtype}), check_index_type=False)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([decimal.Decimal("1.50"), None], pa.decimal128(5, 2), [1.5, np.nan]),
        ([datetime.timedelta(seconds=90), None], pa.duration("ms"), [90.0, np.nan]),
        ([datetime.date(2020, 1, 31), None], pa.date32(), [pd.Timestamp("2020-01-31"), pd.NaT]),
        ([datetime.time(10, 30), None], pa.time32("s"), ["10:30:00", np.nan]),
        (["a", None], pa.dictionary(pa.int8(), pa.string()), ["a", np.nan]),
        (["a", None], pa.large_string(), ["a", np.nan]),
        (["?", "b"], pa.string(), [np.nan, "b"]),
        ([1, 255], pa.uint8(), [1, 255]),
        ([1, None], pa.int64(), [1.0, np.nan]),
        ([True, None], pa.bool_(), [True, None]),
        ([[1, 2], None], pa.list_(pa.int64()), [[1, 2], None]),
    ],
)
def test_every_type_has_a_plain_form(values, kind, expected):
    found = Spool([pa.table({"c": pa.array(values, kind)})], missing=["?"]).frame()["c"].tolist()
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other) or (pd.isna(one) and pd.isna(other))


def test_a_wide_table_comes_in_fewer_rows_at_a_time():
    wide = pd.DataFrame(np.zeros((3000, 3000)))
    assert [len(block) for block in Frame(wide).blocks()] == [1398, 1398, 204]


def test_an_empty_spool_has_no_rows():
    assert Spool([]).rows == 0
    assert Spool([numbered(0)]).frame().empty


@given(st.lists(st.integers(), max_size=30))
def test_results_come_in_order(items):
    assert list(in_order(lambda item: item * 2, items)) == [item * 2 for item in items]


def test_few_items_are_taken_before_results_are():
    taken = []
    results = in_order(lambda item: item, (taken.append(item) or item for item in range(1000)))
    next(results)
    assert len(taken) < 100
    results.close()


def test_it_is_done_in_threads_and_an_error_comes_out():
    names = set(in_order(lambda _: threading.current_thread().name, range(50)))
    assert threading.current_thread().name not in names
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [1, 0, 1]))


def test_two_columns_of_one_name_are_refused(workspace):
    check_names(["a", "b"], workspace)
    with pytest.raises(InputError, match=r"has two columns of the name 'b': rename one"):
        check_names(["a", "b", "b"], workspace)
