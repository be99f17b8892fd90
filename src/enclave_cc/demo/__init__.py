"""All actors of the story on one machine: registry, broker, platform, containerd, tenant and kubelet.

This room starts real programs and watches them; it holds no secret of its own beyond the tenant's throw-away
keys, and nothing in the other rooms may import it.
"""

from __future__ import annotations
