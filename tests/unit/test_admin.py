"""Who may POST to the admin port."""

import pytest

from edge.admin import may_post


@pytest.mark.parametrize(
    "remote, authorization, token, may",
    [
        ("127.0.0.1", "", None, True),
        ("::1", "", "secret\n", True),
        ("10.0.0.9", "", None, False),
        ("10.0.0.9", "Bearer secret", None, False),
        ("10.0.0.9", "Bearer secret", "secret\n", True),
        ("10.0.0.9", "Bearer guess", "secret\n", False),
        ("10.0.0.9", "Bearer ", "", False),
        (None, "Bearer secret", "secret", True),
    ],
)
def test_loopback_may_post_and_others_with_the_token(tmp_path, remote, authorization, token, may):
    file = tmp_path / "token"
    if token is not None:
        file.write_text(token)
    assert may_post(remote, authorization, None if token is None else file) is may


def test_a_token_file_that_is_gone_admits_nobody(tmp_path):
    assert not may_post("10.0.0.9", "Bearer secret", tmp_path / "gone")
