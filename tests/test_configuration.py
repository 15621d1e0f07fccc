"""YAML files that are not what they seem are told in a sentence."""

import pytest

from cr_interp.configuration import read_mapping
from cr_interp.errors import UserError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_mark_of_the_encoding_is_no_part_of_the_first_key(encoding, tmp_path):
    (tmp_path / "a.yaml").write_text("naïve: café 北京\n", encoding=encoding)
    assert read_mapping(tmp_path / "a.yaml") == {"naïve": "café 北京"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("name: café".encode("latin-1"), "not UTF-8: line 1 has the byte 0xe9"),
        (b"name: \x00", "zero byte"),
        (b"name: \x1b[31m", "not valid YAML"),
        (b"when: 2020-99-99", "not valid YAML"),
        (b"a: " + b"[" * 10_000, "not valid YAML"),
        (b"- a", "has to hold a mapping"),
    ],
)
def test_what_is_no_mapping_is_told(data, said, tmp_path):
    (tmp_path / "a.yaml").write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_mapping(tmp_path / "a.yaml")
