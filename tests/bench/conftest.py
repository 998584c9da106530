from tests.tiny_model import model, rows, speak, tiny  # noqa: F401 (fixtures)
