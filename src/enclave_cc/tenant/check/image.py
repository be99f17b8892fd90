"""All checks of one image, in the order in which they would matter when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import loads
from enclave_cc.formats.oci.image_config import MAX_CONFIG_BYTES, ImageConfig
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.sealed.tree import LayerError
from enclave_cc.formats.tar.entry import TarError
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import Layer, open_layer
from enclave_cc.image.limits import DEFAULT_LIMITS
from enclave_cc.tenant.check.contents import check_contents
from enclave_cc.tenant.check.merged import MergedTree
from enclave_cc.tenant.check.problem import Problem, Severity, error, note, warning
from enclave_cc.tenant.check.program import ProgramCheck
from enclave_cc.tenant.check.user import check_user
from enclave_cc.tenant.images import layer_type
from enclave_cc.tenant.inspect import platform_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor, Platform
    from enclave_cc.image.ports import LayerKeys
    from enclave_cc.tenant.images import Image
    from enclave_cc.tenant.places.ports import ImageReader
    from enclave_cc.tenant.work import Work

_HERE: Final = Reference("localhost", "image", "latest")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found; ``complete`` is False where nobody could look inside."""

    digest: Digest
    platform: Platform
    complete: bool
    problems: tuple[Problem, ...]

    @property
    def runs(self) -> bool:
        """Tell whether nothing was found that keeps the image from running."""
        return all(problem.severity is not Severity.ERROR for problem in self.problems)

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON members."""
        return {
            "platform": str(self.platform),
            "digest": str(self.digest),
            "runs": self.runs,
            "complete": self.complete,
            "problems": [problem.to_json() for problem in self.problems],
        }


def check_image(
    reader: ImageReader, image: Image, wanted: Platform, keys: LayerKeys | None, work: Work
) -> CheckReport:
    """
    Check one image; ``keys`` open its layers, if they are encrypted.

    Raises ``RefusedError`` for layers that are not what the manifest says, as pulling the image would.
    """
    document = reader.document(image.manifest.config.digest)
    platform = platform_of(reader, image)
    try:
        config = ImageConfig.parse(document)
    except InvalidInputError as problem:
        found = error("config.invalid", problem.detail, "build the image again")
        return CheckReport(image.descriptor.digest, platform, complete=True, problems=(found,))
    problems = [*_check_documents(image, config, wanted), *_check_volumes(document)]
    encrypted = any(layer_type(layer).encrypted for layer in image.manifest.layers)
    complete = keys is not None or not encrypted
    if not complete:
        problems.append(
            warning("layers.encrypted", "nobody looked inside: the layers are encrypted", "give a key: --key")
        )
    elif len(config.diff_ids) == len(image.manifest.layers):
        problems += _check_layers(reader, image, config, keys, work)
    return CheckReport(image.descriptor.digest, platform, complete, tuple(problems))


def _check_documents(image: Image, config: ImageConfig, wanted: Platform) -> Iterator[Problem]:
    layers = image.manifest.layers
    if (config.os, config.architecture) != (wanted.os, wanted.architecture):
        yield error(
            "platform",
            f"the image is for {config.os}/{config.architecture}, not for {wanted}",
            f"build the image for {wanted}",
        )
    if len(config.diff_ids) != len(layers):
        yield error(
            "config.diff-ids",
            f"{len(layers)} layers, and {len(config.diff_ids)} diff ids",
            "build the image again",
        )
    if len(layers) > DEFAULT_LIMITS.layers:
        yield error(
            "limits.layers",
            f"{len(layers)} layers, the agent takes {DEFAULT_LIMITS.layers}",
            "join build steps, or squash the image",
        )
    for layer in layers:
        if layer.size > DEFAULT_LIMITS.compressed_layer_bytes:
            yield error(
                "limits.layer-bytes",
                f"{layer.digest}: {layer.size} bytes of {DEFAULT_LIMITS.compressed_layer_bytes} allowed",
                "split the layer, or raise the limit in initdata",
            )
    yield note("layers.size", f"{len(layers)} layers, {sum(layer.size for layer in layers)} bytes to fetch")


def _check_volumes(document: bytes) -> Iterator[Problem]:
    try:
        fields = Fields(loads(document, max_bytes=MAX_CONFIG_BYTES), "config").object("config")
        volumes = list(fields.object("Volumes").names())
    except (FieldError, ValueError):
        return
    if volumes:
        yield warning(
            "volumes",
            f"declares volumes: {', '.join(volumes[:5])[:512]}",
            "volumes lie outside of the sealed image: what the pod mounts there is the node's to read",
        )


def _check_layers(
    reader: ImageReader, image: Image, config: ImageConfig, keys: LayerKeys | None, work: Work
) -> list[Problem]:
    with MergedTree() as tree:
        for layer, diff_id in zip(image.manifest.layers, config.diff_ids, strict=True):
            opened = Layer(_HERE, layer, layer_type(layer), diff_id)
            chunks = open_layer(opened, source=_Source(reader, work), keys=keys or KeyRing())
            try:
                tree.add_layer(chunks)
            except (TarError, LayerError) as problem:
                remedy = "build the layer with another tool"
                return [error("layers.unpack", f"{layer.digest}: {problem}", remedy)]
            except RefusedError as problem:
                if problem.code != "image-limit-exceeded":
                    raise
                remedy = "make the layer smaller, or raise the limit in initdata"
                return [error("limits.unpacked", f"{layer.digest}: {problem.summary}", remedy)]
        return [
            *ProgramCheck(tree, config, config.architecture).run(),
            *check_user(tree, config.user),
            *_check_working_directory(tree, config),
            *check_contents(tree),
        ]


def _check_working_directory(tree: MergedTree, config: ImageConfig) -> Iterator[Problem]:
    if config.working_dir and tree.find(config.working_dir) is None:
        yield note("working-directory", f"{config.working_dir}: is made when the container starts")


class _Source:
    """Layers from a place, reported while they pass."""

    def __init__(self, reader: ImageReader, work: Work) -> None:
        self._reader = reader
        self._work = work

    def open(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob."""
        del reference  # Places know where they are.
        chunks = self._reader.open_blob(descriptor)
        return self._work.stream(str(descriptor.digest), chunks, descriptor.size)
