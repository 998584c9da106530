"""A loaded model, as a server offers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamtrans.core import milliseconds
from streamtrans.server.config import Served
from streamtrans.vad import VADS

if TYPE_CHECKING:
    from streamtrans.runtime import Loaded
    from streamtrans.stream import Origin


def what_is_served(loaded: Loaded, vad: str, origin: Origin | None = None) -> Served:
    """Describe what is served; the detector that was asked for is the default, the others stay available."""
    return Served(
        engine=loaded.engine,
        tokenizer=loaded.model.tokenizer,
        languages=loaded.model.languages,
        model_name=loaded.model.name,
        vads=(vad, *(name for name in VADS if name != vad)),
        max_segment_ms=min(30_000, milliseconds(loaded.model.max_samples)),
        ask=loaded.model.prompt,
        translations=loaded.model.translations,
        settings=loaded.settings,
        origin=origin,
        stats=lambda: loaded.engine.stats,
    )
