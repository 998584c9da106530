"""Law: any chunking of the same audio gives the same segments.

A segmenter sees one window at a time and nothing else, so how the audio arrived cannot matter.
"""

from streamtrans.segment.rules import EndpointRules
from streamtrans.segment.segmenter import Before, Boundary, Closed, Opened, Reason, Segmenter

__all__ = ["Before", "Boundary", "Closed", "EndpointRules", "Opened", "Reason", "Segmenter"]
