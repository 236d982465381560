"""The two stages of a study."""

from typing import Literal, get_args

Stage = Literal["search", "full"]
"""`search` trains candidates on the mini split, `full` trains promoted trials on the whole training part."""

STAGES: tuple[Stage, ...] = get_args(Stage)
