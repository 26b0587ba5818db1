"""The Hub's identifiers of licences, and whether a spec names licences by them.

The list is that of https://huggingface.co/docs/hub/repositories-licenses: its client has none.
"""

import difflib
from collections.abc import Mapping

from factory.spec import PublishSpec, RealConfig, SpecError

_LISTED = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0
epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl
gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0
lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa
odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql
unlicense wtfpl zlib
"""
LICENCES = frozenset(_LISTED.split())
"""Without `unknown`, which is none."""


def check_licences(spec: PublishSpec) -> None:
    """Refuse licences that the Hub does not know.

    Raises:
        SpecError: naming all of them by field, each with the nearest identifier.
    """
    given = _given(spec)
    wrong = [f"{field}: {_unknown(name)}" for field, name in given.items() if name not in LICENCES]
    if wrong:
        raise SpecError(
            f"{'; '.join(wrong)}; give an identifier of the Hub "
            "(https://huggingface.co/docs/hub/repositories-licenses), or for the images "
            "licence=other with licence_name and licence_link"
        )


def _given(spec: PublishSpec) -> Mapping[str, str]:
    fields = {name: getattr(spec, name) for name in ("licence", "model_licence", "source_licence")}
    real = {
        f"more.{name}.licence": config.licence
        for name, config in spec.more.items()
        if isinstance(config, RealConfig)
    }
    return {field: name for field, name in (fields | real).items() if name is not None}


def _unknown(name: str) -> str:
    if name == "unknown":
        return "'unknown' names no licence"
    near = difflib.get_close_matches(name.lower(), sorted(LICENCES), n=1, cutoff=0.5)
    return f"{name!r} is no licence of the Hub" + (f", did you mean {near[0]!r}?" if near else "")
