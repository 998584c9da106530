"""Per-language models of one ancestor become one model, and a language is added to it without the others' data.

Every method keeps some of what each model learnt (its difference from the ancestor, tensor by tensor), and joins what
is kept. A merged model is as large and as fast as its ancestor. Law: equal models merge equally, bit for bit.
"""

from streamtrans.compress.merging.merge import METHODS, Merged, Method, add_to_merged, load_method, merge

__all__ = ["METHODS", "Merged", "Method", "add_to_merged", "load_method", "merge"]
