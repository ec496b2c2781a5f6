"""XML documents, edited in place."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.rewriting.xml import Element, Unreadable, loads, walk

NEW = Element("capabilities", {"policy": "deny"}, (Element("chown", {"state": "on"}), Element("n", text="a<&'b")))

STYLES = [
    b"<domain type='lxc'><features/></domain>",
    b'<?xml version="1.0" encoding="utf-8"?>\r\n<domain type="lxc">\r\n  <features>\r\n  </features>\r\n</domain>\r\n',
    b"<!-- <features> -->\n<domain>\n\t<!-- mine -->\n\t<features ><acpi/><!-- x --></features>\n</domain>\n",
    b"<domain a='>'>\n    <features>\n        <acpi />\n        <!-- last -->\n    </features>\n</domain>",
    "<domain><t>é<![CDATA[<features>]]></t><features></features></domain>\n".encode(),
    b"<domain>\n  <features><capabilities policy='allow'><kill state='off'/></capabilities></features>\n</domain>\n",
]


@pytest.mark.parametrize("data", STYLES)
def test_an_element_is_put_in_and_the_rest_stays(data: bytes) -> None:
    document = loads(data)
    parent = document.root.one("features")
    assert parent is not None
    made = document.put(parent, NEW, parent.one("capabilities"))
    (put,) = [node for node in walk(made.root) if node.name == "capabilities"]
    assert put.says(NEW)
    parent = made.root.one("features")
    assert parent is not None
    assert made.put(parent, NEW, parent.one("capabilities")) is made
    read = ElementTree.fromstring(made.data)
    assert read.find("features/capabilities/n").text == "a<&'b"  # type: ignore[union-attr]
    if b"policy='allow'" not in data and b"<features/>" not in data and b"features>\r" not in data:
        start = made.data.index(b"<capabilities")
        kept = made.data[:start].rstrip(), made.data[made.data.index(b"</capabilities>") + 15 :].lstrip()
        assert data.startswith(kept[0])
        assert data.endswith(kept[1])


def test_layout() -> None:
    document = loads(b"<domain>\n\t<devices>\n\t\t<a/>\n\t</devices>\n</domain>\n")
    devices = document.root.one("devices")
    assert devices is not None
    made = document.put(devices, Element("b", {}, (Element("c", text="x"),)))
    assert made.data == (
        b"<domain>\n\t<devices>\n\t\t<a/>\n\t\t<b>\n\t\t\t<c>x</c>\n\t\t</b>\n\t</devices>\n</domain>\n"
    )
    first = made.root.one("devices", "a")
    assert first is not None
    assert made.before(first, Element("z")).data.startswith(b"<domain>\n\t<devices>\n\t\t<z/>\n\t\t<a/>")
    assert made.remove(first).data.startswith(b"<domain>\n\t<devices>\n\t\t<b>")


@given(
    st.recursive(
        st.sampled_from([b"<a/>", b"<b x='>'></b>", b"<!-- > -->", b"t&amp;", b"\n  ", b"<![CDATA[<a>]]>"]),
        lambda inner: st.lists(inner, max_size=4).map(lambda parts: b"<c>" + b"".join(parts) + b"</c >"),
        max_leaves=20,
    )
)
def test_places(inner: bytes) -> None:
    """Every element stands where it is said to, and can be taken out."""
    document = loads(b"<r>" + inner + b"</r>")
    for node in walk(document.root):
        part = document.data[node.start : node.end]
        assert loads(part).root.name == node.name
        if node.parent is not None:
            left = document.remove(node)
            assert len(list(walk(left.root))) == len(list(walk(document.root))) - len(list(walk(node)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<!DOCTYPE a [<!ENTITY b 'c'><!ENTITY d '&b;&b;'>]><a>&d;</a>", "DOCTYPE"),
        (b"<a>", "line 1: no element found"),
        (b"", "no element found"),
        (b"<a/><b/>", "junk"),
        (b"<?xml version='1.0' encoding='iso-8859-1'?><a/>", "save it as UTF-8"),
        ("<a/>".encode("utf-16"), "not UTF-8"),
        (b"<a>" * 300 + b"</a>" * 300, "nested too deeply"),
        (b"<a>\xff</a>", "line 1"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        loads(data)


def test_two_of_one_name() -> None:
    with pytest.raises(Unreadable, match="several elements b in a"):
        loads(b"<a><b/><b/></a>").root.one("b")
