import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.data import images, prepared, sources
from src.data.batches import Batches
from src.data.prepare import prepare
from src.data.schema import SPLITS
from src.errors import InputError
from src.params import Params, changed
from src.sections import Prepare

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (60, 5, 4), np.uint8)
LABELS = (np.arange(60) % 3).astype(np.uint8)


def idx_bytes(array, kind=0x08):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, packed=False, **parts):
    """train and t10k files; `parts` replaces the bytes of one, None leaves it out."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "train-images-idx3-ubyte": idx_bytes(PIXELS[:40]),
        "train-labels-idx1-ubyte": idx_bytes(LABELS[:40]),
        "t10k-images-idx3-ubyte": idx_bytes(PIXELS[40:]),
        "t10k-labels-idx1-ubyte": idx_bytes(LABELS[40:]),
    } | {name.replace("_", "-"): content for name, content in parts.items()}
    for name, content in contents.items():
        if content is not None:
            path = folder / (name + (".gz" if packed else ""))
            path.write_bytes(gzip.compress(content) if packed else content)


def write_pictures(folder, deep=False):
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        split = "test" if number >= 40 else "train"
        path = folder / (split if deep else "") / f"class {label}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def read(source, **settings):
    return sources.read(Prepare(source=source, **settings))


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_with_their_division(workspace, packed):
    write_idx(Path("digits"), packed)
    raw = read("./digits")
    assert raw.shape == (1, 5, 4)
    assert raw.target == "target"
    assert raw.frame["target"].tolist() == LABELS.tolist()
    assert raw.frame["split"].tolist() == ["train"] * 40 + ["test"] * 20
    pixels = raw.frame.drop(columns=["target", "split"])
    assert (pixels.dtypes == np.uint8).all()
    assert np.array_equal(pixels.to_numpy().reshape(-1, 5, 4), PIXELS)
    assert list(pixels)[:5] == ["pixel_0_0", "pixel_0_1", "pixel_0_2", "pixel_0_3", "pixel_1_0"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train_labels_idx1_ubyte": None}, r"idx has no train-labels-idx… file beside the other"),
        ({"train_images_idx3_ubyte": b"GIF89a" * 9}, r"train-images-idx3-ubyte is no IDX file: .* magic number"),
        ({"train_images_idx3_ubyte": idx_bytes(PIXELS[:40])[:-1]}, r"is cut or damaged: it has 815 bytes, .* says 816"),
        ({"train_labels_idx1_ubyte": idx_bytes(LABELS[:39])}, r"has shape \[40, 5, 4\] and .* \[39\]: images need"),
        (
            {"train_images_idx3_ubyte": idx_bytes(PIXELS[:40].view(np.int8), 0x09)},
            r"holds int8 values",
        ),
        ({"t10k_images_idx3_ubyte": idx_bytes(PIXELS[40:, :4])}, r"have different sizes"),
        ({"train_images_idx3_ubyte": b"\x1f\x8b\x08junk"}, r"train-images-idx3-ubyte is a damaged gzip file"),
        ({"train_images_idx3_ubyte": b""}, r"train-images-idx3-ubyte is no IDX file"),
    ],
)
def test_idx_files_that_cannot_be_read_are_named(workspace, parts, message):
    write_idx(Path("idx"), **parts)
    with pytest.raises(InputError, match=message):
        read("idx")


@given(st.binary(max_size=60))
def test_any_bytes_in_an_idx_file_are_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    write_idx(folder, train_images_idx3_ubyte=content)
    with pytest.raises(InputError, match=str(folder)):
        images.idx(folder)


def test_npz_arrays_are_images_or_a_table(workspace):
    np.savez("one.npz", x=PIXELS, y=LABELS)
    raw = read("one.npz")
    assert raw.shape == (1, 5, 4)
    assert "split" not in raw.frame
    colour = np.stack([PIXELS, PIXELS // 2, PIXELS // 3], axis=-1)
    np.savez("keras.npz", x_train=colour[:40], y_train=LABELS[:40, None], x_test=colour[40:], y_test=LABELS[40:, None])
    raw = read("keras.npz")
    assert raw.shape == (3, 5, 4)
    assert raw.frame["split"].value_counts().to_dict() == {"train": 40, "test": 20}
    first = raw.frame.drop(columns=["target", "split"]).iloc[0].to_numpy().reshape(3, 5, 4)
    assert np.array_equal(first, colour[0].transpose(2, 0, 1))
    np.savez("table.npz", X=PIXELS[:, 0].astype(float), Y=LABELS)
    raw = read("table.npz")
    assert raw.shape is None
    assert list(raw.frame) == ["x0", "x1", "x2", "x3", "target"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": PIXELS}, r"needs arrays x and y, or x_train, y_train, x_test and y_test; it has: x"),
        ({"x": PIXELS, "y": LABELS[:9]}, r"x has shape \[60, 5, 4\] and y \[9\]; y needs one value for each of x"),
        ({"x": PIXELS.astype(float), "y": LABELS}, r"x has shape \[60, 5, 4\] and type float64; a table has two"),
        ({"x": PIXELS, "y": np.array([object()] * 60)}, r"is not an NPZ file that can be read: .*allow_pickle=False"),
    ],
)
def test_npz_arrays_that_do_not_fit_are_refused(workspace, arrays, message):
    np.savez("mine.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read("mine.npz")
    Path("mine.npz").write_bytes(Path("mine.npz").read_bytes()[:100])
    with pytest.raises(InputError, match=r"mine.npz is not an NPZ file that can be read"):
        read("mine.npz")


@pytest.mark.parametrize("deep", [False, True])
def test_pictures_in_folders_by_class(workspace, deep):
    write_pictures(Path("pictures"), deep)
    raw = read("pictures", image={"size": [5, 4], "channels": 1})
    assert raw.shape == (1, 5, 4)
    assert ("split" in raw.frame) == deep
    assert set(raw.frame["target"]) == {"class 0", "class 1", "class 2"}
    found = {pixels.tobytes() for pixels in raw.frame.filter(like="pixel").to_numpy()}
    assert found == {pixels.tobytes() for pixels in PIXELS}
    assert read("pictures").shape == (3, 32, 32)


def test_a_picture_that_cannot_be_read_is_named_or_skipped(workspace):
    write_pictures(Path("pictures"))
    bad = Path("pictures/class 1/01.png")
    bad.write_bytes(bad.read_bytes()[:40])
    Path("pictures/class 2/empty.jpg").touch()
    with pytest.raises(
        InputError, match=r"pictures/class 1/01.png is no picture that can be read .* prepare.on_bad_image: skip"
    ):
        read("pictures")
    raw = read("pictures", on_bad_image="skip")
    assert len(raw.frame) == 59
    assert [note.split(" is ")[0] for note in raw.notes] == [str(bad), "pictures/class 2/empty.jpg"]


def test_the_digest_of_pictures_is_that_of_their_names_and_bytes(workspace):
    write_pictures(Path("pictures"))
    first = read("pictures").sha256
    Path("pictures/class 0/00.png").rename("pictures/class 1/00.png")
    assert read("pictures").sha256 != first


def test_images_are_kept_as_bytes_and_scaled_by_the_training_pixels(workspace):
    write_idx(Path("idx"))
    values = {"prepare.source": "idx", "prepare.split": "given", "prepare.split_column": "split"}
    schema = prepare(changed(Params(), values))
    parts = {name: prepared.load(name, schema) for name in SPLITS}
    assert schema.shape == (1, 5, 4)
    assert parts["test"].rows.tolist() == list(range(40, 60))
    train = parts["train"].inputs
    assert train.dtype == torch.uint8
    assert np.array_equal(train.numpy()[:, 0], PIXELS[parts["train"].rows])
    assert schema.scale == pytest.approx((train.double().mean().item(), train.double().std(correction=0).item()))
    batches = Batches(train, parts["train"].targets, 7, scale=schema.scale)
    seen = torch.cat([inputs for inputs, _ in batches])
    assert seen.dtype == torch.float32
    assert seen.mean().item() == pytest.approx(0, abs=1e-5)
    assert seen.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    shuffled = torch.cat([inputs for inputs, _ in batches.epoch(1)])
    assert torch.equal(shuffled.flatten(1).sort(0).values, seen.flatten(1).sort(0).values)


def test_a_model_of_images_takes_rows_of_pixels(workspace):
    from src import fingerprint, model_file, paths, training
    from src.evaluation import Result
    from src.export import export
    from src.serving import Predictor

    write_idx(Path("idx"))
    quick = {"train.epochs": 2, "train.warmup_epochs": 1.0, "model.name": "cnn", "train.device": "cpu"}
    params = changed(Params(), {"prepare.source": "idx", **quick})
    schema = prepare(params)
    data = training.load_data()
    folder = workspace / "checkpoints"
    folder.mkdir()
    list(training.train(params, data, folder))
    export(params, data, folder, fingerprint.of(params, schema))
    result = Result(params, model_file.load(), prepared.load("test", schema)).predictions()
    rows = read("idx").frame.iloc[result["row"]]
    given_rows = Predictor(paths.MODELS).predict(rows)
    pd.testing.assert_frame_equal(given_rows.reset_index(drop=True), result[given_rows.columns], rtol=1e-4, atol=1e-6)
