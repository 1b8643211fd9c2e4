"""How often each class is the label and what is predicted instead: what a classifier's loss module is called with."""

from typing import Any

import torch
from torch import nn

# Which class is taken for which is told up to so many classes; beyond, only how often each is the label; and beyond
# the second, as of the tokens of a language, nothing.
MOST_CONFUSED = 256
MOST_CLASSES = 4096
# Of a larger batch the first samples are looked at, so that finding the largest prediction stays below a millisecond.
_MOST_ELEMENTS = 1 << 18


def class_counts(loss: nn.Module, predictions: object, labels: object) -> dict[str, Any] | None:
    """The data of an event `classes`; see docs/capture.md. None where these are no predictions and labels of classes.

    Predictions are one number for each class, in dimension 1, and labels are whole numbers; or the loss is a binary
    cross entropy of one output. Labels that are negative, or the loss's `ignore_index`, are left out.
    """
    if not isinstance(predictions, torch.Tensor) or not isinstance(labels, torch.Tensor):
        return None
    if not predictions.is_floating_point() or not labels.numel():
        return None
    with torch.no_grad():
        if isinstance(loss, nn.BCELoss | nn.BCEWithLogitsLoss):
            found = _binary(loss, predictions, labels)
        else:
            found = _of_several(predictions, labels)
        return None if found is None else _counts(*found, loss)


_Found = tuple[int, torch.Tensor | None, torch.Tensor]


def _binary(loss: nn.Module, predictions: torch.Tensor, labels: torch.Tensor) -> _Found | None:
    if predictions.shape != labels.shape or predictions.numel() != len(predictions):
        return None
    # Soft labels are no classes.
    if not bool(((labels == 0) | (labels == 1)).all()):
        return None
    border = 0.0 if isinstance(loss, nn.BCEWithLogitsLoss) else 0.5
    return 2, (predictions > border).flatten().long(), labels.flatten().long()


def _of_several(predictions: torch.Tensor, labels: torch.Tensor) -> _Found | None:
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
    if classes > MOST_CONFUSED:
        return classes, None, labels
    return classes, predictions[:most].argmax(1).flatten(), labels


def _counts(classes: int, predicted: torch.Tensor | None, labels: torch.Tensor, loss: nn.Module) -> dict[str, Any]:
    ignored = getattr(loss, "ignore_index", -1)
    meant = (labels >= 0) & (labels < classes) & (labels != ignored)
    labels = labels[meant]
    data: dict[str, Any] = {
        "classes": classes,
        "labels": _counted(labels),
        # Somebody knows that classes differ in size, and makes up for it.
        "weighted": any(getattr(loss, name, None) is not None for name in ("weight", "pos_weight")),
    }
    if predicted is not None:
        predicted = predicted[meant]
        wrong = predicted != labels
        pairs = _counted(labels[wrong] * classes + predicted[wrong])
        data["errors"] = [[*divmod(pair, classes), n] for pair, n in pairs]
    return data


def _counted(values: torch.Tensor) -> list[list[int]]:
    """Each value that is there, and how often."""
    found, counts = torch.unique(values, return_counts=True)
    return [list(pair) for pair in zip(found.tolist(), counts.tolist(), strict=True)]
