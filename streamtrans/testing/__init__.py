"""Fakes that keep the real rooms' laws; imported by tests only.

Import them from their own modules, e.g. ``from streamtrans.testing.toy import ToyModel``.
"""
