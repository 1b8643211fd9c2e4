"""How often each class is the label and what is predicted instead: what a classifier's loss module is called with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from tensometer.capture.batches import on_device

# Which class is taken for which is told up to so many classes; beyond, only how often each is the label; and beyond
# the second, as of the tokens of a language, nothing.
MOST_CONFUSED = 256
MOST_CLASSES = 4096
# Of a larger batch the first samples are looked at, so that finding the largest prediction stays below a millisecond.
_MOST_ELEMENTS = 1 << 18


class Seen(NamedTuple):
    """The first samples of a batch. labels and predicted: whole numbers of one dimension, where the batch lies."""

    loss: nn.Module
    classes: int
    labels: torch.Tensor
    predicted: torch.Tensor | None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What class_counts wants to have in the host's memory."""
        return [self.labels] if self.predicted is None else [self.labels, self.predicted]


def classes_seen(loss: nn.Module, predictions: object, labels: object) -> Seen | None:
    """What there is to count. None where these are no predictions and labels of classes. Waits for no device.

    Predictions are one number for each class, in dimension 1, and labels are whole numbers; or the loss is a binary
    cross entropy of one output.
    """
    if not isinstance(predictions, torch.Tensor) or not isinstance(labels, torch.Tensor):
        return None
    if not predictions.is_floating_point() or not labels.numel():
        return None
    with torch.no_grad():
        if isinstance(loss, _BINARY):
            seen = _binary(loss, predictions, labels)
        else:
            seen = _of_several(loss, predictions, labels)
        if seen is None or not on_device(labels):
            return seen
        # Less to copy. What is no class stays none, and what the loss ignores is one of them or none.
        kept = seen.labels.clamp(-1, seen.classes).to(torch.int16)
        return seen._replace(labels=kept, predicted=None if seen.predicted is None else seen.predicted.to(torch.int16))


_BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)


def _binary(loss: nn.Module, predictions: torch.Tensor, labels: torch.Tensor) -> Seen | None:
    if predictions.shape != labels.shape or predictions.numel() != len(predictions):
        return None
    border = 0.0 if isinstance(loss, nn.BCEWithLogitsLoss) else 0.5
    hard = torch.where((labels == 0) | (labels == 1), labels, -1)
    return Seen(loss, 2, hard.flatten().long(), (predictions > border).flatten().long())


def _of_several(loss: nn.Module, predictions: torch.Tensor, labels: torch.Tensor) -> Seen | None:
    if labels.is_floating_point() or labels.dtype == torch.bool or predictions.dim() < 2:
        return None
    samples, classes = predictions.shape[:2]
    if labels.numel() * classes != predictions.numel() or labels.shape[0] != samples:
        return None
    if labels.dim() == predictions.dim() and labels.shape[1] != 1:
        return None
    if not 2 <= classes <= MOST_CLASSES:
        return None
    most = _MOST_ELEMENTS // (predictions.numel() // samples)
    if not most:
        return None
    labels = labels[:most].flatten().long()
    predicted = predictions[:most].argmax(1).flatten() if classes <= MOST_CONFUSED else None
    return Seen(loss, classes, labels, predicted)


def class_counts(seen: Seen, tensors: Sequence[torch.Tensor]) -> dict[str, Any] | None:
    """The data of an event `classes`; see docs/capture.md. None of soft labels, which are no classes.

    tensors: those of `seen`, in the host's memory. Negative labels, and the loss's `ignore_index`, are left out.
    """
    loss, classes = seen.loss, seen.classes
    labels, *predicted = (one.long() for one in tensors)
    if isinstance(loss, _BINARY) and bool((labels < 0).any()):
        return None
    ignored = getattr(loss, "ignore_index", -1)
    meant = (labels >= 0) & (labels < classes) & (labels != ignored)
    labels = labels[meant]
    data: dict[str, Any] = {
        "classes": classes,
        "labels": _counted(labels),
        # Somebody knows that classes differ in size, and makes up for it.
        "weighted": any(getattr(loss, name, None) is not None for name in ("weight", "pos_weight")),
    }
    for one in predicted:
        found = one[meant]
        wrong = found != labels
        pairs = _counted(labels[wrong] * classes + found[wrong])
        data["errors"] = [[*divmod(pair, classes), n] for pair, n in pairs]
    return data


def _counted(values: torch.Tensor) -> list[list[int]]:
    """Each value that is there, and how often."""
    found, counts = torch.unique(values, return_counts=True)
    return [list(pair) for pair in zip(found.tolist(), counts.tolist(), strict=True)]
