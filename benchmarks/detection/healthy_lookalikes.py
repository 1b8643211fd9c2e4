"""Healthy runs that look ill, each by itself."""

import torch
from torch import Tensor, nn

from benchmarks.detection import data
from benchmarks.detection.case import ADAPTIVE, Cases, Trial
from benchmarks.detection.loop import Fit, backward, cosine, train_before, warm_up
from benchmarks.detection.models import Residual, cnn, linears, mlp

CASES = Cases()


@CASES.healthy
def warm_up_from_zero(trial: Trial) -> None:
    """The first steps change nothing, or little."""
    digits = data.digits()
    model = mlp(64, trial.width(64), trial.width(64), 10)
    fit = Fit(steps=80, schedule=warm_up(30))
    fit(trial, model, trial.optimizer(model.parameters(), "adamw"), digits.batches())


@CASES.healthy
def cosine_to_zero(trial: Trial) -> None:
    """The last steps change nothing."""
    digits = data.digits(images=True)
    model = cnn(trial.width(8))
    fit = Fit(steps=80, schedule=cosine(70))
    fit(trial, model, trial.optimizer(model.parameters(), "momentum"), digits.batches())


@CASES.healthy
def frozen_backbone(trial: Trial) -> None:
    """A body that was trained before is frozen, in evaluation mode; the head alone learns."""
    digits = data.digits(images=True)
    body, wide = cnn(trial.width(8)), 10
    train_before(body, digits.batches(), 30)
    body.requires_grad_(False)
    head = nn.Sequential(nn.ReLU(), nn.Linear(wide, 10))
    model = nn.Sequential(body.eval(), head)
    Fit(steps=60)(trial, model, trial.optimizer(head.parameters(), "adam", rate=3), digits.batches())


class LowRank(nn.Module):
    """A frozen linear layer, and a product of two small matrices beside it, the second of which is zero at first."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) * base.in_features**-0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x) + x @ self.a.T @ self.b.T
        return result


@CASES.healthy
def low_rank_adapters(trial: Trial) -> None:
    """LoRA: the gradient of the first matrix is exactly 0 at first."""
    digits = data.digits()
    wide = trial.width(64)
    model = mlp(64, wide, wide, 10)
    train_before(model, digits.batches(), 20)
    for at_layer, module in enumerate(model):
        if isinstance(module, nn.Linear):
            model[at_layer] = LowRank(module)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    Fit(steps=60)(trial, model, trial.optimizer(parameters, "adam", among=ADAPTIVE), digits.batches())


@CASES.healthy
def gates_that_begin_at_zero(trial: Trial) -> None:
    """ReZero: ten residual branches behind gates of 0."""
    digits = data.digits()
    wide = trial.width(32)
    model = nn.Sequential(nn.Linear(64, wide), *(Residual(wide, gate=True) for _ in range(10)), nn.Linear(wide, 10))
    Fit(steps=60)(trial, model, trial.optimizer(model.parameters(), among=("adam", "adamw")), digits.batches())


@CASES.healthy
def pruned_weights(trial: Trial) -> None:
    """Nine tenths of the weights are zero under a mask."""
    digits = data.digits()
    model = mlp(64, trial.width(128), trial.width(128), 10)
    masks = [torch.rand_like(layer.weight) < 0.1 for layer in linears(model)[:2]]

    def prune(_: int) -> None:
        with torch.no_grad():
            for mask, layer in zip(masks, linears(model), strict=False):
                layer.weight.mul_(mask)

    prune(0)
    with torch.no_grad():
        for layer in linears(model)[:2]:
            layer.weight.mul_(10**0.5)  # those that are left make up for the others
    fit = Fit(steps=80, after_update=prune)
    fit(trial, model, trial.optimizer(model.parameters(), among=("adam", "adamw", "sgd")), digits.batches())


class Bag(nn.Module):
    """Rare tokens: most rows of the table have no gradient in a step."""

    def __init__(self, width: int, tokens: int = 2000) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width, padding_idx=0)
        self.head = mlp(width, width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(self.table(tokens).mean(1))
        return result


@CASES.healthy
def rare_tokens(trial: Trial) -> None:
    """Each pixel and its grey level is a token; most of them are seldom seen, many never."""
    x, y = data.raw("digits")
    digits = data.split((x + 17 * torch.arange(64)).long() + 1, y)
    model = Bag(trial.width(32))
    optimizer = trial.optimizer(model.parameters(), rate=3, among=("adam", "adamw"))
    Fit(steps=80)(trial, model, optimizer, digits.batches())


@CASES.healthy
def skipped_steps(trial: Trial) -> None:
    """A gradient scaler begins far too high and skips its first steps, whose gradients are infinite."""
    digits = data.digits()
    model, loss_module = mlp(64, trial.width(64), trial.width(64), 10), nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters(), among=("adam", "adamw", "sgd"))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=20)
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module, scaler=scaler)
        for _ in range(70):
            x, y = next(batches)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = loss_module(model(x), y)
            backward(scaler.scale(loss))
            scaler.step(optimizer)
            scaler.update()
            monitor.step(loss=loss)


@CASES.healthy
def bfloat16_with_masters(trial: Trial) -> None:
    """The model's bfloat16 weights are copies of float32 ones: few elements change in a step."""
    digits = data.digits()
    model, loss_module = mlp(64, trial.width(64), trial.width(64), 10), nn.CrossEntropyLoss()
    masters = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = trial.optimizer(masters, among=("adam", "adamw"), lr=5e-4)
    model.bfloat16()
    batches = digits.batches()
    with trial.monitor() as monitor:
        monitor.attach(model, loss=loss_module)
        for _ in range(80):
            x, y = next(batches)
            model.zero_grad()
            loss = loss_module(model(x.bfloat16()).float(), y)
            backward(loss)
            for master, parameter in zip(masters, model.parameters(), strict=True):
                master.grad = None if parameter.grad is None else parameter.grad.float()
            optimizer.step()
            with torch.no_grad():
                for master, parameter in zip(masters, model.parameters(), strict=True):
                    parameter.copy_(master)
            monitor.step(loss=loss)


@CASES.healthy
def accumulated_gradients(trial: Trial) -> None:
    """Four small batches an update; the monitor's step stands behind every one of them."""
    digits = data.digits()
    model, loss_module = mlp(64, trial.width(64), 10), nn.CrossEntropyLoss()
    optimizer = trial.optimizer(model.parameters())
    batches = digits.batches(16)
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for step in range(120):
            x, y = next(batches)
            loss = loss_module(model(x), y)
            backward(loss / 4)
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
            monitor.step(loss=loss)


@CASES.healthy
def fine_tuning(trial: Trial) -> None:
    """A network that can do it already goes on by a small rate."""
    digits = data.digits()
    model = mlp(64, trial.width(128), trial.width(64), 10)
    train_before(model, digits.batches(), 150)
    optimizer = trial.optimizer(model.parameters(), "adamw", rate=0.01, among=ADAPTIVE)
    Fit(steps=80, held=digits.held)(trial, model, optimizer, digits.batches())


@CASES.healthy
def a_solved_problem(trial: Trial) -> None:
    """Two classes that a line parts, long after it was found: the loss goes to 0, and so do gradients."""
    wine = data.standardised("wine")
    rows = wine.y < 2
    model = mlp(13, trial.width(64), 2)
    optimizer = trial.optimizer(model.parameters(), "adam", rate=3, among=("adam", "adamw", "momentum"))
    Fit(steps=150)(trial, model, optimizer, data.batches(wine.x[rows], wine.y[rows], 16))


@CASES.healthy
def label_smoothing(trial: Trial) -> None:
    """The loss has a floor far above 0."""
    digits = data.digits()
    model = mlp(64, trial.width(128), 10)
    fit = Fit(steps=120, loss=nn.CrossEntropyLoss(label_smoothing=0.2), held=digits.held)
    fit(trial, model, trial.optimizer(model.parameters()), digits.batches())


class Variational(nn.Module):
    """A variational autoencoder; it returns the pixels' logits and the code's divergence."""

    def __init__(self, width: int, codes: int = 6) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(64, width, 2 * codes), mlp(codes, width, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        divergence = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return self.decoder(code), divergence


@CASES.healthy
def divergence_warmed_up(trial: Trial) -> None:
    """A variational autoencoder: the weight of the divergence rises, and the loss with it."""
    x, _ = data.raw("digits")
    x = x / 16
    model, loss_module = Variational(trial.width(64)), nn.BCEWithLogitsLoss()
    optimizer = trial.optimizer(model.parameters(), among=ADAPTIVE)
    batches = data.batches(x, x)
    with trial.monitor() as monitor:
        monitor.attach(model, optimizer=optimizer, loss=loss_module)
        for step in range(120):
            pixels, _ = next(batches)
            optimizer.zero_grad()
            logits, divergence = model(pixels)
            loss = 64 * loss_module(logits, pixels) + min(1.0, step / 80) * divergence
            backward(loss)
            optimizer.step()
            monitor.step(loss=loss)


@CASES.healthy
def generator_and_discriminator(trial: Trial) -> None:
    """Two networks against each other: neither loss falls."""
    x, y = data.raw("digits")
    batches = data.batches(x / 8 - 1, y)
    wide = trial.width(64)
    generator = mlp(16, wide, 64).append(nn.Tanh())
    discriminator = mlp(64, wide, 1, activation=lambda: nn.LeakyReLU(0.2))
    models = (generator, discriminator)
    optimizers = [torch.optim.Adam(model.parameters(), 1e-3, betas=(0.5, 0.999)) for model in models]
    loss_module = nn.BCEWithLogitsLoss()
    with trial.monitor() as monitor:
        for name, model, optimizer in zip(("generator", "discriminator"), models, optimizers, strict=True):
            monitor.attach(model, optimizer=optimizer, name=name)
        for _ in range(100):
            real, _ = next(batches)
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            made = generator(torch.randn(len(real), 16))
            optimizers[1].zero_grad()
            discriminator_loss = loss_module(discriminator(real), ones)
            discriminator_loss = discriminator_loss + loss_module(discriminator(made.detach()), zeros)
            backward(discriminator_loss)
            optimizers[1].step()
            optimizers[0].zero_grad()
            generator_loss = loss_module(discriminator(made), ones)
            backward(generator_loss)
            optimizers[0].step()
            monitor.step(generator_loss=generator_loss, discriminator_loss=discriminator_loss)
