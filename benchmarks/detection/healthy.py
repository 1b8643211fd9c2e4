"""Healthy runs of many kinds: networks, optimizers, losses. Nothing is to be found in them."""

import torch
from torch import Tensor, nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, PLAIN, Cases, Trial
from benchmarks.detection.faults_structure import boost, cancer, replicas
from benchmarks.detection.loop import Fit, backward, cosine, warm_up
from benchmarks.detection.models import Experts, Language, Recurrent, Residual, Vision, cnn, mlp

CASES = Cases()


@CASES.healthy
def mlp_with_validation(trial: Trial) -> None:
    """Digits, validated at every tenth step."""
    digits = data.digits()
    model = mlp(64, trial.width(128), trial.width(64), 10)
    Fit(steps=100, held=digits.held)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.healthy
def mlp_from_zero_to_one(trial: Trial) -> None:
    """Pixels from 0 to 1, as most people have them: not centred."""
    x, y = data.raw("digits")
    digits = data.split(x / 16, y)
    model = mlp(64, trial.width(128), trial.width(64), 10)
    Fit(steps=100, held=digits.held)(trial, model, trial.optimizer(model.parameters(), "adamw"), digits.batches())


@CASES.healthy
def plain_descent(trial: Trial) -> None:
    """SGD without momentum, PyTorch's own initialisation."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10)
    Fit(steps=120)(trial, model, trial.optimizer(model.parameters(), "sgd", among=PLAIN), digits.batches())


@CASES.healthy
def convolutions_with_momentum(trial: Trial) -> None:
    """Batch normalisation; the bias before it has no gradient but rounding."""
    digits = data.digits(images=True)
    model = cnn(trial.width(16))
    fit = Fit(steps=80, held=digits.held)
    fit(trial, model, trial.optimizer(model.parameters(), "momentum"), digits.batches())


@CASES.healthy
def convolutions_without_normalisation(trial: Trial) -> None:
    """Two convolutions by RMSprop."""
    digits = data.digits(images=True)
    model = cnn(trial.width(12), normalise=False)
    Fit(steps=80)(trial, model, trial.optimizer(model.parameters(), "rmsprop"), digits.batches())


@CASES.healthy
def dropout_and_relu(trial: Trial) -> None:
    """Half of the units dropped, and half of the rest are zero anyway."""
    digits = data.digits()
    model = mlp(64, trial.width(128), trial.width(128), 10, dropout=0.5)
    Fit(steps=100, held=digits.held)(trial, model, trial.optimizer(model.parameters()), digits.batches())


@CASES.healthy
def regression(trial: Trial) -> None:
    """Mean squared error on a noisy table; half of the variance stays."""
    diabetes = data.standardised("diabetes")
    model = mlp(10, trial.width(64), 1)
    fit = Fit(steps=100, loss=nn.MSELoss(), held=diabetes.held)
    fit(trial, model, trial.optimizer(model.parameters(), "sgd", rate=0.3), diabetes.batches())


@CASES.healthy
def two_classes(trial: Trial) -> None:
    """Binary cross entropy, five to three."""
    cancer_table = data.binary()
    model = mlp(30, trial.width(32), 1)
    fit = Fit(steps=100, loss=nn.BCEWithLogitsLoss(), held=cancer_table.held)
    fit(trial, model, trial.optimizer(model.parameters()), cancer_table.batches())


@CASES.healthy
def adagrad_on_wine(trial: Trial) -> None:
    """A small table; Adagrad's steps become shorter and shorter."""
    wine = data.standardised("wine")
    model = mlp(13, trial.width(32), 3, activation=nn.Tanh)
    Fit(steps=120)(trial, model, trial.optimizer(model.parameters(), "adagrad"), wine.batches(16))


@CASES.healthy
def small_sigmoid_network(trial: Trial) -> None:
    """One hidden layer of sigmoids."""
    digits = data.digits()
    model = mlp(64, trial.width(64), 10, activation=nn.Sigmoid)
    Fit(steps=120)(trial, model, trial.optimizer(model.parameters(), rate=3), digits.batches())


@CASES.healthy
def deep_residual(trial: Trial) -> None:
    """Twenty residual blocks."""
    digits = data.digits()
    wide = trial.width(32)
    model = nn.Sequential(nn.Linear(64, wide), *(Residual(wide) for _ in range(20)), nn.LayerNorm(wide))
    model.append(nn.Linear(wide, 10))
    optimizer = trial.optimizer(model.parameters(), "adamw", among=ADAPTIVE, rate=0.3)
    Fit(steps=60, schedule=warm_up(10), clip=1.0)(trial, model, optimizer, digits.batches())


@CASES.healthy
def masked_transformer(trial: Trial) -> None:
    """Scores of the future are -inf; the key's bias has no gradient but rounding."""
    model = Language(trial.width(32))
    optimizer = trial.optimizer(model.parameters(), "adamw", among=("adam", "adamw"))
    Fit(steps=80, schedule=warm_up(10), clip=1.0, flatten=True)(trial, model, optimizer, data.text())


@CASES.healthy
def tied_transformer(trial: Trial) -> None:
    """Embedding and head are one tensor; many characters are rare, many positions unused."""
    model = Language(trial.width(32), tied=True, positions=64)
    optimizer = trial.optimizer(model.parameters(), "adam", among=("adam", "adamw"))
    Fit(steps=80, flatten=True)(trial, model, optimizer, data.text())


@CASES.healthy
def transformer_of_pytorch(trial: Trial) -> None:
    """nn.MultiheadAttention over the rows of a digit."""
    digits = data.digits(images=True)
    model = Vision(trial.width(32))
    optimizer = trial.optimizer(model.parameters(), "adamw", among=ADAPTIVE, rate=0.5)
    Fit(steps=80, held=digits.held)(trial, model, optimizer, digits.batches())


@CASES.healthy
def lstm(trial: Trial) -> None:
    """Characters through an LSTM, gradients clipped."""
    model = Recurrent(trial.width(48))
    Fit(steps=70, clip=1.0, flatten=True)(
        trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), data.text()
    )


@CASES.healthy
def gru(trial: Trial) -> None:
    """Characters through a GRU."""
    model = Recurrent(trial.width(48), nn.GRU)
    Fit(steps=70, flatten=True)(trial, model, trial.optimizer(model.parameters(), among=ADAPTIVE), data.text())


@CASES.healthy
def autoencoder(trial: Trial) -> None:
    """Pixels from 0 to 1 through eight units and back, a sigmoid at the end."""
    x, _ = data.raw("digits")
    x = x / 16
    wide = trial.width(64)
    model = mlp(64, wide, 8, wide, 64).append(nn.Sigmoid())
    optimizer = trial.optimizer(model.parameters(), among=ADAPTIVE)
    Fit(steps=100, loss=nn.BCELoss())(trial, model, optimizer, data.batches(x, x))


@CASES.healthy
def decayed_weights(trial: Trial) -> None:
    """AdamW with a decay of 0.1, cosine to zero."""
    digits = data.digits()
    model = mlp(64, trial.width(128), 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    Fit(steps=100, schedule=cosine(100))(trial, model, optimizer, digits.batches())


@CASES.healthy
def balanced_experts(trial: Trial) -> None:
    """A mixture of experts with a loss that balances it; an expert has no row now and then."""
    digits = data.digits()
    wide = trial.width(32)
    experts = Experts(wide, 6)
    model = nn.Sequential(nn.Linear(64, wide), experts, nn.Linear(wide, 10))
    loss_module = nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters(), "adam", among=ADAPTIVE)
    batches = digits.batches(24)
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for _ in range(70):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_module(model(x), y)
            backward(loss + 0.05 * experts.load.sum())
            optimizer.step()
            monitor.step(loss=loss)


@CASES.healthy
def trees(trial: Trial) -> None:
    """Boosting as XGBoost's tutorial has it."""
    boost(trial, *cancer(), rounds=40, max_depth=3, eta=0.1, colsample_bytree=0.5)


@CASES.healthy
def two_replicas(trial: Trial) -> None:
    """Data-parallel training as it should be."""
    replicas(trial)


@CASES.healthy
def heavy_tails(trial: Trial) -> None:
    """Targets with a Cauchy distribution's outliers, and clipping that is there for them."""
    diabetes = data.standardised("diabetes")
    noise: Tensor = torch.distributions.StudentT(1.5).sample(diabetes.y.shape)
    model = mlp(10, trial.width(64), 1)
    fit = Fit(steps=120, loss=nn.MSELoss(), clip=1.0)
    optimizer = trial.optimizer(model.parameters(), "sgd", rate=0.2, among=("sgd", "adam", "adamw"))
    fit(trial, model, optimizer, data.batches(diabetes.x, diabetes.y + noise))
