"""Law: a stream is where its state is, and anywhere once that is lost; what is committed is with its session.

An engine whose workers are actors of a Ray cluster, one per device, shared by any number of front ends. Speech goes
there once, as far as it is new; detectors run at the front end, so silence never travels.
"""

from streamtrans.cluster.actors import Actor, dismiss, hire
from streamtrans.cluster.engine import RayEngine
from streamtrans.cluster.seat import Gone, Remote
from streamtrans.cluster.worker import Offer

__all__ = ["Actor", "Gone", "Offer", "RayEngine", "Remote", "dismiss", "hire"]
