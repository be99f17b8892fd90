"""What every command that reads or writes images takes: places, registry access, progress."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.cli.interrupt import interruptible
from enclave_cc.cli.progress import ProgressForm, showing
from enclave_cc.tenant.places.names import Place, PlaceKind
from enclave_cc.tenant.places.opening import open_reader, open_writer
from enclave_cc.tenant.places.registry_access import RegistryAccess
from enclave_cc.tenant.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How registries are reached; proxies come from the environment."""

    insecure_http: Annotated[
        tuple[str, ...],
        Parameter(
            name="--insecure-http",
            help="Registry (host:port) to speak plain HTTP with; may be repeated.",
            negative="",
            show_default=False,
        ),
    ] = ()
    ca: Annotated[Path | None, Parameter(help="CA certificates (PEM) to trust beside the system's.")] = None
    auth_file: Annotated[
        Path | None, Parameter(help="File with credentials, instead of those of podman and docker.")
    ] = None

    @contextmanager
    def access(self) -> Iterator[RegistryAccess]:
        """Give access while the block runs; nothing is opened before it is needed."""
        pem = read(self.ca).decode("utf-8", "replace") if self.ca is not None else ""
        access = RegistryAccess.from_environment(self.insecure_http, ca_pem=pem, auth_file=self.auth_file)
        try:
            yield access
        finally:
            access.close()


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ProgressOptions:
    """What is shown while work goes on."""

    progress: Annotated[
        ProgressForm,
        Parameter(help="Bars or lines on standard error; `json` for one JSON object per line.", negative=""),
    ] = ProgressForm.AUTO
    quiet: Annotated[bool, Parameter(help="Show no progress.", negative="")] = False

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Report the block's work."""
        with showing(ProgressForm.NONE if self.quiet else self.progress) as renderer:
            work = Work(renderer)
            with interruptible(work):
                yield work


@dataclass(frozen=True, slots=True)
class Transfer:
    """A source and a target, open; what the target had before, if it was there; the work between them."""

    reader: ImageReader
    writer: ImageWriter
    before: ImageReader | None
    work: Work


@contextmanager
def transferring(
    source: str, target: str, registry: RegistryOptions, progress: ProgressOptions
) -> Iterator[Transfer]:
    """Open both places; the target is committed at the end of the block."""
    with ExitStack() as stack:
        work = stack.enter_context(progress.work())
        access = stack.enter_context(registry.access())
        reader = stack.enter_context(open_reader(source, access.client))
        writer = stack.enter_context(open_writer(target, access.client))
        before = stack.enter_context(open_reader(target, access.client)) if _readable(target) else None
        yield Transfer(reader, writer, before, work)
        work.require_going()


def _readable(target: str) -> bool:
    """Tell whether a target may have something already: archives are always written anew."""
    place = Place.parse(target)
    match place.kind:
        case PlaceKind.REGISTRY:
            return True
        case PlaceKind.LAYOUT:
            return (place.path / "oci-layout").exists()
        case _:
            return False


@contextmanager
def reading(image: str, registry: RegistryOptions) -> Iterator[ImageReader]:
    """Open a place to read from."""
    with registry.access() as access, open_reader(image, access.client) as reader:
        yield reader
