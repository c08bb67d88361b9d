#!/usr/bin/env python3
"""Long inputs for the targets that run histories, since libFuzzer grows its own slowly; and inputs that mean something for
those that read a format.

Always the same bytes. Run it in this folder after a change of what an input means.
"""
import pathlib
import random

CORPUS = pathlib.Path("corpus")

for target, lengths in {
    "index_ops": [160, 240, 320, 400, 480, 640],
    "ledger_ops": [80, 160, 240, 320],
    "codec": [24, 48, 64],
    "segment_open": [64, 128, 200],
    "segment_narrow": [20, 40, 64, 128],
    "segment_roundtrip": [100, 300, 600],
}.items():
    for i, length in enumerate(lengths):
        data = random.Random(f"{target} {i}").randbytes(length)
        (CORPUS / target).mkdir(exist_ok=True)
        (CORPUS / target / f"history-{i}").write_bytes(data)


def seed(target, name, *parts):
    folder = CORPUS / target
    folder.mkdir(exist_ok=True)
    (folder / f"seed-{name}").write_bytes(b"".join(parts))


# The length of a block less one, the longest row (2 bytes), the file.
PLAIN = b"phone,account,opt_ins,version\n+14155550100,42,search|payments,7\n+4930123456,43,,8\n"
HASHED = b"version,note,phone_hash,account,opt_ins\n1,x," + b"ab" * 32 + b",00000000-0000-0000-0000-00000000002a,mutual\n"
FEED = b"op,phone,account,opt_ins,version\r\nput,+14155550100,1,search,1\r\nremove,+14155550100,1,,2\r\nset-opt-ins,+14155550100,1,host-1,3"
QUOTED = b'"phone","account","opt_ins","version"\n"+1 415 555 0100","1","sea""rch","2"\n\n"+1\n",2,,3\n'
MARKED = b'\xef\xbb\xbf"phone\n",b\n\xef\xbb\xbf1,2\n'
for name, file in {"plain": PLAIN, "hashed": HASHED, "feed": FEED, "quoted": QUOTED, "marked": MARKED}.items():
    for block in [0, 6, 255]:
        seed("csv_import", f"{name}-{block}", bytes([block, 255, 255]), file)
# Rows that an import packs into one block: of one first byte of the hash, with accounts of 8 bytes, and with some of 16.
COLUMNS = b"phone_hash,account,opt_ins,version\n"
UUID = b"0000002a-0000-0000-0000-00000000002a"
for name, accounts in {"numbers": [b"7", b"42", b"8", b"9"], "uuids": [b"7", UUID, b"8"]}.items():
    rows = (b"ab%02x" % (99 * i) + b"0c" * 30 + b"," + account + b",search,%d\n" % 300**i for i, account in enumerate(accounts))
    seed("csv_import", f"packed-{name}", bytes([200, 255, 255]), COLUMNS, *rows)
seed("csv_import", "long", bytes([4, 30, 0]), PLAIN)
seed("csv_import", "endless", bytes([4, 9, 0]), b'a,b\n1,"2,3\n,,,,,,,,,,')

# A row of each kind, as docs/FORMAT.md has them: those of index.redb, then those of ledger.redb, then those of nodes.
ID = bytes(range(16))
WORD = b"\xfd" + bytes(range(1, 9))
QUOTAS = b"\x03" + b"".join(bytes([len(s)]) + s + b"\xfb\xf4\x01" + WORD for s in (b"caller", b"network", b"everyone"))
ROWS = [
    b"\0" + 3 * ID + b"\x02\x05\x03\x09" + b"\x01\x03abc",
    b"\0\x07",
    b"\0" + WORD + b"\x04\xfb\x00\x50\xfb\x10\x10",
    b"\0\x01" + 2 * ID + WORD + b"\x01" + 2 * ID + WORD + b"\x80\xfc\x01\x02\x03\x04",
    b"\0\x03\xfb\x00\x10",
    b"\0" + 2 * ID + b"\x02\x05\x03" + QUOTAS + b"\x01" + WORD + WORD,
    b"\0" + WORD + b"\x02",
    b"\0" + WORD + b"\x01" + QUOTAS,
    b"\0\x06caller\x01" + WORD + b"\x05abuse\x01\xfb\xf4\x01" + WORD + b"\x32" + WORD + b"\x64",
    b"\0\x1f\x02\x05\x00\x10\x20\x30\x40",
    bytes.fromhex("0002fb3201fb3101fb2f01020100fd804c8deea1010000fb2c01000000"),
    b"\0\x01\x02\x03\x04\x05\x06",
    b"\0" + ID + b"\x05",
    b"\0\x01a\x00\x03\x00\x00\xfb\x00\x40\x03\xfb\x00\x80\x00",
]
for kind, row in enumerate(ROWS):
    seed("rows", str(kind), bytes([kind]), row)
    seed("rows", f"{kind}-cut", bytes([kind]), row[: len(row) // 2])
    seed("rows", f"{kind}-claim", bytes([kind]), row[:2], b"\xfd" + b"\xff" * 8, row[3:])


def frame(accounts, origins):
    head = accounts.to_bytes(4, "little") + bytes([origins, 3, 0, 0]) + WORD[1:] + bytes(8) + ID
    return head + bytes(range(16)) * (origins + accounts) + bytes(8)


def words(*numbers):
    return b"".join(number.to_bytes(8, "little") for number in numbers)


VERSION_1 = (1).to_bytes(4, "little")
# The kind, then what a tag or a checksum covers.
RECORD = b"UNLSTOWN" + VERSION_1 + ID + words(7) + b"\x02\x00" + b"\x00\x00\x01a" + b"\x00\x80\x01b"
TICKET = (
    b"UNLSTTKT" + VERSION_1 + b"\x01\x00\x01\x01" + ID + words(7, 1_000, 2_000) + ID + ID + words(3) + ID * 5
)
LINKED = b"\x00\x00\x00\x00" + ID + ID + b"\x02\x00\x00\x00" * 2 + b"\x01\x00\x00\x00" + bytes(4)
LINKED += b"\x01\x00\x00\x00" + ID + b"\x02\x00\x00\x00" + ID + b"\x03\x00\x00\x00"
COUNTED = b"\x02\x00\x00\x00" + ID + ID + b"\x01\x00\x00\x00" * 2 + bytes(8) + ID
RANGE = b"UNLSTRNG" + VERSION_1 + ID + ID + bytes(4) + (0x8000).to_bytes(4, "little") + words(1) + b"\x01\x02\x00ab"
RANGE += VERSION_1 + words(0) + b"\x02" + ID + words(5, 8_192, 9) + ID
RANGE += words(1) + ID + ID + words(0x0301) + b"\x80" + words(0)
ANSWER = b"UNLSTANS" + VERSION_1
for kind, body in enumerate([RECORD, TICKET, ANSWER + LINKED, RANGE, b"", b"", ANSWER + COUNTED]):
    if body:
        seed("shards", str(kind), bytes([kind]), body)
        seed("shards", f"{kind}-cut", bytes([kind]), body[:-9])
        seed("shards", f"{kind}-claim", bytes([kind]), body[:60], b"\xff" * 8, body[68:])


seed("disclosure_log", "frames", b"\0", frame(3, 2), frame(1, 0), frame(2, 8))
seed("disclosure_log", "frame-claim", b"\0", frame(3, 2)[:-20], b"\xff\xff\xff\xff")
# The kind, then a page: checksum, bytes in use, groups of caller, origins, purpose, time, rows, bytes, rows.
for kind, account in {1 | 2: b"\x05", 1 | 2 | 4: ID}.items():
    rows = account + b"\x00" + account + b"\x09\x07"
    group = ID + b"\x01\x03" + ID + WORD[1:] + b"\x02\x00" + len(rows).to_bytes(2, "little") + rows
    seed("disclosure_log", f"page-{kind}", bytes([kind]), bytes(16), group)
    seed("disclosure_log", f"pages-{kind}", bytes([kind]), bytes(16), group, group, group)
    seed("disclosure_log", f"page-cut-{kind}", bytes([kind]), bytes(16), group[:-3])
