"""A model, loaded here or elsewhere, as a server offers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamtrans.core import UnsupportedLanguage, milliseconds
from streamtrans.server.config import Served
from streamtrans.vad import VADS

if TYPE_CHECKING:
    from streamtrans.cluster import Offer, RayEngine
    from streamtrans.runtime import Loaded
    from streamtrans.stream import Origin


def what_is_served(loaded: Loaded, vad: str, origin: Origin | None = None) -> Served:
    """Describe what is served; the detector that was asked for is the default, the others stay available."""
    return Served(
        engine=loaded.engine,
        tokenizer=loaded.spellers,
        word=loaded.word,
        languages=loaded.languages,
        model_name=loaded.name,
        vads=_detectors(vad),
        max_segment_ms=min(30_000, milliseconds(loaded.model.max_samples)),
        ask=loaded.ask,
        translations=loaded.translations,
        settings=loaded.settings,
        origin=origin,
        stats=lambda: loaded.engine.stats,
    )


def what_is_offered(engine: RayEngine, vad: str) -> Served:
    """Describe what is served by workers elsewhere, as :func:`what_is_served` does."""
    offer = engine.offer
    return Served(
        engine=engine,
        tokenizer=offer.tokenizer,
        word=offer.word,
        languages=offer.languages,
        model_name=offer.model_name,
        vads=_detectors(vad),
        max_segment_ms=offer.max_segment_ms,
        ask=lambda target, source: _refuse_unknown_pair(offer, target, source),
        translations=offer.translations,
        settings=offer.settings,
        stats=lambda: engine.stats,
    )


def _detectors(vad: str) -> tuple[str, ...]:
    return (vad, *(name for name in VADS if name != vad))


def _refuse_unknown_pair(offer: Offer, target: str, source: str | None) -> None:
    known = dict(offer.translations)
    if source in known and target not in known[source]:
        some = ", ".join(known[source])
        raise UnsupportedLanguage(f"{offer.model_name} doesn't make {target} of {source}; it makes {some}")
