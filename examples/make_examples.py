"""Make the example grant files: the same bytes every time.

    python examples/make_examples.py

writes november-bonuses.csv, december-promo.jsonl and three photos beside itself and
prints what to expect of the first two. with-mistakes.csv is written by hand.
"""

from __future__ import annotations

import csv
import json
import random
import struct
import zlib
from pathlib import Path
from typing import NamedTuple


class Grant(NamedTuple):
    """One row: `amount` in tokens, `idempotency_key` unique within the user."""

    user_id: str
    amount: int
    reason: str
    idempotency_key: str
    note: str
    ticket: str


APOLOGIES = (
    "Generation failed twice and was charged",
    "Sorry for the slow queue, and thank you for waiting",
    "Bild kam leer zurück, Entschuldigung",
    "Image livrée en basse résolution au lieu de 2K",
    "画像が生成されなかったお詫び",
    'Wrote "nothing works" and was right',
    "",
)
GOODWILL = (25, 50, 75, 100, 200)
CONTEST_PRIZES = {1: 1000, 2: 500, 3: 250}
FIRST_NAMES = ("mira", "jonas", "aiko", "pavel", "lucia", "tom", "zeynep", "noah", "ines", "olu")
LAST_NAMES = ("kovac", "brandt", "tanaka", "novak", "rossi", "evans", "yilmaz", "cohen", "silva", "adeyemi")


def november() -> list[Grant]:
    """Some 5,000 bonuses of one month: new users, an outage, referrals, goodwill, a contest."""
    rng = random.Random(202611)
    users = _users(rng)
    outage = [
        Grant(user, 40, "outage", "outage:2026-11-14", "Outage of 14 November, 09:10 to 11:25 UTC", "INC-2214")
        for user in rng.sample(users, 1800)
    ]
    welcome = _welcome(rng)
    newcomers = [grant.user_id for grant in rng.sample(welcome, 700)]
    grants = [
        *welcome,
        *outage,
        *_referrals(rng, users, newcomers),
        *_goodwill(rng, users),
        *_contest(rng, users),
    ]
    rng.shuffle(grants)
    return grants


def december() -> list[Grant]:
    """A small promotion: sixty users with the same amount and the same key."""
    rng = random.Random(202612)
    return [
        Grant(user, 150, "promo", "promo:2026-12-advent", "Advent calendar, door 1 🎄", "")
        for user in rng.sample(_users(rng), 60)
    ]


def _users(rng: random.Random) -> list[str]:
    """Known users: mostly numbered, some by address."""
    numbered = [f"u_{number}" for number in rng.sample(range(10000, 42000), 3600)]
    addresses = {
        f"{rng.choice(FIRST_NAMES)}.{rng.choice(LAST_NAMES)}{rng.randrange(2, 99)}@example.org" for _ in range(400)
    }
    return numbered + sorted(addresses)


def _welcome(rng: random.Random) -> list[Grant]:
    """Every account that was opened in November."""
    opened = sorted(rng.sample(range(42000, 44500), 1700))
    return [Grant(f"u_{number}", 100, "welcome", "welcome", "", "") for number in opened]


def _referrals(rng: random.Random, users: list[str], newcomers: list[str]) -> list[Grant]:
    """One grant for each newcomer that a user brought; the key names the newcomer."""
    return [
        Grant(rng.choice(users), 250, "referral", f"referral:{newcomer}", f"Brought {newcomer}", "")
        for newcomer in newcomers
    ]


def _goodwill(rng: random.Random, users: list[str]) -> list[Grant]:
    """What support gave, each under its ticket."""
    tickets = sorted(rng.sample(range(48000, 53000), 785))
    return [
        Grant(rng.choice(users), rng.choice(GOODWILL), "goodwill", f"ticket:{n}", rng.choice(APOLOGIES), str(n))
        for n in tickets
    ]


def _contest(rng: random.Random, users: list[str]) -> list[Grant]:
    """Three places in each of five weekly contests."""
    return [
        Grant(
            user,
            CONTEST_PRIZES[place],
            "contest",
            f"contest:2026-w{week}",
            f"Place {place} in week {week}",
            "",
        )
        for week in range(44, 49)
        for place, user in enumerate(rng.sample(users, 3), start=1)
    ]


def write(folder: Path) -> dict[str, list[Grant]]:
    """Write both files into `folder`; return each file's grants by its name."""
    files = {"november-bonuses.csv": november(), "december-promo.jsonl": december()}
    with (folder / "november-bonuses.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Grant._fields)
        writer.writerows(files["november-bonuses.csv"])
    with (folder / "december-promo.jsonl").open("w", encoding="utf-8") as stream:
        for grant in files["december-promo.jsonl"]:
            filled = {name: value for name, value in grant._asdict().items() if value != ""}
            stream.write(json.dumps(filled, ensure_ascii=False) + "\n")
    return files


PHOTOS = ("photo-1.png", "photo-2.png", "photo-3.png")
_WIDTH, _HEIGHT = 48, 32


def write_photos(folder: Path) -> None:
    """Write three small PNGs, so that `generate` can be tried: a gradient each, in another colour."""
    for channel, name in enumerate(PHOTOS):
        rows = bytearray()
        for y in range(_HEIGHT):
            rows.append(0)  # no filter
            for x in range(_WIDTH):
                pixel = [3 * x, 5 * y, 40]
                rows += bytes(pixel[(channel + i) % 3] for i in range(3))
        header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 2, 0, 0, 0)
        # Not compressed, because not every zlib compresses to the same bytes.
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 0)), (b"IEND", b""))
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def main() -> None:
    """Write the files beside this script and print what an import should expect."""
    write_photos(Path(__file__).parent)
    for name, grants in write(Path(__file__).parent).items():
        users = len({grant.user_id for grant in grants})
        total = sum(grant.amount for grant in grants)
        print(f"{name}: --expect-rows {len(grants)} --expect-total {total} ({users} users)")


if __name__ == "__main__":
    main()
