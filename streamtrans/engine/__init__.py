"""Equal jobs give equal answers, whatever their neighbours; one thread touches the device.

Jobs wait in one queue and are answered by futures. The device thread takes turns over all that is live:
detectors, then encoders, then one pass of the decoder, then one of the speculative network.
"""

from streamtrans.engine.config import EngineConfig
from streamtrans.engine.pricing import priced
from streamtrans.engine.scheduler import Ticket, admit, oldest
from streamtrans.engine.stages import check_stages
from streamtrans.engine.stats import EngineStats
from streamtrans.engine.worker import Engine

__all__ = ["Engine", "EngineConfig", "EngineStats", "Ticket", "admit", "check_stages", "oldest", "priced"]
