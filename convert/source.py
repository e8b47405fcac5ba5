"""The source of a plan: which tensor of the checkpoint serves which parameter."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.convert.account import Account
from equipoise.convert.architecture import Match, match
from equipoise.convert.checkpoint import Checkpoint
from equipoise.convert.expand import expand
from equipoise.convert.ops import Shape
from equipoise.convert.tensor import TensorRef


class Source:
    """A checkpoint, matched with its class.

    Args:
        checkpoint: The checkpoint.
        found: How its tensors fit.
    """

    def __init__(self, checkpoint: Checkpoint, found: Match) -> None:
        self.checkpoint = checkpoint
        self.match = found
        self.expansion = found.expansion
        self.refs: dict[str, TensorRef] = checkpoint.in_layout(found.layout)
        self.inverse = {name: rule.inverse for rule in found.view.rules for name in rule.sources}

    def ref(self, stored: str) -> TensorRef:
        """The tensor of a name that the layout stores."""
        return self.refs[self.match.stored[stored]]

    def origin(self, name: str) -> str | None:
        """The parameter whose stored tensor serves ``name``: itself, or the one it repeats; None to rebuild it."""
        if self.expansion.parameters[name].rebuilt:
            return None
        rule = self.inverse.get(name)
        if rule is not None and all(one in self.match.stored for one in rule.sources):
            return name
        view = self.match.view
        repeats = view.shared.get(name, view.repeated.get(name))
        return self.origin(repeats) if repeats is not None else None

    def stored_name(self, name: str) -> str | None:
        """The file's name of a parameter's own tensor, or None when it has none."""
        rule = self.inverse.get(name)
        if rule is None or rule.sources[0] not in self.match.stored:
            return None
        return self.ref(rule.sources[0]).name

    def identical(self, stored: str, twin: str | None) -> bool:
        """Whether two tensors of the files are the same bytes by construction."""
        if twin is None:
            return False
        first, second = self.checkpoint[stored].identity, self.checkpoint[twin].identity
        return stored == twin or (first is not None and first == second)

    def shapes(self, parameters: Sequence[str]) -> tuple[Shape, ...]:
        """The shapes of parameters, in PyTorch's axis order."""
        return tuple(self.expansion.parameters[name].shape for name in parameters)

    def check_names(self, account: Account) -> None:
        """Unknown and missing tensors of the source."""
        owners = self._owners()
        for name in self.match.unknown:
            spelled = self.refs[name].name
            if not account.allowed(spelled):
                account.problems.append(
                    f"{spelled!r} is unknown to {self.expansion.cls.name}{owners.get(name, '')}: leave it "
                    f"out with --allow '{spelled}=REASON', or name the right class with --architecture"
                )
        for name in self.match.missing:
            shape = self._stored_shape(name)
            account.problems.append(
                f"{name!r} {list(shape)} is missing: the checkpoint is incomplete, or the config "
                f"({self.checkpoint.config.file if self.checkpoint.config else 'none'}) is another model's"
            )

    def _owners(self) -> dict[str, str]:
        """Unknown names -> which other classes of the architecture know them."""
        spec, config = self.expansion.spec, self.expansion.config
        owners: dict[str, list[str]] = {name: [] for name in self.match.unknown}
        for cls in spec.classes.values() if owners else ():
            other = match(expand(spec, cls, config), self.match.layout, owners)
            for name in owners.keys() - set(other.unknown):
                owners[name].append(cls.name)
        return {
            name: f" (it belongs to {', '.join(found[:3])})"
            for name, found in owners.items()
            if found
        }

    def _stored_shape(self, stored: str) -> Shape:
        """The shape that the source layout should have under a stored name."""
        for rule in self.match.view.rules:
            if stored in rule.targets:
                shapes = rule.shapes(self.shapes(rule.sources))
                return shapes[rule.targets.index(stored)]
        raise KeyError(stored)

    def check_shapes(self, account: Account) -> None:
        """Tensors whose shape is not the config's."""
        for rule in self.match.view.rules:
            for stored, expected in zip(
                rule.targets, rule.shapes(self.shapes(rule.sources)), strict=True
            ):
                if stored not in self.match.stored:
                    continue
                ref = self.refs[self.match.stored[stored]]
                if ref.shape != expected:
                    account.problems.append(
                        f"{ref.name!r} has shape {list(ref.shape)}, the config says {list(expected)}: the "
                        "config is another model's, or was changed after saving"
                    )
