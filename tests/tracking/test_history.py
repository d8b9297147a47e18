from src.tracking.history import History


def record(epoch):
    return {"epoch": epoch, "val/loss": 1 / 3 + epoch, "samples_per_second": 5.0}


def epochs(history):
    return [found["epoch"] for found in history.read()[0]]


def test_what_was_appended_is_read_to_the_last_bit(tmp_path):
    history = History(tmp_path)
    assert history.read() == ([], 0)
    for epoch in (1, 2):
        history.append(record(epoch))
    found, _ = history.read()
    assert [{key: value for key, value in row.items() if key != "time"} for row in found] == [record(1), record(2)]


def test_reading_goes_on_from_an_offset_and_leaves_a_torn_line(tmp_path):
    history = History(tmp_path)
    history.append(record(1))
    _, offset = history.read()
    history.append(record(2))
    with history.path.open("a") as file:
        file.write('{"epoch": 3, "val')
    found, end = history.read(offset)
    assert [row["epoch"] for row in found] == [2]
    assert history.read(end) == ([], end)


def test_restore_leaves_what_a_checkpoint_has_kept(tmp_path):
    history, said = History(tmp_path), []
    for epoch in (1, 2, 3):
        history.append(record(epoch))
    kept = history.read()[0][:2]
    with history.path.open("a") as file:
        file.write('{"epoch": 4')
    history.restore(kept, said.append)
    history.append(record(3))
    assert epochs(history) == [1, 2, 3]
    assert said == []


def test_the_table_has_no_timings(tmp_path):
    history = History(tmp_path)
    history.append(record(1))
    history.write_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == f"epoch,val/loss\n1,{1 / 3 + 1}\n"
