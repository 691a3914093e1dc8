"""The measured command line is read exactly or not at all."""

from __future__ import annotations

import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.attester.cmdline import DiskOrder, NetOrder, Orders, RootOrder, ServiceAddress, parse_orders, split_words
from attest.attester.errors import CommandLineMalformed
from policy.vocab import ResourcePath

DER = b"\x30\x82\x01\x00" + bytes(256)
CA = b64encode(DER).decode()
SERVICE = f"cvm.service=https://10.0.2.2:8443 cvm.ca={CA}"


def test_every_word_together() -> None:
    line = (
        f"console=ttyS0 {SERVICE} cvm.disk=root:default/demo/root cvm.disk=data:default/demo/data"
        " cvm.net=10.0.2.15/24,10.0.2.2 cvm.run=/bin/hello cvm.evidence=emulated cvm.poweroff=1\n"
    )
    assert parse_orders(line) == Orders(
        service=ServiceAddress("10.0.2.2", 8443),
        ca=DER,
        disks=(
            DiskOrder("root", ResourcePath("default/demo/root")),
            DiskOrder("data", ResourcePath("default/demo/data")),
        ),
        net=NetOrder("10.0.2.15", 24, "10.0.2.2"),
        run="/bin/hello",
        emulated=True,
        poweroff=True,
    )


def test_a_root_file_system_needs_no_service_and_may_hold_the_payload() -> None:
    found = parse_orders(f"cvm.root=root:4294967296:{'0a' * 32} cvm.run=/bin/hello")
    assert (found.root, found.run) == (RootOrder("root", 1 << 32, "0a" * 32), "/bin/hello")


def test_operators_are_keys_of_32_bytes() -> None:
    line = f"{SERVICE} cvm.exec={'A' * 43},{'_' * 42}8"
    assert parse_orders(line).operators == (bytes(32), b"\xff" * 31 + b"\xff")


def test_a_name_server_may_follow_the_gateway() -> None:
    assert parse_orders("cvm.net=10.0.2.15/24,10.0.2.2,10.0.2.3").net == NetOrder(
        "10.0.2.15", 24, "10.0.2.2", "10.0.2.3"
    )


def test_a_line_without_our_words_orders_nothing() -> None:
    assert parse_orders("BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n") == Orders()


@pytest.mark.parametrize("der", [b"\x30\x81\xc8" + bytes(200), b"\x30\x82\x02\x00" + bytes(512)])
def test_a_small_or_a_large_certificate_may_be_pinned(der: bytes) -> None:
    assert parse_orders(f"cvm.service=https://h cvm.ca={b64encode(der).decode()}").ca == der


def test_hardware_is_asked_unless_the_line_says_emulated() -> None:
    assert parse_orders(SERVICE).emulated is False


def test_init_data_is_demanded_by_one_word() -> None:
    assert parse_orders(SERVICE).init_data is False
    assert parse_orders(f"{SERVICE} cvm.initdata=required").init_data is True


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://kbs.example", ServiceAddress("kbs.example", 443)),
        ("https://kbs.example/", ServiceAddress("kbs.example", 443)),
        ("https://[fd00::1]:8443", ServiceAddress("fd00::1", 8443)),
    ],
)
def test_a_service_address_is_host_and_port(url: str, address: ServiceAddress) -> None:
    assert parse_orders(f"cvm.service={url} cvm.ca={CA}").service == address


WRONG = [
    ("init-data by another word", f"{SERVICE} cvm.initdata=1", "cvm.initdata: '1', want 'required'"),
    ("init-data for nobody", "cvm.initdata=required", "cvm.initdata needs cvm.service"),
    ("plain http", f"cvm.service=http://10.0.2.2 cvm.ca={CA}", "want https://"),
    ("a path in the service", f"cvm.service=https://h/kbs cvm.ca={CA}", "want https://"),
    ("a user in the service", f"cvm.service=https://u@h cvm.ca={CA}", "want https://"),
    ("port zero", f"cvm.service=https://h:0 cvm.ca={CA}", "want https://"),
    ("port 65536", f"cvm.service=https://h:65536 cvm.ca={CA}", "want https://"),
    ("no CA", "cvm.service=https://h", "come together"),
    ("a CA without a service", f"cvm.ca={CA}", "come together"),
    ("a CA that is not base64", "cvm.service=https://h cvm.ca=%%%", "not base64"),
    ("a CA that is not DER", "cvm.service=https://h cvm.ca=AAAA", "not one DER"),
    ("a CA with bytes after it", f"cvm.service=https://h cvm.ca={b64encode(DER + b'x').decode()}", "not one DER"),
    ("a word twice", f"{SERVICE} cvm.evidence=emulated cvm.evidence=emulated", "stands 2 times"),
    ("an unknown word", "cvm.debug=1", "no word of this agent"),
    ("a misspelt word", "cvm.evidense=emulated", "no word of this agent"),
    ("a capital letter", "cvm.Evidence=emulated", "no word of this agent"),
    ("a word without a value", "cvm.poweroff", "no word of this agent"),
    ("an empty value", "cvm.poweroff=", "no word of this agent"),
    ("another kind of evidence", f"{SERVICE} cvm.evidence=hardware", "want 'emulated'"),
    ("a quoted word", f'{SERVICE} "cvm.evidence=emulated"', "no word of this agent"),
    ("a quote never closed", 'a="b cvm.poweroff=1', "never closed"),
    ("a disk without a service", "cvm.disk=root:a/b/c", "needs cvm.service"),
    ("a disk without a resource", f"{SERVICE} cvm.disk=root", "want name:"),
    ("a disk name longer than a virtio serial", f"{SERVICE} cvm.disk={'a' * 21}:a/b/c", "want name:"),
    ("a disk called control, which device-mapper uses", f"{SERVICE} cvm.disk=control:a/b/c", "want name:"),
    ("a disk name that climbs", f"{SERVICE} cvm.disk=../x:a/b/c", "want name:"),
    ("a resource that climbs", f"{SERVICE} cvm.disk=root:a/../c", "want repository"),
    ("one disk name twice", f"{SERVICE} cvm.disk=root:a/b/c cvm.disk=root:a/b/d", "its own name"),
    ("a payload without a disk", f"{SERVICE} cvm.run=/x", "there is neither"),
    ("a root without a hash", "cvm.root=root:2", "want name:blocks:hash"),
    ("a root with a short hash", f"cvm.root=root:2:{'a' * 63}", "want name:blocks:hash"),
    ("a root with a hash in capitals", f"cvm.root=root:2:{'A' * 64}", "want name:blocks:hash"),
    ("a root of one block", f"cvm.root=root:1:{'a' * 64}", "want name:blocks:hash"),
    ("a root with more blocks than there can be", f"cvm.root=root:4294967297:{'a' * 64}", "want name:blocks:hash"),
    ("a root whose name climbs", f"cvm.root=../x:2:{'a' * 64}", "want name:blocks:hash"),
    ("two roots", f"cvm.root=a:2:{'a' * 64} cvm.root=b:2:{'a' * 64}", "stands 2 times"),
    ("a root with a disk's name", f"{SERVICE} cvm.disk=r:a/b/c cvm.root=r:2:{'a' * 64}", "both named r"),
    ("a relative payload", f"{SERVICE} cvm.disk=root:a/b/c cvm.run=x", "absolute path"),
    ("a payload that climbs", f"{SERVICE} cvm.disk=root:a/b/c cvm.run=/a/../../x", "absolute path"),
    ("a net without a gateway", "cvm.net=10.0.2.15/24", "want address/prefix,gateway"),
    ("a net with a large octet", "cvm.net=10.0.2.256/24,10.0.2.2", "want address/prefix,gateway"),
    ("a net with an octal octet", "cvm.net=10.0.2.015/24,10.0.2.2", "want address/prefix,gateway"),
    ("a net with three octets", "cvm.net=10.0.2/24,10.0.2.2", "want address/prefix,gateway"),
    ("a net with four addresses", "cvm.net=10.0.2.15/24,10.0.2.2,10.0.2.3,10.0.2.4", "want address/prefix,gateway"),
    ("a prefix of 31", "cvm.net=10.0.2.15/31,10.0.2.2", "want 8 to 30"),
    ("commands without a service", f"cvm.exec={'A' * 43}", "cvm.exec needs cvm.service"),
    *(
        (f"commands beside a program's own {part}", f"{SERVICE} cvm.exec={'A' * 43} cvm.api={part}", "as this guest")
        for part in ("token", "evidence", "resource,token")
    ),
    ("an operator's key that is short", f"cvm.exec={'A' * 42}", "want base64url of a 32-byte Ed25519"),
    ("an operator's key twice", f"cvm.exec={'A' * 43},{'A' * 43}", "each once"),
    ("a power-off that is yes", "cvm.poweroff=yes", "want 0 or 1"),
    ("a line as long as the kernel keeps", "x=" + "a" * 2045, "the kernel cuts"),
]


@pytest.mark.parametrize(("line", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_word_stops_the_boot_and_is_named(line: str, said: str) -> None:
    with pytest.raises(CommandLineMalformed, match=re.escape(said)):
        parse_orders(line)


def test_words_end_at_white_space_outside_quotes_as_in_the_kernel() -> None:
    assert split_words('a  b="c d"\te\n') == ["a", 'b="c d"', "e"]


@given(st.text(max_size=200))
def test_any_text_gives_orders_or_our_error(text: str) -> None:
    try:
        assert isinstance(parse_orders(text), Orders)
    except CommandLineMalformed:
        pass


@given(st.lists(st.from_regex(r"cvm\.(disk|net|run|ca|service|evidence|poweroff)=[!-~]{0,30}", fullmatch=True)))
def test_any_of_our_words_with_any_value_gives_orders_or_our_error(words: list[str]) -> None:
    try:
        assert isinstance(parse_orders(" ".join(words)), Orders)
    except CommandLineMalformed:
        pass
