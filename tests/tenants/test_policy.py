"""What a policy allows, and that it is read as it was written."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.addresses import parse_address
from proxy.config.limits import parse_all
from proxy.errors import ProxyRefused, Reason
from proxy.store.database import StoreError
from proxy.tenants.policy import (
    UNRESTRICTED,
    Policy,
    StoredPolicy,
    check_models,
    read_limits,
    read_networks,
    read_texts,
    write_texts,
)


def refused(policy: Policy, model: str) -> str:
    with pytest.raises(ProxyRefused) as caught:
        policy.authorize_model(model, model)
    assert caught.value.reason is Reason.MODEL_NOT_ALLOWED
    return caught.value.message


@pytest.mark.parametrize("model", ["gemini-3.8-flash", "anything", ""])
def test_without_options_everything_is_allowed(model: str) -> None:
    UNRESTRICTED.authorize_model(model, model)


def test_who_may_use_an_alias_or_the_model_behind_it_may_ask_for_the_alias() -> None:
    """The operator set it. Project and key are each asked for themselves, and the refusal speaks of what was asked."""
    for project, key in ((("old",), ("new",)), (("new",), ("*",)), (("*",), ("o*",))):
        Policy(models=project, key_models=key).authorize_model("old", "new")
    with pytest.raises(ProxyRefused, match="This key may not use the model 'old', only other"):
        Policy(models=("new",), key_models=("other",)).authorize_model("old", "new")
    UNRESTRICTED.authorize_address(ip_address("192.0.2.1"))
    UNRESTRICTED.authorize_address(None)


def test_a_model_is_allowed_if_a_glob_of_the_project_and_one_of_the_key_match_it() -> None:
    policy = Policy(models=("gemini-*", "imagen-*"), key_models=("*-image", "*-image-*"))
    policy.authorize_model("gemini-3-pro-image", "gemini-3-pro-image")
    policy.authorize_model("gemini-3-pro-image-preview", "gemini-3-pro-image-preview")
    policy.authorize_model("imagen-image", "imagen-image")
    assert refused(policy, "veo-image").startswith(
        "This project may not use the model 'veo-image', only gemini-*, imagen-*."
    )
    assert refused(policy, "gemini-3.8-flash").startswith(
        "This key may not use the model 'gemini-3.8-flash', only *-image,"
    )


@pytest.mark.parametrize("model", ["Gemini-x", "xgemini-x", "gemini-", "gemini-x\n"])
def test_a_model_is_matched_whole_and_letter_for_letter(model: str) -> None:
    refused(Policy(models=("gemini-?",)), model)


@given(*[st.lists(st.sampled_from(["*", "old", "n*", "other"]), min_size=1, max_size=2)] * 2)
def test_what_is_offered_is_what_would_be_let_pass(project: list[str], key: list[str]) -> None:
    policy = Policy(models=tuple(project), key_models=tuple(key))
    try:
        policy.authorize_model("old", "new")
    except ProxyRefused:
        assert not policy.allows_model("old", "new")
    else:
        assert policy.allows_model("old", "new")


def test_a_refusal_repeats_no_endless_name_and_no_endless_list() -> None:
    message = refused(Policy(models=tuple(f"m{number}" for number in range(100))), "x" * 10_000)
    assert "only m0, m1, m2, m3, m4, …." in message
    assert len(message) < 400


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.0.0.1", "2001:db8::7", "192.0.2.7"])
def test_a_key_may_be_used_from_its_addresses(address: str) -> None:
    networks = ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32")
    Policy(addresses=tuple(map(ip_network, networks))).authorize_address(parse_address(address))


@pytest.mark.parametrize("address", ["11.0.0.1", "::1", "::ffff:11.0.0.1", "::10.0.0.1", "2001:db9::", "", "unix:"])
def test_a_key_may_not_be_used_from_elsewhere_nor_from_an_address_that_nobody_knows(address: str) -> None:
    policy = Policy(addresses=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
    with pytest.raises(ProxyRefused, match="This key may not be used from") as caught:
        policy.authorize_address(parse_address(address))
    assert caught.value.reason is Reason.ADDRESS_NOT_ALLOWED


def test_a_policy_is_read_as_it_was_written() -> None:
    limits, own = parse_all(["rpm=60", "ipm=5,model=*-image*"]), parse_all(["tpm=7,shadow"])
    stored = StoredPolicy(
        models=write_texts(["gemini-*"]),
        key_models=write_texts(["*"]),
        addresses=write_texts(["10.0.0.0/8"]),
        expires_at=5,
        project_limits=write_texts(limits),
        key_limits=write_texts(own),
    )
    assert stored.read() == Policy(("gemini-*",), ("*",), (ip_network("10.0.0.0/8"),), 5, limits, own)


@given(st.lists(st.text()))
def test_texts_are_read_as_they_were_written(texts: list[str]) -> None:
    assert read_texts(write_texts(texts)) == tuple(texts)


@pytest.mark.parametrize("column", ["", "x", "7", '["rps=5"]', '["rpm=5","rpm=5"]', "null"])
def test_a_column_that_this_program_never_wrote_is_an_error_of_the_store(column: str) -> None:
    for read in (read_limits, read_networks):
        with pytest.raises(StoreError, match="the database holds"):
            read(column)


@pytest.mark.parametrize(
    ("globs", "checked"), [(["a", "b", "a"], ("a", "b")), (["*"], ("*",)), (["a", "*"], ("*",)), (["**"], ("**",))]
)
def test_globs_are_kept_each_once_and_all_is_all(globs: list[str], checked: tuple[str, ...]) -> None:
    assert check_models(globs) == checked
