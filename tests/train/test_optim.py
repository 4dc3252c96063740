"""Losses and optimizers against recorded numbers and their formulas, and the averages of the weights."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from arcpipe.batches import IGNORE
from arcpipe.losses import stablemax_cross_entropy, stablemax_cross_entropy_float32, step_loss
from arcpipe.model_config import TRMConfig
from arcpipe.train.config import TrainSettings
from arcpipe.train.optim import AdamATan2, Muon, make_optimizers, sign_sgd_rows
from arcpipe.train.state import EMA
from arcpipe.trm import TRM
from steps import advance, random_batch, state_of


@pytest.mark.parametrize(
    ("dtype", "recorded", "tolerance"),
    [(torch.float32, "official_f32", 2e-7), (torch.float64, "official_f64", 1e-14)],
)
def test_atan2_is_official(fixtures_dir: Path, dtype: torch.dtype, recorded: str, tolerance: float) -> None:
    with np.load(fixtures_dir / "adam_atan2.npz") as arrays:
        weight = nn.Parameter(torch.tensor(arrays["p0"], dtype=dtype))
        beta1, beta2 = arrays["betas"].tolist()
        optimizer = AdamATan2([weight], betas=(beta1, beta2), weight_decay=float(arrays["weight_decay"]))
        for step, gradient in enumerate(arrays["grads"]):
            optimizer.param_groups[0]["lr"] = float(arrays["lr"][step])
            weight.grad = torch.tensor(gradient, dtype=dtype)
            optimizer.step()
            error = np.abs(weight.detach().numpy() - arrays[recorded][step]).max()
            assert error <= tolerance * max(1, np.abs(arrays[recorded][step]).max()), f"step {step}"


def tiny_model() -> TRM:
    torch.manual_seed(0)
    config = TRMConfig(hidden_size=16, num_heads=2, positions="learned", puzzle_size=16, puzzle_tokens=1)
    return TRM(config, 4, 12)


def with_gradients(model: TRM) -> dict[str, Tensor]:
    """Give every weight a random gradient; return copies of the weights."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("name", ["adam_atan2", "adamw", "muon"])
def test_every_weight_has_one_optimizer_and_the_schedule_scales_it(name: str) -> None:
    """And the rate of the puzzle rows."""
    model = tiny_model()
    state = state_of(model, torch.zeros(5, 16), 2, optimizer=name)
    groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
    assert sorted(id(weight) for group in groups for weight in group["params"]) == sorted(
        id(weight) for weight in model.parameters()
    )
    full, settings = [group["lr"] for group in groups], TrainSettings(puzzle_lr=0.1, puzzle_weight_decay=0.0)
    for scale in (0.5, 0.25, 0.0):
        before, rows = copy.deepcopy(model.state_dict()), state.rows.clone()
        advance(state, random_batch(2), settings, scale)
        assert float((state.rows - rows).abs().max()) == pytest.approx(0.1 * scale)
        assert [group["lr"] for group in groups] == [scale * rate for rate in full]
        same = [torch.equal(weight, before[key]) for key, weight in model.named_parameters()]
        assert all(same) == (scale == 0)


def test_muon_has_its_own_decay() -> None:
    model = tiny_model()
    settings = TrainSettings(optimizer="muon", lr=0.1, weight_decay=0.2, muon_lr=0.5, muon_weight_decay=0.1)
    before = with_gradients(model)
    model.zero_grad(set_to_none=False)
    for optimizer in make_optimizers(model, settings):
        optimizer.step()
    for name, weight in model.named_parameters():
        kept = 1 - (0.5 * 0.1 if name.startswith("blocks.") else 0.1 * 0.2)
        torch.testing.assert_close(weight.detach(), before[name] * kept)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_is_torch_s_but_for_the_rounding_of_bfloat16() -> None:
    """Tall, square and wide matrices of two sizes; torch itself is off by a twentieth."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((24, 8), (8, 24), (8, 8), (6, 10), (8, 24))
    grads = [torch.randn(3, *shape, generator=generator) for shape in shapes]
    weights, others = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    for optimizer, params in (
        (Muon(weights, 0.1, 0.3), weights),
        (torch.optim.Muon(others, 0.1, weight_decay=0.3), others),
    ):
        for step in range(3):
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad[step]
            optimizer.step()
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=0.1 * 0.05)


def test_sign_sgd_is_the_reference_s(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "sparse_signsgd.npz") as recorded:
        table = torch.tensor(recorded["weights_before"]).float()
        for step, (ids, grads) in enumerate(zip(recorded["ids"], recorded["grads"], strict=True)):
            sign_sgd_rows(
                table, torch.tensor(ids).long(), torch.tensor(grads),
                lr=float(recorded["lr"][step]), weight_decay=float(recorded["weight_decay"]),
            )  # fmt: skip
            np.testing.assert_allclose(table.numpy(), recorded["weights_after"][step], rtol=0, atol=2e-7)


@given(data=st.data(), size=st.integers(1, 4), num_rows=st.integers(1, 6))
def test_sign_sgd_is_its_formula_in_any_order(data: st.DataObject, size: int, num_rows: int) -> None:
    ids = data.draw(st.lists(st.integers(0, num_rows - 1), min_size=1, max_size=12))
    order = data.draw(st.permutations(range(len(ids))))
    generator = np.random.default_rng(len(ids))
    # So different in size that float32 sums would depend on the order.
    grads = (
        generator.normal(size=(len(ids), size)) * 10.0 ** generator.integers(-4, 4, (len(ids), 1))
    ).astype(np.float32)
    table = generator.normal(size=(num_rows, size)).astype(np.float32)
    expected = table.astype(np.float64)
    for row in set(ids):
        total = grads[[place for place, id in enumerate(ids) if id == row]].astype(np.float64).sum(0)
        expected[row] = expected[row] * (1 - 0.5 * 0.1) - 0.5 * np.sign(total)
    found = []
    for places in (list(range(len(ids))), order):
        changed = torch.tensor(table)
        shuffled = torch.tensor([ids[place] for place in places])
        sign_sgd_rows(changed, shuffled, torch.tensor(grads[places]), lr=0.5, weight_decay=0.1)
        found.append(changed)
    assert torch.equal(*found)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_rows_in_bfloat16_move_by_little_steps_on_average() -> None:
    """Steps of a hundredth of bfloat16's resolution near 1 add up; samples of one row move it alike."""
    table, ids = torch.ones(64, 64, dtype=torch.bfloat16), torch.arange(64).repeat(2)
    other, order = table.clone(), torch.randperm(128)
    grads = torch.ones(128, 64)
    for step in range(200):
        sign_sgd_rows(table, ids, grads, lr=1e-4, weight_decay=0.0, seed=step)
        sign_sgd_rows(other, ids[order], grads, lr=1e-4, weight_decay=0.0, seed=step)
    assert torch.equal(table, other)
    assert table.float().mean().item() == pytest.approx(1 - 200 * 1e-4, abs=3e-4)
    sign_sgd_rows(other, ids, grads, lr=1e-4, weight_decay=0.0, seed=1)
    assert not torch.equal(table, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_are_float32_and_move_by_little_steps(dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 4, bias=False).to(dtype)
    nn.init.ones_(layer.weight)
    ema = EMA(layer, decay=0.999)
    nn.init.zeros_(layer.weight)
    for _ in range(10):
        ema.update()
    average = ema.averages["weight"]
    assert average.dtype == torch.float32
    torch.testing.assert_close(average, torch.full((4, 4), 0.999**10))


def test_stablemax_and_its_gradient_are_the_reference_s(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "stablemax_ce.npz") as recorded:
        logits = torch.tensor(recorded["logits"], requires_grad=True)
        labels = torch.tensor(recorded["labels"]).long()
        losses = stablemax_cross_entropy(logits, labels)
        losses.sum().backward()
        assert logits.grad is not None
        assert losses.dtype == torch.float64
        np.testing.assert_allclose(losses.detach().numpy(), recorded["loss_per_token"], rtol=1e-12)
        np.testing.assert_allclose(logits.grad.numpy(), recorded["grad_logits_of_sum"], rtol=1e-5, atol=1e-7)
        # Averaged over the labelled cells of each row, summed over rows; a row without labels gives 0.
        loss = step_loss(logits.detach(), torch.zeros(5), labels)
        np.testing.assert_allclose(loss.answer.item(), recorded["lm_loss_head"], rtol=1e-12)


def losses_and_gradients(logits: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Losses and gradients of the float64 form, then of the float32 form, as float64."""
    found = []
    for form in (stablemax_cross_entropy, stablemax_cross_entropy_float32):
        leaf = logits.clone().requires_grad_()
        losses = form(leaf, labels)
        losses.sum().backward()
        assert leaf.grad is not None
        found.append((losses.detach().double(), leaf.grad.double()))
    return found


def assert_within(actual: Tensor, exact: Tensor, relative: float) -> None:
    # The float64 form, a difference of two logarithms, is rounded itself.
    assert float(((actual - exact).abs() - relative * exact.abs()).max()) <= 1e-14


def test_float32_stablemax_is_the_reference_s_within_its_bound(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "stablemax_ce.npz") as recorded:
        logits, labels = torch.tensor(recorded["logits"]), torch.tensor(recorded["labels"]).long()
        losses = stablemax_cross_entropy_float32(logits, labels)
        assert losses.dtype == torch.float32
        assert_within(losses.double(), torch.tensor(recorded["loss_per_token"]), 1e-6)
        loss = step_loss(logits, torch.zeros(5), labels, "float32")
        np.testing.assert_allclose(loss.answer.item(), recorded["lm_loss_head"], rtol=1e-6)
    (exact, exact_gradient), (rough, rough_gradient) = losses_and_gradients(logits, labels)
    assert_within(rough, exact, 1e-6)
    assert_within(rough_gradient, exact_gradient, 1e-6)


@pytest.mark.parametrize("range_", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("vocabulary", [2, 12, 40])
def test_float32_stablemax_holds_its_bound_over_a_large_range(range_: float, vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(0)
    exponents = 2 * torch.rand(20_000, vocabulary, generator=generator) - 1
    signs = torch.randn(20_000, vocabulary, generator=generator).sign()
    logits = torch.cat([signs * range_**exponents, signs * range_ * exponents])
    logits[:100] = torch.tensor([0.0, 1.0, -1.0, range_])[
        torch.randint(4, logits[:100].shape, generator=generator)
    ]
    labels = torch.randint(vocabulary, logits.shape[:1], generator=generator)
    (exact, exact_gradient), (rough, rough_gradient) = losses_and_gradients(logits, labels)
    assert_within(rough, exact, 1e-6)
    assert_within(rough_gradient, exact_gradient, 1e-6)


def test_right_is_every_labelled_cell() -> None:
    labels = torch.tensor([[1, 2, IGNORE], [1, 2, 0], [IGNORE] * 3])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0]] * 3), 4).float()
    logits[1, 2] = torch.tensor([0.0, 0, 0, 1])
    loss = step_loss(logits, torch.tensor([0.0, 0, 0]), labels)
    # A sample without labels counts as right, as in the reference, but does not count as labelled.
    assert loss.correct.tolist() == [True, False, True]
    assert loss.labelled.tolist() == [True, True, False]
    assert loss.cell_accuracy.tolist() == [1, torch.tensor(2 / 3).item(), 0]


def test_the_halt_loss_teaches_whether_the_answer_is_right() -> None:
    labels = torch.tensor([[1], [1]])
    logits = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    sure_and_right, wrong_way_round = (
        step_loss(logits, torch.tensor(halt), labels) for halt in ([9.0, -9.0], [-9.0, 9.0])
    )
    assert sure_and_right.halt < 1e-3
    assert wrong_way_round.halt > 17
    assert wrong_way_round.total == wrong_way_round.answer + 0.5 * wrong_way_round.halt
