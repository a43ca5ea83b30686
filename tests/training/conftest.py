from tests.support.compiled import compiled_programs_are_shared  # noqa: F401, a fixture
