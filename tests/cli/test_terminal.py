"""What commands share at the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.terminal import put_to_use
from protocol.errors import ConfigurationRefused


@pytest.mark.parametrize(
    ("path", "known", "named"),
    [(Path("g.toml"), "", "g.toml"), (Path("g.toml"), "tokens.json", "tokens.json"), (None, "", "")],
    ids=["the file that was given", "a file that is known already", "options alone"],
)
def test_what_turns_out_to_be_of_no_use_is_told_with_its_file(path: Path | None, known: str, named: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused, put_to_use(path):
        raise ConfigurationRefused("http.listen", "127.0.0.1:80", "a free address", file=known)
    assert refused.value.file == named
