"""Versions in a stack file: what each of them is, what is refused, and what the checks of a preview see of them."""

from datetime import date
from typing import Any

import pytest

from infra import checks
from llm_serving.capacity import checks as capacity_checks
from llm_serving.capacity.cloud_facts import CloudFacts
from tests.unit.test_settings import MODEL, changed, loaded, problems

NAME = MODEL.partition(".")[2]
STABLE = {"weight": 90}
CANARY = {"weight": 10, "revision": "2"}


def versions(**given: dict[str, Any]) -> dict[str, Any]:
    return changed(f"{MODEL}.versions", given)


def test_a_version_has_what_its_model_has_but_for_its_own() -> None:
    model = loaded(versions(stable=STABLE, canary={**CANARY, "replicas": 1, "dtype": "float16"})).models[NAME]
    assert model.services(NAME) == {
        NAME: model.model_copy(update={"versions": {}}),
        f"{NAME}-canary": model.model_copy(
            update={"versions": {}, "revision": "2", "replicas": 1, "autoscaling": None, "dtype": "float16"}
        ),
    }
    assert model.version("canary").timeout_seconds == model.timeout_seconds


def test_a_version_is_scaled_as_it_says_or_else_as_its_model() -> None:
    limits = {"minReplicas": 1, "maxReplicas": 2}
    own = {"fixed": {"replicas": 1}, "scaled": {"autoscaling": limits}, "likewise": {}}
    shares = {name: {"revision": "2", "weight": 10, **each} for name, each in own.items()}
    model = loaded(versions(stable={"weight": 70}, **shares)).models[NAME]
    pods = {name: (each.least_replicas, each.most_replicas) for name, each in model.services(NAME).items()}
    assert pods == {NAME: (2, 3), f"{NAME}-fixed": (1, 1), f"{NAME}-scaled": (1, 2), f"{NAME}-likewise": (2, 3)}


def test_no_version_is_scaled_to_zero() -> None:
    to_zero = {"minReplicas": 0, "maxReplicas": 2}
    assert loaded(changed(f"{MODEL}.autoscaling", to_zero)).models[NAME].least_replicas == 0
    canary = {**CANARY, "autoscaling": to_zero}
    problem = "autoscaling.minReplicas: 0, and a model with versions is not scaled to zero; nearest valid value: 1"
    assert problems(versions(stable=STABLE, canary=canary)) == [f"llm-serving:{MODEL}.{problem}"]


def test_what_has_no_default_is_inherited_even_where_it_is_empty() -> None:
    settings = versions(stable=STABLE, canary={**CANARY, "pool": None, "dtype": None})
    settings["models"][NAME]["dtype"] = "float16"
    model = loaded(settings).models[NAME]
    assert (model.version("canary").pool, model.version("canary").dtype) == ("l4", None)
    assert model.version("stable").dtype == "float16"


def test_a_model_without_versions_is_one_service() -> None:
    model = loaded(changed(f"{MODEL}.versions", {})).models[NAME]
    assert model.services(NAME) == {NAME: model}


def test_versions_of_one_revision_share_no_answers() -> None:
    model = loaded(versions(stable={"weight": 50}, b={"weight": 30, "dtype": "float16"}, c={"weight": 20})).models[NAME]
    assert [model.cache_partition(name) for name in model.versions] == ["1", "1+b", "1+c"]
    model = loaded(versions(stable=STABLE, canary=CANARY)).models[NAME]
    assert [model.cache_partition(name) for name in model.versions] == ["1", "2"]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"stable": STABLE},
     "versions: weights sum to 90, not to 100 (stable 90); nearest valid value: stable 100"),
    ({"stable": {"weight": 95}, "canary": CANARY},
     ("versions: weights sum to 105, not to 100 (stable 95 + canary 10);"
      " nearest valid value: stable 90, canary 10")),
    ({"a": {"weight": 50}, "b": {"weight": 40}},
     "versions: weights sum to 90, not to 100 (a 50 + b 40); nearest valid value: a 60, b 40"),
    ({"stable": {"weight": 0}, "a": {"weight": 80}, "b": {"weight": 70}},
     ("versions: weights sum to 150, not to 100 (stable 0 + a 80 + b 70);"
      " nearest valid value: stable 0, a 80, b 20")),
    ({"canary": CANARY},
     ("versions: has a canary and no stable to compare it with and go back to;"
      " nearest valid value: canary 10, stable 90")),
    ({"canary": {"weight": 100}},
     ("versions: has a canary and no stable to compare it with and go back to;"
      " nearest valid value: canary 100, stable 0")),
    ({"next": {"weight": 100, "shadow": True}},
     "versions: weights sum to 0, not to 100 (none that isn't a shadow); nearest valid value: stable 100"),
    ({"stable": STABLE, "canary": {"weight": 101}},
     "versions.canary.weight: 101 is above 100; nearest valid value: 100"),
    ({"stable": STABLE, "canary": {"weight": 9.5}}, "versions.canary.weight: 9.5 is not a whole number"),
    ({"stable": STABLE, "canary": {}}, "versions.canary.weight: is missing; it has no default"),
    ({"stable": STABLE, "canary": {**CANARY, "timeoutSeconds": 1}},
     "versions.canary.timeoutSeconds: unknown key; nearest known key: maxInputTokens"),
    ({"stable": STABLE, "Canary": CANARY},
     ("versions.Canary: is no name of up to 40 lower-case letters, digits and dashes that begins with a letter;"
      " nearest valid value: canary")),
    ({"stable": STABLE, "canary": {**CANARY, "pool": "l40"}},
     "versions.canary.pool: 'l40' is no pool of cluster.gpuPools; nearest valid value: l4"),
    ({"stable": STABLE, "canary": {**CANARY, "maxTotalTokens": 1024}},
     ("versions.canary.maxTotalTokens: 1024 leaves no room for an answer after maxInputTokens 1024;"
      " nearest valid value: 1025")),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), BROKEN, ids=[message[:60] for _, message in BROKEN])
def test_broken(given: dict[str, Any], message: str) -> None:
    assert problems(changed(f"{MODEL}.versions", given)) == [f"llm-serving:{MODEL}.{message}"]


def test_a_service_whose_name_is_too_long() -> None:
    room = 51 - len(NAME) - 1
    assert loaded(versions(stable={"weight": 100}, **{"a" * room: {"weight": 0}}))
    long = "a" * (room + 1)
    assert problems(versions(stable={"weight": 100}, **{long: {"weight": 0}})) == [
        (
            f"llm-serving:{MODEL}.versions.{long}: its service {NAME}-{long} has a name of 52 characters, above 51;"
            f" nearest valid value: {'a' * room}"
        )
    ]


def test_a_service_that_is_another_models() -> None:
    settings = versions(stable=STABLE, canary=CANARY)
    settings["models"][f"{NAME}-canary"] = {**changed("protect", False)["models"][NAME]}
    assert problems(settings) == [
        (
            f"llm-serving:{MODEL}.versions.canary: its service {NAME}-canary would be that of models.{NAME}-canary too;"
            " nearest valid value: canary-2"
        )
    ]


def test_an_image_that_only_a_version_needs() -> None:
    (problem,) = problems(versions(stable=STABLE, canary={**CANARY, "runtime": "vllm"}))
    assert problem == (
        f"llm-serving:images.vllm: is missing, and vllm serves {NAME}-canary; nearest valid value: tag: 0.33.0"
    )


def found(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    stack = checks.stack_of(loaded(settings), "local")
    findings = capacity_checks.check(stack, today=date(2026, 11, 25), cloud=CloudFacts.unchecked("in a test"))
    return [(each.code, each.severity, each.setting) for each in findings if each.severity != "unchecked"]


def test_the_checks_see_every_version() -> None:
    stack = checks.stack_of(loaded(versions(stable=STABLE, canary={**CANARY, "replicas": 1})), "local")
    assert [(each.name, each.replicas, each.setting) for each in stack.services.values()] == [
        (NAME, 2, f"{MODEL}.versions.stable"),
        (f"{NAME}-canary", 1, f"{MODEL}.versions.canary"),
    ]
    assert {each.model.name for each in stack.services.values() if each.model} == {"SmolLM2-135M"}


def test_what_does_not_fit_is_said_of_the_version() -> None:
    crowded = versions(stable=STABLE, canary={**CANARY, "memoryMib": 999_999})
    assert f"{MODEL}.versions.canary.memoryMib" in {setting for _, _, setting in found(crowded)}
    assert f"{MODEL}.versions.stable.memoryMib" not in {setting for _, _, setting in found(crowded)}


def test_more_pods_than_nodes_counts_those_of_all_versions() -> None:
    fits = {setting for _, severity, setting in found(versions(stable=STABLE, canary={**CANARY, "replicas": 1}))
            if severity == "error"}  # fmt: skip
    too_many = {setting for _, severity, setting in found(versions(stable=STABLE, canary={**CANARY, "replicas": 2}))
                if severity == "error"}  # fmt: skip
    assert too_many - fits == {"cluster.gpuPools.l4.maxSize"}


def test_a_finding_is_accepted_for_all_versions_or_for_one() -> None:
    reason = "we have measured that this is enough"
    slow = {"timeoutSeconds": 1}
    bare = versions(stable=STABLE, canary=CANARY)
    bare["models"][NAME] |= slow
    codes = {code for code, _, setting in found(bare) if setting == f"{MODEL}.timeoutSeconds"}
    assert len([each for each in found(bare) if each[2] == f"{MODEL}.timeoutSeconds"]) == len(codes) == 1
    (code,) = codes
    accepted = versions(stable=STABLE, canary=CANARY)
    accepted["models"][NAME] |= {**slow, "allow": {code: reason}}
    assert not [each for each in found(accepted) if each[1] == "error" and each[0] in (code, "ALLOW_UNUSED")]
    unused = versions(stable=STABLE, canary={**CANARY, "allow": {"FIT_KV_POOL": reason}})
    assert ("ALLOW_UNUSED", f"{MODEL}.versions.canary.allow.FIT_KV_POOL") in {
        (code, setting) for code, _, setting in found(unused)
    }
