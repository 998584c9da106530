"""A draft can change the speed of an answer, never the answer (k = 1).

Decoding is a conversation: a generator yields the pass it wants and is sent the answer. One loop does it all;
greedy, speculative and re-reading differ only in who drafts.
"""

from streamtrans.decode.drafters import (
    COSTS,
    DRAFTERS,
    Chain,
    Draft,
    DraftContext,
    DraftCosts,
    Drafter,
    DrafterFactory,
    Echo,
    Kvspn,
    Ngram,
    NoDraft,
    parse_drafters,
    parse_top_k,
)
from streamtrans.decode.guarded import Judge, Sound, guarded, judged
from streamtrans.decode.loop import Conversation, converse, decode, greedy

__all__ = [
    "COSTS",
    "DRAFTERS",
    "Chain",
    "Conversation",
    "Draft",
    "DraftContext",
    "DraftCosts",
    "Drafter",
    "DrafterFactory",
    "Echo",
    "Judge",
    "Kvspn",
    "Ngram",
    "NoDraft",
    "Sound",
    "converse",
    "decode",
    "greedy",
    "guarded",
    "judged",
    "parse_drafters",
    "parse_top_k",
]
