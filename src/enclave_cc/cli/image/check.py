"""`enclave-cc image check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.cli.image.options import (
    KeyPasswordOption,
    KeyProviderConfigOption,
    KeysOption,
    PlatformOption,
)
from enclave_cc.cli.image.passwords import key_password_from
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions, reading
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.tenant.check.image import check_image
from enclave_cc.tenant.images import read_images
from enclave_cc.tenant.keys.decryption_keys import open_key_ring
from enclave_cc.tenant.platforms import parse_platform

if TYPE_CHECKING:
    from enclave_cc.tenant.check.image import CheckReport

_NO: Final = 1
_REGISTRY: Final = RegistryOptions()
_PROGRESS: Final = ProgressOptions()


def check(
    image: str,
    *,
    key: KeysOption = (),
    key_password_file: KeyPasswordOption = None,
    keyprovider_config: KeyProviderConfigOption = None,
    platform: PlatformOption = ("linux/amd64",),
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
    progress: ProgressOptions = _PROGRESS,
) -> int:
    """
    Say whether the image will run: platform, command, loader, user, privileges, limits.

    Exit status 1 when something keeps it from running. An encrypted image needs a key to look inside.

    Example: `enclave-cc image check docker-archive:app.tar`
    """
    keys = None
    if key:
        password = key_password_from(key_password_file)
        keys = open_key_ring(key, password=password, keyprovider_config=keyprovider_config)
    reports = []
    with progress.work() as work, reading(image, registry) as reader:
        for wanted in map(parse_platform, platform):
            for found in read_images(reader, (wanted,)).images:
                reports.append(check_image(reader, found, wanted, keys, work))
                work.require_going()
    if output is Output.JSON:
        show_json({"image": image, "images": [report.to_json() for report in reports]})
    else:
        for report in reports:
            _show(report)
    return 0 if all(report.runs for report in reports) else _NO


def _show(report: CheckReport) -> None:
    verdict = "will run" if report.complete else "nothing is wrong so far"
    show(f"{report.platform} {report.digest}: {verdict if report.runs else 'WILL NOT RUN'}")
    rows = [
        (str(problem.severity), problem.rule, problem.message, problem.remedy)
        for problem in sorted(report.problems, key=lambda problem: _ORDER[str(problem.severity)])
    ]
    show_table(("severity", "rule", "found", "what to do"), rows)


_ORDER: Final = {"error": 0, "warning": 1, "note": 2}
