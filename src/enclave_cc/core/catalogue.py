"""The remedy for each error code: one line that says what to do next. The docs are made from it."""

from __future__ import annotations

from typing import Final

_UNKNOWN: Final = "run `enclave-cc doctor` and attach its output to a bug report"

REMEDIES: Final[dict[str, str]] = {
    # --- core
    "internal": _UNKNOWN,
    "invalid-request": "send a request that the interface documents; the detail names the field",
    "unavailable": "check that the peer runs and is reachable, then try again",
    "deadline-exceeded": "the peer is slow or gone: check its log, then try again",
    "cancelled": "nothing to do: whoever asked for the work does not want it any more",
    "digest-invalid": (
        "write digests as sha256:<64 lower-case hexadecimal digits> (sha384 and sha512 likewise)"
    ),
    "digest-mismatch": "the bytes were damaged or replaced on their way: fetch them again from the original",
    "request-id-invalid": "pass the 26 characters that the error message shows after request=",
    "remote-error": "look at the log of the process that answered",
    "file-unusable": "name a file that fits the option: the detail says what is wrong with this one",
    "time-invalid": "write a time such as 2026-01-31T12:00:00Z",
    "admin-file-invalid": "pass the admin.json that `enclave-cc kbs init` wrote: --admin FILE",
    "broker-exists": "choose another directory, or remove the old broker with all its keys first",
    "value-invalid": "quote JSON for the shell, as in --json '[1, 2]', or leave --json out",
    # --- image
    "reference-invalid": "name the image as registry/repository:tag or registry/repository@sha256:…",
    "image-not-found": "check the image's name and tag, and that it was pushed",
    "image-platform-missing": "publish the image for this platform; the detail lists what exists",
    "image-limit-exceeded": "make the image smaller, or raise the limit that the finding names, in initdata",
    "image-policy-missing": (
        "name a signature policy in initdata ([image] signature_policy), or accept unsigned images there"
    ),
    "image-config-invalid": "build and push the image again: its configuration does not parse",
    "image-config-mismatch": "build and push the image again: its configuration does not fit its manifest",
    "image-key-invalid": "use a 32-byte key file and a kbs:///repository/type/tag key id",
    "image-layout-invalid": "point at a directory in OCI layout that is complete; the detail names the file",
    "image-place-invalid": (
        "name images as registry/repository:tag, oci:DIR[:NAME], oci-archive:FILE[:NAME] or "
        "docker-archive:FILE[:REF]"
    ),
    "image-place-unfit": "write to a registry or an OCI layout: docker archives hold one plain image",
    "image-archive-invalid": "name an image that it holds, or write it anew; the detail says what is odd",
    "platform-invalid": "write platforms as os/architecture[/variant], such as linux/arm64/v8",
    "image-layer-invalid": "describe each path of the layer once, relative to its root",
    "image-already-encrypted": (
        "start from the plain image, or change who may open this one with `enclave-cc image rewrap`"
    ),
    "image-not-encrypted": "name the encrypted image: this one is plain already",
    "recipient-unknown": "name a key id as `enclave-cc image inspect` shows it; the detail lists them",
    "key-exists": "choose another name, or pass the file of the key that is there, without --create-key",
    "proxy-invalid": "correct https_proxy, http_proxy or no_proxy in the environment",
    "requirement-unknown": "require `encrypted`, `signed` or `encrypted,signed`",
    "recipient-missing": "name a recipient: --key FILE --key-id kbs:///…, or --recipient",
    "manifest-invalid": "build and push the image again: its manifest does not parse",
    "manifest-digest-mismatch": (
        "pull again; if it stays, the registry or the node serves another manifest than the one named"
    ),
    "config-digest-mismatch": (
        "push the image again: the registry serves another configuration than the manifest names"
    ),
    "layer-digest-mismatch": "push the image again: the registry serves other bytes than the manifest names",
    "layer-hmac-mismatch": "encrypt and push the image again: a layer was changed after it was encrypted",
    "layer-plain-digest-mismatch": "encrypt and push the image again: a layer's key belongs to another layer",
    "layer-corrupt": "build and push the image again: a layer does not decompress",
    "layer-media-type-unknown": "publish layers as tar, tar+gzip or tar+zstd",
    "layer-not-encrypted": (
        "encrypt every layer (enclave-cc image encrypt), or drop require_encrypted from initdata"
    ),
    "layer-encryption-invalid": "encrypt and push the image again: its encryption options do not parse",
    "layer-key-invalid": (
        "encrypt and push the image again: a wrapped key does not parse or names no broker resource"
    ),
    "layer-key-refused": (
        "use the key the image was encrypted with, whose id the finding names: in the broker under it, as"
        " private key in initdata ([image] decryption_keys), or at the command line with --key"
    ),
    "recipient-invalid": (
        "name recipients as kbs:///…, jwe:PUBLIC-KEY, pkcs7:CERTIFICATE or provider:NAME; the detail says"
        " what is wrong with this one"
    ),
    "keyprovider-config-invalid": (
        "correct what the detail names: an option here, or the entry of the provider in the file that"
        " --keyprovider-config or OCICRYPT_KEYPROVIDER_CONFIG points at"
    ),
    "keyprovider-unavailable": "start the key provider, or correct its address in the configuration",
    "keyprovider-refused": "look at what the key provider printed, and at its parameters",
    "keyprovider-answer-invalid": "use a key provider that speaks ocicrypt's protocol",
    "keyprovider-request-invalid": "send the documents of ocicrypt's key provider protocol",
    "decryption-key-invalid": (
        "use an RSA key (2048 to 8192 bits) or an EC key (P-256, P-384, P-521) in PEM, DER or JWK; without a"
        " password if the broker holds it"
    ),
    "diff-id-mismatch": (
        "build and push the image again: a layer's content is not what its configuration says"
    ),
    "cache-blob-refused": (
        "try again: the node's copy or a mirror's was wrong, and the next attempt asks elsewhere"
    ),
    "signature-missing": (
        "sign the image (enclave-cc image sign) and push the signature to the same repository"
    ),
    "signature-key-refused": (
        "sign the image with the key that the signature policy names, or correct the policy"
    ),
    "signature-key-invalid": (
        "store a PEM public key (P-256, P-384, Ed25519 or RSA) where the signature policy points"
    ),
    "signature-identity-refused": (
        "sign the image under the name it is pulled by, or set signedIdentity in the policy"
    ),
    "signature-digest-refused": "sign this very image: the signature found is one of another manifest",
    "signature-invalid": "sign the image again: the signature's payload does not parse",
    "signature-hash-refused": "sign the image again with SHA-256 or better (gpg --digest-algo SHA512)",
    "signature-key-expired": (
        "sign the image with a valid key, and update the keyring that the signature policy names"
    ),
    "signature-expired": "sign the image again: the signature carries a date after which it does not count",
    "signature-log-refused": (
        "sign the image again with a log that the signature policy pins, or correct the policy"
    ),
    "signature-certificate-refused": (
        "sign the image again with a certificate of the authority that the signature policy pins"
    ),
    "signature-signer-refused": (
        "have the image signed by whom the signature policy names, or correct the policy"
    ),
    "trust-root-invalid": (
        "store a trusted_root.json or PEM certificates where the policy points; the detail names the member"
    ),
    "password-missing": "name a file with --password-file, or set COSIGN_PASSWORD",
    "repository-missing": "name the repository or reference that people pull by (--repository, --as)",
    "verify-policy-missing": "pass either --policy FILE or --key FILE",
    "signature-policy-invalid": (
        "correct the signature policy; the detail names the member that is not understood"
    ),
    "signature-policy-rejects": (
        "pull an image that the signature policy does not reject, or change the policy"
    ),
    "signing-key-invalid": (
        "use a private key of P-256, P-384, Ed25519 or RSA from 2048 bits, in PEM or as cosign writes it, and"
        " its password; the detail says what is wrong with this one"
    ),
    "registry-unavailable": "check the image's name, the registry and the network, then try again",
    "registry-access-denied": "store credentials for the registry, or make the image public",
    "registry-response-invalid": "check that the address is a registry; the detail says what was odd",
    "registry-insecure": "serve the registry over TLS, or list its host in insecure_http_registries",
    "registry-tls-refused": (
        "give the registry TLS with a certificate for its name from a known CA; if it has no TLS, list its"
        " host as insecure (at the command line: --insecure-http HOST)"
    ),
    "registry-blocked": "use an image of another registry, or lift the block in the registry configuration",
    "registries-config-invalid": "correct the registry configuration; the detail names the member",
    "registry-proxy-failed": "check the proxy's address and credentials ([image.registries] in initdata)",
    "credential-helper-failed": "run `docker-credential-NAME get` by hand; the detail has the program's name",
    "registry-ca-invalid": "give the CA certificate in PEM",
    # --- sealed
    "tar-invalid": "rebuild the layer with a current tool; the owner's log says what is wrong with it",
    "tar-path-escapes": "do not run this image: a layer tries to write outside of the root file system",
    "tar-too-large": "make the image smaller: fewer files, shorter names or fewer layers",
    "sealed-store-unwritable": "check space and permissions of the node's state directory, then try again",
    "sealed-manifest-refused": (
        "start the pod anew; if that does not help, find out what changes files on the node"
    ),
    "sealed-format-unknown": "install the same version of the agent and the boot bundle",
    "sealed-blob-truncated": "start the pod anew; if that does not help, check the node's disk",
    "sealed-chunk-refused": "the host's copy was changed, or its disk fails: start the pod on another node",
    "erofs-unavailable": "load the fuse module and give the node /dev/fuse (EROFS is optional)",
    "scratch-unavailable": "give the node mke2fs, loop devices, ext4 and free disk, or choose memory",
    "rootfs-mount-failed": "check that FUSE, tmpfs and overlay are available, then try again",
    "rootfs-too-large-to-decrypt": (
        "raise decrypt_to_memory_bytes in [rootfs] of the owner's settings, or remove the pod's annotation"
    ),
    "rootfs-server-ended": "find out in the node's kernel log what killed it; the container starts anew",
    # --- sgx
    "quote-malformed": "the evidence is no SGX DCAP quote of version 3 with a PCK chain: check the attester",
    "quote-root-unknown": "the quote is from another root of trust: simulated ones need simulation mode",
    "quote-certificate-refused": "a certificate has not the role of its place: fetch fresh collateral",
    "quote-collateral-expired": "fetch fresh collateral from the PCS or PCCS and check the clock",
    "quote-crl-refused": "a revocation list is damaged or of another issuer: fetch fresh collateral",
    "quote-revoked": "the platform's certificate was revoked: do not trust this machine",
    "quote-collateral-refused": "TCB information or QE identity is damaged: fetch fresh collateral",
    "quote-collateral-mismatch": "the collateral belongs to another platform: fetch it for the quote's FMSPC",
    "quote-qe-refused": "the quoting enclave is not Intel's: reinstall the SGX platform software",
    "quote-signature-refused": "the quote was changed after it was signed: take a new one",
    "quote-tcb-unsupported": "the platform is older than every known TCB level: update its firmware",
    "quote-tcb-revoked": "the platform's TCB was revoked: update its firmware and software",
    "collateral-unavailable": "check that the PCS or PCCS address is right and reachable, then try again",
    "bundle-unmeasurable": "rebuild it with `enclave-cc bundle build`: the detail names the path",
    "launch-refused": "only the node's shim may launch an enclave, once per process, from a valid bundle",
    "no-enclave": "only a launched enclave may ask for reports, keys and quotes",
    "platform-request-refused": "the processor refused the request, as hardware would: see the detail",
    "platform-state-refused": "the platform's state directory must be owned by its user and closed to others",
    "local-attestation-refused": "start the container again: each handshake is good for one attempt",
    "app-identity-refused": "the app enclave is not the one the agent serves: reinstall matching bundles",
    "agent-identity-refused": "the agent enclave is not the one of this pod: reinstall matching bundles",
    "agent-token-refused": "the broker did not vouch for this agent: check its attestation policy",
    # --- broker
    "broker-unavailable": "check that the key broker runs and is reachable from the pod, then try again",
    "broker-answer-malformed": "check that the broker's address is a key broker of protocol 0.4.0",
    "broker-refused-attestation": "run `enclave-cc explain <request id>`: the broker's log names the rule",
    "broker-refused-resource": "run `enclave-cc explain <request id>`: the broker's log names the rule",
    "broker-refused-findings": "check that the broker is an enclave-cc broker; others do not take findings",
    "broker-refused-administration": "check the administrator's token; the detail has the broker's sentence",
    "broker-token-refused": "the broker that answered is not the one whose token key is in initdata",
    "broker-token-key-invalid": "put the broker's token.pub (PEM, P-256) into initdata as token_key",
    "broker-settings-invalid": "correct the broker's settings file; the detail names the member",
    "resource-uri-invalid": "write resources as kbs:///repository/type/tag",
    "url-not-https": "use an https address",
    "tls-ca-invalid": "give the CA certificate in PEM",
    "tls-peer-refused": "the peer's certificate is not from the CA that was given, or not for its name",
    "store-unusable": "check that the store's path is writable and not from a newer version",
    "store-unavailable": "check the space on the store's disk, then try again",
    "audit-chain-broken": "the log was altered after it was written: find out who can write the store's file",
    "reference-value-invalid": "send an RVPS message of type sample; the detail says what is wrong",
    "reference-value-unknown": "list the reference values to see which are registered",
    "policy-invalid": "correct the Rego policy; the detail has the compiler's words",
    "policy-unknown": "set `default_cpu` or `resource-policy`; policies of other names are never evaluated",
    "policy-evaluation-failed": "correct the policy: it did not come to an answer, and no answer means no",
    "collateral-invalid": "replace the collateral file named in the broker's settings",
    "evidence-malformed": "the attester sent something that is no evidence: check its version",
    "evidence-not-bound": "the evidence is of another handshake, or the initdata is not what was measured",
    "tee-not-accepted": "allow this kind of evidence in the broker's settings, or use supported hardware",
    "token-refused": "attest again: the token has expired or is not of this broker",
    "token-missing": "attest first",
    "tee-key-unusable": "use an EC P-256, P-384 or P-521 key, or RSA with RSA-OAEP-256",
    "session-unknown": "start a new handshake: this one has expired or was used",
    "protocol-version": "use a client of KBS protocol 0.4.0",
    "resource-denied": "the findings name what the resource policy held against the enclave",
    "resource-missing": "put the resource into the broker under the path that the finding names",
    "admin-denied": "use the administrator's token of this broker",
    "findings-malformed": "send at most 128 findings, each with a rule and an outcome",
    "policy-engine-unavailable": "install the engine's libraries: apt-get install libatomic1 libstdc++6",
    # --- node
    "node-config-invalid": "correct the node's configuration file; the detail names the member",
    "containerd-unavailable": "check containerd's service and the daemon's containerd_socket setting",
    "container-image-unknown": "create containers through the CRI; if the image was removed, pull it again",
    "blob-too-large": "split the layer; the agent still fetches it from the registry itself",
    "initdata-ambiguous": "keep one of the two annotations, enclave-cc.dev/initdata or the CoCo one",
    "pod-not-running": "use the CRI; if the sandbox died, let the kubelet recreate the pod",
    "node-daemon-unavailable": "check the enclave-cc node daemon's service and log on this node",
    "agent-unavailable": "see agent.log in the pod's run directory on this node, then recreate the pod",
    "agent-start-failed": "run `enclave-cc doctor` on this node; the shim's log names the cause",
    "agent-bundle-invalid": "install the agent bundle again",
    "platform-unavailable": "check the platform daemon's service and log on this node",
    "boot-failed": "see the shim's log on this node; a bug report needs it",
    "create-cancelled": "nothing to do if you removed it; otherwise let the kubelet create it again",
    "create-timed-out": "let the kubelet try again; for large images raise its runtimeRequestTimeout",
    "checkpoint-refused": "stop the container instead",
    # --- agent
    "initdata-invalid": "correct the initdata; the detail names the line or the member",
    "initdata-mismatch": "start the pod again: the node delivered another initdata than it measured",
    "runtime-spec-invalid": "the node wrote a specification that cannot be read: check its containerd",
    "launch-configuration-invalid": "install agent and boot bundles of one version",
    "launch-policy-refused": "run `enclave-cc explain`: allow the finding in [workload], or change the pod",
    "rootfs-annotation-invalid": (
        "write rootfs-writable as memory or scratch, rootfs-writable-size as 512Mi or 2Gi, and"
        " rootfs-decrypt-to-memory as true or false"
    ),
    "rootfs-policy-refused": (
        "run `enclave-cc explain`: raise the bound that the finding names in [rootfs], or change the pod's"
        " annotations"
    ),
    "exec-refused": "set exec = true in the initdata's [workload], if the owner agrees",
    "container-not-started": "wait until the container runs",
    "container-unknown": "the pod's agent has not prepared this container: start it first",
    "container-already-prepared": "start a new container instead of changing one that starts",
    "too-many-containers": "split the pod: an agent serves 64 containers",
    "too-many-handshakes": "try again; if it stays, something opens connections to the pod's agent",
    "key-release-refused": "start the container again: its key was handed out, or the start took too long",
    "broker-missing": "name a broker in the initdata: the image or its policy needs one",
    "registry-credentials-invalid": (
        "write an auth.json or a credential helper's answer, in the broker under the name that initdata gives"
    ),
    "pod-description-invalid": "the node started the agent without a valid pod.json: reinstall the shim",
    "boot-identity-invalid": "build the agent bundle again, with the boot bundle that is installed",
    "app-report-invalid": "install agent and boot bundles of one version",
    "boot-order-invalid": "install shim and boot bundle of one version",
    "image-user-unknown": "add the user to the image's etc/passwd, or name it by number",
    "container-create-failed": "run `enclave-cc explain`: the finding quotes runc's own words",
    "runc-timeout": "the node is overloaded, or runc hangs: check the node, then try again",
    "runc-missing": "install runc, and name its path in the node's settings",
    "bundle-kind-invalid": "build the boot bundle first, and name it when the agent bundle is built",
    "bundle-library-missing": "install the library that the detail names, then build again",
    "bundle-python-incomplete": "use a complete CPython installation; the detail names what is missing",
    "bundle-elf-invalid": "use a Python of this machine's architecture; the detail names the file",
    "bundle-too-large": "use a plain CPython installation",
    # --- demo
    "requirement-missing": "provide what the message names; each requirement says how",
    "daemon-not-ready": "read the named daemon's log, which the detail quotes",
    "program-failed": "run the command that the detail shows by hand and read what it says",
    "package-missing": "run `apt-get update` and check that the machine uses Debian's main archive",
    "cri-call-failed": "read the message in the detail, and containerd's log in the log directory",
    "demo-wait-expired": "read the scene's logs; `enclave-cc demo --keep` leaves everything running",
    "scene-path-too-long": "choose a directory with a shorter path",
    "demo-check-failed": "the detail says what was seen; `enclave-cc demo --keep` leaves everything running",
}


def remedy_for(code: str) -> str:
    """Return the remedy of a code; an unknown code asks for a bug report."""
    return REMEDIES.get(code, _UNKNOWN)
