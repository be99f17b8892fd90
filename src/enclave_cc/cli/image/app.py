"""The group `image`: which commands there are; each lives in a module of its own."""

from __future__ import annotations

from cyclopts import App

from enclave_cc.cli.image.encrypt import encrypt
from enclave_cc.cli.image.inspect import inspect
from enclave_cc.cli.image.keygen import keygen
from enclave_cc.cli.image.push import push
from enclave_cc.cli.image.sign import sign
from enclave_cc.cli.image.verify import verify

app = App(name="image", help="Encrypt, sign, verify, push and inspect images.")
for _command in (keygen, encrypt, sign, verify, push, inspect):
    app.command(_command)
