"""Every rule of Taylor arithmetic against the plain operation along x(t) = Σ c_k t^k.

Linear operations are applied to each coefficient; the others are differentiated numerically at
t = 0, in float64. A registered rule without a case fails.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hvp_patching.paths.taylor import TaylorTensor, curvature
from hvp_patching.paths.taylor import tensor as taylor_tensor
from hvp_patching.paths.taylor.tape import Contracting, Recording, meet
from hvp_patching.paths.taylor.tensor import RULES, UnsupportedOperation
from hvp_patching.paths.taylor.watch import WATCHED, Watching

ROWS, POSITIONS, WIDTH, ORDER = 3, 4, 6, 3
draw = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


WEIGHT, BIAS, VECTOR = random(5, WIDTH), random(5), random(WIDTH)
SQUARE, OTHER = random(WIDTH, WIDTH), random(1, POSITIONS, WIDTH)
MASK = torch.tensor([[[True, False, False, True, False, False]]])


def method(name, *args, **kwargs):
    """A method of Tensor, called on the operands."""
    return lambda *tensors: getattr(torch.Tensor, name)(*tensors, *args, **kwargs)


# rule: (operation, how many Taylor operands). Linear ones have no constant part.
LINEAR = {
    "view": (lambda x: torch.Tensor.view(x, len(x), POSITIONS * WIDTH), 1),
    "reshape": (method("reshape", -1, 2, WIDTH), 1),
    "flatten": (method("flatten", 1), 1),
    "expand": (lambda x: torch.Tensor.expand(x[:, :1], -1, 7, WIDTH), 1),
    "transpose": (method("transpose", 1, 2), 1),
    "swapaxes": (method("swapaxes", -1, -2), 1),
    "permute": (method("permute", 0, 2, 1), 1),
    "unsqueeze": (method("unsqueeze", -1), 1),
    "squeeze": (lambda x: torch.Tensor.squeeze(x[:, :1], 1), 1),
    "contiguous": (method("contiguous"), 1),
    "clone": (method("clone"), 1),
    "detach": (method("detach"), 1),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), 1),
    "__getitem__": (lambda x: x[..., 1:3], 1),
    "cat": (lambda x, y: torch.cat([x, y], dim=-1), 2),
    "concat": (lambda x, y: torch.concat((x, y), dim=1), 2),
    "stack": (lambda x, y: torch.stack((-x, y), dim=-1), 2),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=-1), 1),
    "chunk": (lambda x: x.chunk(2, dim=-1)[1], 1),
    "split": (lambda x: x.split([2, 4], dim=-1)[1], 1),
    "to": (method("to", torch.float32), 1),
    "type": (method("type", torch.float32), 1),
    "type_as": (method("type_as", torch.zeros(1)), 1),
    "float": (method("float"), 1),
    "double": (method("double"), 1),
    "masked_fill": (method("masked_fill", MASK, 0.0), 1),
    "where": (lambda x: torch.where(MASK, x, torch.zeros(())), 1),
    "linear": (lambda x: F.linear(x, WEIGHT), 1),
    "mean": (method("mean", -1, keepdim=True), 1),
    "sum": (method("sum", (1, -1)), 1),
    "neg": (torch.neg, 1),
    "add": (torch.add, 2),
    "sub": (torch.sub, 2),
    "subtract": (torch.subtract, 2),
    "__rsub__": (method("__rsub__"), 2),
    "rsub": (torch.rsub, 2),
    "div": (lambda x: torch.div(x, VECTOR), 1),
    "true_divide": (lambda x: torch.true_divide(x, OTHER), 1),
}
SMOOTH = {
    "addmm": (lambda x: torch.addmm(BIAS, x.view(-1, WIDTH), WEIGHT.T).view(len(x), -1, 5), 1),
    "mul": (torch.mul, 2),
    "multiply": (torch.multiply, 2),
    "matmul": (lambda x, y: torch.matmul(x, y.transpose(1, 2)), 2),
    "bmm": (lambda x, y: torch.bmm(x, y.transpose(1, 2)), 2),
    "__rdiv__": (lambda x: torch.Tensor.__rdiv__(x * x + 2.0, 3.0), 1),
    "reciprocal": (lambda x: torch.reciprocal(x * x + 2.0), 1),
    "sqrt": (lambda x: torch.sqrt(x * x + 2.0), 1),
    "rsqrt": (lambda x: torch.rsqrt(x * x + 2.0), 1),
    "square": (torch.square, 1),
    "pow": (lambda x: torch.pow(x, 3.0), 1),
    "exp": (torch.exp, 1),
    "log": (lambda x: torch.log(x * x + 2.0), 1),
    "tanh": (torch.tanh, 1),
    "sigmoid": (torch.sigmoid, 1),
    "silu": (F.silu, 1),
    "gelu": (F.gelu, 1),
    "relu": (lambda x: F.relu(torch.cat([x * x + 1.0, -1.0 - x * x], -1)), 1),
    "softmax": (lambda x: torch.softmax(x, -1), 1),
    "log_softmax": (lambda x: F.log_softmax(x, dim=-1), 1),
    "logsumexp": (lambda x: torch.logsumexp(x, 1, keepdim=True), 1),
    "layer_norm": (lambda x: F.layer_norm(x, (WIDTH,), VECTOR, OTHER[0, 0]), 1),
}
# Which calls of a rule the tables above leave out.
VARIANTS = {
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), 1),
    "softmax of a method": (lambda x: x.softmax(1), 1),
    "softmax to a dtype": (lambda x: F.softmax(x, dim=-1, dtype=torch.float64), 1),
    "logsumexp, reduced": (lambda x: torch.logsumexp(x, -1), 1),
    "layer_norm, plain": (lambda x: F.layer_norm(x, (WIDTH,), eps=0.1), 1),
    "linear with bias": (lambda x: F.linear(x, WEIGHT, BIAS), 1),
    "power": (lambda x: x**2, 1),
    "add a constant": (lambda x: 2.0 + x, 1),
    "add a tensor": (lambda x: OTHER + x, 1),
    "add and broadcast": (lambda x: x[:, :1] + OTHER, 1),
    "subtract from": (lambda x: 1.0 - x, 1),
    "subtract from a tensor": (lambda x: VECTOR - x, 1),
    "multiply by a tensor": (lambda x: OTHER * x, 1),
    "multiply and broadcast": (lambda x, y: x[:, :1] * y[..., :1], 2),
    "square by product": (lambda x: x * x, 1),
    "cube": (lambda x: x**3, 1),
    "square root": (lambda x: (x * x + 1.0) ** 0.5, 1),
    "power zero": (lambda x: x**0, 1),
    "divide": (lambda x, y: x / (y * y + 1.0), 2),
    "divide a tensor": (lambda x: OTHER / (x * x + 1.0), 1),
    "matmul with a constant": (lambda x: x @ SQUARE, 1),
    "matmul from the left": (lambda x: random_attention() @ x, 1),
    "masked_fill": (lambda x: x.masked_fill(MASK, -7.0), 1),
    "where not": (lambda x: torch.where(MASK, torch.full((), 5.0, dtype=torch.float64), x), 1),
    "cat with a constant": (lambda x: torch.cat([expanded(OTHER, x), x], dim=1), 1),
    "index with a tensor": (lambda x: x[:, torch.tensor([2, 0])], 1),
    "last position": (lambda x: x[:, -1, :], 1),
    "stack with a constant": (lambda x: torch.stack([x, expanded(OTHER, x)], dim=2), 1),
    "rotate every two": (
        lambda x: torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2),
        1,
    ),
    "rotate half": (lambda x: torch.cat((-x[..., WIDTH // 2 :], x[..., : WIDTH // 2]), -1), 1),
    "RMS norm": (lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), 1),
    "soft cap": (lambda x: 3.0 * torch.tanh(x / 3.0), 1),
    "attention": (lambda x, y: F.softmax(x @ y.transpose(-1, -2) / 2, dim=-1) @ y, 2),
}


def random_attention():
    return torch.linspace(-1, 1, POSITIONS**2, dtype=torch.float64).view(1, POSITIONS, POSITIONS)


def expanded(constant, like):
    """Plain tensors need the rows; Taylor mode takes the unpatched run's single one."""
    return constant if isinstance(like, TaylorTensor) else constant.expand(ROWS, -1, -1)


@pytest.fixture(params=["shared", "patched"])
def operands(request):
    """Two operands: as at t = 0, where the rows share c_0, or with rows of their own."""
    made = []
    for _ in range(2):
        c0, higher = random(1 if request.param == "shared" else ROWS, POSITIONS, WIDTH), None
        higher = random(ORDER, ROWS, POSITIONS, WIDTH) / 2
        if request.param == "patched":
            higher[:, 0] = 0.0  # the unpatched run
        made.append(TaylorTensor(c0, higher, ROWS))
    return made


@pytest.fixture
def used(monkeypatch):
    """Names of the rules that were looked up."""
    names = []

    class Recorder(dict):
        def __getitem__(self, name):
            names.append(name)
            return super().__getitem__(name)

    monkeypatch.setattr(taylor_tensor, "RULES", Recorder(RULES))
    return names


def coefficients(x):
    """c_0 … c_N of every row, [N + 1, rows, ...]."""
    c0 = x.c0.repeat(x.shape[0] // x.c0.shape[0], *[1] * (x.ndim - 1))
    return torch.cat([c0[None], x.higher])


def polynomials(operands, t):
    return [sum(c * t**k for k, c in enumerate(coefficients(x))) for x in operands]


def numerical(operation, operands):
    """Taylor coefficients of operation(x(t)) at t = 0 by a polynomial through 13 points."""
    points = 0.08 * torch.cos(math.pi * torch.arange(13, dtype=torch.float64) / 12)
    values = torch.stack([operation(*polynomials(operands, t)) for t in points])
    vandermonde = torch.linalg.vander(points / 0.08)
    fitted = torch.linalg.solve(vandermonde, values.flatten(1))[: ORDER + 1]
    scale = 0.08 ** torch.arange(ORDER + 1, dtype=torch.float64)
    return (fitted / scale[:, None]).view(ORDER + 1, *values.shape[1:])


def test_every_rule_has_a_case():
    constants = {"zeros_like", "isnan", "isneginf"}
    assert set(RULES) == set(LINEAR) | set(SMOOTH) | constants
    assert not set(LINEAR) & set(SMOOTH)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_rules_act_on_every_coefficient(name, operands, used):
    operation, n = LINEAR[name]
    result = operation(*operands[:n])
    assert name in used
    expected = [operation(*c) for c in zip(*map(coefficients, operands[:n]), strict=True)]
    torch.testing.assert_close(coefficients(result), torch.stack(expected), rtol=1e-12, atol=1e-13)
    assert result.shape == expected[0].shape
    assert result.dtype == expected[0].dtype == result.c0.dtype == result.higher.dtype
    assert result.shared == operands[0].shared


@pytest.mark.parametrize("name", SMOOTH)
def test_rules_give_the_derivatives_of_the_operation(name, operands, used):
    operation, n = SMOOTH[name]
    result = operation(*operands[:n])
    assert name in used
    check(result, operation, operands[:n])


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_give_the_derivatives_of_the_operation(name, operands):
    operation, n = VARIANTS[name]
    check(operation(*operands[:n]), operation, operands[:n])


def check(result, operation, operands):
    plain = operation(*polynomials(operands, 0.0))
    assert result.shape == plain.shape
    assert result.shared == operands[0].shared
    expected = numerical(operation, operands)
    size = expected.abs().amax(dim=tuple(range(1, expected.ndim)))
    error = (coefficients(result) - expected).abs().amax(dim=tuple(range(1, expected.ndim)))
    assert bool((error <= 1e-7 * size.clamp(min=1.0)).all()), error / size


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", [*SMOOTH, *VARIANTS])
def test_a_lower_order_is_the_beginning_of_a_higher_one(name, order, operands):
    operation, n = (SMOOTH | VARIANTS)[name]
    whole = operation(*operands[:n])
    cut = [TaylorTensor(x.c0, x.higher[:order].clone(), x.rows) for x in operands[:n]]
    torch.testing.assert_close(
        coefficients(operation(*cut)), coefficients(whole)[: order + 1], rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("name", [*LINEAR, *SMOOTH, *VARIANTS])
def test_operands_are_left_as_they_were(name, operands):
    operation, n = (LINEAR | SMOOTH | VARIANTS)[name]
    before = [coefficients(x).clone() for x in operands]
    operation(*operands[:n])
    for x, old in zip(operands, before, strict=True):
        assert torch.equal(coefficients(x), old)


def test_constants_describe_the_zeroth_coefficient(operands):
    x = operands[0]
    x.c0[0, 0, 0], x.c0[0, 0, 1] = torch.nan, -torch.inf
    assert torch.equal(torch.isnan(x), torch.isnan(x.c0))
    assert torch.equal(torch.isneginf(x), torch.isneginf(x.c0))
    assert torch.equal(torch.zeros_like(x), torch.zeros_like(x.c0))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, y: x + y,
        lambda x, y: x * y,
        lambda x, y: x / (y * y + 1.0),
        lambda x, y: x @ y.transpose(1, 2),
        lambda x, y: y @ x.transpose(1, 2),
        lambda x, y: torch.cat([x, y], dim=1),
    ],
    ids=["add", "mul", "div", "matmul", "matmul reversed", "cat"],
)
def test_fewer_rows_stand_for_the_unpatched_run(operation, operands):
    """A tensor that later components have not joined yet acts as if its row 0 were repeated."""
    x, y = operands
    early = TaylorTensor(x.c0 if x.shared else x.c0[:2], x.higher[:, :2].clone(), 2)
    higher = torch.cat([early.higher, torch.zeros_like(early.higher[:, :1])], dim=1)
    c0 = x.c0 if x.shared else torch.cat([x.c0[:2], x.c0[:1]])
    spelled_out = TaylorTensor(c0, higher, ROWS)
    torch.testing.assert_close(
        coefficients(operation(early, y)), coefficients(operation(spelled_out, y))
    )


# In the tails differences such as 1 - tanh² would lose every digit in float32.
@pytest.mark.parametrize(
    "name", ["tanh", "sigmoid", "silu", "gelu", "gelu, tanh", "exp", "softmax"]
)
def test_float32_keeps_its_digits_in_the_tails(name):
    operation, _ = (SMOOTH | VARIANTS)[name]
    c0 = torch.linspace(-9, 9, 217, dtype=torch.float64).view(1, 1, -1)
    higher = torch.zeros(ORDER, 1, 1, 217, dtype=torch.float64)
    higher[0] = 1.0
    exact = coefficients(operation(TaylorTensor(c0, higher, 1)))
    single = coefficients(operation(TaylorTensor(c0.float(), higher.float(), 1)))
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=3e-7)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: torch.softmax(x, -1, torch.float64),
        lambda x: x.log_softmax(-1, torch.float64),
        lambda x: F.softmax(x, dim=-1, dtype=torch.float64),
        lambda x: x.mean(-1, dtype=torch.float64),
        lambda x: x.sum(-1, dtype=torch.float64),
    ],
    ids=["torch.softmax", "Tensor.log_softmax", "F.softmax", "mean", "sum"],
)
def test_a_requested_dtype_is_heeded(operation, operands):
    result = operation(operands[0].float())
    assert result.dtype == result.c0.dtype == result.higher.dtype == torch.float64


REFUSED = {
    "sum over rows": (lambda x: x.sum(0), "row dimension"),
    "mean over all": (lambda x: x.mean(), "all dimensions"),
    "softmax over rows": (lambda x: torch.softmax(x, 0), "row dimension"),
    "log_softmax over rows": (lambda x: torch.log_softmax(x, -3), "row dimension"),
    "cat of rows": (lambda x: torch.cat([x, x]), "row dimension"),
    "chunk of rows": (lambda x: x.chunk(3), "row dimension"),
    "transpose of rows": (lambda x: x.transpose(0, 1), "row dimension"),
    "permute of rows": (lambda x: x.permute(2, 1, 0), "row dimension"),
    "unsqueeze before rows": (lambda x: x.unsqueeze(0), "before the rows"),
    "squeeze of rows": (lambda x: x.squeeze(0), "row dimension"),
    "one row": (lambda x: x[0], "row dimension"),
    "slice of rows": (lambda x: x[1:], "row dimension"),
    "rows by tensor": (lambda x: x[torch.tensor([0, 1])], "row dimension"),
    "rows after an ellipsis": (lambda x: x[..., 0, 0, 0], "row dimension"),
    "two index tensors": (
        lambda x: x[:, torch.tensor([0, 1]), torch.tensor([0, 1])],
        "one tensor at a time",
    ),
    "new first dimension": (lambda x: x[None], "row dimension"),
    "view across rows": (lambda x: x.view(2, -1), "reshape rows"),
    "expand to a rank more": (lambda x: x.expand(2, ROWS, POSITIONS, WIDTH), "higher rank"),
    "expand of rows": (lambda x: x.expand(2 * ROWS, -1, -1), "row dimension"),
    "constant per row": (lambda x: x * random(ROWS, 1, 1), "constant"),
    "sum with a constant per row": (lambda x: x + random(ROWS, POSITIONS, WIDTH), "constant"),
    "constant of higher rank": (lambda x: x * random(2, 1, 1, 1), "constant"),
    "division by a constant per row": (lambda x: x / random(ROWS, 1, 1), "constant"),
    "matmul with a batch": (lambda x: x @ random(ROWS, WIDTH, 2), "constant"),
    "matmul of a batch": (lambda x: random(ROWS, 2, POSITIONS) @ x, "constant"),
    "matmul over rows": (lambda x: random(2, ROWS) @ x[:, 0], "row dimension"),
    "sum of ranks": (lambda x: x + x[:, 0], "equal rank"),
    "product of ranks": (lambda x: x * x[:, 0], "equal rank"),
    "mask per row": (lambda x: x.masked_fill(torch.ones(ROWS, 1, 1, dtype=bool), 0.0), "constant"),
    "choice per row": (
        lambda x: torch.where(torch.ones(ROWS, 1, 1, dtype=bool), x, torch.zeros(())),
        "constant",
    ),
    "choice of two": (lambda x: torch.where(MASK, x, x), "chooses only"),
    "cat with a batch": (lambda x: torch.cat([x, random(ROWS, 1, WIDTH)], 1), "batch 1"),
    "active dropout": (lambda x: F.dropout(x, 0.1, training=True), "eval mode"),
    "tensor exponent": (lambda x: x**x, "constant exponent"),
    "scaled sum": (lambda x: torch.add(x, x, alpha=2.0), "alpha"),
    "scaled addmm": (
        lambda x: torch.addmm(BIAS, x[:, 0], WEIGHT.T, alpha=2.0),
        "addmm",
    ),
    "norm over two dimensions": (
        lambda x: F.layer_norm(x, (POSITIONS, WIDTH)),
        "last dimension only",
    ),
    "norm over another width": (lambda x: F.layer_norm(x, (WIDTH + 1,)), "last dimension only"),
    "unknown operation": (torch.cumsum, "'cumsum'"),
    "unknown function": (F.mish, "'mish'"),
    "in-place operation": (lambda x: x.add_(1.0), "'add_'"),
    "comparison": (lambda x: x > 0, "'__gt__'|'gt'"),
    "unknown argument": (lambda x: torch.logsumexp(x, (1, 2)), "'logsumexp' does not cover"),
    "Taylor weights": (lambda x: F.linear(random(2, WIDTH), x[:, 0]), "'linear' does not cover"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_carried_is_refused(case, operands):
    operation, message = REFUSED[case]
    call = (lambda x: torch.cumsum(x, 1)) if operation is torch.cumsum else operation
    with pytest.raises(UnsupportedOperation, match=message):
        call(operands[0])


# --- positions flattened into rows ----------------------------------------------------------

FLATTENED = {
    "product": lambda x, y: x * y,
    "product with rows of their own": lambda x, y: x * with_own_c0(y),
    "sum with rows of their own": lambda x, y: x + with_own_c0(y),
    "square": lambda x, y: x**2,
    "quotient": lambda x, y: x / (y + 9.0),
    "smooth function": lambda x, y: torch.tanh(x),
    "softmax": lambda x, y: torch.softmax(x, -1),
    "logsumexp": lambda x, y: torch.logsumexp(x, -1),
    "norm": lambda x, y: F.layer_norm(x, (WIDTH,)),
    "batched product": lambda x, y: x[..., None] @ y[:, None],
    "index": lambda x, y: x[torch.arange(3)],
    "constant per position": lambda x, y: x * random(POSITIONS, 1),
}


def with_own_c0(x):
    """The same polynomials with one zeroth coefficient per row."""
    return TaylorTensor(x.c0.repeat(x.rows, 1), x.higher, x.rows)


def flattened(m=POSITIONS, rows=ROWS):
    """[rows * m, WIDTH] at t = 0, as after view(-1, WIDTH): a zeroth coefficient [m, WIDTH]."""
    return TaylorTensor(random(m, WIDTH), random(ORDER, rows * m, WIDTH), rows)


@pytest.mark.parametrize("m", [POSITIONS, ROWS])  # as many positions as rows would broadcast
@pytest.mark.parametrize("case", FLATTENED)
def test_flattened_positions_never_meet_what_they_would_broadcast_against(case, m):
    with pytest.raises(UnsupportedOperation):
        FLATTENED[case](flattened(m), flattened(m))


def test_linear_maps_of_flattened_positions_are_those_of_positions(operands):
    x = operands[0]
    flat = F.linear(x.view(-1, WIDTH), WEIGHT, BIAS) + F.linear(x.reshape(-1, WIDTH), WEIGHT)
    straight = F.linear(x, WEIGHT, BIAS) + F.linear(x, WEIGHT)
    found = flat.view(ROWS, POSITIONS, -1)
    torch.testing.assert_close(coefficients(found), coefficients(straight))


@pytest.mark.parametrize(
    ("c0", "higher"),
    [((2, 5), (1, 6, 5)), ((1, 5), (1, 6, 4)), ((1, 4), (1, 6, 5)), ((1, 5), (1, 7, 5))],
)
def test_coefficients_of_unlike_shapes_make_no_tensor(c0, higher):
    with pytest.raises(UnsupportedOperation, match="cannot join coefficients"):
        TaylorTensor(torch.zeros(c0), torch.zeros(higher), 6 if higher[1] == 6 else 2)


# --- second derivatives contracted with adjoints (the tangent backend) ------------------------

CASES = LINEAR | SMOOTH | VARIANTS
STRAIGHT = {  # smooth rules and variants that do not bend
    *(
        "addmm",
        "linear with bias",
        "add a constant",
        "add a tensor",
        "add and broadcast",
        "subtract from",
    ),
    *("subtract from a tensor", "multiply by a tensor", "matmul with a constant", "power zero"),
    *("matmul from the left", "masked_fill", "where not", "cat with a constant", "last position"),
    *("index with a tensor", "stack with a constant", "rotate every two", "rotate half"),
}


def at_zero():
    """Two operands of several rows that share c_0, with tangents alone."""
    return [
        TaylorTensor(random(1, POSITIONS, WIDTH), random(1, ROWS, POSITIONS, WIDTH) / 2, ROWS)
        for _ in range(2)
    ]


def recorded(operation, operands):
    """The operation's tape in the base run, and the adjoints of some function of its result."""
    leaves = [x.c0.clone().requires_grad_() for x in operands]
    tape = Recording()
    with torch.no_grad(), tape.running():
        alone = [TaylorTensor(c0, c0.new_zeros(0, *c0.shape), 1) for c0 in leaves]
        result = operation(*alone).c0
    weights = torch.linspace(-1, 2, result.numel(), dtype=torch.float64).view_as(result)
    outputs = [tap.output for tap in tape.taps]
    if not outputs:
        return tape, [], weights
    total = (result.double() * weights).sum()
    return tape, torch.autograd.grad(total, outputs, allow_unused=True), weights


def contracted(operation, operands):
    """f'' of Σ weights · operation along the operands' straight lines, [rows], and the weights."""
    tape, adjoints, weights = recorded(operation, operands)
    meeting = Contracting(tape.taps, adjoints, tape.matrices)
    with torch.no_grad(), meeting.running():
        operation(*operands)
    return meeting.finished(ROWS, torch.device("cpu")), weights


def test_every_rule_is_declared_linear_or_curved():
    assert set(RULES) == curvature.LINEAR | set(curvature.CURVED)
    assert not curvature.LINEAR & set(curvature.CURVED)
    assert set(SMOOTH) - {"addmm"} == set(curvature.CURVED) - {"div", "true_divide"}


@pytest.mark.parametrize("name", CASES)
def test_adjoints_contract_to_the_second_derivative(name):
    (operation, n), operands = CASES[name], at_zero()
    found, weights = contracted(operation, operands[:n])
    if name in LINEAR:  # held to be linear above
        assert not bool(found.any())
        return
    second = 2 * numerical(operation, operands[:n])[2]
    expected = second.reshape(ROWS, -1) @ weights.flatten()
    assert (float(expected.abs().max()) > 1e-4) == (name not in STRAIGHT)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", [*LINEAR, *SMOOTH])
def test_a_rule_without_declared_curvature_is_refused(name, monkeypatch):
    (operation, n), operands = (LINEAR | SMOOTH)[name], at_zero()
    monkeypatch.setattr("hvp_patching.paths.taylor.tape.LINEAR", curvature.LINEAR - {name})
    monkeypatch.delitem(curvature.CURVED, name, raising=False)
    with Recording().running(), pytest.raises(UnsupportedOperation, match=f"for '{name}'$"):
        operation(*operands[:n])


def test_a_rule_that_hides_its_curvature_is_refused(monkeypatch):
    x, _ = at_zero()
    monkeypatch.setitem(RULES, "exp", lambda x: TaylorTensor(x.c0.exp(), x.higher, x.rows))
    with Recording().running(), pytest.raises(UnsupportedOperation, match="'exp' hides its curv"):
        torch.exp(x)

    def bending(x):
        meet("square", x.c0, x)
        return x

    monkeypatch.setitem(RULES, "neg", bending)
    with Recording().running(), pytest.raises(UnsupportedOperation, match="'neg' has an undecl"):
        torch.neg(x)


def test_operations_must_be_met_as_they_were_recorded():
    x, y = at_zero()
    tape, adjoints, _ = recorded(torch.square, [x])
    expected = {
        "has square/square": torch.exp,
        r"meet square/square \(1, 4, 1\)": lambda x: torch.square(x[..., :1]),
        r"square/square \(1, 4, 6\) where the base run has none": lambda x: (
            torch.square(x + 0 * x) + torch.square(x)
        ),
    }
    for message, operation in expected.items():
        meeting = Contracting(tape.taps, adjoints, tape.matrices)
        with meeting.running(), pytest.raises(UnsupportedOperation, match=message):
            operation(x)
    meeting = Contracting(tape.taps, adjoints, tape.matrices)
    with meeting.running():
        x + y
    with pytest.raises(UnsupportedOperation, match="meet 0 non-linear operations, the base run 1"):
        meeting.finished(ROWS, torch.device("cpu"))


@pytest.mark.parametrize("name", CASES)
def test_an_ordinary_pass_is_watched_as_taylor_mode_records_it(name):
    (operation, n), operands = CASES[name], at_zero()
    tape, _, _ = recorded(operation, operands[:n])
    rows = ROWS if name.endswith("with a constant") else 1  # plain constants have them
    leaves = [x.c0.repeat(rows, 1, 1).requires_grad_() for x in operands[:n]]
    with torch.no_grad(), Watching() as watching:
        operation(*leaves)
    assert [tap.name for tap in watching.taps] == [tap.name for tap in tape.taps]
    if rows > 1:
        return
    ours, theirs = ([*t.matrices, *(tap.output for tap in t.taps)] for t in (watching, tape))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_every_curved_rule_and_every_matrix_is_watched():
    assert set(WATCHED) == {*curvature.CURVED, "linear", "addmm", "detach"}
