"""The end of every program: one line and its exit status."""

from __future__ import annotations

import pytest

from midms.checkpoints.errors import CheckpointError
from midms.config import ConfigError
from midms.programs import handle_user_errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("size:\n  got 3"), "p: size: got 3\n"),
        (CheckpointError("a.ckpt", "no weights"), "p: a.ckpt: no weights\n"),
        (FileNotFoundError("a.png"), "p: a.png\n"),
    ],
)
def test_a_mistake_is_one_line_and_two(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    @handle_user_errors("p")
    def main() -> int:
        raise error

    assert main() == 2 and capsys.readouterr() == ("", line)


def test_an_error_of_the_program_itself_is_not_hidden() -> None:
    @handle_user_errors("p")
    def main() -> int:
        raise RuntimeError("no mistake of the user")

    with pytest.raises(RuntimeError):
        main()


def test_stopping_and_success(capsys: pytest.CaptureFixture[str]) -> None:
    @handle_user_errors("p", stopped="stopped; go on")
    def main(status: int | None) -> int:
        if status is None:
            raise KeyboardInterrupt
        return status

    assert main(0) == 0 and main(1) == 1
    assert main(None) == 130 and capsys.readouterr().err == "p: stopped; go on\n"
