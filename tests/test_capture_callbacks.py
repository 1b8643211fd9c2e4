"""What the callbacks for other frameworks have in common."""

from typing import Any

import pytest
from tensometer.capture import lightning, transformers, xgboost


@pytest.mark.parametrize("framework", [lightning, transformers, xgboost])
@pytest.mark.parametrize(
    ("monitor", "settings", "message"),
    [(None, {}, "None is neither a Monitor nor the path"), ("run", {"evry": 1}, "did you mean 'every'?")],
)
def test_wrong_arguments(framework: Any, monitor: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        framework.MonitorCallback(monitor, **settings)
    assert message in str(caught.value)
