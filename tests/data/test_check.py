import pandas as pd
import pytest

from src.data import check, fitting
from src.errors import InputError

TRAIN = pd.DataFrame({"age": [18.0, 90.0, 40.0], "city": ["Ulm", "Bonn", "Ulm"], "member": ["yes", "no", "no"]})


@pytest.fixture
def columns(fit_all):
    return fit_all(TRAIN, {"age": "numeric", "city": "categorical", "member": "boolean"})


def test_rows_like_those_of_training_are_not_named(columns):
    assert check.unlike(TRAIN, columns) == []
    assert check.unlike(TRAIN.assign(age=None, city=None), columns) == []


def test_what_is_outside_or_new_is_named_with_its_row(columns):
    rows = pd.DataFrame({"age": [20, 912, 17], "city": ["Ulm", "Oz", " Bonn"], "member": ["yes"] * 3})
    assert check.unlike(rows, columns) == [
        "column 'age', row 2: '912' is outside 18 to 90, the range of the training rows, and 1 more row",
        "column 'city', row 2: 'Oz' is not among the categories of the training rows",
    ]


def test_where_rare_categories_share_an_input_a_new_one_is_one_of_them(fit_all):
    many = pd.DataFrame({"city": [f"village {number}" for number in range(fitting.MAX_CATEGORIES + 5)]})
    columns = fit_all(many, {"city": "categorical"})
    assert check.unlike(pd.DataFrame({"city": ["Oz"]}), columns) == []


def test_what_is_no_number_is_an_error(columns):
    with pytest.raises(InputError, match="column 'age', row 1: 'old' is not a finite number"):
        check.unlike(pd.DataFrame({"age": ["old"], "city": ["Ulm"], "member": ["no"]}), columns)
