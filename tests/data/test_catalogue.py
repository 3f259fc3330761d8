"""The named data sets: digits as it is known, and torchvision's from files that the tests write."""

import gzip
import hashlib
import importlib.metadata
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import types
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnbench.base.errors import DataError
from bnbench.data import vision
from bnbench.data.catalogue import cifar10, cifar100, digits, fashion_mnist, gaussian, mnist, svhn
from bnbench.data.packing import CONTENTS
from bnbench.data.tensors import fingerprint, make_dataset

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
#: A copy of MNIST for development; the tests pass without it.
SHARED_MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
LABELS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written this moment are kept, too."""
    monkeypatch.setattr("bnbench.data.array_cache.SETTLED", 0.0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(opener: Any, request: urllib.request.Request, timeout: float) -> None:
        raise urllib.error.HTTPError(request.full_url, 403, "Forbidden", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, type 8 (uint8), rank, sizes big-endian, then the values."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(raw: Path, test_count: int = 3) -> None:
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(PIXELS[:test_count]))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:test_count]))


# digits


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data, source = digits(tmp_path), load_digits()
    assert data.train_inputs.shape == (1437, 1, 8, 8)
    assert data.test_inputs.shape == (360, 1, 8, 8)
    assert data.class_names == tuple("0123456789")
    # counts of each class in the UCI test set that scikit-learn ships
    labels = torch.cat((data.train_targets, data.test_targets))
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    images = torch.cat((data.train_inputs, data.test_inputs))
    assert (int(images.min()), int(images.max())) == (0, 16)
    # the two parts together are the whole, image by image with its label
    ours = {
        (image.numpy().astype(float).tobytes(), int(label))
        for image, label in zip(images, labels, strict=True)
    }
    theirs = {
        (image.tobytes(), int(label)) for image, label in zip(source.images, source.target, strict=True)
    }
    assert ours == theirs
    assert len(ours) == 1797


def test_digits_are_split_the_same_way_always(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = digits(tmp_path)
    torch.manual_seed(2)
    assert digits(tmp_path).fingerprint == first.fingerprint
    # computed once; another value means that results so far were on another split
    assert first.fingerprint == "30d45ee79cee41c39de9448cbaabdcbd"
    assert list(tmp_path.iterdir()) == []


# torchvision's


def test_what_torchvision_read_is_kept_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    first = mnist(tmp_path)
    (kept,) = (tmp_path / "torchvision-cache").iterdir()

    def unwanted(class_name: str) -> Any:
        raise AssertionError("torchvision is not needed")

    with monkeypatch.context() as patch:
        patch.setattr("bnbench.data.vision._torchvision_class", unwanted)
        again = mnist(tmp_path)
        assert (again.fingerprint, again.class_names) == (first.fingerprint, first.class_names)
        labels = raw / "train-labels-idx1-ubyte"
        os.utime(labels, ns=(0, 0))
        with pytest.raises(AssertionError, match="not needed"):
            mnist(tmp_path)
    assert mnist(tmp_path).fingerprint == first.fingerprint  # read anew, and kept anew
    kept.write_bytes(kept.read_bytes()[:100])
    assert mnist(tmp_path).fingerprint == first.fingerprint
    (raw / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setattr("bnbench.data.vision._torchvision_class", unwanted)
    with pytest.raises(AssertionError, match="not needed"):
        mnist(tmp_path)


def test_mnist_is_read_in_place_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    data = mnist(tmp_path)
    np.testing.assert_array_equal(data.train_inputs.numpy(), PIXELS[:, None])
    assert data.train_inputs.dtype == torch.uint8
    assert data.train_targets.tolist() == [3, 1, 4, 1, 5, 9, 2]
    assert data.test_targets.tolist() == [3, 1, 4]
    assert data.class_names == (
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
    )
    assert capfd.readouterr() == ("", "")


def test_fashion_mnist_has_its_own_folder_and_names(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    data = fashion_mnist(tmp_path)
    assert data.class_names[:2] == ("T-shirt/top", "Trouser")


def test_a_truncated_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "train-images-idx3-ubyte").write_bytes(idx(PIXELS)[:-100])
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    assert caught.value.what.startswith(f"MNIST: its files in {raw} can't be read: ")
    assert caught.value.why == "At least one of them is truncated or corrupt."
    assert caught.value.fix == (
        "delete train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte there and run again."
    )


def test_images_and_labels_of_different_number(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:5]))
    with pytest.raises(DataError, match=r"^MNIST: train has 7 images and 5 labels\.$"):
        mnist(tmp_path)


def test_a_label_that_no_class_has(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "train-labels-idx1-ubyte").write_bytes(idx(LABELS + 1))
    with pytest.raises(DataError, match=r"^MNIST: train has labels from 2 to 10; 0 to 9 are known\.$"):
        mnist(tmp_path)


def test_a_failed_download_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    assert caught.value.what == (
        "Could not download MNIST: "
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz: HTTP 403 Forbidden; "
        "http://yann.lecun.com/exdb/mnist/train-images-idx3-ubyte.gz: HTTP 403 Forbidden."
    )
    assert caught.value.fix == (
        "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        f"t10k-labels-idx1-ubyte.gz into {raw} and run again, or start without a download: bnbench compare"
    )


@pytest.mark.parametrize(
    ("factory", "files"),
    [
        (cifar10, "cifar-10-python.tar.gz"),
        (cifar100, "cifar-100-python.tar.gz"),
        (svhn, "train_32x32.mat, test_32x32.mat"),
    ],
)
def test_a_failed_download_names_the_files_of_each(factory: Any, files: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        factory(tmp_path)
    assert caught.value.fix.startswith(f"put {files} into {tmp_path} and run again")


def cifar_archive(folder: str, names: list[str], rng: np.random.Generator) -> tuple[bytes, dict[str, bytes]]:
    """A .tar.gz in CIFAR's layout: pickles of {"data": (N, 3072), "labels": [...]}."""
    contents = {
        name: pickle.dumps({"data": rng.integers(0, 256, (4, 3072), np.uint8), "labels": [0, 1, 9, 5]})
        for name in names
    }
    contents["batches.meta"] = pickle.dumps({"label_names": [f"class {label}" for label in range(10)]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue(), contents


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, dict[str, bytes]]:
    """torchvision's CIFAR10 with the checksums of a small archive that is made here."""
    from torchvision.datasets import CIFAR10

    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    archive, contents = cifar_archive("cifar-10-batches-py", names, np.random.default_rng(1))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    return archive, contents


@pytest.fixture
def known_content(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The four files of a small MNIST, whose content is known by its checksum."""
    files = {
        "train-images-idx3-ubyte": idx(PIXELS),
        "train-labels-idx1-ubyte": idx(LABELS),
        "t10k-images-idx3-ubyte": idx(PIXELS[:3]),
        "t10k-labels-idx1-ubyte": idx(LABELS[:3]),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setitem(CONTENTS, "MNIST", sums)
    return files


def test_files_that_someone_else_compressed_are_known_by_their_content(
    known_content: dict[str, bytes], tmp_path: Path
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for level, (name, content) in enumerate(known_content.items(), start=1):
        (raw / f"{name}.gz").write_bytes(gzip.compress(content, level))
    data = mnist(tmp_path)
    np.testing.assert_array_equal(data.train_inputs.numpy(), PIXELS[:, None])
    assert not [path for path in raw.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("damage", ["other content", "truncated", "no gzip", "empty"])
def test_a_file_of_another_content_has_its_checksum_named(
    damage: str, known_content: dict[str, bytes], tmp_path: Path
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in known_content.items():
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    file = raw / "t10k-labels-idx1-ubyte.gz"
    content = {
        "other content": gzip.compress(known_content["t10k-labels-idx1-ubyte"][:-1] + b"\1"),
        "truncated": file.read_bytes()[:-9],
        "no gzip": b"<html>",
        "empty": b"",
    }[damage]
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    assert f"{file} is there, but it is not the original: its MD5 is " in caught.value.what
    assert "gunzip -k" in caught.value.fix
    assert sorted(path.name for path in raw.iterdir() if path.name.startswith(".")) == []


@pytest.mark.skipif(not SHARED_MNIST.is_dir(), reason="no copy of MNIST here")
def test_the_content_of_mnist_itself_is_known(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in CONTENTS["MNIST"]:
        packed = gzip.decompress((SHARED_MNIST / f"{name}.gz").read_bytes())
        (raw / f"{name}.gz").write_bytes(gzip.compress(packed, 1))
    data = mnist(tmp_path)
    assert (len(data.train_targets), len(data.test_targets)) == (60_000, 10_000)


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar")
def test_an_archive_that_someone_else_packed_is_known_by_its_files(
    small_cifar: tuple[bytes, dict[str, bytes]], tmp_path: Path
) -> None:
    archive, _ = small_cifar
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(archive)
    expected = cifar10(tmp_path).fingerprint
    other = tmp_path / "other"
    other.mkdir()
    (other / path.name).write_bytes(gzip.compress(gzip.decompress(archive), 1))
    assert cifar10(other).fingerprint == expected


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar")
def test_an_archive_that_lies_there_is_unpacked_without_a_download(
    small_cifar: tuple[bytes, dict[str, bytes]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archive, contents = small_cifar
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(archive)
    data = cifar10(tmp_path)
    assert data.train_inputs.shape == (20, 3, 32, 32)
    # the file holds red, then green, then blue, row by row
    expected = pickle.loads(contents["data_batch_2"])["data"].reshape(4, 3, 32, 32)
    np.testing.assert_array_equal(data.train_inputs[4:8].numpy(), expected)
    assert data.test_targets.tolist() == [0, 1, 9, 5]
    assert data.class_names[9] == "class 9"
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    assert cifar10(tmp_path).fingerprint == data.fingerprint
    assert capfd.readouterr().out == ""


def test_svhn_counts_its_zero_as_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, 3, 4), np.uint8)
    splits = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": pixels, "y": np.array([[10], [1], [2], [9]], np.uint8)})
        splits[part] = ["http://x", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", splits)
    data = svhn(tmp_path)
    assert data.train_targets.tolist() == [0, 1, 2, 9]
    np.testing.assert_array_equal(data.train_inputs[2].numpy(), pixels[:, :, :, 2].transpose(2, 0, 1))


def test_a_torchvision_that_does_not_fit_is_named_and_stops_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(vision, "importlib", types.SimpleNamespace(import_module=broken))
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    assert f"does not work with torch {importlib.metadata.version('torch')}: operator" in caught.value.what
    assert "digits, npz, imagefolder" in caught.value.fix
    assert len(digits(tmp_path).test_targets) == 360


def test_the_data_room_opens_without_torch_and_lists_without_torchvision() -> None:
    code = (
        "import sys, bnbench.data; assert 'torch' not in sys.modules; "
        "bnbench.data.datasets.names(); assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# tensors


def test_the_fingerprint_sees_values_shapes_and_types() -> None:
    base = torch.arange(6, dtype=torch.uint8)
    others = [base.view(2, 3), base.view(3, 2), base.to(torch.int8), base.flip(0), base[:5]]
    prints = [fingerprint(tensor) for tensor in (base, *others)]
    assert len(set(prints)) == 6
    assert fingerprint(base.view(2, 3).T) == fingerprint(base.view(2, 3).T.contiguous())
    assert fingerprint(base, base) != fingerprint(base)


def test_parts_of_different_image_size() -> None:
    small, large = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 5, 4)
    labels = torch.tensor([0, 1])
    with pytest.raises(DataError, match=r"^X: a training image has the shape 1x4x4 and a test image 1x5x4\."):
        make_dataset("X", (small, labels), (large, labels), ["a", "b"])


def test_white_noise_has_the_moments_of_a_normal_distribution_and_nothing_to_learn() -> None:
    data = gaussian(Path("/nowhere"), features=50, classes=4, samples=4000)
    values = data.train_inputs.double()
    assert data.train_inputs.shape == (4000, 1, 1, 50)
    assert len(data.test_targets) == 800
    # 200,000 values: standard errors 0.0022 (mean), 0.0016 (std), 0.011 (kurtosis 3)
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - 1) < 0.008
    assert abs(float((values**4).mean()) - 3) < 0.06
    shares = torch.bincount(data.train_targets, minlength=4) / 4000
    assert float((shares - 0.25).abs().max()) < 0.035  # five standard errors
    means = torch.stack([values[data.train_targets == label].mean((0, 1, 2)) for label in range(4)])
    assert float(means.abs().max()) < 5 / (1000**0.5)
    assert torch.equal(
        gaussian(Path("/nowhere"), features=50, classes=4, samples=4000).train_inputs, data.train_inputs
    )
