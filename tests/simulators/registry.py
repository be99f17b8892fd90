"""A registry on loopback that stores what is pushed and misbehaves on request."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, urlsplit

TOKEN = "token-of-the-simulator"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


class RegistrySimulator:
    """State, and the switches that tests turn."""

    def __init__(self):
        self.blobs = {}
        self.manifests = {}
        self.requests = []
        # uploads that no digest has closed yet
        self.uploads = {}
        self.upload_numbers = itertools.count(1)
        self.can_mount = True
        # by method, once per entry: the connection breaks "before" a request counts, "after" it, or at "half"
        self.faults = {}
        # how many bytes a piece of an upload has to have, if the registry says
        self.least_piece_bytes = 0
        # pause after each kilobyte of a blob
        self.trickle_s = 0.0
        # whether a repository denies having blobs that were not pushed to it, as real ones do
        self.hides_blobs = False
        # "" = open, "bearer" or "basic" = asks for the credentials below
        self.auth = ""
        self.user, self.password = "alice", "secret"
        self.realm = ""
        self.token_answer = json.dumps({"token": TOKEN}).encode()
        # how many requests a token is good for, None for any number
        self.token_uses = None
        self.uses_left = 0
        # an identity token instead of name and password
        self.identity_token = ""
        self.forms = []
        # WWW-Authenticate headers instead of the usual one
        self.challenges = []
        # statuses that the next requests get instead of an answer, alone or with headers
        self.statuses = []
        # digest -> bytes served instead
        self.lies = {}
        # how many bytes of a blob are sent before the connection breaks, once per entry
        self.breaks = []
        # after how many bytes of every blob the registry falls silent, None for never
        self.stalls_after = None
        # digests of blobs that come through all the same
        self.never_stall = set()
        self.stalled = threading.Event()
        self.ignore_range = False
        # Content-Range instead of the right one
        self.content_range = None
        # whether the registry has the referrers API of the distribution specification 1.1
        self.has_referrers = True
        self.lists_as = OCI_INDEX
        self.redirect_to = ""
        self.redirect_once = ""
        # whether the token service gives tokens to nobody in particular as well
        self.accepts_anonymous = False
        self.silence_s = 0.0
        self.finished = threading.Event()
        self.server = None

    @property
    def host(self):
        return f"127.0.0.1:{self.server.server_address[1]}"

    def add_blob(self, data):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def add_manifest(self, repository, name, body, media_type="application/vnd.oci.image.manifest.v1+json"):
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.manifests[repository, name] = (body, media_type)
        self.manifests[repository, digest] = (body, media_type)
        return digest

    def referrers(self, repository, digest):
        """List the manifests of a repository whose subject is a digest, as an index."""
        entries = {}
        for (held_in, _), (body, media_type) in self.manifests.items():
            document = _json_object(body)
            subject = document.get("subject", {})
            if held_in == repository and subject.get("digest") == digest:
                own = f"sha256:{hashlib.sha256(body).hexdigest()}"
                entries[own] = {"mediaType": media_type, "digest": own, "size": len(body)}
                config = document.get("config", {}).get("mediaType", "")
                entries[own]["artifactType"] = document.get("artifactType", config)
                entries[own]["annotations"] = document.get("annotations", {})
        return json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries.values())}
        ).encode()

    def paths(self, method):
        return [path for seen, path, _ in self.requests if seen == method]


@contextmanager
def running_registry(tls=None):
    """Serve until the block ends; ``tls`` is an SSL context for a registry that has a certificate."""
    simulator = RegistrySimulator()
    handler = type("Handler", (_Handler,), {"simulator": simulator})
    simulator.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    simulator.server.daemon_threads = True
    if tls is not None:
        simulator.server.socket = tls.wrap_socket(
            simulator.server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=simulator.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield simulator
    finally:
        simulator.finished.set()
        simulator.server.shutdown()
        simulator.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulator = None
    timeout = 5

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def do_GET(self):
        self._serve()

    def do_HEAD(self):
        self._serve()

    def do_POST(self):
        self._serve()

    def do_PUT(self):
        self._serve()

    def do_PATCH(self):
        self._serve()

    def _serve(self):
        simulator = self.simulator
        simulator.requests.append((self.command, self.path, dict(self.headers)))
        if simulator.silence_s:
            simulator.finished.wait(simulator.silence_s)
        body = self._body()
        parts = urlsplit(self.path)
        if parts.path == "/token":
            return self._token(body)
        if simulator.statuses:
            status = simulator.statuses.pop(0)
            status, headers = status if isinstance(status, tuple) else (status, {})
            return self._answer(status, b"", headers)
        if simulator.auth and not self._authorized():
            return self._challenge()
        return self._faulty(parts, body)

    def _faulty(self, parts, body):
        faults = self.simulator.faults.get(self.command)
        fault = faults.pop(0) if faults else ""
        if not fault:
            return self._route(parts, body)
        self.close_connection = True
        if fault != "before":
            answer, self.wfile = self.wfile, io.BytesIO()
            # Half of a closing request is no closing one.
            if fault == "after" or self.command != "PUT":
                self._route(parts, body if fault == "after" else body[: len(body) // 2])
            self.wfile = answer
        return None

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _route(self, parts, body):
        repository, kind, name = _split(parts.path)
        match self.command, kind:
            case (("GET" | "HEAD"), "manifests"):
                self._manifest(repository, name)
            case "PUT", "manifests":
                self._store_manifest(repository, name, body)
            case "GET", "referrers" if self.simulator.has_referrers:
                listed = self.simulator.referrers(repository, name)
                self._answer(200, listed, {"Content-Type": self.simulator.lists_as})
            case "POST", "blobs":
                self._open_upload(repository, parse_qs(parts.query).get("mount", [""])[0])
            case "PATCH", "blobs":
                self._append(parts, name, body)
            case "PUT", "blobs":
                digest = parse_qs(parts.query)["digest"][0]
                stored = self.simulator.add_blob(self.simulator.uploads.pop(name, b"") + body)
                self._answer(201 if stored == digest else 400, b"")
            case "GET", "blobs" if name.startswith("uploads/"):
                end = max(0, len(self.simulator.uploads.get(name, b"")) - 1)
                self._answer(204, b"", {"Range": f"0-{end}", "Location": f"{parts.path}?state=z"})
            case (("GET" | "HEAD"), "blobs"):
                self._blob(name)
            case _:
                self._answer(404, b"")

    def _open_upload(self, repository, mount):
        simulator = self.simulator
        if simulator.can_mount and mount in simulator.blobs:
            return self._answer(201, b"")
        number = next(simulator.upload_numbers)
        headers = {"Location": f"/v2/{repository}/blobs/uploads/{number}?state=x"}
        if simulator.least_piece_bytes:
            headers["OCI-Chunk-Min-Length"] = str(simulator.least_piece_bytes)
        return self._answer(202, b"", headers)

    def _append(self, parts, name, body):
        begin = len(self.simulator.uploads.get(name, b""))
        told = self.headers.get("Content-Range", f"{begin}-")
        if int(told.partition("-")[0]) != begin:
            return self._answer(416, b"", {"Range": f"0-{max(0, begin - 1)}"})
        self.simulator.uploads[name] = self.simulator.uploads.get(name, b"") + body
        return self._answer(202, b"", {"Location": f"{parts.path}?state=y"})

    def _store_manifest(self, repository, name, body):
        self.simulator.add_manifest(repository, name, body, self.headers["Content-Type"])
        subject = _json_object(body).get("subject", {}).get("digest")
        kept = subject and self.simulator.has_referrers
        self._answer(201, b"", {"OCI-Subject": subject} if kept else {})

    def _manifest(self, repository, name):
        body, media_type = self.simulator.manifests.get((repository, name), (None, ""))
        if body is None:
            return self._answer(404, b"")
        return self._answer(200, body, {"Content-Type": media_type})

    def _blob(self, digest):  # noqa: PLR0911  # one return per way to misbehave
        simulator = self.simulator
        data = simulator.lies.get(digest, simulator.blobs.get(digest))
        if data is None or (simulator.hides_blobs and self.command == "HEAD"):
            return self._answer(404, b"")
        target, simulator.redirect_once = simulator.redirect_once or simulator.redirect_to, ""
        if target:
            return self._answer(307, b"", {"Location": f"{target}{self.path}"})
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if begin and not simulator.ignore_range:
            return self._part(data, begin)
        if simulator.trickle_s and self.command == "GET":
            return self._trickled(data)
        stalls = simulator.stalls_after is not None and digest not in simulator.never_stall
        if stalls and self.command == "GET":
            return self._stall(data, simulator.stalls_after)
        if simulator.breaks and self.command == "GET":
            return self._broken(data, simulator.breaks.pop(0))
        return self._answer(200, data)

    def _part(self, data, begin):
        if begin >= len(data):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        told = self.simulator.content_range
        if told is None:
            told = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if self.simulator.breaks:
            return self._broken(data[begin:], self.simulator.breaks.pop(0), 206, {"Content-Range": told})
        return self._answer(206, data[begin:], {"Content-Range": told})

    def _trickled(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for start in range(0, len(data), 1024):
            self.wfile.write(data[start : start + 1024])
            if self.simulator.finished.wait(self.simulator.trickle_s):
                return
        return

    def _stall(self, data, size):
        self._broken(data, size)
        self.simulator.stalled.set()
        self.simulator.finished.wait(60)

    def _broken(self, data, size, status=200, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:size])
        self.close_connection = True

    def _token(self, body):
        simulator = self.simulator
        simulator.uses_left = simulator.token_uses
        if simulator.identity_token:
            form = dict(parse_qsl(body.decode()))
            simulator.forms.append(form)
            good = form.get("refresh_token") == simulator.identity_token
            return self._answer(200 if good else 400, simulator.token_answer if good else b"")
        known = self._basic() == (simulator.user, simulator.password)
        if simulator.auth == "bearer" and not known and (self._basic() or not simulator.accepts_anonymous):
            return self._answer(401, b"")
        return self._answer(200, simulator.token_answer)

    def _authorized(self):
        if self.simulator.auth == "basic":
            return self._basic() == (self.simulator.user, self.simulator.password)
        if self.simulator.token_uses is not None:
            self.simulator.uses_left -= 1
            if self.simulator.uses_left < 0:
                return False
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _basic(self):
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return tuple(base64.b64decode(value).decode().split(":", 1)) if scheme == "Basic" else None

    def _challenge(self):
        if self.simulator.challenges:
            return self._answer(401, b"", [("WWW-Authenticate", text) for text in self.simulator.challenges])
        if self.simulator.auth == "basic":
            return self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
        realm = self.simulator.realm or f"http://{self.simulator.host}/token"
        return self._answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})

    def _answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in headers.items() if isinstance(headers, dict) else headers or ():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _split(path):
    """Cut /v2/<repository>/<kind>/<name>."""
    pieces = path.removeprefix("/v2/").split("/")
    known = {"manifests", "blobs", "referrers"}
    kinds = [number for number, piece in enumerate(pieces) if piece in known]
    if not kinds:
        return "", "", ""
    at = kinds[-1]
    return "/".join(pieces[:at]), pieces[at], "/".join(pieces[at + 1 :])


def _json_object(body):
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
