"""Law: a model remembers nothing between calls; a batch of one equals a row of many.

``model.api`` (values and protocols) imports without torch; ``model.loading`` reads checkpoint folders.
"""
