"""
From the host's request to a sealed root file system and a key that waits: docs/architecture.md, 6 to 8.

The order is the security argument: nothing is fetched before the broker knows this enclave, no layer is
opened before manifest, signature and launch are approved, and no key waits before every byte was checked
and sealed.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent.course import Cancellation
from enclave_cc.enclave.agent.launch_policy import approve_launch, launch_as_built
from enclave_cc.enclave.agent.layers import LayerWork, seal_layers
from enclave_cc.enclave.agent.prepare import Prepared
from enclave_cc.enclave.agent.progress_log import ProgressLog
from enclave_cc.enclave.agent.release import PendingRelease
from enclave_cc.enclave.agent.rootfs_policy import approve_rootfs, rootfs_as_built
from enclave_cc.enclave.rootfs.sealing.layer_store import LayerStore
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.oci.runtime_spec import RuntimeSpec
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.cache import BlobCache, CacheThenRegistry
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.pull import load_policy, verify_image
from enclave_cc.transport.patience.deadline import Deadline, Patience

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enclave_cc.enclave.agent.broker import BrokerSession
    from enclave_cc.enclave.agent.course import Course
    from enclave_cc.enclave.agent.event_log import EventLog
    from enclave_cc.enclave.agent.prepare import PrepareRequest
    from enclave_cc.enclave.agent.registries import RegistryOpener
    from enclave_cc.enclave.agent.release import PendingReleases
    from enclave_cc.enclave.agent.reporting import Reporter
    from enclave_cc.formats.launch import LaunchConfiguration
    from enclave_cc.formats.owner.settings import OwnerSettings
    from enclave_cc.image.layers.progress import Progress
    from enclave_cc.image.pull import VerifiedImage

_DIRECTORY_NAME_BYTES: Final = 16
_KEY_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class PodContext:
    """What all containers of the pod share."""

    pod_uid: str
    settings: OwnerSettings
    sealed_root: Path
    blob_cache: Path


@dataclass(frozen=True, slots=True)
class _Sealed:
    directory: Path
    fdk: Secret
    manifest_sha256: bytes


class ImagePipeline:
    """Runs one preparation from start to end; safe to use from several threads."""

    def __init__(
        self,
        pod: PodContext,
        *,
        open_session: Callable[[str], BrokerSession],
        open_registry: RegistryOpener,
        releases: PendingReleases,
        reporter: Reporter,
        log: EventLog,
    ) -> None:
        self._pod = pod
        self._open_session = open_session
        self._open_registry = open_registry
        self._releases = releases
        self._reporter = reporter
        self._log = log
        self._cache = BlobCache(pod.blob_cache)
        self._layers = LayerStore()

    def __call__(self, request: PrepareRequest, course: Course) -> Prepared:
        """Prepare; raise the error family, after the owner was told about a refusal."""
        session: BrokerSession | None = None
        try:
            # (1) The broker appraises this enclave, or says no.
            course.progress.enter(Stage.ATTEST)
            session = self._open_session(request.request_id)
            return self._prepare(request, session, course)
        except EnclaveCcError as error:
            # Who discarded the container knows why it was not prepared.
            if not course.cancellation.is_set():
                self._reporter.refused(request.request_id, error, session)
            raise
        finally:
            if session is not None:
                session.close()

    def forget(self, container_id: str, prepared: Prepared) -> None:
        """Drop the key and the files of a container that is gone."""
        self._releases.discard(container_id)
        self._remove(self._pod.sealed_root / prepared.sealed_image)

    def _prepare(self, request: PrepareRequest, session: BrokerSession, course: Course) -> Prepared:
        reference, settings = Reference.parse(request.image), self._pod.settings
        # Ended by the container's end, and by the first failure of any layer.
        pull = Cancellation()
        patience = Patience(Deadline.after(settings.limits.pull_seconds), cancelled=pull)
        course.progress.enter(Stage.VERIFY)
        # (2) The owner's signature policy; (3) manifest, signature, configuration, by the name asked for.
        policy = _signature_policy(settings, session)
        registry = self._open_registry(session, patience=patience)
        signatures = self._open_registry.signatures(session, patience=patience)
        with (
            closing(registry),
            closing(signatures),
            pull.waking(registry.interrupt),
            pull.waking(signatures.interrupt),
            course.cancellation.waking(pull.cancel),
        ):
            image = verify_image(
                reference,
                manifest_digest=Digest.parse(request.manifest_digest) if request.manifest_digest else None,
                registry=registry,
                resources=session,
                policy=policy,
                require_encrypted=settings.require_encrypted,
                signature_store=signatures,
                limits=settings.limits,
            )
            # (4) How the process may start, before any layer costs time.
            launch = self._approve(request, image)
            # (5) Stream: digest, HMAC, decrypt, inflate, diff id, seal.
            work = LayerWork(
                CacheThenRegistry(self._cache, registry),
                _key_ring(settings, session),
                settings.limits,
                patience,
                interrupt=pull.cancel,
                look=ProgressLog(self._log, request, course.progress).look,
            )
            sealed = self._seal(request, image, work, course.progress)
        # (6) From here on the key waits for its app enclave.
        key_id = self._keep(request, sealed, launch, session)
        self._log.event(
            "prepared",
            request=request.request_id,
            container=request.container_id,
            rootfs_writable=str(launch.rootfs.writable),
            rootfs_writable_bytes=launch.rootfs.writable_bytes,
            rootfs_decrypt_to_memory=launch.rootfs.decrypt_to_memory,
            reused_layers=course.progress.snapshot().reused_layers,
        )
        return Prepared(str(image.manifest_digest), sealed.directory.name, key_id, launch)

    def _approve(self, request: PrepareRequest, image: VerifiedImage) -> LaunchConfiguration:
        settings, image_digest = self._pod.settings, str(image.manifest_digest)
        if request.spec:
            spec = RuntimeSpec.parse(request.spec)
            launch, _ = approve_launch(spec, image.config, settings.workload, image_digest=image_digest)
            rootfs, _ = approve_rootfs(spec, settings.rootfs)
        else:
            launch = launch_as_built(image.config, settings.workload, image_digest=image_digest)
            rootfs = rootfs_as_built(settings.rootfs)
        launch = replace(launch, rootfs=rootfs)
        # What could not be released is refused now, not after every layer.
        launch.to_bytes()
        return launch

    def _seal(
        self, request: PrepareRequest, image: VerifiedImage, work: LayerWork, progress: Progress
    ) -> _Sealed:
        """Seal all layers under a fresh key into a fresh directory; leave neither behind on failure."""
        directory = self._pod.sealed_root / secrets.token_hex(_DIRECTORY_NAME_BYTES)
        fdk = Secret.random()
        binding = Binding(self._pod.pod_uid, request.container_id, str(image.manifest_digest))
        arriving = progress.expect([layer.descriptor.size for layer in image.layers])
        progress.enter(Stage.FETCH)
        with ExitStack() as undo:
            undo.callback(fdk.wipe)
            undo.callback(self._remove, directory)
            writer = SealedImageWriter(directory, fdk=fdk, binding=binding, limits=work.limits)
            undo.callback(writer.abort)
            share = self._layers.share(directory) if self._pod.settings.rootfs.share_layers else None
            seal_layers(image.layers, arriving, writer, work, share)
            progress.enter(Stage.SEAL)
            sealed = writer.finish()
            work.patience.require()
            undo.pop_all()
        return _Sealed(directory, fdk, sealed.manifest_sha256)

    def _keep(
        self, request: PrepareRequest, sealed: _Sealed, launch: LaunchConfiguration, session: BrokerSession
    ) -> str:
        """Let the key wait; return its id. Leave neither key nor files behind on failure."""
        with ExitStack() as undo:
            undo.callback(self._remove, sealed.directory)
            undo.callback(sealed.fdk.wipe)
            release = PendingRelease(
                container_id=request.container_id,
                request_id=request.request_id,
                key_id=secrets.token_hex(_KEY_ID_BYTES),
                fdk=sealed.fdk,
                manifest_sha256=sealed.manifest_sha256,
                launch=launch,
                token=session.fresh_token(),
            )
            self._releases.keep(release)
            undo.pop_all()
        return release.key_id

    def _remove(self, directory: Path) -> None:
        """Remove a sealed image; layers that other containers share stay with those."""
        self._layers.release(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _signature_policy(settings: OwnerSettings, session: BrokerSession) -> SignaturePolicy:
    if not settings.signature_policy and settings.insecure_accept_unsigned:
        return SignaturePolicy.insecure_accept_anything()
    return load_policy(session, settings.signature_policy)


def _key_ring(settings: OwnerSettings, session: BrokerSession) -> KeyRing:
    return KeyRing(
        session,
        decryption_keys=settings.decryption.keys,
        insecure_allow_a256ctr=settings.decryption.insecure_allow_a256ctr,
    )
