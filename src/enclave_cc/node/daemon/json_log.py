"""Logs as JSON lines on standard error: an event's name, and fields that say what it is about."""

from __future__ import annotations

import json
import logging
import time
from typing import Final

_MAX_VALUE_CHARS: Final = 2048


class JsonLines(logging.Formatter):
    """One object per record; fields come in ``extra={"fields": {…}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", {})
        if isinstance(fields, dict):
            line.update({name: str(value)[:_MAX_VALUE_CHARS] for name, value in fields.items()})
        if record.exc_info:
            line["cause"] = self.formatException(record.exc_info)[-_MAX_VALUE_CHARS:]
        return json.dumps(line)


def configure() -> None:
    """Send everything from information upwards to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
