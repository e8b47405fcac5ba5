"""Cases of the oracle: every class of every model type with every configuration that applies to it."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.convert.architectures.spec import ArchitectureSpec, ClassSpec, load_spec
from equipoise.fixtures import models

FAMILIES = tuple(sorted(path.stem for path in models.CONFIGS.glob("*.toml")))
# The classes of one tower have model types of their own.
SPECS = {
    "clip": ("clip", "clip_text_model", "clip_vision_model"),
    "blip": ("blip", "blip_text_model", "blip_vision_model"),
    "groupvit": ("groupvit", "groupvit_text_model", "groupvit_vision_model"),
    "sam": ("sam", "sam_vision_model"),
}


@dataclass(frozen=True)
class Case:
    """One class with one configuration."""

    family: str
    config: str
    spec: ArchitectureSpec
    cls: ClassSpec

    @property
    def name(self) -> str:
        return f"{self.family}-{self.config}-{self.cls.name}"

    def shown(
        self, layout: str, how: str, *, error: float | None = None, reason: str = ""
    ) -> dict[str, object]:
        """Returns what a test found about this case, for docs/architectures.md."""
        found: dict[str, object] = {
            "type": self.spec.model_type,
            "class": self.cls.name,
            "config": self.config,
            "layout": layout,
            "name": self.cls.names[layout],
            "how": how,
        }
        if error is not None:
            found["error"] = float(f"{error:.1e}")
        return {**found, "reason": reason} if reason else found


def specs(family: str) -> list[ArchitectureSpec]:
    found = [load_spec(name) for name in SPECS.get(family, (family,))]
    return [spec for spec in found if spec is not None]


def cases() -> list[Case]:
    return [
        Case(family, config, spec, cls)
        for family in FAMILIES
        for config in models.config_names(family)
        for spec in specs(family)
        for cls in spec.classes.values()
        if _meant(models.about(family, config).get("classes"), cls)
    ]


def _meant(wanted: list[str] | None, cls: ClassSpec) -> bool:
    """Returns whether a configuration applies to a class."""
    plain = {name.removeprefix("TF").removeprefix("Flax") for name in cls.names.values()}
    return wanted is None or bool(plain & set(wanted))
