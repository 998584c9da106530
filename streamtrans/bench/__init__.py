"""Law: a measurement is one file and one line of :data:`MEASUREMENTS`; what it measures is what is served.

The project measures itself and the papers here; what a user evaluates is in :mod:`streamtrans.evaluate`.
"""
