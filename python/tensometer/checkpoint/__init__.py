"""Files of tensors: names, types, shapes, and elements read in bounded memory. No file here is trusted."""

from tensometer.checkpoint.entry import CheckpointError, Entry, RowsNotReadableError, as_tensor, counted, printable
from tensometer.checkpoint.mapped import reason
from tensometer.checkpoint.sharded import read_checkpoint

__all__ = [
    "CheckpointError",
    "Entry",
    "RowsNotReadableError",
    "as_tensor",
    "counted",
    "printable",
    "read_checkpoint",
    "reason",
]
