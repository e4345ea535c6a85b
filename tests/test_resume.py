"""Facts stored with results: options that must be the same, weights that must be the same."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from depthaware.media.resume import check_same_options
from depthaware.pretrained.fingerprint import fingerprint

values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()).map(tuple)
names = st.from_regex(r"[a-z_]+", fullmatch=True)
options = st.dictionaries(names, values)
few = settings(max_examples=50, deadline=None, derandomize=True)


@given(options, options)
@few
def test_the_same_options_pass_whatever_else_is_stored(stored, others):
    as_json = {key: list(value) if isinstance(value, tuple) else value for key, value in stored.items()}
    check_same_options("x", others | as_json, stored)


@given(options, names, values, values)
@few
def test_any_other_value_is_refused(stored, key, before, now):
    if before != now and not (before in (0, 1) and now in (0, 1)):
        with pytest.raises(ValueError, match=rf"^x: was created with {key}=.*, got {key}=.*; ") as caught:
            check_same_options("x", stored | {key: before}, stored | {key: now})
        assert str(caught.value).isprintable()  # in one line, whatever the value


@pytest.mark.parametrize(
    "before, now, flags, message",
    [
        ({"batch_size": 2}, {"batch_size": 3}, True, "r: was created with --batch-size 2, got --batch-size 3;"),
        ({"batch_size": 2}, {"batch_size": 3}, False, "r: was created with batch_size=2, got batch_size=3;"),
        ({}, {"limit": None}, False, "r: was created with limit=nothing, got limit=null;"),
        ({"x": "a" * 64}, {"x": "b" * 64}, False, "r: was created with x=aaaaaaaaaaaa..., got x=bbbbbbbbbbbb...;"),
    ],
)
def test_the_error_names_the_option_and_both_values(before, now, flags, message):
    with pytest.raises(ValueError) as caught:
        check_same_options("r", before, now, flags=flags)
    assert str(caught.value) == f"{message} resume with the same options or choose another output"


def test_the_fingerprint_is_that_of_names_and_bytes():
    """Worked out by hand, since stored retrofits name their networks by it."""
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0]]))
        net.bias.zero_()
    content = b"weight" + b"\x00\x00\x80\x3f\x00\x00\x00\x40" + b"bias" + b"\x00" * 4
    assert fingerprint(net) == hashlib.sha256(content).hexdigest()


def test_every_weight_statistic_and_option_changes_the_fingerprint():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    found = {fingerprint(net), fingerprint(net, {}), fingerprint(net, {"a": 1}), fingerprint(net, {"a": 2})}
    for tensor in net.state_dict().values():
        tensor += 1
        found.add(fingerprint(net))
    assert len(found) == 4 + len(net.state_dict())
    assert fingerprint(net, {"a": 1, "b": 2}) == fingerprint(net, {"b": 2, "a": 1})
