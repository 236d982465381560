"""The two stages of a study."""

from typing import Literal, get_args

Stage = Literal["search", "full"]
"""`search` trains candidates on the mini split, `full` trains promoted trials on the whole training part."""

Part = Stage | Literal["refit"]
"""What trials train for, which decides their images. A refit is a trial of the stage `full`, and repeats a
full training on all training images."""

STAGES: tuple[Stage, ...] = get_args(Stage)
