"""Law: what somebody else wrote is looked at, never obeyed.

A recording, a model's folder and a caller's message are data. The names in them are keys of our tables
(:class:`Table`), their values have the types and the sizes that we expect (:func:`parse`, :func:`typed`,
:func:`inflate`), and whatever else they hold is an error that says where. Only who runs the program may name code
that isn't ours (:class:`Chosen`).
"""

from streamtrans.foreign.names import Chosen, Table
from streamtrans.foreign.values import BadValue, inflate, parse, typed

__all__ = ["BadValue", "Chosen", "Table", "inflate", "parse", "typed"]
