"""What notebooks and scripts call: imported when it is used, by ``__init__.py``."""

from streamtrans.core import Caption as Caption
from streamtrans.scripting import Serving as Serving
from streamtrans.scripting import Translation as Translation
from streamtrans.scripting import captions as captions
from streamtrans.scripting import serving as serving
from streamtrans.scripting import translate as translate

__version__: str
