"""What every test may ask for: vectors made by others, root, short socket paths."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

# Where tests fork, gRPC would start threads in the child at once, which our own programs never have there.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# A loaded machine must not turn a property into a timing test; in CI the same commit gives the same result,
# and new examples are looked for everywhere else.
hypothesis.settings.register_profile(
    "enclave-cc", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("enclave-cc")


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root") or item.get_closest_marker("scene"):
            item.add_marker(pytest.mark.skip(reason="needs root: run the tests with sudo"))


@pytest.fixture(scope="session")
def vectors():
    """The directory of test data made by others; it is read in place and never copied."""
    default = Path(__file__).parents[2] / "shared" / "vectors"
    path = Path(os.environ.get("ENCLAVE_CC_VECTORS", default))
    if not path.is_dir():
        pytest.skip("vectors made by others are absent: set ENCLAVE_CC_VECTORS to their directory")
    return path


@pytest.fixture
def short_tmp():
    """A directory with a short path, because Unix socket paths end at 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="ecc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
