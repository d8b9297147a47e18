from src import params, params_table


def test_the_table_has_one_described_row_for_every_param():
    rows = params_table.table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [key for key, _ in params.fields()]
    assert all(row.split("|")[-2].strip() not in ("", "None") for row in rows)
