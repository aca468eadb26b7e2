"""The contract's assertions are to speak like those of any test."""

import pytest

pytest.register_assert_rewrite("tests.integrations.contract")
