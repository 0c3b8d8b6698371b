"""The measured rows as a table for people, and as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import measuring
from bench.measuring import Cost, Ratios
from bench.rows import Row

_HEAD = f"{'work':36} {'goal':>5} {'ratio':>6} {'range':>13} {'met':>4} {'CPU ratio':>10}"
_SIDES = f"{'median s':>9} {'CPU s':>8} {'in children':>12} {'MiB':>6}"


@dataclass(frozen=True)
class Measured:
    """One row: what each round cost us and the peers, by name. A peer without costs was missing."""

    row: Row
    files: int
    bytes: int
    ours: Sequence[Cost]
    peers: Mapping[str, Sequence[Cost]]
    missing: Mapping[str, str]

    def ratios(self, peer: str) -> Ratios:
        return measuring.ratios([cost.seconds for cost in self.ours], [cost.seconds for cost in self.peers[peer]])

    def cpu_ratios(self, peer: str) -> Ratios:
        return measuring.ratios([cost.cpu for cost in self.ours], [cost.cpu for cost in self.peers[peer]])

    @property
    def met(self) -> bool | None:
        """Whether the goal against the first peer is met; None without that peer."""
        first = self.row.peers[0].name
        return self.ratios(first).median <= self.row.goal if first in self.peers else None

    def as_json(self) -> dict[str, Any]:
        sides = [
            {
                "name": side.name,
                "missing": self.missing.get(side.name, ""),
                **(self._compared(side.name) if side.name in self.peers else {}),
            }
            for side in self.row.peers
        ]
        told = {"name": self.row.name, "work": self.row.work, "files": self.files, "bytes": self.bytes}
        return {
            **told,
            "goal": self.row.goal,
            "met": self.met,
            "ours": measuring.as_json(self.ours),
            "peers": sides,
        }

    def _compared(self, peer: str) -> dict[str, Any]:
        ratio, cpu = self.ratios(peer).as_json(), self.cpu_ratios(peer).as_json()
        return {**measuring.as_json(self.peers[peer]), "ratio": ratio, "cpu_ratio": cpu}


def lines(measured: Measured) -> list[str]:
    """One row of the table: the goal, then each side."""
    said = [_line(measured)]
    said.append(f"    {'ours':36} {_costs(measured.ours)}")
    for number, side in enumerate(measured.row.peers):
        if side.name in measured.missing:
            said.append(f"    {side.name:36} left out: {measured.missing[side.name]} is not installed")
            continue
        also = "" if number == 0 else f"   ratio {_of(measured, side.name)}"
        said.append(f"    {side.name:36} {_costs(measured.peers[side.name])}{also}")
    return said


def head() -> list[str]:
    return [f"{_HEAD}", f"    {'side':36} {_SIDES}"]


def _line(measured: Measured) -> str:
    row, first = measured.row, measured.row.peers[0].name
    if measured.met is None:
        return f"{row.work:36} {row.goal:5.2f}      to"
    ratio, cpu = measured.ratios(first), measured.cpu_ratios(first)
    spread = f"{ratio.lowest:.2f} to {ratio.highest:.2f}"
    met = "yes" if measured.met else "no"
    return f"{row.work:36} {row.goal:5.2f} {ratio.median:6.2f} {spread:>13} {met:>4} {cpu.median:10.2f}"


def _of(measured: Measured, peer: str) -> str:
    return f"{measured.ratios(peer).median:.2f}, CPU {measured.cpu_ratios(peer).median:.2f}"


def _costs(costs: Sequence[Cost]) -> str:
    seconds, cpu, children = (
        statistics.median(values)
        for values in zip(*((cost.seconds, cost.cpu, cost.children_cpu) for cost in costs), strict=True)
    )
    return f"{seconds:9.3f} {cpu:8.3f} {children:12.3f} {max(cost.peak_mib for cost in costs):6}"
