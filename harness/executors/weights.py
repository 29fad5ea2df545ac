"""The backbone of one request after another, loaded once where they name the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.session import Request


class Weights:
    """Holds the backbone that was last asked for: one, since two might not fit the device."""

    def __init__(self) -> None:
        self._key: tuple[str, str, str] | None = None
        self._backbone: Backbone | None = None

    def load(self, request: Request, device: str | None = None) -> Backbone:
        """A request's backbone, as if just loaded. device: in place of the request's.

        Raises UserError, before anything is loaded, for an adapter that cannot be had.
        """
        from deltamem_eval.backbone import load_backbone
        from deltamem_eval.hub import adapter_folder

        if request.adapter is not None:
            adapter_folder(request.adapter)
        key = (request.model, device or request.device, request.dtype)
        if self._backbone is None or self._key != key:
            self._backbone = None  # the old weights go before the new ones come
            self._backbone, self._key = load_backbone(*key, request.batch_size), key
        backbone = self._backbone
        backbone.batch_size, backbone.system = request.batch_size, ""
        backbone.notices.clear()
        return backbone
