"""JupyterLab's settings: which schemas are checked."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft7Validator, SchemaError, ValidationError

from taccuino.server.schemas import RememberingValidator

RIGHT = {"type": "object", "properties": {"size": {"type": "integer"}}}
WRONG = {"type": "object", "properties": {"size": {"type": "a number"}}}


class Counted:
    """jsonschema's validator, and how often it was asked for a check."""

    checks = 0

    def __call__(self, schema: Any) -> Any:
        return Draft7Validator(schema)

    def check_schema(self, schema: Any) -> None:
        self.checks += 1
        Draft7Validator.check_schema(schema)


def test_what_was_right_is_not_checked_again() -> None:
    counted = Counted()
    validator = RememberingValidator(counted)
    for _ in range(3):
        validator.check_schema({**RIGHT})
    assert counted.checks == 1
    validator.check_schema({**RIGHT, "title": "Another"})
    assert counted.checks == 2


def test_what_was_right_before_is_known() -> None:
    counted = Counted()
    first = RememberingValidator(counted)
    first.check_schema(RIGHT)
    RememberingValidator(counted, first.right).check_schema(RIGHT)
    assert counted.checks == 1


def test_what_was_wrong_stays_wrong() -> None:
    validator = RememberingValidator(Counted())
    for _ in range(2):
        with pytest.raises(SchemaError):
            validator.check_schema(WRONG)


def test_settings_are_held_against_their_schema() -> None:
    with pytest.raises(ValidationError):
        RememberingValidator(Draft7Validator)(RIGHT).validate({"size": "large"})
