from __future__ import annotations

import pytest

from servertest.tls import Authority, shared_authority


@pytest.fixture(scope="session")
def ca() -> Authority:
    return shared_authority()
