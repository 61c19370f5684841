"""PKU-SafeRLHF with the safer answer preferred, and not the more helpful one."""

from __future__ import annotations

from typing import ClassVar

from halobench.data.sources.safe_rlhf import SafeRLHF
from halobench.registry import SOURCES


@SOURCES.register("safe_rlhf_harmless", source="Ji et al. 2024, arXiv:2406.15513")
class SafeRLHFHarmless(SafeRLHF):
    """PKU-SafeRLHF, the safer answer preferred; safe_rlhf prefers the more helpful one."""

    judged_by: ClassVar[str] = "safer_response_id"
