"""The mixed operation of a node, and its backward, one candidate at a time.

While searching, with p = softmax(alpha) over the node's living candidate operations o (Liu et al.
2019, equation 2; mixture.py says which live):

    G(H) = sum_o p_o o(H)

In the backward, the gradient g of G(H) is known before G is computed again. So each candidate is
evaluated, differentiated and freed before the next one:

    G += p_o o(H)        dL/dp_o = <g, o(H)>        dL/dH += (do/dH)^T p_o g

and the peak is the graph of one candidate, not of all. A node of a derived network, or one that is
not searched, has a single candidate and no p: G(H) = o(H).
"""

from dataclasses import replace
from typing import Dict, Optional, Sequence, Tuple

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from .context import Context, OperationSettings
from .mixture import NodeMixture
from .operations import build_operation

#: Gradients of the weights and of the encoder's output; a tensor that is no key needs none.
Gradients = Dict[Tensor, Optional[Tensor]]


class MixedOperation(nn.Module):
    """The node of a reversible layer: one or several candidate operations over the same H.

    Args:
        names: candidate operations, as in search_space.py
        settings: the settings that they are built from
    """

    def __init__(self, names: Sequence[str], settings: OperationSettings):
        super().__init__()
        self.names = tuple(names)
        self.candidates = nn.ModuleList(build_operation(name, settings) for name in names)
        #: Draws no mask itself; fairseq's --retain-dropout reaches it.
        self.dropout = FairseqDropout(settings.dropout, module_name="MixedOperation")

    def forward(self, h: Tensor, context: Context, mixture: NodeMixture) -> Tensor:
        """G(H), in the precision of the stream.

        Args:
            h: (T, B, C), in the precision that the operations compute in
            context: what the operations read in addition to H
            mixture: the living candidates and their probabilities
        """
        context = self._with_dropout_mask(h, context)
        output = None
        for index in mixture.living:
            term = self.candidates[index](h, context)
            output = _accumulate(output, term, mixture.probabilities, index)
        return output

    def recompute_and_backward(
        self,
        h: Tensor,
        grad: Tensor,
        context: Context,
        mixture: NodeMixture,
        gradients: Gradients,
    ) -> Tuple[Tensor, Tensor]:
        """G(H) again, and the gradients through it.

        Args:
            h, context, mixture: as in the forward
            grad: (T, B, C), gradient of G(H)
            gradients: of weights and the encoder's output, added to in place

        Returns:
            G(H), equal to the forward's bit by bit, and the gradient of H: both (T, B, C)
        """
        context = self._with_dropout_mask(h, context)
        output, grad_h = None, torch.zeros_like(grad)
        probabilities = mixture.probabilities
        for index in mixture.living:
            candidate = self.candidates[index]
            h = h.detach().requires_grad_()
            with torch.enable_grad():
                candidate_output = candidate(h, context)
            term = candidate_output.detach().to(grad.dtype)
            if mixture.grad is not None:
                mixture.grad[index] += torch.dot(grad.flatten(), term.flatten())
            output = _accumulate(output, term, probabilities, index)
            if candidate_output.requires_grad:  # zero's does not
                weighted = grad if probabilities is None else probabilities[index] * grad
                grad_h += _backward(candidate, candidate_output, h, weighted, context, gradients)
            del candidate_output  # and with it this candidate's graph, before the next
        return output, grad_h

    def _with_dropout_mask(self, h: Tensor, context: Context) -> Context:
        rate, always = self.dropout.p, self.dropout.apply_during_inference
        if rate == 0 or not (self.training or always):
            return context
        # In single precision whatever `h` is; on a CPU, faster than torch's dropout.
        kept = torch.rand(h.shape, device=h.device) >= rate
        return replace(context, dropout_mask=kept.to(h.dtype).div_(1 - rate))


def _accumulate(
    total: Optional[Tensor], term: Tensor, probabilities: Optional[Tensor], index: int
) -> Tensor:
    """`total` + p_index `term`, in at least single precision; the same for forward and backward."""
    term = term.to(torch.promote_types(term.dtype, torch.float32))
    if probabilities is None:
        return term
    if total is None:
        return probabilities[index] * term
    return total.addcmul_(probabilities[index], term)


def _backward(
    candidate: nn.Module,
    output: Tensor,
    h: Tensor,
    grad: Tensor,
    context: Context,
    gradients: Gradients,
) -> Tensor:
    """Push `grad` (T, B, C) through one candidate's graph; returns the gradient of H."""
    others = [tensor for tensor in candidate.parameters() if tensor in gradients]
    if context.encoder_out is not None and context.encoder_out in gradients:
        others.append(context.encoder_out)
    grad_h, *grads = torch.autograd.grad(
        output, [h, *others], grad.to(output.dtype), allow_unused=True
    )
    for tensor, gradient in zip(others, grads):
        if gradient is not None:
            so_far = gradients[tensor]
            # Laid out as the weight is: otherwise autograd would copy it, and both would be held.
            gradients[tensor] = gradient.contiguous() if so_far is None else so_far.add_(gradient)
    return grad_h
