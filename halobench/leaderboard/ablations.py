"""What a suite varies: its axes, and the series of rows that differ in nothing but their place on one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from halobench.leaderboard.ablation_facts import DATA_KEYS, Facts, as_text, model_sizes, row_facts, said
from halobench.leaderboard.contrasts import decodes
from halobench.leaderboard.cube import BoardRow, Setting

IMBALANCE = "imbalance"
MATCHED_UPDATES = "at matched updates"
# What may go with a place on an axis: settings tuned for it, weights that make up for it.
_COMPANIONS = ("optim.", "loss.lambda_")
_SAME_AMOUNT = 1.05


@dataclass(frozen=True)
class Axis:
    """Something that a suite varies.

    Attributes:
        name: in one word, for tables and files.
        title: with its unit, for figures.
        keys: of the facts that a place on it settles, a dot at the end for all that begin so.
        full: level with all the data, or none of the noise, among some; None where no level is special.
        whole: what that level is called.
        step: what a slope is per: a doubling, or a tenth of a share.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    full: Callable[[Sequence[float]], float | None] = lambda levels: None
    whole: str = ""
    step: Literal["doubling", "tenth"] = "doubling"

    @property
    def is_hyper(self) -> bool:
        """Whether it is a hyper-parameter, and not something about data or model."""
        return self.name.startswith(("loss.", "optim."))

    def level(self, facts: Facts) -> float | None:
        """The place of a row; None if it has none. An imbalance is D:U, with one of the labels kept whole."""
        if self.name == IMBALANCE:
            desirable, undesirable = (float(facts[key]) for key in DATA_KEYS[:2])
            return desirable / undesirable if max(desirable, undesirable) == 1 else None
        value = facts.get(self.name)
        if not isinstance(value, int | float) or (self.step == "doubling" and value <= 0):
            return None  # answers that were never paired have no pairs to count
        return float(value)

    def place(self, level: float) -> float:
        """The level for a slope per doubling; 2^(10 x) makes it one per tenth."""
        return level if self.step == "doubling" else float(2.0 ** (10 * level))

    def amount(self, facts: Facts) -> float | None:
        """Data at the row's place, in any unit; None where the axis does not change it."""
        if self.name == IMBALANCE:
            return float(facts[DATA_KEYS[0]]) * float(facts[DATA_KEYS[1]])
        return float(facts[self.name]) if self.name in ("fraction", "num_pairs") else None


def _at_one(levels: Sequence[float]) -> float | None:
    return 1.0 if 1.0 in levels else None


_AXES = (
    Axis(IMBALANCE, "D:U, desirable to undesirable examples kept (log)", DATA_KEYS[:2], _at_one, "1:1"),
    Axis("fraction", "share of the pairs (log)", ("fraction",), _at_one, "all pairs"),
    Axis("num_pairs", "pairs of the base selection (log)", ("num_pairs",), max, "all pairs"),
    Axis("label_noise", "share of the labels turned round", ("label_noise",), min, "no noise", "tenth"),
    Axis(
        "contradicting_share",
        "share of contradicting annotations",
        DATA_KEYS[3:],
        min,
        "no contradictions",
        "tenth",
    ),
    Axis("scale", "parameters of the model (log)", ("scale", "model.", "base", "sft_stage")),
)


@dataclass(frozen=True, eq=False)
class Member:
    """A row of one of the suite's boards.

    Attributes:
        row: its runs.
        facts: what can make it differ from others.
        values: of the metric, by seed (index) and prompt (columns).
        config_id: of the scorer that measured them.
    """

    row: BoardRow
    facts: Facts
    values: pd.DataFrame
    config_id: str

    @property
    def run_ids(self) -> frozenset[str]:
        """The runs behind it."""
        return frozenset(record.run_id for record in self.row.records.values())


@dataclass(frozen=True)
class Series:
    """A method at the places of an axis.

    Attributes:
        name: unique in its ablation.
        label: that it is styled by: of its rows, or the loss where these have several.
        control: whether all its rows are controls.
        members: level to row, by rising level; two at least.
    """

    name: str
    label: str
    control: bool
    members: dict[float, Member]


@dataclass(frozen=True)
class Ablation:
    """An axis of a suite, on its primary metric at one decode.

    Attributes:
        suite: its name.
        axis: what varies.
        metric: as scorer/metric.
        decode: how the texts were sampled.
        margin: of the board.
        series: at least one that is no control.
        controls: control rows that do not vary with the axis, by name.
        notes: what was left out, and why.
    """

    suite: str
    axis: Axis
    metric: str
    decode: str
    margin: float
    series: tuple[Series, ...]
    controls: dict[str, Member]
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> dict[str, Callable[[float], bool]]:
        """Parts of the axis that have a trend of their own: name to whether a level is on it."""
        if self.axis.name != IMBALANCE:
            return {self.axis.name: lambda level: True}
        return {"fewer desirable": lambda level: level <= 1, "fewer undesirable": lambda level: level >= 1}


def find_ablations(settings: Sequence[Setting]) -> list[Ablation]:
    """Find what a suite varies, at each co-primary decode.

    A series is made of rows that are the same method in the same setting but for their place on the axis; or
    that train for as many updates, at less data more often; or of which no two have the same place, and that
    differ in what may go with it (weights of the labels, the optimizer). Hyper-parameters are axes of a suite
    that has no other.

    Args:
        settings: all boards of the suite.
    """
    board = settings[0].board
    scorer, metric = board.metric.split("/")
    found = []
    for decode in dict.fromkeys(decode for setting in settings for decode in decodes(setting)):
        members, notes = _scored_alike(_members(settings, scorer, decode, metric), scorer)
        for axis in _axes(members):
            series = _series(members, axis)
            if any(not one.control for one in series):
                controls = _controls(members, axis)
                found.append(
                    Ablation(
                        settings[0].suite, axis, board.metric, decode, board.margin, series, controls, notes
                    )
                )
    return found


def _members(settings: Sequence[Setting], scorer: str, decode: str, metric: str) -> list[Member]:
    """Rows with values; a diverged seed has none, and one whose scores are missing counts as missing."""
    records = [row.any_record for setting in settings for row in setting.rows]
    sizes = model_sizes(records)
    found = []
    for setting in settings:
        for row in setting.rows:
            columns = {seed: setting.prompts(row, seed, scorer, decode, metric) for seed in row.completed}
            known = {seed: column for seed, column in columns.items() if column is not None}
            if known:
                facts = row_facts(row.any_record, sizes)
                config = setting.config_ids[row.name][scorer]
                found.append(Member(row, facts, pd.DataFrame(known).T.dropna(axis="columns"), config))
    return found


def _scored_alike(members: Sequence[Member], scorer: str) -> tuple[list[Member], tuple[str, ...]]:
    """Keep the rows that were scored as most were; others' numbers are not comparable."""
    configs = Counter(member.config_id for member in members)
    most = min(configs, key=lambda config: (-configs[config], config), default="")
    alike = [member for member in members if member.config_id == most]
    gone = len(members) - len(alike)
    return alike, (f"{gone} rows were scored otherwise by {scorer} and are left out",) if gone else ()


def _axes(members: Sequence[Member]) -> list[Axis]:
    """What the rows that are no controls differ in; hyper-parameters where it is nothing else."""
    rows = [member.facts for member in members if not member.row.control]

    def varies(axis: Axis) -> bool:
        return len({axis.level(facts) for facts in rows} - {None}) > 1

    found = [axis for axis in _AXES if varies(axis)]
    if found:
        return found
    keys = sorted({key for facts in rows for key in facts if key.startswith("loss.") or key == "optim.lr"})
    hyper = [Axis(key, f"{key.split('.')[1]} (log)", (key,)) for key in keys]
    return [
        axis for axis in hyper if varies(axis) and all(_is_positive(facts.get(axis.name)) for facts in rows)
    ]


def _is_positive(value: object) -> bool:
    """Whether a parameter has a logarithm; what a row has not, or is no number, does not matter."""
    return not isinstance(value, int | float) or value > 0


def _series(members: Sequence[Member], axis: Axis) -> tuple[Series, ...]:
    """The series of an axis; none is a part of another, or has the same runs at every place."""
    placed = [member for member in members if axis.level(member.facts) is not None]
    groups = [("", _by_level(rows, axis)) for rows in _grouped(placed, lambda key: _settled(axis, key))]
    for rows in _grouped(placed, lambda key: key == "passes" or _settled(axis, key)):
        groups += [(MATCHED_UPDATES, same) for same in _matched_updates(rows, axis)]
    groups = [(how, group) for how, group in groups if len(group) > 1]
    taken = {id(member) for _, group in groups for member in group.values()}
    known = {as_text(member.facts) for member in placed if id(member) in taken}
    left = [member for member in placed if as_text(member.facts) not in known]
    for rows in _grouped(left, lambda key: key.startswith(_COMPANIONS) or _settled(axis, key)):
        if 1 < len(_by_level(rows, axis)) == len(rows):
            groups.append(("", _by_level(rows, axis)))
    sets = [{id(member) for member in group.values()} for _, group in groups]
    whole = [pair for pair, mine in zip(groups, sets, strict=True) if not any(mine < other for other in sets)]
    return _named([(how, group) for how, group in whole if _num_methods(group.values()) > 1], axis)


def _num_methods(members: Iterable[Member]) -> int:
    return len({member.run_ids for member in members})


def _controls(members: Sequence[Member], axis: Axis) -> dict[str, Member]:
    """The control rows that stand for one thing, by name: those of a label that do not vary with the axis.

    A label that does is a series; or, where it repeats one (A/A), nothing new.
    """
    labelled: dict[str, list[Member]] = {}
    for member in sorted(members, key=lambda member: (member.row.name, sorted(member.run_ids))):
        if member.row.control:
            labelled.setdefault(member.row.label, []).append(member)
    found: dict[str, Member] = {}
    for same in labelled.values():
        if _num_methods(same) > 1 and len({axis.level(member.facts) for member in same}) > 1:
            continue
        distinct = {member.run_ids: member for member in same}
        names = Counter(member.row.name for member in distinct.values())
        for number, member in enumerate(distinct.values(), 1):
            name = member.row.name if names[member.row.name] == 1 else f"{member.row.name} {number}"
            found[name] = member
    return found


def _settled(axis: Axis, key: str) -> bool:
    return any(key == known or (known.endswith(".") and key.startswith(known)) for known in axis.keys)


def _grouped(members: Sequence[Member], ignored: Callable[[str], bool]) -> list[list[Member]]:
    """Members that agree in every fact but the ignored ones."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        rest = {key: value for key, value in member.facts.items() if not ignored(key)}
        groups.setdefault(as_text(rest), []).append(member)
    return list(groups.values())


def _by_level(members: Sequence[Member], axis: Axis) -> dict[float, Member]:
    """One member a level; of two that are the same method, the one with more seeds that is no control."""
    ranked = sorted(members, key=lambda member: (member.row.control, -len(member.values), member.row.name))
    found: dict[float, Member] = {}
    for member in ranked:
        level = axis.level(member.facts)
        if level is not None:
            found.setdefault(level, member)
    return dict(sorted(found.items()))


def _matched_updates(members: Sequence[Member], axis: Axis) -> list[dict[float, Member]]:
    """Members whose passes make up for the data that they lack: as many examples seen in all."""
    seen: list[tuple[float, Member]] = []
    for member in members:
        amount = axis.amount(member.facts)
        if amount is not None and "passes" in member.facts:
            seen.append((amount * member.facts["passes"], member))
    groups: list[list[tuple[float, Member]]] = []
    for total, member in sorted(seen, key=lambda pair: pair[0]):
        if groups and total <= groups[-1][0][0] * _SAME_AMOUNT:
            groups[-1].append((total, member))
        else:
            groups.append([(total, member)])
    found = [_by_level([member for _, member in group], axis) for group in groups]
    return [
        group
        for group in found
        if len(group) > 1 and len({member.facts["passes"] for member in group.values()}) > 1
    ]


def _named(groups: Sequence[tuple[str, dict[float, Member]]], axis: Axis) -> tuple[Series, ...]:
    """Name series by their label, and what they differ in where several share one."""
    labels = [_label(group) for _, group in groups]
    names = []
    for label, (how, group) in zip(labels, groups, strict=True):
        namesakes = [
            other for other_label, (_, other) in zip(labels, groups, strict=True) if other_label == label
        ]
        differing = _differences(group, namesakes, axis)
        names.append(" ".join(part for part in (label, how, f"({differing})" if differing else "") if part))
    series = [
        Series(name, label, all(member.row.control for member in group.values()), group)
        for name, label, (_, group) in zip(names, labels, groups, strict=True)
    ]
    return tuple(sorted(series, key=lambda one: (one.control, one.name)))


def _label(group: Mapping[float, Member]) -> str:
    own = [member for member in group.values() if not member.row.control] or list(group.values())
    labels = {member.row.label for member in own}
    return labels.pop() if len(labels) == 1 else own[0].row.loss


def _differences(
    group: Mapping[float, Member], namesakes: Sequence[Mapping[float, Member]], axis: Axis
) -> str:
    """The facts that are settled in each of the namesakes and not the same in all, in words."""
    settled = [_constant(other) for other in namesakes]
    mine = _constant(group)
    keys = sorted({key for other in settled for key in other if not (_settled(axis, key) or key == "passes")})
    apart = [key for key in keys if len({str(other.get(key)) for other in settled}) > 1]
    return ", ".join(said(key, mine.get(key)) for key in apart)


def _constant(group: Mapping[float, Member]) -> dict[str, Any]:
    facts = [member.facts for member in group.values()]
    return {key: facts[0][key] for key in facts[0] if len({str(other.get(key)) for other in facts}) == 1}
