"""Generated protocol stubs (``make proto``); only :mod:`streamtrans.wire` imports them."""
