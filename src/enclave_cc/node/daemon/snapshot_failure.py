"""Answers of the snapshotter other than success; containerd acts on their gRPC codes."""

from __future__ import annotations

from typing import ClassVar

import grpc


class SnapshotFailure(Exception):  # noqa: N818 - one of its kinds is the normal answer
    """Base; ``code`` is what goes on the wire."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN


class AlreadyExistsError(SnapshotFailure):
    """The name is taken; for a guest's layer: there is nothing to do."""

    code = grpc.StatusCode.ALREADY_EXISTS


class NotFoundError(SnapshotFailure):
    """There is no such snapshot."""

    code = grpc.StatusCode.NOT_FOUND


class PreconditionError(SnapshotFailure):
    """The snapshot is of another kind, or others depend on it."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class InvalidArgumentError(SnapshotFailure):
    """The request makes no sense."""

    code = grpc.StatusCode.INVALID_ARGUMENT
