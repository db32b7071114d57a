"""The oracle of the baselines: plain float64 forward passes of whole prompts with plain hooks.

No prefix cache, no autograd, no code of the library but `keep_precision`.
"""

import torch

from hvp_patching.paths.precision import keep_precision

SITES = {
    "attn_heads": ("blocks.{}.attn.hook_z", -2),
    "mlp_pre": ("blocks.{}.mlp.hook_pre", -1),
    "mlp_post": ("blocks.{}.mlp.hook_post", -1),
    "mlp_out": ("blocks.{}.hook_mlp_out", None),
    "resid_post": ("blocks.{}.hook_resid_post", None),
}
FOIL = 23


def logprob(logits, targets):
    return torch.softmax(logits, -1)[:, targets].sum(-1).log()


def logit_gap(logits, targets):
    return logits[:, targets].logsumexp(-1) - logits[:, FOIL]


class Plain:
    """Runs of a prompt pair: ids of the base run and of the other, and what hooks see."""

    def __init__(self, model, pair, site, direction="noising", metric=logprob):
        sides = [torch.tensor([ids]) for ids in (pair.clean_ids, pair.corrupted_ids)]
        self.model, self.site, self.metric = model, site, metric
        self.ids, self.other = sides if direction == "noising" else sides[::-1]
        self.targets = list(pair.target_ids)
        self.layers = range(model.cfg.n_layers)
        self.pattern, self.axis = SITES[site]
        self.a, self.b = (self.read(ids, self.names) for ids in (self.ids, self.other))

    @property
    def names(self):
        return [self.pattern.format(layer) for layer in self.layers]

    def run(self, ids, hooks=()):
        """Float64 logits of the last position, [n_rows, vocabulary]."""
        with torch.no_grad(), keep_precision(torch.float64):
            logits = self.model.run_with_hooks(
                ids, fwd_hooks=list(hooks), return_type="logits", use_cache=False
            )
        return logits[:, -1]

    def read(self, ids, names, hooks=()):
        found = {}

        def keep(name):
            def hook(activation, hook):
                found[name] = activation.detach().clone()

            return (name, hook)

        self.run(ids, [*hooks, *map(keep, names)])
        return [found[name] for name in names]

    def m(self, hooks=(), rows=1):
        return self.metric(self.run(self.ids.expand(rows, -1), hooks), self.targets)

    def component(self, layer, index):
        """δ of one component, and zero elsewhere."""
        delta = self.b[layer] - self.a[layer]
        if self.axis is None:
            return delta
        out = torch.zeros_like(delta)
        out.select(self.axis, index).copy_(delta.select(self.axis, index))
        return out

    def slope(self, layer, index, hooks=(), position=None, h=1e-3):
        """Derivative along a component's path by differences of order h⁶."""
        steps = torch.tensor([1, -1, 2, -2, 3, -3], dtype=torch.float64) * h
        delta = self.component(layer, index)
        if position is not None:
            delta = delta * (torch.arange(delta.shape[1]) == position).view(
                1, -1, *[1] * (delta.ndim - 2)
            )
        shift = steps.view(-1, *[1] * (delta.ndim - 1)) * delta
        move = (self.names[layer], lambda activation, hook: activation + shift)
        one, two, three = (
            self.m([*hooks, move], len(steps)).view(3, 2)
            @ torch.tensor([1.0, -1.0], dtype=torch.float64)
        ).tolist()
        return (45 * one - 9 * two + three) / (60 * h)

    def some(self, per_layer=1):
        """Components of every layer whose activations change most."""
        found = []
        for layer, (a, b) in enumerate(zip(self.a, self.b, strict=True)):
            if self.axis is None:
                found.append((layer, 0))
                continue
            size = (b - a).square().movedim(self.axis, -1).flatten(0, -2).sum(0)
            found += [(layer, int(i)) for i in size.topk(per_layer).indices]
        return found


def at(scores, model, site, components):
    """Scores of some components, in the order of the site's."""
    per_layer = len(scores) // model.cfg.n_layers
    return torch.stack([scores[layer * per_layer + index] for layer, index in components])


def held(name, value):
    """A hook that puts a constant in the place of whatever comes."""
    return (name, lambda activation, hook: value.expand_as(activation))
