from tests.functions.conftest import examples

__all__ = ["examples"]
