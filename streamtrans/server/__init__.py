"""Law: admits, pumps, refuses; no translation logic.

A live session has its own pump; a call attaches a link to it, with a task that feeds and one that tells. Every call
ends with an explicit status, and whatever ends it, its slot is free at once.
"""

from streamtrans.server.app import EngineFactory, TranslationServer, serve
from streamtrans.server.config import Limits, Load, Served, ServerConfig, Tls
from streamtrans.server.listening import address

__all__ = [
    "EngineFactory",
    "Limits",
    "Load",
    "Served",
    "ServerConfig",
    "Tls",
    "TranslationServer",
    "address",
    "serve",
]
