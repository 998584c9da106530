import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrans.train.losses import CHUNK, cross_entropy, divergence


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, CHUNK + 40), smoothing=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 99))
def test_chunked_loss_and_gradients_equal_torch(rows: int, smoothing: float, seed: int) -> None:
    torch.manual_seed(seed)
    hidden = torch.randn(1, rows, 6, requires_grad=True)
    weight = torch.randn(40, 6, requires_grad=True)
    labels = torch.randint(-5, 40, (1, rows)).clamp(min=-1)
    labels[0, 0] = 3
    ours = cross_entropy(hidden, weight, labels, smoothing=smoothing)
    ignored = labels.masked_fill(labels < 0, -100).flatten()
    wanted = F.cross_entropy((hidden @ weight.t()).flatten(0, 1), ignored, label_smoothing=smoothing)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
    for mine, other in zip(
        torch.autograd.grad(3 * ours, (hidden, weight)),
        torch.autograd.grad(3 * wanted, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


def test_divergence_equals_torch_and_teaches_the_student_only() -> None:
    torch.manual_seed(1)
    student = torch.randn(2, 5, 6, requires_grad=True)
    teacher = torch.randn(2, 5, 6, requires_grad=True)
    weight = torch.randn(30, 6)
    labels = torch.tensor([[1, 2, -1, 4, 5], [-1, 7, 8, 9, -1]])
    real = labels.flatten() >= 0
    ours = divergence(student, teacher, weight, labels)
    scores = [(hidden @ weight.t()).flatten(0, 1)[real].log_softmax(-1) for hidden in (student, teacher)]
    wanted = F.kl_div(scores[0], scores[1].detach(), log_target=True, reduction="batchmean")
    torch.testing.assert_close(ours, wanted)
    torch.testing.assert_close(torch.autograd.grad(ours, student)[0], torch.autograd.grad(wanted, student)[0])
    assert not divergence(student.detach(), teacher, weight, labels).requires_grad


def test_no_labels_cost_nothing() -> None:
    hidden = torch.randn(1, 3, 4, requires_grad=True)
    loss = cross_entropy(hidden, torch.randn(9, 4), torch.full((1, 3), -1))
    assert float(loss.detach()) == 0.0
