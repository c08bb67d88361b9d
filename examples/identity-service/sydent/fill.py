"""Puts the people and callers of `load fill` into Sydent's database: `fill.py DATABASE PEOPLE CALLERS`."""

import base64
import hashlib
import sqlite3
import sys
import time

path, people, callers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
now_ms = int(time.time() * 1000)


def lookup_hash(number):
    digest = hashlib.sha256(f"{number} msisdn {pepper}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def associations():
    for i in range(people):
        number = f"1415{2 * i:07}"
        mxid = f"@user{i}:example.org"
        yield ("msisdn", number, mxid, now_ms, 0, now_ms + 10**12, "localhost", i, "{}", lookup_hash(number))


with sqlite3.connect(path, timeout=30) as database:
    (pepper,) = database.execute("SELECT lookup_pepper FROM hashing_metadata").fetchone()
    database.executemany(
        "INSERT INTO global_threepid_associations (medium, address, mxid, ts, notBefore, notAfter, originServer,"
        " originId, sgAssoc, lookup_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        associations(),
    )
    users = [f"@caller{i}:example.org" for i in range(callers)]
    database.executemany("INSERT INTO accounts VALUES (?, ?, NULL)", [(user, now_ms) for user in users])
    database.executemany("INSERT INTO tokens VALUES (?, ?)", [(f"load-token-{i}", user) for i, user in enumerate(users)])
