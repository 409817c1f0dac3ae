"""The mixed operation of a node, and its backward, one candidate at a time.

While searching, with p = softmax(alpha) over the node's active candidate operations o (Liu et al.
2019, equation 2; mixture.py says which these are):

    G(H) = sum_o p_o o(H)

In the backward, the gradient g of G(H) is known before G is computed again. So each candidate is
evaluated, differentiated and freed before the next one:

    G += p_o o(H)        dL/dp_o = <g, o(H)>        dL/dH += (do/dH)^T p_o g

and the peak is the graph of one candidate, not of all. A node of a derived network, or one that is
not searched, has a single candidate and no p: G(H) = o(H).
"""

from dataclasses import replace
from typing import Dict, Optional, Sequence

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor, nn

from .context import Context, OperationSettings
from .mixture import NodeMixture
from .operations import build_operation

#: The gradients of one node, added to in place; a tensor that is no key needs none.
Gradients = Dict[Tensor, Optional[Tensor]]


class MixedOperation(nn.Module):
    """The node of a reversible layer: one or several candidate operations over the same H.

    Args:
        names: candidate operations, as in search_space.py; None for one that is not searched
        settings: the settings that they are built from
    """

    def __init__(self, names: Sequence[Optional[str]], settings: OperationSettings):
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
            mixture: the active candidates and their probabilities
        """
        context = self._with_dropout_mask(h, context)
        output = None
        for index in mixture.active:
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
    ) -> Tensor:
        """G(H) again, and the gradients through it.

        Args:
            h, context, mixture: as in the forward
            grad: (T, B, C), gradient of G(H)
            gradients: of H, p, the encoder's output and the weights, as far as they are keys;
                added to in place

        Returns:
            G(H) (T, B, C), equal to the forward's bit for bit
        """
        context = self._with_dropout_mask(h, context)
        output, probabilities = None, mixture.probabilities
        dots = [grad.new_zeros(())] * len(self.candidates)
        for index in mixture.active:
            candidate = self.candidates[index]
            tensors = (h, context.encoder_out, *candidate.parameters())
            wanted = [tensor for tensor in tensors if tensor in gradients]
            with torch.set_grad_enabled(bool(wanted)):
                candidate_output = candidate(h, context)
            term = candidate_output.detach().to(grad.dtype)
            if probabilities in gradients:
                dots[index] = torch.dot(grad.flatten(), term.flatten())
            output = _accumulate(output, term, probabilities, index)
            if candidate_output.requires_grad:  # zero's does not
                weighted = grad if probabilities is None else probabilities[index] * grad
                _backward(candidate_output, weighted, wanted, gradients)
            del candidate_output  # and with it this candidate's graph, before the next
        if probabilities in gradients:
            gradients[probabilities] = torch.stack(dots).to(probabilities.dtype)
        return output

    def _with_dropout_mask(self, h: Tensor, context: Context) -> Context:
        rate, always = self.dropout.p, self.dropout.apply_during_inference
        if rate == 0 or not (self.training or always):
            return context
        # In single precision whatever `h` is; on a CPU, faster than torch's dropout.
        kept = torch.rand(h.shape, device=h.device).ge_(rate)
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
    output: Tensor, grad: Tensor, tensors: Sequence[Tensor], gradients: Gradients
) -> None:
    """Push `grad` (T, B, C) through one candidate's graph; adds to the gradients of `tensors`."""
    found = torch.autograd.grad(output, tensors, grad.to(output.dtype), allow_unused=True)
    for tensor, gradient in zip(tensors, found):
        if gradient is not None:
            so_far = gradients[tensor]
            # Laid out as the weight is: otherwise autograd would copy it, and both would be held.
            gradients[tensor] = gradient.contiguous() if so_far is None else so_far.add_(gradient)
