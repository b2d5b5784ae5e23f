"""One kernel for all pages of `scripts/app`: a page that is reloaded, or a second one, shows the same lab and panel.

Voilà starts a kernel for each page and ends it when the page is left. That would close the lab and stop its guests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

__all__ = ["OneKernel"]


class OneKernel(AsyncMappingKernelManager):
    """Gives every page the kernel of the first one, and ends it only with the server."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._first = asyncio.Lock()
        self._closing = False

    async def start_kernel(self, **options: Any) -> str:  # type: ignore[override]
        """Return the kernel that is there, or start it."""
        async with self._first:
            for kernel_id in self.list_kernel_ids():
                if await self.get_kernel(kernel_id).is_alive():
                    return str(kernel_id)
            return str(await super().start_kernel(**options))

    async def shutdown_kernel(self, kernel_id: str, now: bool = False, restart: bool = False) -> None:  # type: ignore[override]
        """Leave the kernel alone when a page is left."""
        if self._closing:
            await super().shutdown_kernel(kernel_id, now=now, restart=restart)

    async def shutdown_all(self, now: bool = False) -> None:  # type: ignore[override]
        """End it with the server."""
        self._closing = True
        await super().shutdown_all(now=now)
